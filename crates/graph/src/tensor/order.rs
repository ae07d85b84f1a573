//! What depends on order: cumulative sums and products, and sorting.

use super::{Axis, Tensor};
use crate::case;
use crate::catalog::{Case, distinct, index, wide};
use crate::ops::{MergeRuns, Scan};
use shadegrad_device::{Merge, Recurrence, lines};

/// Longest line that one invocation goes through; longer ones are cut into blocks of this many. Short blocks
/// also keep roundings few: a line of 1 000 is rounded 64 times instead of 1 000.
const BLOCK: usize = 32;

impl Tensor {
    /// The sum of everything up to each element along an axis.
    #[track_caller]
    pub fn cumsum(&self, axis: impl Axis) -> Tensor {
        self.cumulative("cumsum", axis, false)
    }

    /// The product of everything up to each element along an axis.
    #[track_caller]
    pub fn cumprod(&self, axis: impl Axis) -> Tensor {
        self.cumulative("cumprod", axis, true)
    }

    #[track_caller]
    fn cumulative(&self, operation: &str, axis: impl Axis, product: bool) -> Tensor {
        let (Some(axis), true) = (self.axis(operation, axis), self.is_float(operation)) else {
            return self.clone();
        };
        let shape = self.shape();
        if shape[axis] <= BLOCK {
            return self.scan(axis, product);
        }
        // Within blocks, then over the blocks' totals, so that no invocation walks a whole line.
        let blocks = shape[axis].div_ceil(BLOCK);
        let mut cut = shape.clone();
        cut[axis] = blocks;
        cut.insert(axis + 1, BLOCK);
        let padded = self.pad(axis, 0, blocks * BLOCK - shape[axis]).reshape(&cut);
        let within = padded.scan(axis + 1, product);
        let totals = within.narrow(axis + 1, BLOCK - 1, 1).cumulative(operation, axis, product);
        let before = totals.narrow(axis, 0, blocks - 1).pad(axis, 1, 0);
        let joined = match product {
            false => within + before.expand(&cut),
            true => {
                let first = before.along(axis);
                let first = first.equal(&first.zeros_like());
                within * first.select(&before.ones_like(), &before).expand(&cut)
            }
        };
        let mut flat = shape.clone();
        flat[axis] = blocks * BLOCK;
        joined.reshape(&flat).narrow(axis, 0, shape[axis])
    }

    /// One pass: `h = x + h'` for sums; for products `h = x h'` after a first `h = x`.
    #[track_caller]
    fn scan(&self, axis: usize, product: bool) -> Tensor {
        let recurrence = Recurrence { shape: self.shape(), axis, offsets: vec![0], log: false };
        let (source, coefficient) = match product {
            false => (self.clone(), self.ones_like()),
            true => {
                let place = self.along(axis);
                let first = place.equal(&place.zeros_like());
                (first.select(self, &self.zeros_like()), self.clone())
            }
        };
        source.recurrence(recurrence, &[&coefficient])
    }

    /// A linear recurrence along an axis, in numbers or in logarithms: `h[t][s] = x[t][s] + sum over j of a_j[t][s]
    /// h[t - 1][s - offset_j]`, with one coefficient in this shape for each offset.
    #[track_caller]
    pub fn recurrence(&self, recurrence: Recurrence, coefficients: &[&Tensor]) -> Tensor {
        let inputs: Vec<&Tensor> =
            std::iter::once(self).chain(coefficients.iter().copied()).collect();
        self.record(Scan(recurrence), &inputs)
    }

    /// The elements along an axis in ascending or descending order, and where each comes from, as `U32`. Equal
    /// ones keep their order, and NaN comes last either way (PyTorch counts it as largest). The gradient goes
    /// back to where each element comes from.
    #[track_caller]
    pub fn sort(&self, axis: impl Axis, descending: bool) -> (Tensor, Tensor) {
        let places = self.argsort(axis, descending);
        match self.axis("sort", axis) {
            Some(axis) => (self.gather(axis, &places), places),
            None => (self.clone(), places),
        }
    }

