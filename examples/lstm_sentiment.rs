//! Trains an LSTM to tell whether a text is positive or negative, and asks it about others.

mod program;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use shadegrad::device::DType;
use shadegrad::graph::Array;
use shadegrad::models::{ConfusionMatrix, Initializer};
use shadegrad::prelude::*;
use shadegrad::train::data::text::{
    Reading, Report, Sequences, Texts, Vocabulary, WordVectors, generated, tokenize,
};
use shadegrad::train::pictures::{confusion, curves};
use shadegrad::train::{Evaluation, History, Weights};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Notes of a weights file.
const VOCABULARY: &str = "vocabulary";
const CLASSES: &str = "classes";
const SIZES: &str = "sizes";

/// Train an LSTM to tell positive from negative texts, and ask it about others
#[derive(Parser)]
#[command(
    name = "lstm_sentiment",
    after_help = "Examples:\n  lstm_sentiment --data sst2/\n  lstm_sentiment --data aclImdb/ --max-len 300 --glove glove.6B.100d.txt --width 100\n  lstm_sentiment --weights out/lstm_sentiment.safetensors --predict 'not a bad film'\n  lstm_sentiment --weights out/lstm_sentiment.safetensors --interactive"
)]
struct Options {
    /// Folder with train.tsv, test.tsv and perhaps dev.tsv (text, tab, 0 or 1), or with train/ and test/ that hold a
    /// folder of texts for each class (aclImdb). Without it the program writes reviews itself
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Leave out lines and files that can't be read, and count them, where otherwise they are an error
    #[arg(long)]
    skip_bad: bool,
    /// Word vectors to begin with, a text file in the format of GloVe, as wide as --width
    #[arg(long, value_name = "FILE")]
    glove: Option<PathBuf>,
    /// Device: best, cpu, gpu, software, or a name that `shadegrad devices` lists
    #[arg(long, value_name = "NAME", default_value = "best")]
    device: String,
    /// Passes over the training data; the weights of the best on the validation data are kept
    #[arg(long, default_value_t = 8)]
    epochs: usize,
    /// Texts of a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Words of a text that are read at most
    #[arg(long, default_value_t = 256)]
    max_len: usize,
    /// Words that occur less often in the training data are unknown
    #[arg(long, default_value_t = 2)]
    min_count: usize,
    /// Numbers of a word's vector
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// Units of the LSTM in each direction
    #[arg(long, default_value_t = 64)]
    hidden: usize,
    /// Dropout of word vectors and of what the LSTM gives
    #[arg(long, default_value_t = 0.5)]
    dropout: f64,
    /// Share of words that are left out in training
    #[arg(long, default_value_t = 0.1)]
    word_dropout: f64,
    /// Learning rate of AdamW; it rises for 50 steps and falls along a cosine to a twentieth
    #[arg(long, default_value_t = 3e-3)]
    lr: f64,
    /// Seed of weights, batches and dropout: the same seed gives the same bits on the same device
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for weights and pictures
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Weights that an earlier run has written: nothing is trained
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    weights: Option<PathBuf>,
    /// Say what the model makes of a text, word by word
    #[arg(long, value_name = "TEXT")]
    predict: Option<String>,
    /// Ask for texts, and say what the model makes of each
    #[arg(long)]
    interactive: bool,
}

fn main() -> std::process::ExitCode {
    program::finish(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let mut reader = match &options.weights {
        Some(path) => {
            ensure!(
                options.predict.is_some() || options.interactive,
                "--weights wants --predict or --interactive as well"
            );
            load(options, path)?
        }
        None => train(options)?,
    };
    if let Some(text) = &options.predict {
        reader.explain(text)?;
    }
    if options.interactive {
        let mut lines = std::io::stdin().lock().lines();
        loop {
            print!("text> ");
            std::io::stdout().flush()?;
            match lines.next().transpose()? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => reader.explain(&line)?,
                None => break,
            }
        }
        println!();
    }
    Ok(())
}

/// What was left out, if anything was.
fn tell(what: &str, report: &Report) {
    if report.count() > 0 {
        println!("{what}: {report}");
    }
}

/// Texts to train, validate and test on.
fn data(options: &Options) -> Result<[Texts; 3]> {
    let Some(folder) = &options.data else {
        println!("data: reviews that the program writes itself; --data DIR trains on others");
        return Ok([generated(8000, 1), generated(1000, 2), generated(1000, 3)]);
    };
    let reading = Reading::default().skip_bad(options.skip_bad);
    let told = |part: &str, (texts, report): (Texts, Report)| {
        tell(part, &report);
        texts
    };
    if folder.join("train").is_dir() {
        let read = |part| Texts::folder(folder.join(part), &reading).map(|read| told(part, read));
        let [train, dev] = held_out(read("train")?)?;
        return Ok([train, dev, read("test")?]);
    }
    let read = |part: &str| {
        Texts::tsv(folder.join(format!("{part}.tsv")), &reading).map(|read| told(part, read))
    };
    if folder.join("dev.tsv").exists() {
        return Ok([read("train")?, read("dev")?, read("test")?]);
    }
    let [train, dev] = held_out(read("train")?)?;
    Ok([train, dev, read("test")?])
}

