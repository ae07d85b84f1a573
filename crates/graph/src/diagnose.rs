//! Diagnose: which value of a recording is the first that isn't finite.

use crate::ops::Op;
use crate::{GraphError, Loaded, Nodes, Options, Session, Tensor, Value, Variable, compile};
use shadegrad_device::DType;
use std::fmt;
use std::panic::Location;

/// A value with NaN or infinity whose inputs have none.
#[derive(Clone, Debug)]
pub struct NotFinite {
    /// The operation, or the variable that holds it.
    pub source: Source,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How many of its elements are NaN.
    pub nan: usize,
    /// How many are infinite.
    pub infinite: usize,
    /// The user's source line.
    pub at: &'static Location<'static>,
}

/// Where numbers come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An operation.
    Operation(String),
    /// A variable, from this element on.
    Variable(Variable, usize),
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotFinite { shape, nan, infinite, at, .. } = self;
        let what = match (nan, infinite) {
            (0, count) => format!("{count} infinite numbers"),
            (count, _) => format!("{count} NaN"),
        };
        match &self.source {
            Source::Operation(name) => {
                write!(f, "`{name}` {shape:?} at {at} gives {what} of inputs without")
            }
            Source::Variable(variable, _) => {
                write!(f, "variable `{}` {shape:?} holds {what}", variable.name())
            }
        }
    }
}

impl Session {
    /// Runs a recording as it is, without what it assigns, and finds where what a value has of NaN or infinity comes
    /// from: the first value that has NaN although its inputs have none, or the first infinite one of finite inputs that that
    /// comes from.
    ///
    /// # Errors
    /// As [`Session::compile`] and [`Loaded::read`].
    pub fn first_not_finite(&mut self, of: &Tensor) -> Result<Option<NotFinite>, GraphError> {
        let graph = of.graph();
        let recorded = Nodes { assigns: vec![], ..graph.nodes(&[of])? };
        let needed = recorded.reachable();
        let float = |number: &usize| {
            needed[*number] && recorded.nodes[*number].ty.dtype.loaded() == DType::F32
        };
        let values: Vec<usize> = (0..recorded.nodes.len()).filter(float).collect();
        let count = |flags: Tensor| flags.to(DType::F32).sum_all().reshape(&[1]);
        let counts: Vec<Tensor> = values
            .iter()
            .flat_map(|&number| {
                let value = Tensor::new(graph, Value(number as u32));
                [count(value.is_nan()), count(value.is_inf())]
            })
            .collect();
        let all = graph.pack(&counts.iter().collect::<Vec<_>>());
        let mut nodes = graph.nodes(&[&all])?;
        nodes.assigns.clear();
        let compiled = compile(&nodes, self.device().limits(), &Options::default())?;
        let mut loaded: Loaded = self.load(compiled)?;
        loaded.run(1)?;
        let counts = loaded.read_array(0)?.data;
        let mut found = vec![[0; 2]; recorded.nodes.len()];
        for (&number, counts) in values.iter().zip(counts.chunks_exact(2)) {
            found[number] = [counts[0] as usize, counts[1] as usize];
        }
        let first = |kind: usize, among: &[bool]| {
            values.iter().copied().filter(|&number| among[number]).find(|&number| {
                let inputs = &recorded.nodes[number].inputs;
                // A constant is what someone wrote: infinity to leave something out, NaN to say that a class is none. Who
                // takes the NaN is to blame.
                let written = |number: usize| matches!(recorded.nodes[number].op, Op::Full(_));
                let clean = |input: &Value| {
                    let nan = kind == 0 && written(input.index());
                    found[input.index()][kind] == 0 || nan
                };
                found[number][kind] > 0 && !written(number) && inputs.iter().all(clean)
            })
        };
        let blamed = match first(0, &needed) {
            Some(nan) => {
                let outputs = vec![Value(nan as u32)];
                let behind = Nodes { outputs, ..recorded.clone() }.reachable();
                first(1, &behind).or(Some(nan))
            }
            None => first(1, &needed),
        };
        Ok(blamed.map(|number| {
            let node = &recorded.nodes[number];
            let source = match &node.op {
                Op::Leaf(leaf) => {
                    Source::Variable(recorded.variables[&leaf.variable].clone(), leaf.offset)
                }
                op => Source::Operation(op.name()),
            };
            let [nan, infinite] = found[number];
            NotFinite { source, shape: node.ty.shape.clone(), nan, infinite, at: node.at }
        }))
    }
}
