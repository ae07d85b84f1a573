//! Recurrences: every line of steps is one task.

use super::Task;
use super::block::Slice;
use super::crew::each;
use super::scratch::{Few, with_tile};
use super::stores::{Source, Stores};
use crate::{Body, Kernel, Recurrence};

pub(super) struct Scan {
    recurrence: Recurrence,
    source: Source,
    coefficients: Vec<Source>,
    stores: Stores,
}

impl Scan {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Scan {
        let Body::Scan { recurrence, source, coefficients, stores } = &kernel.body else {
            unreachable!("prepared as a scan because the body is one")
        };
        let shaped = |term| Source::new(&kernel.expr, term, &recurrence.shape, slices);
        Scan {
            recurrence: recurrence.clone(),
            source: shaped(*source),
            coefficients: coefficients.iter().map(|&term| shaped(term)).collect(),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for Scan {
    unsafe fn run(&self) {
        let [outer, steps, inner] = self.recurrence.lines();
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let source = unsafe { self.source.dense() };
        let coefficients: Few<_> =
            // SAFETY: as above.
            self.coefficients.iter().map(|source| unsafe { source.dense() }).collect();
        let source: &[f32] = bytemuck::cast_slice(&source);
        let coefficients: Few<&[f32]> =
            coefficients.iter().map(|c| bytemuck::cast_slice(c)).collect();
        each(outer, |line| {
            let range = line * steps * inner..(line + 1) * steps * inner;
            with_tile(range.len(), |words| {
                let states: &mut [f32] = bytemuck::cast_slice_mut(words);
                for step in 0..steps {
                    let at = step * inner;
                    let (before, here) = states.split_at_mut(at);
                    let past = &before[at.saturating_sub(inner)..];
                    let from = range.start + at..range.start + at + inner;
                    let coefficients = coefficients.iter().map(|c| &c[from.clone()]);
                    advance(
                        &self.recurrence,
                        past,
                        &source[from.clone()],
                        coefficients,
                        &mut here[..inner],
                    );
                }
                let mut registers = self.stores.registers();
                // SAFETY: each line belongs to one task.
                unsafe { self.stores.run(&mut registers, range, &[words]) };
            });
        });
    }
}

/// One step: `here` from what it adds and from the states of the step before, which are none at first.
fn advance<'c>(
    recurrence: &Recurrence,
    past: &[f32],
    source: &[f32],
    coefficients: impl Iterator<Item = &'c [f32]> + Clone,
    here: &mut [f32],
) {
    here.copy_from_slice(source);
    if past.is_empty() {
        return;
    }
    let each = coefficients.zip(&recurrence.offsets);
    if !recurrence.log {
        for (coefficient, &offset) in each {
            let terms = coefficient.iter().skip(offset).zip(past);
            for (state, (a, h)) in here.iter_mut().skip(offset).zip(terms) {
                *state += a * h;
            }
        }
        return;
    }
    for (point, state) in here.iter_mut().enumerate() {
        let terms = each.clone().filter_map(|(coefficient, &offset)| {
            Some(coefficient[point] + past[point.checked_sub(offset)?])
        });
        let most =
            terms.clone().fold(*state, |most, v| if v > most || v.is_nan() { v } else { most });
        if most.is_finite() {
            let sum: f32 = terms.map(|v| (v - most).exp()).sum();
            *state = most + ((*state - most).exp() + sum).ln();
        } else {
            *state = most;
        }
    }
}