/// Every tenth text apart, to validate on.
fn held_out(all: Texts) -> Result<[Texts; 2]> {
    let part = |held: bool| {
        let own = |at: &usize| (at % 10 == 9) == held;
        let numbers: Vec<usize> = (0..all.len()).filter(own).collect();
        let texts = numbers.iter().map(|&at| all.texts[at].clone()).collect();
        let labels = numbers.iter().map(|&at| all.labels[at]).collect();
        Texts::new(texts, labels, all.classes.clone())
    };
    Ok([part(false)?, part(true)?])
}

fn train(options: &Options) -> Result<Reader> {
    for (name, value) in
        [("width", options.width), ("hidden", options.hidden), ("max-len", options.max_len)]
    {
        ensure!(value > 0, "--{name} is 0: it must be at least 1");
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("can't make the folder {}", options.out.display()))?;
    let device = Device::open(&options.device)?;
    println!("device: {}", device.info());
    let [train, dev, test] = data(options)?;
    for (part, other) in [("validation", &dev), ("test", &test)] {
        ensure!(
            other.classes == train.classes,
            "the classes of the {part} texts are {}, those of the training texts {}",
            other.classes.join(", "),
            train.classes.join(", ")
        );
    }
    let vocabulary = Vocabulary::build(train.iter(), options.min_count, None);
    println!(
        "data: {} texts to train on, {} to validate on, {} to test on; a vocabulary of {} has {:.1} % of the test's words",
        train.len(),
        dev.len(),
        test.len(),
        vocabulary.len(),
        vocabulary.coverage(test.iter()) * 100.0
    );
    ensure!(
        vocabulary.len() > 2,
        "no word occurs {} times in the training texts: --min-count is too large",
        options.min_count
    );
    let encode = |texts: &Texts| Sequences::encode(texts, &vocabulary, Some(options.max_len));
    let (own, held, asked) = (encode(&train), encode(&dev), encode(&test));

    let (width, hidden, max_len) = (options.width, options.hidden, options.max_len);
    let mut model = model(vocabulary.len(), [width, hidden], train.classes.len())
        .dropout(options.dropout)
        .word_dropout(options.word_dropout);
    if let Some(path) = &options.glove {
        let reading = Reading::default().skip_bad(options.skip_bad);
        let (vectors, report) =
            WordVectors::glove_with(path, options.width, &vocabulary, &reading)?;
        tell("word vectors", &report);
        println!("word vectors: {} of {} words found", vectors.found(), vocabulary.len());
        // Words without a vector begin at zero.
        let table = vectors.matrix(|_, _| 0.0);
        model =
            model.embedding(Embedding::from_pretrained(vocabulary.len(), options.width, &table)?);
    }
    let fit = Fit::epochs(options.epochs).batch(options.batch).validate(&held).keep_best();
    let steps = fit.total_steps(&own);
    let schedule = WarmUp { steps: steps.min(50), then: Cosine { steps, floor: 0.05 } };
    let mut trainer =
        Trainer::with_seed(&device, model, CrossEntropy, AdamW::new(options.lr), options.seed)?
            .schedule(schedule)
            .clip_grad_norm(1.0)
            .metric(ConfusionMatrix::new(train.classes.len()));
    let report = trainer.report(&own, options.batch)?;
    let buckets =
        own.training_buckets(options.batch).iter().map(|b| b.len.to_string()).collect::<Vec<_>>();
    println!(
        "model: {} parameters; texts are padded to {} words; a step of the longest is {} dispatches and {:.2} GFLOP",
        trainer.parameters().count(),
        buckets.join(", "),
        report.counts.dispatches,
        report.counts.flops as f64 * 1e-9
    );

    let history = trainer.fit(&own, fit)?;
    if let Some(best) = history.best {
        println!("the weights of epoch {best} are kept");
    }
    let found = trainer.evaluate(&asked)?;
    println!("test accuracy: {:.2} % of {} texts", found.scores.accuracy() * 100.0, test.len());

    let mut weights = trainer.weights()?;
    weights.notes.insert(VOCABULARY.into(), vocabulary.to_text());
    weights.notes.insert(CLASSES.into(), train.classes.join("\n"));
    weights.notes.insert(SIZES.into(), format!("{width} {hidden} {max_len}"));
    weights.save(&options.out.join("lstm_sentiment.safetensors"))?;
    pictures(&options.out, &history, &found, &test)?;
    println!(
        "written: lstm_sentiment.safetensors, lstm_sentiment.png and lstm_confusion.png in {}",
        options.out.display()
    );
    Ok(Reader { trainer, vocabulary, classes: names(train.classes), max_len })
}

fn model(vocabulary: usize, [width, hidden]: [usize; 2], classes: usize) -> TextClassifier {
    let small = Initializer::Normal { std: 0.1 };
    TextClassifier::new(vocabulary, width, hidden, classes)
        .embedding(Embedding::new(vocabulary, width).initializer(small))
}

