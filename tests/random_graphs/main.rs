//! Properties of random graphs: whatever is composed, every device gives what the f64 reference gives, fused or
//! not, simplified or not, under narrow limits too, within bounds that follow from the graph itself
//! (`check::allowed`); and gradients agree with differences.
//!
//! Graphs have numbers, which failures name. `SHADEGRAD_GRAPH=NUMBER`, with the name of the test that failed, runs
//! that one alone and shows every stage of it. `SHADEGRAD_GRAPHS=COUNT` is how many the ignored tests run.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod compose;
#[path = "../harness/mod.rs"]
mod harness;
mod layers;
mod movement;
mod steps;

use compose::{Composition, Size, compose};
use shadegrad::device::{Limits, random};
use shadegrad::graph::{Array, Contents, GraphError, Nodes, Options, check, compile};
use shadegrad::prelude::*;
use std::fmt::Write;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Larger values than this say little about what operations are for.
const LARGEST: f64 = 1e4;

/// A bound of more than this share of a value says little. Where a twentieth of a graph's bounds do, an operation
/// that jumps was met at its jump.
const LOOSE: f64 = 1e-2;

/// What came of many graphs.
#[derive(Default)]
struct Tally {
    graphs: usize,
    /// Graphs with values that aren't finite or too large, or with bounds that say nothing.
    skipped: usize,
    /// Elements, and those of which an error of a thousandth would be noticed.
    elements: usize,
    sharp: usize,
    /// Graphs whose slope was compared with differences.
    sloped: usize,
    failures: Vec<String>,
}

/// A way to compile.
struct Way {
    name: &'static str,
    options: Options,
    /// Whether limits are as narrow as operations of several variables allow.
    narrow: bool,
}

fn way(name: &'static str, change: impl FnOnce(&mut Options)) -> Way {
    let mut options = Options { guard: 16, ..Options::default() };
    change(&mut options);
    Way { name, options, narrow: false }
}

fn ways() -> Vec<Way> {
    vec![
        way("fused", |_| {}),
        way("unfused", |o| o.fuse = false),
        way("not simplified", |o| o.simplify = false),
        way("recomputed", |o| o.recompute = Some(0)),
        Way { narrow: true, ..way("narrow", |_| {}) },
    ]
}

/// How graphs are drawn and run.
struct Plan {
    size: Size,
    /// Whether the device's arithmetic is the host's.
    exact: bool,
    /// How the graph of a number is compiled.
    ways: fn(u32) -> Vec<Way>,
}

/// What a graph's outputs are, and then what its variables become.
fn run(
    device: &Device,
    drawn: &Composition,
    nodes: &Nodes,
    way: &Way,
) -> Result<Vec<Array>, GraphError> {
    let mut limits = device.limits().clone();
    if way.narrow {
        // Attention of four operands, what dropout depends on, and scratch memory.
        limits = Limits { bindings: 7, ..limits };
        let compiled = compile(nodes, &limits, &way.options)?;
        Session::new(&Device::null(limits.clone())).load(compiled)?;
        // Scratch memory in several buffers.
        limits.binding_bytes = 1000;
    }
    let compiled = compile(nodes, &limits, &way.options)?;
    let mut session = Session::new(device);
    let mut loaded = session.load(compiled)?;
    loaded.run(1)?;
    loaded.check_guards()?;
    let mut found = Vec::new();
    for output in 0..nodes.outputs.len() {
        found.push(loaded.read_array(output)?);
    }
    for (variable, _) in &drawn.assigned {
        found.push(session.read_array(variable)?);
    }
    Ok(found)
}

/// Runs one graph in all ways and adds it to the tally.
///
/// # Errors
/// What is wrong, with the graph.
fn try_one(device: &Device, number: u32, plan: &Plan, tally: &mut Tally) -> Result<(), String> {
    tally.graphs += 1;
    let drawn = compose(number, plan.size);
    check_one(device, number, plan, &drawn, tally).map_err(|reason| describe(&drawn, &reason))
}

