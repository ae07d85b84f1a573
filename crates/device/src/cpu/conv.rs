//! Convolutions as matrix products over windows that are unfolded a cache-sized tile at a time.

use super::block::Slice;
use super::contract::{Matrix, add_row_sums, product, with_tile};
use super::stores::{Source, Stores};
use super::{TASK_POINTS, Task, inside};
use crate::{Body, Contraction, Conv, ConvRole, Kernel};
use rayon::prelude::*;
use std::ops::Range;

/// Words of an unfolded tile: half a megabyte, a quarter of a second-level cache of today.
const TILE_WORDS: usize = 1 << 17;

pub(super) struct ConvTask {
    conv: Conv,
    role: ConvRole,
    left: Source,
    right: Source,
    row_stores: Stores,
    stores: Stores,
}

impl ConvTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> ConvTask {
        let Body::Contract { contraction, left, right, row_stores, stores, .. } = &kernel.body
        else {
            unreachable!("prepared as a contraction because the body is one")
        };
        let Contraction::Conv(conv, role) = contraction else {
            unreachable!("prepared as a convolution because the contraction is one")
        };
        let [left_shape, right_shape] = contraction.sources();
        ConvTask {
            conv: *conv,
            role: *role,
            left: Source::new(kernel, *left, &left_shape, slices),
            right: Source::new(kernel, *right, &right_shape, slices),
            row_stores: Stores::new(&kernel.expr, row_stores, slices),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

/// Sizes that every role needs.
struct Sizes {
    /// Channels of a group.
    ci: usize,
    co: usize,
    /// Points of an input plane, an output plane and the window.
    pixels_in: usize,
    pixels_out: usize,
    window: usize,
    /// Output rows of a tile.
    tile_rows: usize,
}

impl Sizes {
    fn new(c: &Conv) -> Sizes {
        let (ci, co) = (c.in_channels / c.groups, c.out_channels / c.groups);
        let window = c.kernel[0] * c.kernel[1];
        let line = ci * window * c.output[1];
        Sizes {
            ci,
            co,
            pixels_in: c.input[0] * c.input[1],
            pixels_out: c.output[0] * c.output[1],
            window,
            tile_rows: (TILE_WORDS / line.max(1)).clamp(1, c.output[0].max(1)),
        }
    }
}

impl Task for ConvTask {
    unsafe fn run(&self) {
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (left, right) = unsafe { (self.left.dense(), self.right.dense()) };
        // SAFETY: passed on to the caller.
        unsafe {
            match self.role {
                ConvRole::Forward => self.forward(&left, &right),
                ConvRole::InputGradient => self.input_gradient(&left, &right),
                ConvRole::WeightGradient => self.weight_gradient(&left, &right),
            }
        }
    }
}

impl ConvTask {
    /// # Safety
    /// Nothing else touches the stored operands.
    unsafe fn forward(&self, x: &[u32], w: &[u32]) {
        let (c, s) = (&self.conv, Sizes::new(&self.conv));
        let k = s.ci * s.window;
        let tiles = c.output[0].div_ceil(s.tile_rows);
        (0..c.batch * c.groups * tiles).into_par_iter().for_each(|task| {
            let (plane, tile) = (task / tiles, task % tiles);
            let (image, group) = (plane / c.groups, plane % c.groups);
            let rows = tile * s.tile_rows..((tile + 1) * s.tile_rows).min(c.output[0]);
            let width = rows.len() * c.output[1];
            let from = (image * c.in_channels + group * s.ci) * s.pixels_in;
            let w = Matrix::dense(&w[group * s.co * k..(group + 1) * s.co * k], k);
            let first = (image * c.out_channels + group * s.co) * s.pixels_out;
            with_tile(k * width, |unfolded| {
                unfold(c, &x[from..], s.ci, rows.clone(), unfolded);
                let size = [s.co, width, k];
                if self.stores.plain && tiles == 1 {
                    // SAFETY: each plane of the output belongs to one task.
                    let out = unsafe { self.stores.target(first..first + s.co * width) };
                    return product(out, width, size, w, Matrix::dense(unfolded, width), false);
                }
                with_tile(s.co * width, |out| {
                    product(out, width, size, w, Matrix::dense(unfolded, width), false);
                    let mut registers = self.stores.registers();
                    let mut store = |at: usize, values: &[u32]| {
                        // SAFETY: the rows of a plane belong to one task.
                        unsafe {
                            self.stores.run(&mut registers, at..at + values.len(), &[values])
                        };
                    };
                    if tiles == 1 {
                        return store(first, out);
                    }
                    for (channel, line) in out.chunks(width).enumerate() {
                        store(first + channel * s.pixels_out + rows.start * c.output[1], line);
                    }
                });
            });
        });
    }

    /// # Safety
    /// Nothing else touches the stored operands.
    unsafe fn input_gradient(&self, dy: &[u32], w: &[u32]) {
        let (c, s) = (&self.conv, Sizes::new(&self.conv));
        let k = s.ci * s.window;
        // Channels whose unfolded gradients fill a tile.
        let channels = (TILE_WORDS / (s.window * s.pixels_out).max(1)).clamp(1, s.ci.max(1));
        let tiles = s.ci.div_ceil(channels);
        (0..c.batch * c.groups * tiles).into_par_iter().for_each(|task| {
            let (plane, tile) = (task / tiles, task % tiles);
            let (image, group) = (plane / c.groups, plane % c.groups);
            let low = tile * channels;
            let count = channels.min(s.ci - low);
            let from = (image * c.out_channels + group * s.co) * s.pixels_out;
            let w = Matrix::transposed(&w[group * s.co * k..(group + 1) * s.co * k], k);
            let w = Matrix { offset: (low * s.window) as isize, ..w };
            with_tile(count * s.window * s.pixels_out, |unfolded| {
                let size = [count * s.window, s.pixels_out, s.co];
                let dy = Matrix::dense(&dy[from..from + s.co * s.pixels_out], s.pixels_out);
                product(unfolded, s.pixels_out, size, w, dy, false);
                with_tile(count * s.pixels_in, |out| {
                    fold(c, unfolded, count, out);
                    let first = (image * c.in_channels + group * s.ci + low) * s.pixels_in;
                    let mut registers = self.stores.registers();
                    // SAFETY: each channel of the input belongs to one task.
                    unsafe { self.stores.run(&mut registers, first..first + out.len(), &[out]) };
                });
            });
        });
    }

    /// # Safety
    /// Nothing else touches the stored operands.
    unsafe fn weight_gradient(&self, x: &[u32], dy: &[u32]) {
        let (c, s) = (&self.conv, Sizes::new(&self.conv));
        let k = s.ci * s.window;
        let size = c.out_channels * k;
        // Images are summed in a fixed number of parts, so that the order doesn't depend on threads.
        let parts = (TILE_WORDS * 8 / size.max(1)).clamp(2, 16).min(c.batch.max(1));
        with_tile(parts * size, |sums| {
            let mut rows = vec![0f64; parts * c.out_channels];
            let own = sums.par_chunks_mut(size.max(1));
            let own = own.zip(rows.par_chunks_mut(c.out_channels.max(1)));
            own.enumerate().for_each(|(part, (sum, rows))| {
                let images = part * c.batch / parts..(part + 1) * c.batch / parts;
                self.add_images(&s, images, x, dy, sum, rows);
            });
            if !self.row_stores.is_empty() {
                let (total, rest) = rows.split_at_mut(c.out_channels);
                for part in rest.chunks(c.out_channels.max(1)) {
                    total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                }
                // SAFETY: one thread stores all rows.
                unsafe { self.row_stores.sums(0..c.out_channels, total) };
            }
            let (total, rest) = sums.split_at_mut(size);
            total.par_chunks_mut(TASK_POINTS).enumerate().for_each(|(task, total)| {
                let range = task * TASK_POINTS..task * TASK_POINTS + total.len();
                for part in rest.chunks(size.max(1)) {
                    for (sum, value) in total.iter_mut().zip(&part[range.clone()]) {
                        *sum = (f32::from_bits(*sum) + f32::from_bits(*value)).to_bits();
                    }
                }
                // SAFETY: tasks store disjoint ranges.
                unsafe { self.stores.run(&mut self.stores.registers(), range, &[total]) };
            });
        });
    }

    /// The weight gradient of some images, and what their output gradient adds to the sum of each channel.
    fn add_images(
        &self,
        s: &Sizes,
        images: Range<usize>,
        x: &[u32],
        dy: &[u32],
        sum: &mut [u32],
        rows: &mut [f64],
    ) {
        let c = &self.conv;
        let k = s.ci * s.window;
        if images.is_empty() || s.pixels_out == 0 {
            return sum.fill(0);
        }
        for image in images.clone() {
            for group in 0..c.groups {
                let from = (image * c.in_channels + group * s.ci) * s.pixels_in;
                let dy_from = (image * c.out_channels + group * s.co) * s.pixels_out;
                for row in (0..c.output[0]).step_by(s.tile_rows) {
                    let tile = row..(row + s.tile_rows).min(c.output[0]);
                    let width = tile.len() * c.output[1];
                    let dy = &dy[dy_from + row * c.output[1]..dy_from + s.co * s.pixels_out];
                    let dy = Matrix::dense(dy, s.pixels_out);
                    if !self.row_stores.is_empty() {
                        add_row_sums(&mut rows[group * s.co..][..s.co], dy, width);
                    }
                    with_tile(k * width, |unfolded| {
                        unfold(c, &x[from..], s.ci, tile, unfolded);
                        let columns = Matrix::transposed(unfolded, width);
                        let out = &mut sum[group * s.co * k..(group + 1) * s.co * k];
                        let add = image > images.start || row > 0;
                        product(out, k, [s.co, k, width], dy, columns, add);
                    });
                }
            }
        }
    }
}

/// The outputs of a line whose window column `kx` lies inside the input, and the input column of
/// the first of them.
fn columns(c: &Conv, kx: usize) -> (Range<usize>, usize) {
    inside(kx * c.dilation[1], c.stride[1], c.padding[1], c.input[1], c.output[1])
}

/// The input row of an output row and window row, if it lies inside.
fn input_row(c: &Conv, row: usize, ky: usize) -> Option<usize> {
    let at = (row * c.stride[0] + ky * c.dilation[0]).checked_sub(c.padding[0])?;
    (at < c.input[0]).then_some(at)
}

/// `out[channel, ky, kx, row, col] = x[channel, row * stride + ky.., col * stride + kx..]`, zero in
/// the padding, for the output rows of a tile.
fn unfold(c: &Conv, x: &[u32], channels: usize, rows: Range<usize>, out: &mut [u32]) {
    let width = c.output[1];
    let mut lines = out.chunks_mut(width);
    for channel in 0..channels {
        let plane = &x[channel * c.input[0] * c.input[1]..];
        for ky in 0..c.kernel[0] {
            for kx in 0..c.kernel[1] {
                let (columns, first) = columns(c, kx);
                for row in rows.clone() {
                    let Some(line) = lines.next() else { return };
                    let Some(at) = input_row(c, row, ky) else {
                        line.fill(0);
                        continue;
                    };
                    let source = &plane[at * c.input[1]..(at + 1) * c.input[1]];
                    line[..columns.start].fill(0);
                    line[columns.end..].fill(0);
                    let target = &mut line[columns.clone()];
                    if c.stride[1] == 1 {
                        // With more padding than image, a window column may see none of it.
                        let source = source.get(first..).unwrap_or_default();
                        target.copy_from_slice(&source[..columns.len()]);
                    } else {
                        let source = source.get(first..).unwrap_or_default();
                        for (t, s) in target.iter_mut().zip(source.iter().step_by(c.stride[1])) {
                            *t = *s;
                        }
                    }
                }
            }
        }
    }
}

/// The transpose of [`unfold`] over whole planes: adds every window element back to its pixel.
fn fold(c: &Conv, unfolded: &[u32], channels: usize, out: &mut [u32]) {
    out.fill(0);
    let floats: &[f32] = bytemuck::cast_slice(unfolded);
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    let mut lines = floats.chunks(c.output[1]);
    for channel in 0..channels {
        let plane = &mut out[channel * c.input[0] * c.input[1]..];
        for ky in 0..c.kernel[0] {
            for kx in 0..c.kernel[1] {
                let (columns, first) = columns(c, kx);
                for row in 0..c.output[0] {
                    let Some(line) = lines.next() else { return };
                    let Some(at) = input_row(c, row, ky) else {
                        continue;
                    };
                    let target = &mut plane[at * c.input[1]..(at + 1) * c.input[1]];
                    let target = target.get_mut(first..).unwrap_or_default();
                    let source = &line[columns.clone()];
                    if c.stride[1] == 1 {
                        for (t, s) in target.iter_mut().zip(source) {
                            *t += s;
                        }
                    } else {
                        for (t, s) in target.iter_mut().step_by(c.stride[1]).zip(source) {
                            *t += s;
                        }
                    }
                }
            }
        }
    }
}
