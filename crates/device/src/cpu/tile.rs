//! Sums of products in registers: the loop that all contractions of this backend end in.
//!
//! A tile is a few rows of a few vectors. Tables say where the left element of a row and where each step of the sum
//! lies, so that a matrix in any layout, a matrix packed in panels and the windows of an image are read where they
//! are, and nothing is unfolded. Each element is one sum in the order of the steps, whatever tile it falls into.

use super::memory::{Line, prefetch};
use super::vectors::arch;
use pulp::{Simd, WithSimd};
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// Most vectors of a tile.
const MOST_VECTORS: usize = 3;

/// Rows and vectors of a tile: the sums, a row of vectors and an element fill the registers. With four rows of three vectors,
/// sixteen registers would be just enough; compilers need one more, and keep a sum in memory.
const fn shape(registers: usize) -> [usize; 2] {
    if registers > 16 { [8, MOST_VECTORS] } else { [6, 2] }
}

/// Rows that all columns are gone through with.
pub(super) const GROUP: usize = 24;

/// Steps of a sum between which the partial sums go through memory: so many elements of a group of rows and of a panel fit a first-level
/// cache, unless the panel is too wide anyway.
const fn depth(columns: usize) -> usize {
    if columns > 16 { 512 } else { 256 }
}

/// Where the steps of a sum lie, relative to a start.
pub(super) struct Steps<'a> {
    count: usize,
    /// Of each; none where they are even.
    at: Cow<'a, [isize]>,
    low: isize,
    high: isize,
    /// The distance of steps that begin at the start and are as far from each other.
    even: Option<isize>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(at: impl Into<Cow<'a, [isize]>>) -> Steps<'a> {
        let at = at.into();
        let low = at.iter().copied().min().unwrap_or(0);
        let high = at.iter().copied().max().unwrap_or(0);
        let distance = at.get(1).copied().unwrap_or(0);
        let evenly = at.iter().enumerate().all(|(step, &at)| at == step as isize * distance);
        let (count, even) = (at.len(), evenly.then_some(distance));
        Steps { count, at: if evenly { Cow::default() } else { at }, low, high, even }
    }

    /// Steps at the same distance from each other.
    pub(super) fn even(count: usize, distance: isize) -> Steps<'a> {
        let last = count.saturating_sub(1) as isize * distance;
        let (low, high) = (last.min(0), last.max(0));
        Steps { count, at: Cow::default(), low, high, even: Some(distance) }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

/// `out[row][col] = sum over s of left[rows[row] + left_steps[s]] right[right_steps[s] + col]`, or added to what
/// is there; columns of different tiles may lie in different panels.
pub(super) struct Sum<'a> {
    pub(super) left: &'a [u32],
    pub(super) rows: &'a [isize],
    pub(super) left_steps: &'a Steps<'a>,
    pub(super) right: &'a [u32],
    pub(super) right_steps: &'a Steps<'a>,
    /// Words from the columns of a tile to those of the next.
    pub(super) panel: usize,
    /// Words that this thread alone has, where sums go; what lies between them may be others'.
    pub(super) out: &'a [Cell<u32>],
    /// Words from one row of `out` to the next.
    pub(super) pitch: usize,
    /// Columns that are computed. Right words are read up to the next whole vector.
    pub(super) width: usize,
    pub(super) add: bool,
}