fn check_one(
    device: &Device,
    number: u32,
    plan: &Plan,
    drawn: &Composition,
    tally: &mut Tally,
) -> Result<(), String> {
    let outputs = drawn.outputs.iter().chain(drawn.gradients.iter().map(|(_, flow)| flow));
    let nodes = drawn.graph.nodes(&outputs.collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    let start = nodes.initial();
    let mut wanted = nodes.clone();
    wanted.outputs.extend(drawn.assigned.iter().map(|(_, value)| value.value()));
    let expected = wanted.interpret(&mut start.clone());
    let values: Vec<f64> = expected.iter().flat_map(|a| &a.data).copied().collect();
    if values.iter().any(|v| !v.is_finite() || v.abs() > LARGEST) {
        tally.skipped += 1;
        return Ok(());
    }
    let bounds = check::allowed(&wanted, &start, &expected, plan.exact);
    let share: Vec<f64> =
        values.iter().zip(bounds.iter().flatten()).map(|(v, b)| b / (1.0 + v.abs())).collect();
    let loose = share.iter().filter(|share| **share > LOOSE).count();
    if share.iter().any(|share| !share.is_finite()) || loose * 20 > share.len() {
        tally.skipped += 1;
        return Ok(());
    }
    tally.elements += share.len();
    tally.sharp += share.iter().filter(|share| **share <= 1e-3).count();
    for way in (plan.ways)(number) {
        let got = run(device, drawn, &nodes, &way).map_err(|e| format!("{}: {e}", way.name))?;
        for (output, ((got, expected), bounds)) in
            got.iter().zip(&expected).zip(&bounds).enumerate()
        {
            let close = |bounds: &[f64]| check::compare(got, expected, bounds);
            if close(bounds).is_err() {
                let wider = || neighbours(&wanted, &start, output, expected, bounds);
                close(&wider()).map_err(|e| format!("{}, output {output}: {e}", way.name))?;
            }
        }
    }
    slope(drawn, &start, number, tally)
}

/// The bounds of an output where it may jump: widened by what becomes of it when inputs move by less than they are
/// rounded. What decides between values that are equal but for rounding (a maximum, an order) is met there, which
/// the few random runs behind a bound may miss. Among such equals slopes cancel to nothing in f64 and to a
/// rounding in f32: what is smaller than 1e-6 is let pass.
fn neighbours(
    nodes: &Nodes,
    start: &Contents,
    output: usize,
    expected: &Array,
    bounds: &[f64],
) -> Vec<f64> {
    let mut wider: Vec<f64> = bounds.iter().map(|bound| bound + 1e-6).collect();
    for round in 0..32 {
        let mut contents = start.clone();
        for (v, id) in nodes.variables.keys().enumerate() {
            let array = contents.get_mut(id).unwrap();
            if array.ty.dtype.loaded() == DType::F32 {
                let moved = |i| 1.0 + 1e-7 * (share_of(round, v, i) - 0.5);
                array.data.iter_mut().enumerate().for_each(|(i, x)| *x *= moved(i));
            }
        }
        let found = &nodes.interpret(&mut contents)[output];
        for ((wide, found), expected) in wider.iter_mut().zip(&found.data).zip(&expected.data) {
            *wide = wide.max(4.0 * (found - expected).abs());
        }
    }
    wider
}

/// Compares the gradients with differences of the loss, in f64 and in a random direction, unless a kink or a jump
/// lies near.
fn slope(
    drawn: &Composition,
    start: &Contents,
    number: u32,
    tally: &mut Tally,
) -> Result<(), String> {
    let flows: Vec<&Tensor> = drawn.gradients.iter().map(|(_, flow)| flow).collect();
    let loss = drawn.graph.nodes(&[&drawn.loss]).map_err(|e| e.to_string())?;
    let nodes = drawn.graph.nodes(&flows).map_err(|e| e.to_string())?;
    // Every variable at some distance into a random direction, seen from a place without ties.
    let at = |h: f64| {
        let mut contents = start.clone();
        for (v, (variable, flow)) in drawn.gradients.iter().enumerate() {
            let array = contents.get_mut(&variable.id()).unwrap();
            let offset = array.data.len() - flow.ty().numel();
            for (i, x) in array.data[offset..].iter_mut().enumerate() {
                *x += 0.01 * share_of(number ^ 77, v, i) + h * (share_of(number, v, i) + 0.5);
            }
        }
        contents
    };
    let mut expected = 0.0;
    for (v, flow) in nodes.interpret(&mut at(0.0)).iter().enumerate() {
        let each = flow.data.iter().enumerate();
        expected += each.map(|(i, g)| g * (share_of(number, v, i) + 0.5)).sum::<f64>();
    }
    let at = |h: f64| loss.interpret(&mut at(h))[0].data[0];
    const H: f64 = 1e-5;
    let (before, here, after) = (at(-H), at(0.0), at(H));
    let (left, right) = ((here - before) / H, (after - here) / H);
    let size = left.abs() + right.abs() + expected.abs() + 1.0;
    let unlike = drawn.words.iter().any(|word| FLAT.iter().any(|name| word.ends_with(name)));
    if unlike || (left - right).abs() > 1e-3 * size {
        return Ok(());
    }
    tally.sloped += 1;
    match ((left + right) / 2.0 - expected).abs() <= 1e-3 * size {
        true => Ok(()),
        false => Err(format!("a slope of {expected}, not {left} or {right}")),
    }
}

/// A number in `0..1` for each element of each variable.
fn share_of(number: u32, variable: usize, element: usize) -> f64 {
    f64::from(random(number ^ (variable as u32) << 20, element as u32)) / 2f64.powi(32)
}

/// Steps through which gradients flow otherwise than differences say.
const FLAT: &[&str] = &["detach", "halves", "embedding", "norm of channels"];

/// A failure with the graph that has it.
fn describe(drawn: &Composition, reason: &str) -> String {
    let mut text = format!("{reason}\n");
    for word in &drawn.words {
        let _ = writeln!(text, "    {word}");
    }
    let gradients = drawn.gradients.iter().map(|(_, flow)| flow);
    let read = drawn.outputs.iter().chain(gradients).map(|y| format!("%{}", y.value().0));
    let _ = writeln!(text, "    read {}", read.collect::<Vec<_>>().join(" "));
    text
}

/// Runs graphs on as many threads as there are cores, each with a device of its own.
fn run_all(device: &(impl Fn() -> Device + Sync), numbers: Range<u32>, plan: &Plan) -> Tally {
    let (total, next) = (Mutex::new(Tally::default()), Mutex::new(numbers));
    let take = || next.lock().unwrap().next();
    let work = || {
        let (device, mut tally) = (device(), Tally::default());
        while let Some(number) = take() {
            let tried =
                catch_unwind(AssertUnwindSafe(|| try_one(&device, number, plan, &mut tally)));
            let result = tried.unwrap_or_else(|_| Err("a panic".to_string()));
            tally.failures.extend(result.err().map(|e| format!("graph {number}: {e}")));
        }
        let mut total = total.lock().unwrap();
        total.graphs += tally.graphs;
        total.skipped += tally.skipped;
        total.elements += tally.elements;
        total.sharp += tally.sharp;
        total.sloped += tally.sloped;
        total.failures.extend(tally.failures);
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

fn from_environment(name: &str) -> Option<u32> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Runs graphs, or the one that the environment names, and judges what came of them.
fn judge(device: impl Fn() -> Device + Sync, numbers: Range<u32>, plan: &Plan) {
    if let Some(number) = from_environment("SHADEGRAD_GRAPH") {
        let drawn = compose(number, plan.size);
        let outputs = drawn.outputs.iter().chain(drawn.gradients.iter().map(|(_, flow)| flow));
        let nodes = drawn.graph.nodes(&outputs.collect::<Vec<_>>()).unwrap();
        let compiled = compile(&nodes, device().limits(), &Options::default()).unwrap();
        compiled.dump.iter().for_each(|(name, text)| println!("{name}\n{text}"));
        try_one(&device(), number, plan, &mut Tally::default()).unwrap();
        return;
    }
    let Tally { graphs, skipped, elements, sharp, sloped, failures } =
        run_all(&device, numbers, plan);
    println!("{graphs} graphs, {skipped} skipped, {sharp} of {elements} sharp, {sloped} sloped");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(skipped * 10 <= graphs, "{skipped} of {graphs} graphs were skipped");
    assert!(sharp * 100 >= elements * 95, "only {sharp} of {elements} elements have sharp bounds");
    assert!(sloped * 4 >= graphs, "slopes of only {sloped} of {graphs} graphs were compared");
}

const SMALL: Size = Size { steps: (3, 8), elements: 200 };

const LONG: Size = Size { steps: (12, 24), elements: 200 };

const WIDE: Size = Size { steps: (3, 6), elements: 4000 };

const ON_THE_CPU: Plan = Plan { size: SMALL, exact: true, ways: |_| ways() };

#[test]
fn random_graphs_on_the_cpu() {
    judge(|| Device::cpu(Some(1)), 0..2000, &ON_THE_CPU);
}

#[test]
fn long_random_graphs_on_the_cpu() {
    judge(|| Device::cpu(Some(1)), 0..200, &Plan { size: LONG, ..ON_THE_CPU });
}

#[test]
fn wide_random_graphs_on_the_cpu() {
    judge(|| Device::cpu(Some(2)), 0..100, &Plan { size: WIDE, ..ON_THE_CPU });
}

#[test]
#[ignore = "takes minutes; SHADEGRAD_GRAPHS says how many"]
fn many_more_random_graphs_on_the_cpu() {
    let count = from_environment("SHADEGRAD_GRAPHS").unwrap_or(100_000);
    for (size, part) in [(SMALL, 1), (LONG, 20), (WIDE, 50)] {
        let numbers = 2000..2000 + count / part;
        judge(|| Device::cpu(Some(2)), numbers, &Plan { size, ..ON_THE_CPU });
    }
}

#[test]
fn threads_do_not_change_a_bit_of_random_graphs() {
    let (one, two) = (Device::cpu(Some(1)), Device::cpu(Some(2)));
    for number in 0..200 {
        let drawn = compose(number, if number % 2 == 0 { SMALL } else { WIDE });
        let nodes = drawn.graph.nodes(&drawn.outputs.iter().collect::<Vec<_>>()).unwrap();
        let bits = |device: &Device| -> Vec<u64> {
            let found = run(device, &drawn, &nodes, &way("fused", |_| {})).unwrap();
            found.iter().flat_map(|a| &a.data).map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(&one), bits(&two), "{}", describe(&drawn, &format!("graph {number}")));
    }
}

fn on_the_adapter(numbers: Range<u32>, size: Size) {
    if harness::adapter().is_none() {
        return;
    }
    let ways = |number| match number % 6 {
        0 => vec![way("unfused", |o| o.fuse = false)],
        1 => vec![way("not simplified", |o| o.simplify = false)],
        2 => vec![way("in three parts", |o| o.splits = Some(3))],
        _ => vec![way("fused", |_| {})],
    };
    judge(|| harness::adapter().unwrap(), numbers, &Plan { size, exact: false, ways });
}

#[test]
fn random_graphs_on_the_adapter() {
    on_the_adapter(0..90, Size { steps: (3, 5), ..SMALL });
}

#[test]
fn wide_random_graphs_on_the_adapter() {
    on_the_adapter(0..10, WIDE);
}

#[test]
#[ignore = "takes minutes; SHADEGRAD_GRAPHS says how many"]
fn many_more_random_graphs_on_the_adapter() {
    let count = from_environment("SHADEGRAD_GRAPHS").unwrap_or(1000);
    on_the_adapter(90..90 + count, SMALL);
    on_the_adapter(10..10 + count / 4, WIDE);
}
