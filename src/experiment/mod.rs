//! Experiments that a file describes: training, evaluating and predicting without a line of Rust.
//!
//! A file of weights that training writes holds the experiment's text and what samples are, so it is all that evaluating and
//! predicting need.

mod config;
mod data;
mod model;

pub use config::{Augment, Config, Data, Held, Layer, Model, Optimizer, Schedule, Size, Train};
pub use data::{Described, Prepared, prepare};
pub use model::{model, optimizer, schedule};

use crate::models::ConfusionMatrix;
use crate::prelude::*;
use crate::train::data::table::Columns;
use crate::train::pictures::{confusion, history};
use crate::train::{Checkpoints, Ended, Evaluation, Scores, Statistics, Weights};
use anyhow::{Context, Result, bail};
use shadegrad_graph::Array;
use std::path::{Path, PathBuf};
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
    let out = config.out.clone().unwrap_or_else(|| PathBuf::from("runs"));
    let place = out.join("checkpoints");
    begin(&out, &place, asked)?;
    let device = Device::open(&config.device)?;
    println!("device: {}", device.info());
    let prepared = prepare(&config.data, config.seed)?;
    let Prepared { train, validate, samples } = &prepared;
    println!("data: {} samples to train on, {} to validate on", train.len(), validate.len());
    let settings = &config.train;
    let mut fit = Fit::epochs(settings.epochs).batch(settings.batch).validate(&**validate);
    let updates = fit.total_steps(&**train) / settings.accumulate.max(1);
    let epoch = train.len().div_ceil(settings.batch.max(1)) / settings.accumulate.max(1);
    let network = model(&config.model, &samples.input, samples.outputs())?;
    let rule = optimizer(&config.optimizer)?;
    let mut trainer = match samples.classes.is_empty() {
        true => Trainer::with_seed(&device, network, Mse, rule, config.seed)?,
        false => Trainer::with_seed(&device, network, CrossEntropy, rule, config.seed)?
            .metric(ConfusionMatrix::new(samples.classes.len())),
    };
    trainer = trainer.schedule(schedule(&config.schedule, updates, epoch)?);
    if let Some(norm) = settings.clip_grad_norm {
        trainer = trainer.clip_grad_norm(norm);
    }
    if settings.accumulate != 1 {
        trainer = trainer.accumulate(settings.accumulate);
    }
    if let Some(alpha) = settings.mixup {
        trainer = trainer.mixup(alpha);
    }
    if let Some(megabytes) = settings.recompute_mb {
        trainer = trainer.recompute((megabytes * 1e6) as usize);
    }
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
    fit = fit
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
    let told = trainer.fit(&**train, fit)?;
    let evaluation = trainer.evaluate(&**validate)?;
    let mut weights = trainer.weights()?;
    describe(&mut weights, text, samples);
    weights.save(&out.join("model.safetensors"))?;
    history::draw(out.join("curves.png"), "Training", &told)?;
    match &told.ended {
        Ended::Done => {}
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

const CONFIG: &str = "config";
const CLASSES: &str = "classes";
const COLUMNS: &str = "columns";
const INPUT: &str = "input";

fn describe(weights: &mut Weights, text: &str, samples: &Described) {
    let mut note = |name: &str, value: String| weights.notes.insert(name.to_string(), value);
    note(CONFIG, text.to_string());
    note(CLASSES, samples.classes.join("\n"));
    let sides: Vec<String> = samples.input.iter().map(usize::to_string).collect();
    note(INPUT, sides.join(","));
    if let Some(columns) = &samples.columns {
        note(COLUMNS, columns.to_text());
    }
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
        let note = |name: &str| {
            let found = weights.notes.get(name).map(String::as_str);
            found.with_context(|| {
                format!(
                    "{}: the note `{name}` is missing: `shadegrad train` didn't write it",
                    file.display()
                )
            })
        };
        let config = Config::parse(note(CONFIG)?).with_context(|| file.display().to_string())?;
        let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
        let sides = note(INPUT)?.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
        let columns =
            weights.notes.get(COLUMNS).map(|text| Columns::from_text(text)).transpose()?;
        let samples = Described {
            input: sides.with_context(|| format!("{}: a damaged note", file.display()))?,
            classes: lines(note(CLASSES)?),
            columns,
        };
        let network = model(&config.model, &samples.input, samples.outputs())?;
        let (device, rule) = (Device::open(device)?, optimizer(&config.optimizer)?);
        let mut trainer = match samples.classes.is_empty() {
            true => Trainer::new(&device, network, Mse, rule)?,
            false => Trainer::new(&device, network, CrossEntropy, rule)?
                .metric(ConfusionMatrix::new(samples.classes.len())),
        };
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
        data::exists(path)?;
        let data: Box<dyn Dataset> = match &self.samples.columns {
            Some(columns) => data::table(columns, &data::read_rows(path)?)?,
            None => {
                let (images, classes) = data::reader(&self.samples.input)?.read(path)?;
                if classes != self.samples.classes {
                    bail!(
                        "{} has the classes {classes:?}, and the model knows {:?}",
                        path.display(),
                        self.samples.classes
                    );
                }
                Box::new(images)
            }
        };
        Ok(self.trainer.evaluate(&*data)?.scores)
    }

    /// What the model says of an image, or of each row of a table.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn predict(&mut self, path: &Path) -> Result<Vec<Prediction>> {
        data::exists(path)?;
        let (rows, inputs): (usize, Vec<f64>) = match (&self.samples.columns, self.statistics) {
            (Some(columns), _) => {
                let rows = data::read_rows(path)?;
                (rows.len(), columns.features(&rows)?.into_iter().map(f64::from).collect())
            }
            (None, Some(statistics)) => {
                let pixels = data::reader(&self.samples.input)?.image(path)?;
                (1, data::normalised(&pixels, statistics))
            }
            (None, None) => bail!("the model's file doesn't say how images are normalised"),
        };
        let shape = [&[rows], self.samples.input.as_slice()].concat();
        let output = self.trainer.predict(&Array::new(&shape, DType::F32, inputs))?.data;
        let width = self.samples.outputs();
        Ok(output.chunks(width).map(|scores| self.prediction(scores)).collect())
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
