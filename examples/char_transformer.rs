//! Trains a transformer on a text, character by character, and prints what it writes as it learns.

mod program;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use shadegrad::models::{CausalLm, CausalLmOptions, Positions, Sampling};
use shadegrad::prelude::*;
use shadegrad::train::data::text::{Characters, generated};
use shadegrad::train::pictures::curves;
use shadegrad::train::{Course, Generator, History, Weights, Windows};
use std::path::{Path, PathBuf};

/// The note of a weights file that holds the characters.
const CHARACTERS: &str = "characters";
/// The note with the model's sizes.
const SIZES: &str = "sizes";

/// Train a causal transformer on the characters of a text, and print what it writes as it learns
#[derive(Parser)]
#[command(
    name = "char_transformer",
    after_help = "Examples:\n  char_transformer --data input.txt\n  char_transformer --weights out/char_transformer.safetensors --prompt 'ROMEO:' --length 1000"
)]
struct Options {
    /// Text file in UTF-8 to train on, or a folder with one named input.txt; its last tenth is what the model is
    /// validated on. Without it the program writes reviews itself
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Device: best, cpu, gpu, software, or a name that `shadegrad devices` lists
    #[arg(long, value_name = "NAME", default_value = "best")]
    device: String,
    /// Training steps
    #[arg(long, default_value_t = 2000)]
    steps: usize,
    /// Windows of the text in a step
    #[arg(long, default_value_t = 12)]
    batch: usize,
    #[command(flatten)]
    model: Sizes,
    /// Learning rate of AdamW; it rises for a twentieth of the steps and falls along a cosine to a twentieth
    #[arg(long, default_value_t = 3e-3)]
    lr: f64,
    /// Seed of weights, windows and samples: the same seed gives the same bits on the same device
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps between two samples
    #[arg(long, default_value_t = 500)]
    every: usize,
    /// Characters of a sample
    #[arg(long, default_value_t = 300)]
    length: usize,
    /// What samples begin with; a new line if none is given
    #[arg(long)]
    prompt: Option<String>,
    /// What logits are divided by: below one the likely becomes likelier, at zero the likeliest is taken
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Only so many of the likeliest characters are drawn; all if none is given
    #[arg(long)]
    top_k: Option<usize>,
    /// Folder for weights, samples and curves
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Weights that an earlier run has written: nothing is trained, the prompt is continued
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    weights: Option<PathBuf>,
}

/// The model's sizes.
#[derive(Parser)]
struct Sizes {
    /// Characters that the model sees at once
    #[arg(long, default_value_t = 64)]
    context: usize,
    /// Blocks
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Heads of each block
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Numbers of a character's vector; heads divide it
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// How the model knows where a character stands
    #[arg(long, value_enum, default_value_t = Places::Rotary)]
    positions: Places,
    /// Dropout everywhere
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Places {
    Learned,
    Sinusoidal,
    Rotary,
}

impl Sizes {
    fn to_text(&self) -> String {
        let Sizes { context, layers, heads, width, positions, .. } = self;
        format!("{context} {layers} {heads} {width} {}", format!("{positions:?}").to_lowercase())
    }

    fn from_text(text: &str) -> Option<Sizes> {
        let mut words = text.split(' ');
        let mut size = || words.next()?.parse().ok();
        let (context, layers, heads, width) = (size()?, size()?, size()?, size()?);
        let positions = Places::from_str(words.next()?, true).ok()?;
        Some(Sizes { context, layers, heads, width, positions, dropout: 0.0 })
    }

    fn options(&self, vocabulary: usize) -> Result<CausalLmOptions> {
        let &Sizes { context, layers, heads, width, dropout, .. } = self;
        ensure!(
            heads > 0 && width > 0 && width.is_multiple_of(2 * heads),
            "a width of {width} is no even number for each of {heads} heads"
        );
        let positions = match self.positions {
            Places::Learned => Positions::Learned,
            Places::Sinusoidal => Positions::Sinusoidal,
            Places::Rotary => Positions::Rotary,
        };
        Ok(CausalLmOptions { vocabulary, context, width, heads, layers, positions, dropout })
    }
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    program::finish(match &options.weights {
        Some(weights) => write(&options, weights),
        None => train(&options),
    })
}

/// The text to train on.
fn text(options: &Options) -> Result<String> {
    let Some(path) = &options.data else {
        println!("data: reviews that the program writes itself; --data FILE trains on a text");
        return Ok(generated(20_000, options.seed).texts.join("\n"));
    };
    let path = if path.is_dir() { path.join("input.txt") } else { path.clone() };
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    String::from_utf8(bytes).with_context(|| format!("{} is no UTF-8 text", path.display()))
}

fn trainer(options: &Options, sizes: CausalLmOptions) -> Result<Trainer<CausalLm>> {
    let device = Device::open(&options.device)?;
    println!("device: {}", device.info());
    let adam = AdamW::new(options.lr).betas(0.9, 0.99).weight_decay(0.1);
    let steps = options.steps;
    let schedule =
        WarmUp { steps: steps / 20, then: Cosine { steps: steps - steps / 20, floor: 0.05 } };
    let trainer =
        Trainer::with_seed(&device, CausalLm::new(sizes), CrossEntropy, adam, options.seed)?;
    Ok(trainer.schedule(schedule).clip_grad_norm(1.0))
}

fn sampling(options: &Options) -> Sampling {
    Sampling { temperature: options.temperature, top_k: options.top_k }
}

fn train(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("can't make the folder {}", options.out.display()))?;
    let text = text(options)?;
    let characters = Characters::new(&text);
    let tokens = characters.encode(&text)?;
    let (own, held) = tokens.split_at(tokens.len() - tokens.len() / 10);
    prompt(&characters, options)?;
    let train = Windows::new(own, options.model.context);
    let validation = Windows::new(held, options.model.context).apart();
    ensure!(
        options.batch <= train.len() && !validation.is_empty(),
        "{} characters are too few for {} windows of {}",
        tokens.len(),
        options.batch,
        options.model.context
    );
    println!(
        "data: {} characters, {} of them different; {} to train on",
        tokens.len(),
        characters.len(),
        own.len()
    );

