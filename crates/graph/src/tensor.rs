//! The API: tensors are handles to recorded values. Methods record; nothing runs.
//!
//! Shapes broadcast as in NumPy, and names and defaults are PyTorch's; axes that are `isize` count
//! from the end if negative. A mistake is kept by the graph with the caller's line (see [`crate::GraphError`]).

mod contract;
mod operators;

use crate::ops::{
    Detach, Expand, Iota, Op, Pack, Pad, Permute, Pointwise, Reduce, Reshape, Scalar, Slice,
};
use crate::types::broadcast;
use crate::{Graph, Type, Value};
use shadegrad_device::{Combine, DType, numel};

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
    fn scalar(op: Scalar, inputs: &[&Tensor]) -> Tensor {
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
        let inputs: Vec<Tensor> = inputs.iter().map(|t| t.broadcast_to(&shape)).collect();
        inputs[0].record(Pointwise(op), &inputs.iter().collect::<Vec<_>>())
    }

    /// A constant of this shape and element type.
    #[track_caller]
    pub fn like(&self, value: f64) -> Tensor {
        let ty = self.ty();
        self.graph.full(&ty.shape, ty.dtype.loaded(), value)
    }

    /// `0, 1, ..` along an axis of this graph, as `U32`.
    #[track_caller]
    pub fn iota(&self, len: usize) -> Tensor {
        self.record(Iota { len }, &[])
    }

    /// The axis that a possibly negative number means; a mistake is kept and axis 0 used.
    #[track_caller]
    fn axis(&self, axis: isize) -> usize {
        let rank = self.shape().len() as isize;
        let at = if axis < 0 { axis + rank } else { axis };
        if at < 0 || at >= rank.max(1) {
            self.graph.fail("axis", &[self.ty()], format!("there is no axis {axis}"));
            return 0;
        }
        at as usize
    }

    // Movement.

    /// The same elements in another shape.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Tensor {
        if self.shape() == shape {
            return self.clone();
        }
        self.record(Reshape(shape.to_vec()), &[self])
    }

    /// All axes from `start` joined into one.
    #[track_caller]
    pub fn flatten(&self, start: usize) -> Tensor {
        let shape = self.shape();
        let start = start.min(shape.len());
        self.reshape(&[&shape[..start], &[numel(&shape[start..])]].concat())
    }

    /// An axis of extent one before axis `axis`.
    #[track_caller]
    pub fn unsqueeze(&self, axis: usize) -> Tensor {
        let mut shape = self.shape();
        if axis > shape.len() {
            self.graph.fail("unsqueeze", &[self.ty()], format!("no place for an axis {axis}"));
            return self.clone();
        }
        shape.insert(axis, 1);
        self.reshape(&shape)
    }

    /// Axes in another order: axis `i` of the result is axis `order[i]`.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Tensor {
        self.record(Permute(order.to_vec()), &[self])
    }

    /// Two axes exchanged.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Tensor {
        let (a, b) = (self.axis(a), self.axis(b));
        let mut order: Vec<usize> = (0..self.shape().len()).collect();
        if a < order.len() && b < order.len() {
            order.swap(a, b);
        }
        self.permute(&order)
    }

    /// Axes of extent one repeated to a shape of the same rank.
    #[track_caller]
    pub fn expand(&self, shape: &[usize]) -> Tensor {
        if self.shape() == shape {
            return self.clone();
        }
        self.record(Expand(shape.to_vec()), &[self])
    }

    /// This tensor in a shape that it broadcasts to.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Tensor {
        let own = self.shape();
        let missing = shape.len().saturating_sub(own.len());
        self.reshape(&[vec![1; missing], own].concat()).expand(shape)
    }

    /// `len` coordinates of an axis from `start`.
    #[track_caller]
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Tensor {
        self.slice(axis, start, 1, len)
    }

    /// `len` coordinates of an axis from `start`, `step` apart; a negative step walks back.
    #[track_caller]
    pub fn slice(&self, axis: usize, start: usize, step: isize, len: usize) -> Tensor {
        self.record(Slice { axis, start, step, len }, &[self])
    }

    /// An axis backwards.
    #[track_caller]
    pub fn flip(&self, axis: usize) -> Tensor {
        match self.shape().get(axis).copied().unwrap_or(0) {
            0 => self.slice(axis, 0, 1, 0),
            len => self.slice(axis, len - 1, -1, len),
        }
    }

    /// Zeros before and after along an axis.
    #[track_caller]
    pub fn pad(&self, axis: usize, before: usize, after: usize) -> Tensor {
        if before == 0 && after == 0 {
            return self.clone();
        }
        self.record(Pad { axis, before, after }, &[self])
    }

    /// The same value, through which no gradient flows.
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        self.record(Detach, &[self])
    }

    // Scalar operations.

    /// Another element type. Floats become integers towards zero; truth is "not zero".
    #[track_caller]
    pub fn to(&self, dtype: DType) -> Tensor {
        if self.dtype() == dtype {
            return self.clone();
        }
        let op = match dtype {
            DType::F32 => Scalar::ToF32,
            DType::I32 => Scalar::ToI32,
            DType::U32 | DType::U8 => Scalar::ToU32,
            DType::Bool => Scalar::ToBool,
        };
        Tensor::scalar(op, &[self])
    }

    /// Where this is true, `yes`, else `no`.
    #[track_caller]
    pub fn select(&self, yes: &Tensor, no: &Tensor) -> Tensor {
        Tensor::scalar(Scalar::Select, &[self, yes, no])
    }

    /// `self` to a constant power: by squaring for whole numbers, else `exp(p log(self))`, which is
    /// NaN for negative elements.
    #[track_caller]
    pub fn powf(&self, power: f64) -> Tensor {
        if power.fract() != 0.0 || power.abs() > f64::from(u32::MAX) {
            return (self.log() * power).exp();
        }
        if power < 0.0 {
            return self.like(1.0) / self.powf(-power);
        }
        let mut result: Option<Tensor> = None;
        let (mut square, mut rest) = (self.clone(), power as u32);
        while rest > 0 {
            if rest & 1 == 1 {
                result = Some(result.map_or_else(|| square.clone(), |r| &r * &square));
            }
            rest >>= 1;
            if rest > 0 {
                square = &square * &square;
            }
        }
        result.unwrap_or_else(|| self.like(1.0))
    }

    /// 32 random bits for the counter of each element, under a key; both `U32`.
    #[track_caller]
    pub fn random(&self, counter: &Tensor) -> Tensor {
        Tensor::scalar(Scalar::Random, &[self, counter])
    }

    /// Uniform numbers in `[0, 1)` in a shape, under this `U32` key.
    #[track_caller]
    pub fn uniform(&self, shape: &[usize]) -> Tensor {
        let bits = self.random(&self.iota(numel(shape)).reshape(shape));
        // 24 bits: every number is exact in f32, and one is never reached.
        let high = Tensor::scalar(Scalar::Div, &[&bits, &bits.like(256.0)]);
        high.to(DType::F32) * (1.0 / 16_777_216.0)
    }

    /// Where each index goes in the permutation of `0..length` that a key selects; all `U32`.
    #[track_caller]
    pub fn shuffle(&self, length: &Tensor, key: &Tensor) -> Tensor {
        Tensor::scalar(Scalar::Shuffle, &[self, length, key])
    }

    // Reductions.

    #[track_caller]
    fn reduce(&self, combine: Combine, axes: &[usize]) -> Tensor {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        let shape = self.shape();
        let empty = axes.iter().any(|&axis| shape.get(axis) == Some(&0));
        if empty && combine == Combine::Sum {
            let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
            let kept: Vec<usize> = kept.map(|axis| shape[axis]).collect();
            return self.graph.full(&kept, self.dtype().loaded(), 0.0);
        }
        self.record(Reduce { combine, axes }, &[self])
    }

    /// The sum over axes, which disappear.
    #[track_caller]
    pub fn sum(&self, axes: &[usize]) -> Tensor {
        if axes.is_empty() {
            return self.clone();
        }
        self.reduce(Combine::Sum, axes)
    }

    /// The sum of all elements.
    #[track_caller]
    pub fn sum_all(&self) -> Tensor {
        self.sum(&(0..self.shape().len()).collect::<Vec<_>>())
    }

    /// The mean over axes, which disappear.
    #[track_caller]
    pub fn mean(&self, axes: &[usize]) -> Tensor {
        let count: usize =
            axes.iter().map(|&axis| self.shape().get(axis).copied().unwrap_or(1)).product();
        self.sum(axes) * (1.0 / count as f64)
    }

    /// The mean of all elements.
    #[track_caller]
    pub fn mean_all(&self) -> Tensor {
        self.mean(&(0..self.shape().len()).collect::<Vec<_>>())
    }

    /// The largest element over axes, which disappear. Equal ones share the gradient.
    #[track_caller]
    pub fn max(&self, axes: &[usize]) -> Tensor {
        self.reduce(Combine::Max, axes)
    }

    /// The smallest element over axes, which disappear.
    #[track_caller]
    pub fn min(&self, axes: &[usize]) -> Tensor {
        self.reduce(Combine::Min, axes)
    }

    /// The coordinate of the largest element along an axis, the first of equals; `U32`.
    #[track_caller]
    pub fn argmax(&self, axis: isize) -> Tensor {
        let axis = self.axis(axis);
        let best = self.max(&[axis]).unsqueeze(axis).expand(&self.shape());
        let place = self.along(axis);
        // NaN counts as largest, as it does in the maximum.
        best.equal(self)
            .or(&self.is_nan())
            .select(&place, &place.like(f64::from(u32::MAX)))
            .min(&[axis])
    }

    /// The coordinate along an axis of every element; `U32`.
    #[track_caller]
    pub fn along(&self, axis: usize) -> Tensor {
        let shape = self.shape();
        if axis >= shape.len() {
            self.graph.fail("along", &[self.ty()], format!("there is no axis {axis}"));
            return self.to(DType::U32);
        }
        let mut line = vec![1; shape.len()];
        line[axis] = shape[axis];
        self.iota(shape[axis]).reshape(&line).expand(&shape)
    }
}

