//! Sums of products in registers: the loop that all contractions of this backend end in.
//!
//! A tile is a few rows of a few vectors. Tables say where the left element of a row and where each step of the sum
//! lies, so that a matrix in any layout, a matrix packed in panels and the windows of an image are read where they
//! are, and nothing is unfolded. Each element is one sum in the order of the steps, whatever tile it falls into.

use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// Vectors of a tile: with eight rows (four, where there are sixteen registers) the sums, a vector row and an element
/// fill the registers.
const VECTORS: usize = 3;

/// Steps of a sum between which the partial sums go through memory: so many vector rows stay in a second-level cache.
const STEPS: usize = 512;

/// Where the steps of a sum lie, relative to a start.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    at: Vec<isize>,
    low: isize,
    high: isize,
}

impl Steps {
    pub(super) fn new(at: Vec<isize>) -> Steps {
        let low = at.iter().copied().min().unwrap_or(0);
        let high = at.iter().copied().max().unwrap_or(0);
        Steps { at, low, high }
    }

    /// Steps at the same distance from each other.
    pub(super) fn even(count: usize, distance: isize) -> Steps {
        Steps::new((0..count as isize).map(|step| step * distance).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }
}

/// `out[row][col] = sum over s of left[rows[row] + left_steps[s]] right[right_steps[s] + col]`, or added to what
/// is there.
pub(super) struct Sum<'a> {
    pub(super) left: &'a [u32],
    pub(super) rows: &'a [isize],
    pub(super) left_steps: &'a Steps,
    pub(super) right: &'a [u32],
    pub(super) right_steps: &'a Steps,
    pub(super) out: &'a mut [u32],
    /// Words from one row of `out` to the next.
    pub(super) pitch: usize,
    /// Columns that are computed. Right words are read up to the next whole vector.
    pub(super) width: usize,
    pub(super) add: bool,
}

impl Sum<'_> {
    pub(super) fn run(mut self) {
        let (rows, width) = (self.rows.len(), self.width);
        assert_eq!(self.left_steps.len(), self.right_steps.len(), "sides of different lengths");
        if rows == 0 || width == 0 {
            return;
        }
        assert!((rows - 1) * self.pitch + width <= self.out.len(), "a sum leaves its target");
        if self.left_steps.len() == 0 {
            if !self.add {
                let lines = self.out.chunks_mut(self.pitch).take(rows);
                lines.for_each(|line| line[..width].fill(0));
            }
            return;
        }
        let first = self.rows.iter().min().map_or(0, |row| row + self.left_steps.low);
        let last = self.rows.iter().max().map_or(0, |row| row + self.left_steps.high);
        assert!(first >= 0 && (last as usize) < self.left.len(), "rows leave their source");
        let lanes = lanes();
        let first = self.right_steps.low;
        let last = self.right_steps.high + width.next_multiple_of(lanes) as isize;
        assert!(first >= 0 && last as usize <= self.right.len(), "columns leave their source");
        let arch = Arch::new();
        // Columns outside, so that their vectors stay in cache for all rows.
        for col in (0..width).step_by(lanes * VECTORS) {
            for start in (0..self.left_steps.len()).step_by(STEPS) {
                let steps = start..(start + STEPS).min(self.left_steps.len());
                let cols = col..(col + lanes * VECTORS).min(width);
                let add = self.add || start > 0;
                // SAFETY: the assertions above bound every element that rows, steps and columns can reach.
                arch.dispatch(Strip { sum: &mut self, steps, cols, add });
            }
        }
    }
}

/// Some steps of all rows and a few vectors of columns, of a sum whose bounds were checked.
struct Strip<'s, 'a> {
    sum: &'s mut Sum<'a>,
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
            _ => self.rows::<S, VECTORS>(simd),
        }
    }
}

impl Strip<'_, '_> {
    #[inline(always)]
    fn rows<S: Simd, const V: usize>(&mut self, simd: S) {
        let count = self.sum.rows.len();
        let mut row = 0;
        // SAFETY: `Sum::run` has checked the bounds of all rows, steps and columns.
        unsafe {
            if S::REGISTER_COUNT > 16 {
                while count - row >= 8 {
                    self.tile::<S, 8, V>(simd, row);
                    row += 8;
                }
            }
            while count - row >= 4 {
                self.tile::<S, 4, V>(simd, row);
                row += 4;
            }
            while row < count {
                self.tile::<S, 1, V>(simd, row);
                row += 1;
            }
        }
    }

    /// # Safety
    /// All rows from `row`, steps and columns lie in their sources and in the target.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, row: usize) {
        let lanes = S::F32_LANES;
        let Sum { left, rows, left_steps, right, right_steps, out, pitch, .. } = &mut *self.sum;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        // SAFETY: passed on to the caller. Words and floats have one layout; vectors are read unaligned.
        unsafe {
            let mut lines = [left.as_ptr().cast::<f32>(); R];
            for (line, &offset) in lines.iter_mut().zip(rows.get_unchecked(row..row + R)) {
                *line = line.offset(offset);
            }
            let columns = right.as_ptr().cast::<f32>().add(self.cols.start);
            for step in self.steps.clone() {
                let x = *left_steps.at.get_unchecked(step);
                let vectors = columns.offset(*right_steps.at.get_unchecked(step));
                let mut b = [simd.splat_f32s(0.0); V];
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
            for (number, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let col = self.cols.start + v * lanes;
                    let target = out.as_mut_ptr().cast::<f32>().add((row + number) * *pitch + col);
                    let count = (self.cols.end - col).min(lanes);
                    if count == lanes {
                        let target = target.cast::<S::f32s>();
                        let sum = match self.add {
                            true => simd.add_f32s(target.read_unaligned(), sum),
                            false => sum,
                        };
                        target.write_unaligned(sum);
                        continue;
                    }
                    let values: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&sum));
                    for (lane, &value) in values[..count].iter().enumerate() {
                        let before = if self.add { *target.add(lane) } else { 0.0 };
                        *target.add(lane) = before + value;
                    }
                }
            }
        }
    }
}

/// Floats of a vector.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// Most columns that a tile has on any machine.
pub(super) const MOST_COLUMNS: usize = 16 * VECTORS;

/// Columns of a tile, and of a panel.
pub(super) fn columns() -> usize {
    lanes() * VECTORS
}
