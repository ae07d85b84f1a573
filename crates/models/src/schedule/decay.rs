//! Schedules that go one way.

use super::{Schedule, between, progress};
use crate::Setting;
use crate::optimizer::power;
use crate::setting::{not_negative, positive, require, steps};
use shadegrad_graph::Tensor;

/// `gamma` to the number of times that `step_size` steps have passed.
#[derive(Clone, Copy, Debug)]
pub struct StepLR {
    step_size: usize,
    gamma: f64,
}

impl StepLR {
    /// With a gamma of 0.1.
    pub fn new(step_size: usize) -> StepLR {
        StepLR { step_size, gamma: 0.1 }
    }

    /// What the rate is multiplied by each time.
    pub fn gamma(mut self, gamma: f64) -> StepLR {
        self.gamma = gamma;
        self
    }
}

impl Schedule for StepLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let size = self.step_size as f64;
        // A whole number, but for the division's rounding.
        let times = ((step - step.remainder(&step.full_like(size))) / size).round();
        power(self.gamma, &times)
    }

    fn check(&self) -> Result<(), Setting> {
        steps("step_size", self.step_size)?;
        positive("gamma", self.gamma)
    }
}

/// `gamma` to the number of milestones that have been reached.
#[derive(Clone, Debug)]
pub struct MultiStepLR {
    milestones: Vec<usize>,
    gamma: f64,
}

impl MultiStepLR {
    /// With a gamma of 0.1; the order of the milestones doesn't matter.
    pub fn new(milestones: &[usize]) -> MultiStepLR {
        let mut milestones = milestones.to_vec();
        milestones.sort_unstable();
        MultiStepLR { milestones, gamma: 0.1 }
    }

    /// What the rate is multiplied by at each milestone.
    pub fn gamma(mut self, gamma: f64) -> MultiStepLR {
        self.gamma = gamma;
        self
    }
}

impl Schedule for MultiStepLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let (mut factor, mut value) = (step.full_like(1.0), 1.0);
        for milestone in &self.milestones {
            value *= self.gamma;
            let before = step.less(&step.full_like(*milestone as f64));
            factor = before.select(&factor, &step.full_like(value));
        }
        factor
    }

    fn check(&self) -> Result<(), Setting> {
        positive("gamma", self.gamma)
    }
}

/// `gamma` to the number of steps.
#[derive(Clone, Copy, Debug)]
pub struct ExponentialLR {
    gamma: f64,
}

impl ExponentialLR {
    /// With what the rate is multiplied by at each step.
    pub fn new(gamma: f64) -> ExponentialLR {
        ExponentialLR { gamma }
    }
}

impl Schedule for ExponentialLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        power(self.gamma, step)
    }

    fn check(&self) -> Result<(), Setting> {
        positive("gamma", self.gamma)
    }
}

/// `(1 - step / total_iters)^power`, then zero.
#[derive(Clone, Copy, Debug)]
pub struct PolynomialLR {
    total_iters: usize,
    power: f64,
}

impl PolynomialLR {
    /// With a power of one (PyTorch's default for `total_iters` is 5).
    pub fn new(total_iters: usize) -> PolynomialLR {
        PolynomialLR { total_iters, power: 1.0 }
    }

    /// The power of what is left.
    pub fn power(mut self, power: f64) -> PolynomialLR {
        self.power = power;
        self
    }
}

impl Schedule for PolynomialLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let left = step.full_like(1.0) - progress(step, self.total_iters as f64);
        left.powf(self.power)
    }

    fn check(&self) -> Result<(), Setting> {
        steps("total_iters", self.total_iters)?;
        not_negative("power", self.power)
    }
}

/// From `start_factor` to `end_factor` in equal steps.
#[derive(Clone, Copy, Debug)]
pub struct LinearLR {
    start_factor: f64,
    end_factor: f64,
    total_iters: usize,
}

impl LinearLR {
    /// From a third to one (PyTorch's default for `total_iters` is 5).
    pub fn new(total_iters: usize) -> LinearLR {
        LinearLR { start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters }
    }

    /// The first factor.
    pub fn start_factor(mut self, start_factor: f64) -> LinearLR {
        self.start_factor = start_factor;
        self
    }

    /// The factor after `total_iters` steps.
    pub fn end_factor(mut self, end_factor: f64) -> LinearLR {
        self.end_factor = end_factor;
        self
    }
}

impl Schedule for LinearLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        between(self.start_factor, self.end_factor, &progress(step, self.total_iters as f64))
    }

    fn check(&self) -> Result<(), Setting> {
        steps("total_iters", self.total_iters)?;
        not_negative("start_factor", self.start_factor)?;
        not_negative("end_factor", self.end_factor)
    }
}

/// A factor for some steps, then one.
#[derive(Clone, Copy, Debug)]
pub struct ConstantLR {
    factor: f64,
    total_iters: usize,
}

impl ConstantLR {
    /// With a factor of a third (PyTorch's default for `total_iters` is 5).
    pub fn new(total_iters: usize) -> ConstantLR {
        ConstantLR { factor: 1.0 / 3.0, total_iters }
    }

    /// The factor of the first `total_iters` steps.
    pub fn factor(mut self, factor: f64) -> ConstantLR {
        self.factor = factor;
        self
    }
}

impl Schedule for ConstantLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let first = step.less(&step.full_like(self.total_iters as f64));
        first.select(&step.full_like(self.factor), &step.full_like(1.0))
    }

    fn check(&self) -> Result<(), Setting> {
        not_negative("factor", self.factor)
    }
}

/// The schedule of the first transformers (Vaswani et al., arXiv 1706.03762, section 5.3), at step
/// `t` from one: `d_model^-1/2 min(t^-1/2, t warmup^-3/2)`. It rises for `warmup` steps, then falls
/// with the root of the step.
#[derive(Clone, Copy, Debug)]
pub struct Noam {
    d_model: usize,
    warmup: usize,
}

impl Noam {
    /// With the width of the model and the steps until the highest rate (4000 in the paper).
    pub fn new(d_model: usize, warmup: usize) -> Noam {
        Noam { d_model, warmup }
    }
}

impl Schedule for Noam {
    fn factor(&self, step: &Tensor) -> Tensor {
        let number = step + 1.0;
        let (width, warmup) = (self.d_model as f64, self.warmup as f64);
        let rising = &number * warmup.powf(-1.5);
        number.rsqrt().minimum(&rising) * width.powf(-0.5)
    }

    fn check(&self) -> Result<(), Setting> {
        require(self.d_model > 0, "d_model", self.d_model, "at least 1")?;
        steps("warmup", self.warmup)
    }
}
