//! Steps of one length, in the direction of signs.

use super::{Base, Optimizer, Slot, State, Update, Updated, averaged, settings};
use crate::Setting;
use crate::setting::shares;

/// Lion (Chen et al., arXiv 2302.06675, algorithm 2):
///
/// ```text
/// parameters = parameters - rate (sign(b1 exp_avg + (1 - b1) gradient) + weight_decay parameters)
/// exp_avg    = b2 exp_avg + (1 - b2) gradient
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lion {
    base: Base,
    betas: (f64, f64),
}

settings!(Lion: betas, shrinking, maximize);

impl Lion {
    /// Lion with a rate (the paper's are three to ten times below Adam's, such as 1e-4), betas 0.9
    /// and 0.99, no weight decay.
    pub fn new(lr: f64) -> Lion {
        Lion { base: Base::decoupled(lr, 0.0), betas: (0.9, 0.99) }
    }
}

impl Optimizer for Lion {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        shares("betas", self.betas)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        vec![State::each(slots, "exp_avg", 0.0)]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let direction = averaged(&u.state[0], u.gradient, self.betas.0).sign();
        let average = averaged(&u.state[0], u.gradient, self.betas.1);
        Updated { parameters: u.parameters - direction * u.rate, state: vec![average] }
    }
}
