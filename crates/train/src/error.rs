//! What can go wrong in training.

use crate::{DataError, WeightsError};
use shadegrad_graph::GraphError;
use shadegrad_models::ParameterError;

impl TrainError {
    pub(crate) fn setting(what: &'static str, value: usize, expected: &str) -> TrainError {
        let (value, expected) = (value.to_string(), expected.to_string());
        TrainError::Setting { what, value, expected }
    }
}

/// A failure of training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Recording, compiling or running failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The model's parameters are not well-formed.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The data is not well-formed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights can't be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A callback failed.
    #[error("a callback ended training: {0}")]
    Callback(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A setting that makes no sense.
    #[error("{what} is {value}: it must be {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it can be.
        expected: String,
    },
    /// The loss became NaN or infinite.
    #[error(
        "the loss is {loss} at step {step}: {cause}. Weights are as before that step, or the best where these are kept; try a \
         lower learning rate, or clip the gradient"
    )]
    Diverged {
        /// The step, from zero.
        step: usize,
        /// What it is.
        loss: f32,
        /// The first operation that isn't finite, or the parameter.
        cause: String,
    },
}
