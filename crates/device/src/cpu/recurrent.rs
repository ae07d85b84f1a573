//! Recurrent cells: a few sequences at a time go through all steps, with one matrix product a step.

use super::Task;
use super::block::Slice;
use super::contract::{Matrix, multiply, pack, panel_steps, panel_words, row_steps};
use super::crew;
use super::scratch::{Few, Scratch, with_tile};
use super::stores::{Source, Stores};
use super::tile::{Steps, cells};
use super::vectors::arch;
use crate::special::{self, Vectorized, vectorized};
use crate::{Body, Cell, Kernel, Sequence, SequenceRole};

/// Sequences of a task, at most and, where cores are left, at least: as many as tiles of a product have rows.
const ROWS: [usize; 2] = [8, 4];

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
                .map(|(term, shape)| Source::new(&kernel.expr, *term, shape, slices))
                .collect(),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for Recurrent {
    unsafe fn run(&self) {
        let sequence = &self.sequence;
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let sources: Few<_> = self.sources.iter().map(|s| unsafe { s.dense() }).collect();
        let sources: Few<&[f32]> = sources.iter().map(|s| bytemuck::cast_slice(s)).collect();
        let width = sequence.result(self.role)[2] * sequence.hidden;
        // The recurrent weight, for all steps of all tasks.
        let (n, g) = (sequence.hidden, sequence.cell.gates() * sequence.hidden);
        let (weight, size) = match self.role {
            SequenceRole::Forward => (Matrix::transposed(words(sources[1]), n), [n, g]),
            SequenceRole::Gradient => (Matrix::dense(words(sources[2]), n), [g, n]),
        };
        with_tile(panel_words(size), |panels| {
            pack(weight, size, panels);
            let weight =
                Weight { panels, size, steps: row_steps(size[0], 1), down: panel_steps(size[0]) };
            let weight = &weight;
            let [most, least] = ROWS;
            let share = sequence.batch.div_ceil(rayon::current_num_threads());
            let each = share.next_multiple_of(2).clamp(least, most);
            crew::each(sequence.batch.div_ceil(each), |task| {
                let first = task * each;
                let rows = each.min(sequence.batch - first);
                let keep = |step: usize, values: &[f32]| {
                    let start = (step * sequence.batch + first) * width;
                    let words: &[u32] = bytemuck::cast_slice(values);
                    let mut registers = self.stores.registers();
                    // SAFETY: each step of each sequence belongs to one task.
                    unsafe {
                        self.stores.run(&mut registers, start..start + rows * width, &[words])
                    };
                };
                match self.role {
                    SequenceRole::Forward => forward(sequence, &sources, weight, first, rows, keep),
                    SequenceRole::Gradient => {
                        gradient(sequence, &sources, weight, first, rows, keep)
                    }
                }
            });
        });
    }
}

/// A recurrent weight in panels.
struct Weight<'a> {
    panels: &'a [u32],
    size: [usize; 2],
    steps: Steps<'static>,
    down: Steps<'static>,
}

