//! Schedules that go down along a cosine, and those that go up and down.

use super::{Schedule, between, progress};
use crate::Setting;
use crate::setting::{not_negative, positive, require, steps};
use shadegrad_graph::Tensor;
use std::f64::consts::PI;

/// Half a cosine wave, from one to zero and back as `halves` goes from zero to one and to two.
fn wave(halves: &Tensor) -> Tensor {
    (halves * PI).cos() * 0.5 + 0.5
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
        between(self.floor, 1.0, &wave(&progress(step, self.steps.max(1) as f64)))
    }

    fn check(&self) -> Result<(), Setting> {
        not_negative("floor", self.floor)
    }
}

/// From one to `eta_min` along half a cosine over `T_max` steps, then back, and so on, as PyTorch's.
/// [`Cosine`] stays at the end.
#[derive(Clone, Copy, Debug)]
pub struct CosineAnnealingLR {
    t_max: usize,
    eta_min: f64,
}

impl CosineAnnealingLR {
    /// Down to zero in `t_max` steps.
    pub fn new(t_max: usize) -> CosineAnnealingLR {
        CosineAnnealingLR { t_max, eta_min: 0.0 }
    }

    /// The lowest factor.
    pub fn eta_min(mut self, eta_min: f64) -> CosineAnnealingLR {
        self.eta_min = eta_min;
        self
    }
}

impl Schedule for CosineAnnealingLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let half = self.t_max as f64;
        // The remainder is exact, where the cosine of a large number would not be.
        let place = step.remainder(&step.full_like(2.0 * half));
        between(self.eta_min, 1.0, &wave(&(place * (1.0 / half))))
    }

    fn check(&self) -> Result<(), Setting> {
        steps("T_max", self.t_max)?;
        not_negative("eta_min", self.eta_min)
    }
}

/// From one to `eta_min` along half a cosine, again and again: the first time over `T_0` steps, each
/// next time over `T_mult` times as many (Loshchilov and Hutter, arXiv 1608.03983).
#[derive(Clone, Copy, Debug)]
pub struct CosineAnnealingWarmRestarts {
    t_0: usize,
    t_mult: usize,
    eta_min: f64,
}

impl CosineAnnealingWarmRestarts {
    /// Down to zero in `t_0` steps, with a `T_mult` of one.
    pub fn new(t_0: usize) -> CosineAnnealingWarmRestarts {
        CosineAnnealingWarmRestarts { t_0, t_mult: 1, eta_min: 0.0 }
    }

    /// How much longer each fall is than the last.
    pub fn t_mult(mut self, t_mult: usize) -> CosineAnnealingWarmRestarts {
        self.t_mult = t_mult;
        self
    }

    /// The lowest factor.
    pub fn eta_min(mut self, eta_min: f64) -> CosineAnnealingWarmRestarts {
        self.eta_min = eta_min;
        self
    }
}

impl Schedule for CosineAnnealingWarmRestarts {
    fn factor(&self, step: &Tensor) -> Tensor {
        let first = self.t_0 as f64;
        let passed = match self.t_mult {
            1 => step.remainder(&step.full_like(first)) * (1.0 / first),
            mult => {
                // As many falls as steps can be counted, at most 24; a logarithm would be off by
                // one at some restarts.
                let (mut start, mut length) = (0.0, first);
                let mut passed = step * (1.0 / length);
                while start + length < 16_777_216.0 {
                    start += length;
                    length *= mult as f64;
                    let later = (step - start) * (1.0 / length);
                    passed = step.less(&step.full_like(start)).select(&passed, &later);
                }
                passed
            }
        };
        between(self.eta_min, 1.0, &wave(&passed))
    }

    fn check(&self) -> Result<(), Setting> {
        steps("T_0", self.t_0)?;
        steps("T_mult", self.t_mult)?;
        not_negative("eta_min", self.eta_min)
    }
}

/// From one up to `max_factor` in equal steps and down again, and so on (Smith, arXiv 1506.01186,
/// the triangular policy). The optimizer's rate is PyTorch's `base_lr`, and `max_factor` is
/// `max_lr / base_lr`.
#[derive(Clone, Copy, Debug)]
pub struct CyclicLR {
    max_factor: f64,
    step_size_up: usize,
    step_size_down: Option<usize>,
}