impl Sum<'_> {
    pub(super) fn run(self) {
        let (rows, width) = (self.rows.len(), self.width);
        assert_eq!(self.left_steps.len(), self.right_steps.len(), "sides of different lengths");
        if rows == 0 || width == 0 {
            return;
        }
        assert!((rows - 1) * self.pitch + width <= self.out.len(), "a sum leaves its target");
        if self.left_steps.len() == 0 {
            if !self.add {
                let lines = self.out.chunks(self.pitch).take(rows);
                lines.for_each(|line| line[..width].iter().for_each(|word| word.set(0)));
            }
            return;
        }
        let first = self.rows.iter().min().map_or(0, |row| row + self.left_steps.low);
        let last = self.rows.iter().max().map_or(0, |row| row + self.left_steps.high);
        assert!(first >= 0 && (last as usize) < self.left.len(), "rows leave their source");
        let (lanes, tile) = (vectors()[0], columns());
        let first = self.right_steps.low;
        let edge = width.div_ceil(tile) - 1;
        let edge = edge * self.panel + (width - edge * tile).next_multiple_of(lanes);
        let last = self.right_steps.high + edge as isize;
        assert!(self.panel >= tile, "panels overlap");
        assert!(first >= 0 && last as usize <= self.right.len(), "columns leave their source");
        let arch = arch();
        let (count, most) = (self.left_steps.len(), depth(tile));
        for start in (0..count).step_by(most) {
            let steps = start..(start + most).min(count);
            let add = self.add || start > 0;
            for row in (0..rows).step_by(GROUP) {
                let rows = row..(row + GROUP).min(rows);
                for col in (0..width).step_by(tile) {
                    let (steps, cols) = (steps.clone(), col..(col + tile).min(width));
                    // The assertions above bound every element that rows, steps and columns can reach.
                    arch.dispatch(Strip { sum: &self, rows: rows.clone(), steps, cols, add });
                }
            }
        }
    }
}

/// Some steps of a few rows and the columns of a tile, of a sum whose bounds were checked.
struct Strip<'s, 'a> {
    sum: &'s Sum<'a>,
    rows: Range<usize>,
    steps: Range<usize>,
    cols: Range<usize>,
    add: bool,
}

impl WithSimd for Strip<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.cols.len().div_ceil(S::F32_LANES) {
            1 => self.rows::<S, 1>(simd),
            2 => self.rows::<S, 2>(simd),
            _ => self.rows::<S, MOST_VECTORS>(simd),
        }
    }
}

impl Strip<'_, '_> {
    #[inline(always)]
    fn rows<S: Simd, const V: usize>(&mut self, simd: S) {
        let Range { start: mut row, end } = self.rows.clone();
        // SAFETY: `Sum::run` has checked the bounds of all rows, steps and columns.
        unsafe {
            match shape(S::REGISTER_COUNT) {
                [8, _] => {
                    while end - row >= 8 {
                        self.tile::<S, 8, V>(simd, row);
                        row += 8;
                    }
                }
                _ => {
                    // Eight are two times four: single rows take as long as five together.
                    while end - row >= 6 && end - row != 8 {
                        self.tile::<S, 6, V>(simd, row);
                        row += 6;
                    }
                }
            }
            while end - row >= 4 {
                self.tile::<S, 4, V>(simd, row);
                row += 4;
            }
            while row < end {
                self.tile::<S, 1, V>(simd, row);
                row += 1;
            }
        }
    }

