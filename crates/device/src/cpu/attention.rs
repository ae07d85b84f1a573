//! Attention: scores of a block of queries at a time, which stay in cache between the two products.

use super::Task;
use super::block::Slice;
use super::contract::{Matrix, product, with_tile};
use super::stores::{Source, Stores};
use crate::{Attention, Body, Kernel, numel, special};
use pulp::{Arch, Simd, WithSimd};
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
    bias: Option<Source>,
    stores: Stores,
}

impl AttentionTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> AttentionTask {
        let Body::Attention { attention: a, query, key, value, bias, stores } = &kernel.body else {
            unreachable!("prepared as attention because the body is attention")
        };
        let source = |term, rows, cols| Source::new(kernel, term, &a.shape(rows, cols), slices);
        AttentionTask {
            attention: a.clone(),
            query: source(*query, a.queries, a.width),
            key: source(*key, a.keys, a.width),
            value: source(*value, a.keys, a.features),
            bias: bias.map(|bias| source(bias, a.queries, a.keys)),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for AttentionTask {
    unsafe fn run(&self) {
        let a = &self.attention;
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (query, key, value) =
            unsafe { (self.query.dense(), self.key.dense(), self.value.dense()) };
        // SAFETY: as above.
        let bias = self.bias.as_ref().map(|bias| unsafe { bias.dense() });
        let block = (SCORES / a.keys.max(1)).clamp(1, a.queries.max(1));
        let blocks = a.queries.div_ceil(block);
        let scale = f32::from_bits(a.scale);
        let arch = Arch::new();
        (0..numel(&a.batch) * blocks).into_par_iter().for_each(|task| {
            let (g, first) = (task / blocks, task % blocks * block);
            let rows = block.min(a.queries - first);
            let row = g * a.queries + first;
            with_tile(rows * a.keys, |scores| {
                let q = Matrix::dense(&query[row * a.width..], a.width);
                let k = Matrix::transposed(&key[g * a.keys * a.width..], a.width);
                product(scores, [rows, a.keys, a.width], q, k);
                let weights: &mut [f32] = bytemuck::cast_slice_mut(scores);
                let mut hidden = false;
                for (number, line) in weights.chunks_mut(a.keys.max(1)).enumerate() {
                    let from = (row + number) * a.keys;
                    let bias = bias.as_ref().map(|bias| &bias[from..from + a.keys]);
                    let bias = bias.map(bytemuck::cast_slice);
                    hidden |= arch.dispatch(Softmax { scores: line, scale, bias });
                }
                let values: &[f32] =
                    bytemuck::cast_slice(&value[g * a.keys * a.features..][..a.keys * a.features]);
                // A masked key's value takes no part, so it may be anything.
                let skip = hidden && !values.iter().all(|v| v.is_finite());
                with_tile(rows * a.features, |out| {
                    if skip {
                        let weights = bytemuck::cast_slice(scores);
                        by_hand(bytemuck::cast_slice_mut(out), weights, values, a.keys, a.features);
                    } else {
                        let p = Matrix::dense(scores, a.keys);
                        let v = Matrix::dense(&value[g * a.keys * a.features..], a.features);
                        product(out, [rows, a.features, a.keys], p, v);
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
fn by_hand(sums: &mut [f32], weights: &[f32], values: &[f32], keys: usize, features: usize) {
    sums.fill(0.0);
    for (weights, sums) in weights.chunks(keys.max(1)).zip(sums.chunks_mut(features)) {
        for (weight, values) in weights.iter().zip(values.chunks(features)) {
            if *weight != 0.0 {
                sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += weight * v);
            }
        }
    }
}

/// `scores * scale + bias` to weights that add up to one, or to zeros where all are masked; whether any is.
struct Softmax<'a> {
    scores: &'a mut [f32],
    scale: f32,
    bias: Option<&'a [f32]>,
}

impl WithSimd for Softmax<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
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
        for chunk in scores.chunks(LANES) {
            for (most, &score) in most.iter_mut().zip(chunk) {
                *most = if score > *most { score } else { *most };
            }
        }
        let most = most.into_iter().fold(f32::MIN, f32::max);
        for chunk in scores.chunks_mut(LANES) {
            for (total, score) in totals.iter_mut().zip(chunk) {
                *score = special::exp(*score - most);
                *total += *score;
            }
        }
        let total: f32 = totals.iter().sum();
        let share = if total == 0.0 { 0.0 } else { 1.0 / total };
        scores.iter_mut().for_each(|score| *score *= share);
        hidden
    }
}