/// The names of two classes that are only numbered.
fn names(classes: Vec<String>) -> Vec<String> {
    match classes.as_slice() {
        [a, b] if a == "0" && b == "1" => vec!["negative".into(), "positive".into()],
        _ => classes,
    }
}

fn pictures(out: &Path, history: &History, found: &Evaluation, test: &Texts) -> Result<()> {
    let epochs = |value: fn(&shadegrad::train::Epoch) -> Option<f64>| {
        let point = |e: &shadegrad::train::Epoch| Some((e.number as f64, value(e)?));
        history.epochs.iter().filter_map(point).collect::<Vec<_>>()
    };
    curves::draw(
        out.join("lstm_sentiment.png"),
        "Training",
        &[
            curves::Panel::new("Loss", "epoch")
                .line("train", epochs(|e| Some(e.train.loss)))
                .line("validation", epochs(|e| Some(e.validation.as_ref()?.loss))),
            curves::Panel::new("Accuracy", "epoch")
                .line("train", epochs(|e| Some(e.train.accuracy())))
                .line("validation", epochs(|e| Some(e.validation.as_ref()?.accuracy()))),
        ],
    )?;
    let classes = names(test.classes.clone());
    let counts = found.confusion_matrix().unwrap_or_default();
    confusion::draw(out.join("lstm_confusion.png"), "True and predicted class", &counts, &classes)?;
    Ok(())
}

/// A model that was trained before.
fn load(options: &Options, path: &Path) -> Result<Reader> {
    let weights = Weights::load(path)?;
    let note = |name| program::note(&weights, name, path);
    let vocabulary = Vocabulary::from_text(note(VOCABULARY)?)?;
    let classes: Vec<String> = note(CLASSES)?.lines().map(str::to_string).collect();
    let sizes: Vec<usize> = note(SIZES)?.split(' ').filter_map(|size| size.parse().ok()).collect();
    let [width, hidden, max_len] = <[usize; 3]>::try_from(sizes)
        .map_err(|_| anyhow::anyhow!("{}: the note `{SIZES}` is damaged", path.display()))?;
    let device = Device::open(&options.device)?;
    let model = model(vocabulary.len(), [width, hidden], classes.len());
    let mut trainer = Trainer::new(&device, model, CrossEntropy, AdamW::new(options.lr))?;
    trainer.restore(&weights, path)?;
    Ok(Reader { trainer, vocabulary, classes: names(classes), max_len })
}

/// A trained model that says what it makes of texts.
struct Reader {
    trainer: Trainer<TextClassifier>,
    vocabulary: Vocabulary,
    classes: Vec<String>,
    /// Words that it reads at most, as when it was trained.
    max_len: usize,
}

impl Reader {
    /// Lengths are rounded up to a multiple of this: each is a program.
    const STEP: usize = 8;
    /// Beginnings of a text that are looked at together.
    const ROWS: usize = 32;

    /// Prints the probability of the last class after each word, and the verdict.
    fn explain(&mut self, text: &str) -> Result<()> {
        let mut ids = self.vocabulary.encode(text);
        if ids.is_empty() {
            println!("there is no word in it");
            return Ok(());
        }
        if ids.len() > self.max_len {
            println!("only the first {} of {} words are read", self.max_len, ids.len());
            ids.truncate(self.max_len);
        }
        // A row for each beginning of the text.
        let side = ids.len().next_multiple_of(Self::STEP);
        let mut logits = Vec::new();
        for first in (0..ids.len()).step_by(Self::ROWS) {
            let mut tokens = vec![f64::from(Vocabulary::PADDING); Self::ROWS * side];
            for (row, line) in tokens.chunks_mut(side).enumerate() {
                for (token, &id) in line.iter_mut().zip(ids.iter().take(first + row + 1)) {
                    *token = f64::from(id);
                }
            }
            let tokens = Array::new(&[Self::ROWS, side], DType::U32, tokens);
            logits.extend(self.trainer.predict(&tokens)?.data);
        }
        let last = self.classes.len() - 1;
        let mut verdict = vec![];
        let words = tokenize(text);
        for ((row, &id), word) in logits.chunks(self.classes.len()).zip(&ids).zip(&words) {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row.iter().map(|l| (l - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            verdict = powers.iter().map(|p| p / sum).collect();
            // In brackets: the model doesn't know the word.
            let word = match id {
                Vocabulary::UNKNOWN => format!("({word})"),
                _ => word.clone(),
            };
            let bar = "#".repeat((verdict[last] * 40.0).round() as usize);
            println!("{word:>16} {:5.1} % {bar}", verdict[last] * 100.0);
        }
        let best = (0..verdict.len()).max_by(|&a, &b| verdict[a].total_cmp(&verdict[b]));
        if let Some(best) = best {
            println!(
                "{}, with a probability of {:.1} %",
                self.classes[best],
                verdict[best] * 100.0
            );
        }
        Ok(())
    }
}
