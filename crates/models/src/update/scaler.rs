//! Loss scaling: gradients that half precision would round to zero are made larger on the way.

use super::clip::get_total_norm;
use crate::Setting;
use crate::setting::{positive, require, steps};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Init, Tensor, Variable};

/// The lowest scale: gradients around one would be less precise with a lower one.
const LEAST: f64 = 1.0 / 16_384.0;
/// The highest scale that a float can divide by: 2^126.
const MOST: f64 = 8.507_059_173_023_462e37;

/// What a scaler says of a step.
pub(super) struct Settled {
    /// Whether the gradients are finite, so that there is an update.
    pub(super) update: Tensor,
    /// Whether they aren't although the scale is the lowest.
    pub(super) exhausted: Tensor,
}

/// Dynamic loss scaling (Micikevicius et al., arXiv 1710.03740), as PyTorch's `GradScaler`: the loss is multiplied by a
/// scale before gradients are computed, and the gradients of parameters are divided by it. Where one of them isn't
/// finite, the parameters and what the optimizer remembers stay as they are, and the scale is multiplied by the backoff
/// factor; after so many updates in a row it is multiplied by the growth factor. All of it is decided on the device. The scale
/// stays between 2^-14 and 2^126. Clones are the same scaler, and a scaler serves one [`Updater`](crate::Updater).
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

    /// The scale to begin with: a scaler of its own, not a clone.
    pub fn init_scale(self, init_scale: f64) -> GradScaler {
        let scale = Variable::new("scale", &[], DType::F32, Init::Full(init_scale));
        let GradScaler { growth_factor, backoff_factor, growth_interval, .. } = self;
        let new = GradScaler::new();
        GradScaler { scale, growth_factor, backoff_factor, growth_interval, ..new }
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
        let sound = (LEAST..=MOST).contains(&scale);
        require(sound, "init_scale", scale, "between 2^-14 and 2^126")?;
        let grows = self.growth_factor > 1.0 && self.growth_factor.is_finite();
        require(grows, "growth_factor", self.growth_factor, "finite and above 1")?;
        positive("backoff_factor", self.backoff_factor)?;
        require(self.backoff_factor < 1.0, "backoff_factor", self.backoff_factor, "below 1")?;
        steps("growth_interval", self.growth_interval)
    }

    /// What becomes of the gradients, which are no longer scaled, in the steps that are `due` for an update, none for all. The
    /// scale follows.
    #[track_caller]
    pub(super) fn settle(
        &self,
        graph: &Graph,
        gradients: &[Tensor],
        due: Option<&Tensor>,
    ) -> Settled {
        if graph.assigned().iter().any(|(variable, _)| variable.id() == self.scale.id()) {
            let inputs: Vec<&Tensor> = gradients.iter().collect();
            let reason = "a scaler serves one update in a step: give each its own";
            graph.refuse("GradScaler", &inputs, reason);
        }
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
        let grown = grown.minimum(&scale.full_like(MOST));
        let kept = grows.select(&grown, &scale);
        let least = scale.full_like(LEAST);
        let lowered = (&scale * self.backoff_factor).maximum(&least);
        graph.assign(&self.scale, &overflow.select(&lowered, &kept));
        let again = overflow.or(&grows);
        let count = update.select(&(&tracker + &one), &tracker);
        graph.assign(&self.growth_tracker, &again.select(&tracker.zeros_like(), &count));
        graph.assign(&self.skipped, &overflow.select(&(&skipped + &one), &skipped));
        Settled { update, exhausted: overflow.and(&scale.less_equal(&least)) }
    }
}
