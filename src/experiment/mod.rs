//! Experiments that a file describes: training, evaluating and predicting without a line of Rust.
//!
//! A file of weights that training writes holds the experiment's text and what samples are, so it is all that evaluating and
//! predicting need.

mod config;
mod data;
mod model;
mod samples;

pub use config::{Augment, Config, Data, Held, Layer, Model, Optimizer, Schedule, Size, Train};
pub use data::{Prepared, prepare};
pub use model::{model, optimizer, schedule, text_model};
pub use samples::{Described, Form};

use crate::device::Autotune;
use crate::models::ConfusionMatrix;
use crate::prelude::*;
use crate::train::pictures::{confusion, history};
use crate::train::{Checkpoints, Ended, Evaluation, Scores, Statistics, Weights};
use anyhow::{Context, Result, bail};
use shadegrad_graph::Compiled;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Becomes true at Ctrl-C, which ends training soon and with a checkpoint; a second one ends the program at once.
///
/// # Errors
/// If the system has no such signal, or something else handles it.
pub fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let stop = asked.clone();
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            // Asked twice: whoever asks doesn't want to wait.
            std::process::exit(130);
        }
        eprintln!("\nstops after this moment's steps, with a checkpoint; again to end at once");
    })?;
    Ok(asked)
}

/// What is asked of a training run besides its file.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Begin anew where checkpoints of an earlier run are.
    pub restart: bool,
    /// Becomes true when training is to stop.
    pub stop: Arc<AtomicBool>,
}

/// Trains what a file describes, and writes weights, checkpoints, logs and pictures to its folder.
///
/// # Errors
/// What is wrong with the file or the data, and what training reports.
pub fn train(config: &Config, text: &str, asked: &Asked) -> Result<Scores> {
    let out = config.folder();
    begin(&out, &out.join(CHECKPOINTS), asked)?;
    let device = Device::open(&config.device)?;
    println!("device: {}", device.info());
    if config.autotune {
        device.autotune(Autotune::default());
    }
    let prepared = prepare(&config.data, config.seed)?;
    let Prepared { train, validate, .. } = &prepared;
    println!("data: {} samples to train on, {} to validate on", train.len(), validate.len());
    let trainer = trainer(config, &device, &prepared)?;
    let scores = run(config, text, asked, &prepared, trainer);
    if config.autotune {
        println!("autotuner: {}", device.tuning());
    }
    scores
}

/// The model that a file asks for with its loss and optimizer, for these samples.
fn untrained(config: &Config, device: &Device, samples: &Described) -> Result<Trainer<Sequential>> {
    let network = samples.network(&config.model)?;
    let rule = optimizer(&config.optimizer)?;
    Ok(match samples.classes.is_empty() {
        true => Trainer::with_seed(device, network, Mse, rule, config.seed)?,
        false => Trainer::with_seed(device, network, CrossEntropy, rule, config.seed)?
            .metric(ConfusionMatrix::new(samples.classes.len())),
    })
}

/// A trainer as a file describes it.
fn trainer(config: &Config, device: &Device, prepared: &Prepared) -> Result<Trainer<Sequential>> {
    let Prepared { train, samples, .. } = prepared;
    let settings = &config.train;
    let fit = Fit::epochs(settings.epochs).batch(settings.batch);
    let updates = fit.total_steps(&**train) / settings.accumulate.max(1);
    let epoch = train.len().div_ceil(settings.batch.max(1)) / settings.accumulate.max(1);
    let mut trainer = untrained(config, device, samples)?;
    trainer = trainer.schedule(schedule(&config.schedule, updates, epoch)?);
    if let Some(norm) = settings.clip_grad_norm {
        trainer = trainer.clip_grad_norm(norm);
    }
    if settings.accumulate != 1 {
        trainer = trainer.accumulate(settings.accumulate);
    }
    if let (Some(_), Form::Texts { .. }) = (settings.mixup, &samples.form) {
        bail!("`mixup` mixes numbers: texts have none, so leave it out");
    }
    if let Some(alpha) = settings.mixup {
        trainer = trainer.mixup(alpha);
    }
    if let Some(megabytes) = settings.recompute_mb {
        trainer = trainer.recompute((megabytes * 1e6) as usize);
    }
    if settings.mixed_precision {
        trainer = trainer.mixed_precision();
        println!("precision: {}", trainer.precision());
    }
    Ok(trainer)
}

