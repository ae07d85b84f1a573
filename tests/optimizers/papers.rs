//! Adafactor, LAMB, Lion and Muon against references written from their papers; RAdam and ASGD too, of which the published
//! cases see little: ten steps are few for what changes with the number of steps.

use crate::reference::{Real, compare, larger, length};
use crate::{Drawn, Known, given, harness};
use shadegrad::models::Parameters;
use shadegrad::prelude::*;

const STEPS: usize = 12;

/// A vector, a number, wide and tall matrices, a row, a column, a filter, and three axes.
const SHAPES: [&[usize]; 9] =
    [&[7], &[], &[3, 5], &[6, 4], &[1, 9], &[5, 1], &[4, 3, 3, 2], &[2, 3, 4], &[8, 8]];

/// One parameter on its way: what a rule needs to know, and what it remembers.
struct Walk<R> {
    shape: Vec<usize>,
    x: Vec<R>,
    memory: [Vec<R>; 2],
    lr: f64,
    weight_decay: f64,
}

/// A step with the gradient of step `t`, from one.
type Rule<R> = fn(&mut Walk<R>, &[R], usize);

fn moment<R: Real>(average: &mut R, new: R, beta: f64) -> R {
    *average = R::of(beta) * *average + R::of(1.0 - beta) * new;
    *average
}

fn lion<R: Real>(w: &mut Walk<R>, g: &[R], _: usize) {
    for ((x, m), &g) in w.x.iter_mut().zip(&mut w.memory[0]).zip(g) {
        let c = R::of(0.8) * *m + R::of(0.2) * g;
        let sign = if c.f64() > 0.0 { 1.0 } else { -1.0 };
        *x = *x - R::of(w.lr) * (R::of(sign) + R::of(w.weight_decay) * *x);
        *m = R::of(0.95) * *m + R::of(0.05) * g;
    }
}

fn adam<R: Real>(m: &mut R, v: &mut R, g: R, betas: [f64; 2], eps: f64, t: usize) -> R {
    let (m, v) = (moment(m, g, betas[0]), moment(v, g * g, betas[1]));
    let left = |beta: f64| R::of(1.0 - beta.powi(t as i32));
    (m / left(betas[0])) / ((v / left(betas[1])).root() + R::of(eps))
}

fn lamb<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    let [ms, vs] = &mut w.memory;
    let r: Vec<R> = (w.x.iter().zip(ms).zip(vs).zip(g))
        .map(|(((&x, m), v), &g)| adam(m, v, g, [0.9, 0.99], 1e-6, t) + R::of(w.weight_decay) * x)
        .collect();
    let (own, new) = (length(&w.x), length(&r));
    let ratio = if own.f64() > 0.0 && new.f64() > 0.0 { own / new } else { R::of(1.0) };
    for (x, r) in w.x.iter_mut().zip(r) {
        *x = *x - R::of(w.lr) * ratio * r;
    }
}

fn adafactor<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    const D: f64 = 0.7;
    let new = R::of((t as f64).powf(-0.6));
    let kept = R::of(1.0) - new;
    let squares: Vec<R> = g.iter().map(|&g| g * g + R::of(1e-30)).collect();
    let rms = |x: &[R]| length(x) / R::of((x.len() as f64).sqrt());
    let expected: Vec<R> = match *w.shape.as_slice() {
        [.., rows, columns] => {
            let [r, c] = &mut w.memory;
            let mut all = Vec::new();
            for (b, squares) in squares.chunks(rows * columns).enumerate() {
                let (r, c) = (&mut r[b * rows..][..rows], &mut c[b * columns..][..columns]);
                let zero = R::of(0.0);
                for i in 0..rows {
                    let sum = (0..columns).fold(zero, |sum, j| sum + squares[i * columns + j]);
                    r[i] = kept * r[i] + new * sum;
                }
                for j in 0..columns {
                    let sum = (0..rows).fold(zero, |sum, i| sum + squares[i * columns + j]);
                    c[j] = kept * c[j] + new * sum;
                }
                let total = r.iter().fold(zero, |sum, &r| sum + r);
                for &r in &*r {
                    all.extend(c.iter().map(|&c| r * c / total));
                }
            }
            all
        }
        _ => {
            let v = &mut w.memory[0];
            v.iter_mut().zip(&squares).for_each(|(v, &s)| *v = kept * *v + new * s);
            v[..squares.len()].to_vec()
        }
    };
    let u: Vec<R> = g.iter().zip(&expected).map(|(&g, v)| g / v.root()).collect();
    let relative = w.lr.min(1.0 / (t as f64).sqrt());
    let size = larger(R::of(1e-3), rms(&w.x)) * R::of(relative);
    let clip = larger(R::of(1.0), rms(&u) / R::of(D));
    for (x, u) in w.x.iter_mut().zip(u) {
        *x = *x - R::of(w.lr * w.weight_decay) * *x - size * u / clip;
    }
}

