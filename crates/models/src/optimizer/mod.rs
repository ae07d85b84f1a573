//! Optimizers: the update of all parameters as functions of flat tensors. Where every number is
//! updated by itself, that is one kernel whatever the model.
//!
//! Names, arguments, defaults and formulas are PyTorch's, but that every rule is told its learning
//! rate. What all rules have is done once, by the [`crate::Updater`]: the sign of what is
//! maximised, weight decay, the rates of groups. A rule gets what is left to do.

mod adafactor;
mod adam;
mod adaptive;
mod by_parameter;
mod lamb;
mod lion;
mod muon;
mod rprop;
mod settings;
mod sgd;

pub use adafactor::Adafactor;
pub use adam::{Adam, AdamW, Adamax, NAdam, RAdam};
pub use adaptive::{Adadelta, Adagrad, RMSprop};
pub use lamb::Lamb;
pub use lion::Lion;
pub use muon::Muon;
pub use rprop::Rprop;
pub use sgd::{Asgd, Sgd};

use crate::Setting;
use crate::setting::not_negative;
use by_parameter::{by_parameter, norm, part, shrunk, states_by_parameter};
use settings::settings;
use shadegrad_device::numel;
use shadegrad_graph::{Init, Tensor};

/// Where weight decay acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// `weight_decay parameters` is added to the gradient.
    Gradient,
    /// Parameters shrink by `rate weight_decay` before the step (Loshchilov and Hutter, arXiv
    /// 1711.05101).
    Decoupled,
    /// The rule does it by itself, with the numbers that its [`Slot`]s say.
    Own,
}

/// What every rule has.
#[derive(Clone, Copy, Debug)]
pub struct Base {
    /// The learning rate, before the schedule.
    pub lr: f64,
    /// Weight decay of parameters whose group says nothing else.
    pub weight_decay: f64,
    /// Where it acts.
    pub decay: Decay,
    /// Whether the loss is to become large instead of small.
    pub maximize: bool,
}

impl Base {
    /// A rate, and no weight decay, which would be added to the gradient.
    pub fn new(lr: f64) -> Base {
        Base { lr, weight_decay: 0.0, decay: Decay::Gradient, maximize: false }
    }

    /// The same with decoupled weight decay.
    pub fn decoupled(lr: f64, weight_decay: f64) -> Base {
        Base { weight_decay, decay: Decay::Decoupled, ..Base::new(lr) }
    }

    pub(crate) fn check(&self) -> Result<(), Setting> {
        not_negative("lr", self.lr)?;
        not_negative("weight_decay", self.weight_decay)
    }
}

/// A parameter's place in the flat tensors, and what its group says.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its first element.
    pub offset: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What its learning rate is multiplied by.
    pub lr_multiplier: f64,
    /// Its weight decay.
    pub weight_decay: f64,
    /// Whether it keeps its value.
    pub frozen: bool,
}

impl Slot {
    /// How many numbers it has.
    pub fn count(&self) -> usize {
        numel(&self.shape)
    }
}

/// A tensor that an optimizer remembers from step to step.
#[derive(Clone, Debug)]
pub struct State {
    /// Its name, PyTorch's.
    pub name: &'static str,
    /// Its shape: one axis, or none for a scalar.
    pub shape: Vec<usize>,
    /// What it holds before the first step.
    pub init: Init,
}

impl State {
    /// A number for each of the parameters' numbers, with one value at first.
    pub fn each(slots: &[Slot], name: &'static str, value: f64) -> State {
        State::list(name, slots.iter().map(Slot::count).sum(), value)
    }

    /// So many numbers, with one value at first.
    pub fn list(name: &'static str, count: usize, value: f64) -> State {
        State { name, shape: vec![count], init: Init::Full(value) }
    }

    /// A single number.
    pub fn scalar(name: &'static str, value: f64) -> State {
        State { name, shape: vec![], init: Init::Full(value) }
    }
}

/// What an update is made from. Parameters and gradient are flat, one element for each number.
pub struct Update<'a> {
    /// The parameters; where weight decay is decoupled, shrunk by it.
    pub parameters: &'a Tensor,
    /// What to go against: the gradient of the loss, its sign changed for maximising, with the
    /// weight decay that is added to it.
    pub gradient: &'a Tensor,
    /// What the optimizer remembers.
    pub state: &'a [Tensor],
    /// The learning rate of this step: a scalar, or flat where groups have their own.
    pub rate: &'a Tensor,
    /// What the schedule multiplies learning rates by, a scalar.
    pub factor: &'a Tensor,
    /// The number of this update, from one, a float scalar.
    pub step: &'a Tensor,
    /// Where each parameter lies.
    pub slots: &'a [Slot],
}

impl Update<'_> {
    /// `1 - beta^step`, by which a moving average that began at zero falls short; once for all
    /// parameters.
    pub fn bias_correction(&self, beta: f64) -> Tensor {
        match beta {
            0.0 => self.step.ones_like(),
            beta => one_minus_exp(&(self.step * beta.ln())),
        }
    }

    /// Whether this is the first update.
    pub fn is_first(&self) -> Tensor {
        self.step.less_equal(&self.step.full_like(1.0))
    }

    /// What becomes of a learning rate for a parameter, a scalar.
    pub fn rate_of(&self, slot: &Slot, lr: f64) -> Tensor {
        self.factor * (lr * slot.lr_multiplier)
    }
}

/// What an update gives.
pub struct Updated {
    /// The new parameters.
    pub parameters: Tensor,
    /// What the optimizer remembers now.
    pub state: Vec<Tensor>,
}

/// A rule that makes parameters better.
pub trait Optimizer {
    /// Rate, weight decay and direction, which are applied for the rule.
    fn base(&self) -> &Base;
    /// What it remembers of parameters that lie in such places.
    fn state(&self, slots: &[Slot]) -> Vec<State>;
    /// Records the update.
    fn update(&self, u: &Update<'_>) -> Updated;
    /// Whether its own settings make sense.
    ///
    /// # Errors
    /// [`Setting`], naming the first that doesn't.
    fn check(&self) -> Result<(), Setting> {
        Ok(())
    }
}

impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn base(&self) -> &Base {
        (**self).base()
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        (**self).state(slots)
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        (**self).update(u)
    }

    fn check(&self) -> Result<(), Setting> {
        (**self).check()
    }
}

/// A moving average that a new value has joined: `beta average + (1 - beta) value`.
fn averaged(average: &Tensor, value: &Tensor, beta: f64) -> Tensor {
    average * beta + value * (1.0 - beta)
}

/// A constant base to a power that is computed, for bases above zero.
pub(crate) fn power(base: f64, exponent: &Tensor) -> Tensor {
    (exponent * base.ln()).exp()
}

/// A multiple, which for one is nothing to compute.
fn scaled(x: &Tensor, factor: f64) -> Tensor {
    if factor == 1.0 { x.clone() } else { x * factor }
}

/// `1 - exp(z)` for `z <= 0`: near zero by its series, where the difference would cancel.
fn one_minus_exp(z: &Tensor) -> Tensor {
    // z + z^2 / 2 + .. + z^8 / 8!, by Horner: at -0.5 the next term is 5e-9 of the sum.
    let mut series = z.full_like(1.0);
    for n in (2..=8).rev() {
        series = &series * z * (1.0 / f64::from(n)) + 1.0;
    }
    let near = -(&series * z);
    z.full_like(-0.5).less(z).select(&near, &(z.full_like(1.0) - z.exp()))
}