/// Trains what was prepared.
fn run(
    config: &Config,
    text: &str,
    asked: &Asked,
    prepared: &Prepared,
    mut trainer: Trainer<Sequential>,
) -> Result<Scores> {
    let Prepared { train, validate, samples } = prepared;
    let (settings, out) = (&config.train, config.folder());
    let place = out.join(CHECKPOINTS);
    let report = trainer.report(&**train, settings.batch)?;
    println!(
        "model: {} parameters; a step of {} samples is {} dispatches, {:.2} GFLOP and {:.1} MB of scratch memory",
        trainer.parameters().count(),
        settings.batch,
        report.counts.dispatches,
        report.counts.flops as f64 * 1e-9,
        report.peak_bytes as f64 * 1e-6
    );
    if asked.resume {
        let resumed = trainer.resume(&place)?;
        println!("goes on after {} steps, from {}", resumed.step, resumed.path.display());
        for error in resumed.damaged {
            println!("passed over: {error}");
        }
    }
    let mut checkpoints = Checkpoints::new(&place);
    if let Some(steps) = settings.checkpoint_steps {
        checkpoints = checkpoints.every_steps(steps);
    }
    let mut fit = Fit::epochs(settings.epochs)
        .batch(settings.batch)
        .validate(&**validate)
        .keep_best()
        .checkpoints(checkpoints)
        .stop_when(asked.stop.clone())
        .callback(CsvLog::open(out.join("log.csv"))?)
        .callback(TensorBoard::create(&out)?);
    if let Some(patience) = settings.early_stopping {
        fit = fit.early_stopping(patience);
    }
    if let Some(score) = &settings.monitor {
        fit = fit.monitor(score);
    }
    let told = match trainer.fit(&**train, fit) {
        Ok(told) => told,
        Err(error) => {
            if let Err(other) = rescue(&mut trainer, text, samples, &out) {
                eprintln!("what was learnt until then can't be written: {other:#}");
            }
            return Err(error.into());
        }
    };
    save(&mut trainer, text, samples, &out)?;
    history::draw(out.join("curves.png"), "Training", &told)?;
    if let Some((scale, skipped)) = trainer.loss_scale()? {
        println!("loss scale: {scale}; updates left out because of an overflow: {skipped}");
    }
    let evaluation = trainer.evaluate(&**validate)?;
    match &told.ended {
        Ended::Done | Ended::Failed(_) => {}
        Ended::Early => println!("stopped early: no validation was better"),
        Ended::Asked(_) => println!(
            "stopped after {} steps as asked; the same command with --resume goes on",
            trainer.steps_done()
        ),
    }
    if let Some(best) = told.best.filter(|_| !matches!(told.ended, Ended::Asked(_))) {
        println!("the weights are those of epoch {best}");
    }
    println!("validation: {}", evaluation.scores);
    picture(&out, &evaluation, &samples.classes)?;
    println!(
        "written: model.safetensors, curves.png, log.csv and TensorBoard's events in {}",
        out.display()
    );
    Ok(evaluation.scores)
}

/// Writes the weights as they are, with all that others need to use them.
fn save(
    trainer: &mut Trainer<Sequential>,
    text: &str,
    samples: &Described,
    out: &Path,
) -> Result<()> {
    let mut weights = trainer.weights()?;
    weights.notes.insert(CONFIG.to_string(), text.to_string());
    samples.note(&mut weights);
    Ok(weights.save(&out.join("model.safetensors"))?)
}

/// Writes what there is when an error has ended training: the curves until then, and the best weights if there are any.
fn rescue(
    trainer: &mut Trainer<Sequential>,
    text: &str,
    samples: &Described,
    out: &Path,
) -> Result<()> {
    let told = trainer.history().clone();
    if told.losses.is_empty() {
        return Ok(());
    }
    history::draw(out.join("curves.png"), "Training", &told)?;
    let mut written = String::new();
    if let Some(best) = told.best {
        save(trainer, text, samples, out)?;
        written = format!("model.safetensors with the weights of epoch {best}, ");
    }
    println!(
        "training failed after {} steps; written: {written}curves.png and the logs in {}",
        trainer.steps_done(),
        out.display()
    );
    if let Ended::Failed(Some(_)) = told.ended {
        println!("when its cause is gone, the same command with --resume goes on");
    }
    Ok(())
}

/// The step that training would run, compiled for a device and not run; of the longest texts, where texts are of several
/// lengths. `batch` is instead of the file's.
///
/// # Errors
/// What is wrong with the file or the data, and what the device has no room for.
pub fn plan(config: &Config, device: &Device, batch: Option<usize>) -> Result<Compiled> {
    let mut config = config.clone();
    config.train.batch = batch.unwrap_or(config.train.batch);
    let prepared = prepare(&config.data, config.seed)?;
    Ok(trainer(&config, device, &prepared)?.plan(&*prepared.train, config.train.batch)?)
}

