//! Record: an append-only arena of values. Equal operations of equal inputs are kept once; inputs
//! come before users, so there is no way to build a cycle.

use crate::ops::{CustomOperation, Leaf, Op};
use crate::{GraphError, Tensor, Type, Variable};
use shadegrad_device::{Custom, DType};
use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::panic::Location;
use std::rc::Rc;

/// The number of a value in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl Value {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One recorded operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// What it is applied to.
    pub inputs: Vec<Value>,
    /// The type of its result.
    pub ty: Type,
    /// The user's source line.
    pub at: &'static Location<'static>,
    /// Whether it was recorded under [`Graph::autocast`] only: then it may wait in memory in half precision.
    pub half: bool,
}

/// Values in order, what is assigned to variables, and what is read back: plain data that the
/// compiler's stages take and return.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// The values.
    pub nodes: Vec<Node>,
    /// The variables that leaves refer to, by id.
    pub variables: BTreeMap<u64, Variable>,
    /// At the end of the program each variable takes its value. All reads see the old contents.
    pub assigns: Vec<(u64, Value)>,
    /// Values that are read back.
    pub outputs: Vec<Value>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) record: Nodes,
    lookup: HashMap<(Op, Vec<Value>), Value>,
    pub(crate) error: Option<GraphError>,
    /// What is recorded now may wait in memory in half precision.
    pub(crate) half: bool,
    /// Values after a mistake.
    poisoned: Vec<bool>,
    streams: u32,
    /// An operation whose gradients are multiplied, for tests of the gradient check.
    pub(crate) mutation: Option<(String, f64)>,
    /// Operations that users wrote, by the names that shaders call them by.
    customs: HashMap<&'static str, &'static str>,
}

impl Inner {
    /// The value of an equal operation of equal inputs, which waits in half precision only if both may.
    fn find(&mut self, key: &(Op, Vec<Value>), half: bool) -> Option<Value> {
        let value = *self.lookup.get(key)?;
        self.record.nodes[value.index()].half &= half;
        Some(value)
    }

    /// Adds a node that isn't there.
    fn insert(&mut self, key: (Op, Vec<Value>), node: Node, poisoned: bool) -> Value {
        let value = Value(self.record.nodes.len() as u32);
        self.lookup.insert(key, value);
        self.record.nodes.push(node);
        self.poisoned.push(poisoned);
        value
    }
}

/// A recording. Cheap to clone; clones are the same recording.
#[derive(Clone)]
pub struct Graph {
    pub(crate) inner: Rc<RefCell<Inner>>,
    training: bool,
    seed: Variable,
    step: Variable,
}

impl Default for Graph {
    fn default() -> Self {
        Graph::new()
    }
}

impl Graph {
    /// An empty recording for inference: dropout does nothing.
    pub fn new() -> Graph {
        Graph::with_random(false, &Variable::word("seed", 0), &Variable::word("step", 0))
    }

    /// An empty recording for training, whose random numbers depend on the variables `seed` and
    /// `step`, single words.
    pub fn training(seed: &Variable, step: &Variable) -> Graph {
        Graph::with_random(true, seed, step)
    }

    fn with_random(training: bool, seed: &Variable, step: &Variable) -> Graph {
        Graph { inner: Rc::default(), training, seed: seed.clone(), step: step.clone() }
    }

    /// Whether layers such as dropout are to behave as in training.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// The step counter that random numbers depend on.
    pub fn step(&self) -> Tensor {
        self.variable(&self.step)
    }

    /// The first mistake that was recorded.
    pub fn error(&self) -> Option<GraphError> {
        self.inner.borrow().error.clone()
    }

    /// The contents of a variable, as they are before the step.
    #[track_caller]
    pub fn variable(&self, variable: &Variable) -> Tensor {
        self.variable_part(variable, 0, &variable.ty().shape)
    }

    /// Part of a variable: elements from `offset` in another shape.
    #[track_caller]
    pub fn variable_part(&self, variable: &Variable, offset: usize, shape: &[usize]) -> Tensor {
        self.inner.borrow_mut().record.variables.insert(variable.id(), variable.clone());
        let ty = Type::new(shape, variable.ty().dtype);
        let whole = variable.ty().numel();
        if !(offset * ty.dtype.bytes()).is_multiple_of(4) {
            let reason = format!("{} elements from {offset} don't begin at a word", ty.dtype);
            self.fail("variable part", &[], reason);
        }
        if offset + ty.numel() > whole {
            self.fail("variable part", &[], format!("elements {offset}.. of {whole} as {shape:?}"));
        }
        self.push(Op::Leaf(Leaf { variable: variable.id(), offset, ty }), &[])
    }

    /// The seed that random numbers depend on.
    pub(crate) fn seed(&self) -> Tensor {
        self.variable(&self.seed)
    }

