//! Matrix products: `gemm` on tiles, with the epilogue applied while a tile is in cache.

use super::Task;
use super::block::{BLOCK, Slice};
use super::rows::Total;
use super::stores::{Source, Stores};
use crate::{Body, Combine, Contraction, DType, Kernel, View, contiguous_strides, numel};
use rayon::prelude::*;
use std::cell::RefCell;

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

    fn check(&self, rows: usize, cols: usize) {
        let (r, c) = ((rows as isize - 1) * self.row, (cols as isize - 1) * self.col);
        let low = self.offset + r.min(0) + c.min(0);
        let high = self.offset + r.max(0) + c.max(0);
        assert!(low >= 0 && (high as usize) < self.words.len(), "a matrix leaves its operand");
    }
}

/// Adds the `k` elements of each row to that row's sum: block by block, in f64 between blocks.
pub(super) fn add_row_sums(sums: &mut [f64], a: Matrix<'_>, k: usize) {
    if sums.is_empty() || k == 0 {
        return;
    }
    a.check(sums.len(), k);
    let at =
        |row: usize, col: usize| (a.offset + row as isize * a.row + col as isize * a.col) as usize;
    for start in (0..k).step_by(BLOCK) {
        let cols = start..(start + BLOCK).min(k);
        if a.row == 1 && a.col != 1 {
            // Neighbours in memory belong to different rows.
            let mut block = vec![0f32; sums.len()];
            for col in cols {
                let words = &a.words[at(0, col)..][..sums.len()];
                block.iter_mut().zip(words).for_each(|(sum, &w)| *sum += f32::from_bits(w));
            }
            sums.iter_mut().zip(block).for_each(|(sum, part)| *sum += f64::from(part));
            continue;
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            let mut words = [0; BLOCK];
            let words = &mut words[..cols.len()];
            words
                .iter_mut()
                .zip(cols.clone())
                .for_each(|(word, col)| *word = a.words[at(row, col)]);
            let mut total = Total::new(Combine::Sum, DType::F32);
            total.add(words);
            *sum += total.float;
        }
    }
}

/// `out = a b` (or `out += a b`), `[m, k] x [k, n]`; `out` has `width` words from row to row.
pub(super) fn product(
    out: &mut [u32],
    width: usize,
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    add: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            out.chunks_mut(width).take(m).for_each(|row| row[..n].fill(0));
        }
        return;
    }
    assert!((m - 1) * width + n <= out.len(), "a product leaves its tile");
    a.check(m, k);
    b.check(k, n);
    // SAFETY: the three checks above bound every element that the strides can reach, words and
    // floats have one layout, and `out` is borrowed mutably so it aliases neither source.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr().cast::<f32>(),
            1,
            width as isize,
            add,
            a.words.as_ptr().offset(a.offset).cast::<f32>(),
            a.col,
            a.row,
            b.words.as_ptr().offset(b.offset).cast::<f32>(),
            b.col,
            b.row,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

