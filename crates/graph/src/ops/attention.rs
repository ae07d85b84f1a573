//! Attention in one kernel, and its gradient in another on the CPU: the matrix of scores is never stored.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, floats};
use crate::variable::Init;
use crate::{Array, Graph, Tensor, Type, Variable};
use shadegrad_device::{Attention, AttentionRole, DType, numel};

/// `softmax(scale q kᵀ + bias) v` over queries `[batch.., m, d]`, keys `[batch.., n, d]`, values
/// `[batch.., n, e]` and perhaps a bias `[batch.., m, n]` (Vaswani et al., arXiv 1706.03762). A key whose
/// bias is minus infinity takes no part; a query without keys gives zeros.
///
/// The gradient computes the scores again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attend(pub Attention);

/// The slopes of queries, keys and values, each flat, one after the other: `[batch.., (m + n) d + n e]`. From these, the slope
/// `[batch.., m, e]` of the result, the result, and perhaps a bias.
///
/// Devices without a kernel for it compute its parts by other operations (`expand.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttendGradient(pub Attention);

fn scale(a: &Attention) -> f64 {
    f64::from(f32::from_bits(a.scale))
}

/// The inputs of a role and perhaps a bias.
fn infer(a: &Attention, role: AttentionRole, inputs: &[&Type]) -> Result<Type, String> {
    let mut shapes = a.sources(role);
    if !(shapes.len()..=shapes.len() + 1).contains(&inputs.len()) {
        let (least, most) = (shapes.len(), shapes.len() + 1);
        return Err(format!("takes {least} or {most} inputs, not {}", inputs.len()));
    }
    floats(inputs)?;
    shapes.push(a.shape(a.queries, a.keys));
    for (ty, shape) in inputs.iter().zip(&shapes) {
        if ty.shape != *shape {
            return Err(format!("{:?} where {shape:?} is expected", ty.shape));
        }
    }
    if a.width == 0 || a.features == 0 {
        return Err("queries and values have at least one element".to_string());
    }
    Ok(Type::new(&a.result(role), DType::F32))
}

/// Scores as matrices in memory, of queries, keys, values and perhaps a bias.
struct Scores<'a> {
    attention: &'a Attention,
    inputs: [&'a Tensor; 3],
    bias: Option<&'a Tensor>,
}

impl Scores<'_> {
    /// The weights of the keys, `[batch.., m, n]`.
    fn weights(&self) -> Tensor {
        let [q, k, _] = self.inputs;
        let products = q.matmul(&k.transpose(-1, -2)) * scale(self.attention);
        let (lowest, zero) = (f64::from(f32::MIN), products.zeros_like());
        // A masked key's product takes no part, so it may be anything.
        let (masked, scores) = match self.bias {
            None => (products.along(-1).less(&products.along(-1).zeros_like()), products.clone()),
            Some(bias) => {
                let masked = bias.less_equal(&bias.full_like(lowest));
                let kept = masked.select(&zero, &products) + masked.select(&zero, bias);
                (masked.clone(), masked.select(&products.full_like(f64::NEG_INFINITY), &kept))
            }
        };
        let most = match self.attention.keys {
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

    /// The slopes of what the softmax is of, from the weights, the slope of the result and the result.
    fn slopes(&self, weights: &Tensor, upstream: &Tensor, output: &Tensor) -> Tensor {
        let by_weight = upstream.matmul(&self.inputs[2].transpose(-1, -2));
        // The mean of these under the weights, without going through them.
        let mean = (upstream * output).sum(&[-1]).keepdim(&[-1]);
        // A key without weight has none, whatever its value is.
        let zero = weights.zeros_like();
        weights.equal(&zero).select(&zero, &(weights * (by_weight - mean)))
    }
}

impl Operation for Attend {
    fn name(&self) -> String {
        "attention".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, AttentionRole::Forward, inputs)
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let a = &self.0;
        let [q, k, v] = [&b.inputs[0], &b.inputs[1], &b.inputs[2]];
        let mut inputs = vec![q, k, v, b.upstream, b.output];
        inputs.extend(b.inputs.get(3));
        let slopes = b.upstream.record(AttendGradient(a.clone()), &inputs);
        let mut start = 0;
        let mut flows = Vec::new();
        for (of, count) in [q, k, v].into_iter().zip(a.slopes()) {
            flows.push(Some(slopes.narrow(-1, start, count).reshape(&of.shape())));
            start += count;
        }
        if let Some(bias) = b.inputs.get(3) {
            let scores = Scores { attention: a, inputs: [q, k, v], bias: Some(bias) };
            flows.push(Some(scores.slopes(&scores.weights(), b.upstream, b.output)));
        }
        Gradient::Of(flows)
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Attention(self.0.clone(), AttentionRole::Forward)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let a = &self.0;
        let weights = weights(a, inputs, inputs.get(3).copied());
        let mut data = vec![0.0; ty.numel()];
        for (row, out) in data.chunks_mut(a.features).enumerate() {
            let first = row / a.queries * a.keys;
            // A masked key's value takes no part, so it may be anything.
            let seen =
                (0..a.keys).map(|n| (n, weights[row * a.keys + n])).filter(|(_, w)| *w != 0.0);
            for (n, weight) in seen {
                for (e, out) in out.iter_mut().enumerate() {
                    *out += weight * inputs[2].data[(first + n) * a.features + e];
                }
            }
        }
        Array { ty: ty.clone(), data }
    }

    fn samples() -> Vec<Sample> {
        samples(|a| Attend(a).into(), AttentionRole::Forward)
    }
}

