//! Kernels that share a dispatch: they compute the bits that they compute alone, as many dispatches are saved as are counted, and
//! what depends on each other doesn't share one.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use harness::{assert_close, bits, numbers};
use shadegrad::bench::{self, Step};
use shadegrad::device::{
    Algorithm, Device, DeviceClass, DeviceError, Limits, Program, Tile, Variant,
};
use shadegrad::graph::{Array, ConvOptions, Loaded, Options};
use shadegrad::prelude::*;
use std::ops::Range;

/// The adapter, with the shaders of large GPUs.
fn large(variant: Variant) -> Option<Device> {
    harness::adapter_with(Variant { class: Some(DeviceClass::Discrete), ..variant })
}

/// The gradients of a convolution and of two linear layers, with sums in three parts, and sums of rows of 200 columns.
fn gradients(device: &Device, share: bool) -> (Vec<Array>, Loaded) {
    let graph = Graph::new();
    let variable = |name: &str, shape: &[usize], seed| graph.variable(&numbers(name, shape, seed));
    let x = variable("x", &[6, 3, 9, 7], 1);
    let parameters = [
        variable("filter", &[5, 3, 3, 3], 2),
        variable("bias", &[5], 3),
        variable("first", &[5 * 63, 40], 4),
        variable("second", &[40, 33], 5),
    ];
    let [filter, bias, first, second] = &parameters;
    let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
    let hidden = x.conv2d(filter, Some(bias), &padded).relu().reshape(&[6, 5 * 63]);
    let loss = hidden.matmul(first).relu().matmul(second).square().sum(&[0, 1]);
    let mut outputs = graph.gradients(&loss, &parameters.iter().collect::<Vec<_>>());
    outputs.push(variable("rows", &[7, 200], 6).square().sum(&[1]));
    run(device, &graph, &outputs, share)
}

/// Runs twice and checks guard words; what was computed, and the loaded program.
fn run(device: &Device, graph: &Graph, outputs: &[Tensor], share: bool) -> (Vec<Array>, Loaded) {
    let options = Options { share, splits: Some(3), ..Options::default() };
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let (loaded, values) = harness::run_guarded(device, graph, &outputs, options, 2);
    (values, loaded)
}

/// How many dispatches a run takes.
fn dispatched(device: &Device, loaded: &mut Loaded) -> usize {
    device.synchronize().unwrap();
    let before = device.counters().dispatches;
    loaded.run(1).unwrap();
    device.synchronize().unwrap();
    (device.counters().dispatches - before) as usize
}

#[test]
fn gradients_are_those_of_kernels_that_are_alone() {
    let Some(device) = large(Variant::default()) else { return };
    let (together, mut shared) = gradients(&device, true);
    let (apart, mut alone) = gradients(&device, false);
    assert_close(&together, &gradients(&Device::cpu(Some(2)), true).0);
    if device.info().class == DeviceClass::Software {
        // Its compiler rounds the same in every shader; those of GPUs take products and sums together where they like.
        assert_eq!(bits(&together), bits(&apart));
    }
    let counts = [&mut shared, &mut alone].map(|loaded| dispatched(&device, loaded));
    let counted = [&shared, &alone].map(|loaded| loaded.report().counts.dispatches);
    assert_eq!(counts, counted);
    let (shared, alone) = (&shared.compiled().program, &alone.compiled().program);
    assert_eq!(shared.kernels.len(), alone.kernels.len());
    assert!(alone.joined.is_empty());
    assert_eq!(counts[0] + shared.joined.len(), counts[1]);
    // Of each linear layer both gradients, and then the sums of their parts; of the convolution those of filter and bias; and
    // the long rows with what is before them.
    let families = |group: &Range<usize>| -> Vec<&str> {
        shared.kernels[group.clone()].iter().map(|kernel| kernel.body.family()).collect()
    };
    let groups: Vec<Vec<&str>> = shared.shared().map(|(group, _)| families(&group)).collect();
    let (products, rows) = (vec!["matmul"; 2], vec!["rows"; 2]);
    assert_eq!(groups, [products.clone(), rows.clone(), products, rows, vec!["rows"; 3]]);
}

