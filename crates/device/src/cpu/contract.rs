//! Matrix products: tiles in registers, with the epilogue applied while a block is in cache.

use super::Task;
use super::block::{BLOCK, Slice};
use super::crew::{each, each_of};
use super::memory::{CACHED, Line};
use super::rows::Total;
use super::scratch::{Dense, Scratch, with_tile};
use super::stores::{Source, Stores, memory};
use super::tile::{GROUP, MOST_COLUMNS, Steps, Sum, cells, columns, lanes, rows};
use super::vectors::arch;
use crate::special::{Vectorized, vectorized};
use crate::{Body, Combine, Contraction, DType, Expr, Kernel, TermId, View, numel};
use std::cell::Cell;
use std::ops::Range;

/// A matrix inside a slice of words, with its strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) words: &'a [u32],
    pub(super) offset: isize,
    pub(super) row: isize,
    pub(super) col: isize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix from the start of `words`.
    pub(super) fn dense(words: &'a [u32], width: usize) -> Matrix<'a> {
        Matrix { words, offset: 0, row: width as isize, col: 1 }
    }

    /// The transpose of a row-major matrix from the start of `words`.
    pub(super) fn transposed(words: &'a [u32], width: usize) -> Matrix<'a> {
        Matrix { words, offset: 0, row: 1, col: width as isize }
    }

    /// The transpose of this one.
    pub(super) fn turned(self) -> Matrix<'a> {
        Matrix { row: self.col, col: self.row, ..self }
    }

    /// The rows from one on.
    pub(super) fn rows_from(self, row: usize) -> Matrix<'a> {
        Matrix { offset: self.offset + row as isize * self.row, ..self }
    }

    pub(super) fn at(&self, row: usize, col: usize) -> usize {
        (self.offset + row as isize * self.row + col as isize * self.col) as usize
    }

    /// A row's words, where they lie if they are neighbours.
    pub(super) fn row(&self, row: usize, cols: usize) -> Dense<'a> {
        match self.col {
            1 => Dense::Lies(&self.words[self.at(row, 0)..][..cols]),
            _ => Dense::Computed(Scratch::of((0..cols).map(|col| self.words[self.at(row, col)]))),
        }
    }

    /// Where rows begin.
    pub(super) fn starts(&self, rows: Range<usize>) -> Scratch<isize> {
        Scratch::of(rows.map(|row| self.offset + row as isize * self.row))
    }
}

/// Words of a matrix of `[k, n]` in panels.
pub(super) fn panel_words([k, n]: [usize; 2]) -> usize {
    n.next_multiple_of(columns()) * k
}

/// Steps through a panel.
pub(super) fn panel_steps(k: usize) -> Steps<'static> {
    Steps::even(k, columns() as isize)
}

/// Copies a line of a tile; one of the usual lengths without calling anything.
#[inline(always)]
fn copy(from: &[u32], to: &mut [u32]) {
    #[inline(always)]
    fn known<const N: usize>(from: &[u32], to: &mut [u32]) -> bool {
        match (<&[u32; N]>::try_from(from), <&mut [u32; N]>::try_from(to)) {
            (Ok(from), Ok(to)) => {
                *to = *from;
                true
            }
            _ => false,
        }
    }
    if !(known::<16>(from, to) || known::<GROUP>(from, to) || known::<MOST_COLUMNS>(from, to)) {
        to[..from.len()].copy_from_slice(from);
    }
}

/// Panels that are laid out together: memory is fast where neighbours are read, and slow where many lines are written at once.
const PANELS: usize = 4;

/// Lays a matrix `[k, n]` out in panels as wide as a tile, one after the other, each row by row; zero past the edge.
pub(super) fn pack(b: Matrix<'_>, [k, n]: [usize; 2], panels: &mut [u32]) {
    let some = (k * columns() * PANELS).max(1);
    for (number, panels) in panels.chunks_mut(some).enumerate() {
        pack_panels(b, number * PANELS, [k, n], panels);
    }
}

/// Some panels of a matrix `[k, n]`, from one on.
pub(super) fn pack_panels(b: Matrix<'_>, first: usize, [k, n]: [usize; 2], panels: &mut [u32]) {
    vectorized(arch(), Packing { b, first, size: [k, n], panels });
}

struct Packing<'a> {
    b: Matrix<'a>,
    first: usize,
    size: [usize; 2],
    panels: &'a mut [u32],
}

