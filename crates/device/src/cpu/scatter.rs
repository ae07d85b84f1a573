//! Scatter-add: sources are added in order, so equal indices give equal bits every time.

use super::Task;
use super::block::Slice;
use super::contract::with_tile;
use super::stores::{Source, Stores};
use crate::{Body, Kernel, lines};
use rayon::prelude::*;

pub(super) struct Scatter {
    /// Elements of the sources before the axis, along it and after it.
    lines: [usize; 3],
    len: usize,
    index: Source,
    source: Source,
    stores: Stores,
}

impl Scatter {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Scatter {
        let Body::Scatter { shape, axis, len, index, source, stores } = &kernel.body else {
            unreachable!("prepared as a scatter because the body is one")
        };
        Scatter {
            lines: lines(shape, *axis),
            len: *len,
            index: Source::new(kernel, *index, shape, slices),
            source: Source::new(kernel, *source, shape, slices),
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
        (0..outer).into_par_iter().for_each(|slab| {
            with_tile(len * inner, |out| {
                out.fill(0);
                let sums: &mut [f32] = bytemuck::cast_slice_mut(out);
                for point in 0..count * inner {
                    let from = slab * count * inner + point;
                    let place = index[from] as usize;
                    if place < len {
                        sums[place * inner + point % inner] += floats[from];
                    }
                }
                let first = slab * len * inner;
                let mut registers = self.stores.registers();
                // SAFETY: each slab belongs to one task.
                unsafe { self.stores.run(&mut registers, first..first + out.len(), &[out]) };
            });
        });
    }
}
