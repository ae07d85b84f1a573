//! Pooling windows, one plane after the other.

use super::block::Slice;
use super::contract::with_tile;
use super::stores::{Source, Stores};
use super::{TASK_POINTS, Task, inside};
use crate::{Body, Kernel, Window, WindowRole};
use rayon::prelude::*;
use std::ops::Range;

pub(super) struct WindowTask {
    window: Window,
    role: WindowRole,
    source: Source,
    index: Option<Source>,
    stores: Stores,
}

impl WindowTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> WindowTask {
        let Body::Window { window, role, source, index, stores } = &kernel.body else {
            unreachable!("prepared as a window because the body is one")
        };
        let [h, w] = if role.is_gradient() { window.output } else { window.input };
        let shape = [window.planes, h, w];
        WindowTask {
            window: *window,
            role: *role,
            source: Source::new(kernel, *source, &shape, slices),
            index: index.map(|index| Source::new(kernel, index, &shape, slices)),
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
        (0..w.planes.div_ceil(planes)).into_par_iter().for_each(|task| {
            let range = task * planes..((task + 1) * planes).min(w.planes);
            with_tile(range.len() * to * 2, |out| {
                let (values, places) = out.split_at_mut(range.len() * to);
                for (number, plane) in range.clone().enumerate() {
                    let source: &[f32] =
                        bytemuck::cast_slice(&source[plane * from..(plane + 1) * from]);
                    let out = number * to..(number + 1) * to;
                    let values: &mut [f32] = bytemuck::cast_slice_mut(&mut values[out.clone()]);
                    match (self.role, &index) {
                        (WindowRole::Max, _) => max(w, source, values, &mut places[out]),
                        (WindowRole::Average, _) => average(w, source, values),
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
                        (WindowRole::AverageGradient, _) => spread(w, source, values),
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

/// The input coordinates along an axis that output coordinate `at` covers.
fn covered(w: &Window, axis: usize, at: usize) -> Range<usize> {
    let start = at * w.stride[axis];
    let end = (start + w.kernel[axis]).saturating_sub(w.padding[axis]).min(w.input[axis]);
    start.saturating_sub(w.padding[axis]).min(end)..end
}

/// Calls `f(output point, covered rows, covered columns)` for every window.
fn windows(w: &Window, mut f: impl FnMut(usize, Range<usize>, Range<usize>)) {
    for oy in 0..w.output[0] {
        let rows = covered(w, 0, oy);
        for ox in 0..w.output[1] {
            f(oy * w.output[1] + ox, rows.clone(), covered(w, 1, ox));
        }
    }
}

/// Whole lines of outputs at a time, element after element of the window: the inner loop has no
/// branch, because which element wins can't be predicted.
fn max(w: &Window, source: &[f32], values: &mut [f32], places: &mut [u32]) {
    values.fill(f32::NEG_INFINITY);
    places.fill(u32::MAX);
    let width = w.output[1];
    for oy in 0..w.output[0] {
        for y in covered(w, 0, oy) {
            let line = &source[y * w.input[1]..(y + 1) * w.input[1]];
            for kx in 0..w.kernel[1] {
                let (columns, first) =
                    inside(kx, w.stride[1], w.padding[1], w.input[1], w.output[1]);
                let outputs = oy * width + columns.start..oy * width + columns.end;
                let places = &mut places[outputs.clone()];
                let elements = line.get(first..).unwrap_or_default().iter().step_by(w.stride[1]);
                let mut at = (y * w.input[1] + first) as u32;
                for ((best, place), &value) in values[outputs].iter_mut().zip(places).zip(elements)
                {
                    let better = (value > *best) | (*place == u32::MAX) | value.is_nan();
                    *best = if better { value } else { *best };
                    *place = if better { at } else { *place };
                    at += w.stride[1] as u32;
                }
            }
        }
    }
}

fn average(w: &Window, source: &[f32], values: &mut [f32]) {
    let size = (w.kernel[0] * w.kernel[1]) as f32;
    windows(w, |point, rows, cols| {
        let mut sum = 0.0;
        for y in rows {
            for x in cols.clone() {
                sum += source[y * w.input[1] + x];
            }
        }
        values[point] = sum / size;
    });
}

fn spread(w: &Window, source: &[f32], values: &mut [f32]) {
    let size = (w.kernel[0] * w.kernel[1]) as f32;
    values.fill(0.0);
    windows(w, |point, rows, cols| {
        for y in rows {
            for x in cols.clone() {
                values[y * w.input[1] + x] += source[point] / size;
            }
        }
    });
}
