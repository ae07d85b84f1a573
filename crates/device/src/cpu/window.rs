//! Pooling windows, one plane after the other.

use super::block::Slice;
use super::crew::each;
use super::scratch::with_tile;
use super::stores::{Source, Stores};
use super::{TASK_POINTS, Task, inside};
use crate::{Body, Kernel, Window, WindowRole, numel};

pub(super) struct WindowTask {
    window: Window,
    role: WindowRole,
    source: Source,
    index: Option<Source>,
    largest: Largest,
    stores: Stores,
}

impl WindowTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> WindowTask {
        let Body::Window { window, role, source, index, stores } = &kernel.body else {
            unreachable!("prepared as a window because the body is one")
        };
        let shape = window.shapes(*role)[0];
        WindowTask {
            window: *window,
            role: *role,
            source: Source::new(&kernel.expr, *source, &shape, slices),
            largest: match role {
                WindowRole::Max => Largest::new(window),
                _ => Largest::default(),
            },
            index: index.map(|index| Source::new(&kernel.expr, index, &shape, slices)),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for WindowTask {
    unsafe fn run(&self) {
        let w = &self.window;
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let source = unsafe { self.source.dense() };
        // SAFETY: as above.
        let index = self.index.as_ref().map(|index| unsafe { index.dense() });
        let (from, to) = (w.input[0] * w.input[1], w.output[0] * w.output[1]);
        let (from, to) = if self.role.is_gradient() { (to, from) } else { (from, to) };
        let planes = (TASK_POINTS / from.max(to).max(1)).max(1);
        let all = numel(&w.planes);
        each(all.div_ceil(planes), |task| {
            let range = task * planes..((task + 1) * planes).min(all);
            with_tile(range.len() * to * 2, |out| {
                let (values, places) = out.split_at_mut(range.len() * to);
                for (number, plane) in range.clone().enumerate() {
                    let source: &[f32] =
                        bytemuck::cast_slice(&source[plane * from..(plane + 1) * from]);
                    let out = number * to..(number + 1) * to;
                    let values: &mut [f32] = bytemuck::cast_slice_mut(&mut values[out.clone()]);
                    match (self.role, &index) {
                        (WindowRole::Max, _) => {
                            self.largest.find(w, source, values, &mut places[out]);
                        }
                        (WindowRole::Sum, _) => sum(w, source, values),
                        (WindowRole::MaxGradient, Some(index)) => {
                            values.fill(0.0);
                            let index = &index[plane * from..(plane + 1) * from];
                            for (&at, &gradient) in index.iter().zip(source) {
                                if let Some(value) = values.get_mut(at as usize) {
                                    *value += gradient;
                                }
                            }
                        }
                        (WindowRole::MaxGradient, None) => values.fill(0.0),
                        (WindowRole::SumGradient, _) => spread(w, source, values),
                    }
                }
                let points = range.start * to..range.end * to;
                let mut registers = self.stores.registers();
                // SAFETY: each plane belongs to one task.
                unsafe { self.stores.run(&mut registers, points, &[values, places]) };
            });
        });
    }
}

/// Calls `f(outputs, first input element)` for every line of outputs and every element of a window: the
/// outputs whose element lies inside the input, which are `stride` elements apart there.
fn lines(w: &Window, mut f: impl FnMut(std::ops::Range<usize>, usize)) {
    for oy in 0..w.output[0] {
        for ky in 0..w.kernel[0] {
            let y = (oy * w.stride[0] + ky * w.dilation[0]).wrapping_sub(w.padding[0]);
            if y >= w.input[0] {
                continue;
            }
            for kx in 0..w.kernel[1] {
                let (columns, first) =
                    inside(kx * w.dilation[1], w.stride[1], w.padding[1], w.input[1], w.output[1]);
                if !columns.is_empty() {
                    let line = oy * w.output[1];
                    f(line + columns.start..line + columns.end, y * w.input[1] + first);
                }
            }
        }
    }
}

/// How the windows of a plane are gone through for their largest elements.
#[derive(Default)]
struct Largest {
    /// Outputs whose windows lie inside the input, and their first elements.
    inside: Vec<(usize, usize)>,
    /// The elements of such a window, from its first.
    offsets: Vec<usize>,
    /// Row and column of the other outputs.
    edge: Vec<[usize; 2]>,
}

impl Largest {
    fn new(w: &Window) -> Largest {
        let whole = |axis: usize| {
            let of = |tap: usize| {
                let offset = tap * w.dilation[axis];
                inside(offset, w.stride[axis], w.padding[axis], w.input[axis], w.output[axis]).0
            };
            let (first, last) = (of(0), of(w.kernel[axis].max(1) - 1));
            first.start.max(last.start)..first.end.min(last.end)
        };
        let (rows, cols) = (whole(0), whole(1));
        let (mut inside, mut edge) = (vec![], vec![]);
        for oy in 0..w.output[0] {
            for ox in 0..w.output[1] {
                if rows.contains(&oy) && cols.contains(&ox) {
                    let (y, x) = (oy * w.stride[0] - w.padding[0], ox * w.stride[1] - w.padding[1]);
                    inside.push((oy * w.output[1] + ox, y * w.input[1] + x));
                } else {
                    edge.push([oy, ox]);
                }
            }
        }
        let tap = |tap: usize| {
            let (ky, kx) = (tap / w.kernel[1], tap % w.kernel[1]);
            ky * w.dilation[0] * w.input[1] + kx * w.dilation[1]
        };
        Largest { inside, offsets: (0..w.kernel[0] * w.kernel[1]).map(tap).collect(), edge }
    }

    /// The largest element of each window and its place in the plane, the first of equals. NaN wins.
    fn find(&self, w: &Window, source: &[f32], values: &mut [f32], places: &mut [u32]) {
        for &[oy, ox] in &self.edge {
            let at = oy * w.output[1] + ox;
            (values[at], places[at]) = max_at_edge(w, source, oy, ox);
        }
        for outputs in self.inside.chunks(LANES) {
            let (mut best, mut found) = ([0.0; LANES], [0; LANES]);
            for (number, &offset) in self.offsets.iter().enumerate() {
                let mut tap = [0f32; LANES];
                tap.iter_mut().zip(outputs).for_each(|(t, (_, first))| *t = source[first + offset]);
                if number == 0 {
                    best = tap;
                } else {
                    better(&mut best, &mut found, &tap, offset as u32);
                }
            }
            for (lane, &(output, first)) in outputs.iter().enumerate() {
                values[output] = best[lane];
                places[output] = first as u32 + found[lane];
            }
        }
    }
}

/// Outputs that are found at once.
const LANES: usize = 16;

/// Takes what is larger, or NaN, and where it is from. By masks, because which element wins can't be predicted.
#[inline(never)]
fn better(best: &mut [f32; LANES], found: &mut [u32; LANES], tap: &[f32; LANES], offset: u32) {
    for ((best, found), value) in best.iter_mut().zip(found).zip(tap) {
        let better = u32::from((value > best) | value.is_nan()).wrapping_neg();
        *best = f32::from_bits(value.to_bits() & better | best.to_bits() & !better);
        *found = offset & better | *found & !better;
    }
}

/// An output whose window may leave the input; infinitely small if all of it does.
fn max_at_edge(w: &Window, source: &[f32], oy: usize, ox: usize) -> (f32, u32) {
    let along = move |axis: usize, output: usize| {
        (0..w.kernel[axis]).filter_map(move |tap| {
            let at = output * w.stride[axis] + tap * w.dilation[axis];
            at.checked_sub(w.padding[axis]).filter(|&at| at < w.input[axis])
        })
    };
    let (mut best, mut place) = (f32::NEG_INFINITY, u32::MAX);
    for y in along(0, oy) {
        for x in along(1, ox) {
            let at = y * w.input[1] + x;
            if source[at] > best || place == u32::MAX || source[at].is_nan() {
                (best, place) = (source[at], at as u32);
            }
        }
    }
    (best, place)
}

fn sum(w: &Window, source: &[f32], values: &mut [f32]) {
    values.fill(0.0);
    lines(w, |outputs, first| {
        let elements = source[first..].iter().step_by(w.stride[1]);
        for (sum, &value) in values[outputs].iter_mut().zip(elements) {
            *sum += value;
        }
    });
}

fn spread(w: &Window, source: &[f32], values: &mut [f32]) {
    values.fill(0.0);
    lines(w, |outputs, first| {
        let elements = values[first..].iter_mut().step_by(w.stride[1]);
        for (value, &gradient) in elements.zip(&source[outputs]) {
            *value += gradient;
        }
    });
}
