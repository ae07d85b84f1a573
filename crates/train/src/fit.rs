//! What the training loop is asked for, and what it reports.

use crate::Images;

/// Settings of one call of [`crate::Trainer::fit`].
pub struct Fit<'a> {
    pub(crate) epochs: usize,
    pub(crate) batch: usize,
    pub(crate) steps: Option<usize>,
    pub(crate) validate: Option<&'a Images>,
    pub(crate) progress: bool,
}

impl<'a> Fit<'a> {
    /// This many passes over the data, in batches of 64, with a progress bar.
    pub fn epochs(epochs: usize) -> Fit<'a> {
        Fit { epochs, batch: 64, steps: None, validate: None, progress: true }
    }

    /// Samples of a step.
    pub fn batch(mut self, batch: usize) -> Fit<'a> {
        self.batch = batch;
        self
    }

    /// Stop after this many steps even if the epochs aren't over.
    pub fn steps(mut self, steps: usize) -> Fit<'a> {
        self.steps = Some(steps);
        self
    }

    /// Evaluate on other data after each epoch.
    pub fn validate(mut self, data: &'a Images) -> Fit<'a> {
        self.validate = Some(data);
        self
    }

    /// Neither progress bar nor a line for each epoch.
    pub fn quiet(mut self) -> Fit<'a> {
        self.progress = false;
        self
    }

    /// Steps of the whole fit for a number of samples.
    pub fn total_steps(&self, samples: usize) -> usize {
        let all = end_of(self.epochs, samples, self.batch);
        self.steps.map_or(all, |steps| steps.min(all))
    }
}

/// The step at which `epochs` passes over the samples are complete.
pub(crate) fn end_of(epochs: usize, samples: usize, batch: usize) -> usize {
    (epochs * samples).div_ceil(batch.max(1))
}

/// One pass over the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Its number, from one.
    pub number: usize,
    /// Mean training loss.
    pub loss: f64,
    /// Share of training samples that were classified rightly when they were trained on.
    pub accuracy: f64,
    /// Training samples a second, evaluation not counted.
    pub samples_per_second: f64,
    /// On the validation data, if there is any.
    pub validation: Option<Evaluation>,
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "epoch {}: loss {:.4}, accuracy {:.2} %, {:.0} samples/s",
            self.number,
            self.loss,
            self.accuracy * 100.0,
            self.samples_per_second
        )?;
        if let Some(v) = &self.validation {
            write!(f, "; test loss {:.4}, test accuracy {:.2} %", v.loss, v.accuracy * 100.0)?;
        }
        Ok(())
    }
}

/// What a model does on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of samples that were classified rightly.
    pub accuracy: f64,
    /// The predicted class of every sample.
    pub predictions: Vec<u32>,
}

/// What happened in a fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The loss of every step.
    pub losses: Vec<f32>,
    /// The share of rightly classified samples of every step.
    pub accuracies: Vec<f32>,
    /// Every epoch.
    pub epochs: Vec<Epoch>,
}
