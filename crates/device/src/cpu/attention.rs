//! Attention and its gradient: scores of a block of queries at a time, which stay in cache between the products.

use super::Task;
use super::block::Slice;
use super::contract::{Matrices, Matrix, Operand, product};
use super::crew::{each, each_of};
use super::rows::{LANES, in_lanes, tree};
use super::scratch::{Dense, Few, with_tile};
use super::stores::{Source, Stores};
use super::vectors::arch;
use crate::special::{self, Vectorized, vectorized};
use crate::{Attention, AttentionRole, Body, Expr, Kernel, numel};
use std::ops::Range;

/// Words of scores that a task holds at once.
const SCORES: usize = 1 << 14;

/// Tasks that there should be: queries of one matrix are divided where matrices are fewer, as far as sums of their own take at most so
/// many words.
const TASKS: usize = 16;
const SUMS: usize = 1 << 22;

pub(super) struct AttentionTask {
    attention: Attention,
    role: AttentionRole,
    sources: Vec<Matrices>,
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
        let Body::Attention { attention: a, role, sources, bias, stores } = &kernel.body else {
            unreachable!("prepared as attention because the body is attention")
        };
        let source = |expr: &Expr, term, shape: &[usize]| Source::new(expr, term, shape, slices);
        let shapes = a.sources(*role);
        let bias = bias.map(|bias| {
            let scores = [a.queries, a.keys];
            match kernel.expr.uniform(0..a.batch.len())[bias] {
                true => {
                    let expr = kernel.expr.without(0..a.batch.len());
                    Bias { source: source(&expr, bias, &scores), shared: true }
                }
                false => {
                    let shape = a.shape(a.queries, a.keys);
                    Bias { source: source(&kernel.expr, bias, &shape), shared: false }
                }
            }
        });
        AttentionTask {
            attention: a.clone(),
            role: *role,
            sources: (sources.iter().zip(&shapes))
                .map(|(&term, shape)| Matrices::new(&kernel.expr, term, shape, slices))
                .collect(),
            bias,
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for AttentionTask {
    unsafe fn run(&self) {
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let operands: Few<_> = self.sources.iter().map(|s| unsafe { Operand::new(s) }).collect();
        // SAFETY: as above.
        let bias = self.bias.as_ref().map(|bias| (unsafe { bias.source.dense() }, bias.shared));
        let ready = Ready { attention: &self.attention, operands, bias };
        // SAFETY: passed on to the caller.
        unsafe {
            match self.role {
                AttentionRole::Forward => self.forward(&ready),
                AttentionRole::Gradient => self.gradient(&ready),
            }
        }
    }
}

impl AttentionTask {
    /// # Safety
    /// As [`Task::run`].
    unsafe fn forward(&self, ready: &Ready<'_>) {
        let a = &self.attention;
        let block = ready.block();
        let blocks = a.queries.div_ceil(block);
        each(numel(&a.batch) * blocks, |task| {
            let (g, first) = (task / blocks, task % blocks * block);
            let rows = first..(first + block).min(a.queries);
            with_tile(rows.len() * a.keys, |scores| {
                let hidden = ready.weigh(g, rows.clone(), scores);
                let v = ready.matrix(2, g);
                with_tile(rows.len() * a.features, |out| {
                    let p = Matrix::dense(scores, a.keys);
                    product(out, [rows.len(), a.features, a.keys], p, v, false);
                    // A masked key's value takes no part, so it may be anything; zero times infinity is NaN.
                    let finite = |word: &u32| f32::from_bits(*word).is_finite();
                    if hidden && !out.iter().fold(true, |all, word| all & finite(word)) {
                        let value = |key, feature| f32::from_bits(v.words[v.at(key, feature)]);
                        let sums = bytemuck::cast_slice_mut(out);
                        by_hand(sums, bytemuck::cast_slice(scores), value, a.keys, a.features);
                    }
                    // SAFETY: each block of queries belongs to one task.
                    unsafe { self.store((g * a.queries + rows.start) * a.features, out) };
                });
            });
        });
    }

    /// Stores values from a point on.
    ///
    /// # Safety
    /// As [`Stores::run`].
    unsafe fn store(&self, first: usize, values: &[u32]) {
        let mut registers = self.stores.registers();
        // SAFETY: passed on to the caller.
        unsafe { self.stores.run(&mut registers, first..first + values.len(), &[values]) };
    }

    /// The slopes of all keys and values need all queries: a task has a matrix, or some of its queries and sums of its own, so that no
    /// sum depends on how many threads there are.
    ///
    /// # Safety
    /// As [`Task::run`].
    unsafe fn gradient(&self, ready: &Ready<'_>) {
        let a = &self.attention;
        let batch = numel(&a.batch);
        let [queries, keys, values] = a.slopes();
        let rest = keys + values;
        let blocks = a.queries.div_ceil(ready.block());
        // Without keys there is nothing to add up.
        let most = if rest == 0 { 1 } else { blocks.min(SUMS / (batch * rest).max(1)) };
        let parts = TASKS.div_ceil(batch.max(1)).clamp(1, most.max(1));
        let share = blocks.div_ceil(parts) * ready.block();
        let add = |g: usize, part: usize, sums: &mut [u32]| {
            let rows = (part * share).min(a.queries)..((part + 1) * share).min(a.queries);
            // SAFETY: each part has queries of its own.
            unsafe { self.slopes(ready, g, rows, sums) };
        };
        let store = |g: usize, sums: &[u32]| {
            // SAFETY: one task has the sums of a matrix.
            unsafe { self.store(g * (queries + rest) + queries, sums) };
        };
        if parts == 1 {
            return each(batch, |g| {
                with_tile(rest, |sums| {
                    add(g, 0, sums);
                    store(g, sums);
                });
            });
        }
        with_tile(batch * parts * rest, |sums| {
            let tasks = sums.chunks_mut(rest.max(1)).enumerate();
            each_of(batch * parts, tasks, |(task, sums)| add(task / parts, task % parts, sums));
            let matrices = sums.chunks_mut((parts * rest).max(1)).enumerate();
            each_of(batch, matrices, |(g, sums)| {
                let (total, others) = sums.split_at_mut(rest);
                for other in others.chunks(rest.max(1)) {
                    let pairs = total.iter_mut().zip(other);
                    let sum = |a: u32, b: u32| (f32::from_bits(a) + f32::from_bits(b)).to_bits();
                    pairs.for_each(|(total, other)| *total = sum(*total, *other));
                }
                store(g, total);
            });
        });
    }

    /// Stores the slopes of some queries of a matrix; `sums` are what these queries give to the slopes of keys and of values.
    ///
    /// # Safety
    /// As [`Task::run`], and no other thread has these queries.
    unsafe fn slopes(&self, ready: &Ready<'_>, g: usize, queries: Range<usize>, sums: &mut [u32]) {
        let a = &self.attention;
        let length: usize = a.slopes().iter().sum();
        let [q, k, v, up, result] = [0, 1, 2, 3, 4].map(|at| ready.matrix(at, g));
        let (by_key, by_value) = sums.split_at_mut(a.keys * a.width);
        if queries.is_empty() {
            by_key.fill(0);
            by_value.fill(0);
        }
        for first in queries.clone().step_by(ready.block()) {
            let rows = first..(first + ready.block()).min(queries.end);
            let (count, add) = (rows.len(), first > queries.start);
            with_tile(2 * count * a.keys, |words| {
                let (weights, slopes) = words.split_at_mut(count * a.keys);
                ready.weigh(g, rows.clone(), weights);
                let some = up.rows_from(first);
                let across = Matrix::transposed(weights, a.keys);
                product(by_value, [a.keys, a.features, count], across, some, add);
                product(slopes, [count, a.keys, a.features], some, v.turned(), false);
                let lines = weights.chunks(a.keys.max(1)).zip(slopes.chunks_mut(a.keys.max(1)));
                for (query, (weights, slopes)) in rows.clone().zip(lines) {
                    let (upstream, result) =
                        (up.row(query, a.features), result.row(query, a.features));
                    vectorized(
                        arch(),
                        Slopes {
                            weights: bytemuck::cast_slice(weights),
                            slopes: bytemuck::cast_slice_mut(slopes),
                            upstream: bytemuck::cast_slice(&upstream),
                            result: bytemuck::cast_slice(&result),
                            scale: f32::from_bits(a.scale),
                        },
                    );
                }
                let across = Matrix::transposed(slopes, a.keys);
                product(by_key, [a.keys, a.width, count], across, q.rows_from(first), add);
                with_tile(count * a.width, |out| {
                    product(out, [count, a.width, a.keys], Matrix::dense(slopes, a.keys), k, false);
                    // SAFETY: passed on to the caller.
                    unsafe { self.store(g * length + first * a.width, out) };
                });
            });
        }
    }
}

/// Sources ready to be read.
struct Ready<'a> {
    attention: &'a Attention,
    operands: Few<Operand<'a>>,
    bias: Option<(Dense<'a>, bool)>,
}

impl Ready<'_> {
    /// Queries whose scores a task holds at once.
    fn block(&self) -> usize {
        let a = self.attention;
        (SCORES / a.keys.max(1)).clamp(1, a.queries.max(1))
    }

    /// Matrix `g` of a source.
    fn matrix(&self, source: usize, g: usize) -> Matrix<'_> {
        self.operands[source].matrix(&self.attention.batch, g)
    }

