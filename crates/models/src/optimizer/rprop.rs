//! Steps that depend on the gradient's sign alone.

use super::{Base, Optimizer, Slot, State, Update, Updated, settings};
use crate::Setting;
use crate::setting::require;
use shadegrad_graph::Init;

/// Resilient backpropagation (Riedmiller and Braun, *IEEE Int. Conf. Neural Networks*, 1993), as in
/// PyTorch: each number has a step of its own, which grows while the gradient keeps its sign and
/// shrinks where it changes; there the number stays for once. The rate is the first step; a
/// schedule changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Rprop {
    base: Base,
    etas: (f64, f64),
    step_sizes: (f64, f64),
}

settings!(Rprop: maximize);

impl Rprop {
    /// Rprop with first steps (PyTorch's default is 0.01), factors 0.5 and 1.2, steps from 1e-6 to
    /// 50.
    pub fn new(lr: f64) -> Rprop {
        Rprop { base: Base::new(lr), etas: (0.5, 1.2), step_sizes: (1e-6, 50.0) }
    }

    /// What steps are multiplied by where the gradient changes its sign, and where it keeps it.
    pub fn etas(mut self, minus: f64, plus: f64) -> Rprop {
        self.etas = (minus, plus);
        self
    }

    /// The smallest and the largest step.
    pub fn step_sizes(mut self, smallest: f64, largest: f64) -> Rprop {
        self.step_sizes = (smallest, largest);
        self
    }
}

impl Optimizer for Rprop {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        let (minus, plus) = self.etas;
        require(minus > 0.0 && minus < 1.0, "etas.0", minus, "above 0 and less than 1")?;
        require(plus > 1.0 && plus.is_finite(), "etas.1", plus, "finite and above 1")?;
        let (low, high) = self.step_sizes;
        let expected = "two finite numbers, the second at least as large as the first";
        let ordered = low >= 0.0 && low <= high && high.is_finite();
        require(ordered, "step_sizes", format!("{low}, {high}"), expected)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        let first = |slot: &Slot| (slot.count(), Init::Full(self.base.lr * slot.lr_multiplier));
        let sizes = State::each(slots, "step_size", self.base.lr);
        let init = Init::Concat(slots.iter().map(first).collect());
        vec![State::each(slots, "prev", 0.0), State { init, ..sizes }]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let zero = u.gradient.full_like(0.0);
        // Of the signs: a product of small gradients would be zero.
        let agree = u.gradient.sign() * u.state[0].sign();
        let turned = agree.less(&zero);
        let grown = zero.less(&agree).select(&zero.full_like(self.etas.1), &zero.full_like(1.0));
        let factor = turned.select(&zero.full_like(self.etas.0), &grown);
        let size = (&u.state[1] * factor).clamp(self.step_sizes.0, self.step_sizes.1);
        let gradient = turned.select(&zero, u.gradient);
        let parameters = u.parameters - gradient.sign() * &size;
        Updated { parameters, state: vec![gradient, size] }
    }
}
