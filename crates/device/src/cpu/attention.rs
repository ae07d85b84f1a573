//! Attention: scores of a block of queries at a time, which stay in cache between the two products.

use super::Task;
use super::block::Slice;
use super::contract::{Matrix, Operand, product};
use super::scratch::with_tile;
use super::stores::{Source, Stores};
use crate::special::{self, Vectorized, vectorized};
use crate::{Attention, Body, Kernel, numel};
use rayon::prelude::*;

/// Words of scores that a task holds at once.
const SCORES: usize = 1 << 14;

/// Scores whose largest and sum are found apart.
const LANES: usize = 16;

pub(super) struct AttentionTask {
    attention: Attention,
    query: Source,
    key: Source,
    value: Source,
    bias: Option<Bias>,
    stores: Stores,
}

/// What is added to scores.
struct Bias {
    source: Source,
    /// Whether it is the same for all of the batch, and there once.
    shared: bool,
}

impl AttentionTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> AttentionTask {
        let Body::Attention { attention: a, query, key, value, bias, stores } = &kernel.body else {
            unreachable!("prepared as attention because the body is attention")
        };
        let source =
            |term, rows, cols| Source::new(&kernel.expr, term, &a.shape(rows, cols), slices);
        let bias = bias.map(|bias| {
            let scores = [a.queries, a.keys];
            match kernel.expr.uniform(0..a.batch.len())[bias] {
                true => {
                    let expr = kernel.expr.without(0..a.batch.len());
                    Bias { source: Source::new(&expr, bias, &scores, slices), shared: true }
                }
                false => Bias { source: source(bias, a.queries, a.keys), shared: false },
            }
        });
        AttentionTask {
            attention: a.clone(),
            query: source(*query, a.queries, a.width),
            key: source(*key, a.keys, a.width),
            value: source(*value, a.keys, a.features),
            bias,
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for AttentionTask {
    unsafe fn run(&self) {
        let a = &self.attention;
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let [query, key, value] =
            [&self.query, &self.key, &self.value].map(|source| unsafe { Operand::new(source) });
        // SAFETY: as above.
        let bias = self.bias.as_ref().map(|bias| (unsafe { bias.source.dense() }, bias.shared));
        let block = (SCORES / a.keys.max(1)).clamp(1, a.queries.max(1));
        let blocks = a.queries.div_ceil(block);
        let scale = f32::from_bits(a.scale);
        let arch = pulp::Arch::new();
        (0..numel(&a.batch) * blocks).into_par_iter().for_each(|task| {
            let (g, first) = (task / blocks, task % blocks * block);
            let rows = block.min(a.queries - first);
            let row = g * a.queries + first;
            with_tile(rows * a.keys, |scores| {
                let q = query.matrix(&a.batch, g, [a.queries, a.width]);
                let q = Matrix { offset: q.offset + first as isize * q.row, ..q };
                let k = key.matrix(&a.batch, g, [a.keys, a.width]);
                let k = Matrix { row: k.col, col: k.row, ..k };
                product(scores, [rows, a.keys, a.width], q, k);
                let weights: &mut [f32] = bytemuck::cast_slice_mut(scores);
                let mut hidden = false;
                for (number, line) in weights.chunks_mut(a.keys.max(1)).enumerate() {
                    let bias = bias.as_ref().map(|(bias, shared)| {
                        let line = if *shared { first + number } else { row + number };
                        bytemuck::cast_slice(&bias[line * a.keys..(line + 1) * a.keys])
                    });
                    hidden |= vectorized(arch, Softmax { scores: line, scale, bias });
                }
                let v = value.matrix(&a.batch, g, [a.keys, a.features]);
                with_tile(rows * a.features, |out| {
                    let p = Matrix::dense(scores, a.keys);
                    product(out, [rows, a.features, a.keys], p, v);
                    // A masked key's value takes no part, so it may be anything; zero times infinity is NaN.
                    let finite = |word: &u32| f32::from_bits(*word).is_finite();
                    if hidden && !out.iter().fold(true, |all, word| all & finite(word)) {
                        let value = |key, feature| f32::from_bits(v.words[v.at(key, feature)]);
                        let sums = bytemuck::cast_slice_mut(out);
                        by_hand(sums, bytemuck::cast_slice(scores), value, a.keys, a.features);
                    }
                    let points = row * a.features..(row + rows) * a.features;
                    let mut registers = self.stores.registers();
                    // SAFETY: each block of queries belongs to one task.
                    unsafe { self.stores.run(&mut registers, points, &[out]) };
                });
            });
        });
    }
}

/// The products of weights and values, without the terms whose weight is zero.
fn by_hand(
    sums: &mut [f32],
    weights: &[f32],
    value: impl Fn(usize, usize) -> f32,
    keys: usize,
    features: usize,
) {
    sums.fill(0.0);
    for (weights, sums) in weights.chunks(keys.max(1)).zip(sums.chunks_mut(features.max(1))) {
        for (key, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let sums = sums.iter_mut().enumerate();
            sums.for_each(|(feature, sum)| *sum += weight * value(key, feature));
        }
    }
}

/// `scores * scale + bias` to weights that add up to one, or to zeros where all are masked; whether any is.
struct Softmax<'a> {
    scores: &'a mut [f32],
    scale: f32,
    bias: Option<&'a [f32]>,
}

impl Vectorized for Softmax<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> bool {
        let Softmax { scores, scale, bias } = self;
        let mut hidden = false;
        match bias {
            None => scores.iter_mut().for_each(|score| *score *= scale),
            Some(bias) => {
                for (score, &bias) in scores.iter_mut().zip(bias) {
                    let masked = bias <= f32::MIN;
                    *score = if masked { f32::NEG_INFINITY } else { *score * scale + bias };
                    hidden |= masked;
                }
            }
        }
        // In lanes, so that loops need not keep the order; a NaN makes all of them NaN through the sum.
        let (mut most, mut totals) = ([f32::MIN; LANES], [0f32; LANES]);
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in whole.iter().chain([&last]) {
            for (most, &score) in most.iter_mut().zip(chunk) {
                *most = if score > *most { score } else { *most };
            }
        }
        let most = most.into_iter().fold(f32::MIN, f32::max);
        for chunk in whole.iter_mut().chain([&mut last]) {
            for (total, score) in totals.iter_mut().zip(chunk) {
                *score = special::exp::<FUSED>(*score - most);
                *total += *score;
            }
        }
        rest.copy_from_slice(&last[..rest.len()]);
        let total: f32 = totals.iter().sum();
        let share = if total == 0.0 { 0.0 } else { 1.0 / total };
        scores.iter_mut().for_each(|score| *score *= share);
        hidden
    }
}