    /// A number that no other call of this graph gets.
    pub(crate) fn next_stream(&self) -> u32 {
        let mut inner = self.inner.borrow_mut();
        inner.streams += 1;
        inner.streams
    }

    /// At the end of the step the variable takes this value.
    #[track_caller]
    pub fn assign(&self, variable: &Variable, value: &Tensor) {
        if !Rc::ptr_eq(&value.graph().inner, &self.inner) {
            self.fail("assign", &[value.ty()], "the value belongs to another graph".to_string());
            return;
        }
        if variable.ty().dtype == DType::U8 {
            let reason = format!("variable `{}` holds bytes, which are read-only", variable.name());
            self.fail("assign", &[value.ty()], reason);
            return;
        }
        if value.ty() != *variable.ty() {
            let reason = format!("variable `{}` has type {}", variable.name(), variable.ty());
            self.fail("assign", &[value.ty()], reason);
            return;
        }
        let mut inner = self.inner.borrow_mut();
        inner.record.variables.insert(variable.id(), variable.clone());
        inner.record.assigns.retain(|(id, _)| *id != variable.id());
        inner.record.assigns.push((variable.id(), value.value()));
    }

    /// What is assigned so far, so that it can be assigned otherwise.
    pub fn assigned(&self) -> Vec<(Variable, Tensor)> {
        let inner = self.inner.borrow();
        let assigned = |(id, value): &(u64, Value)| {
            Some((inner.record.variables.get(id)?.clone(), Tensor::new(self, *value)))
        };
        inner.record.assigns.iter().filter_map(assigned).collect()
    }

    #[doc(hidden)]
    /// Multiplies the gradients of every operation of that name: a wrong rule on purpose, by which
    /// tests show that the gradient check notices.
    pub fn scale_gradients(&self, operation: &str, factor: f64) {
        self.inner.borrow_mut().mutation = Some((operation.to_string(), factor));
    }

    /// Lets what `f` records wait in memory in half precision, and what its gradients are computed from: that of a
    /// value recorded here is recorded in the same way, wherever it is asked for (as with PyTorch's `autocast`). All is computed
    /// in f32; floats that are stored for a later kernel are rounded to the nearest half, infinity from 65 520 on. What
    /// stays in f32: variables, such as weights; what is read back; what is packed, such as the gradients of parameters;
    /// sums and other reductions, such as means, and what follows from these alone; scans. A value that was
    /// recorded outside, too, stays as it is.
    ///
    /// On a device that can't store halves ([`Limits::f16`](shadegrad_device::Limits::f16)) nothing is rounded.
    pub fn autocast<R>(&self, f: impl FnOnce() -> R) -> R {
        let before = std::mem::replace(&mut self.inner.borrow_mut().half, true);
        let result = f();
        self.inner.borrow_mut().half = before;
        result
    }

    /// Keeps a mistake if it is the first.
    #[track_caller]
    pub(crate) fn fail(&self, operation: &str, inputs: &[Type], reason: String) {
        let error = GraphError::Operation {
            operation: operation.to_string(),
            inputs: list(inputs),
            reason,
            at: Location::caller(),
        };
        self.inner.borrow_mut().error.get_or_insert(error);
    }

    /// Records that an operation can't be applied to these tensors, for functions that check
    /// their arguments themselves. Returns a value to go on with; compiling returns the mistake.
    #[track_caller]
    pub fn refuse(&self, operation: &str, inputs: &[&Tensor], reason: &str) -> Tensor {
        let types: Vec<Type> = inputs.iter().map(|t| t.ty()).collect();
        self.fail(operation, &types, reason.to_string());
        self.full(&[], DType::F32, 0.0)
    }

    /// Keeps the name of a user's operation; false if one that computes something else has it.
    pub(crate) fn knows(&self, operation: &'static CustomOperation) -> bool {
        let Custom { name, wgsl, .. } = operation.function;
        *self.inner.borrow_mut().customs.entry(name).or_insert(wgsl) == wgsl
    }

    /// Keeps a mistake of another kind if it is the first.
    pub(crate) fn fail_with(&self, error: GraphError) {
        self.inner.borrow_mut().error.get_or_insert(error);
    }

