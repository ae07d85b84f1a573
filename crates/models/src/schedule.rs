//! Learning-rate schedules, computed on the device from the step counter.

use shadegrad_graph::Tensor;

/// What the learning rate is multiplied by.
pub trait Schedule {
    /// The factor at a step, counted from zero, both float scalars.
    fn factor(&self, step: &Tensor) -> Tensor;
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
        let steps = self.steps as f64;
        let rising = (step + 1.0) * (1.0 / steps);
        let later = self.then.factor(&(step - steps).relu());
        step.less(&step.full_like(steps)).select(&rising, &later)
    }
}

/// From one to `floor` along half a cosine over `steps` steps, then `floor`
/// (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
#[derive(Clone, Copy, Debug)]
pub struct Cosine {
    /// Steps until the floor.
    pub steps: usize,
    /// The last factor.
    pub floor: f64,
}

impl Schedule for Cosine {
    fn factor(&self, step: &Tensor) -> Tensor {
        let progress = (step * (1.0 / self.steps.max(1) as f64)).minimum(&step.full_like(1.0));
        let wave = (progress * std::f64::consts::PI).cos() * 0.5 + 0.5;
        wave * (1.0 - self.floor) + self.floor
    }
}

impl<S: Schedule + ?Sized> Schedule for Box<S> {
    fn factor(&self, step: &Tensor) -> Tensor {
        (**self).factor(step)
    }
}
