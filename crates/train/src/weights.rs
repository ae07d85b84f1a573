//! Weights on disk, in the safetensors format.
//!
//! Half-precision files load too, and checkpoints, which hold more than weights.

use crate::checkpoint::STATE;
use crate::tensors::{Stored, TensorFile};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
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

impl Weights {
    /// Writes the file, replacing one that is there only when the new one is whole.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; the file that was there is as it was.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let mut file = TensorFile { notes: self.notes.clone(), ..TensorFile::default() };
        self.put(&mut file, "");
        file.save(path)
    }

    /// Adds the tensors to a file, under names that begin with a prefix.
    pub(crate) fn put(&self, file: &mut TensorFile, prefix: &str) {
        for (name, (shape, data)) in &self.tensors {
            let stored = Stored::new(Dtype::F32, shape.clone(), data);
            file.tensors.insert(format!("{prefix}{name}"), stored);
        }
    }

    /// Reads a file of `F32`, `F16` or `BF16` tensors. Of a checkpoint the weights are read.
    ///
    /// # Errors
    /// [`WeightsError::Io`] or [`WeightsError::Format`].
    pub fn load(path: &Path) -> Result<Weights, WeightsError> {
        let file = TensorFile::load(path)?;
        Weights::take(&file, "", path)
    }

    /// The tensors of a file whose names begin with a prefix, without what checkpoints hold besides.
    pub(crate) fn take(
        file: &TensorFile,
        prefix: &str,
        path: &Path,
    ) -> Result<Weights, WeightsError> {
        let mut tensors = BTreeMap::new();
        for (name, stored) in &file.tensors {
            let Some(name) = name.strip_prefix(prefix).filter(|n| !n.starts_with(STATE)) else {
                continue;
            };
            let bytes = &stored.bytes;
            let data = match stored.dtype {
                Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
                Dtype::F16 => halves(bytes, half::f16::from_le_bytes, half::f16::to_f32),
                Dtype::BF16 => halves(bytes, half::bf16::from_le_bytes, half::bf16::to_f32),
                other => {
                    let reason =
                        format!("tensor `{name}` is {other:?}, not a float of 16 or 32 bits");
                    return Err(WeightsError::Format { path: path.to_path_buf(), reason });
                }
            };
            tensors.insert(name.to_string(), (stored.shape.clone(), data));
        }
        Ok(Weights { tensors, notes: file.notes.clone() })
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
    use safetensors::tensor::TensorView;

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
