//! What the MNIST examples share: options, data, report and pictures.

use anyhow::{Context, Result, bail};
use clap::Parser;
use shadegrad::device::Autotune;
use shadegrad::experiment::stop_on_interrupt;
use shadegrad::models::{ConfusionMatrix, Cosine, Module, WarmUp};
use shadegrad::prelude::*;
use shadegrad::train::pictures::{confusion, curves, sheet};
use shadegrad::train::{Checkpoints, Ended, Evaluation, History, Scores};
use std::path::{Path, PathBuf};

/// Options that both examples take.
#[derive(Parser)]
pub(crate) struct Options {
    /// Folder with the four MNIST files, gzipped or not; without it the cache is used, else a
    /// download is tried, else the program draws digits itself
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Train on digits that the program draws
    #[arg(long, conflicts_with = "data")]
    pub(crate) drawn: bool,
    /// Device: best, cpu, gpu, software, or a name that `shadegrad devices` lists
    #[arg(long, value_name = "NAME", default_value = "best")]
    pub(crate) device: String,
    /// Passes over the training data
    #[arg(long, default_value_t = 5)]
    pub(crate) epochs: usize,
    /// Stop after this many steps
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Samples of a step
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: usize,
    /// Learning rate of Adam; it falls along a cosine to a hundredth
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) lr: f64,
    /// Keep activations in half precision while training, where the device can
    #[arg(long)]
    pub(crate) mixed_precision: bool,
    /// Choose the shaders of products and convolutions by measuring, on adapters; choices are kept for later runs, which
    /// have the same bits once all is measured
    #[arg(long)]
    pub(crate) autotune: bool,
    /// Seed of weights and shuffles: the same seed gives the same bits on the same device
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Go on with a run that was stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// Folder for weights and pictures
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
}

/// Loads the data, trains the model and writes weights and pictures.
pub(crate) fn run<M: Module>(
    name: &str,
    options: &Options,
    model: impl FnOnce([usize; 3]) -> M,
) -> Result<()> {
    let device = Device::open(&options.device)?;
    println!("device: {}", device.info());
    if options.autotune {
        device.autotune(Autotune::default());
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("can't make the folder {}", options.out.display()))?;
    let (train, test) = data(options)?;
    println!("data: {} images to train on, {} to test on", train.len(), test.len());

    let fit = Fit::epochs(options.epochs).batch(options.batch).validate(&test);
    let fit = match options.steps {
        Some(steps) => fit.steps(steps),
        None => fit,
    };
    let steps = fit.total_steps(&train);
    let schedule = WarmUp { steps: steps.min(100), then: Cosine { steps, floor: 0.01 } };
    let adam = Adam::new(options.lr);
    let mut trainer =
        Trainer::with_seed(&device, model(train.shape()), CrossEntropy, adam, options.seed)?
            .schedule(schedule)
            .metric(ConfusionMatrix::new(test.classes));
    if options.mixed_precision {
        trainer = trainer.mixed_precision();
        println!("precision: {}", trainer.precision());
    }
    let report = trainer.report(&train, options.batch)?;
    println!(
        "model: {} parameters; a step of {} samples is {} dispatches and {:.2} GFLOP",
        trainer.parameters().count(),
        options.batch,
        report.counts.dispatches,
        report.counts.flops as f64 * 1e-9
    );
    println!(
        "memory: {:.1} MB for parameters, optimizer and data, {:.1} MB scratch (at least {:.1} MB)",
        report.variable_bytes as f64 * 1e-6,
        report.peak_bytes as f64 * 1e-6,
        report.lower_bound as f64 * 1e-6
    );

    let stopped = options.out.join(format!("{name}-checkpoints"));
    match (options.resume, stopped.exists()) {
        (true, true) => {
            let step = trainer.resume(&stopped)?.step;
            println!("goes on after {step} steps");
        }
        (true, false) => bail!("no run was stopped: {} isn't there", stopped.display()),
        (false, true) => bail!(
            "{} holds a run that was stopped: --resume goes on with it; remove the folder to begin anew",
            stopped.display()
        ),
        (false, false) => {}
    }
    let fit = fit.checkpoints(Checkpoints::new(&stopped)).stop_when(stop_on_interrupt()?);
    let history = trainer.fit(&train, fit);
    if options.autotune {
        println!("autotuner: {}", device.tuning());
    }
    let history = history?;
    if let Ended::Asked(_) = history.ended {
        println!(
            "stopped after {} steps: the same command with --resume goes on",
            trainer.steps_done()
        );
        return Ok(());
    }
    std::fs::remove_dir_all(&stopped).with_context(|| stopped.display().to_string())?;
    if let Some((scale, skipped)) = trainer.loss_scale()? {
        println!("loss scale: {scale}; updates left out because of an overflow: {skipped}");
    }
    let evaluation = trainer.evaluate(&test)?;
    println!(
        "test accuracy: {:.2} % of {} images",
        evaluation.scores.accuracy() * 100.0,
        test.len()
    );

    let weights = options.out.join(format!("{name}.safetensors"));
    trainer.save(&weights)?;
    pictures(
        &options.out,
        &history,
        &evaluation,
        &test,
        train.len() as f64 / options.batch as f64,
    )?;
    println!(
        "written: {}, curves.png, confusion.png and mistakes.png in {}",
        weights.file_name().unwrap_or_default().display(),
        options.out.display()
    );
    Ok(())
}

