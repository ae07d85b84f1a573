//! How long a process takes to its first step: where nothing was compiled before, and where all was.
//!
//! Each start is a process of its own. The first of two begins with an empty folder for pipelines and for what drivers keep of
//! shaders; the second finds what the first has left there.

use super::Step;
use std::path::Path;
use std::process::Command;

/// Rounds of two processes each.
const ROUNDS: usize = 3;

/// Variables that say where shadegrad, Mesa and NVIDIA's driver keep what they have compiled.
const CACHES: [&str; 3] =
    ["SHADEGRAD_CACHE", "MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];

/// Medians of several rounds.
#[derive(Clone, Copy, Debug)]
pub struct Starts {
    /// Milliseconds to the end of the first step in a process that finds nothing compiled.
    pub cold: f64,
    /// The same in one that finds what the process before it has compiled.
    pub warm: f64,
    /// Bytes of pipelines that it found; none on devices that compile nothing, or whose pipelines only the driver can keep.
    pub pipeline_bytes: u64,
}

/// Measures first steps of a workload in processes of `shadegrad`, the path of the command.
///
/// # Errors
/// What the system says, or what the command printed instead of a time, as text.
pub fn starts(
    shadegrad: &Path,
    workload: &str,
    device: &str,
    step: Step,
) -> Result<Starts, String> {
    let (mut cold, mut warm, mut pipeline_bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        cold.push(start(shadegrad, workload, device, step, folder.path())?);
        pipeline_bytes = bytes(&folder.path().join(CACHES[0]));
        warm.push(start(shadegrad, workload, device, step, folder.path())?);
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(Starts { cold: median(cold), warm: median(warm), pipeline_bytes })
}

/// Milliseconds of one first step.
fn start(
    shadegrad: &Path,
    workload: &str,
    device: &str,
    step: Step,
    folder: &Path,
) -> Result<f64, String> {
    let mut command = Command::new(shadegrad);
    command.args(["bench", workload, "--device", device, "--first"]);
    command.envs(CACHES.map(|name| (name, folder.join(name))));
    command.args(step.arguments());
    let output = command.output().map_err(|e| e.to_string())?;
    let [told, failed] = [&output.stdout, &output.stderr].map(|t| String::from_utf8_lossy(t));
    told.trim().parse().map_err(|_| format!("{told}{failed}"))
}

/// Bytes of the files in a folder.
fn bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
