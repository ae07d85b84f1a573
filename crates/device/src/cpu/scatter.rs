//! Scatter-add: sources are added in order, so equal indices give equal bits every time.

use super::block::Slice;
use super::crew::each;
use super::scratch::with_tile;
use super::stores::{Source, Stores};
use super::{TASK_POINTS, Task};
use crate::{Body, Kernel, lines};

pub(super) struct Scatter {
    /// Elements of the sources before the axis, along it and after it.
    lines: [usize; 3],
    len: usize,
    /// Over the whole shape, or over the axes up to the one that it replaces where all elements behind go together.
    index: Source,
    slices: bool,
    source: Source,
    stores: Stores,
}

impl Scatter {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Scatter {
        let Body::Scatter { shape, axis, len, index, source, stores } = &kernel.body else {
            unreachable!("prepared as a scatter because the body is one")
        };
        let whole = kernel.expr.uniform(axis + 1..shape.len())[*index];
        let index = match whole {
            true => {
                let expr = kernel.expr.without(axis + 1..shape.len());
                Source::new(&expr, *index, &shape[..=*axis], slices)
            }
            false => Source::new(&kernel.expr, *index, shape, slices),
        };
        Scatter {
            lines: lines(shape, *axis),
            len: *len,
            index,
            slices: whole,
            source: Source::new(&kernel.expr, *source, shape, slices),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for Scatter {
    unsafe fn run(&self) {
        let ([outer, count, inner], len) = (self.lines, self.len);
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (index, source) = unsafe { (self.index.dense(), self.source.dense()) };
        let floats: &[f32] = bytemuck::cast_slice(&source);
        // A task goes through all sources for a few elements of the result.
        let rows = (TASK_POINTS * 4 / inner.max(1)).clamp(1, len.max(1));
        let tasks = len.div_ceil(rows);
        each(outer * tasks, |task| {
            let (slab, first) = (task / tasks, task % tasks * rows);
            let rows = rows.min(len - first);
            with_tile(rows * inner, |out| {
                out.fill(0);
                let sums: &mut [f32] = bytemuck::cast_slice_mut(out);
                for point in slab * count..(slab + 1) * count {
                    let source = &floats[point * inner..(point + 1) * inner];
                    // Places before the first wrap around to large ones.
                    let row = |at: usize| (index[at] as usize).wrapping_sub(first);
                    if self.slices {
                        if row(point) < rows {
                            let sums = &mut sums[row(point) * inner..][..inner];
                            sums.iter_mut().zip(source).for_each(|(sum, value)| *sum += value);
                        }
                        continue;
                    }
                    for (number, value) in source.iter().enumerate() {
                        let row = row(point * inner + number);
                        if row < rows {
                            sums[row * inner + number] += value;
                        }
                    }
                }
                let at = (slab * len + first) * inner;
                let mut registers = self.stores.registers();
                // SAFETY: each row of the result belongs to one task.
                unsafe { self.stores.run(&mut registers, at..at + out.len(), &[out]) };
            });
        });
    }
}