impl Vectorized for Packing<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Packing { b, first, size: [k, n], panels } = self;
        let (width, size) = (columns(), (k * columns()).max(1));
        let first = first * width;
        let cols = first..(first + panels.len() / size * width).min(n);
        if cols.len() % width > 0 {
            panels.rchunks_exact_mut(size).take(1).for_each(|last| last.fill(0));
        }
        if b.col == 1 {
            for row in 0..k {
                let line = &b.words[b.at(row, cols.start)..][..cols.len()];
                for (from, panel) in line.chunks(width).zip(panels.chunks_exact_mut(size)) {
                    copy(from, &mut panel[row * width..][..width]);
                }
            }
            return;
        }
        for (panel, first) in panels.chunks_exact_mut(size).zip(cols.clone().step_by(width)) {
            pack_columns(b, first..(first + width).min(cols.end), panel);
        }
    }
}

/// Columns whose elements are far from each other, as a panel: a few rows at a time (a line of cache of each column whose elements are
/// neighbours), which stay in cache while the columns are gone through.
#[inline(always)]
fn pack_columns(b: Matrix<'_>, cols: Range<usize>, panel: &mut [u32]) {
    let width = columns();
    for (block, lines) in panel.chunks_mut(width * Line::WORDS).enumerate() {
        let rows = lines.len() / width;
        for (number, col) in cols.clone().enumerate() {
            let from = b.at(block * Line::WORDS, col);
            if b.row == 1 {
                let column = &b.words[from..from + rows];
                for (word, line) in column.iter().zip(lines.chunks_exact_mut(width)) {
                    line[number] = *word;
                }
            } else {
                for (row, line) in lines.chunks_exact_mut(width).enumerate() {
                    line[number] = b.words[b.at(block * Line::WORDS + row, col)];
                }
            }
        }
    }
}

/// Most columns that are summed together: a panel has fewer.
pub(super) const SUMMED: usize = 64;

/// Adds lines of `width` words to the sums of their columns, in blocks of lines and in f64 between them.
pub(super) fn add_column_sums(sums: &mut [f64], words: &[u32], width: usize) {
    vectorized(arch(), ColumnSums { sums, words, width });
}

struct ColumnSums<'a> {
    sums: &'a mut [f64],
    words: &'a [u32],
    width: usize,
}

impl Vectorized for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for lines in self.words.chunks(self.width * BLOCK) {
            let mut block = [0f32; SUMMED];
            for line in lines.chunks_exact(self.width) {
                block.iter_mut().zip(line).for_each(|(sum, &word)| *sum += f32::from_bits(word));
            }
            self.sums.iter_mut().zip(block).for_each(|(sum, part)| *sum += f64::from(part));
        }
    }
}

/// The steps through the rows of a matrix for [`multiply`], by the step between its columns.
pub(super) fn row_steps(k: usize, col: isize) -> Steps<'static> {
    Steps::even(k, if col == 1 { 1 } else { GROUP as isize })
}

/// Words of rows in groups.
fn group_words(rows: usize, k: usize) -> usize {
    rows.next_multiple_of(GROUP) * k
}

/// Lays rows, whose elements are far from each other, out in groups, `[group][k][row]`.
fn pack_rows(a: Matrix<'_>, rows: Range<usize>, k: usize, groups: &mut [u32]) {
    for (number, group) in groups.chunks_exact_mut((k * GROUP).max(1)).enumerate() {
        let first = rows.start + number * GROUP;
        let count = GROUP.min(rows.end - first);
        for (step, line) in group.chunks_exact_mut(GROUP).enumerate() {
            if a.row == 1 {
                copy(&a.words[a.at(first, step)..][..count], line);
            } else {
                let elements = line[..count].iter_mut().enumerate();
                elements.for_each(|(row, word)| *word = a.words[a.at(first + row, step)]);
            }
        }
    }
}

/// Where rows begin that lie in groups.
fn group_starts(rows: Range<usize>, k: usize) -> Scratch<isize> {
    Scratch::of(rows.map(|row| (row / GROUP * GROUP * k + row % GROUP) as isize))
}

