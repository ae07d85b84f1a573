//! Reductions over any set of axes, which disappear from the shape; [`Tensor::keepdim`] puts them back.

use super::{Axis, Tensor};
use crate::case;
use crate::catalog::{Case, distinct, positive, truth, wide};
use crate::ops::Reduce;
use shadegrad_device::{Combine, DType};

impl Tensor {
    #[track_caller]
    fn reduce(&self, operation: &str, combine: Combine, axes: &[impl Axis]) -> Tensor {
        let Some(axes) = self.axes(operation, axes) else {
            return self.clone();
        };
        let shape = self.shape();
        let empty = axes.iter().any(|&axis| shape[axis] == 0);
        if empty && matches!(combine, Combine::Sum | Combine::Prod) {
            let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
            let kept: Vec<usize> = kept.map(|axis| shape[axis]).collect();
            let nothing = combine.identity(self.dtype().loaded()).value();
            return self.graph().full(&kept, self.dtype().loaded(), nothing);
        }
        self.record(Reduce { combine, axes }, &[self])
    }

    /// Every axis.
    pub(crate) fn all_axes(&self) -> Vec<usize> {
        (0..self.shape().len()).collect()
    }

    /// How many elements there are along axes.
    fn count(&self, axes: &[impl Axis]) -> usize {
        let shape = self.shape();
        let extent = |axis: isize| {
            let at = if axis < 0 { axis + shape.len() as isize } else { axis };
            usize::try_from(at).ok().and_then(|at| shape.get(at)).copied().unwrap_or(1)
        };
        axes.iter().map(|axis| extent(axis.number())).product()
    }

    /// The sum over axes.
    #[track_caller]
    pub fn sum(&self, axes: &[impl Axis]) -> Tensor {
        if axes.is_empty() {
            return self.clone();
        }
        self.reduce("sum", Combine::Sum, axes)
    }

    /// The sum of all elements.
    #[track_caller]
    pub fn sum_all(&self) -> Tensor {
        self.sum(&self.all_axes())
    }

    /// The mean over axes; of no elements, NaN.
    #[track_caller]
    pub fn mean(&self, axes: &[impl Axis]) -> Tensor {
        if !self.is_float("mean") {
            return self.clone();
        }
        self.sum(axes) / self.count(axes) as f64
    }

    /// The mean of all elements.
    #[track_caller]
    pub fn mean_all(&self) -> Tensor {
        self.mean(&self.all_axes())
    }

    /// The product over axes.
    #[track_caller]
    pub fn prod(&self, axes: &[impl Axis]) -> Tensor {
        self.reduce("prod", Combine::Prod, axes)
    }

    /// The largest element over axes. Equal ones share the gradient; NaN counts as largest.
    #[track_caller]
    pub fn amax(&self, axes: &[impl Axis]) -> Tensor {
        self.reduce("amax", Combine::Max, axes)
    }

    /// The smallest element over axes. Equal ones share the gradient; NaN counts as smallest.
    #[track_caller]
    pub fn amin(&self, axes: &[impl Axis]) -> Tensor {
        self.reduce("amin", Combine::Min, axes)
    }

    /// The variance over axes: the mean squared distance from the mean, over `count - correction` (PyTorch's
    /// default correction is 1).
    #[track_caller]
    pub fn var(&self, axes: &[impl Axis], correction: usize) -> Tensor {
        if !self.is_float("var") || self.axes("var", axes).is_none() {
            return self.clone();
        }
        let centred = self - self.mean(axes).keepdim(axes);
        let free = (self.count(axes) as f64 - correction as f64).max(0.0);
        centred.square().sum(axes) / free
    }

    /// The standard deviation over axes, with slope zero where it is zero.
    #[track_caller]
    pub fn std(&self, axes: &[impl Axis], correction: usize) -> Tensor {
        self.var(axes, correction).sqrt_or_zero()
    }

    /// The logarithm of the sum of exponentials over axes.
    #[track_caller]
    pub fn logsumexp(&self, axes: &[impl Axis]) -> Tensor {
        if self.axes("logsumexp", axes).is_none() {
            return self.clone();
        }
        if self.count(axes) == 0 {
            return self.exp().sum(axes).log();
        }
        let most = self.detach().amax(axes);
        // Nothing is subtracted where that would be infinity from infinity.
        let most = most.masked_fill(&most.is_inf(), 0.0);
        (self - most.keepdim(axes)).exp().sum(axes).log() + most
    }

    /// The `p`-norm over axes: `(sum |x|^p)^(1/p)`; infinity takes the largest magnitude, 0 counts what isn't
    /// zero. The slope at zero is zero.
    #[track_caller]
    pub fn norm(&self, p: f64, axes: &[impl Axis]) -> Tensor {
        if p == f64::INFINITY {
            return self.abs().amax(axes);
        }
        if p == 0.0 {
            return self.not_equal(&self.zeros_like()).to(DType::F32).sum(axes);
        }
        if p == 1.0 {
            return self.abs().sum(axes);
        }
        if p == 2.0 {
            return self.square().sum(axes).sqrt_or_zero();
        }
        if p.is_nan() || p < 0.0 {
            return self.refuse("norm", format!("there is no {p}-norm"));
        }
        self.abs().powf(p).sum(axes).root(p)
    }

