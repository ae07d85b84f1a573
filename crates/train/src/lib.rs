//! Training: data sets, the training loop, metrics, weights on disk, pictures, logs.
//!
//! The loop around a compiled step does next to nothing: the data set, the shuffle, the batch, the
//! learning rate and the losses all live on the device. The host queues steps and looks at the
//! losses later.

mod course;
pub mod data;
mod dataset;
mod error;
mod evaluator;
mod fit;
mod generator;
pub mod log;
pub mod pictures;
mod resident;
mod tabular;
mod tokens;
mod trainer;
mod weights;

pub use course::Course;
pub use data::{Cifar10, DataError, ImageFolder, Images, Join, Mnist, Split, Subset};
pub use dataset::{Dataset, Order, Part, Samples, Statistics};
pub use error::TrainError;
pub use evaluator::{Evaluation, Evaluator};
pub use fit::{Epoch, Fit, History};
pub use generator::Generator;
pub use log::{CsvLog, LogError, TensorBoard};
pub use resident::Resident;
pub use tabular::Tabular;
pub use tokens::{Padded, Windows};
pub use trainer::Trainer;
pub use weights::{Weights, WeightsError};
