//! Parameters, and the variable in which all parameters of a model lie.
//!
//! Laid one after the other, they are updated by one kernel whatever their number; a layer sees
//! its own part of the variable.

use crate::{Initializer, Named, Visitor};
use shadegrad_device::{DType, numel, random};
use shadegrad_graph::{Graph, Init, Tensor, Variable};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Inner {
    shape: Vec<usize>,
    begin: Begin,
    /// Where it lies, once a set of parameters has been made of its model.
    place: OnceCell<(Variable, usize)>,
}

/// How a parameter begins.
enum Begin {
    Drawn(Initializer),
    Given(Arc<[u8]>),
}

impl Begin {
    fn init(&self, seed: u64) -> Init {
        match self {
            Begin::Drawn(initializer) => initializer.init(seed),
            Begin::Given(bytes) => Init::Bytes(bytes.clone()),
        }
    }
}

/// A tensor that training changes. Cheap to clone; clones are the same parameter.
#[derive(Clone)]
pub struct Parameter(Rc<Inner>);

impl Parameter {
    /// A parameter of a shape.
    pub fn new(shape: &[usize], initializer: Initializer) -> Parameter {
        Parameter::of(shape, Begin::Drawn(initializer))
    }

    /// A parameter of a shape that begins with these numbers, row-major.
    ///
    /// # Errors
    /// [`ParameterError::Values`] if they are not as many as the shape has elements.
    pub fn from_values(shape: &[usize], values: &[f32]) -> Result<Parameter, ParameterError> {
        if values.len() != numel(shape) {
            let shape = shape.to_vec();
            return Err(ParameterError::Values { shape, found: values.len() });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(Parameter::of(shape, Begin::Given(bytes.into())))
    }

    fn of(shape: &[usize], begin: Begin) -> Parameter {
        Parameter(Rc::new(Inner { shape: shape.to_vec(), begin, place: OnceCell::new() }))
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Its value in a recording. A parameter of a model that [`Parameters`] hasn't seen gets a
    /// variable of its own.
    #[track_caller]
    pub fn tensor(&self, graph: &Graph) -> Tensor {
        let (variable, offset) = self.0.place.get_or_init(|| {
            // Each such parameter its own numbers, the same in every run that makes them in order.
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let init = self.0.begin.init(NEXT.fetch_add(1, Ordering::Relaxed));
            (Variable::new("parameter", &self.0.shape, DType::F32, init), 0)
        });
        graph.variable_part(variable, *offset, &self.0.shape)
    }
}

/// State that steps change without gradients, such as running statistics. Cheap to clone; clones are the
/// same buffer.
#[derive(Clone)]
pub struct Buffer(Variable);

impl Buffer {
    /// A buffer of a shape that begins with one number everywhere.
    pub fn new(shape: &[usize], value: f64) -> Buffer {
        Buffer(Variable::new("buffer", shape, DType::F32, Init::Full(value)))
    }

    /// Where it lies.
    pub fn variable(&self) -> &Variable {
        &self.0
    }

    /// Its value in a recording, as it is before the step.
    #[track_caller]
    pub fn tensor(&self, graph: &Graph) -> Tensor {
        graph.variable(&self.0)
    }

    /// At the end of the step it takes this value.
    #[track_caller]
    pub fn assign(&self, value: &Tensor) {
        value.graph().assign(&self.0, value);
    }
}

/// What is wrong with a model's parameters.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParameterError {
    /// Two parameters of one name.
    #[error("two parameters are named `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A parameter that is part of another model already, or was used before.
    #[error("parameter `{name}` belongs to another set of parameters already")]
    Taken {
        /// The name.
        name: String,
    },
    /// Another number of values than a shape has.
    #[error("{found} values for a parameter of shape {shape:?}")]
    Values {
        /// The shape.
        shape: Vec<usize>,
        /// How many values there are.
        found: usize,
    },
    /// A model without parameters can't be trained.
    #[error("the model has no parameters")]
    Empty,
}

/// All parameters of a model, with stable names, in one variable, or in a few where one would be
/// larger than a device can bind.
pub struct Parameters {
    shards: Vec<Variable>,
    entries: Vec<(String, Parameter)>,
    buffers: Vec<(String, Buffer)>,
}

impl Parameters {
    /// Names the parameters by the model's structure and gives them their initial values, in one
    /// variable.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn new(model: &(impl Named + ?Sized), seed: u64) -> Result<Parameters, ParameterError> {
        Parameters::sharded(model, seed, usize::MAX)
    }