    let mut trainer = trainer(options, options.model.options(characters.len())?)?;
    let report = trainer.report(&train, options.batch)?;
    println!(
        "model: {} parameters; a step of {} windows of {} characters is {} dispatches and {:.2} GFLOP",
        trainer.parameters().count(),
        options.batch,
        options.model.context,
        report.counts.dispatches,
        report.counts.flops as f64 * 1e-9
    );
    let mut course = trainer.start(&train, options.batch)?;
    let mut evaluator = trainer.evaluator(&validation)?;
    let mut generator = trainer.generator(sampling(options), options.seed)?;
    let mut history = History::default();
    let (mut validated, mut samples) = (Vec::new(), String::new());
    let bar = ProgressBar::new(options.steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {msg}, {eta} left")?);
    while history.losses.len() < options.steps {
        advance(&mut trainer, &mut course, options, &mut history, &bar)?;
        let step = history.losses.len();
        if step % options.every.max(1) != 0 && step < options.steps {
            continue;
        }
        let found = trainer.evaluate_with(&mut evaluator)?;
        let sample = continued(&mut generator, &mut trainer, &characters, options)?;
        let recent = history.losses.iter().rev().take(100).map(|&l| f64::from(l));
        let entry = format!(
            "--- step {step}: loss {:.3}, validation loss {:.4} nats a character\n{sample}\n",
            recent.clone().sum::<f64>() / recent.count() as f64,
            found.scores.loss
        );
        bar.suspend(|| println!("{entry}"));
        samples += &entry;
        validated.push((step as f64, found.scores.loss));
    }
    bar.finish_and_clear();

    let mut weights = trainer.weights()?;
    weights.notes.insert(CHARACTERS.into(), characters.to_text());
    weights.notes.insert(SIZES.into(), options.model.to_text());
    weights.save(&options.out.join("char_transformer.safetensors"))?;
    std::fs::write(options.out.join("samples.txt"), samples)?;
    let losses = history.losses.iter().enumerate().map(|(step, &l)| (step as f64, f64::from(l)));
    let panel = curves::Panel::new("Loss in nats a character", "step")
        .smoothed("train", losses.collect(), (options.steps / 50).max(1))
        .line("validation", validated.clone());
    curves::draw(options.out.join("char_transformer.png"), "Training", &[panel])?;
    if let Some((_, loss)) = validated.last() {
        println!(
            "validation loss: {loss:.4} nats a character, over {} characters",
            validation.len() * options.model.context
        );
    }
    println!(
        "written: char_transformer.safetensors, samples.txt and char_transformer.png in {}",
        options.out.display()
    );
    Ok(())
}

/// Trains up to the next sample, in parts short enough to show how it goes.
fn advance(
    trainer: &mut Trainer<CausalLm>,
    course: &mut Course,
    options: &Options,
    history: &mut History,
    bar: &ProgressBar,
) -> Result<()> {
    let done = history.losses.len();
    let next = (done / options.every.max(1) + 1) * options.every.max(1);
    let steps = (next.min(options.steps) - done).min(50);
    trainer.advance(course, steps, history)?;
    bar.set_position(history.losses.len() as u64);
    bar.set_message(format!("loss {:.3}", history.losses.last().copied().unwrap_or_default()));
    Ok(())
}

/// The text to continue, and its characters.
fn prompt(characters: &Characters, options: &Options) -> Result<(String, Vec<u32>)> {
    let Some(text) = &options.prompt else {
        // A text without lines has a first character all the same.
        let tokens = characters.encode("\n").unwrap_or_else(|_| vec![0]);
        return Ok((characters.decode(&tokens), tokens));
    };
    ensure!(!text.is_empty(), "--prompt is empty: there is nothing to continue");
    Ok((text.clone(), characters.encode(text).context("--prompt")?))
}

/// The prompt and what the model makes of it.
fn continued(
    generator: &mut Generator,
    trainer: &mut Trainer<CausalLm>,
    characters: &Characters,
    options: &Options,
) -> Result<String> {
    let (text, tokens) = prompt(characters, options)?;
    let more = generator.generate(trainer, &tokens, options.length)?;
    Ok(text + &characters.decode(&more))
}

/// Continues the prompt with a model that was trained before.
fn write(options: &Options, path: &Path) -> Result<()> {
    let weights = Weights::load(path)?;
    let characters = Characters::new(program::note(&weights, CHARACTERS, path)?);
    let sizes = Sizes::from_text(program::note(&weights, SIZES, path)?)
        .with_context(|| format!("{}: the note `{SIZES}` is damaged", path.display()))?;
    let mut trainer = trainer(options, sizes.options(characters.len())?)?;
    trainer.restore(&weights, path)?;
    let mut generator = trainer.generator(sampling(options), options.seed)?;
    println!("{}", continued(&mut generator, &mut trainer, &characters, options)?);
    Ok(())
}
