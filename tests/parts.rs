//! Kernels that would keep a device busy longer than its driver waits are cut into several dispatches: how many, and that
//! nothing else changes by it.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::bench::{self, LastState, Step};
use shadegrad::device::{Algorithm, Body, Device, DeviceClass, Kernel, Limits, Variant, random};
use shadegrad::graph::check;
use shadegrad::graph::ops::{Op, Sample};
use shadegrad::graph::{Graph, Loaded, Options, Tensor, compile};
use shadegrad::prelude::*;
use shadegrad::train::{Padded, Resident, Samples, data::drawn};
use std::collections::BTreeMap;

/// The software adapter's limits, with so many operations for one dispatch.
fn limits(operations: u64) -> Limits {
    Limits { dispatch_operations: operations, ..Limits::profile("lavapipe").unwrap() }
}

fn adapter(limits: Limits) -> Option<Device> {
    adapter_of(Variant::default(), limits)
}

fn adapter_of(variant: Variant, limits: Limits) -> Option<Device> {
    harness::adapter_with(Variant { limits: Some(limits), ..variant })
}

/// Samples that are cut into parts under some limits, a few of each family.
fn cut(limits: &Limits) -> BTreeMap<&'static str, Vec<Sample>> {
    let mut families: BTreeMap<&'static str, Vec<Sample>> = BTreeMap::new();
    // No sample has as many rows as take two workgroups.
    let mut rows = Op::samples();
    rows.retain(|s| s.op.name() == "sum" && s.inputs[0].ty.shape == [3, 257]);
    rows[0].inputs[0].ty.shape[0] = 130;
    for sample in Op::samples().into_iter().chain(rows) {
        let graph = Graph::new();
        let (output, _) = check::record(&graph, &sample, 1);
        let nodes = graph.nodes(&[&output]).unwrap();
        let kernels = compile(&nodes, limits, &Options::default()).unwrap().program.kernels;
        for kernel in kernels.iter().filter(|kernel| kernel.parts(limits) > 1) {
            let samples = families.entry(kernel.body.family()).or_default();
            if samples.len() < 6 {
                samples.push(sample.clone());
            }
        }
    }
    families
}

/// The results of samples on a device, as bits, and how many dispatches they took.
fn results(device: &Device, samples: &[Sample]) -> (Vec<Vec<u8>>, u64) {
    let graph = Graph::new();
    let outputs: Vec<Tensor> = samples.iter().map(|s| check::record(&graph, s, 1).0).collect();
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let mut loaded = Session::new(device).compile(&graph, &outputs).unwrap();
    let before = device.counters().dispatches;
    loaded.run(1).unwrap();
    let count = device.counters().dispatches - before;
    assert_eq!(count, loaded.report().counts.dispatches as u64, "counted as dispatched");
    ((0..outputs.len()).map(|number| loaded.read(number).unwrap()).collect(), count)
}

#[test]
fn operations_of_every_family_give_the_same_bits_in_parts() {
    let families = cut(&limits(1));
    assert_eq!(families.len(), 10, "{:?}", families.keys());
    let samples: Vec<Sample> = families.into_values().flatten().collect();
    // As software adapters do it, and as GPUs do, where workgroups share rows and tiles.
    let (grouped, algorithm) = (Some(true), Some(Algorithm::Tiled));
    let shared = Variant { grouped, algorithm, ..Variant::default() };
    for variant in [Variant::default(), shared] {
        let Some(whole) = adapter_of(variant.clone(), limits(u64::MAX)) else { return };
        let (expected, few) = results(&whole, &samples);
        // A part for each workgroup, and parts of several lines of two workgroups.
        for low in [limits(1), Limits { groups: 2, ..limits(500) }] {
            let (got, many) = results(&adapter_of(variant.clone(), low).unwrap(), &samples);
            assert!(many > few + samples.len() as u64, "{few} dispatches, {many} in parts");
            for ((sample, expected), got) in samples.iter().zip(&expected).zip(&got) {
                assert!(expected == got, "{:?} has other bits in parts", sample.op);
            }
        }
    }
}

