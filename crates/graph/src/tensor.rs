//! The API: tensors are handles to recorded values. Methods record; nothing runs.
//!
//! Shapes broadcast as in NumPy, and names and defaults are PyTorch's; axes that are `isize` count
//! from the end if negative. A mistake is kept by the graph with the caller's line (see [`crate::GraphError`]).

use crate::ops::{
    AvgPool2d, Conv2d, Detach, Expand, Gather, Iota, MatMul, MaxPool2d, Op, Pack, Pad, Permute,
    Pointwise, Pool, Reduce, Reshape, Scalar, ScatterAdd, Slice, conv_extent,
};
use crate::types::broadcast;
use crate::{Graph, Type, Value};
use shadegrad_device::{Combine, Conv, DType, numel};
use std::ops::{Add, Div, Mul, Neg, Sub};

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
        best.equal(self).select(&place, &place.like(f64::from(u32::MAX))).min(&[axis])
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

    // Contractions, windows, indexing.

    /// Matrix product with PyTorch's rules: vectors are rows or columns, leading axes broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.shape(), other.shape());
        if a.is_empty() || b.is_empty() {
            self.graph.fail("matmul", &[self.ty(), other.ty()], "takes no scalars".to_string());
            return self.clone();
        }
        let left = if a.len() == 1 { self.unsqueeze(0) } else { self.clone() };
        let right = if b.len() == 1 { other.unsqueeze(1) } else { other.clone() };
        let (ls, rs) = (left.shape(), right.shape());
        let (l, r) = (ls.len() - 2, rs.len() - 2);
        if l > 0 && r == 0 {
            // Rows of all batches are rows of one product: no batched kernel is needed.
            let rows = left.reshape(&[numel(&ls[..=l]), ls[l + 1]]);
            let product = rows.record(MatMul, &[&rows, &right]);
            let shape = [&ls[..=l], &[rs[1]]].concat();
            return product.reshape(&without_vectors(shape, a.len() == 1, b.len() == 1));
        }
        let batch = match broadcast(&ls[..l], &rs[..r]) {
            Ok(batch) => batch,
            Err(reason) => {
                self.graph.fail("matmul", &[self.ty(), other.ty()], reason);
                return self.clone();
            }
        };
        let left = left.broadcast_to(&[batch.as_slice(), &ls[l..]].concat());
        let right = right.broadcast_to(&[batch.as_slice(), &rs[r..]].concat());
        let product = left.record(MatMul, &[&left, &right]);
        let shape = [batch.as_slice(), &[ls[l], rs[r + 1]]].concat();
        product.reshape(&without_vectors(shape, a.len() == 1, b.len() == 1))
    }

    /// Convolution (cross-correlation) of images `[batch, in, h, w]` with filters
    /// `[out, in / groups, kh, kw]`; each option is height and width.
    #[track_caller]
    pub fn conv2d(
        &self,
        weight: &Tensor,
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Tensor {
        let (x, w) = (self.shape(), weight.shape());
        let fail = |reason: String| {
            self.graph.fail("conv2d", &[self.ty(), weight.ty()], reason);
            self.clone()
        };
        let (&[batch, in_channels, h, width], &[out_channels, per_group, kh, kw]) =
            (x.as_slice(), w.as_slice())
        else {
            return fail("takes images of rank 4 and filters of rank 4".into());
        };
        if groups == 0 || in_channels != per_group * groups || out_channels % groups != 0 {
            return fail(format!("{groups} groups don't divide the channels"));
        }
        let (input, kernel) = ([h, width], [kh, kw]);
        let extent = |axis: usize| {
            conv_extent([input[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]])
        };
        let output = [extent(0), extent(1)];
        if output.contains(&0) || dilation.contains(&0) {
            return fail(format!(
                "stride {stride:?}, padding {padding:?}, dilation {dilation:?} leave no output"
            ));
        }
        let conv = Conv {
            batch,
            in_channels,
            out_channels,
            groups,
            input,
            kernel,
            output,
            stride,
            padding,
            dilation,
        };
        self.record(Conv2d(conv), &[self, weight])
    }

    #[track_caller]
    fn pool(&self, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Option<Pool> {
        match self.shape().try_into() {
            Ok(input) => Some(Pool { input, kernel, stride, padding }),
            Err(_) => {
                self.graph.fail("pool", &[self.ty()], "takes images of rank 4".to_string());
                None
            }
        }
    }

    /// The largest element of each window of images `[batch, channels, h, w]`.
    #[track_caller]
    pub fn max_pool2d(
        &self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Tensor {
        match self.pool(kernel, stride, padding) {
            Some(pool) => self.record(MaxPool2d(pool), &[self]),
            None => self.clone(),
        }
    }

    /// The mean of each window of images `[batch, channels, h, w]`; padding counts as zeros.
    #[track_caller]
    pub fn avg_pool2d(
        &self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Tensor {
        match self.pool(kernel, stride, padding) {
            Some(pool) => self.record(AvgPool2d(pool), &[self]),
            None => self.clone(),
        }
    }

    /// `out[i][j] = self[index[i][j]][j]` along an axis; indices are `U32`.
    #[track_caller]
    pub fn gather(&self, axis: usize, index: &Tensor) -> Tensor {
        self.record(Gather { axis }, &[self, index])
    }

    /// The entries of axis 0 that a list of `U32` indices names.
    #[track_caller]
    pub fn index_select(&self, index: &Tensor) -> Tensor {
        let rest = self.shape().get(1..).unwrap_or_default().to_vec();
        let count = index.shape().first().copied().unwrap_or(1);
        let column = [vec![count], vec![1; rest.len()]].concat();
        let shape = [vec![count], rest].concat();
        self.gather(0, &index.reshape(&column).expand(&shape))
    }

    /// Zeros of extent `len` along an axis, with this tensor's elements added where indices say.
    #[track_caller]
    pub fn scatter_add(&self, axis: usize, index: &Tensor, len: usize) -> Tensor {
        self.record(ScatterAdd { axis, len }, &[self, index])
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

/// Drops the axes that stood in for vectors in a matrix product.
fn without_vectors(mut shape: Vec<usize>, left: bool, right: bool) -> Vec<usize> {
    if right {
        shape.pop();
    }
    if left {
        let at = shape.len() - if right { 1 } else { 2 };
        shape.remove(at);
    }
    shape
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:ident),* $(,)?) => {
        impl Tensor {
            $($(#[$doc])* #[track_caller]
            pub fn $name(&self) -> Tensor {
                Tensor::scalar(Scalar::$op, &[self])
            })*
        }
    };
}

unary! {
    /// Absolute value.
    abs Abs,
    /// `e` to the power of each element.
    exp Exp,
    /// Natural logarithm.
    log Log,
    /// Square root.
    sqrt Sqrt,
    /// Sine.
    sin Sin,
    /// Cosine.
    cos Cos,
    /// Hyperbolic tangent.
    tanh Tanh,
    /// `1 / (1 + exp(-x))`.
    sigmoid Sigmoid,
    /// `max(x, 0)`; the slope at 0 is 0.
    relu Relu,
    /// The largest whole number that isn't larger.
    floor Floor,
    /// Not true.
    not Not,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $op:ident),* $(,)?) => {
        impl Tensor {
            $($(#[$doc])* #[track_caller]
            pub fn $name(&self, other: &Tensor) -> Tensor {
                Tensor::scalar(Scalar::$op, &[self, other])
            })*
        }
    };
}

binary! {
    /// The larger of two; at a tie the gradient goes to the first.
    maximum Maximum,
    /// The smaller of two; at a tie the gradient goes to the first.
    minimum Minimum,
    /// What floored division leaves.
    remainder Remainder,
    /// Whether it is less.
    less Less,
    /// Whether it is less or equal.
    less_equal LessEqual,
    /// Whether both are equal.
    equal Equal,
    /// Both.
    and And,
    /// One or both.
    or Or,
}

macro_rules! operator {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl $trait<&Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                Tensor::scalar(Scalar::$op, &[self, other])
            }
        }
        impl $trait<Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                $trait::$method(self, &other)
            }
        }
        impl $trait<&Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                $trait::$method(&self, other)
            }
        }
        impl $trait<Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                $trait::$method(&self, &other)
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                $trait::$method(self, &self.like(other))
            }
        }
        impl $trait<f64> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                $trait::$method(&self, other)
            }
        }
    )*};
}

operator!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div);

impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::scalar(Scalar::Neg, &[self])
    }
}

impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        -&self
    }
}
