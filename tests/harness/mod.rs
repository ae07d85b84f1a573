//! What the test files share: the devices under test.
#![allow(dead_code, reason = "each test file uses a part")]

use shadegrad::device::{Device, Variant};
use shadegrad::graph::{PoolOptions, Tensor};
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

/// The CPU backend, and the adapter if there is one. The flag: whether arithmetic is exact.
pub(crate) fn devices() -> Vec<(Device, bool)> {
    let mut devices = vec![(Device::cpu(Some(2)), true)];
    devices.extend(adapter().map(|device| (device, false)));
    devices
}