fn data(options: &Options) -> Result<(Images, Images)> {
    if options.drawn {
        let digits = shadegrad::train::data::drawn::digits;
        println!("digits drawn by the program");
        return Ok((digits(12_000, 1), digits(2_000, 2)));
    }
    let (train, test, source) = Mnist::find(options.data.as_deref())?;
    println!("{source}");
    Ok((train, test))
}

fn pictures(
    out: &Path,
    history: &History,
    evaluation: &Evaluation,
    test: &Images,
    steps_per_epoch: f64,
) -> Result<()> {
    let steps = |values: &[f32]| -> Vec<(f64, f64)> {
        let point = |(step, &v): (usize, &f32)| ((step + 1) as f64 / steps_per_epoch, f64::from(v));
        values.iter().enumerate().map(point).collect()
    };
    let epochs = |value: fn(&Scores) -> f64| -> Vec<(f64, f64)> {
        let point =
            |e: &shadegrad::train::Epoch| Some((e.number as f64, value(e.validation.as_ref()?)));
        history.epochs.iter().filter_map(point).collect()
    };
    let smooth = (history.losses.len() / 100).max(1);
    curves::draw(
        out.join("curves.png"),
        "Training",
        &[
            curves::Panel::new("Loss", "epoch")
                .smoothed("train", steps(&history.losses), smooth)
                .line("test", epochs(|v| v.loss)),
            curves::Panel::new("Accuracy", "epoch")
                .smoothed("train", steps(history.metric("accuracy")), smooth)
                .line("test", epochs(Scores::accuracy)),
        ],
    )?;
    let mut wrong = Vec::new();
    for (number, (&label, &predicted)) in
        test.labels.iter().zip(&evaluation.predictions).enumerate()
    {
        if u32::from(label) != predicted {
            wrong.push(sheet::Tile {
                pixels: test.image(number),
                caption: format!("{label} not {predicted}"),
            });
        }
    }
    let names: Vec<String> = (0..test.classes).map(|class| class.to_string()).collect();
    let counts = evaluation.confusion_matrix().unwrap_or_default();
    confusion::draw(out.join("confusion.png"), "True and predicted digits", &counts, &names)?;
    wrong.truncate(100);
    sheet::draw(out.join("mistakes.png"), "Digits it got wrong", test.shape(), &wrong, 0)?;
    Ok(())
}