fn product<R: Real>(a: &[R], b: &[R], [n, k, m]: [usize; 3]) -> Vec<R> {
    let cell =
        |i: usize, j: usize| (0..k).fold(R::of(0.0), |sum, l| sum + a[i * k + l] * b[l * m + j]);
    (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

fn muon_with<R: Real>(w: &mut Walk<R>, g: &[R], t: usize, nesterov: bool) {
    let (lr, step): (f64, Vec<R>) = match *w.shape.as_slice() {
        [n, ref others @ ..] if !others.is_empty() => {
            let m: usize = others.iter().product();
            let buffer = &mut w.memory[0];
            let ahead: Vec<R> = (buffer.iter_mut().zip(g))
                .map(|(b, &g)| {
                    let b = moment(b, g, 0.9);
                    if nesterov { R::of(0.9) * b + R::of(0.1) * g } else { b }
                })
                .collect();
            let norm = larger(length(&ahead), R::of(1e-7));
            let mut x: Vec<R> = ahead.iter().map(|&v| v / norm).collect();
            for _ in 0..5 {
                // By the columns, whichever side is longer: a X + X (b X^T X + c (X^T X)^2).
                let turned: Vec<R> =
                    (0..m).flat_map(|j| (0..n).map(move |i| i * m + j)).map(|at| x[at]).collect();
                let gram = product(&turned, &x, [m, n, m]);
                let square = product(&gram, &gram, [m, m, m]);
                let both: Vec<R> = (gram.iter().zip(&square))
                    .map(|(&g, &s)| R::of(-4.775) * g + R::of(2.0315) * s)
                    .collect();
                let more = product(&x, &both, [n, m, m]);
                x = x.iter().zip(more).map(|(&x, more)| R::of(3.4445) * x + more).collect();
            }
            let longer = R::of((n as f64 / m as f64).max(1.0).sqrt());
            (w.lr, x.into_iter().map(|x| x * longer).collect())
        }
        _ => {
            let [ms, vs] = &mut w.memory;
            let step = (ms.iter_mut().zip(vs).zip(g))
                .map(|((m, v), &g)| adam(m, v, g, [0.9, 0.95], 1e-10, t));
            // Muon's rate is 0.02, that of the others 0.005.
            (w.lr / 4.0, step.collect())
        }
    };
    for (x, step) in w.x.iter_mut().zip(step) {
        *x = *x - R::of(lr * w.weight_decay) * *x - R::of(lr) * step;
    }
}

fn muon<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    muon_with(w, g, t, true);
}

fn muon_without_nesterov<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    muon_with(w, g, t, false);
}