/// `out = a b` for rows that begin at some words, whose steps are [`row_steps`], and the columns in `panels`, or added to what is
/// there; `out` has `pitch` words from row to row.
fn multiply_rows(
    (out, pitch, add): (&[Cell<u32>], usize, bool),
    (left, rows, left_steps): (&[u32], &[isize], &Steps<'_>),
    (right, width, right_steps): (&[u32], usize, &Steps<'_>),
) {
    let panel = left_steps.len() * columns();
    let sides = Sum { left, rows, left_steps, right, right_steps, panel, out, pitch, width, add };
    sides.run();
}

/// [`multiply_rows`] of some rows of `a`, which are laid out in groups first if they have to be.
pub(super) fn multiply(
    out: (&[Cell<u32>], usize, bool),
    (a, rows, steps): (Matrix<'_>, Range<usize>, &Steps<'_>),
    right: (&[u32], usize, &Steps<'_>),
) {
    let k = steps.len();
    if a.col == 1 {
        return multiply_rows(out, (a.words, &a.starts(rows), steps), right);
    }
    with_tile(group_words(rows.len(), k), |groups| {
        pack_rows(a, rows.clone(), k, groups);
        multiply_rows(out, (groups, &group_starts(0..rows.len(), k), steps), right);
    });
}

/// `out = a b`, `[m, k] x [k, n]`, dense, or added to what is there, for products that are too small to be cut into tasks.
pub(super) fn product(
    out: &mut [u32],
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    add: bool,
) {
    with_tile(panel_words([k, n]), |panels| {
        pack(b, [k, n], panels);
        let steps = row_steps(k, a.col);
        multiply((cells(out), n, add), (a, 0..m, &steps), (panels, n, &panel_steps(k)));
    });
}

/// Adds the `k` elements of each row to that row's sum: block by block, in f64 between blocks.
pub(super) fn add_row_sums(sums: &mut [f64], a: Matrix<'_>, k: usize) {
    if sums.is_empty() || k == 0 {
        return;
    }
    for start in (0..k).step_by(BLOCK) {
        let cols = start..(start + BLOCK).min(k);
        if a.row == 1 && a.col != 1 {
            // Neighbours in memory belong to different rows.
            let mut block = Scratch::filled(sums.len(), 0f32);
            for col in cols {
                let words = &a.words[a.at(0, col)..][..sums.len()];
                block.iter_mut().zip(words).for_each(|(sum, &w)| *sum += f32::from_bits(w));
            }
            sums.iter_mut().zip(&*block).for_each(|(sum, &part)| *sum += f64::from(part));
            continue;
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            let mut words = [0; BLOCK];
            let words = &mut words[..cols.len()];
            words
                .iter_mut()
                .zip(cols.clone())
                .for_each(|(word, col)| *word = a.words[a.at(row, col)]);
            let how = (Combine::Sum, DType::F32);
            let mut total = Total::of(how);
            total.add(how, words);
            *sum += total.float;
        }
    }
}

pub(super) struct MatMul {
    batch: Vec<usize>,
    shape: [usize; 3],
    left: Matrices,
    left_steps: Steps<'static>,
    right: Matrices,
    right_steps: Steps<'static>,
    row_stores: Stores,
    stores: Stores,
}

impl MatMul {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> MatMul {
        let Body::Contract { contraction, left, right, row_stores, stores, .. } = &kernel.body
        else {
            unreachable!("prepared as a contraction because the body is one")
        };
        let Contraction::MatMul { batch, m, n, k } = contraction else {
            unreachable!("prepared as a matrix product because the contraction is one")
        };
        let [left_shape, right_shape] = contraction.sources();
        let mut left = Matrices::new(&kernel.expr, *left, &left_shape, slices);
        let mut right = Matrices::new(&kernel.expr, *right, &right_shape, slices);
        let mut shape = [*m, *n, *k];
        // One row by columns that lie in lines, such as a sample by the weight of a linear layer, is computed as these lines by a
        // column: the vector is laid out then, and the matrix read where it lies.
        if *m == 1 && row_stores.is_empty() && right.view.strides[batch.len()] == 1 {
            (left, right) = (right.turned(), left.turned());
            shape.swap(0, 1);
        }
        MatMul {
            batch: batch.clone(),
            shape,
            left_steps: row_steps(*k, left.view.strides[batch.len() + 1]),
            left,
            right_steps: panel_steps(*k),
            right,
            row_stores: Stores::new(&kernel.expr, row_stores, slices),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }

    /// Rows and columns of a task, of which each thread has several: whole rows, whose elements are neighbours for the epilogue; or, where
    /// the right side doesn't stay in a second-level cache, about as many rows as columns, so that neither side is read too often.
    fn task(&self) -> [usize; 2] {
        let [m, n, k] = self.shape;
        // A vector that isn't full takes as long as one that is, and an element without products takes its time, too.
        let (wide, deep) = (n.next_multiple_of(lanes()).max(1), k.max(LEAST_STEPS));
        let elements = numel(&self.batch) * m * wide / (rayon::current_num_threads() * TASKS);
        let elements = elements.clamp(LEAST_PRODUCTS / deep, (MOST_PRODUCTS / deep).max(1));
        if k * n <= CACHED {
            return [even(m, elements / wide, rows()), n.max(1)];
        }
        let rows = even(m, elements.isqrt(), rows());
        [rows, even(n, elements / rows.min(m.max(1)), columns())]
    }
}

/// Products of a task: less isn't worth the way to another thread, and the sides of more don't stay in a second-level cache.
const LEAST_PRODUCTS: usize = 1 << 22;
const MOST_PRODUCTS: usize = 1 << 26;

/// Steps of a sum that take as long as what is done for each element beside.
const LEAST_STEPS: usize = 64;

/// Tasks for each thread.
const TASKS: usize = 8;

/// The size of parts of `whole` that are as large as each other and no larger than `most`, if steps allow it.
fn even(whole: usize, most: usize, step: usize) -> usize {
    let parts = whole.div_ceil(most.max(1)).max(1);
    whole.div_ceil(parts).next_multiple_of(step).max(step)
}

impl Task for MatMul {
    unsafe fn run(&self) {
        let [m, n, k] = self.shape;
        let batch = numel(&self.batch);
        let [rows, cols] = self.task();
        let (down, across) = (m.div_ceil(rows), n.div_ceil(cols));
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (left, right) = unsafe { (Operand::new(&self.left), Operand::new(&self.right)) };
        let words = panel_words([k, n]);
        let kinds = if right.is_one(&self.batch) { batch.min(1) } else { batch };
        with_tile(kinds * words, |packed| {
            let tasks = (2 * rayon::current_num_threads()).div_ceil(kinds.max(1));
            let together = n.div_ceil(columns()).div_ceil(tasks).clamp(1, PANELS);
            let some = (k * columns() * together).max(1);
            let all = packed.chunks_mut(words.max(1)).enumerate().flat_map(|(b, packed)| {
                let panels = packed.chunks_mut(some).enumerate();
                panels.map(move |(number, panels)| (b, number, panels))
            });
            let count = kinds * n.div_ceil(columns()).div_ceil(together);
            each_of(count, all, |(b, number, panels)| {
                pack_panels(right.matrix(&self.batch, b), number * together, [k, n], panels);
            });
            let packed = &*packed;
            // What several tasks would lay out is laid out once for all.
            let again = across > 1 && batch > 0 && left.matrix(&self.batch, 0).col != 1;
            let size = if again { group_words(m, k) } else { 0 };
            let left_kinds = if left.is_one(&self.batch) { 1 } else { batch };
            with_tile(left_kinds * size, |groups| {
                // Matrices one after the other, of so many groups each.
                let each_has = m.div_ceil(GROUP);
                let count = if again { left_kinds * each_has } else { 0 };
                let all = groups.chunks_mut((GROUP * k).max(1)).enumerate();
                each_of(count, all, |(number, group)| {
                    let (b, first) = (number / each_has, number % each_has * GROUP);
                    let rows = first..(first + GROUP).min(m);
                    pack_rows(left.matrix(&self.batch, b), rows, k, group);
                });
                let groups = &*groups;
                each(batch * down * across, |task| {
                    let (b, tile) = (task / (down * across), task % (down * across));
                    let (row, col) = (tile / across * rows, tile % across * cols);
                    let (height, width) = (rows.min(m - row), cols.min(n - col));
                    let a = left.matrix(&self.batch, b);
                    let laid_out = again.then(|| &groups[b.min(left_kinds - 1) * size..][..size]);
                    let panels = &packed[b.min(kinds - 1) * words..][..words][col * k..];
                    // SAFETY: tasks have disjoint rows and columns.
                    unsafe { self.store((a, laid_out), panels, b, [row, col], [height, width]) };
                });
            });
        });
    }
}

impl MatMul {
    /// Computes and stores a part of a result, of rows in groups where they are laid out.
    ///
    /// # Safety
    /// Nothing else touches that part of the stored operands, nor the rows if it has the first columns.
    unsafe fn store(
        &self,
        (a, groups): (Matrix<'_>, Option<&[u32]>),
        panels: &[u32],
        number: usize,
        [row, col]: [usize; 2],
        [height, width]: [usize; 2],
    ) {
        let [m, n, k] = self.shape;
        if col == 0 && !self.row_stores.is_empty() {
            let mut sums = Scratch::filled(height, 0.0);
            add_row_sums(&mut sums, a.rows_from(row), k);
            let at = number * m + row;
            // SAFETY: passed on to the caller.
            unsafe { self.row_stores.sums(at..at + height, &sums) };
        }
        let (right, steps) = ((panels, width, &self.right_steps), &self.left_steps);
        let sum = |out: (&[Cell<u32>], usize, bool), rows: Range<usize>| match groups {
            Some(groups) => {
                let starts = group_starts(rows, k);
                multiply_rows(out, (groups, &starts, steps), right)
            }
            None => multiply(out, (a, rows, steps), right),
        };
        // What is computed, or laid out, on the way is of a few rows, so that it stays in cache.
        let plain = self.stores.plain;
        let some = if plain && (groups.is_some() || a.col == 1) { height } else { 4 * GROUP };
        let mut registers = self.stores.registers();
        for first in (row..row + height).step_by(some) {
            let rows = first..(first + some).min(row + height);
            let (count, start) = (rows.len(), (number * m + first) * n + col);
            if plain {
                let range = start..start + (count - 1) * n + width;
                // SAFETY: passed on to the caller. Of the words between this part's rows, none is touched.
                sum((unsafe { self.stores.target(range) }, n, false), rows);
                continue;
            }
            with_tile(count * width, |out| {
                sum((cells(out), width, false), rows);
                // Neighbours, if rows are whole.
                let line = if width == n { count * n } else { width };
                for (number, values) in out.chunks(line).enumerate() {
                    let at = start + number * n;
                    // SAFETY: passed on to the caller.
                    unsafe { self.stores.run(&mut registers, at..at + values.len(), &[values]) };
                }
            });
        }
    }
}

/// Matrices that are multiplied, each of a batch: where they lie in memory, or computed row by row.
pub(super) struct Matrices {
    source: Source,
    view: View,
}

impl Matrices {
    pub(super) fn new(expr: &Expr, term: TermId, shape: &[usize], slices: &[Slice]) -> Matrices {
        match memory(expr, term, slices) {
            Some((slice, view)) => {
                Matrices { source: Source::Memory(slice.clone()), view: view.clone() }
            }
            None => {
                let source = Source::new(expr, term, shape, slices);
                Matrices { source, view: View::contiguous(shape) }
            }
        }
    }

    /// The same matrices transposed.
    fn turned(mut self) -> Matrices {
        let axes = self.view.shape.len();
        let order: Vec<usize> = (0..axes - 2).chain([axes - 1, axes - 2]).collect();
        self.view = self.view.permute(&order);
        self
    }
}

/// Matrices ready to be multiplied: words and the view that finds them there.
pub(super) struct Operand<'a> {
    words: Dense<'a>,
    view: &'a View,
}

impl<'a> Operand<'a> {
    /// # Safety
    /// Nothing writes to what the source loads while the operand lives.
    pub(super) unsafe fn new(matrices: &'a Matrices) -> Operand<'a> {
        // SAFETY: passed on to the caller.
        Operand { words: unsafe { matrices.source.dense() }, view: &matrices.view }
    }

    /// Whether all of a batch are one matrix.
    fn is_one(&self, batch: &[usize]) -> bool {
        numel(batch) == 1 || self.view.strides[..batch.len()].iter().all(|&stride| stride == 0)
    }

    /// One of a batch.
    pub(super) fn matrix(&self, batch: &[usize], number: usize) -> Matrix<'_> {
        let view = self.view;
        let (mut offset, mut rest) = (view.offset, number);
        for (&extent, stride) in batch.iter().zip(&view.strides).rev() {
            offset += (rest % extent) as isize * stride;
            rest /= extent;
        }
        let (row, col) = (view.strides[batch.len()], view.strides[batch.len() + 1]);
        Matrix { words: &self.words, offset, row, col }
    }
}
