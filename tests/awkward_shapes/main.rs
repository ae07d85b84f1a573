//! Large and awkward shapes: grids that fold, more variables than a kernel can bind, tensors that are too large,
//! ranks from 0 to 6, extents of 0 and 1, views of views, halves of odd sizes, long lines, and what layers keep
//! between steps.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod columns;
mod empty;
mod halves;
#[path = "../harness/mod.rs"]
mod harness;
mod limits;
mod norms;
mod sequences;
mod views;

use shadegrad::device::Limits;
use shadegrad::graph::{Array, GraphError, Options, check, compile};
use shadegrad::prelude::*;

/// What a function of a graph gives, recorded anew for every device.
pub(crate) type Build<'a> = &'a dyn Fn(&Graph) -> Vec<Tensor>;

/// A variable of floats in `-1.5..1.5`.
pub(crate) fn x(graph: &Graph, shape: &[usize], seed: u64) -> Tensor {
    let init = Init::Uniform { low: -1.5, high: 1.5, seed };
    graph.variable(&Variable::new(&format!("x{seed}"), shape, DType::F32, init))
}

/// Runs outputs once.
pub(crate) fn run(
    device: &Device,
    graph: &Graph,
    outputs: &[Tensor],
    options: &Options,
) -> Result<Vec<Array>, GraphError> {
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let compiled = compile(&graph.nodes(&outputs)?, device.limits(), options)?;
    let mut loaded = Session::new(device).load(compiled)?;
    loaded.run(1)?;
    loaded.check_guards()?;
    (0..outputs.len()).map(|number| loaded.read_array(number)).collect()
}

/// What is wrong with a device's results, if anything is.
pub(crate) fn compared(
    device: &Device,
    exact: bool,
    build: Build<'_>,
    options: &Options,
) -> Result<(), String> {
    let graph = Graph::new();
    let outputs = build(&graph);
    let nodes = graph.nodes(&outputs.iter().collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    let start = nodes.initial();
    let expected = nodes.interpret(&mut start.clone());
    let bounds = check::allowed(&nodes, &start, &expected, exact);
    let got = run(device, &graph, &outputs, options).map_err(|e| e.to_string())?;
    for (number, ((got, expected), bounds)) in got.iter().zip(&expected).zip(&bounds).enumerate() {
        // A bound that lets everything pass is no test.
        if let Some(at) = bounds.iter().position(|bound| !bound.is_finite()) {
            return Err(format!("output {number}: element {at} may be anything"));
        }
        check::compare(got, expected, bounds).map_err(|e| format!("output {number}: {e}"))?;
    }
    Ok(())
}

/// Every case agrees with the reference on every device, fused and (on the CPU) not.
pub(crate) fn agree(cases: &[(&str, Build<'_>)]) {
    agree_on(&harness::devices(), cases);
}

/// The same on some devices, with the flags of [`harness::devices`].
pub(crate) fn agree_on(devices: &[(Device, bool)], cases: &[(&str, Build<'_>)]) {
    let mut failures = Vec::new();
    for (device, exact) in devices {
        for (name, build) in cases {
            for fuse in [true, false] {
                if !exact && !fuse {
                    continue;
                }
                let options = Options { fuse, guard: 16, ..Options::default() };
                if let Err(reason) = compared(device, *exact, build, &options) {
                    let device = &device.info().name;
                    failures.push(format!("{name}, fuse {fuse}, on {device}: {reason}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// A program is within limits: on a device without hardware everything is checked and nothing runs.
pub(crate) fn fits(limits: &Limits, build: Build<'_>) -> Result<(), GraphError> {
    let graph = Graph::new();
    let outputs = build(&graph);
    let nodes = graph.nodes(&outputs.iter().collect::<Vec<_>>())?;
    let compiled = compile(&nodes, limits, &Options::default())?;
    Session::new(&Device::null(limits.clone())).load(compiled)?.run(1)
}

/// No limits but these.
pub(crate) fn only(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits { workgroup_bytes: usize::MAX, invocations: usize::MAX, ..Limits::CPU };
    change(&mut limits);
    limits
}
