//! How good a model is on some data: its loss and its metrics, and the sums that they are computed from.

use shadegrad_models::Metric;
use std::fmt;

/// Loss and metrics on some data.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Mean loss.
    pub loss: f64,
    /// Name and value of each metric.
    pub metrics: Vec<(String, f64)>,
}

impl Scores {
    /// A metric, or the `loss`, by name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let loss = (name == "loss").then_some(self.loss);
        loss.or_else(|| self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value))
    }

    /// The accuracy, NaN if it isn't among the metrics.
    pub fn accuracy(&self) -> f64 {
        self.get("accuracy").unwrap_or(f64::NAN)
    }

    /// The metrics from the sums of each, one after the other.
    pub(crate) fn of<'m>(
        loss: f64,
        metrics: impl Iterator<Item = &'m dyn Metric>,
        sums: &[f64],
    ) -> Scores {
        let metrics = with_sums(metrics, sums);
        Scores { loss, metrics: metrics.map(|(m, own)| (m.name(), m.value(own))).collect() }
    }
}

/// Metrics with the sums of each, which lie one after the other.
pub(crate) fn with_sums<'m, 's>(
    metrics: impl Iterator<Item = &'m dyn Metric>,
    mut sums: &'s [f64],
) -> impl Iterator<Item = (&'m dyn Metric, &'s [f64])> {
    metrics.map(move |metric| {
        let (own, rest) = sums.split_at(metric.sizes().iter().sum());
        sums = rest;
        (metric, own)
    })
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)?;
        for (name, value) in &self.metrics {
            match name.ends_with("accuracy") {
                true => write!(f, ", {} {:.2} %", name.replace('_', " "), value * 100.0)?,
                false => write!(f, ", {} {value:.4}", name.replace('_', " "))?,
            }
        }
        Ok(())
    }
}
