//! The catalog: every public operation and function, with cases that it is tested on and the words that
//! its documentation begins with. Both lie beside the function, in the files of `tensor/`.

use crate::check::draw;
use crate::ops::{self, SampleInput};
use crate::tensor;
use crate::{Array, Graph, Tensor, Type};
use shadegrad_device::DType;

/// A function applied to inputs of some shape: what value and gradient tests run on every device.
pub struct Case {
    /// The function's name.
    pub name: &'static str,
    /// What it is applied to.
    pub inputs: Vec<SampleInput>,
    /// Records it; several results are several tensors.
    pub build: fn(&Graph, &[Tensor]) -> Vec<Tensor>,
    /// Why it has no gradient, if it has none.
    pub flat: Option<&'static str>,
}

impl Case {
    /// A function that has no gradient, and why.
    pub fn flat(self, reason: &'static str) -> Case {
        Case { flat: Some(reason), ..self }
    }

    /// Records the case in a graph; its inputs are variables.
    pub fn record(&self, graph: &Graph, seed: u32) -> (Vec<Tensor>, Vec<Tensor>) {
        let arrays: Vec<Array> =
            (self.inputs.iter().zip(seed..)).map(|(input, number)| draw(input, number)).collect();
        let inputs: Vec<Tensor> = (arrays.iter().enumerate())
            .map(|(n, array)| graph.variable(&crate::check::variable(&format!("x{n}"), array)))
            .collect();
        let outputs = (self.build)(graph, &inputs);
        (inputs, outputs)
    }
}

/// What a case's closure may return.
pub trait Results {
    /// As a list.
    fn list(self) -> Vec<Tensor>;
}

impl Results for Tensor {
    fn list(self) -> Vec<Tensor> {
        vec![self]
    }
}

impl Results for Vec<Tensor> {
    fn list(self) -> Vec<Tensor> {
        self
    }
}

impl Results for (Tensor, Tensor) {
    fn list(self) -> Vec<Tensor> {
        vec![self.0, self.1]
    }
}

/// `case!("name", [inputs], |graph, x| ..)`: a [`Case`].
#[macro_export]
macro_rules! case {
    ($name:literal, [$($input:expr),* $(,)?], |$graph:pat_param, $x:pat_param| $body:expr) => {
        $crate::catalog::Case {
            name: $name,
            inputs: vec![$($input),*],
            build: |$graph, $x| $crate::catalog::Results::list($body),
            flat: None,
        }
    };
}

/// Floats in `-2..2`.
pub fn wide(shape: &[usize]) -> SampleInput {
    SampleInput::float(shape, -2.0, 2.0)
}

/// Floats in `0.3..2`.
pub fn positive(shape: &[usize]) -> SampleInput {
    SampleInput::float(shape, 0.3, 2.0)
}

/// Floats in `0.05..0.95`: probabilities away from certainty.
pub fn probable(shape: &[usize]) -> SampleInput {
    SampleInput::float(shape, 0.05, 0.95)
}

/// Floats in `-2..2` that are all different: for maxima and sorting.
pub fn distinct(shape: &[usize]) -> SampleInput {
    wide(shape).distinct()
}

/// Floats in `-2..2` that keep away from kinks.
pub fn kinked(shape: &[usize], kinks: &'static [f64]) -> SampleInput {
    SampleInput { kinks, ..wide(shape) }
}

/// Indices below a bound.
pub fn index(shape: &[usize], below: usize) -> SampleInput {
    SampleInput::index(shape, below)
}

/// Truth values.
pub fn truth(shape: &[usize]) -> SampleInput {
    let ty = Type::new(shape, DType::Bool);
    SampleInput { ty, low: 0.0, high: 2.0, distinct: false, kinks: &[] }
}

/// A section of the catalog: functions of one kind.
pub struct Section {
    /// What kind.
    pub title: &'static str,
    /// The source, of which the documentation is part.
    source: &'static str,
    /// The cases.
    pub cases: Vec<Case>,
}

/// A documented function.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its documentation, the first paragraph on one line.
    pub about: String,
}

impl Section {
    /// A section from the text of a source file and the cases that lie in it.
    pub fn new(title: &'static str, source: &'static str, cases: Vec<Case>) -> Section {
        Section { title, source, cases }
    }

    /// The public functions of the source, in its order: names and documentation, also of those that a
    /// list of `/// words` and `name Operation,` declares.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut about: Vec<&str> = Vec::new();
        for line in self.source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                about.push(text.trim());
                continue;
            }
            if line.starts_with("#[") {
                continue;
            }
            if let Some(name) = declared(line).filter(|_| !about.is_empty()) {
                let first: Vec<&str> =
                    about.iter().copied().take_while(|line| !line.is_empty()).collect();
                entries.push(Entry { name: name.to_string(), about: first.join(" ") });
            }
            about.clear();
        }
        entries
    }
}

/// The function that a line of source declares.
fn declared(line: &str) -> Option<&str> {
    let identifier =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    if let Some(rest) = line.strip_prefix("pub fn ") {
        // Constructors belong to the options that a function takes.
        return rest.split(['(', '<']).next().filter(|name| *name != "new");
    }
    let (name, operation) = line.strip_suffix(',')?.split_once(' ')?;
    let lower = name.starts_with(|c: char| c.is_ascii_lowercase());
    let upper = operation.starts_with(|c: char| c.is_ascii_uppercase());
    (lower && upper && identifier(name) && identifier(operation)).then_some(name)
}

/// Every section of this crate.
pub fn sections() -> Vec<Section> {
    macro_rules! section {
        ($title:literal, $file:literal, $module:ident) => {
            Section::new($title, include_str!($file), tensor::$module::cases())
        };
    }
    vec![
        section!("Creation", "tensor/create.rs", create),
        Section::new("Scalar operations", include_str!("ops/scalars.rs"), ops::scalars::cases()),
        section!("Scalar functions made of them", "tensor/pointwise.rs", pointwise),
        section!("Activations", "tensor/activation.rs", activation),
        section!("Reductions", "tensor/reduce.rs", reduce),
        section!("Cumulative and sorted", "tensor/order.rs", order),
        section!("Movement", "tensor/movement.rs", movement),
        section!("Indexing", "tensor/index.rs", index),
        section!("Linear algebra", "tensor/linear.rs", linear),
        section!("Convolution", "tensor/convolution.rs", convolution),
        section!("Pooling", "tensor/pool.rs", pool),
        section!("Resizing and unfolding", "tensor/resize.rs", resize),
        section!("Sampling", "tensor/sample.rs", sample),
        section!("Normalisation", "tensor/norm.rs", norm),
        section!("Attention", "tensor/attention.rs", attention),
        section!("Recurrent layers", "tensor/recurrent.rs", recurrent),
        section!("Random numbers", "tensor/random.rs", random),
    ]
}