    /// The weights of all keys for some queries of a matrix; whether any is masked.
    fn weigh(&self, g: usize, queries: Range<usize>, scores: &mut [u32]) -> bool {
        let (a, first) = (self.attention, queries.start);
        let q = self.matrix(0, g).rows_from(first);
        product(scores, [queries.len(), a.keys, a.width], q, self.matrix(1, g).turned(), false);
        let (scale, arch) = (f32::from_bits(a.scale), arch());
        let weights: &mut [f32] = bytemuck::cast_slice_mut(scores);
        let mut hidden = false;
        for (query, line) in queries.zip(weights.chunks_mut(a.keys.max(1))) {
            let bias = self.bias.as_ref().map(|(bias, shared)| {
                let line = if *shared { query } else { g * a.queries + query };
                bytemuck::cast_slice(&bias[line * a.keys..(line + 1) * a.keys])
            });
            hidden |= vectorized(arch, Softmax { scores: line, scale, bias });
        }
        hidden
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

/// The slopes of weights to those of products of queries and keys: each less their mean under the weights, times its weight and a
/// scale. The mean is the product of the result and its slopes. A key without weight has none, whatever its value is.
struct Slopes<'a> {
    weights: &'a [f32],
    slopes: &'a mut [f32],
    upstream: &'a [f32],
    result: &'a [f32],
    scale: f32,
}

impl Vectorized for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Slopes { weights, slopes, upstream, result, scale } = self;
        let mut sums = [0f32; LANES];
        for (upstream, result) in upstream.chunks(LANES).zip(result.chunks(LANES)) {
            let products = upstream.iter().zip(result).map(|(a, b)| a * b);
            sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        }
        let mean = tree(sums, |a, b| a + b);
        for (&weight, slope) in weights.iter().zip(slopes) {
            let given = weight * (*slope - mean) * scale;
            *slope = if weight == 0.0 { 0.0 } else { given };
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
        let Softmax { mut scores, scale, bias } = self;
        let mut hidden = false;
        match bias {
            None => scores.iter_mut().for_each(|score| *score *= scale),
            Some(bias) => {
                let masked = |bias: f32| bias <= f32::MIN;
                // Keys past the last that is seen, such as those after a query's own place, are done with.
                let seen = |line: &[f32]| line.iter().fold(false, |any, &bias| any | !masked(bias));
                let last = bias.chunks(LANES).rposition(seen);
                let seen = last.map_or(0, |last| (last + 1) * LANES).min(scores.len());
                let (before, after) = scores.split_at_mut(seen);
                after.fill(0.0);
                hidden |= !after.is_empty();
                scores = before;
                for (score, &bias) in scores.iter_mut().zip(bias) {
                    let sum = *score * scale + bias;
                    *score = if masked(bias) { f32::NEG_INFINITY } else { sum };
                    hidden |= masked(bias);
                }
            }
        }
        // A NaN makes all of them NaN through the sum.
        let larger = |most: f32, score: f32| if score > most { score } else { most };
        let most = tree(in_lanes(scores, f32::MIN, larger), larger);
        let weigh = |score: &mut f32| *score = special::exp::<FUSED>(*score - most);
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        whole.as_flattened_mut().iter_mut().for_each(weigh);
        if !rest.is_empty() {
            // What doesn't fill the lanes goes through them beside nothing.
            let mut last = [f32::NEG_INFINITY; LANES];
            last[..rest.len()].copy_from_slice(rest);
            last.iter_mut().for_each(weigh);
            rest.copy_from_slice(&last[..rest.len()]);
        }
        let total = tree(in_lanes(scores, 0.0, |a, b| a + b), |a, b| a + b);
        let share = if total == 0.0 { 0.0 } else { 1.0 / total };
        scores.iter_mut().for_each(|score| *score *= share);
        hidden
    }
}
