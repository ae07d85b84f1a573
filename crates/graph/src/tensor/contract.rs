//! Matrix products, convolutions, pooling and indexing.

use super::Tensor;
use crate::ops::{AvgPool2d, Conv2d, Gather, MatMul, MaxPool2d, Op, Pool, ScatterAdd, conv_extent};
use crate::types::broadcast;
use shadegrad_device::{Conv, numel};

impl Tensor {
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

    /// Records a pooling operation of images `[batch, channels, h, w]`.
    #[track_caller]
    fn pool(&self, op: impl Fn(Pool) -> Op, [kernel, stride, padding]: [[usize; 2]; 3]) -> Tensor {
        match self.shape().try_into() {
            Ok(input) => self.record(op(Pool { input, kernel, stride, padding }), &[self]),
            Err(_) => {
                self.graph.fail("pool", &[self.ty()], "takes images of rank 4".to_string());
                self.clone()
            }
        }
    }

    /// The largest element of each window of images `[batch, channels, h, w]`.
    #[track_caller]
    pub fn max_pool2d(&self, kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]) -> Tensor {
        self.pool(|pool| MaxPool2d(pool).into(), [kernel, stride, pad])
    }

    /// The mean of each window of images `[batch, channels, h, w]`; padding counts as zeros.
    #[track_caller]
    pub fn avg_pool2d(&self, kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]) -> Tensor {
        self.pool(|pool| AvgPool2d(pool).into(), [kernel, stride, pad])
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