/// The weights of the keys, `[batch.., m, n]`, row-major.
fn weights(a: &Attention, inputs: &[&Array], bias: Option<&Array>) -> Vec<f64> {
    let (q, k) = (&inputs[0].data, &inputs[1].data);
    let mut all = Vec::new();
    for row in 0..numel(&a.batch) * a.queries {
        let first = row / a.queries * a.keys;
        let score = |n: usize| {
            let product = (0..a.width).map(|d| q[row * a.width + d] * k[(first + n) * a.width + d]);
            match bias.map_or(0.0, |bias| bias.data[row * a.keys + n]) {
                masked if masked <= f64::from(f32::MIN) => f64::NEG_INFINITY,
                bias => product.sum::<f64>() * scale(a) + bias,
            }
        };
        let scores: Vec<f64> = (0..a.keys).map(score).collect();
        let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        let most = scores.iter().copied().fold(f64::from(f32::MIN), larger);
        let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let total: f64 = weights.iter().sum();
        all.extend(weights.iter().map(|w| if total == 0.0 { 0.0 } else { w / total }));
    }
    all
}

impl AttendGradient {
    /// The parts of the result by other operations, from the same inputs.
    pub(crate) fn parts(&self, inputs: &[Tensor]) -> [Tensor; 3] {
        let a = &self.0;
        let [q, k, v, upstream, output] = [0, 1, 2, 3, 4].map(|at| &inputs[at]);
        let scores = Scores { attention: a, inputs: [q, k, v], bias: inputs.get(5) };
        let weights = scores.weights();
        let slopes = scores.slopes(&weights, upstream, output);
        let by_query = slopes.matmul(k) * scale(a);
        let by_key = slopes.transpose(-1, -2).matmul(q) * scale(a);
        let by_value = weights.transpose(-1, -2).matmul(upstream);
        let mut parts = [by_query, by_key, by_value];
        for (part, length) in parts.iter_mut().zip(self.0.slopes()) {
            *part = part.reshape(&[a.batch.as_slice(), &[length]].concat());
        }
        parts
    }

    /// Which part a range of the result's last axis is, if it is one.
    pub(crate) fn part(&self, start: usize, len: usize) -> Option<usize> {
        let lengths = self.0.slopes();
        (0..3).find(|&at| lengths[at] == len && lengths[..at].iter().sum::<usize>() == start)
    }
}

