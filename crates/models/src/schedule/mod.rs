//! Learning-rate schedules, computed on the device from the number of updates so far.
//!
//! A schedule gives what the optimizer's rate is multiplied by, so whatever PyTorch gives as a rate
//! (`eta_min`, `max_lr`, `min_lr`) is here a multiple of the optimizer's. Formulas are closed in the
//! step: nothing is remembered, but by [`ReduceLROnPlateau`]. Steps are exact up to 2^24.

mod cycle;
mod decay;
mod plateau;

pub use cycle::{Cosine, CosineAnnealingLR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR};
pub use decay::{ConstantLR, ExponentialLR, LinearLR, MultiStepLR, Noam, PolynomialLR, StepLR};
pub use plateau::ReduceLROnPlateau;

use crate::Setting;
use shadegrad_graph::{GraphError, Session, Tensor, Variable};

/// What the learning rate is multiplied by.
pub trait Schedule {
    /// The factor at a step, counted from zero, both float scalars.
    fn factor(&self, step: &Tensor) -> Tensor;
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// [`Setting`], naming the first that doesn't.
    fn check(&self) -> Result<(), Setting> {
        Ok(())
    }
    /// Records what the schedule learns from the loss of a step; most learn nothing.
    fn observe(&self, _loss: &Tensor) {}
    /// What is remembered from step to step; most remember nothing.
    fn state(&self) -> Vec<Variable> {
        vec![]
    }
    /// Is told by the host what a validation gave: the loss, and the score that says which weights are best.
    ///
    /// # Errors
    /// What the device reports.
    fn validated(&self, _session: &mut Session, _loss: f64, _score: f64) -> Result<(), GraphError> {
        Ok(())
    }
}

/// One, always.
#[derive(Clone, Copy, Debug)]
pub struct Constant;

impl Schedule for Constant {
    fn factor(&self, step: &Tensor) -> Tensor {
        step.full_like(1.0)
    }
}

/// From `1 / steps` to one in equal steps, then another schedule from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct WarmUp<S> {
    /// Steps until the full rate.
    pub steps: usize,
    /// What comes after.
    pub then: S,
}

impl<S: Schedule> Schedule for WarmUp<S> {
    fn factor(&self, step: &Tensor) -> Tensor {
        if self.steps == 0 {
            return self.then.factor(step);
        }
        let rising = (step + 1.0) * (1.0 / self.steps as f64);
        switched(step, self.steps, &rising, &self.then)
    }

    fn check(&self) -> Result<(), Setting> {
        self.then.check()
    }

    fn observe(&self, loss: &Tensor) {
        self.then.observe(loss);
    }

    fn state(&self) -> Vec<Variable> {
        self.then.state()
    }

    fn validated(&self, session: &mut Session, loss: f64, score: f64) -> Result<(), GraphError> {
        self.then.validated(session, loss, score)
    }
}

/// One schedule up to a step, then another from its beginning, as PyTorch's `SequentialLR` of two:
/// a third is the second's second.
#[derive(Clone, Copy, Debug)]
pub struct SequentialLR<A, B> {
    first: A,
    milestone: usize,
    then: B,
}

impl<A, B> SequentialLR<A, B> {
    /// `first` for `milestone` steps, then the other.
    pub fn new(first: A, milestone: usize, then: B) -> SequentialLR<A, B> {
        SequentialLR { first, milestone, then }
    }
}

impl<A: Schedule, B: Schedule> Schedule for SequentialLR<A, B> {
    fn factor(&self, step: &Tensor) -> Tensor {
        switched(step, self.milestone, &self.first.factor(step), &self.then)
    }

    fn check(&self) -> Result<(), Setting> {
        self.first.check()?;
        self.then.check()
    }

    fn observe(&self, loss: &Tensor) {
        self.first.observe(loss);
        self.then.observe(loss);
    }

    fn state(&self) -> Vec<Variable> {
        [self.first.state(), self.then.state()].concat()
    }

    fn validated(&self, session: &mut Session, loss: f64, score: f64) -> Result<(), GraphError> {
        self.first.validated(session, loss, score)?;
        self.then.validated(session, loss, score)
    }
}

/// A factor for some steps, then a schedule from its beginning.
fn switched(step: &Tensor, steps: usize, first: &Tensor, then: &impl Schedule) -> Tensor {
    let steps = steps as f64;
    let later = then.factor(&(step - steps).relu());
    step.less(&step.full_like(steps)).select(first, &later)
}

/// How much of `steps` steps has passed: from zero to one, and then one.
fn progress(step: &Tensor, steps: f64) -> Tensor {
    (step * (1.0 / steps)).minimum(&step.full_like(1.0))
}

/// From `from` to `to` as a share goes from zero to one.
fn between(from: f64, to: f64, share: &Tensor) -> Tensor {
    share * (to - from) + from
}

impl<S: Schedule + ?Sized> Schedule for Box<S> {
    fn factor(&self, step: &Tensor) -> Tensor {
        (**self).factor(step)
    }

    fn check(&self) -> Result<(), Setting> {
        (**self).check()
    }

    fn observe(&self, loss: &Tensor) {
        (**self).observe(loss);
    }

    fn state(&self) -> Vec<Variable> {
        (**self).state()
    }

    fn validated(&self, session: &mut Session, loss: f64, score: f64) -> Result<(), GraphError> {
        (**self).validated(session, loss, score)
    }
}
