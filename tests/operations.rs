//! Every operation on its samples: values on every device, gradients in f64, and proof that the
//! checks can fail.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Device, Vectors};
use shadegrad::graph::check::{self, Settings};
use shadegrad::graph::ops::Op;
use shadegrad::graph::{Array, Graph, Options, Tensor};
use shadegrad::operations::{sections, table};
use std::collections::BTreeMap;

fn check_all(device: &Device, settings: &Settings) {
    let (mut failures, mut count) = (Vec::new(), 0);
    check::suite(device, &sections(), settings, |checked| {
        count += checked.cases;
        failures.extend(checked.failures.iter().map(|f| format!("{}: {f}", checked.name)));
    });
    assert!(failures.is_empty(), "on {}:\n{}", device.info(), failures.join("\n"));
    let least = if settings.part.is_none() { 700 } else { 50 };
    assert!(count > least, "only {count} samples and cases ran");
}

fn guarded() -> Settings {
    Settings { options: Options { guard: 64, ..Options::default() }, part: None }
}

#[test]
fn every_operation_has_samples() {
    let sampled: Vec<String> = Op::samples().iter().map(|s| format!("{:?}", s.op)).collect();
    for name in Op::names().iter().filter(|name| **name != "Leaf") {
        let of = |debug: &&String| debug.split(['(', ' ', '{']).next() == Some(name);
        assert!(sampled.iter().any(|debug| of(&debug)), "{name} has no sample");
    }
}

