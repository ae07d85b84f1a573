//! Weights on disk, in the safetensors format.
//!
//! A file is written beside its place, synced and renamed: whatever happens meanwhile, the one
//! that was there stays whole. Half-precision files load too.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Named tensors of floats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Shape and elements, row-major, by name.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Notes, such as how inputs are normalised.
    pub notes: BTreeMap<String, String>,
}

/// Why weights can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file can't be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no safetensors file, or a damaged one.
    #[error("{}: not a whole safetensors file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file's tensors are not the model's.
    #[error("{}: the weights don't fit the model:{report}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Missing, extra and misshapen tensors, a line each.
        report: String,
    },
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> WeightsError {
    let path = path.to_path_buf();
    move |source| WeightsError::Io { path: path.clone(), source }
}

impl Weights {
    /// Writes the file, replacing one that is there only when the new one is whole.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; the file that was there is as it was.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, (_, data))| (name, data.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let format = |error: safetensors::SafeTensorError| WeightsError::Format {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let mut views = BTreeMap::new();
        for (name, (shape, _)) in &self.tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).map_err(format)?;
            views.insert(name.clone(), view);
        }
        let notes = (!self.notes.is_empty()).then(|| self.notes.clone().into_iter().collect());
        let file = safetensors::serialize(views, notes).map_err(format)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut part = tempfile::NamedTempFile::new_in(folder).map_err(io(path))?;
        part.write_all(&file).and_then(|()| part.as_file().sync_all()).map_err(io(path))?;
        part.persist(path).map_err(|error| io(path)(error.error))?;
        // The rename itself must reach the disk; not every system can sync a folder.
        let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }

    /// Reads a file of `F32`, `F16` or `BF16` tensors.
    ///
    /// # Errors
    /// [`WeightsError::Io`] or [`WeightsError::Format`].
    pub fn load(path: &Path) -> Result<Weights, WeightsError> {
        let file = std::fs::read(path).map_err(io(path))?;
        let wrong = |reason: String| WeightsError::Format { path: path.to_path_buf(), reason };
        let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|e| wrong(e.to_string()))?;
        let notes = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        let parsed = SafeTensors::deserialize(&file).map_err(|e| wrong(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.iter() {
            let data = match view.dtype() {
                Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
                Dtype::F16 => halves(view.data(), half::f16::from_le_bytes, half::f16::to_f32),
                Dtype::BF16 => halves(view.data(), half::bf16::from_le_bytes, half::bf16::to_f32),
                other => {
                    return Err(wrong(format!(
                        "tensor `{name}` is {other:?}, not a float of 16 or 32 bits"
                    )));
                }
            };
            tensors.insert(name.to_string(), (view.shape().to_vec(), data));
        }
        Ok(Weights { tensors, notes })
    }

    /// The tensors in the order of `names`, one after the other.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with every tensor that is missing, extra or of another shape.
    pub fn flat<'n>(
        &self,
        names: impl Iterator<Item = (&'n str, &'n [usize])>,
        path: &Path,
    ) -> Result<Vec<f32>, WeightsError> {
        let (mut flat, mut report, mut known) = (Vec::new(), String::new(), Vec::new());
        for (name, shape) in names {
            known.push(name);
            match self.tensors.get(name) {
                None => report += &format!("\n  `{name}` {shape:?} is missing"),
                Some((found, _)) if found != shape => {
                    report += &format!("\n  `{name}` is {found:?}, not {shape:?}");
                }
                Some((_, data)) => flat.extend(data),
            }
        }
        for name in self.tensors.keys().filter(|name| !known.contains(&name.as_str())) {
            report += &format!("\n  `{name}` is not part of the model");
        }
        match report.is_empty() {
            true => Ok(flat),
            false => Err(WeightsError::Mismatch { path: path.to_path_buf(), report }),
        }
    }
}

fn halves<H>(data: &[u8], from: impl Fn([u8; 2]) -> H, to: impl Fn(H) -> f32) -> Vec<f32> {
    data.as_chunks::<2>().0.iter().map(|&pair| to(from(pair))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn weights() -> Weights {
        let mut weights = Weights::default();
        weights
            .tensors
            .insert("fc.weight".into(), (vec![2, 3], vec![1.0, -2.5, 3.0, 0.0, 1e-8, 7.0]));
        weights.tensors.insert("fc.bias".into(), (vec![2], vec![0.5, -0.5]));
        weights.notes.insert("mean".into(), "33.3".into());
        weights
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        weights().save(&path).unwrap();
        assert_eq!(Weights::load(&path).unwrap(), weights());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn half_precision_files_load() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.safetensors");
        let values = [1.0f32, -2.5, 0.125];
        let f16: Vec<u8> =
            values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let bf16: Vec<u8> =
            values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        let views = [
            ("a", TensorView::new(Dtype::F16, vec![3], &f16).unwrap()),
            ("b", TensorView::new(Dtype::BF16, vec![3], &bf16).unwrap()),
        ];
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let loaded = Weights::load(&path).unwrap();
        assert_eq!(loaded.tensors["a"].1, values);
        assert_eq!(loaded.tensors["b"].1, values);
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let error = |result: Result<Weights, WeightsError>| result.unwrap_err().to_string();
        assert!(error(Weights::load(&path)).contains("w.safetensors"));
        weights().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 7, 8, 60, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(
                error(Weights::load(&path)).contains("not a whole safetensors file"),
                "{len} bytes"
            );
        }
        // A header that promises more than there is must not be believed.
        let mut hostile = bytes.clone();
        hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, hostile).unwrap();
        assert!(error(Weights::load(&path)).contains("not a whole safetensors file"));
    }

    #[test]
    fn a_misfit_names_every_tensor() {
        let shape: &[(&str, &[usize])] = &[("fc.weight", &[3, 2]), ("conv.weight", &[1])];
        let error = weights().flat(shape.iter().copied(), Path::new("w")).unwrap_err().to_string();
        assert!(error.contains("`fc.weight` is [2, 3], not [3, 2]"), "{error}");
        assert!(error.contains("`conv.weight` [1] is missing"), "{error}");
        assert!(error.contains("`fc.bias` is not part of the model"), "{error}");
    }

    #[test]
    fn a_failed_save_leaves_the_file_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("w.safetensors");
        let error = weights().save(&path).unwrap_err().to_string();
        assert!(error.contains("w.safetensors"), "{error}");
    }
}
