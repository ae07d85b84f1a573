//! Recurrent layers, attention, transformers and what is built of them, against their definitions made of
//! elementary operations.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod composed;
mod counts;
mod generation;
#[path = "../harness/mod.rs"]
mod harness;
mod recurrent;
mod regression;
mod sentiment;
mod transformer;

use shadegrad::device::{Algorithm, Device, DeviceClass, Limits, Variant};
use shadegrad::graph::check;
use shadegrad::prelude::*;
use std::collections::HashMap;

/// A variable of floats in `-1..1`.
pub(crate) fn x(graph: &Graph, shape: &[usize], seed: u64) -> Tensor {
    let init = Init::Uniform { low: -1.0, high: 1.0, seed };
    graph.variable(&Variable::new(&format!("x{seed}"), shape, DType::F32, init))
}

/// A model's parameters in a recording, by name.
pub(crate) fn by_name(parameters: &Parameters, graph: &Graph) -> HashMap<String, Tensor> {
    let names = parameters.names().map(|(name, _)| name.to_string());
    names.zip(parameters.tensors(graph).concat()).collect()
}

/// What is computed, by what it is differentiated: tensors of one recording.
pub(crate) type Computed = (Vec<Tensor>, Vec<Tensor>);

/// Outputs, and the gradients of their product with fixed numbers.
fn with_gradients(graph: &Graph, (mut outputs, inputs): Computed) -> Vec<Tensor> {
    let weighted =
        outputs.iter().zip(900..).map(|(y, seed)| (y * x(graph, &y.shape(), seed)).sum_all());
    let loss = weighted.reduce(|a, b| a + b).unwrap();
    outputs.extend(graph.gradients(&loss, &inputs.iter().collect::<Vec<_>>()));
    outputs
}

/// Values and gradients of a model on a device are those of its definition in f64, within what f32 allows for the
/// definition.
pub(crate) fn agrees(
    device: &Device,
    exact: bool,
    model: &dyn Fn(&Graph) -> Computed,
    definition: &dyn Fn(&Graph) -> Computed,
) -> Result<(), String> {
    let graph = Graph::new();
    let wanted = with_gradients(&graph, definition(&graph));
    let nodes = graph.nodes(&wanted.iter().collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    let start = nodes.initial();
    let expected = nodes.interpret(&mut start.clone());
    let bounds = check::allowed(&nodes, &start, &expected, exact);

    let graph = Graph::new();
    let outputs = with_gradients(&graph, model(&graph));
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let mut loaded =
        Session::new(device).compile(&graph, &outputs).map_err(|error| error.to_string())?;
    loaded.run(1).map_err(|error| error.to_string())?;
    assert_eq!(outputs.len(), expected.len());
    for (number, (expected, bounds)) in expected.iter().zip(&bounds).enumerate() {
        assert!(bounds.iter().all(|bound| bound.is_finite()), "a bound that lets everything pass");
        let got = loaded.read_array(number).map_err(|error| error.to_string())?;
        check::compare(&got, expected, bounds).map_err(|e| format!("tensor {number}: {e}"))?;
    }
    Ok(())
}

/// [`agrees`] on every device.
pub(crate) fn agree(
    name: &str,
    model: &dyn Fn(&Graph) -> Computed,
    definition: &dyn Fn(&Graph) -> Computed,
) {
    for (device, exact) in harness::devices() {
        agrees(&device, exact, model, definition)
            .unwrap_or_else(|e| panic!("{name} on {}: {e}", device.info()));
    }
}

/// The adapter with the recurrent shaders of large GPUs.
pub(crate) fn as_discrete() -> Option<Device> {
    let (class, algorithm) = (Some(DeviceClass::Discrete), Some(Algorithm::Direct));
    harness::adapter_with(Variant { class, algorithm, ..Variant::default() })
}

/// The adapter with so little workgroup memory that each step of a recurrent layer is a dispatch.
pub(crate) fn stepwise() -> Option<Device> {
    let limits = Some(Limits { workgroup_bytes: 8, ..Limits::WEBGPU });
    harness::adapter_with(Variant { limits, grouped: Some(false), ..Variant::default() })
}
