//! How many kernels an update is, on a device that only counts.

use shadegrad::device::{Device, Kernel};
use shadegrad::graph::Loaded;
use shadegrad::models::Parameters;
use shadegrad::prelude::*;

/// The step of a model of a few layers, compiled for WebGPU's limits.
fn step(optimizer: impl Optimizer + 'static, settings: impl Fn(&mut Updater)) -> (Loaded, usize) {
    let mlp = Mlp::new(&[20, 30, 30, 30, 10]);
    let parameters = Parameters::new(&mlp, 0).unwrap();
    let mut updater = Updater::new(&parameters, optimizer);
    settings(&mut updater);
    let graph = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
    let init = Init::Uniform { low: -1.0, high: 1.0, seed: 1 };
    let x = graph.variable(&Variable::new("x", &[8, 20], DType::F32, init));
    let y = mlp.forward(&x);
    updater.record(&graph, &parameters, &(&y * &y).mean_all());
    let device = Device::open("null:webgpu").unwrap();
    let loaded = Session::new(&device).compile(&graph, &[]).unwrap();
    (loaded, parameters.count())
}

/// How many kernels there are, and how many of them go over all parameters.
fn kernels(optimizer: impl Optimizer + 'static, settings: impl Fn(&mut Updater)) -> (usize, usize) {
    let (loaded, count) = step(optimizer, settings);
    let whole = |kernel: &&Kernel| kernel.body.domain() == [count];
    let whole = loaded.compiled().program.kernels.iter().filter(whole).count();
    (loaded.compiled().program.kernels.len(), whole)
}

fn plain(_: &mut Updater) {}

#[test]
fn pointwise_rules_are_one_kernel_for_all_parameters() {
    let (alone, whole) = kernels(Sgd::new(0.1), plain);
    assert_eq!(whole, 1);
    macro_rules! one {
        ($($rule:expr, $scalars:expr;)*) => {$(
            let found = kernels($rule.maximize(), plain);
            assert_eq!(found, (alone + $scalars, 1), "{}", stringify!($rule));
        )*};
    }
    // What is the same for all parameters and costly, such as a bias correction, is computed once, by
    // a kernel for a single number.
    one! {
        Sgd::new(0.1).momentum(0.9).nesterov().weight_decay(0.1), 0;
        Adam::new(0.1).weight_decay(0.1), 1;
        Adam::new(0.1).amsgrad(), 1;
        AdamW::new(0.1), 1;
        Adamax::new(0.1).weight_decay(0.1), 1;
        NAdam::new(0.1).weight_decay(0.1), 1;
        RAdam::new(0.1).decoupled_weight_decay().weight_decay(0.1), 1;
        Adagrad::new(0.1).weight_decay(0.1), 0;
        Adagrad::new(0.1).lr_decay(0.1), 1;
        Adadelta::new(0.1).weight_decay(0.1), 0;
        RMSprop::new(0.1).weight_decay(0.1), 0;
        RMSprop::new(0.1).momentum(0.9).centered(), 0;
        Rprop::new(0.1), 0;
        Asgd::new(0.1).weight_decay(0.1), 1;
        Lion::new(0.1).weight_decay(0.1), 0;
    }
}

#[test]
fn what_is_done_to_gradients_and_parameters_stays_in_that_kernel() {
    let alone = kernels(AdamW::new(0.1), plain);
    let groups = |updater: &mut Updater| {
        updater.group(Group::matching(|name| name.ends_with(".bias")).weight_decay(0.0));
        updater.group(Group::prefix("layers.0").lr_multiplier(0.1));
    };
    let clipping = |updater: &mut Updater| {
        updater.clip_grad_value(1.0);
        updater.l1_penalty(0.01);
    };
    assert_eq!(kernels(AdamW::new(0.1), groups), alone);
    assert_eq!(kernels(AdamW::new(0.1), clipping), alone);
    assert_eq!(kernels(AdamW::new(0.1), |updater| updater.ema(0.99)), alone);
    assert_eq!(kernels(AdamW::new(0.1), |updater| updater.accumulate(4)), alone);
    let all = |updater: &mut Updater| {
        groups(updater);
        clipping(updater);
        updater.ema(0.99);
        updater.accumulate(4);
    };
    assert_eq!(kernels(AdamW::new(0.1), all), alone);
    assert_eq!(kernels(AdamW::new(0.1).amsgrad(), all), alone);
}

#[test]
fn no_gradients_are_computed_for_frozen_parameters() {
    let all = kernels(AdamW::new(0.1), plain).0;
    let freeze = |groups: &[&'static str]| {
        let frozen = |updater: &mut Updater| {
            groups.iter().for_each(|prefix| updater.group(Group::prefix(prefix).frozen()));
        };
        let (count, whole) = kernels(AdamW::new(0.1), frozen);
        assert_eq!(whole, 1, "{groups:?}");
        all - count
    };
    // The gradient of the first layer's input isn't computed anyway; without that of its weight and
    // bias, that of what comes before its activation isn't either.
    assert_eq!(freeze(&["layers.0"]), 2);
    // In the middle, gradients have to pass.
    assert_eq!(freeze(&["layers.2"]), 1);
    assert_eq!(freeze(&["layers.0", "layers.2"]), 4);
    assert_eq!(freeze(&["layers.2.weight", "layers.2.bias"]), 1);
}
