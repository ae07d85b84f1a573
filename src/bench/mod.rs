//! The benchmark: full training steps and kernels alone, on any device, beside what the device can do at most.
//!
//! A block of steps is queued and waited for; the time of a step is the block's over its length. The median and the
//! minimum over blocks are reported. It assumes that nothing else keeps the machine busy, and refuses names that it
//! doesn't know.

mod beside;
mod host;
mod kernels;
mod overhead;
mod report;
mod starts;
mod workloads;

pub use beside::Beside;
pub use host::{Host, host, hosts};
pub use kernels::{KERNELS, kernel};
pub use overhead::{Overhead, overhead, overheads};
pub use report::{Row, compare, json, read, table, trace};
pub use starts::{Starts, starts};
pub use workloads::{LastState, TRAINING, cifar};

use crate::train::TrainError;
use shadegrad_device::{Counts, Device, DeviceClass, Timing};
use shadegrad_graph::{GraphError, Loaded};
use std::time::Instant;

/// What to measure, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seconds to spend on each workload, about.
    pub seconds: f64,
    /// Measure each kernel of a step as well.
    pub kernels: bool,
    /// How training steps are compiled.
    pub step: Step,
}

/// How a training step is compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// Samples, instead of the workload's own number.
    pub batch: Option<usize>,
    /// Bytes of scratch memory to aim at by computing activations again.
    pub recompute: Option<usize>,
    /// Keep activations in half precision.
    pub mixed: bool,
    /// Many steps as one dispatch.
    pub one_dispatch: bool,
    /// A dispatch for each kernel, on GPUs, too, where small ones would share one.
    pub apart: bool,
}

impl Step {
    /// What `shadegrad bench` gets for it.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(batch) = self.batch {
            arguments.extend(["--batch".to_string(), batch.to_string()]);
        }
        if let Some(bytes) = self.recompute {
            arguments.extend(["--recompute".to_string(), (bytes as f64 * 1e-6).to_string()]);
        }
        let options = [
            (self.mixed, "--mixed"),
            (self.one_dispatch, "--one-dispatch"),
            (self.apart, "--apart"),
        ];
        arguments.extend(options.iter().filter(|o| o.0).map(|o| o.1.to_string()));
        arguments
    }
}

/// What a device reaches with the simplest work, measured.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Billions of multiplications and additions a second of a square matrix product.
    pub gflops: f64,
    /// Billions of bytes a second that a kernel reads and writes that copies.
    pub gbytes: f64,
}

/// One workload on one device.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The workload.
    pub workload: String,
    /// What it works on.
    pub about: String,
    /// The device.
    pub device: String,
    /// Milliseconds from nothing to the end of the first step: recording, compiling, loading.
    pub first: f64,
    /// The same in processes of their own, if asked for: see [`starts`].
    pub starts: Option<Starts>,
    /// Median milliseconds of a step.
    pub median: f64,
    /// Smallest milliseconds of a step.
    pub min: f64,
    /// Dispatches, bytes and operations of a step.
    pub counts: Counts,
    /// Bytes of variables.
    pub variable_bytes: usize,
    /// Largest sum of live values in scratch memory, in bytes.
    pub lower_bound: usize,
    /// Most bytes that the process has had in memory since the workload was begun, where the system says so.
    pub resident_bytes: Option<u64>,
    /// Milliseconds that the device needs at least, at its measured rates.
    pub floor: f64,
    /// These rates.
    pub rates: Rates,
    /// Each kernel, if asked for.
    pub kernels: Vec<Timing>,
}

impl Measurement {
    /// Billions of multiplications and additions a second, in contractions.
    pub fn gflops(&self) -> f64 {
        self.counts.flops as f64 / self.median * 1e-6
    }

    /// Billions of bytes a second that kernels ask for.
    pub fn gbytes(&self) -> f64 {
        bytes(&self.counts) as f64 / self.median * 1e-6
    }
}

/// Bytes that kernels read and write.
fn bytes(counts: &Counts) -> u64 {
    counts.bytes_read + counts.bytes_written
}

/// A workload's program and what it works on; `None` for a name that is neither in [`TRAINING`] nor in [`KERNELS`].
///
/// # Errors
/// What compiling reports.
pub fn program(
    workload: &str,
    device: &Device,
    step: Step,
) -> Result<Option<(Loaded, String)>, TrainError> {
    if let Some(training) = TRAINING.iter().find(|t| t.name == workload) {
        let batch = step.batch.unwrap_or(training.batch);
        let program = (training.program)(device, batch, step)?;
        return Ok(Some((program, format!("{}, batch {batch}", training.about))));
    }
    // Kernels that would take a software adapter minutes are smaller there, but for the product that all are compared by.
    let slow = device.limits().class == DeviceClass::Software && workload != "matmul";
    let shrink = if slow { 4 } else { 1 };
    Ok(kernel(workload, device, shrink)?)
}