/// Makes the folders, unless something in them would be lost.
fn begin(out: &Path, place: &Path, asked: &Asked) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("can't make {}", out.display()))?;
    let earlier = place.exists();
    if asked.resume && !earlier {
        bail!("there is no checkpoint to go on from in {}", place.display());
    }
    if earlier && !asked.resume && !asked.restart {
        bail!(
            "{} holds an earlier run: go on from it with --resume, begin anew with --restart, or write elsewhere \
             with --out",
            out.display()
        );
    }
    if asked.restart && earlier {
        std::fs::remove_dir_all(place)
            .with_context(|| format!("can't remove {}", place.display()))?;
        let log = out.join("log.csv");
        if log.exists() {
            std::fs::remove_file(&log)
                .with_context(|| format!("can't remove {}", log.display()))?;
        }
    }
    Ok(())
}

fn picture(out: &Path, found: &Evaluation, classes: &[String]) -> Result<()> {
    // Of a regression there is none.
    let Some(counts) = found.confusion_matrix() else { return Ok(()) };
    confusion::draw(out.join("confusion.png"), "True and predicted class", &counts, classes)?;
    Ok(())
}

/// The folder of checkpoints in that of a run.
const CHECKPOINTS: &str = "checkpoints";

/// The note of a file of weights that has the experiment's text.
const CONFIG: &str = "config";

/// A note of a file of weights.
///
/// # Errors
/// With the file's name, if it isn't there.
fn note<'w>(weights: &'w Weights, name: &str, file: &Path) -> Result<&'w str> {
    let found = weights.notes.get(name).map(String::as_str);
    found.with_context(|| {
        let file = file.display();
        format!("{file}: the note `{name}` is missing: `shadegrad train` didn't write it")
    })
}

/// A trained model, from a file that [`train`] wrote.
pub struct Trained {
    trainer: Trainer<Sequential>,
    statistics: Option<Statistics>,
    samples: Described,
}

/// What a model says of one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// The classes with their probabilities, the likeliest first.
    Classes(Vec<(String, f64)>),
    /// A number.
    Value(f64),
}

impl Trained {
    /// Reads a file, or the `model.safetensors` of a folder.
    ///
    /// # Errors
    /// With the file's name, if it isn't one that training wrote.
    pub fn open(path: &Path, device: &str) -> Result<Trained> {
        let file = if path.is_dir() { path.join("model.safetensors") } else { path.to_path_buf() };
        let weights = Weights::load(&file)?;
        let config = Config::parse(note(&weights, CONFIG, &file)?)
            .with_context(|| file.display().to_string())?;
        let samples = Described::noted(&config, &weights, &file)?;
        let mut trainer = untrained(&config, &Device::open(device)?, &samples)?;
        trainer.restore(&weights, &file)?;
        let number = |name: &str| weights.notes.get(name)?.parse().ok();
        let statistics = number("pixel_mean").zip(number("pixel_deviation"));
        let statistics = statistics.map(|(mean, deviation)| Statistics { mean, deviation });
        Ok(Trained { trainer, statistics, samples })
    }

    /// Evaluates on a folder of images with a folder for each class, or on a table with the target's column.
    ///
    /// # Errors
    /// What is wrong with the data.
    pub fn evaluate(&mut self, path: &Path) -> Result<Scores> {
        let data = self.samples.read(path)?;
        Ok(self.trainer.evaluate(&*data)?.scores)
    }

    /// What the model says of an image, or of each row of a table.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn predict(&mut self, path: &Path) -> Result<Vec<Prediction>> {
        let mut found = Vec::new();
        for (numbers, inputs) in self.samples.inputs(path, self.statistics)? {
            let output = self.trainer.predict(&inputs)?.data;
            let rows = output.chunks(self.samples.outputs());
            found.extend(numbers.into_iter().zip(rows.map(|scores| self.prediction(scores))));
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, prediction)| prediction).collect())
    }

    fn prediction(&self, scores: &[f64]) -> Prediction {
        if self.samples.classes.is_empty() {
            return Prediction::Value(scores[0]);
        }
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
        let named = self.samples.classes.iter().cloned();
        let mut all: Vec<(String, f64)> =
            named.zip(scores.iter().map(|s| (s - most).exp() / total)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        Prediction::Classes(all)
    }
}
