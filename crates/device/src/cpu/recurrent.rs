//! Recurrent cells: a few sequences at a time go through all steps, with one matrix product a step.

use super::Task;
use super::block::Slice;
use super::contract::{Matrix, product, with_tile};
use super::stores::{Source, Stores};
use crate::{Body, Cell, Kernel, Sequence, SequenceRole};
use rayon::prelude::*;

/// Sequences of a task: few enough to keep cores busy, enough for a product.
const ROWS: usize = 8;

pub(super) struct Recurrent {
    sequence: Sequence,
    role: SequenceRole,
    sources: Vec<Source>,
    stores: Stores,
}

impl Recurrent {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Recurrent {
        let Body::Recurrent { sequence, role, stores, .. } = &kernel.body else {
            unreachable!("prepared as recurrent because the body is recurrent")
        };
        let sources = kernel.body.sources();
        Recurrent {
            sequence: *sequence,
            role: *role,
            sources: sources
                .iter()
                .map(|(term, shape)| Source::new(kernel, *term, shape, slices))
                .collect(),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for Recurrent {
    unsafe fn run(&self) {
        let sequence = &self.sequence;
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let sources: Vec<_> = self.sources.iter().map(|s| unsafe { s.dense() }).collect();
        let sources: Vec<&[f32]> = sources.iter().map(|s| bytemuck::cast_slice(s)).collect();
        let width = sequence.result(self.role)[2] * sequence.hidden;
        (0..sequence.batch.div_ceil(ROWS)).into_par_iter().for_each(|task| {
            let first = task * ROWS;
            let rows = ROWS.min(sequence.batch - first);
            let keep = |step: usize, values: &[f32]| {
                let start = (step * sequence.batch + first) * width;
                let words: &[u32] = bytemuck::cast_slice(values);
                let mut registers = self.stores.registers();
                // SAFETY: each step of each sequence belongs to one task.
                unsafe { self.stores.run(&mut registers, start..start + rows * width, &[words]) };
            };
            match self.role {
                SequenceRole::Forward => forward(sequence, &sources, first, rows, keep),
                SequenceRole::Gradient => gradient(sequence, &sources, first, rows, keep),
            }
        });
    }
}

/// Whether a step of a sequence counts.
fn counts(sequence: &Sequence, sources: &[&[f32]], step: usize, row: usize) -> bool {
    match (sequence.masked, sources.last()) {
        (true, Some(mask)) => mask[step * sequence.batch + row].to_bits() != 0,
        _ => true,
    }
}

fn words(floats: &[f32]) -> &[u32] {
    bytemuck::cast_slice(floats)
}

fn forward(
    sequence: &Sequence,
    sources: &[&[f32]],
    first: usize,
    rows: usize,
    mut keep: impl FnMut(usize, &[f32]),
) {
    let Sequence { cell, batch, hidden: n, .. } = *sequence;
    let (gates, weight) = (sources[0], sources[1]);
    let (g, kept) = (cell.gates() * n, cell.kept() * n);
    let states = |at: usize| sources[2 + at][first * n..(first + rows) * n].to_vec();
    let mut h = states(0);
    let mut c = if cell == Cell::Lstm { states(1) } else { vec![] };
    let mut values = vec![0.0; rows * kept];
    with_tile(rows * g, |tile| {
        for step in sequence.steps() {
            // What the recurrent weight gives to each gate.
            let (a, b) = (Matrix::dense(words(&h), n), Matrix::transposed(words(weight), n));
            product(tile, g, [rows, g, n], a, b, false);
            let recurrent: &[f32] = bytemuck::cast_slice(tile);
            for row in 0..rows {
                let x = &gates[(step * batch + first + row) * g..][..g];
                let w = &recurrent[row * g..][..g];
                let out = &mut values[row * kept..][..kept];
                let h = &mut h[row * n..][..n];
                let held = !counts(sequence, sources, step, first + row);
                for u in 0..n {
                    let at = |gate: usize| gate * n + u;
                    let next = match cell {
                        Cell::RnnTanh => (x[u] + w[u]).tanh(),
                        Cell::RnnRelu => match x[u] + w[u] {
                            // NaN stays.
                            sum if sum < 0.0 => 0.0,
                            sum => sum,
                        },
                        Cell::Lstm => {
                            let gate = |gate: usize| sigmoid(x[at(gate)] + w[at(gate)]);
                            let (i, f, o) = (gate(0), gate(1), gate(3));
                            let new = (x[at(2)] + w[at(2)]).tanh();
                            let state = &mut c[row * n + u];
                            let after = f * *state + i * new;
                            *state = if held { *state } else { after };
                            (out[n + u], out[at(2)], out[at(3)]) = (*state, i, f);
                            (out[at(4)], out[at(5)]) = (new, o);
                            o * after.tanh()
                        }
                        Cell::Gru => {
                            let (r, z) = (sigmoid(x[u] + w[u]), sigmoid(x[at(1)] + w[at(1)]));
                            let inner = w[at(2)] + sources[3][u];
                            let new = (x[at(2)] + r * inner).tanh();
                            (out[at(1)], out[at(2)], out[at(3)], out[at(4)]) = (r, z, new, inner);
                            (1.0 - z) * new + z * h[u]
                        }
                    };
                    h[u] = if held { h[u] } else { next };
                    out[u] = h[u];
                }
            }
            keep(step, &values);
        }
    });
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn gradient(
    sequence: &Sequence,
    sources: &[&[f32]],
    first: usize,
    rows: usize,
    mut keep: impl FnMut(usize, &[f32]),
) {
    let Sequence { cell, batch, hidden: n, .. } = *sequence;
    let (upstream, trace, weight) = (sources[0], sources[1], sources[2]);
    let (g, kept, width) = (cell.gates() * n, cell.kept() * n, cell.slopes() * n);
    let states = cell.states();
    let mut slopes = vec![0.0; rows * width];
    // By the states after the step, and what the recurrent weight takes to those before.
    let (mut dh, mut dc) = (vec![0.0; rows * n], vec![0.0; rows * n]);
    let mut through = vec![0.0; rows * g];
    let order: Vec<usize> = sequence.steps().collect();
    with_tile(rows * n, |tile| {
        for (number, &step) in order.iter().enumerate().rev() {
            for row in 0..rows {
                let line = |from: &'_ [f32], step: usize| -> Vec<f32> {
                    from[(step * batch + first + row) * kept..][..kept].to_vec()
                };
                let (up, now) = (line(upstream, step), line(trace, step));
                let before = |state: usize| match number.checked_sub(1) {
                    Some(earlier) => line(trace, order[earlier])[state * n..][..n].to_vec(),
                    None => sources[3 + state][(first + row) * n..][..n].to_vec(),
                };
                let (h0, c0) = (before(0), if states > 1 { before(1) } else { vec![] });
                let share = if counts(sequence, sources, step, first + row) { 1.0 } else { 0.0 };
                let out = &mut slopes[row * width..][..width];
                let through = &mut through[row * g..][..g];
                for u in 0..n {
                    let at = |channel: usize| channel * n + u;
                    let by_h = dh[row * n + u] + up[u];
                    let (held, by_h) = (by_h * (1.0 - share), by_h * share);
                    let direct = match cell {
                        Cell::RnnTanh | Cell::RnnRelu => {
                            let y = now[u];
                            let slope = match cell {
                                Cell::RnnTanh => 1.0 - y * y,
                                _ => f32::from(u8::from(y > 0.0)),
                            };
                            out[u] = by_h * slope;
                            0.0
                        }
                        Cell::Lstm => {
                            let by_c = dc[row * n + u] + up[at(1)];
                            let (held_c, by_c) = (by_c * (1.0 - share), by_c * share);
                            let (i, f, new, o) = (now[at(2)], now[at(3)], now[at(4)], now[at(5)]);
                            let bent = (f * c0[u] + i * new).tanh();
                            let by_c = by_c + by_h * o * (1.0 - bent * bent);
                            out[u] = (by_c * new + up[at(2)]) * i * (1.0 - i);
                            out[at(1)] = (by_c * c0[u] + up[at(3)]) * f * (1.0 - f);
                            out[at(2)] = (by_c * i + up[at(4)]) * (1.0 - new * new);
                            out[at(3)] = (by_h * bent + up[at(5)]) * o * (1.0 - o);
                            dc[row * n + u] = by_c * f + held_c;
                            out[at(5)] = dc[row * n + u];
                            0.0
                        }
                        Cell::Gru => {
                            let (r, z, new, inner) =
                                (now[at(1)], now[at(2)], now[at(3)], now[at(4)]);
                            let by_new = (by_h * (1.0 - z) + up[at(3)]) * (1.0 - new * new);
                            out[u] = (by_new * inner + up[at(1)]) * r * (1.0 - r);
                            out[at(1)] = (by_h * (h0[u] - new) + up[at(2)]) * z * (1.0 - z);
                            out[at(2)] = by_new;
                            out[at(3)] = by_new * r + up[at(4)];
                            by_h * z
                        }
                    };
                    // Past the recurrent weight.
                    dh[row * n + u] = held + direct;
                }
                through.copy_from_slice(&out[..g]);
                if cell == Cell::Gru {
                    through[2 * n..].copy_from_slice(&out[3 * n..4 * n]);
                }
            }
            let (a, b) = (Matrix::dense(words(&through), g), Matrix::dense(words(weight), n));
            product(tile, n, [rows, n, g], a, b, false);
            let back: &[f32] = bytemuck::cast_slice(tile);
            for row in 0..rows {
                let by_state = (cell.slopes() - states) * n;
                for u in 0..n {
                    dh[row * n + u] += back[row * n + u];
                    slopes[row * width + by_state + u] = dh[row * n + u];
                }
            }
            keep(step, &slopes);
        }
    });
}
