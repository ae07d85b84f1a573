//! What can go wrong between recording and reading back.
//!
//! Recording never stops the user: the graph keeps the first mistake, later values are poisoned,
//! and `compile` returns it. Maths stays free of `?`, and nothing is lost.

use shadegrad_device::DeviceError;
use std::panic::Location;

/// A failure of recording, compiling or running.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GraphError {
    /// An operation was given what it can't take.
    #[error("{operation} of {inputs} at {at}: {reason}")]
    Operation {
        /// The operation.
        operation: String,
        /// The types of its inputs.
        inputs: String,
        /// What is wrong.
        reason: String,
        /// The user's source line.
        at: &'static Location<'static>,
    },
    /// A value that has no gradient was differentiated.
    #[error("{operation} at {at} has no gradient: {reason}")]
    NoGradient {
        /// The operation.
        operation: String,
        /// Why it has none.
        reason: String,
        /// The user's source line.
        at: &'static Location<'static>,
    },
    /// Parameters that the loss doesn't depend on.
    #[error("the loss does not depend on {names}")]
    Unused {
        /// Their names.
        names: String,
    },
    /// A tensor of another graph, variable of another session, or data of another size.
    #[error("{what}: expected {expected}, got {found}")]
    Mismatch {
        /// What was given.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A stage of the compiler broke its own rules: a defect of this crate.
    #[error("the compiler's {stage} stage is wrong: {reason}")]
    Compiler {
        /// The stage.
        stage: &'static str,
        /// What its verifier found.
        reason: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] std::sync::Arc<DeviceError>),
}

impl From<DeviceError> for GraphError {
    fn from(error: DeviceError) -> Self {
        GraphError::Device(std::sync::Arc::new(error))
    }
}