/// Measures the rates of a device: a product of matrices and a copy that are large for it.
///
/// # Errors
/// What compiling or running reports.
pub fn rates(device: &Device) -> Result<Rates, TrainError> {
    let (side, megabytes) = match device.limits().class {
        DeviceClass::Software => (512, 16),
        DeviceClass::Cpu => (1024, 64),
        _ => (4096, 64),
    };
    let best = |mut program: Loaded| -> Result<(f64, Counts), TrainError> {
        let times = time(&mut program, device, 0.5)?;
        Ok((times[0], program.report().counts))
    };
    let (product, counts) = best(kernels::square(device, side)?)?;
    let gflops = counts.flops as f64 / product * 1e-6;
    let (copy, counts) = best(kernels::copy(device, megabytes << 18)?)?;
    Ok(Rates { gflops, gbytes: bytes(&counts) as f64 / copy * 1e-6 })
}

/// What became of a workload.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was measured.
    Measured(Box<Measurement>),
    /// A step of it would take so many seconds at the device's rates: more than [`LONGEST`].
    TooLong(f64),
    /// There is no workload of that name.
    Unknown,
}

/// Seconds that a step may take.
pub const LONGEST: f64 = 10.0;

/// Measures a workload.
///
/// # Errors
/// What compiling or running reports.
pub fn measure(
    workload: &str,
    device: &Device,
    settings: Settings,
    rates: Rates,
) -> Result<Outcome, TrainError> {
    forget_resident();
    let clock = Instant::now();
    let Some((mut program, about)) = program(workload, device, settings.step)? else {
        return Ok(Outcome::Unknown);
    };
    let report = program.report().clone();
    let floor = (report.counts.flops as f64 / rates.gflops)
        .max(bytes(&report.counts) as f64 / rates.gbytes)
        * 1e-6;
    if floor > LONGEST * 1e3 {
        return Ok(Outcome::TooLong(floor * 1e-3));
    }
    let first = end_of_first(&mut program, device, clock)?;
    let times = time(&mut program, device, settings.seconds)?;
    Ok(Outcome::Measured(Box::new(Measurement {
        workload: workload.to_string(),
        about,
        device: device.info().to_string(),
        first,
        starts: None,
        median: times[times.len() / 2],
        min: times[0],
        counts: report.counts,
        variable_bytes: report.variable_bytes,
        lower_bound: report.lower_bound,
        resident_bytes: resident(),
        floor,
        rates,
        kernels: if settings.kernels { profile(&mut program)? } else { vec![] },
    })))
}

/// Milliseconds from nothing to the end of a workload's first step: recording, compiling, loading. `None` for a name that is
/// neither in [`TRAINING`] nor in [`KERNELS`].
///
/// # Errors
/// What compiling or running reports.
pub fn first(workload: &str, device: &Device, step: Step) -> Result<Option<f64>, TrainError> {
    let clock = Instant::now();
    let program = program(workload, device, step)?;
    program.map(|(mut program, _)| end_of_first(&mut program, device, clock)).transpose()
}

/// Runs one step, and says how many milliseconds have gone by when it is done.
fn end_of_first(program: &mut Loaded, device: &Device, clock: Instant) -> Result<f64, TrainError> {
    program.run(1)?;
    device.synchronize().map_err(GraphError::from)?;
    Ok(clock.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds of a step in blocks of steps, sorted; three at least.
fn time(program: &mut Loaded, device: &Device, seconds: f64) -> Result<Vec<f64>, TrainError> {
    let synchronize = || device.synchronize().map_err(GraphError::from);
    // Warm caches, and find how many steps make a block worth timing.
    let clock = Instant::now();
    program.run(1)?;
    synchronize()?;
    let block = (0.1 / clock.elapsed().as_secs_f64()).clamp(1.0, 100.0) as usize;
    let mut times = Vec::new();
    let clock = Instant::now();
    while times.len() < 3 || clock.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        program.run(block)?;
        synchronize()?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / block as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Each kernel's median time of several runs.
fn profile(program: &mut Loaded) -> Result<Vec<Timing>, TrainError> {
    let runs = (0..9).map(|_| program.profile()).collect::<Result<Vec<_>, _>>()?;
    let mut kernels = runs[0].clone();
    for (number, kernel) in kernels.iter_mut().enumerate() {
        let mut times: Vec<f64> = runs.iter().map(|run| run[number].milliseconds).collect();
        times.sort_by(f64::total_cmp);
        kernel.milliseconds = times[times.len() / 2];
    }
    Ok(kernels)
}

/// Lets the count of [`resident`] begin anew, where the system can: 5 in `clear_refs` says so to Linux (proc(5)).
fn forget_resident() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Most bytes that the process has had in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}