    /// The `p`-th root, with value and slope zero at zero.
    #[track_caller]
    pub(crate) fn root(&self, p: f64) -> Tensor {
        let zero = self.zeros_like();
        let none = self.equal(&zero);
        none.select(&zero, &none.select(&self.ones_like(), self).powf(1.0 / p))
    }

    /// Whether anything over axes isn't zero or false.
    #[track_caller]
    pub fn any(&self, axes: &[impl Axis]) -> Tensor {
        self.to(DType::Bool).to(DType::U32).sum(axes).to(DType::Bool)
    }

    /// Whether nothing over axes is zero or false.
    #[track_caller]
    pub fn all(&self, axes: &[impl Axis]) -> Tensor {
        self.to(DType::Bool).not().any(axes).not()
    }

    /// The coordinate of the largest element along an axis, the first of equals, as `U32`. NaN counts as
    /// largest.
    #[track_caller]
    pub fn argmax(&self, axis: impl Axis) -> Tensor {
        self.place("argmax", axis, Combine::Max)
    }

    /// The coordinate of the smallest element along an axis, the first of equals, as `U32`. NaN counts as
    /// smallest.
    #[track_caller]
    pub fn argmin(&self, axis: impl Axis) -> Tensor {
        self.place("argmin", axis, Combine::Min)
    }

    #[track_caller]
    fn place(&self, operation: &str, axis: impl Axis, combine: Combine) -> Tensor {
        let Some(axis) = self.axis(operation, axis) else {
            return self.to(DType::U32);
        };
        let best = self.reduce(operation, combine, &[axis]).keepdim(&[axis]);
        let mut hit = best.equal(self);
        if self.dtype().loaded() == DType::F32 {
            hit = hit.or(&self.is_nan());
        }
        let place = self.along(axis);
        hit.select(&place, &place.full_like(f64::from(u32::MAX))).amin(&[axis])
    }

    /// The largest element along an axis, the first of equals, and its coordinate as `U32`. The gradient goes
    /// to that element.
    #[track_caller]
    pub fn max(&self, axis: impl Axis) -> (Tensor, Tensor) {
        let place = self.argmax(axis);
        (self.at(axis, &place), place)
    }

    /// The smallest element along an axis, the first of equals, and its coordinate as `U32`. The gradient
    /// goes to that element.
    #[track_caller]
    pub fn min(&self, axis: impl Axis) -> (Tensor, Tensor) {
        let place = self.argmin(axis);
        (self.at(axis, &place), place)
    }

    /// The elements at one coordinate for each line along an axis, which disappears.
    #[track_caller]
    fn at(&self, axis: impl Axis, place: &Tensor) -> Tensor {
        match self.axis("max", axis) {
            Some(axis) => self.gather(axis, &place.unsqueeze(axis)).squeeze(axis),
            None => self.clone(),
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    const PLACES: &str = "coordinates are integers";
    vec![
        case!("sum", [wide(&[3, 65, 2])], |_, x| vec![x[0].sum(&[1]), x[0].sum(&[-1, 0])]),
        case!("sum_all", [wide(&[3, 65])], |_, x| x[0].sum_all()),
        case!("mean", [wide(&[3, 65, 2])], |_, x| vec![x[0].mean(&[1]), x[0].mean(&[0, 2])]),
        case!("mean_all", [wide(&[3, 5])], |_, x| x[0].mean_all()),
        case!("prod", [wide(&[3, 5, 2])], |_, x| vec![x[0].prod(&[1]), x[0].prod(&[0, 2])]),
        case!("amax", [distinct(&[3, 65, 2])], |_, x| vec![x[0].amax(&[1]), x[0].amax(&[-1, 0])]),
        case!("amin", [distinct(&[3, 65, 2])], |_, x| vec![x[0].amin(&[1]), x[0].amin(&[-1, 0])]),
        case!("var", [wide(&[3, 65])], |_, x| vec![x[0].var(&[1], 1), x[0].var(&[0, 1], 0)]),
        case!("std", [wide(&[3, 65])], |_, x| vec![x[0].std(&[1], 1), x[0].std(&[0], 0)]),
        case!("logsumexp", [wide(&[3, 65])], |_, x| vec![
            x[0].logsumexp(&[1]),
            x[0].logsumexp(&[0, 1])
        ]),
        case!("norm", [distinct(&[3, 6])], |_, x| {
            let norm = |p| x[0].norm(p, &[1]);
            vec![norm(1.0), norm(2.0), norm(2.5), norm(f64::INFINITY)]
        }),
        case!("norm", [truth(&[3, 65])], |_, x| x[0].to(DType::F32).norm(0.0, &[0]))
            .flat("a count has no slope"),
        case!("any", [truth(&[65, 3])], |_, x| vec![x[0].any(&[1]), x[0].any(&[0])]).flat(PLACES),
        case!("all", [truth(&[65, 3])], |_, x| vec![x[0].all(&[1]), x[0].all(&[0])]).flat(PLACES),
        case!("argmax", [distinct(&[3, 65])], |_, x| vec![x[0].argmax(1), x[0].argmax(0)])
            .flat(PLACES),
        case!("argmin", [positive(&[3, 65])], |_, x| vec![x[0].argmin(-1), x[0].argmin(0)])
            .flat(PLACES),
        case!("max", [distinct(&[3, 65])], |_, x| x[0].max(1)),
        case!("min", [distinct(&[3, 65])], |_, x| x[0].min(0)),
    ]
}
