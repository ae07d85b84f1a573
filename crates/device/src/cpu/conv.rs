//! Convolutions: the windows of an image are read where they are.
//!
//! The planes of an image are laid out with their padding, one plane for each phase of the stride, so that the input of all
//! outputs under one element of the filter is one run of memory with a fixed distance from row to row. A row of tiles
//! (see `tile`) goes along that run: what it computes between the end of one row of the image and the start of the next is
//! thrown away; where that would be much, each column of the filter has a plane of its own, as wide as the outputs. The input
//! gradient is the same, of the output's gradient, for each phase of the input; the weight gradient sums along the run
//! instead.

use super::block::Slice;
use super::contract::{Matrix, add_column_sums, pack_panels, panel_steps, panel_words};
use super::crew::{each, each_of};
use super::scratch::{Scratch, with_tile};
use super::stores::{Source, Stores};
use super::tile::{GROUP, Steps, Sum, cells, columns};
use super::{TASK_POINTS, Task};
use crate::{Body, Contraction, Conv, ConvRole, Kernel};
use std::ops::Range;

/// Words of an image's planes that a task lays out at once: half a megabyte, a part of a second-level cache of today.
const TILE_WORDS: usize = 1 << 17;

/// Pixels that a weight's gradient sums over before it goes to memory, where images are smaller.
const PIXELS: usize = 512;

/// Channels whose sums are added together: as many as a line of cache has.
const CHANNELS: usize = 16;

/// Words behind planes, for vectors that begin in them.
const SLACK: usize = 64;

pub(super) struct ConvTask {
    conv: Conv,
    planes: Planes,
    left: Source,
    right: Source,
    row_stores: Stores,
    stores: Stores,
    role: Role,
}

