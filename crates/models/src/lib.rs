//! Layers, models, losses, optimizers, schedules and initialisers.
//!
//! Names, argument order, defaults and weight layouts are PyTorch's, so that knowledge and weights
//! carry over. A model never sees a kernel: everything here is made of tensor operations.

mod activation;
mod init;
mod layer;
mod loss;
mod module;
mod network;
mod optimizer;
mod parameter;
mod schedule;
mod update;

pub use activation::{Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh};
pub use init::Initializer;
pub use layer::{AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d};
pub use loss::{CrossEntropy, Loss, Mse, correct, cross_entropy, mse};
pub use module::{Module, Named, Sequential, Visitor};
pub use network::{Cnn, Mlp};
pub use optimizer::{Adam, AdamW, Optimizer, Sgd, Update, Updated};
pub use parameter::{Parameter, ParameterError, Parameters};
pub use schedule::{Constant, Cosine, Schedule, WarmUp};
pub use update::{Updater, clip_grad_norm};
