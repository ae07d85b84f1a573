//! The file that describes an experiment: data, model, optimizer, schedule, training.
//!
//! Every table refuses keys that it doesn't know; errors name the line.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// An experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for what is written; `runs/` and the file's name if nothing is said.
    pub out: Option<PathBuf>,
    /// A device as `shadegrad devices` lists them.
    #[serde(default = "best")]
    pub device: String,
    /// Choose the shaders of products and convolutions by measuring, on adapters.
    #[serde(default)]
    pub autotune: bool,
    /// Seed of weights, shuffles, splits and dropout.
    #[serde(default)]
    pub seed: u64,
    /// What is trained on.
    pub data: Data,
    /// What is trained.
    #[serde(default)]
    pub model: Model,
    /// How weights are updated.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// What the learning rate is multiplied by.
    #[serde(default)]
    pub schedule: Schedule,
    /// For how long, and what is kept.
    #[serde(default)]
    pub train: Train,
}

/// What is trained on.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Data {
    /// Folders of images, a folder for each class.
    Images {
        /// Folder with the folders to train on.
        train: PathBuf,
        /// A part of the training images, or another folder.
        #[serde(default)]
        validate: Held,
        /// Height and width that images are brought to, or one number for both.
        #[serde(default = "size")]
        size: Size,
        /// One channel instead of three.
        #[serde(default)]
        grey: bool,
        /// Files are read when they are needed, again in each epoch, instead of being held in memory.
        #[serde(default)]
        stream: bool,
        /// How images are changed at random while training.
        #[serde(default)]
        augment: Augment,
    },
    /// The handwritten digits, from a folder, the cache or the network.
    Mnist {
        /// Folder with the four files.
        train: Option<PathBuf>,
        /// How images are changed at random while training.
        #[serde(default)]
        augment: Augment,
    },
    /// CIFAR-10 in its binary form.
    Cifar10 {
        /// Folder with `data_batch_1.bin` and the others.
        train: PathBuf,
        /// How images are changed at random while training.
        #[serde(default)]
        augment: Augment,
    },
    /// A table of comma- or tab-separated values.
    Table {
        /// The file, with a line of names.
        train: PathBuf,
        /// A part of its rows, or another file.
        #[serde(default)]
        validate: Held,
        /// Name of the column that is to be told from the others.
        target: String,
        /// Whether the target is a number instead of a class.
        #[serde(default)]
        regression: bool,
        /// Columns of categories whose names look like numbers.
        #[serde(default)]
        categorical: Vec<String>,
        /// Columns that nothing is learnt from.
        #[serde(default)]
        omit: Vec<String>,
        /// Texts that stand where a value is missing.
        #[serde(default)]
        missing: Vec<String>,
    },
    /// Texts in a table of comma- or tab-separated values, with a class each.
    Text {
        /// The file, with a line of names.
        train: PathBuf,
        /// A part of its rows, or another file.
        #[serde(default)]
        validate: Held,
        /// Name of the column of texts.
        text: String,
        /// Name of the column of classes.
        target: String,
        /// Words that are read of a text, at most.
        #[serde(default = "max_len")]
        max_len: usize,
        /// Words that occur less often in the texts to train on are unknown.
        #[serde(default = "min_count")]
        min_count: usize,
    },
}

fn max_len() -> usize {
    256
}

fn min_count() -> usize {
    2
}

/// What is held back to validate on.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Held {
    /// This part of the training data.
    Part(f64),
    /// Other data.
    Other(PathBuf),
}

impl Default for Held {
    fn default() -> Held {
        Held::Part(0.1)
    }
}

/// Height and width.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// Both the same.
    Square(usize),
    /// Height, width.
    Sides([usize; 2]),
}

impl Size {
    /// Height, width.
    pub fn sides(self) -> [usize; 2] {
        match self {
            Size::Square(side) => [side; 2],
            Size::Sides(sides) => sides,
        }
    }
}