/// Three sequences of five steps through 70 units of an LSTM, and back.
fn recurrent(device: &Device) -> (Vec<Vec<u8>>, Loaded) {
    let lstm = Lstm::new(4, 70);
    let parameters = Parameters::new(&lstm, 0).unwrap();
    let graph = Graph::new();
    let init = Init::Uniform { low: -1.0, high: 1.0, seed: 3 };
    let x = graph.variable(&Variable::new("x", &[5, 3, 4], DType::F32, init));
    let y = lstm.forward(&x);
    let dx = graph.gradients(&y.square().sum_all(), &[&x]).remove(0);
    let _ = parameters.tensors(&graph);
    let mut loaded = Session::new(device).compile(&graph, &[&y, &dx]).unwrap();
    loaded.run(1).unwrap();
    ([0, 1].map(|output| loaded.read(output).unwrap()).to_vec(), loaded)
}

/// For each recurrent kernel, whether it takes its steps one by one, and how many dispatches it takes.
fn forms(loaded: &Loaded, limits: &Limits) -> Vec<(bool, usize)> {
    let form = |kernel: &Kernel| match kernel.body {
        Body::Recurrent { stepwise, .. } => Some((stepwise, kernel.dispatches(limits))),
        _ => None,
    };
    loaded.compiled().program.kernels.iter().filter_map(form).collect()
}

#[test]
fn sequences_are_shared_out_until_one_alone_takes_too_long_and_then_left_after_each_step() {
    // One sequence: two operations for each weight of four gates in five steps.
    let alone = 2 * 5 * 4 * 70 * 70;
    let Some(whole) = adapter(limits(u64::MAX)) else { return };
    let (expected, loaded) = recurrent(&whole);
    assert_eq!(forms(&loaded, whole.limits()), [(false, 1), (false, 1)]);
    let apart = adapter(limits(alone)).unwrap();
    let (got, loaded) = recurrent(&apart);
    assert_eq!(forms(&loaded, apart.limits()), [(false, 3), (false, 3)]);
    assert_eq!(got, expected, "a dispatch for each sequence");
    let step = adapter(limits(alone - 1)).unwrap();
    let (got, loaded) = recurrent(&step);
    assert_eq!(forms(&loaded, step.limits()), [(true, 5), (true, 6)]);
    assert_eq!(got, expected, "a dispatch for each step");
    // 210 units are four workgroups.
    let parts = adapter(limits(1)).unwrap();
    let (got, loaded) = recurrent(&parts);
    assert_eq!(forms(&loaded, parts.limits()), [(true, 5 * 4), (true, 6 * 4)]);
    assert_eq!(got, expected, "a dispatch for each workgroup of each step");
}

/// All variables after three steps, as bits, and the dispatches of a step.
fn trained<M: Module>(device: &Device, model: M, data: &dyn Samples) -> (Vec<Vec<u8>>, usize) {
    let mut trainer = Trainer::new(device, model, CrossEntropy, Adam::new(1e-3)).unwrap();
    let mut step = trainer.compile(data, 8).unwrap();
    let before = device.counters().dispatches;
    step.run(3).unwrap();
    let count = step.report().counts.dispatches;
    assert_eq!(device.counters().dispatches - before, 3 * count as u64);
    let variables = step.compiled().variables.clone();
    (variables.iter().map(|v| trainer.session().read(v).unwrap()).collect(), count)
}

#[test]
fn whole_training_steps_give_the_same_bits_in_parts() {
    let Some(whole) = adapter(limits(u64::MAX)) else { return };
    let parts = adapter(limits(1000)).unwrap();
    let tokens: Vec<u32> = (0..32 * 6).map(|i| random(3, i) % 60).collect();
    let labels: Vec<u8> = (0..32).map(|i| (random(4, i) % 2) as u8).collect();
    let digits = drawn::digits(32, 0);
    for name in ["cnn", "lstm"] {
        let train = |device: &Device| match name {
            "cnn" => {
                let model = Sequential::new()
                    .add(Conv2d::new(1, 4, 3).padding(1))
                    .add(BatchNorm2d::new(4))
                    .add(Relu)
                    .add(MaxPool2d::new(2))
                    .add(Flatten)
                    .add(Dropout::new(0.5))
                    .add(Linear::new(4 * 14 * 14, 10));
                trained(device, model, &Resident::new(&digits))
            }
            _ => {
                let model = LastState::new(60, 16, 24, 2);
                trained(device, model, &Padded::new(&tokens, 6, &labels))
            }
        };
        let (expected, few) = train(&whole);
        let (got, many) = train(&parts);
        assert!(many > 2 * few, "{name}: {few} dispatches, {many} in parts");
        assert!(expected == got, "{name} learns other bits in parts");
    }
}

