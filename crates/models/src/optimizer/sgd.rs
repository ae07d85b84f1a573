//! Stochastic gradient descent, with momentum, and averaged.

use super::{Base, Optimizer, Slot, State, Update, Updated, settings};
use crate::Setting;
use crate::setting::{not_negative, require};

/// Stochastic gradient descent with momentum, as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    base: Base,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

settings!(Sgd: weight_decay, maximize);

impl Sgd {
    /// Plain descent with a learning rate (PyTorch's default is 1e-3).
    pub fn new(lr: f64) -> Sgd {
        Sgd { base: Base::new(lr), momentum: 0.0, dampening: 0.0, nesterov: false }
    }

    /// `buffer = momentum buffer + (1 - dampening) gradient`; the buffer is the step.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// How much of the gradient the momentum buffer doesn't take, but at the first step.
    pub fn dampening(mut self, dampening: f64) -> Sgd {
        self.dampening = dampening;
        self
    }

    /// The step looks ahead: `gradient + momentum buffer`.
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }
}

impl Optimizer for Sgd {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        not_negative("momentum", self.momentum)?;
        require(self.dampening.is_finite(), "dampening", self.dampening, "finite")?;
        let plain = !self.nesterov || self.momentum > 0.0 && self.dampening == 0.0;
        let expected = "used with a momentum above 0 and a dampening of 0";
        require(plain, "nesterov", true, expected)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        match self.momentum {
            0.0 => vec![],
            _ => vec![State::each(slots, "momentum_buffer", 0.0)],
        }
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        if self.momentum == 0.0 {
            return Updated { parameters: u.parameters - u.gradient * u.rate, state: vec![] };
        }
        // The first step takes the whole gradient into the buffer.
        let share =
            u.is_first().select(&u.step.full_like(1.0), &u.step.full_like(1.0 - self.dampening));
        let buffer = &u.state[0] * self.momentum + u.gradient * share;
        let step =
            if self.nesterov { u.gradient + &buffer * self.momentum } else { buffer.clone() };
        Updated { parameters: u.parameters - step * u.rate, state: vec![buffer] }
    }
}

/// Averaged stochastic gradient descent (Polyak and Juditsky, *SIAM J. Control Optim.* 30, 1992),
/// as in PyTorch: at step `t`, from one,
///
/// ```text
/// eta        = rate / (1 + lambd rate (t - 1))^alpha
/// parameters = (1 - lambd eta) parameters - eta gradient
/// ax         = ax + (parameters - ax) / max(1, t - 1 - t0)
/// ```
///
/// The averages `ax` are state: see [`crate::Updater::state`]. `eta` follows a schedule at once,
/// where PyTorch's is a step behind.
#[derive(Clone, Copy, Debug)]
pub struct Asgd {
    base: Base,
    lambd: f64,
    alpha: f64,
    t0: f64,
}

settings!(Asgd: weight_decay, maximize);

impl Asgd {
    /// ASGD with a rate (PyTorch's default is 0.01), lambd 1e-4, alpha 0.75, t0 1e6.
    pub fn new(lr: f64) -> Asgd {
        Asgd { base: Base::new(lr), lambd: 1e-4, alpha: 0.75, t0: 1e6 }
    }

    /// How parameters and rate decay.
    pub fn lambd(mut self, lambd: f64) -> Asgd {
        self.lambd = lambd;
        self
    }

    /// The power of the rate's decay.
    pub fn alpha(mut self, alpha: f64) -> Asgd {
        self.alpha = alpha;
        self
    }

    /// The step after which averages are taken over more than the last parameters.
    pub fn t0(mut self, t0: f64) -> Asgd {
        self.t0 = t0;
        self
    }
}

impl Optimizer for Asgd {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        not_negative("lambd", self.lambd)?;
        not_negative("alpha", self.alpha)?;
        not_negative("t0", self.t0)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        vec![State::each(slots, "ax", 0.0)]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let before = u.step - 1.0;
        let slower = (u.rate * &before * self.lambd + 1.0).powf(self.alpha);
        let eta = u.rate / slower;
        let kept = eta.full_like(1.0) - &eta * self.lambd;
        let parameters = u.parameters * kept - u.gradient * eta;
        let number = &before - self.t0;
        let one = number.full_like(1.0);
        let further = &u.state[0] + (&parameters - &u.state[0]) / number.maximum(&one);
        // A copy where nothing is averaged yet, without rounding.
        let average = number.less_equal(&one).select(&parameters, &further);
        Updated { parameters, state: vec![average] }
    }
}
