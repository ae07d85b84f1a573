//! Checkpoints: where and how often they are written, and which are kept.
//!
//! A checkpoint is a safetensors file with the model's weights under their names, and under names that begin with
//! [`STATE`] all that training goes on from: the optimizer's state, counters, seed, the place in the data, what has happened so
//! far. It is written beside its place, synced and renamed, so every file with a checkpoint's name is whole.

use crate::TrainError;
use std::path::{Path, PathBuf};

/// Names of what checkpoints hold besides weights begin with this; no parameter's name does.
pub(crate) const STATE: &str = "shadegrad/";

/// Names of files that are not whole yet begin with this.
pub(crate) const PART: &str = ".part-";

const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";

/// Where and how often checkpoints are written, and which are kept.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    every: Option<usize>,
    keep: usize,
    pub(crate) best: bool,
    pub(crate) go_on: bool,
}

impl Checkpoints {
    /// In a folder of this run alone, which is made if it isn't there, after every epoch; the last two are kept. Files are named
    /// `step-00001234.safetensors` after the steps that are done.
    pub fn new(folder: impl Into<PathBuf>) -> Checkpoints {
        Checkpoints { folder: folder.into(), every: None, keep: 2, best: false, go_on: false }
    }

    /// After every so many steps instead of after every epoch.
    pub fn every_steps(mut self, steps: usize) -> Checkpoints {
        self.every = Some(steps.max(1));
        self
    }

    /// Keep so many of the last ones, at least one.
    pub fn keep_last(mut self, count: usize) -> Checkpoints {
        self.keep = count.max(1);
        self
    }

    /// Also write the weights to `best.safetensors` whenever the monitored score is better than before.
    pub fn keep_best(mut self) -> Checkpoints {
        self.best = true;
        self
    }

    /// Train on when a checkpoint can't be written, as on a full disk, and note it in
    /// [`History::failures`](crate::History::failures); else training ends with the error. The checkpoints that are there stay in either case.
    pub fn go_on_without(mut self) -> Checkpoints {
        self.go_on = true;
        self
    }

    /// The steps from one to the next; `None` is an epoch.
    pub(crate) fn every(&self) -> Option<usize> {
        self.every
    }

    /// Makes the folder, and refuses one with checkpoints of more steps than are done: they are of another run.
    pub(crate) fn prepare(&self, done: usize) -> Result<(), TrainError> {
        std::fs::create_dir_all(&self.folder).map_err(|source| io(&self.folder, source))?;
        match list(&self.folder)?.first().and_then(|newest| Some((newest, number(newest)?))) {
            Some((newest, steps)) if steps > done as u64 => Err(TrainError::Setting {
                what: "the folder of checkpoints",
                value: format!("one with {}, of a run that has come further", newest.display()),
                expected: "another, or the run that is resumed".to_string(),
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}{SUFFIX}"))
    }

    pub(crate) fn best_path(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    /// Removes all but the last up to the one that was just written, and what killed runs left unfinished.
    pub(crate) fn prune(&self, written: &Path) -> Result<(), TrainError> {
        let entries = std::fs::read_dir(&self.folder).map_err(|e| io(&self.folder, e))?;
        let unfinished = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PART)));
        let own = number(written);
        let earlier = list(&self.folder)?.into_iter().filter(|path| number(path) <= own);
        let old = earlier.skip(self.keep);
        // What can't be removed is tried again after the next one.
        unfinished.chain(old).for_each(|path| _ = std::fs::remove_file(path));
        Ok(())
    }
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> TrainError {
    crate::WeightsError::Io { path: path.to_path_buf(), source }.into()
}

/// The steps that a checkpoint is named after.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// The checkpoints in a folder, the newest first.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let entries = std::fs::read_dir(folder).map_err(|source| io(folder, source))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<(u64, PathBuf)> = paths.filter_map(|p| Some((number(&p)?, p))).collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
