//! Recurrent cells over whole sequences, as one operation, and their gradient. Everything that isn't
//! sequential lies outside: what the input gives to the gates, and the gradients of weights and biases, are
//! products over all steps at once.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, floats};
use crate::{Array, Type};
use shadegrad_device::{Cell, DType, Sequence, SequenceRole};

/// What a cell keeps of each step: `[time, batch, kept, hidden]`, the states first; inputs are those of
/// [`SequenceRole::Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recurrent(pub Sequence);

/// The slopes of a cell's steps: `[time, batch, slopes, hidden]`; inputs are those of
/// [`SequenceRole::Gradient`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecurrentGradient(pub Sequence);

fn infer(sequence: &Sequence, role: SequenceRole, inputs: &[&Type]) -> Result<Type, String> {
    let shapes = sequence.sources(role);
    super::arity(inputs, shapes.len())?;
    let mask = usize::from(sequence.masked);
    floats(&inputs[..inputs.len() - mask])?;
    if inputs[inputs.len() - mask..].iter().any(|ty| ty.dtype != DType::Bool) {
        return Err("takes a mask of truth values".to_string());
    }
    for (ty, shape) in inputs.iter().zip(&shapes) {
        if ty.shape != *shape {
            return Err(format!("{:?} where {shape:?} is expected", ty.shape));
        }
    }
    Ok(Type::new(&sequence.result(role), DType::F32))
}

