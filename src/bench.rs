//! The benchmark: full training steps and kernels alone, on any device.
//!
//! A block of steps is queued and waited for; the time of a step is the block's over its length.
//! The median and the minimum over blocks are reported.

use crate::models::{CausalLm, CausalLmOptions, Positions};
use crate::prelude::*;
use crate::train::{Padded, Resident, Samples, TrainError, Windows, data::drawn};
use shadegrad_device::{Counts, Timing, random};
use shadegrad_graph::{GraphError, Loaded};
use std::fmt::Write;
use std::time::Instant;

/// What can be measured.
pub const WORKLOADS: &[(&str, &str)] = &[
    ("lenet", "training step: conv 1-32, conv 32-64, linear 3136-128-10, batch 64, Adam"),
    ("mlp", "training step: linear 784-512-256-10, batch 128, Adam"),
    (
        "lstm",
        "training step: embedding 10 000x128, LSTM 128-128 over 64 tokens, linear 2, batch 32, Adam",
    ),
    (
        "gpt",
        "training step: 2 causal blocks, width 128, 4 heads, 64 tokens, vocabulary 65, batch 16, Adam",
    ),
    ("matmul", "matrix product, 1024 cubed"),
];

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seconds to spend on each workload, about.
    pub seconds: f64,
    /// Measure each kernel as well.
    pub kernels: bool,
}

/// One workload on one device.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The workload.
    pub workload: String,
    /// The device.
    pub device: String,
    /// Milliseconds from nothing to the end of the first step: recording, compiling, loading.
    pub first: f64,
    /// Median milliseconds of a step.
    pub median: f64,
    /// Smallest milliseconds of a step.
    pub min: f64,
    /// Dispatches, bytes and operations of a step.
    pub counts: Counts,
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
        (self.counts.bytes_read + self.counts.bytes_written) as f64 / self.median * 1e-6
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let c = &self.counts;
        format!(
            "{{\"workload\": \"{}\", \"device\": \"{}\", \"first_ms\": {:.3}, \"median_ms\": {:.4}, \"min_ms\": {:.4}, \"dispatches\": {}, \"flop\": {}, \"bytes\": {}, \"scratch_bytes\": {}, \"gflops\": {:.2}, \"gbytes\": {:.2}}}",
            self.workload,
            self.device.replace(['"', '\\'], "'"),
            self.first,
            self.median,
            self.min,
            c.dispatches,
            c.flops,
            c.bytes_read + c.bytes_written,
            c.scratch_bytes,
            self.gflops(),
            self.gbytes()
        )
    }
}

