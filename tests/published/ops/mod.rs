//! How each operation key of the index is written with this library.

mod conv;
mod layout;
mod loss;
mod modules;
mod norm;
mod pointwise;
mod pool;
mod product;
mod reduce;
mod shape;

use crate::vectors::Case;
use serde_json::Value;
use shadegrad::graph::{Graph, Tensor};

/// What a case computes, by the names it has in the index.
pub(crate) type Outputs = Vec<(String, Tensor)>;

/// The most common outputs: one, named `y`.
fn y(tensor: Tensor) -> Outputs {
    vec![("y".to_string(), tensor)]
}

/// Outputs with their names.
fn named<const N: usize>(outputs: [(&str, Tensor); N]) -> Outputs {
    Vec::from(outputs.map(|(name, tensor)| (name.to_string(), tensor)))
}

/// Records a case; `None` if no module knows its operation key.
pub(crate) fn build(call: &Call<'_>) -> Option<Outputs> {
    let modules: [fn(&Call<'_>) -> Option<Outputs>; 10] = [
        pointwise::build,
        reduce::build,
        shape::build,
        layout::build,
        product::build,
        conv::build,
        pool::build,
        norm::build,
        loss::build,
        modules::build,
    ];
    modules.iter().find_map(|build| build(call))
}

/// A case that is being recorded: its tensors and its arguments.
pub(crate) struct Call<'a> {
    /// The recording.
    pub(crate) graph: &'a Graph,
    /// The case.
    pub(crate) case: &'a Case,
    inputs: Vec<(&'a str, Tensor)>,
}

impl<'a> Call<'a> {
    /// Makes the inputs variables of a recording.
    pub(crate) fn new(graph: &'a Graph, case: &'a Case) -> Call<'a> {
        let inputs = case.inputs.iter();
        let inputs = inputs
            .map(|(name, array)| (name.as_str(), layout::input(graph, case, name, array)))
            .collect();
        Call { graph, case, inputs }
    }

    /// The operation key.
    pub(crate) fn op(&self) -> &str {
        &self.case.op
    }

    /// An input that some cases have: a bias, a mask.
    pub(crate) fn find(&self, name: &str) -> Option<&Tensor> {
        self.inputs.iter().find(|(own, _)| *own == name).map(|(_, tensor)| tensor)
    }

    /// An input.
    pub(crate) fn input(&self, name: &str) -> &Tensor {
        self.find(name).unwrap_or_else(|| panic!("{} has no input `{name}`", self.case.id))
    }

    /// The inputs `x0`, `x1`, ...
    pub(crate) fn series(&self) -> Vec<&Tensor> {
        (0..).map_while(|number| self.find(&format!("x{number}"))).collect()
    }

    /// An argument; null if there is none of that name.
    pub(crate) fn attr(&self, name: &str) -> &Value {
        &self.case.attrs[name]
    }

    fn wrong(&self, name: &str) -> ! {
        panic!("{}: argument `{name}` is {}", self.case.id, self.attr(name))
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.attr(name).as_f64().unwrap_or_else(|| self.wrong(name))
    }

    /// A size.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.attr(name).as_u64().unwrap_or_else(|| self.wrong(name)) as usize
    }

    /// An axis or offset, which may be negative.
    pub(crate) fn signed(&self, name: &str) -> isize {
        self.attr(name).as_i64().unwrap_or_else(|| self.wrong(name)) as isize
    }

    /// A switch.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.attr(name).as_bool().unwrap_or_else(|| self.wrong(name))
    }

    /// A word.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.attr(name).as_str().unwrap_or_else(|| self.wrong(name))
    }

    /// A list of axes or offsets; a single one is a list of one.
    pub(crate) fn list(&self, name: &str) -> Vec<isize> {
        let one = |value: &Value| value.as_i64().unwrap_or_else(|| self.wrong(name)) as isize;
        match self.attr(name) {
            Value::Array(values) => values.iter().map(one).collect(),
            value => vec![one(value)],
        }
    }

    /// A list of sizes.
    pub(crate) fn sizes(&self, name: &str) -> Vec<usize> {
        let size = |value: isize| usize::try_from(value).unwrap_or_else(|_| self.wrong(name));
        self.list(name).into_iter().map(size).collect()
    }

    /// A size for each of `N` spatial axes.
    pub(crate) fn each<const N: usize>(&self, name: &str) -> [usize; N] {
        self.sizes(name).try_into().unwrap_or_else(|_| self.wrong(name))
    }
}