impl Weight<'_> {
    /// `out = states weight`, a few lines.
    fn apply(&self, out: &mut [u32], states: &[f32]) {
        let [k, n] = self.size;
        let rows = states.len() / k.max(1);
        let states = (Matrix::dense(words(states), k), 0..rows, &self.steps);
        multiply((cells(out), n, false), states, (self.panels, n, &self.down));
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

/// The `number`-th of a line's parts, each with a number for each unit.
#[inline(always)]
fn part(line: &[f32], units: usize, number: usize) -> &[f32] {
    &line[number * units..][..units]
}

/// A line's parts, to be written.
#[inline(always)]
fn parts<const N: usize>(line: &mut [f32], units: usize) -> [&mut [f32]; N] {
    let mut rest = line;
    std::array::from_fn(|_| {
        let (first, behind) = std::mem::take(&mut rest).split_at_mut(units);
        rest = behind;
        first
    })
}

/// What a line of gates becomes: `out[u] = f(x[u] + w[u])`. Not a function of `f`, which would be compiled apart, without the
/// machine's vectors.
macro_rules! gate {
    ($out:expr, $x:expr, $w:expr, $f:path) => {
        for ((out, x), w) in $out.iter_mut().zip($x).zip($w) {
            *out = $f(x + w);
        }
    };
}

/// NaN stays.
#[inline(always)]
fn relu(sum: f32) -> f32 {
    if sum < 0.0 { 0.0 } else { sum }
}

fn forward(
    sequence: &Sequence,
    sources: &[&[f32]],
    weight: &Weight<'_>,
    first: usize,
    rows: usize,
    mut keep: impl FnMut(usize, &[f32]),
) {
    let Sequence { cell, batch, hidden: n, .. } = *sequence;
    let gates = sources[0];
    let (g, kept) = (cell.gates() * n, cell.kept() * n);
    let states =
        |at: usize| Scratch::of(sources[2 + at][first * n..(first + rows) * n].iter().copied());
    let mut h = states(0);
    let mut c = if cell == Cell::Lstm { states(1) } else { Scratch::new(0) };
    let mut values = Scratch::filled(rows * kept, 0.0);
    let arch = arch();
    with_tile(rows * g, |tile| {
        for step in sequence.steps() {
            // What the recurrent weight gives to each gate.
            weight.apply(tile, &h);
            let recurrent: &[f32] = bytemuck::cast_slice(tile);
            for row in 0..rows {
                let x = &gates[(step * batch + first + row) * g..][..g];
                let w = &recurrent[row * g..][..g];
                let out = &mut values[row * kept..][..kept];
                let h = &mut h[row * n..][..n];
                let held = !counts(sequence, sources, step, first + row);
                let c = if cell == Cell::Lstm { &mut c[row * n..][..n] } else { &mut [] };
                let bias = sources.get(3).copied().unwrap_or_default();
                vectorized(arch, Step { cell, x, w, bias, states: [h, c], out, held });
            }
            keep(step, &values);
        }
    });
}

/// One step of one sequence.
struct Step<'a> {
    cell: Cell,
    /// What the input and what the states give to the gates.
    x: &'a [f32],
    w: &'a [f32],
    /// Of the inner gate of gated units.
    bias: &'a [f32],
    states: [&'a mut [f32]; 2],
    out: &'a mut [f32],
    /// Whether the step doesn't count.
    held: bool,
}

impl Vectorized for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Step { cell, x, w, bias, states: [h, c], out, held } = self;
        match cell {
            Cell::RnnTanh | Cell::RnnRelu => {
                match cell {
                    Cell::RnnTanh => gate!(out, x, w, special::tanh::<FUSED>),
                    _ => gate!(out, x, w, relu),
                }
                if held {
                    out.copy_from_slice(h);
                }
                h.copy_from_slice(out);
            }
            Cell::Lstm => lstm_step::<FUSED>([x, w], c, h, out, held),
            Cell::Gru => gru_step::<FUSED>([x, w, bias], h, out, held),
        }
    }
}

#[inline(always)]
fn lstm_step<const FUSED: bool>(
    [x, w]: [&[f32]; 2],
    c: &mut [f32],
    h: &mut [f32],
    out: &mut [f32],
    held: bool,
) {
    let n = h.len();
    let of = |number| (part(x, n, number), part(w, n, number));
    let [out_h, out_c, i, f, new, o] = parts(out, n);
    gate!(i, of(0).0, of(0).1, special::sigmoid::<FUSED>);
    gate!(f, of(1).0, of(1).1, special::sigmoid::<FUSED>);
    gate!(new, of(2).0, of(2).1, special::tanh::<FUSED>);
    gate!(o, of(3).0, of(3).1, special::sigmoid::<FUSED>);
    if !held {
        for (((c, i), f), new) in c.iter_mut().zip(&*i).zip(&*f).zip(&*new) {
            *c = f * *c + i * new;
        }
        for ((h, c), o) in h.iter_mut().zip(&*c).zip(&*o) {
            *h = o * special::tanh::<FUSED>(*c);
        }
    }
    out_c.copy_from_slice(c);
    out_h.copy_from_slice(h);
}

#[inline(always)]
fn gru_step<const FUSED: bool>(
    [x, w, bias]: [&[f32]; 3],
    h: &mut [f32],
    out: &mut [f32],
    held: bool,
) {
    let n = h.len();
    let of = |number| (part(x, n, number), part(w, n, number));
    let [out_h, r, z, new, inner] = parts(out, n);
    gate!(r, of(0).0, of(0).1, special::sigmoid::<FUSED>);
    gate!(z, of(1).0, of(1).1, special::sigmoid::<FUSED>);
    gate!(inner, of(2).1, bias, f32::from);
    for (((new, x), r), inner) in new.iter_mut().zip(of(2).0).zip(&*r).zip(&*inner) {
        *new = special::tanh::<FUSED>(x + r * inner);
    }
    if !held {
        for ((h, z), new) in h.iter_mut().zip(&*z).zip(&*new) {
            *h = (1.0 - z) * new + z * *h;
        }
    }
    out_h.copy_from_slice(h);
}

