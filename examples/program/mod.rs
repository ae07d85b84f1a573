//! What the examples share.

use anyhow::Result;
use std::process::ExitCode;

/// Prints an error with what caused it, and the exit code.
pub(crate) fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
