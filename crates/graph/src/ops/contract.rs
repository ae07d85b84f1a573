//! Contractions: matrix products and the three tensors of a convolution, each the others' gradient.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity, floats};
use crate::{Array, Type};
use shadegrad_device::{Contraction, Conv, ConvRole};

/// `[batch.., m, k] x [batch.., k, n]`. Transposes are views of the inputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatMul;

impl Operation for MatMul {
    fn name(&self) -> String {
        "matmul".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 2)?;
        floats(inputs)?;
        let (a, b) = (&inputs[0].shape, &inputs[1].shape);
        if a.len() < 2 || a.len() != b.len() || a[..a.len() - 2] != b[..b.len() - 2] {
            return Err("takes two matrices, or batches of as many".to_string());
        }
        let rank = a.len();
        if a[rank - 1] != b[rank - 2] {
            return Err(format!("{} columns don't meet {} rows", a[rank - 1], b[rank - 2]));
        }
        let mut shape = a.clone();
        shape[rank - 1] = b[rank - 1];
        Ok(Type::new(&shape, inputs[0].dtype.loaded()))
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (x, w) = (&b.inputs[0], &b.inputs[1]);
        let dx = b.upstream.matmul(&w.transpose(-1, -2));
        let dw = x.transpose(-1, -2).matmul(b.upstream);
        Gradient::Of(vec![Some(dx), Some(dw)])
    }

    fn lower(&self, inputs: &[&Type]) -> Lowering {
        let (a, b) = (&inputs[0].shape, &inputs[1].shape);
        let rank = a.len();
        Lowering::Contract(Contraction::MatMul {
            batch: a[..rank - 2].to_vec(),
            m: a[rank - 2],
            n: b[rank - 1],
            k: a[rank - 1],
        })
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (a, b) = (inputs[0], inputs[1]);
        let rank = ty.shape.len();
        let (m, n, k) = (ty.shape[rank - 2], ty.shape[rank - 1], a.ty.shape[rank - 1]);
        let mut data = vec![0.0; ty.numel()];
        for (number, out) in data.chunks_mut((m * n).max(1)).enumerate() {
            for i in 0..m {
                for p in 0..k {
                    let left = a.data[(number * m + i) * k + p];
                    for j in 0..n {
                        out[i * n + j] += left * b.data[(number * k + p) * n + j];
                    }
                }
            }
        }
        Array { ty: ty.clone(), data }
    }

    fn samples() -> Vec<Sample> {
        let cases: [(&[usize], &[usize]); 9] = [
            (&[1, 1], &[1, 1]),
            (&[2, 3], &[3, 2]),
            (&[63, 65], &[65, 64]),
            (&[3, 257], &[257, 5]),
            (&[65, 1], &[1, 67]),
            (&[2, 5, 7], &[2, 7, 3]),
            (&[3, 1, 70], &[3, 70, 33]),
            (&[2, 3, 4, 5], &[2, 3, 5, 1]),
            (&[4, 1025], &[1025, 3]),
        ];
        let input = |shape: &[usize]| SampleInput::float(shape, -1.0, 1.0);
        cases.map(|(a, b)| Sample { op: MatMul.into(), inputs: vec![input(a), input(b)] }).to_vec()
    }
}

/// Cross-correlation of images with filters, as PyTorch's `conv2d`:
/// `[batch, in, h, w] x [out, in / groups, kh, kw] -> [batch, out, oh, ow]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d(pub Conv);

/// The gradient of a convolution with respect to its input, from output gradient and weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dInputGradient(pub Conv);

/// The gradient of a convolution with respect to its weight, from input and output gradient.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dWeightGradient(pub Conv);

/// An error unless the inputs have the shapes of the role's two sources; the result's type.
fn infer(conv: &Conv, role: ConvRole, inputs: &[&Type]) -> Result<Type, String> {
    arity(inputs, 2)?;
    floats(inputs)?;
    let [left, right, result] = conv.shapes(role);
    for (input, expected) in inputs.iter().zip([left, right]) {
        if input.shape != expected {
            return Err(format!("{:?} where {expected:?} is expected", input.shape));
        }
    }
    Ok(Type::new(&result, inputs[0].dtype.loaded()))
}

