//! What happens around an optimizer: groups, frozen parameters, penalty, clipping, accumulation, averages.

use crate::reference::{Real, compare, larger};
use crate::{Drawn, Known, drawn, given, harness};
use shadegrad::device::Device;
use shadegrad::models::Parameters;
use shadegrad::prelude::*;

const STEPS: usize = 12;
const SHAPES: [&[usize]; 4] = [&[5], &[3, 4], &[2], &[7]];
const LR: f64 = 0.1;

/// The settings of an update, as the reference understands them.
#[derive(Clone, Copy)]
struct Plan {
    lr_multiplier: [f64; 4],
    weight_decay: [f64; 4],
    frozen: [bool; 4],
    l1_penalty: f64,
    clip_value: Option<f64>,
    clip_norm: Option<(f64, f64)>,
    accumulate: usize,
    ema: Option<f64>,
}

const PLAIN: Plan = Plan {
    lr_multiplier: [1.0; 4],
    weight_decay: [0.1; 4],
    frozen: [false; 4],
    l1_penalty: 0.0,
    clip_value: None,
    clip_norm: None,
    accumulate: 1,
    ema: None,
};

/// All parameters, and their averages, after each step: descent with momentum 0.9 and dampening 0.5, whose rate is halved
/// after every second update.
fn reference<R: Real>(plan: &Plan) -> [Vec<Vec<f64>>; 2] {
    let count = |i: usize| SHAPES[i].iter().product();
    let real = |values: Vec<f32>| values.into_iter().map(|v| R::of(f64::from(v))).collect();
    let mut x: Vec<Vec<R>> = (0..4).map(|i| real(drawn(count(i), i as u32))).collect();
    let zeros = || (0..4).map(|i| vec![R::of(0.0); count(i)]).collect::<Vec<Vec<R>>>();
    let (mut buffers, mut sums, mut average) = (zeros(), zeros(), x.clone());
    let mut found = [vec![], vec![]];
    for t in 0..STEPS {
        let part = R::of(1.0 / plan.accumulate as f64);
        for i in (0..4).filter(|&i| !plan.frozen[i]) {
            let g: Vec<R> = real(given(count(i), i, t));
            for ((sum, g), x) in sums[i].iter_mut().zip(g).zip(&x[i]) {
                let sign = R::of(if x.f64() > 0.0 { 1.0 } else { -1.0 });
                *sum = *sum + (g + R::of(plan.l1_penalty) * sign) * part;
            }
        }
        let updates = t / plan.accumulate;
        if t % plan.accumulate == plan.accumulate - 1 {
            let mut g = std::mem::replace(&mut sums, zeros());
            if let Some(value) = plan.clip_value {
                let between = |g: &mut R| *g = R::of(g.f64().clamp(-value, value));
                g.iter_mut().flatten().for_each(between);
            }
            if let Some((max, norm_type)) = plan.clip_norm {
                let all = g.iter().flatten().map(|&g| larger(g, -g));
                let zero = R::of(0.0);
                let norm = match norm_type {
                    1.0 => all.fold(zero, |sum, g| sum + g),
                    2.0 => all.fold(zero, |sum, g| sum + g * g).root(),
                    _ => all.fold(zero, larger),
                };
                let scale = R::of(max) / (norm + R::of(1e-6));
                let scale = if scale.f64() < 1.0 { scale } else { R::of(1.0) };
                g.iter_mut().flatten().for_each(|g| *g = *g * scale);
            }
            let rate = LR * 0.5f64.powi(updates as i32 / 2);
            for i in (0..4).filter(|&i| !plan.frozen[i]) {
                let rate = R::of(rate * plan.lr_multiplier[i]);
                for ((x, g), buffer) in x[i].iter_mut().zip(&g[i]).zip(&mut buffers[i]) {
                    let g = *g + R::of(plan.weight_decay[i]) * *x;
                    let share = if updates == 0 { 1.0 } else { 0.5 };
                    *buffer = R::of(0.9) * *buffer + R::of(share) * g;
                    *x = *x - rate * *buffer;
                }
            }
            let decay = plan.ema.unwrap_or_default();
            for (average, &x) in average.iter_mut().flatten().zip(x.iter().flatten()) {
                let joined = *average + R::of(1.0 - decay) * (x - *average);
                *average = if updates == 0 { x } else { joined };
            }
        }
        let flat = |all: &[Vec<R>]| all.iter().flatten().map(|x| x.f64()).collect();
        found[0].push(flat(&x));
        found[1].push(flat(&average));
    }
    found
}

