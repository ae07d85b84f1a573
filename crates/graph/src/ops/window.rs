//! Pooling: maxima and means of windows, and their gradients.
//!
//! The gradients are operations of their own because a window's elements can't be written as a
//! view once windows overlap padding; they gather, so nothing is added atomically.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity, floats};
use crate::{Array, Type};
use shadegrad_device::{DType, Window, WindowRole};

/// The geometry of a pooling window over images `[batch, channels, h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Shape of the input.
    pub input: [usize; 4],
    /// Height and width of the output; see [`Pool::new`].
    pub output: [usize; 2],
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Points around the input: they never win a maximum and add nothing to a sum.
    pub padding: [usize; 2],
    /// Step between the elements of a window.
    pub dilation: [usize; 2],
}

impl Pool {
    /// The geometry of a window of `kernel` elements that steps through an input. With `ceil_mode` a last
    /// window may reach past the end, as long as it begins before it.
    ///
    /// # Errors
    /// What doesn't fit.
    pub fn new(
        input: [usize; 4],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil_mode: bool,
    ) -> Result<Pool, String> {
        let mut output = [0; 2];
        for axis in 0..2 {
            let (n, k, s) = (input[axis + 2], kernel[axis], stride[axis]);
            let (p, d) = (padding[axis], dilation[axis]);
            if k == 0 || s == 0 || d == 0 {
                return Err(format!(
                    "kernel {kernel:?}, stride {stride:?} and dilation {dilation:?} are at least 1"
                ));
            }
            let covered = d.checked_mul(k - 1).and_then(|way| way.checked_add(1));
            let padded = p.checked_mul(2).and_then(|around| around.checked_add(n));
            let (Some(covered), Some(padded)) = (covered, padded) else {
                return Err(format!(
                    "dilation {dilation:?} and padding {padding:?} are more than can be counted"
                ));
            };
            if p * 2 > covered {
                return Err(format!(
                    "padding {padding:?} is more than half of a window that covers {covered}"
                ));
            }
            let Some(room) = padded.checked_sub(covered) else {
                return Err(format!(
                    "a window that covers {covered} does not fit {n} and padding {p} on both sides"
                ));
            };
            output[axis] = if ceil_mode { room.div_ceil(s) } else { room / s } + 1;
            if ceil_mode && (output[axis] - 1) * s >= n + p {
                output[axis] -= 1;
            }
        }
        Ok(Pool { input, output, kernel, stride, padding, dilation })
    }