    /// Where the elements along an axis come from when they are put in order, as `U32`; see
    /// [`Tensor::sort`].
    #[track_caller]
    pub fn argsort(&self, axis: impl Axis, descending: bool) -> Tensor {
        let Some(axis) = self.axis("argsort", axis) else {
            return self.clone();
        };
        let shape = self.shape();
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
        order.push(axis);
        let [outer, len, inner] = lines(&shape, axis);
        let rows = outer * inner;
        let moved: Vec<usize> = order.iter().map(|&a| shape[a]).collect();
        let keys = self.permute(&order).reshape(&[rows, len]);
        let mut places = keys.along(1);
        let mut width = 1;
        while width < len {
            let merge = Merge { rows, len, width, descending };
            places = keys.record(MergeRuns(merge), &[&keys, &places]);
            width *= 2;
        }
        let mut back: Vec<usize> = (0..rank - 1).collect();
        back.insert(axis, rank - 1);
        places.reshape(&moved).permute(&back)
    }

    /// The `k` largest elements along an axis, largest first, or the smallest, smallest first, and where they
    /// come from, as `U32`; see [`Tensor::sort`].
    #[track_caller]
    pub fn topk(&self, k: usize, axis: impl Axis, largest: bool) -> (Tensor, Tensor) {
        let Some(axis) = self.axis("topk", axis) else {
            return (self.clone(), self.clone());
        };
        let len = self.shape()[axis];
        if k > len {
            let reason = format!("there are no {k} elements among the {len} of axis {axis}");
            return (self.refuse("topk", reason), self.clone());
        }
        let places = self.argsort(axis, largest).narrow(axis, 0, k);
        (self.gather(axis, &places), places)
    }

    /// Refused: the number of results would depend on the data, and programs have fixed shapes. Use a mask
    /// and [`Tensor::select`].
    #[track_caller]
    pub fn nonzero(&self) -> Tensor {
        self.data_dependent("nonzero")
    }

    /// Refused, as [`Tensor::nonzero`]. Use a mask and [`Tensor::masked_fill`].
    #[track_caller]
    pub fn masked_select(&self, mask: &Tensor) -> Tensor {
        let _ = mask;
        self.data_dependent("masked_select")
    }

    /// Refused, as [`Tensor::nonzero`]. [`Tensor::sort`] brings equal elements together.
    #[track_caller]
    pub fn unique(&self) -> Tensor {
        self.data_dependent("unique")
    }

    #[track_caller]
    fn data_dependent(&self, operation: &str) -> Tensor {
        self.refuse(
            operation,
            "the shape of its result depends on data, and a program's shapes are fixed when it is compiled",
        )
    }
}

pub(crate) fn cases() -> Vec<Case> {
    const PLACES: &str = "places are integers";
    vec![
        case!("cumsum", [wide(&[2, 65, 3])], |_, x| vec![x[0].cumsum(1), x[0].cumsum(-1)]),
        case!("cumsum", [wide(&[1300])], |_, x| x[0].cumsum(0)),
        case!("cumprod", [wide(&[2, 7, 3])], |_, x| vec![x[0].cumprod(1), x[0].cumprod(0)]),
        case!("cumprod", [wide(&[2, 1300])], |_, x| (&x[0] * 0.01 + 1.0).cumprod(1)),
        case!("recurrence", [wide(&[2, 5, 7]), crate::catalog::probable(&[2, 5, 7])], |_, x| {
            let of = |log| Recurrence { shape: vec![2, 5, 7], axis: 1, offsets: vec![0, 1], log };
            vec![
                x[0].recurrence(of(false), &[&x[1], &x[1]]),
                x[0].recurrence(of(true), &[&x[1], &x[0]]),
            ]
        }),
        case!("sort", [distinct(&[3, 65])], |_, x| {
            let (up, _) = x[0].sort(1, false);
            let (down, _) = x[0].sort(0, true);
            vec![up, down]
        }),
        case!("argsort", [index(&[2, 33, 3], 7)], |_, x| {
            vec![x[0].argsort(1, false), x[0].argsort(1, true), x[0].argsort(-1, false)]
        })
        .flat(PLACES),
        case!("topk", [distinct(&[3, 65])], |_, x| {
            let (largest, _) = x[0].topk(5, 1, true);
            let (smallest, _) = x[0].topk(2, 0, false);
            vec![largest, smallest]
        }),
    ]
}
