//! Loss scaling: gradients that half precision would round to zero are made larger on the way.

use super::clip::get_total_norm;
use crate::Setting;
use crate::setting::{positive, require, steps};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Init, Tensor, Variable};

/// Dynamic loss scaling (Micikevicius et al., arXiv 1710.03740), as PyTorch's `GradScaler`: the loss is multiplied by a
/// scale before gradients are computed, and the gradients of parameters are divided by it. Where one of them isn't
/// finite, the parameters and what the optimizer remembers stay as they are, and the scale is multiplied by the backoff
/// factor; after so many updates in a row it is multiplied by the growth factor. All of it is decided on the device.
/// Clones are the same scaler.
#[derive(Clone, Debug)]
pub struct GradScaler {
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: usize,
    scale: Variable,
    /// Updates since the scale changed.
    growth_tracker: Variable,
    /// Updates that were left out.
    skipped: Variable,
}

impl Default for GradScaler {
    fn default() -> GradScaler {
        GradScaler::new()
    }
}

impl GradScaler {
    /// A scale of 65 536, doubled after 2000 updates, halved on overflow.
    pub fn new() -> GradScaler {
        let scale = Variable::new("scale", &[], DType::F32, Init::Full(65_536.0));
        GradScaler {
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            scale,
            growth_tracker: Variable::word("growth_tracker", 0),
            skipped: Variable::word("skipped", 0),
        }
    }

    /// The scale to begin with.
    pub fn init_scale(mut self, init_scale: f64) -> GradScaler {
        self.scale = Variable::new("scale", &[], DType::F32, Init::Full(init_scale));
        self
    }

    /// What the scale is multiplied by after the interval.
    pub fn growth_factor(mut self, growth_factor: f64) -> GradScaler {
        self.growth_factor = growth_factor;
        self
    }

    /// What the scale is multiplied by when a gradient overflows.
    pub fn backoff_factor(mut self, backoff_factor: f64) -> GradScaler {
        self.backoff_factor = backoff_factor;
        self
    }

    /// Updates in a row without overflow until the scale grows.
    pub fn growth_interval(mut self, growth_interval: usize) -> GradScaler {
        self.growth_interval = growth_interval;
        self
    }

    /// The scale, a float.
    pub fn scale(&self) -> &Variable {
        &self.scale
    }

    /// How many updates were left out, a word.
    pub fn skipped(&self) -> &Variable {
        &self.skipped
    }

    /// All that is remembered from step to step.
    pub(super) fn state(&self) -> [&Variable; 3] {
        [&self.scale, &self.growth_tracker, &self.skipped]
    }

    pub(super) fn check(&self) -> Result<(), Setting> {
        let scale = match self.scale.init() {
            Init::Full(scale) => *scale,
            _ => f64::NAN,
        };
        positive("init_scale", scale)?;
        let grows = self.growth_factor > 1.0 && self.growth_factor.is_finite();
        require(grows, "growth_factor", self.growth_factor, "finite and above 1")?;
        positive("backoff_factor", self.backoff_factor)?;
        require(self.backoff_factor < 1.0, "backoff_factor", self.backoff_factor, "below 1")?;
        steps("growth_interval", self.growth_interval)
    }

    /// Whether the gradients, no longer scaled, are finite, so that there is an update; of the steps that are `due` for one,
    /// none for all. The scale follows.
    pub(super) fn settle(
        &self,
        graph: &Graph,
        gradients: &[Tensor],
        due: Option<&Tensor>,
    ) -> Tensor {
        let norm = get_total_norm(graph, gradients, f64::INFINITY);
        // NaN isn't less than anything.
        let finite = norm.less(&norm.full_like(f64::INFINITY));
        let and_due = |condition: Tensor| match due {
            Some(due) => due.and(&condition),
            None => condition,
        };
        let (update, overflow) = (and_due(finite.clone()), and_due(finite.not()));
        let [scale, tracker, skipped] = self.state().map(|variable| graph.variable(variable));
        let one = tracker.ones_like();
        let grows = (&tracker + &one)
            .greater_equal(&tracker.full_like(self.growth_interval as f64))
            .and(&update);
        let grown = &scale * self.growth_factor;
        let grown = grown.less(&grown.full_like(f64::INFINITY)).select(&grown, &scale);
        let kept = grows.select(&grown, &scale);
        graph.assign(&self.scale, &overflow.select(&(&scale * self.backoff_factor), &kept));
        let again = overflow.or(&grows);
        let count = update.select(&(&tracker + &one), &tracker);
        graph.assign(&self.growth_tracker, &again.select(&tracker.zeros_like(), &count));
        graph.assign(&self.skipped, &overflow.select(&(&skipped + &one), &skipped));
        update
    }
}
