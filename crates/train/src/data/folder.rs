//! What is in a folder, in an order that doesn't depend on the system.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::DataError;

/// Names and paths of what `wanted` picks from a folder, sorted by name. Names that begin with a dot are passed
/// over: systems and editors leave them behind.
pub(super) fn entries(
    folder: &Path,
    wanted: impl Fn(&str, &Path) -> bool,
) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::at(folder))? {
        let entry = entry.map_err(DataError::at(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && wanted(&name, &entry.path()) {
            entries.push((name, entry.path()));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}
