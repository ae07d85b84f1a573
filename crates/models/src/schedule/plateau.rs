//! A schedule that looks at what training achieves.

use super::Schedule;
use crate::Setting;
use crate::setting::{not_negative, require, share, steps};
use shadegrad_device::DType;
use shadegrad_graph::{GraphError, Init, Session, Tensor, Variable};

/// Worse than every metric, and still a number when a threshold is applied to it.
const WORST: f64 = 1e38;

/// Multiplies the rate by `factor` where a metric has not become better `patience` times in a row,
/// as PyTorch's. It remembers the best metric, the times without a better one, the times to wait, and
/// the factor, all on the device. The metric comes from one of two places:
///
/// - [`ReduceLROnPlateau::every`]: the step itself takes the mean of its losses over so many steps.
///   The host does nothing.
/// - [`ReduceLROnPlateau::report`]: the host tells a metric, such as the validation loss of an
///   epoch, as a trainer's `fit` does after each validation. Between reports it writes nothing.
///
/// Either way the next step decides, and has the new rate. Clones are the same schedule, so that one
/// can be kept to report to.
#[derive(Clone, Debug)]
pub struct ReduceLROnPlateau {
    maximize: bool,
    factor: f64,
    patience: usize,
    threshold: f64,
    absolute: bool,
    cooldown: usize,
    min_lr: f64,
    eps: f64,
    every: Option<usize>,
    /// The sum of metrics since the last decision, and their number.
    observed: Variable,
    best: Variable,
    num_bad_epochs: Variable,
    cooldown_counter: Variable,
    /// What the rate is multiplied by now.
    reached: Variable,
}

impl Default for ReduceLROnPlateau {
    fn default() -> ReduceLROnPlateau {
        ReduceLROnPlateau::new()
    }
}

/// What a step finds: whether there is a metric to decide by, and the sum and number of metrics that
/// are left for the next decision.
struct Found {
    due: Tensor,
    metric: Tensor,
    left: [Tensor; 2],
}

impl ReduceLROnPlateau {
    /// For a metric that is to become small: factor 0.1, patience 10, a relative threshold of 1e-4,
    /// no cooldown, no lowest rate, eps 1e-8; the host reports.
    pub fn new() -> ReduceLROnPlateau {
        let scalar = |name, value| Variable::new(name, &[], DType::F32, Init::Full(value));
        ReduceLROnPlateau {
            maximize: false,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            absolute: false,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
            every: None,
            observed: Variable::new("observed", &[2], DType::F32, Init::Full(0.0)),
            best: scalar("best", WORST),
            num_bad_epochs: scalar("num_bad_epochs", 0.0),
            cooldown_counter: scalar("cooldown_counter", 0.0),
            reached: scalar("factor", 1.0),
        }
    }

    /// The metric is to become large, such as an accuracy: PyTorch's `mode="max"`.
    pub fn max(mut self) -> ReduceLROnPlateau {
        self.maximize = true;
        self.best = Variable::new("best", &[], DType::F32, Init::Full(-WORST));
        self
    }

    /// What the rate is multiplied by.
    pub fn factor(mut self, factor: f64) -> ReduceLROnPlateau {
        self.factor = factor;
        self
    }

    /// How many times in a row a metric may be no better.
    pub fn patience(mut self, patience: usize) -> ReduceLROnPlateau {
        self.patience = patience;
        self
    }

    /// By how much a metric must be better to count, as a share of the best.
    pub fn threshold(mut self, threshold: f64) -> ReduceLROnPlateau {
        self.threshold = threshold;
        self
    }

    /// The threshold is a difference: PyTorch's `threshold_mode="abs"`.
    pub fn absolute(mut self) -> ReduceLROnPlateau {
        self.absolute = true;
        self
    }

    /// How many metrics don't count after a reduction.
    pub fn cooldown(mut self, cooldown: usize) -> ReduceLROnPlateau {
        self.cooldown = cooldown;
        self
    }

    /// The lowest factor.
    pub fn min_lr(mut self, min_lr: f64) -> ReduceLROnPlateau {
        self.min_lr = min_lr;
        self
    }

    /// A reduction by no more than this is left out.
    pub fn eps(mut self, eps: f64) -> ReduceLROnPlateau {
        self.eps = eps;
        self
    }

