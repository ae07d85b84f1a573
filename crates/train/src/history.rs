//! What happened in a fit.

use crate::Scores;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One pass over the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Its number, from one.
    pub number: usize,
    /// On the training samples, when they were trained on.
    pub train: Scores,
    /// Training samples a second, evaluation not counted.
    pub samples_per_second: f64,
    /// On the validation data, if there is any.
    pub validation: Option<Scores>,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Epoch { number, train, samples_per_second, validation } = self;
        write!(f, "epoch {number}: {train}, {samples_per_second:.0} samples/s")?;
        match validation {
            Some(scores) => write!(f, "; validation {scores}"),
            None => Ok(()),
        }
    }
}

/// Why a fit ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// All epochs or steps are done.
    #[default]
    Done,
    /// The monitored score got no better for as many epochs as were to be waited for.
    Early,
    /// A callback or the stop signal asked for it; where the checkpoint lies from which training goes on, if one was
    /// to be written.
    Asked(Option<PathBuf>),
    /// An error, which [`Trainer::fit`](crate::Trainer::fit) has returned; where the checkpoint lies from which training goes on
    /// once its cause is gone, if one was to be written.
    Failed(Option<PathBuf>),
}

/// What happened in a fit, and in the runs that it resumes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The loss of every step.
    pub losses: Vec<f32>,
    /// The metrics of every step by name, those that can be told from a few sums.
    pub metrics: BTreeMap<String, Vec<f32>>,
    /// Every epoch.
    pub epochs: Vec<Epoch>,
    /// Scores on the validation data, each after so many steps.
    pub validations: Vec<(usize, Scores)>,
    /// The number of the epoch whose weights were kept, if the best were asked for.
    pub best: Option<usize>,
    /// Why it ended.
    pub ended: Ended,
    /// Checkpoints that could not be written: the step and why, where training was to go on without.
    pub failures: Vec<(usize, String)>,
    /// Steps before the epoch that isn't over.
    pub(crate) epoch_start: usize,
    /// The metrics' sums of the epoch that isn't over.
    pub(crate) sums: Vec<f64>,
}

impl History {
    /// A metric of every step; none if it isn't followed.
    pub fn metric(&self, name: &str) -> &[f32] {
        self.metrics.get(name).map_or(&[], Vec::as_slice)
    }
}