fn radam_with<R: Real>(w: &mut Walk<R>, g: &[R], t: usize, beta: f64) {
    let [ms, vs] = &mut w.memory;
    // What is the same for all numbers, in f64: in f32 its large differences would say nothing.
    let power = beta.powi(t as i32);
    let longest = 2.0 / (1.0 - beta) - 1.0;
    let length = longest - 2.0 * t as f64 * power / (1.0 - power);
    let rectified =
        (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length);
    for (((x, m), v), &g) in w.x.iter_mut().zip(ms).zip(vs).zip(g) {
        let g = g + R::of(w.weight_decay) * *x;
        let m = moment(m, g, 0.9) / R::of(1.0 - 0.9f64.powi(t as i32));
        let v = (moment(v, g * g, beta) / R::of(1.0 - power)).root();
        let step = if length > 5.0 { R::of(rectified.sqrt()) * m / v } else { m };
        *x = *x - R::of(w.lr) * step;
    }
}

fn radam<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    radam_with(w, g, t, 0.95);
}

fn long_radam<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    radam_with(w, g, t, 0.99999);
}

fn short_radam<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    radam_with(w, g, t, 0.6);
}

fn asgd<R: Real>(w: &mut Walk<R>, g: &[R], t: usize) {
    let eta = w.lr / (1.0 + 0.3 * w.lr * (t - 1) as f64).powf(0.6);
    for (x, &g) in w.x.iter_mut().zip(g) {
        let g = g + R::of(w.weight_decay) * *x;
        *x = *x * R::of(1.0 - 0.3 * eta) - R::of(eta) * g;
    }
}

/// A parameter after every step. The third has half the rate and another weight decay; rates are halved after
/// every seventh step.
fn walk<R: Real>(
    rule: Rule<R>,
    steps: usize,
    number: usize,
    lr: f64,
    weight_decay: f64,
) -> Vec<Vec<f64>> {
    let shape = SHAPES[number].to_vec();
    let count = shape.iter().product();
    let begin = crate::drawn(count, number as u32);
    let mut walk = Walk {
        x: begin.iter().map(|&v| R::of(f64::from(v))).collect(),
        memory: [vec![R::of(0.0); count], vec![R::of(0.0); count]],
        shape,
        lr,
        weight_decay: if number == 2 { 0.3 } else { weight_decay },
    };
    let mut found = Vec::new();
    for t in 0..steps {
        walk.lr = lr * if number == 2 { 0.5 } else { 1.0 } * 0.5f64.powi(t as i32 / 7);
        let g: Vec<R> = given(count, number, t).iter().map(|&g| R::of(f64::from(g))).collect();
        rule(&mut walk, &g, t + 1);
        found.push(walk.x.iter().map(|x| x.f64()).collect());
    }
    found
}

/// Twelve steps of a rule and of its reference.
fn agrees(
    optimizer: impl Optimizer + Copy + 'static,
    references: (Rule<f64>, Rule<f32>),
    weight_decay: f64,
) {
    agree_for(STEPS, optimizer, references, weight_decay);
}

fn agree_for(
    steps: usize,
    optimizer: impl Optimizer + Copy + 'static,
    (in_f64, in_f32): (Rule<f64>, Rule<f32>),
    weight_decay: f64,
) {
    let lr = optimizer.base().lr;
    for (device, _) in harness::devices() {
        let model = Drawn::new(&SHAPES);
        let parameters = Parameters::new(&model, 0).unwrap();
        let mut updater = Updater::new(&parameters, optimizer);
        updater.schedule(StepLR::new(7).gamma(0.5));
        updater.group(Group::prefix("p2").lr_multiplier(0.5).weight_decay(0.3));
        let known = Known::new(&parameters, steps);
        updater.record(&known.graph, &parameters, &known.loss);
        let mut session = Session::new(&device);
        let mut loaded = session.compile(&known.graph, &[]).unwrap();
        let mut got = Vec::new();
        for _ in 0..steps {
            loaded.run(1).unwrap();
            got.push(session.read_array(&parameters.shards()[0]).unwrap().data);
        }
        let mut start = 0;
        for (number, shape) in SHAPES.iter().enumerate() {
            let count: usize = shape.iter().product();
            let exact = walk(in_f64, steps, number, lr, weight_decay);
            let rounded = walk(in_f32, steps, number, lr, weight_decay);
            let got: Vec<&[f64]> = got.iter().map(|got| &got[start..start + count]).collect();
            compare(&format!("{shape:?} on {}", device.info()), &got, &exact, &rounded);
            start += count;
        }
    }
}

