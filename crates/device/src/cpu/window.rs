//! Pooling windows, one plane after the other.

use super::block::Slice;
use super::contract::with_tile;
use super::stores::{Source, Stores};
use super::{TASK_POINTS, Task, inside};
use crate::{Body, Kernel, Window, WindowRole, numel};
use rayon::prelude::*;

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
        let shape = window.shapes(*role)[0];
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
        let all = numel(&w.planes);
        (0..all.div_ceil(planes)).into_par_iter().for_each(|task| {
            let range = task * planes..((task + 1) * planes).min(all);
            with_tile(range.len() * to * 2, |out| {
                let (values, places) = out.split_at_mut(range.len() * to);
                for (number, plane) in range.clone().enumerate() {
                    let source: &[f32] =
                        bytemuck::cast_slice(&source[plane * from..(plane + 1) * from]);
                    let out = number * to..(number + 1) * to;
                    let values: &mut [f32] = bytemuck::cast_slice_mut(&mut values[out.clone()]);
                    match (self.role, &index) {
                        (WindowRole::Max, _) => max(w, source, values, &mut places[out]),
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

/// Whole lines of outputs at a time, element after element of the window: the inner loop has no
/// branch, because which element wins can't be predicted.
fn max(w: &Window, source: &[f32], values: &mut [f32], places: &mut [u32]) {
    values.fill(f32::NEG_INFINITY);
    places.fill(u32::MAX);
    lines(w, |outputs, first| {
        let places = &mut places[outputs.clone()];
        let elements = source[first..].iter().step_by(w.stride[1]);
        let mut at = first as u32;
        for ((best, place), &value) in values[outputs].iter_mut().zip(places).zip(elements) {
            let better = (value > *best) | (*place == u32::MAX) | value.is_nan();
            *best = if better { value } else { *best };
            *place = if better { at } else { *place };
            at += w.stride[1] as u32;
        }
    });
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