fn updater(plan: &Plan, parameters: &Parameters) -> Updater {
    let sgd = Sgd::new(LR).momentum(0.9).dampening(0.5).weight_decay(0.1);
    let mut updater = Updater::new(parameters, sgd);
    updater.schedule(StepLR::new(2).gamma(0.5));
    for i in 0..4 {
        let group = Group::prefix(&format!("p{i}"))
            .lr_multiplier(plan.lr_multiplier[i])
            .weight_decay(plan.weight_decay[i]);
        updater.group(if plan.frozen[i] { group.frozen() } else { group });
    }
    updater.l1_penalty(plan.l1_penalty);
    if let Some(value) = plan.clip_value {
        updater.clip_grad_value(value);
    }
    if let Some((max_norm, norm_type)) = plan.clip_norm {
        updater.clip_grad_norm_of_type(max_norm, norm_type);
    }
    updater.accumulate(plan.accumulate);
    if let Some(decay) = plan.ema {
        updater.ema(decay);
    }
    updater
}

/// What a device has after each step: all parameters, and their averages.
fn run(device: &Device, plan: &Plan, max_bytes: usize) -> [Vec<Vec<f64>>; 2] {
    let model = Drawn::new(&SHAPES);
    let parameters = Parameters::sharded(&model, 0, max_bytes).unwrap();
    let updater = updater(plan, &parameters);
    let known = Known::new(&parameters, STEPS);
    updater.record(&known.graph, &parameters, &known.loss);
    let mut session = Session::new(device);
    let mut loaded = session.compile(&known.graph, &[]).unwrap();
    let mut found = [vec![], vec![]];
    for _ in 0..STEPS {
        loaded.run(1).unwrap();
        let mut read = |shards: &mut dyn Iterator<Item = &Variable>| {
            shards.flat_map(|shard| session.read_array(shard).unwrap().data).collect::<Vec<f64>>()
        };
        found[0].push(read(&mut parameters.shards().iter()));
        found[1].push(read(&mut updater.averages().into_iter()));
    }
    found
}

fn agrees(name: &str, plan: &Plan) {
    let (exact, rounded) = (reference::<f64>(plan), reference::<f32>(plan));
    // The second shard has the last two parameters.
    for ((device, _), max_bytes) in
        harness::devices().iter().flat_map(|device| [(device, usize::MAX), (device, 68)])
    {
        let found = run(device, plan, max_bytes);
        let parts = if plan.ema.is_some() { 2 } else { 1 };
        for part in 0..parts {
            let what = format!("{name}, {} on {}", ["parameters", "averages"][part], device.info());
            let got: Vec<&[f64]> = found[part].iter().map(Vec::as_slice).collect();
            compare(&what, &got, &exact[part], &rounded[part]);
        }
    }
}

#[test]
fn groups_have_their_own_rate_and_decay() {
    agrees("nothing special", &PLAIN);
    let (lr_multiplier, weight_decay) = ([0.5, 1.0, 0.0, 2.0], [0.0, 0.1, 0.3, 0.0]);
    agrees("groups", &Plan { lr_multiplier, weight_decay, ..PLAIN });
    agrees("rates", &Plan { lr_multiplier, ..PLAIN });
    agrees("decay", &Plan { weight_decay, ..PLAIN });
}

#[test]
fn frozen_parameters_keep_their_values() {
    for frozen in [
        [true, false, false, false],
        [false, true, false, true],
        [true, true, false, true],
        [true, true, false, false],
        [false, false, true, true],
    ] {
        let clip_norm = Some((0.5, 2.0));
        agrees("frozen", &Plan { frozen, clip_norm, l1_penalty: 0.1, ..PLAIN });
        agrees("frozen, averaged", &Plan { frozen, ema: Some(0.7), accumulate: 2, ..PLAIN });
    }
}

