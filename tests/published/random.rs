//! What the index asks of random numbers: their distribution, dropout, initial values and
//! shuffling. Bounds are five standard deviations of what is measured, or those of the index; the
//! seeds are fixed, so a check that passes once passes always.

use crate::vectors;
use shadegrad::models::Initializer;
use shadegrad::prelude::*;

/// The checks below, by their names in the index.
const CHECKS: &[&str] = &[
    "rng.uniform",
    "rng.normal",
    "dropout.keep",
    "dropout.p0",
    "dropout.p1",
    "dropout.eval",
    "dropout.grad",
    "dropout.fresh",
    "dropout.seed",
    "init.kaiming_uniform",
    "init.xavier_uniform",
    "init.kaiming_normal",
    "init.conv_fan",
    "shuffle.perm",
];

/// How many numbers most checks draw.
const COUNT: usize = 1_000_000;

#[test]
fn every_statistical_check_of_the_index_is_here() {
    let checks = vectors::index()["statistical"].as_array().unwrap();
    let mut listed: Vec<&str> = checks.iter().map(|check| check["id"].as_str().unwrap()).collect();
    let mut known = CHECKS.to_vec();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, listed);
}

fn device() -> Device {
    Device::cpu(Some(2))
}

fn value_of(tensor: &Tensor) -> Vec<f64> {
    tensor.eval(&device()).unwrap().data
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// A recording for training, and its step counter.
fn training(seed: u32) -> (Graph, Variable) {
    let step = Variable::word("step", 0);
    (Graph::training(&Variable::word("seed", seed), &step), step)
}

/// That counts are those of a uniform choice: their chi-square is neither too large nor too small,
/// each with probability 1e-4 (by the approximation of Wilson and Hilferty, PNAS 17, 1931).
fn assert_evenly_spread(counts: &[u32]) {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let squares = counts.iter().map(|&count| (f64::from(count) - expected).powi(2));
    let chi_square = squares.sum::<f64>() / expected;
    let freedom = (counts.len() - 1) as f64;
    let bound = |deviations: f64| {
        let spread = 2.0 / (9.0 * freedom);
        freedom * (1.0 - spread + deviations * spread.sqrt()).powi(3)
    };
    // The normal distribution's quantile of 1e-4.
    let (low, high) = (bound(-3.719), bound(3.719));
    assert!((low..high).contains(&chi_square), "{chi_square} outside {low} to {high}");
}

#[test]
fn uniform_numbers() {
    let (graph, _) = training(1);
    let x = value_of(&graph.random_key().uniform(&[COUNT]));
    assert!(x.iter().all(|v| (0.0..1.0).contains(v)));
    let middle = mean(x.iter().copied());
    assert!((middle - 0.5).abs() < 5.0 * 0.2887e-3, "mean {middle}");
    let mut bins = [0; 256];
    x.iter().for_each(|v| bins[(v * 256.0) as usize] += 1);
    assert_evenly_spread(&bins);
    // Numbers of 24 bits, as many as there are: most of them occur.
    let mut seen = vec![false; 1 << 24];
    for v in value_of(&graph.random_key().uniform(&[1 << 24])) {
        seen[(v * 16_777_216.0) as usize] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    assert!(distinct >= 1 << 20, "{distinct} distinct numbers");
}

#[test]
fn normal_numbers() {
    let (graph, _) = training(2);
    let x = value_of(&graph.random_key().normal(&[COUNT]));
    assert!(x.iter().all(|v| v.is_finite()));
    let middle = mean(x.iter().copied());
    let moment = |power: i32| mean(x.iter().map(|v| (v - middle).powi(power)));
    let variance = moment(2);
    let pairs = x.windows(2).map(|pair| (pair[0] - middle) * (pair[1] - middle));
    let is = |what: &str, got: f64, expected: f64, bound: f64| {
        assert!((got - expected).abs() < bound, "{what} is {got}, not {expected} within {bound}");
    };
    is("mean", middle, 0.0, 5e-3);
    is("variance", variance, 1.0, 7.1e-3);
    is("skew", moment(3) / variance.powf(1.5), 0.0, 1.23e-2);
    is("excess kurtosis", moment(4) / variance.powi(2) - 3.0, 0.0, 2.45e-2);
    is("correlation of neighbours", mean(pairs) / variance, 0.0, 5e-3);
}

/// Ones after dropout, of a number of steps.
fn dropped(p: f64, seed: u32, steps: usize) -> Vec<Vec<f64>> {
    let (graph, step) = training(seed);
    let ones = graph.variable(&Variable::new("x", &[COUNT], DType::F32, Init::Full(1.0)));
    let y = Dropout::new(p).forward(&ones);
    graph.assign(&step, &(graph.step() + 1.0));
    let mut loaded = Session::new(&device()).compile(&graph, &[&y]).unwrap();
    let mut run = || {
        loaded.run(1).unwrap();
        loaded.read_array(0).unwrap().data
    };
    (0..steps).map(|_| run()).collect()
}

/// That a fraction is what it should be, within five standard deviations of `COUNT` draws.
fn assert_fraction(got: f64, expected: f64) {
    let deviation = (expected * (1.0 - expected) / COUNT as f64).sqrt();
    assert!((got - expected).abs() <= 5.0 * deviation, "{got} is not {expected}");
}

#[test]
fn dropout_keeps_its_share_and_scales_it() {
    for p in [0.1, 0.5, 0.9] {
        let scale = (1.0 / (1.0 - p)) as f32;
        let y = dropped(p, 3, 1).remove(0);
        let kept = y.iter().filter(|v| **v != 0.0);
        // One unit in the last place.
        let exact = |v: &f64| (*v as f32).to_bits().abs_diff(scale.to_bits()) <= 1;
        assert!(kept.clone().all(exact), "p = {p}: kept ones are {scale}");
        assert_fraction(kept.count() as f64 / COUNT as f64, 1.0 - p);
    }
}

#[test]
fn dropout_of_nothing_and_of_everything() {
    let variable =
        Variable::new("x", &[1000], DType::F32, Init::Normal { mean: 0.0, std: 1.0, seed: 4 });
    let (graph, _) = training(4);
    let x = graph.variable(&variable);
    let original = value_of(&x);
    assert_eq!(value_of(&Dropout::new(0.0).forward(&x)), original);
    let nothing = Dropout::new(1.0).forward(&x);
    assert_eq!(value_of(&nothing), vec![0.0; 1000]);
    // A loss that depends on x for sure.
    let gradients = graph.gradients(&(nothing.sum_all() + x.sum_all()), &[&x]);
    assert_eq!(value_of(&gradients[0]), vec![1.0; 1000]);
    // Outside of training it does nothing.
    let x = Graph::new().variable(&variable);
    assert_eq!(value_of(&Dropout::new(0.5).forward(&x)), original);
}

#[test]
fn the_gradient_of_dropout_has_the_mask_of_its_output() {
    let (graph, _) = training(5);
    let ones = graph.variable(&Variable::new("x", &[COUNT], DType::F32, Init::Full(1.0)));
    let y = Dropout::new(0.5).forward(&ones);
    let gradient = graph.gradients(&y.sum_all(), &[&ones]).remove(0);
    let mut loaded = Session::new(&device()).compile(&graph, &[&y, &gradient]).unwrap();
    loaded.run(1).unwrap();
    let (y, gradient) = (loaded.read_array(0).unwrap().data, loaded.read_array(1).unwrap().data);
    // Of ones, the output is the mask itself.
    assert!(y == gradient, "the masks differ");
}

#[test]
fn dropout_differs_by_step_and_repeats_by_seed() {
    let p = 0.3;
    let steps = dropped(p, 6, 2);
    let agreeing = steps[0].iter().zip(&steps[1]).filter(|(a, b)| a == b).count();
    assert_fraction(agreeing as f64 / COUNT as f64, p * p + (1.0 - p) * (1.0 - p));
    assert!(steps == dropped(p, 6, 2), "the same seed gives other masks");
}

/// The initial values of a model's parameters, all of them.
fn initial(model: &impl Named) -> Vec<f64> {
    let parameters = Parameters::new(model, 7).unwrap();
    Session::new(&device()).read_array(&parameters.shards()[0]).unwrap().data
}

/// That values are uniform between two bounds: none is larger, and the variance is a third of the
/// bound's square.
fn assert_uniform(values: &[f64], bound: f64) {
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!(largest <= bound * (1.0 + f64::from(f32::EPSILON)), "{largest} is beyond {bound}");
    let variance = mean(values.iter().map(|v| v * v));
    // The square of such a number has variance `4 bound^4 / 45`.
    let deviation = bound * bound * (4.0 / 45.0 / values.len() as f64).sqrt();
    let expected = bound * bound / 3.0;
    assert!((variance - expected).abs() <= 5.0 * deviation, "{variance} is not {expected}");
}

#[test]
fn initial_values() {
    let root = |numerator: f64, fan: f64| (numerator / fan).sqrt();
    let (fan_in, fan_out) = (300, 400);
    assert_uniform(&initial(&Linear::new(fan_in, fan_out)), root(1.0, 300.0));
    let linear = |initializer| Linear::new(fan_in, fan_out).no_bias().initializer(initializer);
    let xavier = initial(&linear(Initializer::XavierUniform { fan_in, fan_out }));
    assert_uniform(&xavier, root(6.0, 700.0));
    let kaiming = initial(&linear(Initializer::KaimingNormal { fan_in }));
    let (got, expected) = (mean(kaiming.iter().map(|v| v * v)).sqrt(), root(2.0, 300.0));
    let deviation = expected / (2.0 * kaiming.len() as f64).sqrt();
    assert!((got - expected).abs() <= 5.0 * deviation, "{got} is not {expected}");
    // A filter in a group sees the channels of its group only.
    let grouped = initial(&Conv2d::new(60, 80, 3).groups(4));
    assert_uniform(&grouped, root(1.0, (60 / 4 * 3 * 3) as f64));
}

/// The order in which an epoch visits `0..count`.
fn order(count: usize, seed: u32, epoch: u32) -> Vec<f64> {
    let seed = Graph::new().variable(&Variable::word("seed", seed));
    let (index, key) = (seed.graph().iota(count), seed.random(&seed.full_like(f64::from(epoch))));
    value_of(&index.shuffle(&index.full_like(count as f64), &key))
}

#[test]
fn shuffling() {
    let first = order(60_000, 8, 0);
    let mut sorted = first.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    assert!(sorted.iter().zip(0u32..).all(|(v, i)| *v == f64::from(i)), "no permutation");
    assert!(first != order(60_000, 8, 1), "two epochs have one order");
    assert!(first == order(60_000, 8, 0), "the same seed gives another order");
    // What stands first is each of sixteen equally often.
    let seed = Graph::new().variable(&Variable::word("seed", 9));
    let epochs = seed.graph().iota(2000);
    let zero = epochs.full_like(0.0);
    let mut counts = [0; 16];
    for place in value_of(&zero.shuffle(&zero.full_like(16.0), &seed.random(&epochs))) {
        counts[place as usize] += 1;
    }
    assert_evenly_spread(&counts);
}