fn size() -> Size {
    Size::Square(64)
}

fn best() -> String {
    "best".to_string()
}

/// How images are changed at random while training, in this order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Mirror left and right with this probability.
    pub horizontal_flip: Option<f64>,
    /// Mirror top and bottom with this probability.
    pub vertical_flip: Option<f64>,
    /// Move by at most so many pixels.
    pub crop: Option<usize>,
    /// Rotate by at most so many degrees.
    pub rotate: Option<f64>,
    /// Scale by a factor between these.
    pub scale: Option<[f64; 2]>,
    /// Change brightness by at most this part.
    pub brightness: Option<f64>,
    /// Change contrast by at most this part.
    pub contrast: Option<f64>,
    /// Change saturation by at most this part.
    pub saturation: Option<f64>,
    /// Move the hue by at most this part of the circle of colours.
    pub hue: Option<f64>,
    /// Blacken a square of so many pixels.
    pub cutout: Option<usize>,
}

/// What is trained.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Model {
    /// A network for the data: convolutions for images, linear layers for tables, an LSTM for texts.
    #[default]
    Auto,
    /// Linear layers with rectifiers between them.
    Mlp {
        /// The widths between the first and the last.
        #[serde(default = "hidden")]
        hidden: Vec<usize>,
        /// Probability of dropping a number of the hidden layers.
        #[serde(default)]
        dropout: f64,
    },
    /// Blocks of two convolutions with normalisation, each half as large as the one before.
    Cnn {
        /// Channels of each block.
        #[serde(default = "channels")]
        channels: Vec<usize>,
        /// Probability of dropping a number before the last layer.
        #[serde(default)]
        dropout: f64,
    },
    /// Vectors of words, an LSTM in both directions, and the largest of what it gives over the words.
    Lstm {
        /// Numbers of a word's vector.
        #[serde(default = "width")]
        width: usize,
        /// Units in each direction.
        #[serde(default = "units")]
        hidden: usize,
        /// Probability of dropping a number of a word's vector and of what the LSTM gives.
        #[serde(default = "half")]
        dropout: f64,
        /// Probability of leaving out a word.
        #[serde(default = "tenth")]
        word_dropout: f64,
    },
    /// A stack of layers. A last linear one, to the classes or the number, follows by itself.
    Layers {
        /// From the first to the last but one.
        layers: Vec<Layer>,
    },
}

fn hidden() -> Vec<usize> {
    vec![128, 64]
}

fn channels() -> Vec<usize> {
    vec![32, 64, 128]
}

fn width() -> usize {
    128
}

fn units() -> usize {
    64
}

fn half() -> f64 {
    0.5
}

fn tenth() -> f64 {
    0.1
}

impl Model {
    /// An LSTM with everything as usual.
    pub(super) fn lstm() -> Model {
        let (dropout, word_dropout) = (half(), tenth());
        Model::Lstm { width: width(), hidden: units(), dropout, word_dropout }
    }
}

/// A layer; sizes of inputs are those of the outputs before.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// A convolution of images.
    Conv2d {
        /// Channels of the result.
        out: usize,
        /// Side of the window.
        #[serde(default = "three")]
        kernel: usize,
        /// Pixels from one window to the next.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros on each side.
        #[serde(default)]
        padding: usize,
    },
    /// A linear layer.
    Linear {
        /// Numbers of the result.
        out: usize,
    },
    /// The largest of each window.
    MaxPool {
        /// Side of the window, and pixels to the next.
        size: usize,
    },
    /// The mean of each window.
    AvgPool {
        /// Side of the window, and pixels to the next.
        size: usize,
    },
    /// Numbers are dropped while training.
    Dropout {
        /// With this probability.
        p: f64,
    },
    /// Normalisation over the batch.
    BatchNorm,
    /// The mean of each channel.
    GlobalAvgPool,
    /// Images as lists of numbers.
    Flatten,
    /// `max(x, 0)`.
    Relu,
    /// Gaussian error linear unit.
    Gelu,
    /// `x sigmoid(x)`.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