#[test]
fn every_function_has_a_case_and_documentation() {
    let mut missing = Vec::new();
    for section in sections() {
        let entries = section.entries();
        for entry in &entries {
            let refused = entry.about.starts_with("Refused");
            if !refused && !section.cases.iter().any(|case| case.name == entry.name) {
                missing.push(format!("{} of {} has no case", entry.name, section.title));
            }
        }
        for case in &section.cases {
            if !entries.iter().any(|entry| entry.name == case.name) {
                missing.push(format!("{} of {} has no documentation", case.name, section.title));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_page_of_operations_is_not_stale() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ops.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, table()).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
    assert!(kept == table(), "docs/ops.md is stale; UPDATE=1 writes the new one");
}

#[test]
fn values_and_gradients_on_the_cpu() {
    check_all(&Device::cpu(Some(2)), &guarded());
}

#[test]
fn values_and_gradients_on_the_cpu_with_narrower_vectors_and_with_more_threads_than_cores() {
    for vectors in [Vectors::Avx2, Vectors::None] {
        check_all(&Device::cpu_with(Some(16), vectors), &guarded());
    }
}

/// What outputs are, with the same bits from any number of threads.
fn alike(graph: &Graph, outputs: &[&Tensor], case: &str) -> Vec<Array> {
    let run = |threads| {
        let device = Device::cpu(Some(threads));
        harness::run_guarded(&device, graph, outputs, Options::default(), 1).1
    };
    let expected = run(64);
    for threads in [1, 2, 5] {
        let same = harness::bits(&run(threads)) == harness::bits(&expected);
        assert!(same, "{case}, {threads} threads");
    }
    expected
}

#[test]
fn columns_are_summed_alike_by_any_number_of_threads() {
    // Fewer threads take more columns side by side.
    for shape in [[37, 1936], [70, 4096]] {
        let graph = Graph::new();
        let x = graph.variable(&harness::numbers("x", &shape, 1));
        let outputs = [x.sum(&[0]), x.exp().sum(&[0])];
        let outputs: Vec<&Tensor> = outputs.iter().chain([&x]).collect();
        let expected = alike(&graph, &outputs, &format!("{shape:?}"));
        let [sums, exponentials, x] = &expected[..] else { panic!("three outputs") };
        for column in 0..shape[1] {
            let values: Vec<f64> = (0..shape[0]).map(|row| x.at(&[row, column])).collect();
            let sum: f64 = values.iter().sum();
            assert!((sums.at(&[column]) - sum).abs() < 1e-5, "{shape:?}, column {column}");
            let sum_exp: f64 = values.iter().map(|value| value.exp()).sum();
            assert!((exponentials.at(&[column]) - sum_exp).abs() < 1e-4, "column {column}");
        }
    }
}

#[test]
fn rows_are_reduced_alike_by_any_number_of_threads() {
    // Fewer threads take more rows of each task; of the last shape a row is longer than what is asked for ahead.
    for shape in [[3001, 37], [70, 4096], [3, 100_000]] {
        let graph = Graph::new();
        let x = graph.variable(&harness::numbers("x", &shape, 1));
        let outputs = [x.sum(&[1]), x.amax(&[1]), x.log_softmax(-1), (&x * 4.0).softmax(-1)];
        let outputs: Vec<&Tensor> = outputs.iter().chain([&x]).collect();
        let expected = alike(&graph, &outputs, &format!("{shape:?}"));
        let [sums, largest, logs, shares, x] = &expected[..] else { panic!("five outputs") };
        for row in 0..shape[0] {
            let values: Vec<f64> = (0..shape[1]).map(|column| x.at(&[row, column])).collect();
            let sum: f64 = values.iter().sum();
            let most = values.iter().copied().fold(f64::MIN, f64::max);
            assert!((sums.at(&[row]) - sum).abs() < 1e-4, "{shape:?}, row {row}");
            assert_eq!(largest.at(&[row]), most, "{shape:?}, row {row}");
            let log = values.iter().map(|value| (value - most).exp()).sum::<f64>().ln() + most;
            assert!((logs.at(&[row, 0]) - (values[0] - log)).abs() < 1e-5, "{shape:?}, row {row}");
            let powers: Vec<f64> =
                values.iter().map(|value| (4.0 * (value - most)).exp()).collect();
            let all: f64 = powers.iter().sum();
            for (column, power) in powers.iter().enumerate() {
                let (share, found) = (power / all, shares.at(&[row, column]));
                assert!(
                    (found - share).abs() < 1e-5 * share,
                    "{shape:?}, {row}, {column}: {found} for {share}"
                );
            }
        }
    }
}

#[test]
fn products_are_right_and_alike_by_any_number_of_threads() {
    // The sizes of parts depend on the threads: of whole rows, and of rows and columns where the right side is large.
    let shapes = [[2001, 130, 67], [301, 517, 523], [1, 700, 1600], [530, 1000, 1], [9, 3, 700]];
    for [m, n, k] in shapes {
        for [turned, alone] in [[false, false], [false, true], [true, false], [true, true]] {
            let graph = Graph::new();
            let shape = if turned { [k, m] } else { [m, k] };
            let a = graph.variable(&harness::numbers("a", &shape, 1));
            let b = graph.variable(&harness::numbers("b", &[k, n], 2));
            let left = if turned { a.permute(&[1, 0]) } else { a.clone() };
            let product = left.matmul(&b);
            let result = if alone { product } else { (product + 1.0).relu() };
            let case = format!("[{m}, {k}] x [{k}, {n}], transposed: {turned}, alone: {alone}");
            let expected = alike(&graph, &[&result, &a, &b], &case);
            let [result, a, b] = &expected[..] else { panic!("three outputs") };
            for row in 0..m {
                for col in 0..n {
                    let place = |step| if turned { [step, row] } else { [row, step] };
                    let sum: f64 = (0..k).map(|step| a.at(&place(step)) * b.at(&[step, col])).sum();
                    let expected = if alone { sum } else { (sum + 1.0).max(0.0) };
                    let off = (result.at(&[row, col]) - expected).abs();
                    assert!(off < 1e-4, "{case}: {row}, {col}");
                }
            }
        }
    }
}

#[test]
fn values_and_gradients_on_the_adapter() {
    let Some(device) = harness::adapter() else {
        return;
    };
    check_all(&device, &guarded());
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
        // Recurrent layers say that they are differentiated once.
        let twice = !matches!(sample.op, Op::Recurrent(_));
        if twice && let Err(reason) = check::gradient(sample, 9, 2, 1.0) {
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
