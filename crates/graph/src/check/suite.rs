//! The suite: every operation on its samples and every function of the catalog on its cases, on a device,
//! values and gradients, against the f64 reference.

use super::gradient::directional;
use super::{allowed, compare, draw, record, tolerance};
use crate::catalog::{Case, Section};
use crate::ops::{CustomOperation, Op, Sample, SampleInput, Scalar};
use crate::{Array, Graph, GraphError, Options, Session, Tensor, Variable};
use shadegrad_device::{DType, Device, DeviceClass};
use std::collections::BTreeMap;
use std::time::Instant;

/// How the suite runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Optimisations.
    pub options: Options,
    /// Of all samples and cases only those whose number leaves this rest when divided by the other number:
    /// `(rest, divisor)`.
    pub part: Option<(usize, usize)>,
}

impl Settings {
    fn takes(&self, number: usize) -> bool {
        self.part.is_none_or(|(rest, divisor)| number % divisor == rest)
    }
}

/// What was found about one operation or function.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Samples or cases that ran.
    pub cases: usize,
    /// The largest error of a value as a share of what is allowed.
    pub value: f64,
    /// The same of a gradient; `None` if it has none.
    pub gradient: Option<f64>,
    /// Milliseconds it took, with compiling.
    pub milliseconds: f64,
    /// What is wrong.
    pub failures: Vec<String>,
}

/// Whether a device's arithmetic is the host's, which rounds correctly and has accurate functions.
fn is_exact(device: &Device) -> bool {
    device.info().class == DeviceClass::Cpu
}

/// The largest error as a share of what is allowed; the comparison's message if one is over.
fn share(got: &Array, expected: &Array, allowed: &[f64]) -> (f64, Option<String>) {
    let each = got.data.iter().zip(&expected.data).zip(allowed);
    let largest = each
        .map(|((g, e), t)| {
            let error = (g - e).abs();
            let same = g == e || g.is_nan() && e.is_nan() || error <= *t && *t == f64::INFINITY;
            if same { 0.0 } else { error / t.max(f64::MIN_POSITIVE) }
        })
        .fold(0.0, f64::max);
    (largest, compare(got, expected, allowed).err())
}

/// Runs outputs of a graph on a device.
fn run(
    device: &Device,
    graph: &Graph,
    outputs: &[&Tensor],
    options: &Options,
) -> Result<Vec<Array>, GraphError> {
    let mut session = Session::new(device);
    let mut loaded = session.compile_with(graph, outputs, options)?;
    loaded.run(1)?;
    loaded.check_guards()?;
    (0..outputs.len()).map(|number| loaded.read_array(number)).collect()
}

/// Checks an operation's samples: values on the device, all of them in one program. Gradients are made of other
/// operations, so it is enough that they agree with differences in f64 (see [`super::gradient`]).
pub fn samples(device: &Device, name: &str, samples: &[Sample], settings: &Settings) -> Checked {
    let begun = Instant::now();
    let mut checked = Checked::new(name);
    let graph = Graph::new();
    let recorded: Vec<(&Sample, Tensor, Vec<Array>)> = (samples.iter().enumerate())
        .filter(|(number, _)| settings.takes(*number))
        .map(|(number, sample)| {
            let (y, inputs) = record(&graph, sample, 77 + 13 * number as u32);
            (sample, y, inputs)
        })
        .collect();
    let outputs: Vec<&Tensor> = recorded.iter().map(|(_, y, _)| y).collect();
    checked.cases = outputs.len();
    if outputs.is_empty() {
        return checked;
    }
    match run(device, &graph, &outputs, &settings.options) {
        Err(error) => checked.failures.push(error.to_string()),
        Ok(found) => {
            for ((sample, y, inputs), got) in recorded.iter().zip(&found) {
                let inputs: Vec<&Array> = inputs.iter().collect();
                let expected = sample.op.reference(&inputs, &y.ty());
                let allowed = tolerance(&sample.op, &inputs, &expected, is_exact(device));
                let (largest, failure) = share(got, &expected, &allowed);
                checked.value = checked.value.max(largest);
                let types: Vec<_> = inputs.iter().map(|a| a.ty.to_string()).collect();
                checked.failures.extend(
                    failure.map(|f| format!("{:?} of {}: {f}", sample.op, types.join(", "))),
                );
            }
        }
    }
    checked.milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    checked
}

/// Checks a case of a function: values and gradients on the device, and the gradient against differences.
pub fn case(device: &Device, case: &Case, seed: u32, settings: &Settings) -> Checked {
    let begun = Instant::now();
    let mut checked = Checked { cases: 1, ..Checked::new(case.name) };
    if let Err(reason) = case_on(device, case, seed, settings, &mut checked) {
        checked.failures.push(reason);
    }
    if case.flat.is_none() {
        let arrays: Vec<Array> = case.inputs.iter().zip(seed..).map(|(i, n)| draw(i, n)).collect();
        if let Err(reason) = directional(&training(), &arrays, seed, 1, case.build) {
            checked.failures.push(format!("against differences: {reason}"));
        }
    }
    checked.milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    checked
}

