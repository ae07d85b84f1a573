//! Training: data sets, the training loop, metrics, weights on disk, pictures, logs.
//!
//! The loop around a compiled step does next to nothing: the data set, the shuffle, the batch, the
//! learning rate and the losses all live on the device. The host queues steps and looks at the
//! losses later.

pub mod augment;
mod callback;
mod checkpoint;
mod course;
pub mod data;
mod dataset;
mod error;
mod evaluator;
mod fit;
mod generator;
mod history;
pub mod log;
pub mod pictures;
mod resident;
mod scores;
mod state;
mod stream;
mod tabular;
mod tensors;
mod tokens;
mod trainer;
mod weights;

pub use augment::{Transform, Transforms};
pub use callback::{Answer, Callback, Control};
pub use checkpoint::Checkpoints;
pub use course::Course;
pub use data::{Cifar10, DataError, ImageFiles, ImageFolder, Images, Join, Mnist, Split, Subset};
pub use dataset::{Dataset, Order, Part, Samples, Statistics};
pub use error::TrainError;
pub use evaluator::{Evaluation, Evaluator};
pub use fit::Fit;
pub use generator::Generator;
pub use history::{Ended, Epoch, History};
pub use log::{CsvLog, LogError, TensorBoard};
pub use resident::{Augmented, Resident};
pub use scores::Scores;
pub use state::{Matched, Resumed};
pub use stream::{Source, Streamed, Streaming};
pub use tabular::Tabular;
pub use tokens::{Padded, Windows};
pub use trainer::Trainer;
pub use weights::{Weights, WeightsError};
