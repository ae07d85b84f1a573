//! Random numbers. They are functions of a key and a counter, so they are the same on every device, and a
//! step's keys follow from its seed and number; see [`Graph::random_key`].

use super::Tensor;
use crate::Graph;
use crate::case;
use crate::catalog::{Case, index, wide};
use crate::ops::Scalar;
use shadegrad_device::{DType, numel};
use std::f64::consts::TAU;

impl Tensor {
    /// 32 random bits for the counter of each element, under a key; both `U32`.
    #[track_caller]
    pub fn random(&self, counter: &Tensor) -> Tensor {
        Tensor::scalar(Scalar::Random, &[self, counter])
    }

    /// Uniform numbers in `[0, 1)` in a shape, under this key (a `U32` scalar).
    #[track_caller]
    pub fn uniform(&self, shape: &[usize]) -> Tensor {
        let bits = self.random(&self.iota(numel(shape)).reshape(shape));
        // 24 bits: every number is exact in f32, and one is never reached.
        let high = bits.clone() / bits.full_like(256.0);
        high.to(DType::F32) * (1.0 / 16_777_216.0)
    }

    /// Normal numbers of mean 0 and variance 1 in a shape, under this key (a `U32` scalar), by the transform of Box
    /// and Muller (Ann. Math. Stat. 29, 1958). Of 24 bits, so none lies further out than 5.8.
    #[track_caller]
    pub fn normal(&self, shape: &[usize]) -> Tensor {
        let stream = |number| self.random(&self.full_like(number)).uniform(shape);
        // In (0, 1], so that the logarithm is finite.
        let radius = ((-stream(1.0) + 1.0).log() * -2.0).sqrt_or_zero();
        radius * (stream(2.0) * TAU).cos()
    }

    /// True with probability `p`, independently, in a shape, under this key (a `U32` scalar).
    #[track_caller]
    pub fn bernoulli(&self, shape: &[usize], p: f64) -> Tensor {
        if !(0.0..=1.0).contains(&p) {
            return self.refuse("bernoulli", format!("{p} is no probability"));
        }
        let drawn = self.uniform(shape);
        drawn.less(&drawn.full_like(p))
    }

    /// The numbers below `len` in random order, under this key (a `U32` scalar): a bijection, without a table.
    #[track_caller]
    pub fn permutation(&self, len: usize) -> Tensor {
        let place = self.iota(len);
        place.shuffle(&place.full_like(len as f64), self)
    }

    /// Where each index goes in the permutation of `0..length` that a key selects; all `U32`.
    #[track_caller]
    pub fn shuffle(&self, length: &Tensor, key: &Tensor) -> Tensor {
        Tensor::scalar(Scalar::Shuffle, &[self, length, key])
    }

    /// In training each element is zero with probability `p`, and the others are scaled by `1 / (1 - p)`; else
    /// nothing happens (Srivastava et al., JMLR 15, 2014). The mask is made wherever it is needed, and never
    /// stored.
    #[track_caller]
    pub fn dropout(&self, p: f64) -> Tensor {
        self.dropped("dropout", p, self.shape())
    }

    /// [`Tensor::dropout`] of whole channels of `[batch, channels, ..]` (Tompson et al., arXiv 1411.4280).
    #[track_caller]
    pub fn dropout2d(&self, p: f64) -> Tensor {
        let shape = self.shape();
        if shape.len() < 2 {
            return self.refuse("dropout2d", "takes [batch, channels, ..]");
        }
        let mut mask = vec![1; shape.len()];
        mask[..2].copy_from_slice(&shape[..2]);
        self.dropped("dropout2d", p, mask)
    }

    #[track_caller]
    fn dropped(&self, operation: &str, p: f64, mask: Vec<usize>) -> Tensor {
        if !(0.0..=1.0).contains(&p) {
            return self.refuse(operation, format!("{p} is no probability"));
        }
        if !self.graph().is_training() || p == 0.0 {
            return self.clone();
        }
        let dropped = self.graph().random_key().bernoulli(&mask, p);
        // With probability one, nothing is left to be scaled.
        let scale = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        dropped.select(&self.zeros_like(), &(self * scale))
    }
}

impl Graph {
    /// A key for random numbers that differs for every call and every step, as a `U32` scalar.
    #[track_caller]
    pub fn random_key(&self) -> Tensor {
        let stream = self.next_stream();
        let stream = self.full(&[], DType::U32, f64::from(stream));
        self.seed().random(&self.step()).random(&stream)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    const DRAWN: &str = "random numbers don't depend on anything";
    vec![
        case!("random", [index(&[], 9), index(&[65], 99)], |_, x| x[0].random(&x[1])).flat(DRAWN),
        case!("uniform", [index(&[], 99)], |_, x| x[0].uniform(&[3, 65])).flat(DRAWN),
        case!("normal", [index(&[], 99)], |_, x| x[0].normal(&[3, 65])).flat(DRAWN),
        case!("bernoulli", [index(&[], 99)], |_, x| x[0].bernoulli(&[3, 65], 0.3)).flat(DRAWN),
        case!("permutation", [index(&[], 99)], |_, x| x[0].permutation(65)).flat(DRAWN),
        case!("shuffle", [index(&[65], 65), index(&[], 99)], |_, x| {
            x[0].shuffle(&x[0].full_like(65.0), &x[1])
        })
        .flat(DRAWN),
        case!("dropout", [wide(&[3, 65])], |_, x| x[0].dropout(0.3)),
        case!("dropout2d", [wide(&[3, 5, 4])], |_, x| x[0].dropout2d(0.3)),
        case!("random_key", [], |g, _| g.random_key()).flat(DRAWN),
    ]
}