fn gradient(
    sequence: &Sequence,
    sources: &[&[f32]],
    weight: &Weight<'_>,
    first: usize,
    rows: usize,
    mut keep: impl FnMut(usize, &[f32]),
) {
    let Sequence { cell, batch, hidden: n, .. } = *sequence;
    let (upstream, trace) = (sources[0], sources[1]);
    let (g, kept, width) = (cell.gates() * n, cell.kept() * n, cell.slopes() * n);
    let states = cell.states();
    let mut slopes = Scratch::filled(rows * width, 0.0);
    // By the states after the step, and what the recurrent weight takes to those before.
    let [mut dh, mut dc] = [0.0; 2].map(|zero| Scratch::filled(rows * n, zero));
    let mut through = Scratch::filled(rows * g, 0.0);
    let order = Scratch::of(sequence.steps());
    let arch = arch();
    with_tile(rows * n, |tile| {
        for (number, &step) in order.iter().enumerate().rev() {
            for row in 0..rows {
                let line = |step: usize| {
                    (step * batch + first + row) * kept..(step * batch + first + row + 1) * kept
                };
                let (up, now) = (&upstream[line(step)], &trace[line(step)]);
                let before = |state: usize| match number.checked_sub(1) {
                    Some(earlier) => part(&trace[line(order[earlier])], n, state),
                    None => part(sources[3 + state], n, first + row),
                };
                let share = if counts(sequence, sources, step, first + row) { 1.0 } else { 0.0 };
                let out = &mut slopes[row * width..][..width];
                let through = &mut through[row * g..][..g];
                let (dh, dc) = (&mut dh[row * n..][..n], &mut dc[row * n..][..n]);
                // From here on `dh` is what goes past the recurrent weight.
                let before = match cell {
                    Cell::Lstm => before(1),
                    Cell::Gru => before(0),
                    _ => &[],
                };
                vectorized(arch, Slope { cell, up, now, before, slopes: [dh, dc], out, share });
                through.copy_from_slice(&out[..g]);
                if cell == Cell::Gru {
                    through[2 * n..].copy_from_slice(&out[3 * n..4 * n]);
                }
            }
            weight.apply(tile, &through);
            let back: &[f32] = bytemuck::cast_slice(tile);
            dh.iter_mut().zip(back).for_each(|(dh, back)| *dh += back);
            let by_state = (cell.slopes() - states) * n;
            for (out, dh) in slopes.chunks_exact_mut(width).zip(dh.chunks_exact(n)) {
                out[by_state..][..n].copy_from_slice(dh);
            }
            keep(step, &slopes);
        }
    });
}

/// One step of one sequence backwards.
struct Slope<'a> {
    cell: Cell,
    /// The slopes from above, what the step has kept, and the state before it.
    up: &'a [f32],
    now: &'a [f32],
    before: &'a [f32],
    slopes: [&'a mut [f32]; 2],
    out: &'a mut [f32],
    /// One if the step counts, else zero.
    share: f32,
}

impl Vectorized for Slope<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Slope { cell, up, now, before, slopes: [dh, dc], out, share } = self;
        match cell {
            Cell::RnnTanh | Cell::RnnRelu => rnn_slopes(cell, [up, now], dh, out, share),
            Cell::Lstm => lstm_slopes::<FUSED>([up, now, before], [dh, dc], out, share),
            Cell::Gru => gru_slopes([up, now, before], dh, out, share),
        }
    }
}

/// Units whose slopes are computed at once, in arrays of their own: so many lines could overlap for all that a compiler can find out,
/// and a loop over them would not use vectors.
const UNITS: usize = 16;

/// Some units of a line; zeros behind its end.
#[inline(always)]
fn units(line: &[f32], at: usize) -> [f32; UNITS] {
    let line = &line[at..];
    line.first_chunk().copied().unwrap_or_else(|| {
        let mut units = [0.0; UNITS];
        units[..line.len()].copy_from_slice(line);
        units
    })
}

/// Puts units where [`units`] finds them.
#[inline(always)]
fn keep_units(line: &mut [f32], at: usize, units: [f32; UNITS]) {
    let len = UNITS.min(line.len() - at);
    match line[at..].first_chunk_mut() {
        Some(line) => *line = units,
        None => line[at..].copy_from_slice(&units[..len]),
    }
}

