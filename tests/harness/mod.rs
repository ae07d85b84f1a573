//! What the test files share: the devices under test.
#![allow(dead_code, reason = "each test file uses a part")]

use shadegrad::device::{DType, Device, Variant, random};
use shadegrad::graph::{Array, Graph, Loaded, Options, PoolOptions, Session, Tensor, Variable};
use std::io::Write;

/// The variable that makes a missing software adapter a failure.
const REQUIRED: &str = "SHADEGRAD_REQUIRE_GPU";

/// The software adapter (or whatever GPU there is), or `None` with a loud message.
pub(crate) fn adapter() -> Option<Device> {
    adapter_with(Variant::default())
}

/// The adapter with settings.
pub(crate) fn adapter_with(variant: Variant) -> Option<Device> {
    for name in ["software", "gpu"] {
        if let Ok(device) = Device::open_with(name, variant.clone()) {
            return Some(device);
        }
    }
    let required = std::env::var(REQUIRED).is_ok_and(|v| v != "0");
    assert!(!required, "{REQUIRED} is set, but no adapter was found");
    // Written past the test runner, which hides what tests print when they pass.
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        let text = "\n*** NO GPU OR SOFTWARE ADAPTER: shader parity is SKIPPED, only the CPU is tested ***\n";
        let _ = writeln!(std::io::stderr(), "{text}");
    });
    None
}

/// The same, computed by a kernel that nothing is fused with: the sums of what is in memory belong to the product that reads it.
pub(crate) fn in_memory(tensor: &Tensor) -> Tensor {
    let shape = tensor.shape();
    let last = shape[shape.len() - 1];
    let image = [1, 1, shape.iter().product::<usize>() / last, last];
    tensor.reshape(&image).max_pool2d(&PoolOptions::new([1, 1])).reshape(&shape)
}

/// A variable of numbers between -1/2 and 1/2, drawn.
pub(crate) fn numbers(name: &str, shape: &[usize], seed: u32) -> Variable {
    let count: usize = shape.iter().product();
    let bytes: Vec<u8> = (0..count as u32)
        .flat_map(|i| (random(seed, i) as f32 / 4.294_967_3e9 - 0.5).to_le_bytes())
        .collect();
    Variable::from_bytes(name, shape, DType::F32, bytes)
}

/// Loads what is recorded and runs it so many times, with guard words around everything, which must be as they were; and what
/// it computed.
pub(crate) fn run_guarded(
    device: &Device,
    graph: &Graph,
    outputs: &[&Tensor],
    options: Options,
    runs: usize,
) -> (Loaded, Vec<Array>) {
    let options = Options { guard: 64, ..options };
    let mut loaded = Session::new(device).compile_with(graph, outputs, &options).unwrap();
    loaded.run(runs).unwrap();
    loaded.check_guards().unwrap();
    let found = (0..outputs.len()).map(|output| loaded.read_array(output).unwrap()).collect();
    (loaded, found)
}

/// All bits.
pub(crate) fn bits(arrays: &[Array]) -> Vec<u64> {
    arrays.iter().flat_map(|array| &array.data).map(|value| value.to_bits()).collect()
}

/// Asserts that sums of products are what they should be. Many of these may cancel, so what counts is how large results are.
pub(crate) fn assert_close(found: &[Array], expected: &[Array]) {
    for (found, expected) in found.iter().zip(expected) {
        let allowed = 1e-5 * expected.data.iter().fold(0.0, |most: f64, one| most.max(one.abs()));
        for (found, expected) in found.data.iter().zip(&expected.data) {
            assert!((found - expected).abs() <= allowed, "{found} instead of {expected}");
        }
    }
}

/// The CPU backend, and the adapter if there is one. The flag: whether arithmetic is exact.
pub(crate) fn devices() -> Vec<(Device, bool)> {
    let mut devices = vec![(Device::cpu(Some(2)), true)];
    devices.extend(adapter().map(|device| (device, false)));
    devices
}
