//! Named tensors in a file of the safetensors format, written whole or not at all.
//!
//! A file is written beside its place, synced and renamed: whatever happens meanwhile, the one
//! that was there stays whole.

use crate::WeightsError;
use crate::checkpoint::PART;
use bytemuck::NoUninit;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Little endian, row-major.
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn new<T: NoUninit>(dtype: Dtype, shape: Vec<usize>, values: &[T]) -> Stored {
        Stored { dtype, shape, bytes: bytemuck::cast_slice(values).to_vec() }
    }
}

/// Tensors and notes by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TensorFile {
    pub(crate) tensors: BTreeMap<String, Stored>,
    pub(crate) notes: BTreeMap<String, String>,
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> WeightsError {
    let path = path.to_path_buf();
    move |source| WeightsError::Io { path: path.clone(), source }
}

impl TensorFile {
    /// Writes the file, replacing one that is there only when the new one is whole.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; the file that was there is as it was.
    pub(crate) fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let format = |error: safetensors::SafeTensorError| WeightsError::Format {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let mut views = Vec::new();
        for (name, t) in &self.tensors {
            let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes).map_err(format)?;
            views.push((name.as_str(), view));
        }
        let notes = (!self.notes.is_empty()).then(|| self.notes.clone().into_iter().collect());
        let file = safetensors::serialize(views, notes).map_err(format)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut part =
            tempfile::Builder::new().prefix(PART).tempfile_in(folder).map_err(io(path))?;
        part.write_all(&file).and_then(|()| part.as_file().sync_all()).map_err(io(path))?;
        part.persist(path).map_err(|error| io(path)(error.error))?;
        // The rename itself must reach the disk; not every system can sync a folder.
        let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`WeightsError::Io`] or [`WeightsError::Format`].
    pub(crate) fn load(path: &Path) -> Result<TensorFile, WeightsError> {
        let file = std::fs::read(path).map_err(io(path))?;
        let wrong = |reason: String| WeightsError::Format { path: path.to_path_buf(), reason };
        let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|e| wrong(e.to_string()))?;
        let notes = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        let parsed = SafeTensors::deserialize(&file).map_err(|e| wrong(e.to_string()))?;
        let stored = |view: &TensorView<'_>| Stored {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        let tensors = parsed.iter().map(|(name, view)| (name.to_string(), stored(&view)));
        Ok(TensorFile { tensors: tensors.collect(), notes })
    }
}
