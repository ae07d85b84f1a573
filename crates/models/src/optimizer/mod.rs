//! Optimizers: the update of all parameters as functions of flat tensors. Where every number is
//! updated by itself, that is one kernel whatever the model.
//!
//! Names, arguments, defaults and formulas are PyTorch's, but that every rule is told its learning
//! rate. What all rules have is done once, by the [`crate::Updater`]: the sign of what is
//! maximised, weight decay, the rates of groups. A rule gets what is left to do.

mod adafactor;
mod adam;
mod adaptive;
mod lamb;
mod lion;
mod muon;
mod rprop;
mod sgd;

pub use adafactor::Adafactor;
pub use adam::{Adam, AdamW, Adamax, NAdam, RAdam};
pub use adaptive::{Adadelta, Adagrad, RMSprop};
pub use lamb::Lamb;
pub use lion::Lion;
pub use muon::Muon;
pub use rprop::Rprop;
pub use sgd::{Asgd, Sgd};

use crate::setting::not_negative;
use crate::{Setting, get_total_norm};
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

/// Builder methods that several rules have: `settings!(Rule: eps, maximize)`, or of a rule that
/// keeps them in a field, `settings!(Rule.field: eps)`.
macro_rules! settings {
    ($rule:ident $(.$inner:tt)?: $($setting:ident),*) => {
        settings!(@all [$rule $(.$inner)?] $($setting)*);
    };
    (@all $of:tt $($setting:ident)*) => {
        $(settings!(@$setting $of);)*
    };
    (@betas [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Decay of the two moments.
            pub fn betas(mut self, first: f64, second: f64) -> $rule {
                self$(.$inner)?.betas = (first, second);
                self
            }
        }
    };
    (@eps [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Keeps what is divided by away from zero.
            pub fn eps(mut self, eps: f64) -> $rule {
                self$(.$inner)?.eps = eps;
                self
            }
        }
    };
    (@momentum [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// How much of the last step is kept in this one.
            pub fn momentum(mut self, momentum: f64) -> $rule {
                self$(.$inner)?.momentum = momentum;
                self
            }
        }
    };
    (@amsgrad [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Divides by the root of the largest second moment so far (Reddi, Kale and Kumar, arXiv
            /// 1904.09237).
            pub fn amsgrad(mut self) -> $rule {
                self$(.$inner)?.amsgrad = true;
                self
            }
        }
    };
    (@weight_decay [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Adds `weight_decay parameters` to the gradient.
            pub fn weight_decay(mut self, weight_decay: f64) -> $rule {
                self$(.$inner)?.base.weight_decay = weight_decay;
                self
            }
        }
    };
    (@decoupled_weight_decay [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Weight decay shrinks parameters by `rate weight_decay` instead of going into the gradient.
            pub fn decoupled_weight_decay(mut self) -> $rule {
                self$(.$inner)?.base.decay = $crate::optimizer::Decay::Decoupled;
                self
            }
        }
    };
    (@shrinking [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Parameters shrink by `rate weight_decay` at every step.
            pub fn weight_decay(mut self, weight_decay: f64) -> $rule {
                self$(.$inner)?.base.weight_decay = weight_decay;
                self
            }
        }
    };
    (@maximize [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Makes the loss large instead of small.
            pub fn maximize(mut self) -> $rule {
                self$(.$inner)?.base.maximize = true;
                self
            }
        }
    };
}
use settings;

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

/// How many elements of `N` kinds of state a parameter has.
type Lengths<const N: usize> = fn(&Slot) -> [usize; N];

/// How many elements all parameters have of each kind of state.
fn totals<const N: usize>(slots: &[Slot], lengths: Lengths<N>) -> [usize; N] {
    std::array::from_fn(|kind| slots.iter().map(|slot| lengths(slot)[kind]).sum())
}

/// State that lies one parameter after the other, zero at first: the kinds that any of them has.
fn states_by_parameter<const N: usize>(
    slots: &[Slot],
    names: [&'static str; N],
    lengths: Lengths<N>,
) -> Vec<State> {
    let kinds = names.into_iter().zip(totals(slots, lengths));
    kinds
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| State::list(name, count, 0.0))
        .collect()
}

/// Updates each parameter by itself. The rule is given a slot and its part of each kind of state,
/// and returns what these become and the parameter's new value, all flat. Frozen parameters keep
/// what they have.
fn by_parameter<const N: usize>(
    u: &Update<'_>,
    lengths: Lengths<N>,
    mut rule: impl FnMut(&Slot, &[Tensor; N]) -> (Tensor, [Tensor; N]),
) -> Updated {
    let mut kept = u.state.iter();
    // A kind that no parameter has is nowhere kept: of any tensor nothing is taken.
    let used = totals(u.slots, lengths).map(|count| count > 0);
    let old: [&Tensor; N] = used.map(|used| match used {
        true => kept.next().unwrap_or(u.gradient),
        false => u.gradient,
    });
    let mut starts = [0; N];
    let mut new: [Vec<Tensor>; N] = std::array::from_fn(|_| Vec::new());
    let mut parameters = Vec::new();
    for slot in u.slots {
        let counts = lengths(slot);
        let own = std::array::from_fn(|kind| old[kind].narrow(0, starts[kind], counts[kind]));
        let (value, state) = match slot.frozen {
            true => (part(u.parameters, slot), own),
            false => rule(slot, &own),
        };
        parameters.push(value);
        for (kind, state) in state.into_iter().enumerate() {
            new[kind].push(state);
            starts[kind] += counts[kind];
        }
    }
    let state = new.iter().zip(used).filter(|(_, used)| *used).map(|(parts, _)| packed(u, parts));
    Updated { parameters: packed(u, &parameters), state: state.collect() }
}

/// Tensors laid one after the other.
fn packed(u: &Update<'_>, parts: &[Tensor]) -> Tensor {
    u.parameters.graph().pack(&parts.iter().collect::<Vec<_>>())
}

/// A parameter that decoupled weight decay has shrunk.
fn shrunk(parameter: &Tensor, rate: &Tensor, weight_decay: f64) -> Tensor {
    match weight_decay {
        0.0 => parameter.clone(),
        decay => parameter * (rate.full_like(1.0) - rate * decay),
    }
}

/// The elements of a flat tensor that belong to a parameter, flat.
fn part(flat: &Tensor, slot: &Slot) -> Tensor {
    flat.narrow(0, slot.offset, slot.count())
}

/// The Euclidean norm of a tensor.
fn norm(x: &Tensor) -> Tensor {
    get_total_norm(x.graph(), std::slice::from_ref(x), 2.0)
}
