//! Row kernels: reductions of each row one after the other, then stores.
//!
//! A row is summed block by block: sixteen lanes inside a block, in f64 between blocks. The order
//! depends on the length alone. Rows of which the elements lie far apart are in `across`.

use super::block::{Accumulated, BLOCK, Plan, Registers, Slice};
use super::stores::{Stores, roots};
use super::{TASK_POINTS, Task};
use crate::{Body, Combine, DType, Expr, Kernel, Term, TermId, View, numel};
use rayon::prelude::*;
use std::ops::Range;

const LANES: usize = 16;

pub(super) struct Rows {
    rows: usize,
    cols: usize,
    /// What a row needs and doesn't depend on reductions, for many rows at once: the first accumulators.
    ahead: Plan,
    /// Reductions that go through the columns together, each with how it combines what.
    passes: Vec<(Vec<(Combine, DType)>, Plan)>,
    row_stores: Stores,
    stores: Stores,
    /// Where elements are stored.
    layout: View,
    /// Rows that fit a block.
    together: usize,
}

impl Rows {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Rows {
        let Body::Rows { rows, cols, layout, reductions, row_stores, stores } = &kernel.body else {
            unreachable!("prepared as rows because the body is rows")
        };
        let columns = rows.len()..rows.len() + cols.len();
        let (expr, ahead) = ahead(kernel, columns.clone());
        let together = (BLOCK / numel(cols).max(1)).max(1);
        let plan = |terms: &[TermId]| match together {
            1 => Plan::over_rows(&expr, terms, slices, columns.clone()),
            _ => Plan::new(&expr, terms, slices),
        };
        let pass = |range: Range<usize>| {
            let all = &reductions[range];
            let terms: Vec<_> = all.iter().map(|r| r.term).collect();
            let combines = all.iter().map(|r| (r.combine, expr.types[r.term])).collect();
            (combines, plan(&terms))
        };
        Rows {
            rows: numel(rows),
            cols: numel(cols),
            ahead: Plan::new(&kernel.expr.without(columns.clone()), &ahead, slices),
            passes: kernel.body.passes(&kernel.expr).into_iter().map(pass).collect(),
            row_stores: Stores::with(plan(&roots(row_stores)), false, row_stores, slices),
            stores: Stores::with(plan(&roots(stores)), false, stores, slices),
            layout: layout.collapsed(),
            together,
        }
    }

    /// A row that is longer than a block, or as long; `ahead` begins at it.
    ///
    /// # Safety
    /// As [`Task::run`], and no other thread works on this row.
    unsafe fn row(&self, row: usize, ahead: &[&[u32]], scratch: &mut Scratch) {
        let first = row * self.cols;
        let mut found: Vec<Accumulated<'_>> =
            ahead.iter().map(|values| Accumulated::All(values[0])).collect();
        for ((combines, plan), registers) in self.passes.iter().zip(&mut scratch.passes) {
            registers.begin_row();
            let mut totals: Vec<Total> =
                combines.iter().map(|&(c, ty)| Total::new(c, ty)).collect();
            for start in (0..self.cols).step_by(BLOCK) {
                let len = BLOCK.min(self.cols - start);
                // SAFETY: passed on to the caller.
                unsafe { plan.evaluate(registers, first + start, len, &found) };
                for (root, total) in totals.iter_mut().enumerate() {
                    total.add(plan.root(registers, root, len, &found));
                }
            }
            found.extend(totals.iter().map(|total| Accumulated::All(total.bits())));
        }
        scratch.row_stores.begin_row();
        scratch.stores.begin_row();
        // SAFETY: passed on to the caller; rows store disjoint ranges.
        unsafe {
            self.row_stores.block(&mut scratch.row_stores, first, row, 1, &found);
            if !self.stores.is_empty() {
                for start in (first..first + self.cols).step_by(BLOCK) {
                    let len = BLOCK.min(first + self.cols - start);
                    self.stores.spread(&mut scratch.stores, &self.layout, [start, len], &found);
                }
            }
        }
    }

