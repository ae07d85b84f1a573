//! Adam for large batches: each parameter moves by a share of its own norm.

use super::adam::{check_moments, moment_states, moments};
use super::{
    Base, Decay, Optimizer, Slot, State, Update, Updated, by_parameter, norm, part, scaled,
    settings,
};
use crate::Setting;

/// LAMB (You et al., arXiv 1904.00962, algorithm 2, with the identity as the scaling function):
///
/// ```text
/// update     = m / (sqrt(v) + eps) + weight_decay parameters      m, v: Adam's moments, corrected
/// parameters = parameters - rate (norm(parameters) / norm(update)) update
/// ```
///
/// Norms are those of one tensor of the model at a time; where one is zero, their quotient is one.
#[derive(Clone, Copy, Debug)]
pub struct Lamb {
    base: Base,
    betas: (f64, f64),
    eps: f64,
}

settings!(Lamb: betas, eps, maximize);

impl Lamb {
    /// LAMB with a rate (the paper's are up to 0.02), betas 0.9 and 0.999, eps 1e-6, weight decay
    /// 0.01.
    pub fn new(lr: f64) -> Lamb {
        let base = Base { weight_decay: 0.01, decay: Decay::Own, ..Base::new(lr) };
        Lamb { base, betas: (0.9, 0.999), eps: 1e-6 }
    }

    /// Adds `weight_decay parameters` to what Adam gives.
    pub fn weight_decay(mut self, weight_decay: f64) -> Lamb {
        self.base.weight_decay = weight_decay;
        self
    }
}

impl Optimizer for Lamb {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        check_moments(self.betas, self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        moment_states(slots)
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let (b1, b2) = self.betas;
        let [first, second] = moments(u, self.betas);
        let root = (&second / u.bias_correction(b2)).sqrt() + self.eps;
        let adam = &first / u.bias_correction(b1) / root;
        let updated = by_parameter(
            u,
            |_| [],
            |slot, []| {
                let old = part(u.parameters, slot);
                let mut step = part(&adam, slot);
                if slot.weight_decay != 0.0 {
                    step = step + scaled(&old, slot.weight_decay);
                }
                let (own, new) = (norm(&old), norm(&step));
                let zero = own.full_like(0.0);
                let both = zero.less(&own).and(&zero.less(&new));
                let trust = both.select(&(own / new), &zero.full_like(1.0));
                (&old - step * (u.rate_of(slot, self.base.lr) * trust), [])
            },
        );
        Updated { state: vec![first, second], ..updated }
    }
}