/// The slopes of one line; `dh` is by the state after the step, and becomes what goes past the recurrent weight.
#[inline(always)]
fn rnn_slopes(cell: Cell, [up, now]: [&[f32]; 2], dh: &mut [f32], out: &mut [f32], share: f32) {
    for (((dh, up), y), out) in dh.iter_mut().zip(up).zip(now).zip(out) {
        let slope = *dh + up;
        let bend = match cell {
            Cell::RnnTanh => 1.0 - y * y,
            _ if *y > 0.0 => 1.0,
            _ => 0.0,
        };
        *out = slope * share * bend;
        *dh = slope * (1.0 - share);
    }
}

/// [`rnn_slopes`] of an LSTM, whose second state has slopes of its own, `dc`.
#[inline(always)]
fn lstm_slopes<const FUSED: bool>(
    [up, now, before]: [&[f32]; 3],
    [dh, dc]: [&mut [f32]; 2],
    out: &mut [f32],
    share: f32,
) {
    let n = dh.len();
    let up: [&[f32]; 6] = std::array::from_fn(|number| part(up, n, number));
    let now: [&[f32]; 6] = std::array::from_fn(|number| part(now, n, number));
    let [by_i, by_f, by_new, by_o, _, by_c] = parts(out, n);
    for at in (0..n).step_by(UNITS) {
        let [up_h, up_c] = [units(up[0], at), units(up[1], at)];
        let [up_i, up_f, up_new, up_o] =
            [units(up[2], at), units(up[3], at), units(up[4], at), units(up[5], at)];
        let [mut i, mut f, mut new, mut o] =
            [units(now[2], at), units(now[3], at), units(now[4], at), units(now[5], at)];
        let before = units(before, at);
        let [mut h, mut c] = [units(dh, at), units(dc, at)];
        for u in 0..UNITS {
            let (in_i, in_f, in_new, in_o) = (i[u], f[u], new[u], o[u]);
            let (slope, slope_c) = (h[u] + up_h[u], c[u] + up_c[u]);
            let by_h = slope * share;
            let bent = special::tanh::<FUSED>(in_f * before[u] + in_i * in_new);
            let by_after = slope_c * share + by_h * in_o * (1.0 - bent * bent);
            i[u] = (by_after * in_new + up_i[u]) * in_i * (1.0 - in_i);
            f[u] = (by_after * before[u] + up_f[u]) * in_f * (1.0 - in_f);
            new[u] = (by_after * in_i + up_new[u]) * (1.0 - in_new * in_new);
            o[u] = (by_h * bent + up_o[u]) * in_o * (1.0 - in_o);
            h[u] = slope * (1.0 - share);
            c[u] = by_after * in_f + slope_c * (1.0 - share);
        }
        keep_units(by_i, at, i);
        keep_units(by_f, at, f);
        keep_units(by_new, at, new);
        keep_units(by_o, at, o);
        keep_units(dh, at, h);
        keep_units(dc, at, c);
        keep_units(by_c, at, c);
    }
}

/// [`rnn_slopes`] of gated units.
#[inline(always)]
fn gru_slopes([up, now, before]: [&[f32]; 3], dh: &mut [f32], out: &mut [f32], share: f32) {
    let n = dh.len();
    let up: [&[f32]; 5] = std::array::from_fn(|number| part(up, n, number));
    let now: [&[f32]; 5] = std::array::from_fn(|number| part(now, n, number));
    let [by_r, by_z, by_new, by_inner, _] = parts(out, n);
    for at in (0..n).step_by(UNITS) {
        let [up_h, up_r, up_z, up_new] =
            [units(up[0], at), units(up[1], at), units(up[2], at), units(up[3], at)];
        let up_inner = units(up[4], at);
        let [mut r, mut z, mut new, mut inner] =
            [units(now[1], at), units(now[2], at), units(now[3], at), units(now[4], at)];
        let (before, mut h) = (units(before, at), units(dh, at));
        for u in 0..UNITS {
            let (in_r, in_z, in_new, in_inner) = (r[u], z[u], new[u], inner[u]);
            let slope = h[u] + up_h[u];
            let by_h = slope * share;
            let slope_new = (by_h * (1.0 - in_z) + up_new[u]) * (1.0 - in_new * in_new);
            r[u] = (slope_new * in_inner + up_r[u]) * in_r * (1.0 - in_r);
            z[u] = (by_h * (before[u] - in_new) + up_z[u]) * in_z * (1.0 - in_z);
            new[u] = slope_new;
            inner[u] = slope_new * in_r + up_inner[u];
            h[u] = slope * (1.0 - share) + by_h * in_z;
        }
        keep_units(by_r, at, r);
        keep_units(by_z, at, z);
        keep_units(by_new, at, new);
        keep_units(by_inner, at, inner);
        keep_units(dh, at, h);
    }
}
