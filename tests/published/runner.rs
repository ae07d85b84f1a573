//! Records cases, many to a program, runs them on a device, and compares what they compute.

use crate::layers;
use crate::ops::{self, Call};
use crate::vectors::{self, Case, Expected};
use crate::{CANCELLED, UNSUPPORTED};
use shadegrad::device::{DType, Device};
use shadegrad::graph::{Array, Graph, Session, Tensor, check};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Cases in one program: compiling one of many outputs is faster than many of few.
const BATCH: usize = 40;

/// Lines of a report that are shown.
const SHOWN: usize = 60;

const EPS: f64 = f32::EPSILON as f64;

/// What a case computed: `out.<output>` and `grad.<input>`.
type Results = HashMap<String, Array>;

/// Runs every case of a group and reports all that differ in one panic.
pub(crate) fn run(group: &str, device: &Device) {
    let mut report = Report::default();
    let mut cases = vectors::load(group);
    cases.retain(|case| !layers::is_layer(case));
    let total = cases.len();
    let (listed, cases): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(is_listed);
    for case in &listed {
        report.unsupported(case, attempt(device, std::slice::from_ref(case)));
    }
    for batch in cases.chunks(BATCH) {
        match attempt(device, batch) {
            Ok(results) => {
                for (case, got) in batch.iter().zip(&results) {
                    report.settle(case, differences(case, got));
                }
            }
            Err(reason) => report.apart(device, batch, &reason),
        }
    }
    report.finish(group, device, total);
}

fn is_listed(case: &Case) -> bool {
    UNSUPPORTED.iter().any(|(name, _)| *name == case.id || *name == case.op)
}

/// [`execute`], with a panic as an error like others, so that the case it comes from is named.
fn attempt(device: &Device, cases: &[Case]) -> Result<Vec<Results>, String> {
    catch_unwind(AssertUnwindSafe(|| execute(device, cases))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("without words")))
    })
}

/// Computes all outputs and gradients of cases in one program.
fn execute(device: &Device, cases: &[Case]) -> Result<Vec<Results>, String> {
    let graph = Graph::new();
    let recorded =
        cases.iter().map(|case| record(&graph, case)).collect::<Result<Vec<_>, String>>()?;
    let outputs: Vec<&Tensor> = recorded.iter().flatten().map(|(_, tensor)| tensor).collect();
    let mut session = Session::new(device);
    let mut loaded = session.compile(&graph, &outputs).map_err(|e| e.to_string())?;
    loaded.run(1).map_err(|e| e.to_string())?;
    let mut number = 0..;
    let mut read = |key: &str| -> Result<(String, Array), String> {
        let array = loaded.read_array(number.next().unwrap()).map_err(|e| e.to_string())?;
        Ok((key.to_string(), array))
    };
    let mut results = Vec::new();
    for case in &recorded {
        results.push(case.iter().map(|(key, _)| read(key)).collect::<Result<Results, String>>()?);
    }
    Ok(results)
}

/// Records a case: its outputs, and the gradients of `sum(cotangent * output)`.
fn record(graph: &Graph, case: &Case) -> Result<Vec<(String, Tensor)>, String> {
    let call = Call::new(graph, case);
    let outputs = ops::build(&call).ok_or_else(|| format!("`{}` has no builder", case.op))?;
    let mut recorded: Vec<(String, Tensor)> =
        outputs.iter().map(|(name, tensor)| (format!("out.{name}"), tensor.clone())).collect();
    let mut loss = graph.full(&[], DType::F32, 0.0);
    for (name, cotangent) in &case.cotangents {
        let output = outputs.iter().find(|(output, _)| output == name);
        let (_, y) = output.ok_or_else(|| format!("there is no output `{name}`"))?;
        loss = loss + (y * graph.variable(&check::variable("cotangent", cotangent))).sum_all();
    }
    // Functions such as floor are flat everywhere, and a loss must depend on what it is
    // differentiated by: this adds zero to the gradients.
    for expected in &case.gradients {
        loss = loss + call.input(&expected.name).sum_all() * 0.0;
    }
    let (reached, empty): (Vec<&Expected>, Vec<&Expected>) = (case.gradients.iter())
        .partition(|expected| graph.depends(&loss, call.input(&expected.name)));
    let wanted: Vec<&Tensor> = reached.iter().map(|e| call.input(&e.name)).collect();
    let gradients = if wanted.is_empty() { vec![] } else { graph.gradients(&loss, &wanted) };
    let key = |expected: &Expected| format!("grad.{}", expected.name);
    recorded.extend(reached.into_iter().map(key).zip(gradients));
    // A sum over no elements is a constant: the gradient of an input without elements is itself.
    recorded.extend(empty.into_iter().map(|e| (key(e), call.input(&e.name).zeros_like())));
    Ok(recorded)
}