    /// Shape of the output.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.input[0], self.input[1], self.output[0], self.output[1]]
    }

    fn window(&self) -> Window {
        Window {
            planes: [self.input[0], self.input[1]],
            input: [self.input[2], self.input[3]],
            output: self.output,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        }
    }

    /// Calls `f(output, input)` with the element numbers of every window and what it covers.
    fn covered(&self, mut f: impl FnMut(usize, usize)) {
        let [n, c, h, w] = self.input;
        let [oh, ow] = self.output;
        for plane in 0..n * c {
            for oy in 0..oh {
                for ox in 0..ow {
                    for ky in 0..self.kernel[0] {
                        for kx in 0..self.kernel[1] {
                            let y = (oy * self.stride[0] + ky * self.dilation[0])
                                .wrapping_sub(self.padding[0]);
                            let x = (ox * self.stride[1] + kx * self.dilation[1])
                                .wrapping_sub(self.padding[1]);
                            if y < h && x < w {
                                f((plane * oh + oy) * ow + ox, (plane * h + y) * w + x);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// An error unless `ty` has the shape.
fn expect(ty: &Type, shape: [usize; 4]) -> Result<(), String> {
    match ty.shape == shape {
        true => Ok(()),
        false => Err(format!("{:?} where {shape:?} is expected", ty.shape)),
    }
}

fn pools() -> Vec<Pool> {
    let plain =
        |input, kernel, stride, padding| Pool::new(input, kernel, stride, padding, [1, 1], false);
    [
        plain([2, 3, 6, 4], [2, 2], [2, 2], [0, 0]),
        plain([1, 2, 7, 5], [3, 2], [2, 1], [1, 0]),
        plain([1, 1, 5, 5], [2, 2], [2, 2], [1, 1]),
        plain([2, 65, 3, 3], [3, 3], [1, 1], [1, 1]),
        plain([1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
        Pool::new([2, 2, 8, 5], [3, 2], [2, 2], [1, 1], [1, 1], true),
        Pool::new([1, 3, 9, 7], [2, 3], [3, 1], [0, 1], [2, 2], false),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn samples(
    op: impl Fn(Pool) -> super::Op,
    inputs: impl Fn(&Pool) -> Vec<SampleInput>,
) -> Vec<Sample> {
    pools().into_iter().map(|pool| Sample { inputs: inputs(&pool), op: op(pool) }).collect()
}

/// The largest element of each window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2d(pub Pool);

/// Where in its plane the largest element of each window is; the first, of equals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2dIndex(pub Pool);

/// Each window's value added where its index says: the gradient of [`MaxPool2d`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2dGradient(pub Pool);

/// The sum of each window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SumPool2d(pub Pool);

/// Each window's value added to what it covers: the gradient of [`SumPool2d`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SumPool2dGradient(pub Pool);

impl Operation for MaxPool2d {
    fn name(&self) -> String {
        "max_pool2d".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        floats(inputs)?;
        expect(inputs[0], self.0.input)?;
        Ok(Type::new(&self.0.output_shape(), DType::F32))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let x = &b.inputs[0];
        let index = x.record(MaxPool2dIndex(self.0), &[x]);
        let dx = x.record(MaxPool2dGradient(self.0), &[b.upstream, &index]);
        Gradient::Of(vec![Some(dx)])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::Max, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let mut data = vec![f64::NEG_INFINITY; ty.numel()];
        self.0.covered(|o, i| {
            let value = inputs[0].data[i];
            data[o] = if value > data[o] || value.is_nan() { value } else { data[o] };
        });
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        let x = |pool: &Pool| vec![SampleInput::float(&pool.input, -2.0, 2.0).distinct()];
        samples(|pool| MaxPool2d(pool).into(), x)
    }
}

impl Operation for MaxPool2dIndex {
    fn name(&self) -> String {
        "max_pool2d_index".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        MaxPool2d(self.0).infer(inputs)?;
        Ok(Type::new(&self.0.output_shape(), DType::U32))
    }
    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Zero
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::Max, true)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let plane = self.0.input[2] * self.0.input[3];
        let mut best = vec![f64::NEG_INFINITY; ty.numel()];
        // A window of nothing but padding has no place.
        let mut data = vec![f64::from(u32::MAX); ty.numel()];
        self.0.covered(|o, i| {
            let value = inputs[0].data[i];
            if value > best[o] || value.is_nan() || data[o] == f64::from(u32::MAX) {
                (best[o], data[o]) = (value, (i % plane) as f64);
            }
        });
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        let x = |pool: &Pool| vec![SampleInput::float(&pool.input, -2.0, 2.0).distinct()];
        samples(|pool| MaxPool2dIndex(pool).into(), x)
    }
}

impl Operation for MaxPool2dGradient {
    fn name(&self) -> String {
        "max_pool2d_gradient".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 2)?;
        floats(&inputs[..1])?;
        expect(inputs[0], self.0.output_shape())?;
        expect(inputs[1], self.0.output_shape())?;
        match inputs[1].dtype {
            DType::U32 => Ok(Type::new(&self.0.input, DType::F32)),
            other => Err(format!("indices are u32, not {other}")),
        }
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let ([n, c, h, w], [.., oh, ow]) = (self.0.input, self.0.output_shape());
        let planes = b.upstream.reshape(&[n, c, h * w]);
        let taken = planes.gather(2, &b.inputs[1].reshape(&[n, c, oh * ow]));
        Gradient::Of(vec![Some(taken.reshape(&self.0.output_shape())), None])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::MaxGradient, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let [.., h, w] = self.0.input;
        let [.., oh, ow] = self.0.output_shape();
        let mut data = vec![0.0; ty.numel()];
        for (o, (&g, &at)) in inputs[0].data.iter().zip(&inputs[1].data).enumerate() {
            if (at as usize) < h * w {
                data[o / (oh * ow) * h * w + at as usize] += g;
            }
        }
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        // The place of a maximum lies in its window: one plane of ones picks the top left corner.
        pools()
            .into_iter()
            .filter(|pool| {
                pool.padding == [0, 0] && pool.output_shape()[2..] == [1, 1]
                    || pool.kernel == [1, 1]
            })
            .chain(Pool::new([2, 3, 4, 4], [4, 4], [4, 4], [0, 0], [1, 1], false))
            .map(|pool| Sample {
                inputs: vec![
                    SampleInput::float(&pool.output_shape(), -2.0, 2.0),
                    SampleInput::index(&pool.output_shape(), pool.input[2] * pool.input[3]),
                ],
                op: MaxPool2dGradient(pool).into(),
            })
            .collect()
    }
}

impl Operation for SumPool2d {
    fn name(&self) -> String {
        "sum_pool2d".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        MaxPool2d(self.0).infer(inputs)
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![Some(b.upstream.record(SumPool2dGradient(self.0), &[b.upstream]))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::Sum, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let mut data = vec![0.0; ty.numel()];
        self.0.covered(|o, i| data[o] += inputs[0].data[i]);
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        let x = |pool: &Pool| vec![SampleInput::float(&pool.input, -2.0, 2.0)];
        samples(|pool| SumPool2d(pool).into(), x)
    }
}

impl Operation for SumPool2dGradient {
    fn name(&self) -> String {
        "sum_pool2d_gradient".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        floats(inputs)?;
        expect(inputs[0], self.0.output_shape())?;
        Ok(Type::new(&self.0.input, DType::F32))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![Some(b.upstream.record(SumPool2d(self.0), &[b.upstream]))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::SumGradient, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let mut data = vec![0.0; ty.numel()];
        self.0.covered(|o, i| data[i] += inputs[0].data[o]);
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        let y = |pool: &Pool| vec![SampleInput::float(&pool.output_shape(), -2.0, 2.0)];
        samples(|pool| SumPool2dGradient(pool).into(), y)
    }
}
