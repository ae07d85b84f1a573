//! The autotuner's settings, and what it found.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What choosing shaders by measuring may cost, and where choices are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autotune {
    /// How long compiling and measuring may take, all programs that a device loads together. A shape that is begun is
    /// finished; those that are left are computed as without measuring.
    pub budget: Duration,
    /// The folder of the file that keeps a device's choices; `None` keeps them as long as the device is open.
    pub folder: Option<PathBuf>,
}

impl Default for Autotune {
    /// Ten seconds, and the folder of the cache.
    fn default() -> Autotune {
        Autotune { budget: Duration::from_secs(10), folder: crate::cache_dir() }
    }
}

/// The fastest way to compute a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The shape.
    pub shape: String,
    /// What computes it.
    pub chosen: String,
    /// How many times faster that is than what computes it without measuring.
    pub gain: f64,
    /// How long it took to find out.
    pub took: Duration,
}

/// What was measured, and what wasn't.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Shapes that were measured.
    pub measured: Vec<Tuned>,
    /// Kernels whose shape was known.
    pub known: usize,
    /// Kernels whose shape was left out because time was up, or memory for measuring was missing.
    pub left_out: usize,
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tuned { shape, chosen, gain, .. } = self;
        match *gain > 1.0 {
            true => write!(f, "{shape}: {chosen}, {gain:.2} times as fast as without measuring"),
            false => write!(f, "{shape}: {chosen}, as without measuring"),
        }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took: Duration = self.measured.iter().map(|tuned| tuned.took).sum();
        let faster = self.measured.iter().filter(|tuned| tuned.gain > 1.0).count();
        write!(
            f,
            "shapes measured: {} in {:.1} s, with other shaders chosen: {faster}; kernels of known shapes: {}, left out: {}",
            self.measured.len(),
            took.as_secs_f64(),
            self.known,
            self.left_out
        )
    }
}