/// How weights are updated. Settings that aren't given are PyTorch's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// One of `adadelta`, `adafactor`, `adagrad`, `adam`, `adamax`, `adamw`, `asgd`, `lamb`, `lion`, `muon`, `nadam`, `radam`,
    /// `rmsprop`, `rprop`, `sgd`.
    #[serde(default = "adamw")]
    pub name: String,
    /// Learning rate.
    #[serde(default = "rate")]
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// Momentum, of `sgd` and `rmsprop`.
    pub momentum: Option<f64>,
}

fn adamw() -> String {
    "adamw".to_string()
}

fn rate() -> f64 {
    1e-3
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer { name: adamw(), lr: rate(), weight_decay: None, momentum: None }
    }
}

/// What the learning rate is multiplied by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// One of `constant`, `cosine`, `exponential`, `linear`, `one-cycle`, `step`.
    #[serde(default = "cosine")]
    pub name: String,
    /// Steps in which the rate rises from nearly nothing.
    #[serde(default)]
    pub warmup: usize,
    /// Epochs from one step down to the next, of `step`.
    pub step_size: Option<usize>,
    /// What the rate is multiplied by with each step of `step` or epoch of `exponential`.
    pub gamma: Option<f64>,
    /// The last factor, of `cosine` and `linear`.
    pub floor: Option<f64>,
}

fn cosine() -> String {
    "cosine".to_string()
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { name: cosine(), warmup: 0, step_size: None, gamma: None, floor: None }
    }
}

/// For how long, and what is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the data.
    pub epochs: usize,
    /// Samples of a step.
    pub batch: usize,
    /// Largest norm of the gradient.
    pub clip_grad_norm: Option<f64>,
    /// Steps whose gradients make one update.
    pub accumulate: usize,
    /// Mix samples in pairs, with shares of the distribution Beta(mixup, mixup).
    pub mixup: Option<f64>,
    /// Validations without a better one after which training stops.
    pub early_stopping: Option<usize>,
    /// The score that says which epoch is best.
    pub monitor: Option<String>,
    /// Steps from one checkpoint to the next; an epoch if nothing is said.
    pub checkpoint_steps: Option<usize>,
    /// Megabytes of scratch memory to aim at by computing activations again.
    pub recompute_mb: Option<f64>,
    /// Keep activations in half precision, where the device can.
    pub mixed_precision: bool,
}

impl Default for Train {
    fn default() -> Train {
        Train {
            epochs: 10,
            batch: 64,
            clip_grad_norm: None,
            accumulate: 1,
            mixup: None,
            early_stopping: None,
            monitor: None,
            checkpoint_steps: None,
            recompute_mb: None,
            mixed_precision: false,
        }
    }
}

impl Config {
    /// Reads a file. Paths in it are relative to the folder that it is in.
    ///
    /// # Errors
    /// With the file's name, and the line and key that are wrong.
    pub fn read(path: &Path) -> Result<(Config, String)> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read {}", path.display()))?;
        let mut config = Config::parse(&text).with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let beside = |path: &mut PathBuf| *path = folder.join(&*path);
        match &mut config.data {
            Data::Images { train, validate, .. }
            | Data::Table { train, validate, .. }
            | Data::Text { train, validate, .. } => {
                beside(train);
                if let Held::Other(other) = validate {
                    beside(other);
                }
            }
            Data::Cifar10 { train, .. } => beside(train),
            Data::Mnist { train, .. } => train.iter_mut().for_each(beside),
        }
        let name = path.file_stem().unwrap_or_default();
        config.out.get_or_insert_with(|| Path::new("runs").join(name));
        Ok((config, text))
    }

    /// The folder to write to.
    pub(super) fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("runs"))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// With the line and key that are wrong.
    pub fn parse(text: &str) -> Result<Config> {
        Ok(toml::from_str(text)?)
    }
}