#[test]
fn other_shaders_share_a_dispatch_where_they_can_and_have_their_own_where_not() {
    let expected = gradients(&Device::cpu(Some(2)), true).0;
    let variant =
        |algorithm, grouped, tile| Variant { algorithm, grouped, tile, ..Variant::default() };
    let direct = variant(Some(Algorithm::Direct), Some(false), None);
    let grouped = variant(None, Some(true), None);
    let tiled = variant(Some(Algorithm::Tiled), None, Some(Tile::ALL[4]));
    // Those of subgroups have entry points of their own.
    let subgroups = variant(Some(Algorithm::Subgroups), None, None);
    for (variant, all) in [(direct, true), (grouped, true), (tiled, true), (subgroups, false)] {
        let Some(device) = large(variant.clone()) else { return };
        let (found, mut loaded) = gradients(&device, true);
        assert_close(&found, &expected);
        let (counted, count) =
            (loaded.report().counts.dispatches, dispatched(&device, &mut loaded));
        assert_eq!(count == counted, all, "{count} of {counted}, {variant:?}");
    }
}

#[test]
fn what_a_kernel_reads_is_overwritten_after_it() {
    let Some(device) = large(Variant::default()) else { return };
    // Small products that could share a dispatch, of which the second overwrites what the first reads, and the third reads
    // what the second gives at the end of a step.
    let after_two_steps = |device: &Device| {
        let graph = Graph::new();
        let state = numbers("state", &[20, 20], 1);
        let [a, b] = [("a", 2), ("b", 3)]
            .map(|(name, seed)| graph.variable(&numbers(name, &[20, 20], seed)));
        let before = graph.variable(&state);
        let read = before.matmul(&a).sum(&[1]);
        graph.assign(&state, &a.matmul(&b));
        let again = before.matmul(&b);
        run(device, &graph, &[read, again], true)
    };
    let (found, loaded) = after_two_steps(&device);
    assert_close(&found, &after_two_steps(&Device::cpu(Some(1))).0);
    let program = &loaded.compiled().program;
    let writes = program.kernels.iter().position(|kernel| {
        let stores = kernel.body.stores();
        stores.iter().any(|(s, _)| program.buffers[kernel.operands[s.operand].buffer].external)
    });
    let writes = writes.expect("a kernel stores into the variable");
    assert!(writes > 0 && !program.joined.contains(&writes), "{:?}", program.joined);
}

/// A workload's program for a device that isn't here.
fn program(workload: &str, limits: &Limits) -> Program {
    let device = Device::null(limits.clone());
    let (loaded, _) = bench::program(workload, &device, Step::default()).unwrap().unwrap();
    loaded.compiled().program.clone()
}

#[test]
fn only_gpus_share_dispatches_and_only_what_fits() {
    let h200 = Limits::profile("h200").unwrap();
    let joined = |limits: &Limits| program("mlp", limits).joined.len();
    assert_eq!(joined(&h200), 3);
    assert_eq!(joined(&Limits::CPU), 0);
    assert_eq!(joined(&Limits::profile("lavapipe").unwrap()), 0);
    // Two tiles take 28 KiB.
    assert_eq!(joined(&Limits { workgroup_bytes: 20 << 10, ..h200.clone() }), 2);
    assert_eq!(joined(&Limits { dispatch_operations: 1, ..h200 }), 0);
}

#[test]
fn what_depends_on_each_other_is_refused() {
    let limits = Limits::profile("h200").unwrap();
    let right = program("mlp", &limits);
    right.verify(&limits, "device").unwrap();
    let refused = |joined: Vec<usize>, word: &str| {
        let wrong = Program { joined, ..right.clone() };
        let error = wrong.verify(&limits, "device").unwrap_err();
        assert!(matches!(error, DeviceError::Program { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    let products: Vec<usize> = (1..right.kernels.len())
        .filter(|&n| [n - 1, n].iter().all(|&n| right.kernels[n].body.family() == "matmul"))
        .collect();
    let forward = products[0];
    assert!(!right.joined.contains(&forward), "one layer and the next");
    refused(vec![forward], "overwrites what that touches");
    refused(vec![0], "joins the one before");
    refused(vec![forward, forward], "joins the one before");
    refused(vec![right.kernels.len()], "joins the one before");
    refused(vec![right.kernels.len() - 1], "can't share a dispatch");
}
