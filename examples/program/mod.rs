//! What the examples share.

use anyhow::{Context, Result};
use shadegrad::train::Weights;
use std::path::Path;
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

/// A note of a weights file.
#[allow(dead_code, reason = "the examples on images have none")]
pub(crate) fn note<'w>(weights: &'w Weights, name: &str, path: &Path) -> Result<&'w str> {
    let found = weights.notes.get(name).map(String::as_str);
    found.with_context(|| format!("{}: the note `{name}` is missing", path.display()))
}