#[test]
fn penalty_and_clipping_act_in_order() {
    agrees("penalty", &Plan { l1_penalty: 0.3, ..PLAIN });
    agrees("values", &Plan { clip_value: Some(0.2), ..PLAIN });
    for norm_type in [1.0, 2.0, f64::INFINITY] {
        let clip_norm = Some((0.4, norm_type));
        agrees("norm", &Plan { clip_norm, ..PLAIN });
        agrees("all", &Plan { clip_norm, l1_penalty: 0.2, clip_value: Some(0.6), ..PLAIN });
    }
    agrees("a norm that is never reached", &Plan { clip_norm: Some((100.0, 1.0)), ..PLAIN });
}

#[test]
fn accumulation_updates_every_few_steps_by_mean_gradients() {
    for accumulate in [2, 3, 5] {
        agrees("accumulated", &Plan { accumulate, ..PLAIN });
        let clip_norm = Some((0.3, 2.0));
        agrees("clipped", &Plan { accumulate, clip_norm, l1_penalty: 0.1, ..PLAIN });
    }
    for (device, _) in harness::devices() {
        let [steps, _] = run(&device, &Plan { accumulate: 3, ..PLAIN }, usize::MAX);
        assert_eq!(steps[0], steps[1], "nothing changes between updates");
        assert_ne!(steps[1], steps[2]);
        assert_eq!(steps[3], steps[2]);
    }
}

#[test]
fn averages_follow_the_parameters() {
    for accumulate in [1, 3] {
        agrees("averages", &Plan { accumulate, ema: Some(0.8), ..PLAIN });
    }
}

#[test]
fn what_counts_updates_counts_them_when_gradients_are_accumulated() {
    // Three steps with one gradient are one update with it.
    let steps = |device: &Device, accumulate: usize| {
        let model = Drawn::new(&[&[6]]);
        let parameters = Parameters::new(&model, 0).unwrap();
        let mut updater = Updater::new(&parameters, NAdam::new(0.05).weight_decay(0.1));
        updater.schedule(WarmUp { steps: 3, then: CosineAnnealingLR::new(4) });
        updater.accumulate(accumulate);
        let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
        let graph = Graph::training(&seed, &step);
        let p = model.0[0].tensor(&graph);
        updater.record(&graph, &parameters, &(&p * &p).sum_all());
        graph.assign(&step, &(graph.step() + 1.0));
        let mut session = Session::new(device);
        session.compile(&graph, &[]).unwrap().run(6 * accumulate).unwrap();
        session.read_array(&parameters.shards()[0]).unwrap().data
    };
    for (device, _) in harness::devices() {
        // Powers of two divide without rounding, and sums of equal numbers don't round either.
        assert_eq!(steps(&device, 1), steps(&device, 4), "on {}", device.info());
    }
}

#[test]
fn prefixes_end_where_names_do() {
    let shapes: [&[usize]; 11] = [&[2]; 11];
    let model = Drawn::new(&shapes);
    let parameters = Parameters::new(&model, 0).unwrap();
    let known = Known::new(&parameters, 1);
    let mut updater = Updater::new(&parameters, Sgd::new(0.1));
    updater.group(Group::prefix("p1").frozen());
    updater.record(&known.graph, &parameters, &known.loss);
    let mut session = Session::new(&Device::cpu(Some(1)));
    let before = session.read_array(&parameters.shards()[0]).unwrap().data;
    session.compile(&known.graph, &[]).unwrap().run(1).unwrap();
    let after = session.read_array(&parameters.shards()[0]).unwrap().data;
    let changed: Vec<usize> = (0..11).filter(|i| before[2 * i] != after[2 * i]).collect();
    assert_eq!(changed, [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_loss_need_not_depend_on_what_is_frozen() {
    let mlp = Mlp::new(&[4, 3, 2]);
    let unused = Drawn::new(&[&[5]]);
    struct Both<'a>(&'a Mlp, &'a Drawn);
    impl Named for Both<'_> {
        fn visit(&self, visitor: &mut shadegrad::models::Visitor) {
            visitor.child("mlp", self.0);
            visitor.child("unused", self.1);
        }
    }
    let parameters = Parameters::new(&Both(&mlp, &unused), 0).unwrap();
    let graph = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
    let y = mlp.forward(&graph.full(&[3, 4], DType::F32, 1.0));
    let mut updater = Updater::new(&parameters, Adam::new(0.1));
    updater.group(Group::prefix("unused").frozen());
    updater.record(&graph, &parameters, &(&y * &y).sum_all());
    assert!(graph.nodes(&[]).is_ok());
}