/// Measures a workload.
///
/// # Errors
/// What compiling or running reports; `None` for a workload that isn't in [`WORKLOADS`].
pub fn measure(
    workload: &str,
    device: &Device,
    settings: Settings,
) -> Result<Option<Measurement>, TrainError> {
    let clock = Instant::now();
    let mut program = match workload {
        "lenet" => step(device, Cnn::new([1, 28, 28], 10), 64)?,
        "mlp" => step(device, Mlp::new(&[784, 512, 256, 10]), 128)?,
        "lstm" => {
            let tokens: Vec<u32> = (0..256 * 64).map(|i| random(3, i) % 10_000).collect();
            let labels: Vec<u8> = (0..256).map(|i| (random(4, i) % 2) as u8).collect();
            train(
                device,
                LastState::new(10_000, 128, 128, 2),
                &Padded::new(&tokens, 64, &labels),
                32,
            )?
        }
        "gpt" => {
            let text: Vec<u32> = (0..4096).map(|i| random(3, i) % 65).collect();
            let windows = Windows::new(&text, 64).parts(16, None).remove(0);
            let options = CausalLmOptions {
                vocabulary: 65,
                context: 64,
                width: 128,
                heads: 4,
                layers: 2,
                positions: Positions::Learned,
                dropout: 0.0,
            };
            train(device, CausalLm::new(options), &*windows.samples, 16)?
        }
        "matmul" => matmul(device, 1024)?,
        _ => return Ok(None),
    };
    let synchronize = || device.synchronize().map_err(GraphError::from);
    program.run(1)?;
    synchronize()?;
    let first = clock.elapsed().as_secs_f64() * 1e3;
    // Warm caches, and find how many steps make a block worth timing.
    let clock = Instant::now();
    program.run(1)?;
    synchronize()?;
    let block = (0.1 / clock.elapsed().as_secs_f64()).clamp(1.0, 100.0) as usize;
    let mut times = Vec::new();
    let clock = Instant::now();
    while times.len() < 3 || clock.elapsed().as_secs_f64() < settings.seconds {
        let start = Instant::now();
        program.run(block)?;
        synchronize()?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / block as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(Some(Measurement {
        workload: workload.to_string(),
        device: device.info().to_string(),
        first,
        median: times[times.len() / 2],
        min: times[0],
        counts: program.report().counts,
        kernels: if settings.kernels { profile(&mut program)? } else { vec![] },
    }))
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

fn step(device: &Device, model: impl Module, batch: usize) -> Result<Loaded, TrainError> {
    train(device, model, &Resident::new(&drawn::digits(2048, 0)), batch)
}

fn train(
    device: &Device,
    model: impl Module,
    data: &dyn Samples,
    batch: usize,
) -> Result<Loaded, TrainError> {
    let mut trainer = Trainer::new(device, model, CrossEntropy, Adam::new(1e-3))?;
    trainer.compile(data, batch)
}

/// Embedding, LSTM, and a linear layer on its last state.
pub struct LastState {
    embedding: Embedding,
    lstm: Lstm,
    fc: Linear,
}

named!(LastState { embedding, lstm, fc });

impl LastState {
    /// A model for a vocabulary.
    pub fn new(vocabulary: usize, width: usize, hidden: usize, classes: usize) -> LastState {
        LastState {
            embedding: Embedding::new(vocabulary, width),
            lstm: Lstm::new(width, hidden).batch_first(),
            fc: Linear::new(hidden, classes),
        }
    }
}

impl Module for LastState {
    fn forward(&self, x: &Tensor) -> Tensor {
        let states = self.lstm.run(&self.embedding.forward(x), None, None).states;
        self.fc.forward(&states[0].squeeze(0))
    }
}

fn matmul(device: &Device, n: usize) -> Result<Loaded, TrainError> {
    let graph = Graph::new();
    let side = |name: &str, seed| {
        let init = Init::Uniform { low: -1.0, high: 1.0, seed };
        graph.variable(&Variable::new(name, &[n, n], DType::F32, init))
    };
    let product = side("a", 1).matmul(&side("b", 2));
    Ok(Session::new(device).compile(&graph, &[&product])?)
}

/// The measurements as a table.
pub fn table(measurements: &[Measurement]) -> String {
    let mut text = format!(
        "{:<8} {:>10} {:>10} {:>10} {:>10} {:>8} {:>9} {:>8}  device\n",
        "workload", "first ms", "median ms", "min ms", "dispatches", "GFLOP", "GFLOP/s", "GB/s"
    );
    for m in measurements {
        let _ = writeln!(
            text,
            "{:<8} {:>10.1} {:>10.3} {:>10.3} {:>10} {:>8.3} {:>9.1} {:>8.2}  {}",
            m.workload,
            m.first,
            m.median,
            m.min,
            m.counts.dispatches,
            m.counts.flops as f64 * 1e-9,
            m.gflops(),
            m.gbytes(),
            m.device
        );
    }
    for m in measurements.iter().filter(|m| !m.kernels.is_empty()) {
        let _ = writeln!(text, "\nkernels of {} on {}", m.workload, m.device);
        for kernel in &m.kernels {
            let _ = writeln!(text, "{:>10.4} ms  {}", kernel.milliseconds, kernel.label);
        }
    }
    text
}
