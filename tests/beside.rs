//! Kernels that share a dispatch: they compute the bits that they compute alone, as many dispatches are saved as are counted, and
//! what depends on each other doesn't share one.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::bench::{self, Step};
use shadegrad::device::{
    Algorithm, Device, DeviceClass, DeviceError, Limits, Program, Tile, Variant, random,
};
use shadegrad::graph::{Array, ConvOptions, Loaded, Options};
use shadegrad::prelude::*;

/// The adapter, with the shaders of large GPUs.
fn large(variant: Variant) -> Option<Device> {
    harness::adapter_with(Variant { class: Some(DeviceClass::Discrete), ..variant })
}

fn numbers(name: &str, shape: &[usize], seed: u32) -> Variable {
    let count: usize = shape.iter().product();
    let bytes: Vec<u8> = (0..count as u32)
        .flat_map(|i| (random(seed, i) as f32 / 4.294_967_3e9 - 0.5).to_le_bytes())
        .collect();
    Variable::from_bytes(name, shape, DType::F32, bytes)
}

/// The gradients of a convolution and of two linear layers, with sums in three parts.
fn gradients(device: &Device, beside: bool) -> (Vec<Array>, Loaded) {
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
    let outputs = graph.gradients(&loss, &parameters.iter().collect::<Vec<_>>());
    let options = Options { beside, guard: 64, splits: Some(3), ..Options::default() };
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let mut loaded = Session::new(device).compile_with(&graph, &outputs, &options).unwrap();
    let before = device.counters().dispatches;
    loaded.run(2).unwrap();
    let values = (0..outputs.len()).map(|output| loaded.read_array(output).unwrap()).collect();
    let dispatched = device.counters().dispatches - before;
    assert_eq!(dispatched as usize, 2 * loaded.report().counts.dispatches, "as counted");
    loaded.check_guards().unwrap();
    (values, loaded)
}

fn bits(arrays: &[Array]) -> Vec<u64> {
    arrays.iter().flat_map(|array| &array.data).map(|value| value.to_bits()).collect()
}

fn close(found: &[Array], expected: &[Array]) {
    for (found, expected) in found.iter().zip(expected) {
        let allowed = 1e-5 * expected.data.iter().fold(0.0, |most: f64, one| most.max(one.abs()));
        for (found, expected) in found.data.iter().zip(&expected.data) {
            assert!((found - expected).abs() <= allowed, "{found} instead of {expected}");
        }
    }
}

#[test]
fn gradients_have_the_bits_of_kernels_that_are_alone() {
    let Some(device) = large(Variant::default()) else { return };
    let ((together, shared), (apart, alone)) =
        (gradients(&device, true), gradients(&device, false));
    assert_eq!(bits(&together), bits(&apart));
    close(&together, &gradients(&Device::cpu(Some(2)), true).0);
    let (shared, alone) = (&shared.compiled().program, &alone.compiled().program);
    assert_eq!(shared.kernels.len(), alone.kernels.len());
    assert!(alone.joined.is_empty());
    // Of each linear layer both gradients, and then the sums of their parts; of the convolution those of filter and bias.
    let families = |number: &usize| [number - 1, *number].map(|n| shared.kernels[n].body.family());
    let pairs: Vec<[&str; 2]> = shared.joined.iter().map(families).collect();
    let (products, rows) = (["matmul"; 2], ["rows"; 2]);
    assert_eq!(pairs, [products, rows, products, rows, rows]);
}

#[test]
fn other_shaders_share_a_dispatch_where_they_can_and_have_their_own_where_not() {
    let variant =
        |algorithm, grouped, tile| Variant { algorithm, grouped, tile, ..Variant::default() };
    for variant in [
        variant(Some(Algorithm::Direct), Some(false), None),
        variant(None, Some(true), None),
        variant(Some(Algorithm::Tiled), None, Some(Tile::ALL[4])),
    ] {
        let Some(device) = large(variant.clone()) else { return };
        let graph = Graph::new();
        let [x, w] = [("x", [20, 40], 1), ("w", [40, 30], 2)]
            .map(|(name, shape, seed)| graph.variable(&numbers(name, &shape, seed)));
        let loss = x.matmul(&w).square().sum(&[0, 1]);
        let outputs = graph.gradients(&loss, &[&x, &w]);
        let mut loaded =
            Session::new(&device).compile(&graph, &[&outputs[0], &outputs[1]]).unwrap();
        loaded.run(1).unwrap();
        let found: Vec<Array> = (0..2).map(|output| loaded.read_array(output).unwrap()).collect();
        let mut host = Session::new(&Device::cpu(Some(1)))
            .compile(&graph, &[&outputs[0], &outputs[1]])
            .unwrap();
        host.run(1).unwrap();
        close(&found, &[host.read_array(0).unwrap(), host.read_array(1).unwrap()]);
    }
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
