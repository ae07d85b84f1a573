//! Neural networks trained in compute shaders, on any GPU, and on the CPU where there is none.
//!
//! A whole training step (forward, loss, backward, clipping, optimizer, schedule) is recorded once,
//! compiled once into a list of kernels and replayed from device memory. This crate re-exports the
//! others; `docs/architecture.md` follows one step through them.
//!
//! ```
//! use shadegrad::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::cpu(None);
//! let graph = Graph::new();
//! let x = graph.tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
//! let y = x.matmul(&x).relu().sum_all();
//! let dx = &graph.gradients(&y, &[&x])[0];
//! assert_eq!(y.eval(&device)?.data, [54.0]);
//! assert_eq!(dx.eval(&device)?.data, [7.0, 11.0, 9.0, 13.0]);
//! # Ok(())
//! # }
//! ```

pub mod bench;
pub mod experiment;
pub mod operations;

pub use shadegrad_device as device;
pub use shadegrad_graph as graph;
pub use shadegrad_models as models;
pub use shadegrad_train as train;

/// What most programs need.
pub mod prelude {
    pub use crate::device::{DType, Device};
    pub use crate::graph::{
        AttentionOptions, ConvOptions, Graph, Init, Interpolation, PadMode, Padding, PoolOptions,
        Session, Tensor, Variable,
    };
    pub use crate::models::{
        Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Asgd, AvgPool2d, BatchNorm1d,
        BatchNorm2d, Cnn, Constant, ConstantLR, Conv1d, Conv2d, Cosine, CosineAnnealingLR,
        CosineAnnealingWarmRestarts, CrossEntropy, CyclicLR, Dropout, Embedding, ExponentialLR,
        Flatten, Gelu, Group, GroupNorm, Gru, Lamb, LayerNorm, Linear, LinearLR, Lion, Loss, Lstm,
        MaxPool2d, Mlp, Module, Mse, MultiStepLR, Muon, NAdam, Named, Noam, OneCycleLR, Optimizer,
        Parameter, Parameters, PolynomialLR, RAdam, RMSprop, ReduceLROnPlateau, Reduction, Relu,
        Rnn, Rprop, Schedule, Sequential, SequentialLR, Sgd, Silu, StepLR, TextClassifier, Updater,
        WarmUp, named,
    };
    pub use crate::train::{
        Cifar10, CsvLog, Dataset, Fit, ImageFolder, Images, Join, Mnist, Split, Subset,
        TensorBoard, Trainer,
    };
}

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The programs of the page on training compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/training.md")]
struct Training;

/// The programs of the page on operations run.
#[cfg(doctest)]
#[doc = include_str!("../docs/adding-an-operation.md")]
struct AddingAnOperation;