/// What a case computed otherwise than it must, a line for each tensor.
fn differences(case: &Case, got: &Results) -> Vec<String> {
    let outputs = case.outputs.iter().map(|e| (format!("out.{}", e.name), e));
    let gradients = case.gradients.iter().map(|e| (format!("grad.{}", e.name), e));
    let line = |(key, expected): (String, &Expected)| {
        let reason = match got.get(&key) {
            Some(array) => {
                let cancelled =
                    CANCELLED.iter().any(|(id, name, _)| *id == case.id && *name == key);
                compare(array, expected, &allowed(expected, cancelled)).err()?
            }
            None => "it is not computed".to_string(),
        };
        Some(format!("{} {key}: {reason}", case.id))
    };
    outputs.chain(gradients).filter_map(line).collect()
}

/// How far each element may be off: eight times as far as PyTorch's own f32 result, or four units
/// in the last place of the largest element. Without such a result, and for what is zero but for what
/// cancels, PyTorch's test default.
pub(crate) fn allowed(expected: &Expected, cancelled: bool) -> Vec<f64> {
    let data = &expected.array.data;
    if expected.array.ty.dtype != DType::F32 {
        return vec![0.0; data.len()];
    }
    let Some(anchor) = expected.anchor.filter(|_| !cancelled) else {
        return data.iter().map(|e| default_tolerance(*e)).collect();
    };
    let strict = (8.0 * anchor.max_abs).max(4.0 * EPS * anchor.ref_max);
    vec![strict; data.len()]
}

/// The strict rule without PyTorch's own result: four units in the last place of the largest element.
pub(crate) fn strict(expected: &Array) -> Vec<f64> {
    let largest = expected.data.iter().fold(0f64, |largest, e| largest.max(e.abs()));
    vec![4.0 * EPS * largest; expected.data.len()]
}

/// What PyTorch's tests allow of an f32 result: `rtol` 1.3e-6 and `atol` 1e-5.
pub(crate) fn default_tolerance(expected: f64) -> f64 {
    1e-5 + 1.3e-6 * expected.abs()
}

/// Compares element by element, NaN with NaN; says how many differ, and the first.
pub(crate) fn compare(got: &Array, expected: &Expected, allowed: &[f64]) -> Result<(), String> {
    let expected = &expected.array;
    if got.ty != expected.ty {
        return Err(format!("{} where {} is expected", got.ty, expected.ty));
    }
    let same = |g: f64, e: f64, allowed: f64| {
        g == e || (e.is_finite() && (g - e).abs() <= allowed) || (g.is_nan() && e.is_nan())
    };
    let pairs = got.data.iter().zip(&expected.data).zip(allowed).enumerate();
    let mut wrong = pairs.filter(|&(_, ((&g, &e), &allowed))| !same(g, e, allowed));
    let Some((i, ((g, e), allowed))) = wrong.next() else {
        return Ok(());
    };
    let count = 1 + wrong.count();
    let more = format!("{count} of {} differ", got.data.len());
    Err(format!("element {i} is {g:e}, not {e:e}, {allowed:.1e} allowed; {more}"))
}

/// What came of a group's cases.
#[derive(Default)]
struct Report {
    cases: usize,
    informational: usize,
    agreeing: usize,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    /// Counts a case that differs in `wrong`.
    fn settle(&mut self, case: &Case, wrong: Vec<String>) {
        self.cases += 1;
        if case.is_informational() {
            self.informational += 1;
            self.agreeing += usize::from(wrong.is_empty());
            self.notes.extend(wrong);
        } else {
            self.failures.extend(wrong);
        }
    }

    /// Runs the cases of a batch that failed one by one, so that those that fail are named.
    fn apart(&mut self, device: &Device, batch: &[Case], reason: &str) {
        let mut refused = false;
        for case in batch {
            let wrong = match attempt(device, std::slice::from_ref(case)) {
                Ok(results) => differences(case, &results[0]),
                Err(reason) => {
                    refused = true;
                    vec![format!("{}: {reason}", case.id)]
                }
            };
            self.settle(case, wrong);
        }
        if !refused {
            let (first, last) = (&batch[0].id, &batch[batch.len() - 1].id);
            self.failures.push(format!("{first} to {last} fail only together: {reason}"));
        }
    }

    /// Counts a case that is listed as unsupported, and complains if it is not.
    fn unsupported(&mut self, case: &Case, outcome: Result<Vec<Results>, String>) {
        self.cases += 1;
        if outcome.is_ok_and(|results| differences(case, &results[0]).is_empty()) {
            self.failures.push(format!("{} is listed as unsupported, but agrees", case.id));
        }
    }

    fn finish(self, group: &str, device: &Device, total: usize) {
        let Report { cases, informational, agreeing, notes, failures } = self;
        println!("{group} on {}: {cases} cases", device.info());
        println!("{agreeing} of {informational} with kinks and special values agree");
        for note in &notes {
            println!("  {note}");
        }
        assert_eq!(cases, total, "cases of {group} that were run");
        let shown = failures.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            failures.is_empty(),
            "{group} on {}: {} tensors or cases of {cases} cases differ:\n{shown}",
            device.info(),
            failures.len()
        );
    }
}
