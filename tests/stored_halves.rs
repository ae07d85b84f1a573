//! What waits in memory as halves: every family of kernels reads it and writes it, to the bit.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{DType, Device, DeviceClass, Literal, Operand, Program};
use shadegrad::graph::catalog::Case;
use shadegrad::graph::check::{draw, variable};
use shadegrad::graph::{Array, Compiled, Graph, Options, Session, Tensor, Variable, compile};
use shadegrad::operations::sections;
use std::collections::{BTreeMap, BTreeSet};

/// The nearest half as a float.
fn nearest(value: f64) -> f64 {
    Literal::of(DType::F16, value).value()
}

/// Programs of each family that run on an adapter, where shaders take long to compile.
const ENOUGH: usize = 6;

/// How many programs of each family have read (or written) halves in scratch memory so far.
type Seen = BTreeMap<&'static str, usize>;

/// Counts a program, and says whether it has a family that hasn't been seen often.
fn is_new(seen: &mut Seen, program: &Program, written: bool) -> bool {
    let mut families = BTreeSet::new();
    for kernel in &program.kernels {
        let does = |(number, operand): (usize, &Operand)| {
            let (reads, writes) = kernel.access(number);
            let scratch = !program.buffers[operand.buffer].external;
            operand.dtype == DType::F16 && scratch && if written { writes } else { reads }
        };
        if kernel.operands.iter().enumerate().any(does) {
            families.insert(kernel.body.family());
        }
    }
    let count = |family| {
        let count = seen.entry(family).or_default();
        *count += 1;
        *count
    };
    families.into_iter().map(count).filter(|count| *count <= ENOUGH).count() > 0
}

/// A graph in which dropout drops, always the same.
fn training() -> Graph {
    Graph::training(&Variable::word("seed", 7), &Variable::word("step", 3))
}

/// The inputs of a case, floats rounded to halves.
fn inputs(case: &Case, seed: u32) -> Vec<Array> {
    let mut arrays: Vec<Array> =
        case.inputs.iter().zip(seed..).map(|(input, n)| draw(input, n)).collect();
    for array in arrays.iter_mut().filter(|array| array.ty.dtype == DType::F32) {
        array.data.iter_mut().for_each(|value| *value = nearest(*value));
    }
    arrays
}

/// Runs every case without and with halves, recorded by `outputs`, and compares by `agree`, which is told whether
/// anything is a half. The families that have read (or written) halves must be these.
fn every_case(
    options: &Options,
    written: bool,
    families: &[&str],
    outputs: impl Fn(&Case, &Graph, &[Array], bool) -> Vec<Tensor>,
    agree: impl Fn(&Array, &Array, bool) -> bool,
) {
    for (device, _) in harness::devices() {
        let (mut seen, mut different) = (Seen::new(), vec![]);
        for (number, case) in sections().iter().flat_map(|s| &s.cases).enumerate() {
            let arrays = inputs(case, 31 + number as u32);
            let recorded = |half: bool| {
                let graph = training();
                let outputs = outputs(case, &graph, &arrays, half);
                (graph, outputs)
            };
            let ((floats, float), (halves, half)) = (recorded(false), recorded(true));
            // A program for each, so that it is known of each whether anything waits.
            for (float, half) in float.iter().zip(&half) {
                let program = |graph: &Graph, output: &Tensor| {
                    compile(&graph.nodes(&[output]).unwrap(), device.limits(), options).unwrap()
                };
                let half = program(&halves, half);
                let new = is_new(&mut seen, &half.program, written);
                if device.info().class != DeviceClass::Cpu && !new {
                    continue;
                }
                let any = half.report.slots.iter().any(|slot| slot.halved);
                let float = program(&floats, float);
                let (float, half) = (run(&device, float), run(&device, half));
                if !agree(&float, &half, any) {
                    different.push(case.name);
                }
            }
        }
        assert!(different.is_empty(), "on {}: {different:?}", device.info());
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), families, "on {}", device.info());
    }
}

fn run(device: &Device, compiled: Compiled) -> Array {
    let mut loaded = Session::new(device).load(compiled).unwrap();
    loaded.run(1).unwrap();
    loaded.check_guards().unwrap();
    loaded.read_array(0).unwrap()
}

fn same(a: &Array, b: &Array) -> bool {
    let equal = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    a.ty == b.ty && a.data.iter().zip(&b.data).all(equal)
}

#[test]
fn every_family_reads_halves_as_if_they_were_floats() {
    let options = Options { fuse: false, simplify: false, guard: 32, ..Options::default() };
    // Inputs that are computed, so that they wait in memory.
    let outputs = |case: &Case, graph: &Graph, arrays: &[Array], half: bool| {
        let read = |(number, array): (usize, &Array)| {
            let float = array.ty.dtype == DType::F32;
            let mut stored = array.clone();
            stored.data.iter_mut().filter(|_| float).for_each(|value| *value = -*value);
            let stored = graph.variable(&variable(&format!("x{number}"), &stored));
            match (float, half) {
                (true, true) => graph.autocast(|| -&stored),
                (true, false) => -&stored,
                (false, _) => stored,
            }
        };
        let inputs: Vec<Tensor> = arrays.iter().enumerate().map(read).collect();
        (case.build)(graph, &inputs)
    };
    let families = [
        "attention",
        "conv",
        "map",
        "matmul",
        "merge",
        "recurrent",
        "rows",
        "scan",
        "scatter",
        "window",
    ];
    every_case(&options, false, &families, outputs, |float, half, _| same(float, half));
}

#[test]
fn every_family_writes_the_nearest_halves() {
    let options = Options { simplify: false, guard: 32, ..Options::default() };
    let outputs = |case: &Case, graph: &Graph, arrays: &[Array], half: bool| {
        let inputs: Vec<Tensor> = (arrays.iter().enumerate())
            .map(|(n, array)| graph.variable(&variable(&format!("x{n}"), array)))
            .collect();
        let results = (case.build)(graph, &inputs);
        let floats = results.iter().filter(|y| y.dtype() == DType::F32);
        let turned = floats.map(|y| {
            let kept = if half { graph.autocast(|| y * 1.0) } else { y * 1.0 };
            // Read at other points, so that it has to wait in memory.
            (0..kept.shape().len()).fold(kept, |kept, axis| kept.flip(axis)).abs()
        });
        turned.collect()
    };
    // Scans write none, and pointwise kernels move into their readers: they write those that the other test reads.
    let families =
        ["attention", "conv", "matmul", "merge", "recurrent", "rows", "scatter", "window"];
    every_case(&options, true, &families, outputs, |float, half, any| {
        let rounded = float.data.iter().map(|&v| nearest(v)).collect();
        let rounded = Array { data: rounded, ..float.clone() };
        if any { same(&rounded, half) } else { same(float, half) }
    });
}
