//! What the training loop is asked for, and the loop.

use crate::{
    Callback, Checkpoints, Control, Course, Dataset, Ended, Epoch, Evaluator, History, Scores,
    TrainError, Trainer, Weights, WeightsError, course::end_of,
};
use indicatif::{ProgressBar, ProgressStyle};
use shadegrad_models::Module;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Settings of one call of [`Trainer::fit`].
pub struct Fit<'a> {
    pub(crate) epochs: usize,
    pub(crate) batch: usize,
    pub(crate) steps: Option<usize>,
    pub(crate) validate: Option<&'a dyn Dataset>,
    pub(crate) validate_every: Option<usize>,
    pub(crate) monitor: Option<String>,
    pub(crate) keep_best: bool,
    pub(crate) patience: Option<usize>,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) callbacks: Vec<Box<dyn Callback + 'a>>,
    pub(crate) stop: Option<Arc<AtomicBool>>,
    pub(crate) progress: bool,
}

impl<'a> Fit<'a> {
    /// This many passes over the data, in batches of 64, with a progress bar.
    pub fn epochs(epochs: usize) -> Fit<'a> {
        Fit {
            epochs,
            batch: 64,
            steps: None,
            validate: None,
            validate_every: None,
            monitor: None,
            keep_best: false,
            patience: None,
            checkpoints: None,
            callbacks: vec![],
            stop: None,
            progress: true,
        }
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

    /// Evaluate after every so many steps as well.
    pub fn validate_every(mut self, steps: usize) -> Fit<'a> {
        self.validate_every = Some(steps.max(1));
        self
    }

    /// The score on the validation data that says which epoch is best: `loss`, or the name of a metric. It is the first
    /// metric of the trainer if nothing is said, and the loss if there is none.
    pub fn monitor(mut self, score: &str) -> Fit<'a> {
        self.monitor = Some(score.to_string());
        self
    }

    /// In the end the weights are those of the epoch that was best on the data that is validated on, the first of
    /// several.
    pub fn keep_best(mut self) -> Fit<'a> {
        self.keep_best = true;
        self
    }

    /// Stop when so many epochs in a row (validations, with [`Fit::validate_every`]) were no better on the validation data than the best before them.
    pub fn early_stopping(mut self, patience: usize) -> Fit<'a> {
        self.patience = Some(patience);
        self
    }

    /// Write checkpoints, from which [`Trainer::resume`] goes on.
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Fit<'a> {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Call someone after every few steps and after every epoch.
    pub fn callback(mut self, callback: impl Callback + 'a) -> Fit<'a> {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Stop soon after this becomes true, as a handler of Ctrl-C may make it; a checkpoint is written if any are.
    pub fn stop_when(mut self, asked: Arc<AtomicBool>) -> Fit<'a> {
        self.stop = Some(asked);
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

/// The best weights so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Best {
    /// Their score.
    pub(crate) score: f64,
    /// The epoch that they are of.
    pub(crate) epoch: usize,
    /// Validations since then.
    pub(crate) waited: usize,
    /// The weights, if they are to be kept.
    pub(crate) weights: Option<Weights>,
}

/// What a fit has done, besides what is on the device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) history: History,
    pub(crate) best: Option<Best>,
}

impl<M: Module> Trainer<M> {
    /// Trains. After [`Trainer::resume`] it goes on where the checkpoint was written; data, batch and model must be
    /// the same.
    ///
    /// # Errors
    /// As [`Trainer::start`] and [`Trainer::advance`]; [`TrainError::Setting`] for settings that need others, and what
    /// checkpoints and callbacks report. What happened until then is in [`Trainer::history`], and the best weights are in the
    /// trainer where they are kept, as at any other end. Where checkpoints are written, data and callbacks that fail in the middle of an
    /// epoch leave one.
    #[track_caller]
    pub fn fit(&mut self, data: &dyn Dataset, fit: Fit<'_>) -> Result<History, TrainError> {
        let total = fit.total_steps(data);
        self.history = History::default();
        let mut run = Run::new(self, data, fit)?;
        let done = run.epochs(self, total);
        run.end(self, done)
    }