fn samples(op: impl Fn(Sequence) -> super::Op, role: SequenceRole) -> Vec<Sample> {
    let mut samples = Vec::new();
    for cell in [Cell::RnnTanh, Cell::RnnRelu, Cell::Lstm, Cell::Gru] {
        for (time, batch, hidden, reverse, masked) in [
            (1, 1, 1, false, false),
            (3, 2, 5, false, true),
            (4, 3, 3, true, true),
            (2, 9, 65, true, false),
        ] {
            let sequence = Sequence { cell, time, batch, hidden, reverse, masked };
            let shapes = sequence.sources(role);
            let mut inputs: Vec<SampleInput> =
                shapes.iter().map(|shape| SampleInput::float(shape, -0.7, 0.7)).collect();
            if role == SequenceRole::Gradient {
                // What was kept lies between zero and one, as gates do.
                inputs[1] = SampleInput::float(&shapes[1], 0.1, 0.9);
            }
            if masked && let Some(mask) = inputs.last_mut() {
                mask.ty.dtype = DType::Bool;
                (mask.low, mask.high) = (0.0, 2.0);
            }
            samples.push(Sample { op: op(sequence), inputs });
        }
    }
    samples
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Operation for Recurrent {
    fn name(&self) -> String {
        "recurrent".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, SequenceRole::Forward, inputs)
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let Sequence { cell, time, batch, hidden, reverse, masked } = self.0;
        let (gates, states) = (cell.gates(), cell.states());
        let mut inputs = vec![b.upstream, b.output, &b.inputs[1]];
        inputs.extend(&b.inputs[2..2 + states]);
        inputs.extend(b.inputs.last().filter(|_| masked));
        let slopes = b.upstream.record(RecurrentGradient(self.0), &inputs);
        let by_gates = slopes.narrow(2, 0, gates);
        // Of a GRU the recurrent weight gives to the new gate before the reset gate takes its share.
        let by_weight = match cell {
            Cell::Gru => {
                let (reset, new) = (slopes.narrow(2, 0, 2), slopes.narrow(2, 3, 1));
                slopes.graph().concat(&[&reset, &new], 2)
            }
            _ => by_gates.clone(),
        };
        // The state that each step began with.
        let h = b.output.narrow(2, 0, 1).squeeze(2);
        let first = b.inputs[2].unsqueeze(0);
        let before = match (reverse, time) {
            (_, 0 | 1) => first.narrow(0, 0, time.min(1)),
            (false, _) => h.graph().concat(&[&first, &h.narrow(0, 0, time - 1)], 0),
            (true, _) => h.graph().concat(&[&h.narrow(0, 1, time - 1), &first], 0),
        };
        let rows = by_weight.reshape(&[time * batch, gates * hidden]);
        let dw = rows.transpose(0, 1).matmul(&before.reshape(&[time * batch, hidden]));
        let mut flows = vec![Some(by_gates), Some(dw.reshape(&[gates, hidden, hidden]))];
        let begin = if reverse { time.saturating_sub(1) } else { 0 };
        for state in 0..states {
            let channel = cell.slopes() - states + state;
            let slope = slopes.narrow(0, begin.min(time), time.min(1)).narrow(2, channel, 1);
            flows.push(Some(slope.reshape(&[batch, hidden])));
        }
        if cell == Cell::Gru {
            flows.push(Some(slopes.narrow(2, 3, 1).squeeze(2).sum(&[0, 1])));
        }
        if masked {
            flows.push(None);
        }
        Gradient::Of(flows)
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Recurrent(self.0, SequenceRole::Forward)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let Sequence { cell, batch, hidden: n, .. } = self.0;
        let (x, w) = (&inputs[0].data, &inputs[1].data);
        let gates = cell.gates();
        let mut out = Array::from_fn(ty, |_| 0.0);
        let mut h = inputs[2].data.clone();
        let mut c = if cell == Cell::Lstm { inputs[3].data.clone() } else { vec![] };
        for t in self.0.steps() {
            for b in 0..batch {
                let counts = !self.0.masked || inputs[inputs.len() - 1].data[t * batch + b] != 0.0;
                let before = h[b * n..(b + 1) * n].to_vec();
                for u in 0..n {
                    let given = |g: usize| x[((t * batch + b) * gates + g) * n + u];
                    let recurrent = |g: usize| -> f64 {
                        (0..n).map(|k| w[(g * n + u) * n + k] * before[k]).sum()
                    };
                    let (next, kept) = match cell {
                        Cell::RnnTanh => ((given(0) + recurrent(0)).tanh(), vec![]),
                        Cell::RnnRelu => {
                            let sum = given(0) + recurrent(0);
                            (if sum < 0.0 { 0.0 } else { sum }, vec![])
                        }
                        Cell::Lstm => {
                            let gate = |g: usize| sigmoid(given(g) + recurrent(g));
                            let (i, f, o) = (gate(0), gate(1), gate(3));
                            let new = (given(2) + recurrent(2)).tanh();
                            let after = f * c[b * n + u] + i * new;
                            if counts {
                                c[b * n + u] = after;
                            }
                            (o * after.tanh(), vec![c[b * n + u], i, f, new, o])
                        }
                        Cell::Gru => {
                            let gate = |g: usize| sigmoid(given(g) + recurrent(g));
                            let (r, z) = (gate(0), gate(1));
                            let inner = recurrent(2) + inputs[3].data[u];
                            let new = (given(2) + r * inner).tanh();
                            ((1.0 - z) * new + z * before[u], vec![r, z, new, inner])
                        }
                    };
                    h[b * n + u] = if counts { next } else { before[u] };
                    let line = (t * batch + b) * cell.kept();
                    out.data[line * n + u] = h[b * n + u];
                    for (channel, value) in kept.into_iter().enumerate() {
                        out.data[(line + 1 + channel) * n + u] = value;
                    }
                }
            }
        }
        out
    }

    fn samples() -> Vec<Sample> {
        samples(|sequence| Recurrent(sequence).into(), SequenceRole::Forward)
    }
}

