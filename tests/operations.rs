//! Every operation on its samples: values on every device, gradients in f64, and proof that the
//! checks can fail.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Device, Variant};
use shadegrad::graph::ops::{Op, Sample};
use shadegrad::graph::{Array, Graph, Options, Session, Tensor, check};
use std::collections::BTreeMap;

fn by_operation() -> BTreeMap<String, Vec<Sample>> {
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for sample in Op::samples() {
        samples.entry(sample.op.name()).or_default().push(sample);
    }
    samples
}

/// Runs all samples of all operations as few programs and compares every result.
fn check_values(device: &Device, exact: bool, options: &Options) {
    let mut failures = Vec::new();
    for (name, samples) in by_operation() {
        let graph = Graph::new();
        let recorded: Vec<(Tensor, Vec<Array>)> = samples
            .iter()
            .zip(0..)
            .map(|(sample, number)| check::record(&graph, sample, 77 + 13 * number))
            .collect();
        let outputs: Vec<&Tensor> = recorded.iter().map(|(y, _)| y).collect();
        let mut session = Session::new(device);
        let mut loaded = session
            .compile_with(&graph, &outputs, options)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        loaded.run(2).unwrap();
        for (number, (sample, (y, inputs))) in samples.iter().zip(&recorded).enumerate() {
            let inputs: Vec<&Array> = inputs.iter().collect();
            let expected = sample.op.reference(&inputs, &y.ty());
            let got = loaded.read_array(number).unwrap();
            let allowed = check::tolerance(&sample.op, &inputs, &expected, exact);
            if let Err(reason) = check::compare(&got, &expected, &allowed) {
                failures.push(format!(
                    "{name} {:?} of {:?}: {reason}",
                    sample.op,
                    inputs.iter().map(|a| &a.ty).collect::<Vec<_>>()
                ));
            }
        }
        loaded.check_guards().unwrap();
    }
    assert!(failures.is_empty(), "on {}:\n{}", device.info(), failures.join("\n"));
}

#[test]
fn every_operation_has_samples() {
    let sampled: Vec<String> = Op::samples().iter().map(|s| format!("{:?}", s.op)).collect();
    for name in Op::names().iter().filter(|name| **name != "Leaf") {
        assert!(sampled.iter().any(|s| s.starts_with(name)), "{name} has no sample");
    }
}

#[test]
fn values_on_the_cpu() {
    check_values(&Device::cpu(Some(2)), true, &Options { guard: 64, ..Options::default() });
}

#[test]
fn values_on_the_adapter() {
    let Some(device) = harness::adapter() else {
        return;
    };
    check_values(&device, false, &Options { guard: 64, ..Options::default() });
}

#[test]
fn values_on_the_adapter_with_webgpu_limits_and_other_variants() {
    let variant = Variant {
        checks: true,
        limits: Some(shadegrad::device::Limits::WEBGPU),
        tiled: Some(true),
        grouped: Some(true),
    };
    let Some(device) = harness::adapter_with(variant) else {
        return;
    };
    check_values(&device, false, &Options { splits: Some(3), ..Options::default() });
}

#[test]
fn gradients_agree_with_differences() {
    let mut failures = Vec::new();
    for sample in Op::samples().iter().filter(|s| check::is_differentiable(s)) {
        for seed in [5, 1005] {
            if let Err(reason) = check::gradient(sample, seed, 1, 1.0) {
                failures.push(format!("{:?}: {reason}", sample.op));
            }
        }
        if let Err(reason) = check::gradient(sample, 9, 2, 1.0) {
            failures.push(format!("second order of {:?}: {reason}", sample.op));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_gradient_that_is_wrong_by_one_percent_is_noticed() {
    let mut noticed: BTreeMap<String, bool> = BTreeMap::new();
    for sample in Op::samples().iter().filter(|s| check::is_differentiable(s)) {
        let caught = check::gradient(sample, 5, 1, 1.01).is_err();
        *noticed.entry(sample.op.name()).or_default() |= caught;
    }
    let missed: Vec<&String> = noticed.iter().filter(|(_, n)| !**n).map(|(name, _)| name).collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
    assert!(noticed.len() >= 30, "only {} operations have a gradient", noticed.len());
}
