//! Training steps to measure: forward, loss, backward and Adam on data of no meaning.

use super::Step;
use crate::models::{AdaptiveAvgPool2d, CausalLm, CausalLmOptions, Positions};
use crate::prelude::*;
use crate::train::data::{
    Images,
    table::{Classes, Table},
};
use crate::train::{Padded, Resident, Samples, Tabular, TrainError, Windows};
use shadegrad_device::random;
use shadegrad_graph::Loaded;

/// A training step.
pub struct Training {
    /// Name on the command line.
    pub name: &'static str,
    /// The model.
    pub about: &'static str,
    /// Samples of a step.
    pub batch: usize,
    /// Compiles the step for a device and a number of samples, in a way.
    pub program: fn(&Device, usize, Step) -> Result<Loaded, TrainError>,
}

/// The training steps that can be measured, each with Adam.
pub const TRAINING: &[Training] = &[
    Training { name: "tiny", about: "linear 2-16-16-2", batch: 32, program: tiny },
    Training {
        name: "mlp",
        about: "linear 784-512-256-10",
        batch: 128,
        program: |device, batch, step| {
            images(device, Mlp::new(&[784, 512, 256, 10]), [1, 28, 28], batch, step)
        },
    },
    Training {
        name: "lenet",
        about: "conv 1-32, conv 32-64, linear 3136-128-10",
        batch: 64,
        program: |device, batch, step| {
            images(device, Cnn::new([1, 28, 28], 10), [1, 28, 28], batch, step)
        },
    },
    Training {
        name: "cifar",
        about: "six conv-batch-norm-relu layers, 64 to 256 channels, of 3x32x32",
        batch: 32,
        program: |device, batch, step| images(device, cifar(), [3, 32, 32], batch, step),
    },
    Training {
        name: "lstm",
        about: "embedding 10 000x128, LSTM 128-128 over 64 tokens, linear 2",
        batch: 32,
        program: lstm,
    },
    Training {
        name: "gpt",
        about: "2 causal blocks, width 128, 4 heads, 64 tokens, vocabulary 65, exact GELU, tied output",
        batch: 16,
        program: gpt,
    },
];

fn tiny(device: &Device, batch: usize, step: Step) -> Result<Loaded, TrainError> {
    let count = 8 * batch as u32;
    let number = |i| random(6, i) as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let table = Table {
        features: (0..2 * count).map(number).collect(),
        columns: vec!["x".to_string(), "y".to_string()],
        targets: Classes {
            // Exclusive or, by sign.
            labels: (0..count).map(|i| u8::from(number(2 * i) * number(2 * i + 1) < 0.0)).collect(),
            names: vec!["same".to_string(), "other".to_string()],
        },
    };
    train(device, Mlp::new(&[2, 16, 16, 2]), &Tabular::new(&table), batch, step)
}

fn images(
    device: &Device,
    model: impl Module,
    shape: [usize; 3],
    batch: usize,
    step: Step,
) -> Result<Loaded, TrainError> {
    let count = 8 * batch;
    let size = shape.iter().product::<usize>() * count;
    let data = Images {
        pixels: (0..size as u32).map(|i| random(1, i) as u8).collect(),
        labels: (0..count as u32).map(|i| (random(2, i) % 10) as u8).collect(),
        channels: shape[0],
        height: shape[1],
        width: shape[2],
        classes: 10,
    };
    train(device, model, &Resident::new(&data), batch, step)
}

/// Six convolutions with batch normalisation, two poolings, the mean of each channel, a linear layer.
pub fn cifar() -> Sequential {
    let layer = |model: Sequential, channels: [usize; 2]| {
        let conv = Conv2d::new(channels[0], channels[1], 3).padding(1).no_bias();
        model.add(conv).add(BatchNorm2d::new(channels[1])).add(Relu)
    };
    let mut model = Sequential::new();
    for (block, channels) in [[3, 64], [64, 128], [128, 256]].into_iter().enumerate() {
        if block > 0 {
            model = model.add(MaxPool2d::new(2));
        }
        model = layer(layer(model, channels), [channels[1]; 2]);
    }
    model.add(AdaptiveAvgPool2d::new([1, 1])).add(Flatten).add(Linear::new(256, 10))
}

fn lstm(device: &Device, batch: usize, step: Step) -> Result<Loaded, TrainError> {
    let count = 8 * batch as u32;
    let tokens: Vec<u32> = (0..count * 64).map(|i| random(3, i) % 10_000).collect();
    let labels: Vec<u8> = (0..count).map(|i| (random(4, i) % 2) as u8).collect();
    let model = LastState::new(10_000, 128, 128, 2);
    train(device, model, &Padded::new(&tokens, 64, &labels), batch, step)
}

fn gpt(device: &Device, batch: usize, step: Step) -> Result<Loaded, TrainError> {
    let text: Vec<u32> = (0..4096).map(|i| random(3, i) % 65).collect();
    let windows = Windows::new(&text, 64).parts(batch, None).remove(0);
    let options = CausalLmOptions {
        vocabulary: 65,
        context: 64,
        width: 128,
        heads: 4,
        layers: 2,
        positions: Positions::Learned,
        dropout: 0.0,
    };
    train(device, CausalLm::new(options), &*windows.samples, batch, step)
}

fn train(
    device: &Device,
    model: impl Module,
    data: &dyn Samples,
    batch: usize,
    step: Step,
) -> Result<Loaded, TrainError> {
    let mut trainer = Trainer::new(device, model, CrossEntropy, Adam::new(1e-3))?;
    if let Some(bytes) = step.recompute {
        trainer = trainer.recompute(bytes);
    }
    if step.apart {
        trainer = trainer.dispatches_apart();
    }
    if step.one_dispatch {
        trainer = trainer.one_dispatch();
    }
    if step.mixed {
        trainer = trainer.mixed_precision();
        if !trainer.is_mixed() {
            return Err(TrainError::Setting {
                what: "the precision",
                value: "mixed".to_string(),
                expected: trainer.precision(),
            });
        }
    }
    trainer.compile(data, batch)
}

/// Embedding, LSTM, and a linear layer on its last state.
pub struct LastState {
    embedding: Embedding,
    lstm: Lstm,
    fc: Linear,
}

named!(LastState { embedding, lstm, fc });

impl LastState {
    /// A model for a vocabulary.
    pub fn new(vocabulary: usize, width: usize, hidden: usize, classes: usize) -> LastState {
        LastState {
            embedding: Embedding::new(vocabulary, width),
            lstm: Lstm::new(width, hidden).batch_first(),
            fc: Linear::new(hidden, classes),
        }
    }
}

impl Module for LastState {
    fn forward(&self, x: &Tensor) -> Tensor {
        let states = self.lstm.run(&self.embedding.forward(x), None, None).states;
        self.fc.forward(&states[0].squeeze(0))
    }
}
