//! Definitions: a step at a time, a word at a time, made of elementary operations.

use shadegrad::device::Cell;
use shadegrad::prelude::*;
use std::collections::HashMap;

/// Parameters by name.
pub(crate) type Named<'a> = &'a HashMap<String, Tensor>;

fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let y = x.matmul(&weight.transpose(0, 1));
    bias.map_or(y.clone(), |bias| y + bias)
}

/// One step of a cell on `[batch, in]` and its states.
fn step(cell: Cell, x: &Tensor, states: &[Tensor], weights: &[Tensor]) -> Vec<Tensor> {
    let n = states[0].shape()[1];
    let given = linear(x, &weights[0], weights.get(2));
    let own = linear(&states[0], &weights[1], weights.get(3));
    let gate = |t: &Tensor, number: usize| t.narrow(1, number * n, n);
    let both = |number: usize| gate(&given, number) + gate(&own, number);
    match cell {
        Cell::RnnTanh => vec![both(0).tanh()],
        Cell::RnnRelu => vec![both(0).relu()],
        Cell::Lstm => {
            let (i, f, g, o) =
                (both(0).sigmoid(), both(1).sigmoid(), both(2).tanh(), both(3).sigmoid());
            let c = f * &states[1] + i * g;
            vec![o * c.tanh(), c]
        }
        Cell::Gru => {
            let (r, z) = (both(0).sigmoid(), both(1).sigmoid());
            let n = (gate(&given, 2) + r * gate(&own, 2)).tanh();
            vec![(z.ones_like() - &z) * n + &z * &states[0]]
        }
    }
}

/// The shape of recurrent layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) cell: Cell,
    pub(crate) time: usize,
    pub(crate) batch: usize,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) bidirectional: bool,
    pub(crate) bias: bool,
    /// Whether sequences end at different lengths.
    pub(crate) lengths: bool,
}

impl Shape {
    pub(crate) fn ways(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// How many steps of each sequence count: all, one, none, and so on.
    pub(crate) fn counted(&self) -> Vec<usize> {
        let length = |b: usize| match b % 4 {
            _ if !self.lengths => self.time,
            0 => self.time,
            1 => 1,
            2 => self.time.saturating_sub(2),
            _ => 0,
        };
        (0..self.batch).map(|b| length(b).min(self.time)).collect()
    }
}

/// Layers over `[time, batch, in]`, from states `[layers ways, batch, hidden]`: outputs and states, unrolled, where a
/// sequence that is over keeps its states and gives zeros.
pub(crate) fn recurrent(
    shape: Shape,
    x: &Tensor,
    states: &[Tensor],
    parameters: Named<'_>,
) -> Vec<Tensor> {
    let graph = x.graph();
    let Shape { time, batch, hidden, .. } = shape;
    let counted = shape.counted();
    let mut sequence: Vec<Tensor> = (0..time).map(|t| x.narrow(0, t, 1).squeeze(0)).collect();
    let mut last = vec![vec![]; states.len()];
    for layer in 0..shape.layers {
        let mut sides = vec![];
        for way in 0..shape.ways() {
            let suffix = format!("_l{layer}{}", if way == 1 { "_reverse" } else { "" });
            let names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];
            let names = &names[..if shape.bias { 4 } else { 2 }];
            let weights: Vec<Tensor> =
                names.iter().map(|name| parameters[&format!("{name}{suffix}")].clone()).collect();
            let number = layer * shape.ways() + way;
            let mut own: Vec<Tensor> =
                states.iter().map(|all| all.narrow(0, number, 1).squeeze(0)).collect();
            let mut outputs = vec![graph.zeros(&[batch, hidden]); time];
            let order: Vec<usize> =
                if way == 1 { (0..time).rev().collect() } else { (0..time).collect() };
            for t in order {
                let counts: Vec<bool> = counted.iter().map(|&length| t < length).collect();
                let counts = graph.mask(&[batch, 1], &counts);
                let next = step(shape.cell, &sequence[t], &own, &weights);
                outputs[t] = counts.select(&next[0], &next[0].zeros_like());
                own = next.iter().zip(&own).map(|(new, old)| counts.select(new, old)).collect();
            }
            sides.push(outputs);
            last.iter_mut().zip(own).for_each(|(all, state)| all.push(state));
        }
        sequence = match sides.as_slice() {
            [one] => one.clone(),
            [a, b] => a.iter().zip(b).map(|(a, b)| graph.concat(&[a, b], 1)).collect(),
            _ => unreachable!("one or two directions"),
        };
    }
    let stack = |all: &Vec<Tensor>| graph.stack(&all.iter().collect::<Vec<_>>(), 0);
    let mut outputs = vec![stack(&sequence)];
    outputs.extend(last.iter().map(stack));
    outputs
}

/// A head at a time: queries `[batch, m, width]`, memory `[batch, n, width]`, and what of the scores is masked.
pub(crate) fn attention(
    query: &Tensor,
    memory: &Tensor,
    heads: usize,
    hidden: Option<&Tensor>,
    parameters: Named<'_>,
    prefix: &str,
) -> Tensor {
    let of = |name: &str| &parameters[&format!("{prefix}{name}")];
    let width = query.shape()[2];
    let d = width / heads;
    let mut seen = vec![];
    for head in 0..heads {
        let project = |x: &Tensor, number: usize| {
            let rows = |t: &Tensor| t.narrow(0, number * width + head * d, d);
            linear(x, &rows(of("in_proj_weight")), Some(&rows(of("in_proj_bias"))))
        };
        let (q, k, v) = (project(query, 0), project(memory, 1), project(memory, 2));
        let mut scores = q.matmul(&k.transpose(1, 2)) * (1.0 / (d as f64).sqrt());
        if let Some(hidden) = hidden {
            scores = scores.masked_fill(hidden, f64::NEG_INFINITY);
        }
        let powers = (&scores - scores.amax(&[2]).unsqueeze(2)).exp();
        seen.push((&powers / powers.sum(&[2]).unsqueeze(2)).matmul(&v));
    }
    let joined = query.graph().concat(&seen.iter().collect::<Vec<_>>(), 2);
    linear(&joined, of("out_proj.weight"), Some(of("out_proj.bias")))
}

/// Two linear layers with an activation between.
pub(crate) fn feed_forward(x: &Tensor, parameters: Named<'_>, prefix: &str, gelu: bool) -> Tensor {
    let of = |name: &str| &parameters[&format!("{prefix}{name}")];
    let hidden = linear(x, of("linear1.weight"), Some(of("linear1.bias")));
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let hidden = match gelu {
        true => &hidden * ((&hidden * half).erf() + 1.0) * 0.5,
        false => hidden.maximum(&hidden.zeros_like()),
    };
    linear(&hidden, of("linear2.weight"), Some(of("linear2.bias")))
}

/// Layer normalisation of the last axis.
pub(crate) fn norm(x: &Tensor, parameters: Named<'_>, name: &str) -> Tensor {
    let axis = x.shape().len() - 1;
    let centred = x - x.mean(&[axis]).unsqueeze(axis);
    let variance = (&centred * &centred).mean(&[axis]).unsqueeze(axis);
    let scaled = centred / (variance + 1e-5).sqrt();
    scaled * &parameters[&format!("{name}.weight")] + &parameters[&format!("{name}.bias")]
}
