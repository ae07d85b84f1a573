//! Merge passes of a sort: the runs of a row are merged in order, pair by pair.

use super::block::Slice;
use super::crew;
use super::scratch::with_tile;
use super::stores::{Source, Stores};
use super::{TASK_POINTS, Task};
use crate::{Body, DType, Kernel, Literal, Merge};

pub(super) struct MergeTask {
    merge: Merge,
    dtype: DType,
    key: Source,
    place: Source,
    stores: Stores,
}

impl MergeTask {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> MergeTask {
        let Body::Merge { merge, key, place, stores } = &kernel.body else {
            unreachable!("prepared as a merge because the body is one")
        };
        let shape = [merge.rows, merge.len];
        MergeTask {
            merge: *merge,
            dtype: kernel.expr.types[*key],
            key: Source::new(&kernel.expr, *key, &shape, slices),
            place: Source::new(&kernel.expr, *place, &shape, slices),
            stores: Stores::new(&kernel.expr, stores, slices),
        }
    }
}

impl Task for MergeTask {
    unsafe fn run(&self) {
        let Merge { rows, len, width, .. } = self.merge;
        // SAFETY: nothing stores to what the sources load (`Program::verify`).
        let (key, place) = unsafe { (self.key.dense(), self.place.dense()) };
        // Tasks of whole pairs of runs.
        let each = (width * 2) * (TASK_POINTS / (width * 2)).max(1);
        let parts = len.div_ceil(each);
        crew::each(rows * parts, |task| {
            let (row, part) = (task / parts, task % parts);
            let range = part * each..((part + 1) * each).min(len);
            let key = &key[row * len..(row + 1) * len];
            let place = &place[row * len..(row + 1) * len];
            with_tile(range.len(), |out| {
                for pair in range.clone().step_by(width * 2) {
                    let (middle, end) = ((pair + width).min(len), (pair + width * 2).min(len));
                    let out = &mut out[pair - range.start..end - range.start];
                    self.pair(key, &place[pair..middle], &place[middle..end], out);
                }
                let points = row * len + range.start..row * len + range.end;
                let mut registers = self.stores.registers();
                // SAFETY: each range of a row belongs to one task.
                unsafe { self.stores.run(&mut registers, points, &[out]) };
            });
        });
    }
}

impl MergeTask {
    fn pair(&self, key: &[u32], first: &[u32], second: &[u32], out: &mut [u32]) {
        let (mut a, mut b) = (0, 0);
        for out in out {
            let take_second = match (first.get(a), second.get(b)) {
                (Some(&x), Some(&y)) => self.before(key[y as usize], key[x as usize]),
                (first, _) => first.is_none(),
            };
            if take_second {
                (*out, b) = (second[b], b + 1);
            } else {
                (*out, a) = (first[a], a + 1);
            }
        }
    }

    /// Whether `a` has to come before `b` when it stands behind it. NaN comes last.
    fn before(&self, a: u32, b: u32) -> bool {
        let number = |bits| Literal { dtype: self.dtype, bits }.value();
        let (a, b) = (number(a), number(b));
        let less = if self.merge.descending { a > b } else { a < b };
        less || b.is_nan() && !a.is_nan()
    }
}