#[test]
fn submissions_are_cut_where_their_dispatches_add_up() {
    let Some(device) = adapter(limits(1)) else { return };
    // Beside the steps, both results are read.
    let (_, mut loaded) = recurrent(&device);
    let dispatches = loaded.report().counts.dispatches as u64;
    assert_eq!(device.counters().submits, dispatches + 2, "each is full at once");
    // So are those that are measured, whose times are read after each.
    loaded.profile().unwrap();
    assert_eq!(device.counters().submits, dispatches + 2 + 2 * dispatches);
    let Some(device) = adapter(limits(u64::MAX)) else { return };
    recurrent(&device);
    assert_eq!(device.counters().submits, 1 + 2);
}

#[test]
fn submissions_grow_while_their_dispatches_are_short() {
    let Some(device) = harness::adapter() else { return };
    let graph = Graph::new();
    let x = graph.variable(&harness::numbers("x", &[10], 1));
    let mut loaded = Session::new(&device).compile(&graph, &[&(&x + 1.0)]).unwrap();
    let mut submits = |steps: usize| {
        let before = device.counters().submits;
        loaded.run(steps).unwrap();
        device.synchronize().unwrap();
        device.counters().submits - before
    };
    submits(2000);
    // Fewer than ten dispatches in each would mean that one of ten additions takes ten milliseconds.
    let later = submits(2000);
    assert!(later < 200, "{later} submissions of 2000 dispatches");
    assert!(later > 0, "nothing was submitted");
}

#[test]
fn benchmark_steps_are_whole_on_every_device() {
    for (profile, limits) in Limits::profiles() {
        let device = Device::null(limits.clone());
        for training in bench::TRAINING {
            let (program, _) =
                bench::program(training.name, &device, Step::default()).unwrap().unwrap();
            for kernel in &program.compiled().program.kernels {
                let count = kernel.dispatches(&limits);
                assert_eq!(count, 1, "{} of {} on {profile}", kernel.label, training.name);
            }
        }
    }
}

/// Dispatches of a product of square matrices, as the null device counts them.
fn product(side: usize, limits: Limits) -> u64 {
    let device = Device::null(limits);
    let graph = Graph::new();
    let matrix = |name: &str| {
        graph.variable(&Variable::new(name, &[side, side], DType::F32, Init::Full(1.0)))
    };
    let mut loaded =
        Session::new(&device).compile(&graph, &[&matrix("a").matmul(&matrix("b"))]).unwrap();
    loaded.run(1).unwrap();
    assert_eq!(device.counters().dispatches, loaded.report().counts.dispatches as u64);
    device.counters().dispatches
}

#[test]
fn a_huge_product_is_cut_by_its_operations_and_bytes() {
    let large = |class: DeviceClass| Limits {
        class,
        binding_bytes: 1 << 30,
        buffer_bytes: 1 << 30,
        dispatch_operations: class.dispatch_operations(),
        dispatch_bytes: class.dispatch_bytes(),
        ..Limits::WEBGPU
    };
    // 1.0995e12 operations at 5e10 for a dispatch and 8.05e8 bytes at 5e9: 21.99 + 0.16.
    assert_eq!(product(8192, large(DeviceClass::Integrated)), 23);
    // Ten times as much for a dispatch: 2.2 + 0.02.
    assert_eq!(product(8192, large(DeviceClass::Discrete)), 3);
    assert_eq!(product(8192, large(DeviceClass::Software)), 1);
    assert_eq!(product(2048, large(DeviceClass::Integrated)), 1);
}