#[test]
fn lion_follows_its_paper() {
    agrees(Lion::new(0.02).betas(0.8, 0.95).weight_decay(0.1), (lion, lion), 0.1);
}

#[test]
fn lamb_follows_its_paper() {
    agrees(Lamb::new(0.05).betas(0.9, 0.99).weight_decay(0.2), (lamb, lamb), 0.2);
}

#[test]
fn adafactor_follows_its_paper() {
    let rule = Adafactor::new(0.4).beta2_decay(-0.6).d(0.7).weight_decay(0.05);
    agrees(rule, (adafactor, adafactor), 0.05);
}

#[test]
fn muon_follows_its_paper() {
    let plain = Muon::new(0.02).momentum(0.9).adamw_lr(0.005);
    agrees(plain, (muon, muon), 0.1);
    let plain = plain.nesterov(false);
    agrees(plain, (muon_without_nesterov, muon_without_nesterov), 0.1);
}

#[test]
fn radam_rectifies_from_the_right_step_on() {
    let rule = RAdam::new(0.05).weight_decay(0.1);
    agree_for(60, rule.betas(0.9, 0.95), (radam, radam), 0.1);
    // Both numbers in the difference are 2 10^5 here.
    agree_for(9, rule.betas(0.9, 0.99999), (long_radam, long_radam), 0.1);
    // The second moment never counts.
    agree_for(9, rule.betas(0.9, 0.6), (short_radam, short_radam), 0.1);
}

#[test]
fn asgd_decays_as_it_says() {
    agrees(Asgd::new(0.1).lambd(0.3).alpha(0.6).weight_decay(0.1), (asgd, asgd), 0.1);
}

#[test]
fn a_parameter_of_zeros_leaves_the_trust_ratio_of_lamb_at_one() {
    for (device, _) in harness::devices() {
        let zeros = Parameter::from_values(&[3], &[0.0; 3]).unwrap();
        let model = Drawn(vec![zeros]);
        let parameters = Parameters::new(&model, 0).unwrap();
        let known = Known::new(&parameters, 1);
        Updater::new(&parameters, Lamb::new(0.1)).record(&known.graph, &parameters, &known.loss);
        let mut session = Session::new(&device);
        session.compile(&known.graph, &[]).unwrap().run(1).unwrap();
        let got = session.read_array(&parameters.shards()[0]).unwrap().data;
        for (got, gradient) in got.iter().zip(given(3, 0, 0)) {
            let expected = -0.1 * f64::from(gradient.signum());
            assert!((got - expected).abs() < 1e-6, "{got}, not {expected}, on {}", device.info());
        }
    }
}

#[test]
fn factored_averages_take_the_memory_of_rows_and_columns() {
    let model = Drawn::new(&[&[30, 20], &[2, 5, 7], &[11]]);
    let parameters = Parameters::new(&model, 0).unwrap();
    let state = Updater::new(&parameters, Adafactor::new(0.01)).state();
    let found: Vec<String> =
        state.iter().map(|m| format!("{} {}", m.name, m.variable.ty())).collect();
    let rows = format!("optimizer.0.row_var f32[{}]", 30 + 2 * 5);
    let columns = format!("optimizer.0.col_var f32[{}]", 20 + 2 * 7);
    assert_eq!(found, [rows, columns, "optimizer.0.variance f32[11]".to_string()]);
    // What no parameter needs isn't there.
    let matrix = Drawn::new(&[&[30, 20]]);
    let parameters = Parameters::new(&matrix, 0).unwrap();
    assert_eq!(Updater::new(&parameters, Adafactor::new(0.01)).state().len(), 2);
    assert_eq!(Updater::new(&parameters, Muon::new(0.01)).state().len(), 1);
}