    /// Records an operation, or finds the equal one that is there already.
    #[track_caller]
    pub(crate) fn push(&self, op: Op, inputs: &[Value]) -> Tensor {
        let mut inner = self.inner.borrow_mut();
        let (key, half) = ((op, inputs.to_vec()), inner.half);
        if let Some(value) = inner.find(&key, half) {
            return Tensor::new(self, value);
        }
        let types: Vec<Type> =
            inputs.iter().map(|v| inner.record.nodes[v.index()].ty.clone()).collect();
        let bad_input = inputs.iter().any(|v| inner.poisoned[v.index()]);
        let op = key.0.clone();
        let countable = |ty: &Type| {
            let bytes = ty.shape.iter().try_fold(4usize, |all, &n| all.checked_mul(n));
            bytes.is_some_and(|bytes| bytes <= isize::MAX as usize)
        };
        let (ty, reason) = match op.infer(&types.iter().collect::<Vec<_>>()) {
            Ok(ty) if !countable(&ty) => {
                let reason = format!("{:?} has more elements than can be counted", ty.shape);
                (Type::new(&[], DType::F32), Some(reason))
            }
            Ok(ty) => (ty, None),
            Err(reason) => (Type::new(&[], DType::F32), Some(reason)),
        };
        let poisoned = bad_input || reason.is_some();
        if let Some(reason) = reason
            && !bad_input
        {
            let operation = op.name();
            let error = GraphError::Operation {
                operation,
                inputs: list(&types),
                reason,
                at: Location::caller(),
            };
            inner.error.get_or_insert(error);
        }
        let node = Node { op, inputs: inputs.to_vec(), ty, at: Location::caller(), half };
        Tensor::new(self, inner.insert(key, node, poisoned))
    }

    /// Records a node as it is, of inputs that are recorded here, or finds the equal one that is there already.
    pub(crate) fn keep(&self, node: Node) -> Value {
        let mut inner = self.inner.borrow_mut();
        let key = (node.op.clone(), node.inputs.clone());
        let found = inner.find(&key, node.half);
        found.unwrap_or_else(|| inner.insert(key, node, false))
    }

    /// What `f` records stands for a node that was recorded elsewhere.
    pub(crate) fn like<R>(&self, node: &Node, f: impl FnOnce() -> R) -> R {
        let first = self.inner.borrow().record.nodes.len();
        let before = std::mem::replace(&mut self.inner.borrow_mut().half, node.half);
        let result = f();
        let mut inner = self.inner.borrow_mut();
        inner.half = before;
        inner.record.nodes[first..].iter_mut().for_each(|new| new.at = node.at);
        result
    }

    /// Records again what is recorded elsewhere, with tensors of this graph for its variables, by their ids. What its outputs are
    /// here.
    #[track_caller]
    pub(crate) fn splice(&self, other: &Nodes, known: &HashMap<u64, Tensor>) -> Vec<Tensor> {
        let mut moved: Vec<Tensor> = Vec::with_capacity(other.nodes.len());
        for node in &other.nodes {
            let inputs: Vec<Value> = node.inputs.iter().map(|v| moved[v.index()].value()).collect();
            let here = match &node.op {
                Op::Leaf(leaf) => known.get(&leaf.variable).cloned(),
                _ => None,
            };
            moved.push(here.unwrap_or_else(|| self.push(node.op.clone(), &inputs)));
        }
        other.outputs.iter().map(|v| moved[v.index()].clone()).collect()
    }

    pub(crate) fn node(&self, value: Value) -> Ref<'_, Node> {
        Ref::map(self.inner.borrow(), |inner| &inner.record.nodes[value.index()])
    }

    /// The recording as data, with the values to read back.
    ///
    /// # Errors
    /// The first mistake that was recorded.
    pub fn nodes(&self, outputs: &[&Tensor]) -> Result<Nodes, GraphError> {
        if outputs.iter().any(|t| !Rc::ptr_eq(&t.graph().inner, &self.inner)) {
            self.fail("output", &[], "the tensor belongs to another graph".to_string());
        }
        let inner = self.inner.borrow();
        match &inner.error {
            Some(error) => Err(error.clone()),
            None => Ok(Nodes {
                outputs: outputs.iter().map(|t| t.value()).collect(),
                ..inner.record.clone()
            }),
        }
    }
}

fn list(types: &[Type]) -> String {
    match types {
        [] => "nothing".to_string(),
        _ => types.iter().map(Type::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl Nodes {
    /// Checks that inputs come before users and that every type is what the operation infers.
    ///
    /// # Errors
    /// [`GraphError::Compiler`] naming `stage`.
    pub fn verify(&self, stage: &'static str) -> Result<(), GraphError> {
        for (number, node) in self.nodes.iter().enumerate() {
            let wrong = |reason| GraphError::Compiler { stage, reason };
            if node.inputs.iter().any(|v| v.index() >= number) {
                return Err(wrong(format!("value {number} uses a later one")));
            }
            let types: Vec<&Type> = node.inputs.iter().map(|v| &self.nodes[v.index()].ty).collect();
            let inferred = node.op.infer(&types).map_err(&wrong)?;
            if inferred != node.ty {
                return Err(wrong(format!("value {number} is {}, not {inferred}", node.ty)));
            }
        }
        Ok(())
    }

    /// The values that outputs and assignments need.
    pub fn reachable(&self) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        let roots = self.outputs.iter().chain(self.assigns.iter().map(|(_, value)| value));
        for root in roots {
            needed[root.index()] = true;
        }
        for number in (0..self.nodes.len()).rev() {
            if needed[number] {
                for input in &self.nodes[number].inputs {
                    needed[input.index()] = true;
                }
            }
        }
        needed
    }
}