/// What a role needs besides the planes.
enum Role {
    /// The steps through a weight and through planes.
    Forward([Steps<'static>; 2]),
    /// The phases of the input.
    InputGradient(Vec<Phase>),
    /// Where each element of the filter begins in the planes.
    WeightGradient(Vec<isize>),
}

/// The points of the input that are some steps of the stride away from each other.
struct Phase {
    /// The first row and column.
    first: [usize; 2],
    /// How many rows and columns.
    size: [usize; 2],
    /// The steps through a weight and through planes of the output's gradient.
    steps: [Steps<'static>; 2],
}

/// Filter elements along an axis, each with the place and phase that it reads.
type Taps = Vec<(usize, [isize; 2])>;

/// How planes are laid out along one axis.
struct Axis {
    /// Where each plane begins in the image: the phases of the stride that are of use.
    phases: Vec<isize>,
    /// Step between neighbours of a plane in the image.
    stride: usize,
    /// Where the plane of the first output begins, in strides.
    low: isize,
    /// Extent beyond that of the outputs.
    span: usize,
    /// Extent of the image, and of the outputs.
    image: usize,
    outputs: usize,
    /// Whether every tap has a plane of its own, which begins with what it reads for the first output.
    apart: bool,
}

/// An axis has a plane for each tap if its planes would otherwise be longer than the outputs by more than this part.
const APART: usize = 10;

impl Axis {
    /// Planes in which every offset `stride * place + phase` of `taps` can be read for all outputs.
    fn new(taps: &[[isize; 2]], stride: usize, image: usize, outputs: usize) -> Axis {
        let places = taps.iter().map(|tap| tap[0]);
        let low = places.clone().min().unwrap_or(0);
        let high = places.max().unwrap_or(0);
        let mut phases: Vec<isize> = taps.iter().map(|tap| tap[1]).collect();
        phases.sort_unstable();
        phases.dedup();
        let span = (high - low) as usize;
        Axis { phases, stride, low, span, image, outputs, apart: false }
    }

    /// The same with a plane for each tap, where that saves enough of what is computed between lines.
    fn apart(self, taps: &[[isize; 2]]) -> Axis {
        if self.span * APART <= self.outputs {
            return self;
        }
        let axis = Axis { apart: true, ..self };
        let taps: Vec<[isize; 2]> = taps.iter().map(|&tap| axis.seen(tap)).collect();
        Axis { apart: true, ..Axis::new(&taps, axis.stride, axis.image, axis.outputs) }
    }

    /// The place of a tap in its plane, and where the plane begins.
    fn seen(&self, [place, phase]: [isize; 2]) -> [isize; 2] {
        match self.apart {
            true => [0, place * self.stride as isize + phase],
            false => [place, phase],
        }
    }

    /// The range of a line that lies in the image, of `len` places from the first of output `from`; and where in the
    /// image it begins.
    fn inside(&self, phase: isize, from: usize, len: usize) -> (Range<usize>, usize) {
        let at = (from as isize + self.low) * self.stride as isize + phase;
        let until = |point: isize| (point.max(0) as usize).div_ceil(self.stride).min(len);
        let (first, end) = (until(-at), until(self.image as isize - at));
        (first..end.max(first), (at + (first * self.stride) as isize).max(0) as usize)
    }
}

/// Planes of the channels of a group.
struct Planes {
    channels: usize,
    axes: [Axis; 2],
    /// Rows of outputs that a task takes at once.
    rows: usize,
}

impl Planes {
    fn new(channels: usize, axes: [Axis; 2]) -> Planes {
        let mut planes = Planes { channels, axes, rows: 1 };
        let line = channels * planes.phases() * planes.pitch();
        let fit = (TILE_WORDS / line.max(1)).saturating_sub(planes.axes[0].span);
        planes.rows = fit.clamp(1, planes.axes[0].outputs.max(1));
        planes
    }

    fn phases(&self) -> usize {
        self.axes[0].phases.len() * self.axes[1].phases.len()
    }

    /// Words from row to row.
    fn pitch(&self) -> usize {
        self.axes[1].outputs + self.axes[1].span
    }

    /// Words of a plane.
    fn plane(&self) -> usize {
        (self.rows + self.axes[0].span) * self.pitch()
    }

    fn words(&self) -> usize {
        self.channels * self.phases() * self.plane() + SLACK
    }

    /// Where the input of the first output under a tap lies.
    fn at(&self, channel: usize, [y, x]: [[isize; 2]; 2]) -> isize {
        let [rows, cols] = &self.axes;
        let [y, x] = [rows.seen(y), cols.seen(x)];
        let phase = |axis: &Axis, tap: [isize; 2]| {
            axis.phases.iter().position(|&p| p == tap[1]).unwrap_or(0)
        };
        let plane =
            (channel * rows.phases.len() + phase(rows, y)) * cols.phases.len() + phase(cols, x);
        let row = (y[0] - rows.low) * self.pitch() as isize;
        (plane * self.plane()) as isize + row + x[0] - cols.low
    }

    /// How many parts the outputs are taken in.
    fn tiles(&self) -> usize {
        self.axes[0].outputs.div_ceil(self.rows)
    }

    /// The rows of outputs of a part.
    fn tile(&self, number: usize) -> Range<usize> {
        number * self.rows..((number + 1) * self.rows).min(self.axes[0].outputs)
    }

    /// Lays the channels of an image out for a tile of outputs.
    fn lay_out(&self, image: &[u32], tile: &Range<usize>, out: &mut [u32]) {
        let [rows, cols] = &self.axes;
        let size = rows.image * cols.image;
        let mut planes = out.chunks_mut(self.plane());
        for channel in 0..self.channels {
            let image = &image[channel * size..(channel + 1) * size];
            for &ry in &rows.phases {
                let height = tile.len() + rows.span;
                let (inside, first) = rows.inside(ry, tile.start, height);
                for &rx in &cols.phases {
                    let (columns, start) = cols.inside(rx, 0, self.pitch());
                    let Some(plane) = planes.next() else { return };
                    for (row, line) in plane.chunks_mut(self.pitch()).take(height).enumerate() {
                        if !inside.contains(&row) {
                            line.fill(0);
                            continue;
                        }
                        let y = first + (row - inside.start) * rows.stride;
                        let source = image[y * cols.image..(y + 1) * cols.image].get(start..);
                        let source = source.unwrap_or_default();
                        line[..columns.start].fill(0);
                        line[columns.end..].fill(0);
                        let line = &mut line[columns.clone()];
                        match cols.stride {
                            1 => line.copy_from_slice(&source[..line.len()]),
                            stride => line
                                .iter_mut()
                                .zip(source.iter().step_by(stride))
                                .for_each(|(t, s)| *t = *s),
                        }
                    }
                }
            }
        }
    }
}

/// `[place, phase]` of every filter element along an axis: an output reads at `stride * (output + place) + phase`.
fn taps(c: &Conv, axis: usize) -> Vec<[isize; 2]> {
    let stride = c.stride[axis] as isize;
    let offset = |tap: usize| (tap * c.dilation[axis]) as isize - c.padding[axis] as isize;
    (0..c.kernel[axis])
        .map(|tap| [offset(tap).div_euclid(stride), offset(tap).rem_euclid(stride)])
        .collect()
}

/// For each phase of the input along an axis the filter elements that reach it, each with the output it
/// comes from relative to the input's place.
fn reaching(c: &Conv, axis: usize) -> Vec<Taps> {
    let (stride, padding) = (c.stride[axis] as isize, c.padding[axis] as isize);
    let from =
        |phase: usize, tap: usize| phase as isize + padding - (tap * c.dilation[axis]) as isize;
    (0..c.stride[axis])
        .map(|phase| {
            (0..c.kernel[axis])
                .filter(|&tap| from(phase, tap).rem_euclid(stride) == 0)
                .map(|tap| (tap, [from(phase, tap).div_euclid(stride), 0]))
                .collect()
        })
        .collect()
}

impl ConvTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> ConvTask {
        let Body::Contract { contraction, left, right, row_stores, stores, .. } = &kernel.body
        else {
            unreachable!("prepared as a contraction because the body is one")
        };
        let Contraction::Conv(c, role) = contraction else {
            unreachable!("prepared as a convolution because the contraction is one")
        };
        let [left_shape, right_shape] = contraction.sources();
        let (ci, co) = (c.in_channels / c.groups, c.out_channels / c.groups);
        let window = c.kernel[0] * c.kernel[1];
        let (planes, role) = match role {
            ConvRole::InputGradient => {
                let reaching = [0, 1].map(|axis| reaching(c, axis));
                let axes = [0, 1].map(|axis| {
                    let taps: Vec<_> = reaching[axis].iter().flatten().map(|tap| tap.1).collect();
                    let places = c.input[axis].div_ceil(c.stride[axis]);
                    let lines = Axis::new(&taps, 1, c.output[axis], places);
                    if axis == 1 { lines.apart(&taps) } else { lines }
                });
                let planes = Planes::new(co, axes);
                let phases = phases(c, &planes, &reaching, ci * window);
                (planes, Role::InputGradient(phases))
            }
            role => {
                let all = [0, 1].map(|axis| taps(c, axis));
                let [rows, cols] = [0, 1].map(|axis| {
                    Axis::new(&all[axis], c.stride[axis], c.input[axis], c.output[axis])
                });
                // Sums along the lines skip what lies between them.
                let forward = *role == ConvRole::Forward;
                let cols = if forward { cols.apart(&all[1]) } else { cols };
                let planes = Planes::new(ci, [rows, cols]);
                let mut at = Vec::with_capacity(ci * window);
                for channel in 0..ci {
                    for &y in &all[0] {
                        at.extend(all[1].iter().map(|&x| planes.at(channel, [y, x])));
                    }
                }
                let role = match role {
                    ConvRole::Forward => Role::Forward([Steps::even(at.len(), 1), Steps::new(at)]),
                    _ => Role::WeightGradient(at),
                };
                (planes, role)
            }
        };
        ConvTask {
            conv: *c,
            planes,
            left: Source::new(&kernel.expr, *left, &left_shape, slices),
            right: Source::new(&kernel.expr, *right, &right_shape, slices),
            row_stores: Stores::new(&kernel.expr, row_stores, slices),
            stores: Stores::new(&kernel.expr, stores, slices),
            role,
        }
    }
}

/// The phases of the input of a convolution; `per_output` are the words of an output channel's weight.
fn phases(c: &Conv, planes: &Planes, reaching: &[Vec<Taps>; 2], per_output: usize) -> Vec<Phase> {
    let mut phases = Vec::new();
    for (ry, rows) in reaching[0].iter().enumerate() {
        for (rx, cols) in reaching[1].iter().enumerate() {
            let count = |axis: usize, phase: usize| {
                c.input[axis].saturating_sub(phase).div_ceil(c.stride[axis])
            };
            let (mut weight, mut source) = (vec![], vec![]);
            for channel in 0..planes.channels {
                for &(ky, y) in rows {
                    for &(kx, x) in cols {
                        weight.push((channel * per_output + ky * c.kernel[1] + kx) as isize);
                        source.push(planes.at(channel, [y, x]));
                    }
                }
            }
            phases.push(Phase {
                first: [ry, rx],
                size: [count(0, ry), count(1, rx)],
                steps: [weight, source].map(Steps::new),
            });
        }
    }
    phases
}

impl Task for ConvTask {
    unsafe fn run(&self) {
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (left, right) = unsafe { (self.left.dense(), self.right.dense()) };
        // SAFETY: passed on to the caller.
        unsafe {
            match &self.role {
                Role::Forward(steps) => self.forward(steps, &left, &right),
                Role::InputGradient(phases) => self.input_gradient(phases, &left, &right),
                Role::WeightGradient(rows) => self.weight_gradient(rows, &left, &right),
            }
        }
    }
}

impl ConvTask {
    /// Channels of a group of the input and of the output, and elements of the filter.
    fn sizes(&self) -> [usize; 3] {
        let c = &self.conv;
        [c.in_channels / c.groups, c.out_channels / c.groups, c.kernel[0] * c.kernel[1]]
    }

    /// Calls `f` for all tiles of all groups of all images: image, group, rows of outputs.
    fn for_each(&self, f: impl Fn(usize, usize, Range<usize>) + Sync) {
        let (groups, tiles) = (self.conv.groups, self.planes.tiles());
        each(self.conv.batch * groups * tiles, |task| {
            let (plane, tile) = (task / tiles, task % tiles);
            f(plane / groups, plane % groups, self.planes.tile(tile));
        });
    }

    /// Stores rows of channels, `[channels, rows, width]`, of planes of which the first begins at `first`.
    ///
    /// # Safety
    /// Nothing else touches the stored range.
    unsafe fn store(&self, first: usize, plane: usize, rows: Range<usize>, lines: &[u32]) {
        let mut registers = self.stores.registers();
        let mut store = |at: usize, values: &[u32]| {
            // SAFETY: passed on to the caller.
            unsafe { self.stores.run(&mut registers, at..at + values.len(), &[values]) };
        };
        if rows.len() == plane {
            return store(first, lines);
        }
        for (channel, lines) in lines.chunks(rows.len().max(1)).enumerate() {
            store(first + channel * plane + rows.start, lines);
        }
    }

    /// Computes `channels` planes of `pixels` for a tile as one run of lines, and stores them from `first` on: sums of what
    /// `left` has in `rows` and the planes laid out of `image`.
    ///
    /// # Safety
    /// Nothing else touches the stored operands of these channels and lines.
    unsafe fn lines(
        &self,
        (image, tile): (&[u32], Range<usize>),
        (left, rows): (&[u32], &[isize]),
        [left_steps, right_steps]: &[Steps<'_>; 2],
        (first, pixels): (usize, usize),
    ) {
        let (planes, channels) = (&self.planes, rows.len());
        let (pitch, width) = (planes.pitch(), planes.axes[1].outputs);
        let run = tile.len() * pitch;
        // Goes where it belongs at once, if that is all of the planes and nothing follows.
        let all = pitch == width && tile.len() == planes.axes[0].outputs;
        let plain = self.stores.plain && all;
        with_tile(planes.words() + if plain { 0 } else { channels * run }, |scratch| {
            let (source, out) = scratch.split_at_mut(planes.words());
            planes.lay_out(image, &tile, source);
            let to = match plain {
                // SAFETY: passed on to the caller.
                true => unsafe { self.stores.target(first..first + channels * pixels) },
                false => cells(out),
            };
            Sum {
                left,
                rows,
                left_steps,
                right: source,
                right_steps,
                panel: columns(),
                out: to,
                pitch: run,
                width: run - (pitch - width),
                add: false,
            }
            .run();
            if !plain {
                close(out, [channels, tile.len()], [pitch, width]);
                let lines = &out[..channels * tile.len() * width];
                // SAFETY: passed on to the caller.
                unsafe { self.store(first, pixels, tile.start * width..tile.end * width, lines) };
            }
        });
    }

    /// # Safety
    /// Nothing else touches the stored operands.
    unsafe fn forward(&self, steps: &[Steps<'_>; 2], x: &[u32], w: &[u32]) {
        let (c, [ci, co, window]) = (&self.conv, self.sizes());
        let pixels = c.output[0] * c.output[1];
        if pixels == 0 {
            return;
        }
        self.for_each(|image, group, tile| {
            let from = (image * c.in_channels + group * ci) * c.input[0] * c.input[1];
            let rows = Matrix::dense(w, ci * window).starts(group * co..(group + 1) * co);
            let first = (image * c.out_channels + group * co) * pixels;
            // SAFETY: the rows of a plane belong to one task.
            unsafe { self.lines((&x[from..], tile), (w, &rows), steps, (first, pixels)) };
        });
    }

    /// # Safety
    /// Nothing else touches the stored operands.
    unsafe fn input_gradient(&self, phases: &[Phase], dy: &[u32], w: &[u32]) {
        let (c, planes, [ci, co, window]) = (&self.conv, &self.planes, self.sizes());
        let (pitch, width) = (planes.pitch(), c.input[1]);
        let pixels = c.input[0] * width;
        if pixels == 0 {
            return;
        }
        self.for_each(|image, group, tile| {
            let from = (image * c.out_channels + group * co) * c.output[0] * c.output[1];
            // The weights of an input channel, from the group's first output channel on.
            let w = &w[group * co * ci * window..(group + 1) * co * ci * window];
            let starts = Matrix::dense(w, window).starts(0..ci);
            let first = (image * c.in_channels + group * ci) * pixels;
            if let ([phase], [1, 1]) = (phases, c.stride) {
                let image = (&dy[from..], tile);
                // SAFETY: the rows of a plane belong to one task.
                return unsafe { self.lines(image, (w, &starts), &phase.steps, (first, pixels)) };
            }
            let rows = tile.start * c.stride[0]..(tile.end * c.stride[0]).min(c.input[0]);
            let (run, lines) = (tile.len() * pitch, rows.len() * width);
            with_tile(planes.words() + ci * (run + lines), |scratch| {
                let (source, rest) = scratch.split_at_mut(planes.words());
                let (out, gathered) = rest.split_at_mut(ci * run);
                planes.lay_out(&dy[from..], &tile, source);
                for phase in phases {
                    let height = phase.size[0].min(tile.end).saturating_sub(tile.start);
                    if height == 0 || phase.size[1] == 0 {
                        continue;
                    }
                    Sum {
                        left: w,
                        rows: &starts,
                        left_steps: &phase.steps[0],
                        right: source,
                        right_steps: &phase.steps[1],
                        panel: columns(),
                        out: cells(out),
                        pitch: run,
                        width: (height - 1) * pitch + phase.size[1],
                        add: false,
                    }
                    .run();
                    for (out, lines) in out.chunks(run).zip(gathered.chunks_mut(lines)) {
                        for (row, out) in out.chunks(pitch).take(height).enumerate() {
                            let at = (row * c.stride[0] + phase.first[0]) * width + phase.first[1];
                            let line = &mut lines[at..(at / width + 1) * width];
                            match c.stride[1] {
                                1 => line.copy_from_slice(&out[..line.len()]),
                                stride => line
                                    .iter_mut()
                                    .step_by(stride)
                                    .zip(out)
                                    .for_each(|(t, s)| *t = *s),
                            }
                        }
                    }
                }
                // SAFETY: the rows of a plane belong to one task.
                unsafe {
                    self.store(first, pixels, rows.start * width..rows.end * width, gathered)
                };
            });
        });
    }

    /// # Safety
    /// Nothing else touches the stored operands.
    unsafe fn weight_gradient(&self, rows: &[isize], x: &[u32], dy: &[u32]) {
        let (c, [ci, co, window]) = (&self.conv, self.sizes());
        let k = ci * window;
        let size = c.out_channels * k;
        // Images are summed in a fixed number of parts, so that the order doesn't depend on threads.
        let parts = (TILE_WORDS * 8 / size.max(1)).clamp(2, 16).min(c.batch.max(1));
        // Each part is cut into pieces of its lines, one for each input channel and place in the window, where cores are left.
        let lines = c.groups * rows.len();
        let pieces = rayon::current_num_threads().div_ceil(parts).min(lines.div_ceil(GROUP)).max(1);
        let piece = lines.div_ceil(pieces).max(1);
        let pieces = lines.div_ceil(piece).max(1);
        with_tile(parts * size, |sums| {
            let mut biases = Scratch::filled(parts * pieces * c.out_channels, 0f64);
            let of_parts = biases.chunks_mut((pieces * c.out_channels).max(1));
            let of_parts = sums.chunks_mut(size.max(1)).zip(of_parts).enumerate();
            let of_pieces = of_parts.flat_map(|(part, (sums, biases))| {
                let sums = sums.chunks_mut((piece * co).max(1));
                let both = sums.zip(biases.chunks_mut(c.out_channels.max(1))).enumerate();
                both.map(move |(number, both)| (part, number, both))
            });
            each_of(parts * pieces, of_pieces, |(part, number, (sum, biases))| {
                let images = part * c.batch / parts..(part + 1) * c.batch / parts;
                let lines = number * piece..((number + 1) * piece).min(lines);
                self.add_images((rows, lines), images, [x, dy], sum, biases);
            });
            if !self.row_stores.is_empty() {
                let (total, rest) = biases.split_at_mut(c.out_channels);
                for part in rest.chunks(c.out_channels.max(1)) {
                    total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                }
                // SAFETY: one thread stores all rows.
                unsafe { self.row_stores.sums(0..c.out_channels, total) };
            }
            let sums = &*sums;
            // Sums lie as `[group, k, co]`; a task takes a few output channels, at least as many as share a line of cache.
            let channels =
                (TASK_POINTS / k.max(1)).max(1).next_multiple_of(CHANNELS).min(co.max(1));
            let tasks = co.div_ceil(channels);
            each(c.groups * tasks, |task| {
                let group = task / tasks;
                let own = task % tasks * channels..((task % tasks + 1) * channels).min(co);
                with_tile(own.len() * k, |total| {
                    for at in 0..k {
                        for first in own.clone().step_by(CHANNELS) {
                            let some = first..(first + CHANNELS).min(own.end);
                            let from = (group * k + at) * co + first;
                            let mut line = [0f32; CHANNELS];
                            for part in 0..parts {
                                let part = &sums[part * size + from..][..some.len()];
                                let part = part.iter().map(|&word| f32::from_bits(word));
                                line.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                            }
                            for (channel, value) in some.zip(line) {
                                total[(channel - own.start) * k + at] = value.to_bits();
                            }
                        }
                    }
                    let first = (group * co + own.start) * k;
                    let range = first..first + total.len();
                    // SAFETY: tasks store disjoint ranges.
                    unsafe { self.stores.run(&mut self.stores.registers(), range, &[total]) };
                });
            });
        });
    }

    /// Some lines of the weight gradient of some images as `[group, k, co]`, and what the output gradient of groups that begin there
    /// adds to the sum of each channel.
    fn add_images(
        &self,
        (starts, lines): (&[isize], Range<usize>),
        images: Range<usize>,
        [x, dy]: [&[u32]; 2],
        sum: &mut [u32],
        biases: &mut [f64],
    ) {
        let (c, planes, [ci, co, _]) = (&self.conv, &self.planes, self.sizes());
        let (pitch, width) = (planes.pitch(), c.output[1]);
        let pixels = c.output[0] * width;
        if images.is_empty() || pixels == 0 {
            return sum.fill(0);
        }
        for tile in (0..planes.tiles()).map(|number| planes.tile(number)) {
            let (count, across) = (tile.len() * width, columns());
            // Small images several at a time, so that the sums come and go less often.
            let fit = (2 * TILE_WORDS / planes.words()).min(PIXELS.div_ceil(count));
            let together = fit.clamp(1, images.len());
            let along = |at: usize| {
                let (image, at) = (at / count, at % count);
                (image * planes.words() + at / width * pitch + at % width) as isize
            };
            let table = |images: usize| Scratch::of((0..images * count).map(along));
            let whole = table(together);
            let whole = (Steps::new(&*whole), panel_steps(whole.len()));
            for first in images.clone().step_by(together) {
                let some = first..(first + together).min(images.end);
                let rest = (some.len() < together).then(|| table(some.len()));
                let rest = rest.as_deref().map(|at| (Steps::new(at), panel_steps(at.len())));
                let (along, down) = rest.as_ref().unwrap_or(&whole);
                for group in lines.start / starts.len()..lines.end.div_ceil(starts.len()) {
                    let add = first > images.start || tile.start > 0;
                    let own = lines.start.max(group * starts.len())
                        ..lines.end.min((group + 1) * starts.len());
                    let sum = &mut sum[(own.start - lines.start) * co..][..own.len() * co];
                    let own = own.start % starts.len()..own.start % starts.len() + own.len();
                    let words = some.len() * planes.words();
                    with_tile(words + panel_words([down.len(), co]), |scratch| {
                        let (source, panels) = scratch.split_at_mut(words);
                        for (image, source) in some.clone().zip(source.chunks_mut(planes.words())) {
                            let from =
                                (image * c.in_channels + group * ci) * c.input[0] * c.input[1];
                            planes.lay_out(&x[from..], &tile, source);
                        }
                        let panel = down.len() * across;
                        for (number, panel) in panels.chunks_mut(panel).enumerate() {
                            for (image, part) in some.clone().zip(panel.chunks_mut(count * across))
                            {
                                let from = (image * c.out_channels + group * co) * pixels;
                                let dy = &dy[from + tile.start * width..from + co * pixels];
                                let size = [part.len() / across, co];
                                pack_panels(Matrix::transposed(dy, pixels), number, size, part);
                            }
                            let first = number * across;
                            let biases = &mut biases[group * co + first..(group + 1) * co];
                            if own.start == 0 && !self.row_stores.is_empty() {
                                add_column_sums(biases, panel, across);
                            }
                        }
                        Sum {
                            left: source,
                            rows: &starts[own.clone()],
                            left_steps: along,
                            right: panels,
                            right_steps: down,
                            panel,
                            out: cells(sum),
                            pitch: co,
                            width: co,
                            add,
                        }
                        .run();
                    });
                }
            }
        }
    }
}

/// Moves lines of `width` words, `pitch` apart, of `[channels, rows]`, together.
fn close(words: &mut [u32], [channels, rows]: [usize; 2], [pitch, width]: [usize; 2]) {
    if pitch > width {
        for line in 1..channels * rows {
            words.copy_within(line * pitch..line * pitch + width, line * width);
        }
    }
}