    /// What happened in the last fit, if it ended with an error as well: all steps before it, and those that the device had
    /// done when a source or a callback failed.
    pub fn history(&self) -> &History {
        &self.history
    }
}

/// A fit on its way.
struct Run<'f> {
    fit: Fit<'f>,
    course: Course,
    past: Past,
    validation: Option<Evaluator>,
    /// The score that says which weights are best, and whether more of it is better.
    monitored: String,
    higher: bool,
}

impl<'f> Run<'f> {
    #[track_caller]
    fn new<M: Module>(
        trainer: &mut Trainer<M>,
        data: &dyn Dataset,
        fit: Fit<'f>,
    ) -> Result<Run<'f>, TrainError> {
        let best = fit.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.best);
        let needs = [
            ("keep_best", fit.keep_best || best),
            ("early_stopping", fit.patience.is_some()),
            ("validate_every", fit.validate_every.is_some()),
            ("monitor", fit.monitor.is_some()),
        ];
        if let (None, Some((what, _))) = (fit.validate, needs.iter().find(|(_, asked)| *asked)) {
            return Err(TrainError::Setting {
                what,
                value: "asked for without data to validate on".to_string(),
                expected: "used together with validate".to_string(),
            });
        }
        let (monitored, higher) = trainer.monitored(fit.monitor.as_deref())?;
        if let Some(checkpoints) = &fit.checkpoints {
            checkpoints.prepare(trainer.steps_done())?;
        }
        let (course, mut past) = trainer.begin(data, fit.batch)?;
        // A checkpoint without the best weights was written by a fit that didn't keep them.
        past.best = past.best.filter(|best| !fit.keep_best || best.weights.is_some());
        let validation = fit.validate.map(|data| trainer.evaluator(data)).transpose()?;
        Ok(Run { fit, course, past, validation, monitored, higher })
    }

    /// All epochs that are left, of at most so many steps in all.
    fn epochs<M: Module>(
        &mut self,
        trainer: &mut Trainer<M>,
        total: usize,
    ) -> Result<Ended, TrainError> {
        if self.waited_enough() {
            // The run that it resumes had ended.
            return Ok(Ended::Early);
        }
        while self.past.history.epochs.len() < self.fit.epochs {
            let left = total.saturating_sub(self.done());
            let steps = self.course.left_in_epoch().min(left);
            if steps == 0 {
                break;
            }
            if let Some(ended) = self.epoch(trainer, steps)? {
                return Ok(ended);
            }
        }
        Ok(Ended::Done)
    }

    /// The history, with the weights that were asked for in the trainer.
    fn end<M: Module>(
        mut self,
        trainer: &mut Trainer<M>,
        ended: Result<Ended, TrainError>,
    ) -> Result<History, TrainError> {
        let outside = matches!(ended, Err(TrainError::Data(_) | TrainError::Callback(_)));
        // After an epoch's last step, or where a validation is due, scores are missing: there the checkpoint before is the
        // one to go on from.
        let last = self.past.history.validations.last().map(|(step, _)| *step);
        let owed = self.is_due(self.fit.validate_every) && last != Some(self.done());
        let saved = match outside && self.done() > 0 && !self.course.is_between() && !owed {
            true => self.checkpoint(trainer).unwrap_or_else(|error| {
                self.past.history.failures.push((self.done(), error.to_string()));
                None
            }),
            false => None,
        };
        let Past { mut history, best } = self.past;
        // Who goes on from a checkpoint goes on with its weights.
        let goes_on = matches!(ended, Ok(Ended::Asked(Some(_))));
        let restored = match best.filter(|_| !goes_on) {
            Some(Best { weights: Some(weights), .. }) => {
                trainer.restore(&weights, Path::new("the best epoch"))
            }
            _ => Ok(()),
        };
        let (ended, error) = match ended {
            Ok(ended) => (ended, restored.err()),
            // It says more than that weights can't be written any more.
            Err(error) => (Ended::Failed(saved), Some(error)),
        };
        history.ended = ended;
        trainer.history = history.clone();
        error.map_or(Ok(history), Err)
    }

    /// Steps that are done.
    fn done(&self) -> usize {
        self.past.history.losses.len()
    }

    /// Whether what is done after every so many steps is to be done now.
    fn is_due(&self, every: Option<usize>) -> bool {
        every.is_some_and(|every| self.done().is_multiple_of(every))
    }

    /// Some steps that complete an epoch, or all that are left; why training ends after them, if it does.
    fn epoch<M: Module>(
        &mut self,
        trainer: &mut Trainer<M>,
        steps: usize,
    ) -> Result<Option<Ended>, TrainError> {
        let (begun, end) = (self.done(), self.done() + steps);
        let number = self.past.history.epochs.len() + 1;
        let bar = self.bar(number, end);
        let mut seconds = 0.0;
        let mut stop = false;
        while self.done() < end {
            let checkpoint = self.fit.checkpoints.as_ref().and_then(Checkpoints::every);
            let intervals = [checkpoint, self.fit.validate_every];
            let next = intervals.iter().flatten().map(|every| every - self.done() % every);
            let next = next.min().unwrap_or(usize::MAX).min(end - self.done());
            let clock = Instant::now();
            stop = self.steps(trainer, next, &bar)? == Control::Stop;
            seconds += clock.elapsed().as_secs_f64();
            if self.done() == end {
                break;
            }
            if self.is_due(self.fit.validate_every) {
                self.validate(trainer, number)?;
            }
            if stop || self.waited_enough() {
                bar.finish_and_clear();
                return self.ended(trainer, stop);
            }
            if self.is_due(checkpoint) {
                self.checkpoint(trainer)?;
            }
        }
        bar.finish_and_clear();
        let validation = self.validate(trainer, number)?;
        let every = self.fit.checkpoints.as_ref().map(Checkpoints::every);
        let due = every.is_some_and(|every| every.is_none_or(|every| end.is_multiple_of(every)));
        // Of an epoch that the number of steps cuts short the rest may follow.
        let whole = self.course.is_between();
        if due && !whole {
            self.checkpoint(trainer)?;
        }
        let history = &mut self.past.history;
        let losses = &history.losses[history.epoch_start..];
        let loss = losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len().max(1) as f64;
        let epoch = Epoch {
            number,
            train: Scores::of(loss, trainer.followed(), &history.sums),
            samples_per_second: ((end - begun) * self.fit.batch) as f64 / seconds,
            validation,
        };
        if self.fit.progress {
            println!("{epoch}");
        }
        history.epochs.push(epoch);
        history.epoch_start = end;
        history.sums.clear();
        if due && whole {
            self.checkpoint(trainer)?;
        }
        let history = &self.past.history;
        for callback in &mut self.fit.callbacks {
            let epoch = &history.epochs[number - 1];
            stop |= callback.epoch(epoch, history).map_err(TrainError::Callback)? == Control::Stop;
        }
        self.ended(trainer, stop)
    }

    /// Why training ends here, if it does.
    fn ended<M: Module>(
        &mut self,
        trainer: &mut Trainer<M>,
        stop: bool,
    ) -> Result<Option<Ended>, TrainError> {
        match stop {
            true => Ok(Some(Ended::Asked(self.checkpoint(trainer)?))),
            false => Ok(self.waited_enough().then_some(Ended::Early)),
        }
    }

    fn steps<M: Module>(
        &mut self,
        trainer: &mut Trainer<M>,
        steps: usize,
        bar: &ProgressBar,
    ) -> Result<Control, TrainError> {
        let Run { fit, course, past, .. } = self;
        let (batch, stop) = (course.batch() as f64, fit.stop.clone());
        trainer.run(course, steps, &mut past.history, &mut |from, history| {
            bar.inc((history.losses.len() - from) as u64);
            bar.set_message(message(history, bar.per_sec() * batch));
            let asked = stop.as_ref().is_some_and(|asked| asked.load(Ordering::Relaxed));
            let mut control = if asked { Control::Stop } else { Control::Continue };
            for callback in &mut fit.callbacks {
                if callback.steps(from, history).map_err(TrainError::Callback)? == Control::Stop {
                    control = Control::Stop;
                }
            }
            Ok(control)
        })
    }

    /// Evaluates on the validation data, if there is any, and sees whether the weights are the best so far.
    fn validate<M: Module>(
        &mut self,
        trainer: &mut Trainer<M>,
        epoch: usize,
    ) -> Result<Option<Scores>, TrainError> {
        let done = self.done();
        let Some(evaluator) = &mut self.validation else { return Ok(None) };
        let scores = trainer.evaluate_with(evaluator)?.scores;
        let score = scores.get(&self.monitored).unwrap_or(f64::NAN);
        trainer.updater.report(&mut trainer.session, scores.loss, score)?;
        let before = self.past.best.as_ref().map(|best| best.score);
        let better = match before {
            Some(before) if before.is_nan() => !score.is_nan(),
            Some(before) if self.higher => score > before,
            Some(before) => score < before,
            None => true,
        };
        let checkpoints = self.fit.checkpoints.as_ref().filter(|c| c.best).cloned();
        if better {
            let wanted = self.fit.keep_best || checkpoints.is_some();
            let weights = if wanted { Some(trainer.weights()?) } else { None };
            if let (Some(checkpoints), Some(weights)) = (checkpoints, &weights) {
                let saved = weights.save(&checkpoints.best_path());
                self.survive(saved.map_err(TrainError::from))?;
            }
            let weights = weights.filter(|_| self.fit.keep_best);
            self.past.best = Some(Best { score, epoch, waited: 0, weights });
        } else if let Some(best) = &mut self.past.best {
            best.waited += 1;
        }
        let best = self.past.best.as_ref().filter(|_| self.fit.keep_best);
        self.past.history.best = best.map(|best| best.epoch);
        self.past.history.validations.push((done, scores.clone()));
        Ok(Some(scores))
    }

    fn waited_enough(&self) -> bool {
        let waited = self.past.best.as_ref().map_or(0, |best| best.waited);
        self.fit.patience.is_some_and(|patience| waited >= patience.max(1))
    }

    /// Writes a checkpoint, if any are written; where it lies.
    fn checkpoint<M: Module>(
        &mut self,
        trainer: &mut Trainer<M>,
    ) -> Result<Option<PathBuf>, TrainError> {
        let Some(checkpoints) = self.fit.checkpoints.clone() else { return Ok(None) };
        let path = checkpoints.path(trainer.steps_done());
        let saved = trainer
            .save_past(&path, &self.course, &self.past)
            .and_then(|()| checkpoints.prune(&path));
        Ok(self.survive(saved)?.map(|()| path))
    }

    /// Notes an error of writing if training is to go on without.
    fn survive(&mut self, saved: Result<(), TrainError>) -> Result<Option<()>, TrainError> {
        match saved {
            Err(error @ TrainError::Weights(WeightsError::Io { .. }))
                if self.fit.checkpoints.as_ref().is_some_and(|c| c.go_on) =>
            {
                if self.fit.progress {
                    eprintln!("training goes on without a checkpoint: {error}");
                }
                self.past.history.failures.push((self.done(), error.to_string()));
                Ok(None)
            }
            saved => saved.map(Some),
        }
    }

    fn bar(&self, epoch: usize, end: usize) -> ProgressBar {
        if !self.fit.progress {
            return ProgressBar::hidden();
        }
        let start = self.past.history.epoch_start;
        let bar =
            ProgressBar::new((end - start) as u64).with_position((self.done() - start) as u64);
        let template = "{prefix} {bar:30} {pos}/{len} {msg}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        // What an earlier run did isn't this one's rate.
        bar.reset_eta();
        bar.set_prefix(format!("epoch {epoch}/{}", self.fit.epochs));
        bar
    }
}

/// The last step's scores, for the progress bar.
fn message(history: &History, rate: f64) -> String {
    let metrics = history.metrics.iter();
    let last =
        |(name, values): (&String, &Vec<f32>)| Some((name.clone(), f64::from(*values.last()?)));
    let loss = f64::from(history.losses.last().copied().unwrap_or(f32::NAN));
    let scores = Scores { loss, metrics: metrics.filter_map(last).collect() };
    format!("{scores}, {rate:.0} samples/s")
}