impl Operation for AttendGradient {
    fn name(&self) -> String {
        "attention_gradient".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, AttentionRole::Gradient, inputs)
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        // The result is computed from the other inputs, of which the slopes must not be counted twice: in a recording of its own,
        // where none depends on another.
        let apart = Graph::new();
        let here: Vec<&Tensor> = b.inputs.iter().chain([b.upstream]).collect();
        let variable =
            |t: &&Tensor| Variable::new("input", &t.shape(), DType::F32, Init::Full(0.0));
        let variables: Vec<Variable> = here.iter().map(variable).collect();
        let there: Vec<Tensor> = variables.iter().map(|v| apart.variable(v)).collect();
        let (inputs, upstream) = there.split_at(b.inputs.len());
        let whole = apart.concat(&self.parts(inputs).each_ref(), -1);
        let loss = (whole * &upstream[0]).sum_all();
        let slopes = apart.gradients(&loss, &inputs.iter().collect::<Vec<_>>());
        let known = variables.iter().map(Variable::id).zip(here.into_iter().cloned()).collect();
        match apart.nodes(&slopes.iter().collect::<Vec<_>>()) {
            Ok(nodes) => {
                let flows = b.upstream.graph().splice(&nodes, &known);
                Gradient::Of(flows.into_iter().map(Some).collect())
            }
            Err(error) => {
                b.upstream.graph().fail_with(error);
                Gradient::Zero
            }
        }
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Attention(self.0.clone(), AttentionRole::Gradient)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let a = &self.0;
        let [q, k, v, upstream, output] = [0, 1, 2, 3, 4].map(|at| &inputs[at].data);
        let weights = weights(a, inputs, inputs.get(5).copied());
        let [by_query, by_key, by_value] = self.0.slopes();
        let mut data = vec![0.0; ty.numel()];
        for row in 0..numel(&a.batch) * a.queries {
            let (g, m) = (row / a.queries, row % a.queries);
            let first = g * (by_query + by_key + by_value);
            let up = |e: usize| upstream[row * a.features + e];
            let mean: f64 = (0..a.features).map(|e| up(e) * output[row * a.features + e]).sum();
            for n in 0..a.keys {
                let (key, weight) = (g * a.keys + n, weights[row * a.keys + n]);
                let by_weight: f64 = (0..a.features).map(|e| up(e) * v[key * a.features + e]).sum();
                // A key without weight has none, whatever its value is.
                let slope =
                    if weight == 0.0 { 0.0 } else { weight * (by_weight - mean) * scale(a) };
                for d in 0..a.width {
                    data[first + m * a.width + d] += slope * k[key * a.width + d];
                    data[first + by_query + n * a.width + d] += slope * q[row * a.width + d];
                }
                for e in 0..a.features {
                    data[first + by_query + by_key + n * a.features + e] += weight * up(e);
                }
            }
        }
        Array { ty: ty.clone(), data }
    }

    fn samples() -> Vec<Sample> {
        samples(|a| AttendGradient(a).into(), AttentionRole::Gradient)
    }
}

fn samples(op: impl Fn(Attention) -> super::Op, role: AttentionRole) -> Vec<Sample> {
    let sample = |batch: &[usize], [queries, keys, width, features]: [usize; 4], bias| {
        let scale = (1.0 / (width as f32).sqrt()).to_bits();
        let a = Attention { batch: batch.to_vec(), queries, keys, width, features, scale };
        let mut inputs: Vec<SampleInput> =
            a.sources(role).iter().map(|shape| SampleInput::float(shape, -1.0, 1.0)).collect();
        if bias {
            inputs.push(SampleInput::float(&a.shape(queries, keys), -2.0, 2.0));
        }
        Sample { op: op(a), inputs }
    };
    vec![
        sample(&[], [1, 1, 1, 1], false),
        sample(&[2], [3, 5, 4, 2], false),
        sample(&[2, 3], [5, 7, 3, 3], true),
        sample(&[1], [65, 67, 5, 9], true),
    ]
}
