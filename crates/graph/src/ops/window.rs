//! Pooling: maxima and means of windows, and their gradients.
//!
//! The gradients are operations of their own because a window's elements can't be written as a
//! view once windows overlap padding; they gather, so nothing is added atomically.

use super::contract::conv_extent;
use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity, floats};
use crate::{Array, Type};
use shadegrad_device::{DType, Window, WindowRole};

/// The geometry of a pooling window over images `[batch, channels, h, w]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Shape of the input.
    pub input: [usize; 4],
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Points around the input: they never win a maximum and count as zeros in a mean.
    pub padding: [usize; 2],
}

impl Pool {
    /// Shape of the output.
    pub fn output(&self) -> [usize; 4] {
        let extent = |axis: usize| {
            conv_extent([
                self.input[axis + 2],
                self.kernel[axis],
                self.stride[axis],
                self.padding[axis],
                1,
            ])
        };
        [self.input[0], self.input[1], extent(0), extent(1)]
    }

    fn window(&self) -> Window {
        let [.., oh, ow] = self.output();
        Window {
            planes: self.input[0] * self.input[1],
            input: [self.input[2], self.input[3]],
            output: [oh, ow],
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }

    /// An error unless `ty` has the shape.
    fn expect(&self, ty: &Type, shape: [usize; 4]) -> Result<(), String> {
        if (0..2).any(|axis| self.padding[axis] * 2 > self.kernel[axis] || self.stride[axis] == 0) {
            return Err("padding is at most half of the window, and the stride not zero".into());
        }
        if self.output().contains(&0) {
            return Err(format!("a window of {:?} does not fit", self.kernel));
        }
        match ty.shape == shape {
            true => Ok(()),
            false => Err(format!("{:?} where {shape:?} is expected", ty.shape)),
        }
    }

    /// Calls `f(output, input)` with the element numbers of every window and what it covers.
    fn covered(&self, mut f: impl FnMut(usize, usize)) {
        let [.., h, w] = self.input;
        let [n, c, oh, ow] = self.output();
        for plane in 0..n * c {
            for oy in 0..oh {
                for ox in 0..ow {
                    for ky in 0..self.kernel[0] {
                        for kx in 0..self.kernel[1] {
                            let y = (oy * self.stride[0] + ky).wrapping_sub(self.padding[0]);
                            let x = (ox * self.stride[1] + kx).wrapping_sub(self.padding[1]);
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

fn pools() -> Vec<Pool> {
    let pool = |input, kernel, stride, padding| Pool { input, kernel, stride, padding };
    vec![
        pool([2, 3, 6, 4], [2, 2], [2, 2], [0, 0]),
        pool([1, 2, 7, 5], [3, 2], [2, 1], [1, 0]),
        pool([1, 1, 5, 5], [2, 2], [2, 2], [1, 1]),
        pool([2, 65, 3, 3], [3, 3], [1, 1], [1, 1]),
        pool([1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
    ]
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

/// The mean of each window; padding counts as zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2d(pub Pool);

/// Each window's value spread over what it covers: the gradient of [`AvgPool2d`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2dGradient(pub Pool);

impl Operation for MaxPool2d {
    fn name(&self) -> String {
        "max_pool2d".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        floats(inputs)?;
        self.0.expect(inputs[0], self.0.input)?;
        Ok(Type::new(&self.0.output(), DType::F32))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let x = &b.inputs[0];
        let index = x.record(MaxPool2dIndex(self.0.clone()), &[x]);
        let dx = x.record(MaxPool2dGradient(self.0.clone()), &[b.upstream, &index]);
        Gradient::Of(vec![Some(dx)])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::Max, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let mut data = vec![f64::NEG_INFINITY; ty.numel()];
        self.0.covered(|o, i| data[o] = data[o].max(inputs[0].data[i]));
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
        MaxPool2d(self.0.clone()).infer(inputs)?;
        Ok(Type::new(&self.0.output(), DType::U32))
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
        let mut data = vec![0.0; ty.numel()];
        self.0.covered(|o, i| {
            if inputs[0].data[i] > best[o] {
                (best[o], data[o]) = (inputs[0].data[i], (i % plane) as f64);
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
        self.0.expect(inputs[0], self.0.output())?;
        self.0.expect(inputs[1], self.0.output())?;
        match inputs[1].dtype {
            DType::U32 => Ok(Type::new(&self.0.input, DType::F32)),
            other => Err(format!("indices are u32, not {other}")),
        }
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let ([n, c, h, w], [.., oh, ow]) = (self.0.input, self.0.output());
        let planes = b.upstream.reshape(&[n, c, h * w]);
        let taken = planes.gather(2, &b.inputs[1].reshape(&[n, c, oh * ow]));
        Gradient::Of(vec![Some(taken.reshape(&self.0.output())), None])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::MaxGradient, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let [.., h, w] = self.0.input;
        let [.., oh, ow] = self.0.output();
        let mut data = vec![0.0; ty.numel()];
        for (o, (&g, &at)) in inputs[0].data.iter().zip(&inputs[1].data).enumerate() {
            data[o / (oh * ow) * h * w + at as usize] += g;
        }
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        // The place of a maximum lies in its window: one plane of ones picks the top left corner.
        pools()
            .into_iter()
            .filter(|pool| {
                pool.padding == [0, 0] && pool.output()[2..] == [1, 1] || pool.kernel == [1, 1]
            })
            .chain([Pool { input: [2, 3, 4, 4], kernel: [4, 4], stride: [4, 4], padding: [0, 0] }])
            .map(|pool| Sample {
                inputs: vec![
                    SampleInput::float(&pool.output(), -2.0, 2.0),
                    SampleInput::index(&pool.output(), pool.input[2] * pool.input[3]),
                ],
                op: MaxPool2dGradient(pool).into(),
            })
            .collect()
    }
}

impl Operation for AvgPool2d {
    fn name(&self) -> String {
        "avg_pool2d".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        MaxPool2d(self.0.clone()).infer(inputs)
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![Some(
            b.upstream.record(AvgPool2dGradient(self.0.clone()), &[b.upstream]),
        )])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::Average, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let size = (self.0.kernel[0] * self.0.kernel[1]) as f64;
        let mut data = vec![0.0; ty.numel()];
        self.0.covered(|o, i| data[o] += inputs[0].data[i] / size);
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        let x = |pool: &Pool| vec![SampleInput::float(&pool.input, -2.0, 2.0)];
        samples(|pool| AvgPool2d(pool).into(), x)
    }
}

impl Operation for AvgPool2dGradient {
    fn name(&self) -> String {
        "avg_pool2d_gradient".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        floats(inputs)?;
        self.0.expect(inputs[0], self.0.output())?;
        Ok(Type::new(&self.0.input, DType::F32))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![Some(b.upstream.record(AvgPool2d(self.0.clone()), &[b.upstream]))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Window(self.0.window(), WindowRole::AverageGradient, false)
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let size = (self.0.kernel[0] * self.0.kernel[1]) as f64;
        let mut data = vec![0.0; ty.numel()];
        self.0.covered(|o, i| data[i] += inputs[0].data[o] / size);
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        let y = |pool: &Pool| vec![SampleInput::float(&pool.output(), -2.0, 2.0)];
        samples(|pool| AvgPool2dGradient(pool).into(), y)
    }
}