    /// Takes the mean loss of so many steps for the metric, on the device.
    pub fn every(mut self, steps: usize) -> ReduceLROnPlateau {
        self.every = Some(steps);
        self
    }

    /// Tells a metric, by which the next step decides.
    ///
    /// # Errors
    /// What the device reports.
    pub fn report(&self, session: &mut Session, metric: f64) -> Result<(), GraphError> {
        // As if it were the mean of a whole window.
        let count = self.window();
        let words = [(metric * count) as f32, count as f32];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        session.write(&self.observed, &bytes)
    }

    /// How many metrics make a decision.
    fn window(&self) -> f64 {
        self.every.unwrap_or(1) as f64
    }

    fn found(&self, step: &Tensor) -> Found {
        let observed = step.graph().variable(&self.observed);
        let word = |number| observed.narrow(0, number, 1).squeeze(0);
        let (sum, count) = (word(0), word(1));
        let due = count.greater_equal(&count.full_like(self.window()));
        let zero = count.full_like(0.0);
        let left = [due.select(&zero, &sum), due.select(&zero, &count)];
        Found { due, metric: sum / count.clamp_min(1.0), left }
    }

    fn keep(&self, left: &[Tensor; 2]) {
        let [sum, count] = left;
        let graph = sum.graph();
        graph.assign(&self.observed, &graph.stack(&[sum, count], 0));
    }
}

impl Schedule for ReduceLROnPlateau {
    fn factor(&self, step: &Tensor) -> Tensor {
        let graph = step.graph();
        let Found { due, metric, left } = self.found(step);
        let [best, bad, waiting, lr] =
            [&self.best, &self.num_bad_epochs, &self.cooldown_counter, &self.reached]
                .map(|variable| graph.variable(variable));
        let sign = if self.maximize { -1.0 } else { 1.0 };
        let needed = match self.absolute {
            true => &best - sign * self.threshold,
            false => &best * (1.0 - sign * self.threshold),
        };
        let better = if self.maximize { needed.less(&metric) } else { metric.less(&needed) };
        let zero = lr.full_like(0.0);
        let waits = zero.less(&waiting);
        let counted = better.or(&waits).select(&zero, &(&bad + 1.0));
        let reduces = counted.full_like(self.patience as f64).less(&counted);
        let lower = (&lr * self.factor).clamp_min(self.min_lr);
        let matters = lower.full_like(self.eps).less(&(&lr - &lower));
        let new_lr = due.and(&reduces).and(&matters).select(&lower, &lr);
        let new_bad = reduces.select(&zero, &counted);
        let new_waiting = (&waiting - 1.0).relu();
        let new_waiting = reduces.select(&zero.full_like(self.cooldown as f64), &new_waiting);
        graph.assign(&self.best, &due.and(&better).select(&metric, &best));
        graph.assign(&self.num_bad_epochs, &due.select(&new_bad, &bad));
        graph.assign(&self.cooldown_counter, &due.select(&new_waiting, &waiting));
        graph.assign(&self.reached, &new_lr);
        self.keep(&left);
        new_lr
    }

    fn check(&self) -> Result<(), Setting> {
        share("factor", self.factor)?;
        not_negative("threshold", self.threshold)?;
        let whole = !self.absolute && self.threshold >= 1.0;
        require(!whole, "threshold", self.threshold, "less than 1, or absolute")?;
        not_negative("min_lr", self.min_lr)?;
        not_negative("eps", self.eps)?;
        self.every.map_or(Ok(()), |every| steps("every", every))
    }

    fn observe(&self, loss: &Tensor) {
        if self.every.is_some() {
            let [sum, count] = self.found(loss).left;
            self.keep(&[sum + loss, count + 1.0]);
        }
    }

    fn state(&self) -> Vec<Variable> {
        let all = [
            &self.observed,
            &self.best,
            &self.num_bad_epochs,
            &self.cooldown_counter,
            &self.reached,
        ];
        all.map(Clone::clone).to_vec()
    }

    /// What is to become small is the loss, what is to become large the score.
    fn validated(&self, session: &mut Session, loss: f64, score: f64) -> Result<(), GraphError> {
        match self.every {
            Some(_) => Ok(()),
            None => self.report(session, if self.maximize { score } else { loss }),
        }
    }
}