/// Calls `f(input, weight, output)` with the element numbers of every product of a convolution.
fn products(c: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    let (ci, co) = (c.in_channels / c.groups, c.out_channels / c.groups);
    for image in 0..c.batch {
        for o in 0..c.out_channels {
            for i in 0..ci {
                let channel = o / co * ci + i;
                for ky in 0..c.kernel[0] {
                    for kx in 0..c.kernel[1] {
                        let weight = ((o * ci + i) * c.kernel[0] + ky) * c.kernel[1] + kx;
                        for oy in 0..c.output[0] {
                            let y =
                                (oy * c.stride[0] + ky * c.dilation[0]).wrapping_sub(c.padding[0]);
                            if y >= c.input[0] {
                                continue;
                            }
                            for ox in 0..c.output[1] {
                                let x = (ox * c.stride[1] + kx * c.dilation[1])
                                    .wrapping_sub(c.padding[1]);
                                if x < c.input[1] {
                                    let input = ((image * c.in_channels + channel) * c.input[0]
                                        + y)
                                        * c.input[1]
                                        + x;
                                    let output = ((image * c.out_channels + o) * c.output[0] + oy)
                                        * c.output[1]
                                        + ox;
                                    f(input, weight, output);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn geometries() -> Vec<Conv> {
    let conv = |batch, channels: [usize; 2], groups, input, kernel, stride, padding, dilation| {
        let extent = |axis: usize| {
            conv_extent([input, kernel, stride, padding, dilation].map(|v: [usize; 2]| v[axis]))
        };
        Conv {
            batch,
            in_channels: channels[0],
            out_channels: channels[1],
            groups,
            input,
            kernel,
            output: [extent(0), extent(1)],
            stride,
            padding,
            dilation,
        }
    };
    vec![
        conv(1, [1, 1], 1, [3, 3], [1, 1], [1, 1], [0, 0], [1, 1]),
        conv(2, [3, 4], 1, [5, 6], [3, 3], [1, 1], [1, 1], [1, 1]),
        conv(1, [2, 3], 1, [7, 9], [3, 2], [2, 3], [1, 0], [1, 1]),
        conv(2, [4, 6], 2, [5, 5], [2, 3], [1, 2], [0, 2], [2, 1]),
        conv(2, [3, 3], 3, [6, 4], [3, 3], [2, 1], [1, 1], [1, 2]),
        conv(3, [1, 33], 1, [9, 8], [3, 3], [1, 1], [1, 1], [1, 1]),
        conv(2, [5, 2], 1, [6, 6], [1, 1], [2, 2], [0, 0], [1, 1]),
        conv(2, [5, 7], 1, [6, 5], [1, 1], [1, 1], [0, 0], [1, 1]),
        // More padding than image.
        conv(2, [2, 3], 1, [1, 1], [5, 5], [1, 1], [2, 2], [1, 1]),
        conv(1, [1, 2], 1, [2, 1], [3, 3], [1, 1], [2, 2], [2, 2]),
    ]
}

/// The output extent of a convolution or pooling along one axis, from `[input, kernel, stride,
/// padding, dilation]`; zero if the window doesn't fit.
pub(crate) fn conv_extent([input, kernel, stride, padding, dilation]: [usize; 5]) -> usize {
    // What can't be counted doesn't fit.
    let room = || {
        let covered = dilation.checked_mul(kernel.saturating_sub(1))?.checked_add(1)?;
        padding.checked_mul(2)?.checked_add(input)?.checked_sub(covered)
    };
    match room() {
        Some(room) if stride > 0 && kernel > 0 => room / stride + 1,
        _ => 0,
    }
}

fn samples(op: impl Fn(Conv) -> super::Op, role: ConvRole) -> Vec<Sample> {
    let sample = |conv: Conv| {
        let [left, right, _] = conv.shapes(role);
        let inputs = [left, right].map(|shape| SampleInput::float(&shape, -1.0, 1.0)).to_vec();
        Sample { op: op(conv), inputs }
    };
    geometries().into_iter().map(sample).collect()
}

impl Operation for Conv2d {
    fn name(&self) -> String {
        "conv2d".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, ConvRole::Forward, inputs)
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (x, w, g) = (&b.inputs[0], &b.inputs[1], b.upstream);
        let dx = g.record(Conv2dInputGradient(self.0), &[g, w]);
        let dw = g.record(Conv2dWeightGradient(self.0), &[x, g]);
        Gradient::Of(vec![Some(dx), Some(dw)])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Contract(Contraction::Conv(self.0, ConvRole::Forward))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (x, w) = (inputs[0], inputs[1]);
        let mut y = vec![0.0; ty.numel()];
        products(&self.0, |i, j, o| y[o] += x.data[i] * w.data[j]);
        Array { ty: ty.clone(), data: y }
    }
    fn samples() -> Vec<Sample> {
        samples(|conv| Conv2d(conv).into(), ConvRole::Forward)
    }
}

impl Operation for Conv2dInputGradient {
    fn name(&self) -> String {
        "conv2d_input_gradient".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, ConvRole::InputGradient, inputs)
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (dy, w, g) = (&b.inputs[0], &b.inputs[1], b.upstream);
        let ddy = g.record(Conv2d(self.0), &[g, w]);
        let dw = g.record(Conv2dWeightGradient(self.0), &[g, dy]);
        Gradient::Of(vec![Some(ddy), Some(dw)])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Contract(Contraction::Conv(self.0, ConvRole::InputGradient))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (dy, w) = (inputs[0], inputs[1]);
        let mut dx = vec![0.0; ty.numel()];
        products(&self.0, |i, j, o| dx[i] += dy.data[o] * w.data[j]);
        Array { ty: ty.clone(), data: dx }
    }
    fn samples() -> Vec<Sample> {
        samples(|conv| Conv2dInputGradient(conv).into(), ConvRole::InputGradient)
    }
}

impl Operation for Conv2dWeightGradient {
    fn name(&self) -> String {
        "conv2d_weight_gradient".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, ConvRole::WeightGradient, inputs)
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (x, dy, g) = (&b.inputs[0], &b.inputs[1], b.upstream);
        let dx = g.record(Conv2dInputGradient(self.0), &[dy, g]);
        let ddy = g.record(Conv2d(self.0), &[x, g]);
        Gradient::Of(vec![Some(dx), Some(ddy)])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Contract(Contraction::Conv(self.0, ConvRole::WeightGradient))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (x, dy) = (inputs[0], inputs[1]);
        let mut dw = vec![0.0; ty.numel()];
        products(&self.0, |i, j, o| dw[j] += x.data[i] * dy.data[o]);
        Array { ty: ty.clone(), data: dw }
    }
    fn samples() -> Vec<Sample> {
        samples(|conv| Conv2dWeightGradient(conv).into(), ConvRole::WeightGradient)
    }
}
