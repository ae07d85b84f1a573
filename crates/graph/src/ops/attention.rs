//! Attention in one kernel: the matrix of scores is never stored.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, floats};
use crate::{Array, Tensor, Type};
use shadegrad_device::{Attention, DType};

/// `softmax(scale q kᵀ + bias) v` over queries `[batch.., m, d]`, keys `[batch.., n, d]`, values
/// `[batch.., n, e]` and perhaps a bias `[batch.., m, n]` (Vaswani et al., arXiv 1706.03762). A key whose
/// bias is minus infinity takes no part; a query without keys gives zeros.
///
/// The gradient computes the scores again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attend(pub Attention);

impl Attend {
    fn scale(&self) -> f64 {
        f64::from(f32::from_bits(self.0.scale))
    }

    /// The weights of the keys, `[batch.., m, n]`, as a matrix.
    fn weights(&self, inputs: &[Tensor]) -> Tensor {
        let products = inputs[0].matmul(&inputs[1].transpose(-1, -2)) * self.scale();
        let (lowest, zero) = (f64::from(f32::MIN), products.zeros_like());
        // A masked key's product takes no part, so it may be anything.
        let (masked, scores) = match inputs.get(3) {
            None => (products.along(-1).less(&products.along(-1).zeros_like()), products.clone()),
            Some(bias) => {
                let masked = bias.less_equal(&bias.full_like(lowest));
                let kept = masked.select(&zero, &products) + masked.select(&zero, bias);
                (masked.clone(), masked.select(&products.full_like(f64::NEG_INFINITY), &kept))
            }
        };
        let most = match self.0.keys {
            0 => scores.sum(&[-1]),
            _ => scores.detach().amax(&[-1]),
        };
        let most = most.keepdim(&[-1]);
        let most = most.maximum(&most.full_like(lowest));
        let shifted = masked.select(&zero, &(&scores - most));
        let weights = masked.select(&zero, &shifted.exp());
        let total = weights.sum(&[-1]).keepdim(&[-1]);
        let none = total.equal(&total.full_like(0.0));
        &weights / none.select(&total.full_like(1.0), &total)
    }
}

impl Operation for Attend {
    fn name(&self) -> String {
        "attention".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        let a = &self.0;
        if !(3..=4).contains(&inputs.len()) {
            return Err(format!("takes 3 or 4 inputs, not {}", inputs.len()));
        }
        floats(inputs)?;
        let shapes = [
            a.shape(a.queries, a.width),
            a.shape(a.keys, a.width),
            a.shape(a.keys, a.features),
            a.shape(a.queries, a.keys),
        ];
        for (ty, shape) in inputs.iter().zip(&shapes) {
            if ty.shape != *shape {
                return Err(format!("{:?} where {shape:?} is expected", ty.shape));
            }
        }
        if a.width == 0 || a.features == 0 {
            return Err("queries and values have at least one element".to_string());
        }
        Ok(Type::new(&a.shape(a.queries, a.features), DType::F32))
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let [q, k, v] = [&b.inputs[0], &b.inputs[1], &b.inputs[2]];
        let weights = self.weights(b.inputs);
        let dv = weights.transpose(-1, -2).matmul(b.upstream);
        let dweights = b.upstream.matmul(&v.transpose(-1, -2));
        // The mean of `dweights` under the weights, without going through them.
        let mean = (b.upstream * b.output).sum(&[-1]).keepdim(&[-1]);
        let dscores = &weights * (dweights - mean);
        let dq = dscores.matmul(k) * self.scale();
        let dk = dscores.transpose(-1, -2).matmul(q) * self.scale();
        let mut gradients = vec![Some(dq), Some(dk), Some(dv)];
        if b.inputs.len() == 4 {
            gradients.push(Some(dscores));
        }
        Gradient::Of(gradients)
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Attention(self.0.clone())
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let a = &self.0;
        let (q, k, v) = (&inputs[0].data, &inputs[1].data, &inputs[2].data);
        let mut data = vec![0.0; ty.numel()];
        for (row, out) in data.chunks_mut(a.features).enumerate() {
            let group = row / a.queries;
            let score = |n: usize| {
                let products = (0..a.width)
                    .map(|d| q[row * a.width + d] * k[(group * a.keys + n) * a.width + d]);
                match inputs.get(3).map_or(0.0, |bias| bias.data[row * a.keys + n]) {
                    masked if masked <= f64::from(f32::MIN) => f64::NEG_INFINITY,
                    bias => products.sum::<f64>() * self.scale() + bias,
                }
            };
            let scores: Vec<f64> = (0..a.keys).map(score).collect();
            let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
            let most = scores.iter().copied().fold(f64::from(f32::MIN), larger);
            let weight = |s: f64| (s - most).exp();
            let total: f64 = scores.iter().map(|&s| weight(s)).sum();
            let seen = scores.iter().enumerate().filter(|(_, s)| **s != f64::NEG_INFINITY);
            for (n, &s) in seen {
                for (e, out) in out.iter_mut().enumerate() {
                    *out += weight(s) / total * v[(group * a.keys + n) * a.features + e];
                }
            }
        }
        Array { ty: ty.clone(), data }
    }

    fn samples() -> Vec<Sample> {
        let sample = |batch: &[usize], [queries, keys, width, features]: [usize; 4], bias| {
            let scale = (1.0 / (width as f32).sqrt()).to_bits();
            let batch = batch.to_vec();
            let a = Attention { batch, queries, keys, width, features, scale };
            let mut inputs = vec![
                SampleInput::float(&a.shape(queries, width), -1.0, 1.0),
                SampleInput::float(&a.shape(keys, width), -1.0, 1.0),
                SampleInput::float(&a.shape(keys, features), -1.0, 1.0),
            ];
            if bias {
                inputs.push(SampleInput::float(&a.shape(queries, keys), -2.0, 2.0));
            }
            Sample { op: Attend(a).into(), inputs }
        };
        vec![
            sample(&[], [1, 1, 1, 1], false),
            sample(&[2], [3, 5, 4, 2], false),
            sample(&[2, 3], [5, 7, 3, 3], true),
            sample(&[1], [65, 67, 5, 9], true),
        ]
    }
}