    /// The same, in variables of at most `max_bytes` each, but for a parameter that is larger by
    /// itself. The values are those of [`Parameters::new`].
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn sharded(
        model: &(impl Named + ?Sized),
        seed: u64,
        max_bytes: usize,
    ) -> Result<Parameters, ParameterError> {
        let mut visitor = Visitor::default();
        model.visit(&mut visitor);
        let mut entries: Vec<(String, Parameter)> = Vec::new();
        let Visitor { parameters, buffers, .. } = visitor;
        for (name, parameter) in parameters {
            // A parameter that is used twice keeps its first name.
            if entries.iter().any(|(_, p)| Rc::ptr_eq(&p.0, &parameter.0)) {
                continue;
            }
            if entries.iter().any(|(n, _)| *n == name) {
                return Err(ParameterError::Duplicate { name });
            }
            entries.push((name, parameter));
        }
        if let Some((name, _)) = entries.iter().find(|(_, p)| p.0.place.get().is_some()) {
            return Err(ParameterError::Taken { name: name.clone() });
        }
        if entries.iter().all(|(_, p)| numel(p.shape()) == 0) {
            return Err(ParameterError::Empty);
        }
        let mut groups: Vec<Vec<&(String, Parameter)>> = vec![vec![]];
        let mut bytes = 0;
        for entry in &entries {
            let own = numel(entry.1.shape()) * DType::F32.bytes();
            if bytes > 0 && bytes + own > max_bytes {
                groups.push(vec![]);
                bytes = 0;
            }
            bytes += own;
            if let Some(group) = groups.last_mut() {
                group.push(entry);
            }
        }
        let shards = groups.iter().map(|group| shard(group, seed)).collect();
        Ok(Parameters { shards, entries, buffers })
    }

    /// The variables with all parameters, in memory order.
    pub fn shards(&self) -> &[Variable] {
        &self.shards
    }

    /// Number of trained numbers.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.ty().numel()).sum()
    }

    /// Each parameter's name and shape, in memory order.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter.shape()))
    }

    /// The name of the parameter that lies in a variable from an element on.
    pub fn at(&self, variable: &Variable, offset: usize) -> Option<&str> {
        self.places(variable).find(|(_, start, _)| *start == offset).map(|(name, ..)| name)
    }

    /// Each parameter's name, first element and shape in a shard, in memory order.
    pub fn places<'a>(
        &'a self,
        shard: &Variable,
    ) -> impl Iterator<Item = (&'a str, usize, &'a [usize])> + use<'a> {
        let id = shard.id();
        self.entries.iter().filter_map(move |(name, parameter)| {
            let (variable, offset) = parameter.0.place.get()?;
            let here = variable.id() == id;
            here.then_some((name.as_str(), *offset, parameter.shape()))
        })
    }

    /// The names of the model's buffers, and the buffers.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Buffer)> {
        self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer))
    }

    /// Each parameter's value in a recording, in memory order: a list for each shard.
    #[track_caller]
    pub fn tensors(&self, graph: &Graph) -> Vec<Vec<Tensor>> {
        let of = |shard: &Variable| {
            let mine = |p: &&Parameter| p.0.place.get().is_some_and(|(v, _)| v.id() == shard.id());
            let parameters = self.entries.iter().map(|(_, parameter)| parameter);
            parameters.filter(mine).map(|parameter| parameter.tensor(graph)).collect()
        };
        self.shards.iter().map(of).collect()
    }
}

/// Lays parameters one after the other in a variable and tells each where it is.
fn shard(group: &[&(String, Parameter)], seed: u64) -> Variable {
    let part =
        |(name, p): &&(String, Parameter)| (numel(p.shape()), p.0.begin.init(seed_of(seed, name)));
    let parts: Vec<(usize, Init)> = group.iter().map(part).collect();
    let total = parts.iter().map(|(count, _)| count).sum();
    let variable = Variable::new("parameters", &[total], DType::F32, Init::Concat(parts));
    let mut offset = 0;
    for (_, parameter) in group {
        // Nothing has a place yet: the caller has checked.
        let _ = parameter.0.place.set((variable.clone(), offset));
        offset += numel(parameter.shape());
    }
    variable
}

/// A seed for a name: parameters keep their numbers when others are added or moved.
fn seed_of(seed: u64, name: &str) -> u64 {
    let mut words = [seed as u32, (seed >> 32) as u32];
    for byte in name.bytes() {
        words = [random(words[0], u32::from(byte)), random(words[1], words[0])];
    }
    u64::from(words[0]) | u64::from(words[1]) << 32
}