    /// `count` short rows, which fill a block; `ahead` begins at the first.
    ///
    /// # Safety
    /// As [`Rows::row`].
    unsafe fn rows(&self, row: usize, count: usize, ahead: &[&[u32]], scratch: &mut Scratch) {
        let (start, len) = (row * self.cols, count * self.cols);
        for (values, block) in ahead.iter().zip(&mut scratch.found) {
            let rows = block.chunks_mut(self.cols).zip(*values).take(count);
            rows.for_each(|(row, value)| row.fill(*value));
        }
        let mut done = ahead.len();
        for ((combines, plan), registers) in self.passes.iter().zip(&mut scratch.passes) {
            let (found, next) = scratch.found.split_at_mut(done);
            let accumulated = each(found);
            // SAFETY: passed on to the caller.
            unsafe { plan.evaluate(registers, start, len, &accumulated) };
            for ((root, &(combine, ty)), totals) in combines.iter().enumerate().zip(next) {
                let values = plan.root(registers, root, len, &accumulated);
                let rows = values.chunks(self.cols).zip(totals.chunks_mut(self.cols));
                for (values, totals) in rows {
                    let mut total = Total::new(combine, ty);
                    total.add(values);
                    totals.fill(total.bits());
                }
            }
            done += combines.len();
        }
        let accumulated = each(&scratch.found);
        // SAFETY: passed on to the caller; rows store disjoint ranges.
        unsafe {
            if !self.row_stores.is_empty() {
                let rows = [row, count, self.cols];
                self.row_stores.firsts(&mut scratch.row_stores, rows, &accumulated);
            }
            if !self.stores.is_empty() {
                let points = [start, len];
                self.stores.spread(&mut scratch.stores, &self.layout, points, &accumulated);
            }
        }
    }
}

/// The expression of a row kernel whose first accumulators are what each row needs and doesn't depend on reductions, and
/// those terms.
fn ahead(kernel: &Kernel, columns: Range<usize>) -> (Expr, Vec<TermId>) {
    let mut expr = kernel.expr.clone();
    let roots = kernel.roots();
    let (uniform, needed) = (expr.uniform(columns), expr.needed(&roots));
    let mut free: Vec<bool> = Vec::with_capacity(expr.terms.len());
    for (id, term) in expr.terms.iter().enumerate() {
        let arguments = term.arguments().iter().all(|&arg| free[arg]);
        free.push(uniform[id] && arguments && !matches!(term, Term::Accumulator(_)));
    }
    let mut used = vec![false; free.len()];
    roots.iter().for_each(|&root| used[root] = true);
    let dependent = |(id, _): &(usize, &Term)| needed[*id] && !free[*id];
    for (_, term) in expr.terms.iter().enumerate().filter(dependent) {
        term.arguments().iter().for_each(|&arg| used[arg] = true);
    }
    let wanted = |&id: &TermId| {
        needed[id] && free[id] && used[id] && !matches!(expr.terms[id], Term::Literal(_))
    };
    let ahead: Vec<TermId> = (0..free.len()).filter(wanted).collect();
    for term in &mut expr.terms {
        if let Term::Accumulator(number) = term {
            *number += ahead.len();
        }
    }
    for (number, &id) in ahead.iter().enumerate() {
        expr.terms[id] = Term::Accumulator(number);
    }
    (expr, ahead)
}

pub(super) fn each(found: &[[u32; BLOCK]]) -> Vec<Accumulated<'_>> {
    found.iter().map(|values| Accumulated::Each(values)).collect()
}

struct Scratch {
    passes: Vec<Registers>,
    /// Accumulators of rows that share a block, spread over their points.
    found: Vec<[u32; BLOCK]>,
    row_stores: Registers,
    stores: Registers,
}

