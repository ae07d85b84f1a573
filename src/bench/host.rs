//! What replaying a step costs the host: microseconds for each dispatch, beside a bare loop of calls to wgpu.
//!
//! Encoding and submitting are timed while nothing else is queued, and the device is waited for outside of the time.

use super::{Step, program};
use crate::train::TrainError;
use shadegrad_device::Device;
use shadegrad_graph::GraphError;
use std::fmt::Write;
use std::time::Instant;

/// Rounds at least.
const ROUNDS: usize = 9;

/// What a dispatch of one workload costs the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The workload.
    pub workload: String,
    /// Dispatches of a step.
    pub dispatches: usize,
    /// Microseconds for each dispatch of a step that is replayed.
    pub replayed: Times,
    /// Microseconds for each where a loop sets the same pipelines and bind groups, dispatches and submits, and does
    /// nothing else.
    pub bare: Times,
}

/// The same measured in several rounds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Median.
    pub median: f64,
    /// Smallest: what disturbed the machine least.
    pub min: f64,
}

/// Measures what a step costs the host, for some seconds: replayed and bare in turn. `None` for a name that isn't a workload's
/// and for a device that isn't an adapter, where nothing is encoded.
///
/// # Errors
/// What compiling or running reports.
pub fn host(
    workload: &str,
    device: &Device,
    seconds: f64,
    step: Step,
) -> Result<Option<Host>, TrainError> {
    let Some((mut program, _)) = program(workload, device, step)? else {
        return Ok(None);
    };
    let synchronize = || device.synchronize().map_err(GraphError::from);
    // Warm both, and see whether there is anything to compare with.
    let before = device.counters().dispatches;
    program.run(1)?;
    let dispatches = (device.counters().dispatches - before) as usize;
    if !program.run_bare()? {
        return Ok(None);
    }
    synchronize()?;
    let (mut replayed, mut bare) = (Vec::new(), Vec::new());
    let clock = Instant::now();
    while replayed.len() < ROUNDS || clock.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        program.run(1)?;
        replayed.push(start.elapsed().as_secs_f64());
        synchronize()?;
        let start = Instant::now();
        program.run_bare()?;
        bare.push(start.elapsed().as_secs_f64());
        synchronize()?;
    }
    let each = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let one = 1e6 / dispatches.max(1) as f64;
        Times { median: times[times.len() / 2] * one, min: times[0] * one }
    };
    let (replayed, bare) = (each(replayed), each(bare));
    Ok(Some(Host { workload: workload.to_string(), dispatches, replayed, bare }))
}

/// The measurements as a table.
pub fn hosts(measured: &[Host]) -> String {
    let mut text = format!(
        "{:<24} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "us for each dispatch", "dispatches", "replayed", "bare", "more", "min", "bare min", "more"
    );
    for Host { workload, dispatches, replayed, bare } in measured {
        let _ = write!(text, "{workload:<24} {dispatches:>10}");
        for (ours, theirs) in [(replayed.median, bare.median), (replayed.min, bare.min)] {
            let _ = write!(text, " {ours:>9.3} {theirs:>9.3} {:>+9.3}", ours - theirs);
        }
        text.push('\n');
    }
    text
}
