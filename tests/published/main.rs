//! Published vectors: what every operation must compute, on every device, as PyTorch computes it.
//!
//! `tests/vectors/index.json` lists cases by operation key. Each has inputs, the outputs that
//! PyTorch computed of them in f64, and the derivative of `sum(cotangent * output)` with respect
//! to the inputs. The modules below `ops` say how each key and its arguments are written here, so
//! they are also a dictionary from PyTorch's terms to this library's.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod big;
#[path = "../harness/mod.rs"]
mod harness;
mod layers;
mod ops;
mod optim;
mod outside;
mod random;
mod refused;
mod runner;
mod sched;
mod train;
mod vectors;

use shadegrad::device::Device;

/// Cases, by id or by operation key, that can't be written with this library, and why. They are
/// run all the same: one that agrees has to leave the table.
pub(crate) const UNSUPPORTED: &[(&str, &str)] = &[];

/// Tensors that are zero but for what cancels, so that PyTorch's own error says nothing about them: for
/// these its test default for elements near zero holds, `atol` 1e-5 (the second form of the index's rule).
pub(crate) const CANCELLED: &[(&str, &str, &str)] = &[
    ("layout_batch_norm_train.006", "out.y", "a sum of normalised numbers, which is zero"),
    (
        "layout_group_norm_1.006",
        "grad.x",
        "the slope of a sum of normalised numbers, which is zero",
    ),
];

/// Two tests for each group of cases, so that a failure says which group and which device.
macro_rules! groups {
    ($($group:ident: $on_the_cpu:ident, $on_the_adapter:ident;)*) => {
        /// The groups that are run case by case.
        const GROUPS: &[&str] = &[$(stringify!($group)),*];

        $(
            #[test]
            fn $on_the_cpu() {
                runner::run(stringify!($group), &Device::cpu(Some(2)));
            }

            #[test]
            fn $on_the_adapter() {
                if let Some(device) = harness::adapter() {
                    runner::run(stringify!($group), &device);
                }
            }
        )*
    };
}

groups! {
    elementwise_unary: elementwise_unary_on_the_cpu, elementwise_unary_on_the_adapter;
    elementwise_binary: elementwise_binary_on_the_cpu, elementwise_binary_on_the_adapter;
    reduce: reduce_on_the_cpu, reduce_on_the_adapter;
    shape: shape_on_the_cpu, shape_on_the_adapter;
    layout: layout_on_the_cpu, layout_on_the_adapter;
    matmul: matmul_on_the_cpu, matmul_on_the_adapter;
    conv: conv_on_the_cpu, conv_on_the_adapter;
    pool: pool_on_the_cpu, pool_on_the_adapter;
    norm: norm_on_the_cpu, norm_on_the_adapter;
    modules: modules_on_the_cpu, modules_on_the_adapter;
    attention: attention_on_the_cpu, attention_on_the_adapter;
    loss: loss_on_the_cpu, loss_on_the_adapter;
}

/// The same for groups that aren't operations: each says what differs.
macro_rules! runs {
    ($($group:ident: $on_the_cpu:ident, $on_the_adapter:ident;)*) => {
        /// The groups that are run by modules of their own.
        const RUNS: &[&str] = &[$($group::GROUP),*];

        $(
            #[test]
            fn $on_the_cpu() {
                agrees($group::failures, &Device::cpu(Some(2)));
            }

            #[test]
            fn $on_the_adapter() {
                if let Some(device) = harness::adapter() {
                    agrees($group::failures, &device);
                }
            }
        )*
    };
}

runs! {
    train: train_on_the_cpu, train_on_the_adapter;
    optim: optim_on_the_cpu, optim_on_the_adapter;
    sched: sched_on_the_cpu, sched_on_the_adapter;
}

fn agrees(failures: fn(&Device) -> Vec<String>, device: &Device) {
    let failures = failures(device);
    assert!(failures.is_empty(), "on {}:\n{}", device.info(), failures.join("\n"));
}

#[test]
fn every_case_of_the_index_belongs_to_a_test() {
    let index = vectors::index();
    let cases = index["cases"].as_array().unwrap();
    assert_eq!(Some(cases.len() as u64), index["n_cases"].as_u64());
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for case in cases {
        let group = case["file"].as_str().unwrap().strip_suffix(".safetensors").unwrap();
        let here = big::GROUP == group || RUNS.contains(&group) || GROUPS.contains(&group);
        assert!(here, "{}: nothing runs group `{group}`", case["id"]);
        *counts.entry(case["op"].as_str().unwrap()).or_default() += 1;
    }
    for (op, count) in index["counts"].as_object().unwrap() {
        assert_eq!(counts.get(op.as_str()).copied(), count.as_u64(), "cases of {op}");
    }
}
