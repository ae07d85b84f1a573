//! The API: tensors are handles to recorded values. Methods record; nothing runs.
//!
//! Shapes broadcast as in NumPy, and names and defaults are PyTorch's; negative axes count from the last.
//! A mistake is kept by the graph with the caller's line (see [`crate::GraphError`]).
//!
//! Each file below holds one kind of operation, and with them the cases that they are tested on (see
//! [`crate::catalog`]).

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod create;
pub(crate) mod index;
pub(crate) mod linear;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod order;
pub(crate) mod pointwise;
pub(crate) mod pool;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod resize;
pub(crate) mod sample;

pub use attention::AttentionOptions;
pub use convolution::{ConvOptions, Padding};
pub use movement::PadMode;
pub use pool::PoolOptions;
pub use recurrent::{RecurrentOptions, RecurrentOutput, RecurrentWeights};
pub use resize::Interpolation;

use crate::axis::Axis;
use crate::ops::{CustomOperation, Op, Pointwise, Scalar};
use crate::types::broadcast;
use crate::{Graph, Type, Value};
use shadegrad_device::DType;

/// A recorded value. Cheap to clone; clones are the same value.
#[derive(Clone)]
pub struct Tensor {
    graph: Graph,
    value: Value,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {})", self.value.0, self.ty())
    }
}

impl Tensor {
    pub(crate) fn new(graph: &Graph, value: Value) -> Tensor {
        Tensor { graph: graph.clone(), value }
    }

    /// The recording it belongs to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its number in the recording.
    pub fn value(&self) -> Value {
        self.value
    }

    /// Its shape and element type.
    pub fn ty(&self) -> Type {
        self.graph.node(self.value).ty.clone()
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        self.ty().shape
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.ty().dtype
    }

    /// Records an operation of tensors of this graph.
    #[track_caller]
    pub(crate) fn record(&self, op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
        let values: Vec<Value> = inputs.iter().map(|t| t.value).collect();
        if inputs.iter().any(|t| !std::rc::Rc::ptr_eq(&t.graph.inner, &self.graph.inner)) {
            let reason = "the tensors belong to different graphs".to_string();
            self.graph.fail("operation", &[], reason);
            return self.clone();
        }
        self.graph.push(op.into(), &values)
    }

    /// Records a scalar operation after broadcasting its inputs to one shape.
    #[track_caller]
    pub(crate) fn scalar(op: Scalar, inputs: &[&Tensor]) -> Tensor {
        let mut shape = inputs[0].shape();
        for other in &inputs[1..] {
            match broadcast(&shape, &other.shape()) {
                Ok(joint) => shape = joint,
                Err(reason) => {
                    let types: Vec<Type> = inputs.iter().map(|t| t.ty()).collect();
                    inputs[0].graph.fail(&format!("{op:?}").to_lowercase(), &types, reason);
                    return inputs[0].clone();
                }
            }
        }
        let inputs: Vec<Tensor> = inputs.iter().map(|t| t.expand(&shape)).collect();
        inputs[0].record(Pointwise(op), &inputs.iter().collect::<Vec<_>>())
    }

    /// A scalar operation of your own: see `docs/adding-an-operation.md`.
    #[track_caller]
    pub fn custom(operation: &'static CustomOperation, inputs: &[&Tensor]) -> Tensor {
        if let Some(first) = inputs.first()
            && !first.graph.knows(operation)
        {
            let name = operation.function.name;
            return first.refuse(name, "another operation of this name is in the graph");
        }
        Tensor::scalar(Scalar::Custom(operation), inputs)
    }

    /// The axis that a number means; `None`, with the mistake kept, if there is none.
    #[track_caller]
    fn axis(&self, operation: &str, axis: impl Axis) -> Option<usize> {
        let rank = self.shape().len() as isize;
        let number = axis.number();
        let at = if number < 0 { number + rank } else { number };
        if at < 0 || at >= rank {
            let reason = format!("there is no axis {number} in rank {rank}");
            self.graph.fail(operation, &[self.ty()], reason);
            return None;
        }
        Some(at as usize)
    }

    /// Several axes, ascending; `None`, with the mistake kept, if one isn't there or comes twice.
    #[track_caller]
    fn axes(&self, operation: &str, axes: &[impl Axis]) -> Option<Vec<usize>> {
        let mut found = Vec::with_capacity(axes.len());
        for &axis in axes {
            found.push(self.axis(operation, axis)?);
        }
        found.sort_unstable();
        if let Some(pair) = found.windows(2).find(|pair| pair[0] == pair[1]) {
            self.graph.fail(operation, &[self.ty()], format!("axis {} comes twice", pair[0]));
            return None;
        }
        Some(found)
    }

    /// Keeps a mistake and goes on with this tensor: nothing after it counts.
    #[track_caller]
    fn refuse(&self, operation: &str, reason: impl Into<String>) -> Tensor {
        self.refuse_with(operation, &[], reason)
    }

    /// The same, of an operation with more inputs.
    #[track_caller]
    fn refuse_with(
        &self,
        operation: &str,
        others: &[&Tensor],
        reason: impl Into<String>,
    ) -> Tensor {
        let types: Vec<Type> =
            std::iter::once(self.ty()).chain(others.iter().map(|t| t.ty())).collect();
        self.graph.fail(operation, &types, reason.into());
        self.clone()
    }

    /// Whether it holds floats; else the mistake is kept.
    #[track_caller]
    fn is_float(&self, operation: &str) -> bool {
        let float = self.dtype().loaded() == DType::F32;
        if !float {
            let reason = format!("works on floats, not {}; cast first", self.dtype());
            self.graph.fail(operation, &[self.ty()], reason);
        }
        float
    }
}
