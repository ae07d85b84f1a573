//! A rate for each number, from the squares of its gradients.

use super::{Base, Optimizer, Slot, State, Update, Updated, averaged, settings};
use crate::Setting;
use crate::setting::{not_negative, share};

/// Adagrad (Duchi, Hazan and Singer, *JMLR* 12, 2011), as in PyTorch: the gradient is divided by
/// the root of the sum of all squares so far.
#[derive(Clone, Copy, Debug)]
pub struct Adagrad {
    base: Base,
    lr_decay: f64,
    initial_accumulator_value: f64,
    eps: f64,
}

settings!(Adagrad: eps, weight_decay, maximize);

impl Adagrad {
    /// Adagrad with a rate (PyTorch's default is 0.01), no decay of it, sums that begin at zero,
    /// eps 1e-10, no weight decay.
    pub fn new(lr: f64) -> Adagrad {
        Adagrad { base: Base::new(lr), lr_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10 }
    }

    /// At step `t`, from one, the rate is divided by `1 + (t - 1) lr_decay`.
    pub fn lr_decay(mut self, lr_decay: f64) -> Adagrad {
        self.lr_decay = lr_decay;
        self
    }

    /// What the sums of squares begin with.
    pub fn initial_accumulator_value(mut self, value: f64) -> Adagrad {
        self.initial_accumulator_value = value;
        self
    }
}

impl Optimizer for Adagrad {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        not_negative("lr_decay", self.lr_decay)?;
        not_negative("initial_accumulator_value", self.initial_accumulator_value)?;
        not_negative("eps", self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        vec![State::each(slots, "sum", self.initial_accumulator_value)]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let rate = match self.lr_decay {
            0.0 => u.rate.clone(),
            decay => u.rate / ((u.step - 1.0) * decay + 1.0),
        };
        let sum = &u.state[0] + u.gradient * u.gradient;
        let step = u.gradient / (sum.sqrt() + self.eps) * rate;
        Updated { parameters: u.parameters - step, state: vec![sum] }
    }
}

/// Adadelta (Zeiler, arXiv 1212.5701), as in PyTorch: steps in the units of the parameters, from
/// averages of squared gradients and squared steps.
#[derive(Clone, Copy, Debug)]
pub struct Adadelta {
    base: Base,
    rho: f64,
    eps: f64,
}

settings!(Adadelta: eps, weight_decay, maximize);

impl Adadelta {
    /// Adadelta with a rate (PyTorch's default is 1), rho 0.9, eps 1e-6, no weight decay.
    pub fn new(lr: f64) -> Adadelta {
        Adadelta { base: Base::new(lr), rho: 0.9, eps: 1e-6 }
    }

    /// Decay of the averages.
    pub fn rho(mut self, rho: f64) -> Adadelta {
        self.rho = rho;
        self
    }
}

impl Optimizer for Adadelta {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        share("rho", self.rho)?;
        not_negative("eps", self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        vec![State::each(slots, "square_avg", 0.0), State::each(slots, "acc_delta", 0.0)]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let squares = averaged(&u.state[0], &(u.gradient * u.gradient), self.rho);
        let root = (&squares + self.eps).sqrt();
        let step = (&u.state[1] + self.eps).sqrt() / root * u.gradient;
        let steps = averaged(&u.state[1], &(&step * &step), self.rho);
        Updated { parameters: u.parameters - step * u.rate, state: vec![squares, steps] }
    }
}

/// RMSprop (Hinton, *Neural Networks for Machine Learning*, lecture 6, 2012; centred: Graves, arXiv
/// 1308.0850), as in PyTorch: the gradient is divided by the root of a moving average of its square.
#[derive(Clone, Copy, Debug)]
pub struct RMSprop {
    base: Base,
    alpha: f64,
    eps: f64,
    momentum: f64,
    centered: bool,
}

settings!(RMSprop: eps, momentum, weight_decay, maximize);

impl RMSprop {
    /// RMSprop with a rate (PyTorch's default is 0.01), alpha 0.99, eps 1e-8, no momentum, no
    /// weight decay, not centred.
    pub fn new(lr: f64) -> RMSprop {
        RMSprop { base: Base::new(lr), alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false }
    }

    /// Decay of the averages.
    pub fn alpha(mut self, alpha: f64) -> RMSprop {
        self.alpha = alpha;
        self
    }

    /// Divides by the deviation of the gradient: the average's square is taken off the average of
    /// squares.
    pub fn centered(mut self) -> RMSprop {
        self.centered = true;
        self
    }
}

impl Optimizer for RMSprop {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        share("alpha", self.alpha)?;
        not_negative("momentum", self.momentum)?;
        not_negative("eps", self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        let more = [(self.momentum > 0.0, "momentum_buffer"), (self.centered, "grad_avg")];
        let more = more.into_iter().filter(|(used, _)| *used).map(|(_, name)| name);
        let names = ["square_avg"].into_iter().chain(more);
        names.map(|name| State::each(slots, name, 0.0)).collect()
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let squares = averaged(&u.state[0], &(u.gradient * u.gradient), self.alpha);
        let average = self.centered.then(|| {
            let last = &u.state[u.state.len() - 1];
            averaged(last, u.gradient, self.alpha)
        });
        let variance = match &average {
            // Where gradients hardly change, rounding could make it negative.
            Some(average) => (&squares - average * average).relu(),
            None => squares.clone(),
        };
        let mut step = u.gradient / (variance.sqrt() + self.eps);
        let mut state = vec![squares];
        if self.momentum > 0.0 {
            step = &u.state[1] * self.momentum + step;
            state.push(step.clone());
        }
        state.extend(average);
        Updated { parameters: u.parameters - step * u.rate, state }
    }
}