/// A graph in which dropout drops, always the same.
fn training() -> Graph {
    Graph::training(&Variable::word("seed", 7), &Variable::word("step", 3))
}

fn case_on(
    device: &Device,
    case: &Case,
    seed: u32,
    settings: &Settings,
    checked: &mut Checked,
) -> Result<(), String> {
    let graph = training();
    let (inputs, values) = case.record(&graph, seed);
    let mut outputs: Vec<&Tensor> = values.iter().collect();
    let mut flows = Vec::new();
    if case.flat.is_none() {
        let mut loss = graph.zeros(&[]);
        for (y, number) in values.iter().zip(0..).filter(|(y, _)| y.dtype().loaded() == DType::F32)
        {
            let weight = draw(&SampleInput::float(&y.shape(), 0.5, 1.5), seed ^ 0xC0 ^ number);
            let weight = graph.variable(&super::variable("c", &weight));
            loss = loss + (y * weight).sum_all();
        }
        let wanted: Vec<&Tensor> =
            inputs.iter().filter(|x| x.dtype() == DType::F32 && graph.depends(&loss, x)).collect();
        flows = graph.gradients(&loss, &wanted);
    }
    outputs.extend(&flows);
    let nodes = graph.nodes(&outputs).map_err(|error| error.to_string())?;
    let start = nodes.initial();
    let expected = nodes.interpret(&mut start.clone());
    let bounds = allowed(&nodes, &start, &expected, is_exact(device));
    let found =
        run(device, &graph, &outputs, &settings.options).map_err(|error| error.to_string())?;
    for (number, ((got, expected), bounds)) in found.iter().zip(&expected).zip(&bounds).enumerate()
    {
        let (largest, failure) = share(got, expected, bounds);
        let what = match number.checked_sub(values.len()) {
            None => {
                checked.value = checked.value.max(largest);
                format!("result {number}")
            }
            Some(gradient) => {
                checked.gradient = Some(checked.gradient.unwrap_or(0.0).max(largest));
                format!("gradient {gradient}")
            }
        };
        checked.failures.extend(failure.map(|failure| format!("{what}: {failure}")));
    }
    Ok(())
}

/// Checks an operation that you wrote: values on the device on the ranges it names, gradients of first and second
/// order against differences, and that a gradient wrong by a hundredth would be noticed.
///
/// # Errors
/// All that is wrong, a line each.
pub fn custom(device: &Device, operation: &'static CustomOperation) -> Result<(), String> {
    let name = operation.function.name;
    operation.function.check()?;
    if operation.domains.len() != operation.function.arity {
        let (domains, arity) = (operation.domains.len(), operation.function.arity);
        return Err(format!("`{name}` names {domains} ranges for {arity} arguments"));
    }
    let all = Scalar::Custom(operation).samples();
    let mut failures = samples(device, name, &all, &Settings::default()).failures;
    let mut noticed = false;
    for sample in all.iter().filter(|sample| super::is_differentiable(sample)) {
        for order in [1, 2] {
            if let Err(reason) = super::gradient(sample, 5, order, 1.0) {
                failures.push(format!("order {order}: {reason}"));
            }
        }
        noticed |= super::gradient(sample, 5, 1, 1.01).is_err();
    }
    if !noticed && all.iter().any(super::is_differentiable) {
        failures.push("a gradient that is wrong by a hundredth goes unnoticed".to_string());
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!("`{name}`:\n{}", failures.join("\n"))),
    }
}

/// Runs everything: the samples of every operation, and every case of the sections. `each` sees the results one by
/// one as they come.
pub fn suite(
    device: &Device,
    sections: &[Section],
    settings: &Settings,
    mut each: impl FnMut(Checked),
) {
    let mut by_name: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for sample in Op::samples() {
        by_name.entry(sample.op.name()).or_default().push(sample);
    }
    for (number, (name, all)) in by_name.iter().enumerate() {
        // Which samples fall into a part differs from operation to operation.
        let part = settings.part.map(|(rest, divisor)| ((rest + number) % divisor, divisor));
        each(samples(device, name, all, &Settings { part, ..settings.clone() }));
    }
    let cases = sections.iter().flat_map(|section| &section.cases);
    for (number, next) in cases.enumerate().filter(|(number, _)| settings.takes(*number)) {
        each(case(device, next, 31 + number as u32, settings));
    }
}

impl Checked {
    fn new(name: &str) -> Checked {
        Checked {
            name: name.to_string(),
            cases: 0,
            value: 0.0,
            gradient: None,
            milliseconds: 0.0,
            failures: vec![],
        }
    }
}