impl Operation for RecurrentGradient {
    fn name(&self) -> String {
        "recurrent_gradient".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        infer(&self.0, SequenceRole::Gradient, inputs)
    }

    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Undefined(
            "a recurrent layer is differentiated once; unrolled over its steps, any number of times",
        )
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Recurrent(self.0, SequenceRole::Gradient)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let Sequence { cell, batch, hidden: n, .. } = self.0;
        let (gates, states) = (cell.gates(), cell.states());
        let element = |input: usize, t: usize, b: usize, channel: usize, u: usize| {
            inputs[input].data[((t * batch + b) * cell.kept() + channel) * n + u]
        };
        let w = &inputs[2].data;
        let mut out = Array::from_fn(ty, |_| 0.0);
        let order: Vec<usize> = self.0.steps().collect();
        for b in 0..batch {
            let (mut by_h, mut by_c) = (vec![0.0; n], vec![0.0; n]);
            for (number, &t) in order.iter().enumerate().rev() {
                let counts = !self.0.masked || inputs[inputs.len() - 1].data[t * batch + b] != 0.0;
                let share = f64::from(u8::from(counts));
                let up = |channel: usize, u: usize| element(0, t, b, channel, u);
                let now = |channel: usize, u: usize| element(1, t, b, channel, u);
                let past = |state: usize, u: usize| match number.checked_sub(1) {
                    Some(earlier) => element(1, order[earlier], b, state, u),
                    None => inputs[3 + state].data[b * n + u],
                };
                let mut slopes = vec![vec![0.0; n]; cell.slopes()];
                let mut direct = vec![0.0; n];
                for u in 0..n {
                    let slope = by_h[u] + up(0, u);
                    let dh = slope * share;
                    direct[u] = slope * (1.0 - share);
                    match cell {
                        Cell::RnnTanh => slopes[0][u] = dh * (1.0 - now(0, u).powi(2)),
                        Cell::RnnRelu => slopes[0][u] = if now(0, u) > 0.0 { dh } else { 0.0 },
                        Cell::Lstm => {
                            let [i, f, g, o] = [2, 3, 4, 5].map(|channel| now(channel, u));
                            let bent = (f * past(1, u) + i * g).tanh();
                            let slope_c = by_c[u] + up(1, u);
                            let dc = slope_c * share + dh * o * (1.0 - bent * bent);
                            slopes[0][u] = (dc * g + up(2, u)) * i * (1.0 - i);
                            slopes[1][u] = (dc * past(1, u) + up(3, u)) * f * (1.0 - f);
                            slopes[2][u] = (dc * i + up(4, u)) * (1.0 - g * g);
                            slopes[3][u] = (dh * bent + up(5, u)) * o * (1.0 - o);
                            by_c[u] = dc * f + slope_c * (1.0 - share);
                            slopes[5][u] = by_c[u];
                        }
                        Cell::Gru => {
                            let [r, z, new, inner] = [1, 2, 3, 4].map(|channel| now(channel, u));
                            let dn = (dh * (1.0 - z) + up(3, u)) * (1.0 - new * new);
                            slopes[0][u] = (dn * inner + up(1, u)) * r * (1.0 - r);
                            slopes[1][u] = (dh * (past(0, u) - new) + up(2, u)) * z * (1.0 - z);
                            slopes[2][u] = dn;
                            slopes[3][u] = dn * r + up(4, u);
                            direct[u] += dh * z;
                        }
                    }
                }
                for u in 0..n {
                    let through = |g: usize, k: usize| match cell {
                        Cell::Gru if g == 2 => slopes[3][k],
                        _ => slopes[g][k],
                    };
                    let back: f64 = (0..gates)
                        .flat_map(|g| (0..n).map(move |k| (g, k)))
                        .map(|(g, k)| w[(g * n + k) * n + u] * through(g, k))
                        .sum();
                    by_h[u] = direct[u] + back;
                }
                slopes[cell.slopes() - states].copy_from_slice(&by_h);
                for (channel, line) in slopes.iter().enumerate() {
                    let at = ((t * batch + b) * cell.slopes() + channel) * n;
                    out.data[at..at + n].copy_from_slice(line);
                }
            }
        }
        out
    }

    fn samples() -> Vec<Sample> {
        samples(|sequence| RecurrentGradient(sequence).into(), SequenceRole::Gradient)
    }
}