thread_local! {
    static TILE: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// Scratch words of this thread: `f` gets `words` of them with any contents.
pub(super) fn with_tile<R>(words: usize, f: impl FnOnce(&mut [u32]) -> R) -> R {
    // Taken out while in use, so that a task may use a second tile inside the first.
    let mut tile = TILE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if tile.len() < words {
        tile.resize(words, 0);
    }
    let result = f(&mut tile[..words]);
    TILE.with_borrow_mut(|tiles| tiles.push(tile));
    result
}

pub(super) struct MatMul {
    batch: Vec<usize>,
    shape: [usize; 3],
    left: Source,
    right: Source,
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
        MatMul {
            batch: batch.clone(),
            shape: [*m, *n, *k],
            left: Source::new(kernel, *left, &left_shape, slices),
            right: Source::new(kernel, *right, &right_shape, slices),
            row_stores: Stores::new(&kernel.expr, row_stores, slices),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }

    /// Rows and columns of a tile. About four million operations each, and never so thin that
    /// packing the other side costs more than the product.
    fn tile(&self) -> (usize, usize) {
        let [m, n, k] = self.shape;
        let tiles = (m * n * k).div_ceil(1 << 21).max(1);
        let cut = |long: usize, parts: usize| long.div_ceil(parts).next_multiple_of(32).min(long);
        if m > 256 && n > 256 {
            (cut(m, m.div_ceil(512).max(2)), cut(n, n.div_ceil(512).max(2)))
        } else if n >= m {
            (m, cut(n, tiles.min(n.div_ceil(64))))
        } else {
            (cut(m, tiles.min(m.div_ceil(64))), n)
        }
    }
}

impl Task for MatMul {
    unsafe fn run(&self) {
        let [m, n, k] = self.shape;
        let batch = numel(&self.batch);
        let (rows, cols) = self.tile();
        let (down, across) = (m.div_ceil(rows.max(1)), n.div_ceil(cols.max(1)));
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (left, right) = unsafe { (Operand::new(&self.left), Operand::new(&self.right)) };
        (0..batch * down * across).into_par_iter().for_each(|task| {
            let (b, tile) = (task / (down * across), task % (down * across));
            let (row, col) = (tile / across * rows, tile % across * cols);
            let (height, width) = (rows.min(m - row), cols.min(n - col));
            let a = left.matrix(&self.batch, b, [m, k]);
            let a = Matrix { offset: a.offset + row as isize * a.row, ..a };
            let c = right.matrix(&self.batch, b, [k, n]);
            let c = Matrix { offset: c.offset + col as isize * c.col, ..c };
            let start = b * m * n + row * n + col;
            let size = [height, width, k];
            if col == 0 && !self.row_stores.is_empty() {
                let mut sums = vec![0.0; height];
                add_row_sums(&mut sums, a, k);
                let at = b * m + row;
                // SAFETY: the rows of different tiles are disjoint ranges of the targets.
                unsafe { self.row_stores.sums(at..at + height, &sums) };
            }
            if self.stores.plain && width == n {
                // SAFETY: full rows of different tiles are disjoint ranges of the target.
                let out = unsafe { self.stores.target(start..start + height * n) };
                return product(out, n, size, a, c, false);
            }
            with_tile(height * width, |out| {
                product(out, width, size, a, c, false);
                let mut registers = self.stores.registers();
                for (line, values) in out.chunks(width).enumerate() {
                    let at = start + line * n;
                    // SAFETY: lines of different tiles are disjoint ranges of the targets.
                    unsafe { self.stores.run(&mut registers, at..at + width, &[values]) };
                }
            });
        });
    }
}

/// A source ready to be multiplied: words and the view that finds matrices in them.
struct Operand<'a> {
    words: std::borrow::Cow<'a, [u32]>,
    view: Option<&'a View>,
}

impl<'a> Operand<'a> {
    /// # Safety
    /// Nothing writes to what the source loads while the operand lives.
    unsafe fn new(source: &'a Source) -> Operand<'a> {
        match source {
            Source::Memory(slice, view) => {
                // SAFETY: passed on to the caller.
                let words = unsafe { slice.read() };
                Operand { words: words.into(), view: Some(view) }
            }
            // SAFETY: passed on to the caller.
            Source::Computed(..) => Operand { words: unsafe { source.dense() }, view: None },
        }
    }

    fn matrix(&self, batch: &[usize], number: usize, [rows, cols]: [usize; 2]) -> Matrix<'_> {
        let Some(view) = self.view else {
            let dense = Matrix::dense(&self.words, cols);
            return Matrix { offset: (number * rows * cols) as isize, ..dense };
        };
        let mut offset = view.offset;
        for (axis, step) in contiguous_strides(batch).iter().enumerate() {
            let at = number / *step as usize % batch[axis];
            offset += at as isize * view.strides[axis];
        }
        let (row, col) = (view.strides[batch.len()], view.strides[batch.len() + 1]);
        Matrix { words: &self.words, offset, row, col }
    }
}