impl CyclicLR {
    /// Up in 2000 steps and down in as many.
    pub fn new(max_factor: f64) -> CyclicLR {
        CyclicLR { max_factor, step_size_up: 2000, step_size_down: None }
    }

    /// Steps of the way up.
    pub fn step_size_up(mut self, step_size_up: usize) -> CyclicLR {
        self.step_size_up = step_size_up;
        self
    }

    /// Steps of the way down, unless they are as many as those up.
    pub fn step_size_down(mut self, step_size_down: usize) -> CyclicLR {
        self.step_size_down = Some(step_size_down);
        self
    }
}

impl Schedule for CyclicLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let up = self.step_size_up as f64;
        let down = self.step_size_down.unwrap_or(self.step_size_up) as f64;
        let place = step.remainder(&step.full_like(up + down));
        let falling = (place.full_like(up + down) - &place) * (1.0 / down);
        between(1.0, self.max_factor, &(place * (1.0 / up)).minimum(&falling))
    }

    fn check(&self) -> Result<(), Setting> {
        not_negative("max_factor", self.max_factor)?;
        steps("step_size_up", self.step_size_up)?;
        self.step_size_down.map_or(Ok(()), |down| steps("step_size_down", down))
    }
}

/// One rise and one long fall over all of training (Smith and Topin, arXiv 1708.07120), as PyTorch's
/// in two phases. The optimizer's rate is PyTorch's `max_lr`: the factor goes from `1 / div_factor`
/// to one, and down to `1 / (div_factor final_div_factor)`, where it stays.
#[derive(Clone, Copy, Debug)]
pub struct OneCycleLR {
    total_steps: usize,
    pct_start: f64,
    div_factor: f64,
    final_div_factor: f64,
    linear: bool,
}

impl OneCycleLR {
    /// With a rise of three tenths, a div_factor of 25 and a final_div_factor of 1e4, along
    /// cosines.
    pub fn new(total_steps: usize) -> OneCycleLR {
        let (div_factor, final_div_factor) = (25.0, 1e4);
        OneCycleLR { total_steps, pct_start: 0.3, div_factor, final_div_factor, linear: false }
    }

    /// The share of the steps that rise.
    pub fn pct_start(mut self, pct_start: f64) -> OneCycleLR {
        self.pct_start = pct_start;
        self
    }

    /// The highest factor by the first.
    pub fn div_factor(mut self, div_factor: f64) -> OneCycleLR {
        self.div_factor = div_factor;
        self
    }

    /// The first factor by the last.
    pub fn final_div_factor(mut self, final_div_factor: f64) -> OneCycleLR {
        self.final_div_factor = final_div_factor;
        self
    }

    /// In equal steps instead of along cosines: PyTorch's `anneal_strategy="linear"`.
    pub fn linear(mut self) -> OneCycleLR {
        self.linear = true;
        self
    }

    /// The step of the highest factor, which may lie between two steps.
    fn top(&self) -> f64 {
        self.pct_start * self.total_steps as f64 - 1.0
    }
}

impl Schedule for OneCycleLR {
    fn factor(&self, step: &Tensor) -> Tensor {
        let (top, end) = (self.top(), self.total_steps as f64 - 1.0);
        let first = 1.0 / self.div_factor;
        let last = first / self.final_div_factor;
        let along = |from: f64, to: f64, share: &Tensor| match self.linear {
            true => between(from, to, share),
            false => between(to, from, &wave(share)),
        };
        let falling = along(1.0, last, &progress(&(step - top), end - top));
        if top <= 0.0 {
            return falling;
        }
        let rising = along(first, 1.0, &progress(step, top));
        step.less_equal(&step.full_like(top)).select(&rising, &falling)
    }

    fn check(&self) -> Result<(), Setting> {
        require(self.total_steps > 1, "total_steps", self.total_steps, "at least 2")?;
        let share = (0.0..1.0).contains(&self.pct_start);
        require(share, "pct_start", self.pct_start, "at least 0 and less than 1")?;
        positive("div_factor", self.div_factor)?;
        positive("final_div_factor", self.final_div_factor)
    }
}