impl Task for Rows {
    unsafe fn run(&self) {
        let reductions = self.passes.iter().map(|(combines, _)| combines.len());
        let accumulators = self.ahead.roots.len() + reductions.sum::<usize>();
        let rows_each = (TASK_POINTS / self.cols.max(1) / 4).max(1);
        (0..self.rows.div_ceil(rows_each)).into_par_iter().for_each(|task| {
            let mut ahead = self.ahead.registers();
            let mut scratch = Scratch {
                passes: self.passes.iter().map(|(_, plan)| plan.registers()).collect(),
                found: vec![[0; BLOCK]; if self.together > 1 { accumulators } else { 0 }],
                row_stores: self.row_stores.registers(),
                stores: self.stores.registers(),
            };
            let rows = task * rows_each..((task + 1) * rows_each).min(self.rows);
            for first in rows.clone().step_by(BLOCK) {
                let rows = first..(first + BLOCK).min(rows.end);
                // SAFETY: each row belongs to one task, and nothing loaded is stored.
                unsafe {
                    let len = rows.len();
                    self.ahead.evaluate(&mut ahead, first, len, &[]);
                    let values = |root| self.ahead.root(&ahead, root, len, &[]);
                    let values: Vec<_> = (0..self.ahead.roots.len()).map(values).collect();
                    let alone = self.together == 1 || self.cols == 0;
                    for row in rows.clone().step_by(if alone { 1 } else { self.together }) {
                        let from: Vec<_> = values.iter().map(|v| &v[row - first..]).collect();
                        match alone {
                            true => self.row(row, &from, &mut scratch),
                            false => {
                                let count = self.together.min(rows.end - row);
                                self.rows(row, count, &from, &mut scratch);
                            }
                        }
                    }
                }
            }
        });
    }
}

/// A reduction under way.
pub(super) struct Total {
    combine: Combine,
    dtype: DType,
    /// Sums and products of floats.
    pub(super) float: f64,
    bits: u32,
}

impl Total {
    pub(super) fn new(combine: Combine, dtype: DType) -> Total {
        let identity = combine.identity(dtype);
        let float = if combine == Combine::Prod { 1.0 } else { 0.0 };
        Total { combine, dtype, float, bits: identity.bits }
    }

    pub(super) fn add(&mut self, block: &[u32]) {
        match (self.combine, self.dtype) {
            (Combine::Sum, DType::F32) => {
                let floats: &[f32] = bytemuck::cast_slice(block);
                let mut lanes = [0f32; LANES];
                let (whole, rest) = floats.as_chunks::<LANES>();
                for chunk in whole {
                    for (lane, value) in lanes.iter_mut().zip(chunk) {
                        *lane += value;
                    }
                }
                for (lane, value) in lanes.iter_mut().zip(rest) {
                    *lane += value;
                }
                // As a tree: a chain of sixteen additions would take longer than the loop.
                let mut lanes = lanes.map(f64::from);
                for half in [8, 4, 2, 1] {
                    for lane in 0..half {
                        lanes[lane] += lanes[lane + half];
                    }
                }
                self.float += lanes[0];
            }
            (Combine::Sum, _) => {
                self.bits = block.iter().fold(self.bits, |sum, &v| sum.wrapping_add(v));
            }
            (Combine::Prod, DType::F32) => {
                let floats: &[f32] = bytemuck::cast_slice(block);
                self.float = floats.iter().fold(self.float, |all, &v| all * f64::from(v));
            }
            (Combine::Prod, _) => {
                self.bits = block.iter().fold(self.bits, |all, &v| all.wrapping_mul(v));
            }
            (Combine::Max, DType::F32) => {
                self.extreme(block, |a, b| if b > a || b.is_nan() { b } else { a })
            }
            (Combine::Min, DType::F32) => {
                self.extreme(block, |a, b| if b < a || b.is_nan() { b } else { a })
            }
            (Combine::Max, DType::I32) => self.signed(block, i32::max),
            (Combine::Min, DType::I32) => self.signed(block, i32::min),
            (Combine::Max, _) => self.bits = block.iter().fold(self.bits, |a, &b| a.max(b)),
            (Combine::Min, _) => self.bits = block.iter().fold(self.bits, |a, &b| a.min(b)),
        }
    }

    fn extreme(&mut self, block: &[u32], f: impl Fn(f32, f32) -> f32) {
        let start = f32::from_bits(self.bits);
        self.bits = block.iter().fold(start, |a, &b| f(a, f32::from_bits(b))).to_bits();
    }

    fn signed(&mut self, block: &[u32], f: impl Fn(i32, i32) -> i32) {
        self.bits = block.iter().fold(self.bits as i32, |a, &b| f(a, b as i32)) as u32;
    }

    fn bits(&self) -> u32 {
        match (self.combine, self.dtype) {
            (Combine::Sum | Combine::Prod, DType::F32) => (self.float as f32).to_bits(),
            _ => self.bits,
        }
    }
}
