//! Row kernels: reductions of each row one after the other, then stores.
//!
//! A row is summed block by block: sixteen lanes inside a block, in f64 between blocks. The order
//! depends on the length alone.

use super::block::{Accumulated, BLOCK, Plan, Registers, Slice};
use super::stores::{Stores, roots};
use super::{TASK_POINTS, Task};
use crate::{Body, Combine, DType, Kernel, TermId, numel};
use rayon::prelude::*;

const LANES: usize = 16;

pub(super) struct Rows {
    rows: usize,
    cols: usize,
    /// Reductions that go through the columns together, each with how it combines what.
    passes: Vec<(Vec<(Combine, DType)>, Plan)>,
    row_stores: Stores,
    stores: Stores,
    /// Rows that fit a block.
    together: usize,
}

impl Rows {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Rows {
        let Body::Rows { rows, cols, reductions, row_stores, stores } = &kernel.body else {
            unreachable!("prepared as rows because the body is rows")
        };
        let together = (BLOCK / numel(cols).max(1)).max(1);
        let plan = |terms: &[TermId]| Plan::over_rows(&kernel.expr, terms, slices, rows.len());
        let pass = |range: std::ops::Range<usize>| {
            let all = &reductions[range];
            let terms: Vec<_> = all.iter().map(|r| r.term).collect();
            let combines = all.iter().map(|r| (r.combine, kernel.expr.types[r.term])).collect();
            (combines, plan(&terms))
        };
        Rows {
            rows: numel(rows),
            cols: numel(cols),
            passes: kernel.body.passes(&kernel.expr).into_iter().map(pass).collect(),
            row_stores: Stores::new(&kernel.expr, row_stores, slices),
            stores: Stores::with(plan(&roots(stores)), false, stores, slices),
            together,
        }
    }

    /// A row that is longer than a block, or as long.
    ///
    /// # Safety
    /// As [`Task::run`], and no other thread works on this row.
    unsafe fn row(&self, row: usize, scratch: &mut Scratch) {
        let first = row * self.cols;
        let mut found: Vec<Accumulated<'_>> = Vec::new();
        for ((combines, plan), registers) in self.passes.iter().zip(&mut scratch.passes) {
            let mut totals: Vec<Total> =
                combines.iter().map(|&(c, ty)| Total::new(c, ty)).collect();
            for start in (0..self.cols).step_by(BLOCK) {
                let len = BLOCK.min(self.cols - start);
                // SAFETY: passed on to the caller.
                unsafe { plan.evaluate(registers, first + start, [len, len], &found) };
                for (root, total) in totals.iter_mut().enumerate() {
                    total.add(plan.root(registers, root, len, &found));
                }
            }
            found.extend(totals.iter().map(|total| Accumulated::All(total.bits())));
        }
        // SAFETY: passed on to the caller; rows store disjoint ranges.
        unsafe {
            self.row_stores.block(&mut scratch.row_stores, first, row, [1, 1], &found);
            if !self.stores.is_empty() {
                for start in (first..first + self.cols).step_by(BLOCK) {
                    let len = BLOCK.min(first + self.cols - start);
                    self.stores.block(&mut scratch.stores, start, start, [len, len], &found);
                }
            }
        }
    }

    /// `count` short rows, which fill a block.
    ///
    /// # Safety
    /// As [`Rows::row`].
    unsafe fn rows(&self, row: usize, count: usize, scratch: &mut Scratch) {
        let (start, len) = (row * self.cols, count * self.cols);
        let mut found: Vec<[u32; BLOCK]> = Vec::new();
        for ((combines, plan), registers) in self.passes.iter().zip(&mut scratch.passes) {
            let accumulated = each(&found);
            // SAFETY: passed on to the caller.
            unsafe { plan.evaluate(registers, start, [len, self.cols], &accumulated) };
            let totals = combines.iter().enumerate().map(|(root, &(combine, ty))| {
                let values = plan.root(registers, root, len, &accumulated);
                let mut totals = [0; BLOCK];
                let rows = values.chunks(self.cols).zip(totals.chunks_mut(self.cols));
                for (values, totals) in rows {
                    let mut total = Total::new(combine, ty);
                    total.add(values);
                    totals.fill(total.bits());
                }
                totals
            });
            let totals: Vec<_> = totals.collect();
            found.extend(totals);
        }
        let accumulated = each(&found);
        // SAFETY: passed on to the caller; rows store disjoint ranges.
        unsafe {
            if !self.row_stores.is_empty() {
                let rows = [row, count, self.cols];
                self.row_stores.firsts(&mut scratch.row_stores, rows, &accumulated);
            }
            if !self.stores.is_empty() {
                self.stores.block(
                    &mut scratch.stores,
                    start,
                    start,
                    [len, self.cols],
                    &accumulated,
                );
            }
        }
    }
}

fn each(found: &[[u32; BLOCK]]) -> Vec<Accumulated<'_>> {
    found.iter().map(|values| Accumulated::Each(values)).collect()
}

struct Scratch {
    passes: Vec<Registers>,
    row_stores: Registers,
    stores: Registers,
}

impl Task for Rows {
    unsafe fn run(&self) {
        let rows_each = (TASK_POINTS / self.cols.max(1) / 4).max(1);
        (0..self.rows.div_ceil(rows_each)).into_par_iter().for_each(|task| {
            let mut scratch = Scratch {
                passes: self.passes.iter().map(|(_, plan)| plan.registers()).collect(),
                row_stores: self.row_stores.registers(),
                stores: self.stores.registers(),
            };
            let rows = task * rows_each..((task + 1) * rows_each).min(self.rows);
            // SAFETY: each row belongs to one task, and nothing loaded is stored.
            unsafe {
                if self.together == 1 || self.cols == 0 {
                    return rows.for_each(|row| self.row(row, &mut scratch));
                }
                for row in rows.clone().step_by(self.together) {
                    self.rows(row, self.together.min(rows.end - row), &mut scratch);
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
                self.float += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
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