impl Graph {
    /// Tensors laid one after the other in memory, as one axis.
    #[track_caller]
    pub fn pack(&self, tensors: &[&Tensor]) -> Tensor {
        match tensors {
            [] => self.full(&[0], DType::F32, 0.0),
            [first, ..] => first.record(Pack, tensors),
        }
    }

    /// Tensors one after the other along an axis; other extents and element types are equal.
    #[track_caller]
    pub fn concat(&self, tensors: &[&Tensor], axis: usize) -> Tensor {
        let types: Vec<Type> = tensors.iter().map(|t| t.ty()).collect();
        let mut expected = types.first().cloned().unwrap_or(Type::new(&[], DType::F32));
        let alike = types.iter().all(|ty| {
            let same = |at: usize| at == axis || ty.shape[at] == expected.shape[at];
            ty.dtype == expected.dtype
                && ty.shape.len() == expected.shape.len()
                && (0..ty.shape.len()).all(same)
        });
        if axis >= expected.shape.len() || !alike {
            let reason = format!("takes tensors that are equal but for axis {axis}");
            self.fail("concat", &types, reason);
            return self.full(&[], DType::F32, 0.0);
        }
        expected.shape[axis] = types.iter().map(|ty| ty.shape[axis]).sum();
        let mut start = 0;
        let mut result: Option<Tensor> = None;
        for (tensor, ty) in tensors.iter().zip(&types) {
            let own = ty.shape[axis];
            let padded = tensor.pad(axis, start, expected.shape[axis] - start - own);
            result = Some(match result {
                None => padded,
                Some(before) => {
                    // A choice and not a sum, so that NaN and infinity stay where they are.
                    let place = padded.along(axis);
                    place.less(&place.like(start as f64)).select(&before, &padded)
                }
            });
            start += own;
        }
        result.unwrap_or_else(|| self.full(&expected.shape, expected.dtype, 0.0))
    }
}
