//! What the training loop is asked for, and what it reports.

use crate::{Dataset, Evaluation, course::end_of};

/// Settings of one call of [`crate::Trainer::fit`].
pub struct Fit<'a> {
    pub(crate) epochs: usize,
    pub(crate) batch: usize,
    pub(crate) steps: Option<usize>,
    pub(crate) validate: Option<&'a dyn Dataset>,
    pub(crate) keep_best: bool,
    pub(crate) progress: bool,
}

impl<'a> Fit<'a> {
    /// This many passes over the data, in batches of 64, with a progress bar.
    pub fn epochs(epochs: usize) -> Fit<'a> {
        Fit { epochs, batch: 64, steps: None, validate: None, keep_best: false, progress: true }
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
    pub fn validate(mut self, data: &'a dyn Dataset) -> Fit<'a> {
        self.validate = Some(data);
        self
    }

    /// In the end the weights are those of the epoch that was best on the data that is validated on: the one of
    /// the highest accuracy, the first of several.
    pub fn keep_best(mut self) -> Fit<'a> {
        self.keep_best = true;
        self
    }

    /// Neither progress bar nor a line for each epoch.
    pub fn quiet(mut self) -> Fit<'a> {
        self.progress = false;
        self
    }

    /// Steps of the whole fit on a data set.
    pub fn total_steps(&self, data: &dyn Dataset) -> usize {
        let all = data
            .sizes(self.batch)
            .iter()
            .map(|&size| end_of(self.epochs, size, self.batch))
            .fold(0, usize::saturating_add);
        self.steps.map_or(all, |steps| steps.min(all))
    }
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
            write!(f, "; validation loss {:.4}, accuracy {:.2} %", v.loss, v.accuracy * 100.0)?;
        }
        Ok(())
    }
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
    /// The number of the epoch whose weights were kept, if the best were asked for.
    pub best: Option<usize>,
}