    /// # Safety
    /// All rows from `row`, steps and columns lie in their sources and in the target.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, row: usize) {
        let (left, right) = (self.sum.left_steps, self.sum.right_steps);
        // SAFETY: passed on to the caller; the tables of steps that aren't even are as long as there are steps, and no others are
        // looked up.
        unsafe {
            let table = |steps: &Steps<'_>, step: usize| *steps.at.get_unchecked(step);
            let (across, down) = (|step| table(left, step), |step| table(right, step));
            // What is as far from each other isn't looked up, which takes registers.
            match (left.even, right.even) {
                (Some(x), Some(y)) => {
                    let (across, down) = (|step| step as isize * x, |step| step as isize * y);
                    self.add_up::<S, R, V>(simd, row, across, down)
                }
                (Some(x), None) => {
                    self.add_up::<S, R, V>(simd, row, |step| step as isize * x, down)
                }
                (None, Some(y)) => {
                    self.add_up::<S, R, V>(simd, row, across, |step| step as isize * y)
                }
                (None, None) => self.add_up::<S, R, V>(simd, row, across, down),
            }
        }
    }

    /// [`Strip::tile`] with where the steps lie.
    ///
    /// # Safety
    /// The same.
    #[inline(always)]
    unsafe fn add_up<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        across: impl Fn(usize) -> isize,
        down: impl Fn(usize) -> isize,
    ) {
        let lanes = S::F32_LANES;
        let Sum { left, rows, right, panel, out, pitch, .. } = self.sum;
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[zero; V]; R];
        // SAFETY: passed on to the caller. Words and floats have one layout; vectors are read unaligned. The words of `out` that a tile
        // has are this thread's alone, and nothing else refers to them meanwhile.
        unsafe {
            let mut lines = [left.as_ptr().cast::<f32>(); R];
            for (line, &offset) in lines.iter_mut().zip(rows.get_unchecked(row..row + R)) {
                *line = line.offset(offset);
            }
            let panel = self.cols.start / (lanes * shape(S::REGISTER_COUNT)[1]) * *panel;
            let columns = right.as_ptr().cast::<f32>().add(panel);
            let target = out.as_ptr().cast_mut().cast::<f32>().add(row * *pitch + self.cols.start);
            for number in 0..R {
                for word in (0..V * lanes).step_by(Line::WORDS) {
                    prefetch(target.wrapping_add(number * *pitch + word));
                }
            }
            for step in self.steps.clone() {
                let (x, vectors) = (across(step), columns.offset(down(step)));
                let mut b = [zero; V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = vectors.add(v * lanes).cast::<S::f32s>().read_unaligned();
                }
                for (line, sums) in lines.iter().zip(&mut sums) {
                    let a = simd.splat_f32s(*line.offset(x));
                    for (sum, &b) in sums.iter_mut().zip(&b) {
                        *sum = simd.mul_add_e_f32s(a, b, *sum);
                    }
                }
            }
            let target = |number: usize, v: usize| target.add(number * *pitch + v * lanes);
            // Loops that are short enough to be written out, so that sums stay in registers: one that isn't finds them in memory.
            if self.cols.len() == V * lanes {
                for (number, sums) in sums.iter().enumerate() {
                    for (v, &sum) in sums.iter().enumerate() {
                        let target = target(number, v).cast::<S::f32s>();
                        let before = if self.add { target.read_unaligned() } else { zero };
                        target.write_unaligned(simd.add_f32s(before, sum));
                    }
                }
                return;
            }
            // Copies, because a loop as long as the next finds sums by number.
            let mut edge = [[zero; V]; R];
            for (copies, sums) in edge.iter_mut().zip(&sums) {
                copies.iter_mut().zip(sums).for_each(|(copy, &sum)| *copy = sum);
            }
            for (number, sums) in edge.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let count = (self.cols.len() - v * lanes).min(lanes);
                    let target = std::slice::from_raw_parts_mut(target(number, v), count);
                    let before = if self.add { simd.partial_load_f32s(target) } else { zero };
                    simd.partial_store_f32s(target, simd.add_f32s(before, sum));
                }
            }
        }
    }
}

/// Floats of a vector, and rows and vectors of a tile.
fn vectors() -> [usize; 3] {
    struct Vectors;
    impl WithSimd for Vectors {
        type Output = [usize; 3];
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> [usize; 3] {
            let [rows, vectors] = shape(S::REGISTER_COUNT);
            [S::F32_LANES, rows, vectors]
        }
    }
    arch().dispatch(Vectors)
}

/// Most columns that a tile has on any machine.
pub(super) const MOST_COLUMNS: usize = 16 * MOST_VECTORS;

/// Columns of a tile, and of a panel.
pub(super) fn columns() -> usize {
    let [lanes, _, vectors] = vectors();
    lanes * vectors
}

/// Floats of a vector.
pub(super) fn lanes() -> usize {
    vectors()[0]
}

/// Words of one thread, as [`Sum::out`].
pub(super) fn cells(words: &mut [u32]) -> &[Cell<u32>] {
    Cell::from_mut(words).as_slice_of_cells()
}

/// Rows of a tile.
pub(super) fn rows() -> usize {
    vectors()[1]
}

#[cfg(test)]
mod tests {
    use super::vectors;
    use crate::Vectors;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_are_made_of_the_widest_vectors_that_the_machine_has() {
        let expected = if pulp::x86::V4::try_new().is_some() {
            [16, 8, 3]
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            [8, 6, 2]
        } else {
            return;
        };
        assert_eq!(vectors(), expected, "floats of a vector, rows and vectors of a tile");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_are_made_of_narrower_vectors_where_a_device_asks_for_them() {
        let of = |chosen: Vectors| {
            let found = std::thread::spawn(move || {
                chosen.enter();
                vectors()[0]
            });
            found.join().ok()
        };
        assert_eq!(of(Vectors::None), Some(1), "floats of a vector");
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            assert_eq!(of(Vectors::Avx2), Some(8), "floats of a vector");
        }
    }
}
