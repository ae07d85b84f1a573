//! The `shadegrad` command.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use shadegrad::prelude::*;
use shadegrad::train::{Resident, data::drawn};
use shadegrad::{bench, operations};
use std::path::PathBuf;
use std::process::ExitCode;

/// Train neural networks in compute shaders, on any GPU, and on the CPU where there is none
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  shadegrad devices\n  shadegrad bench --device cpu\n  shadegrad selftest --device gpu\n  shadegrad dump --device null:webgpu --out dump/"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices of this machine, best first
    Devices,
    /// Measure training steps and kernels
    Bench {
        /// Devices: best, cpu, gpu, software, or names from `shadegrad devices`
        #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "best")]
        device: Vec<String>,
        /// Workloads; all if none is given
        #[arg(value_name = "WORKLOAD")]
        workloads: Vec<String>,
        /// Seconds for each workload, about
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Measure each kernel as well
        #[arg(long)]
        kernels: bool,
        /// Write a line of JSON for each measurement
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Compare every operation and function with its reference on your device: values, gradients, time
    Selftest {
        /// Device: best, cpu, gpu, software, or a name from `shadegrad devices`
        #[arg(long, value_name = "NAME", default_value = "best")]
        device: String,
        /// Run one in this many of all samples and cases
        #[arg(long, value_name = "N", default_value_t = 1)]
        one_in: usize,
    },
    /// Print the table of operations and functions: docs/ops.md
    Operations,
    /// Write every stage of a compiled training step as text
    Dump {
        /// Device, or null:PROFILE for one that isn't here
        #[arg(long, value_name = "NAME", default_value = "null:webgpu")]
        device: String,
        /// Folder to write to
        #[arg(long, value_name = "DIR", default_value = "dump")]
        out: PathBuf,
        /// Samples of a step
        #[arg(long, default_value_t = 64)]
        batch: usize,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Devices => {
            for info in Device::list() {
                println!("{info}");
            }
            println!("chosen by default: {}", Device::best()?.info());
            Ok(())
        }
        Command::Bench { device, workloads, seconds, kernels, json } => {
            let names: Vec<&str> = match workloads.is_empty() {
                true => bench::WORKLOADS.iter().map(|(name, _)| *name).collect(),
                false => workloads.iter().map(String::as_str).collect(),
            };
            let mut measured = Vec::new();
            for device in &device {
                let device = Device::open(device)?;
                for name in &names {
                    let settings = bench::Settings { seconds, kernels };
                    match bench::measure(name, &device, settings)? {
                        Some(measurement) => measured.push(measurement),
                        None => bail!(
                            "no workload `{name}`: there are {:?}",
                            bench::WORKLOADS.iter().map(|w| w.0).collect::<Vec<_>>()
                        ),
                    }
                }
            }
            print!("{}", bench::table(&measured));
            if let Some(path) = json {
                let lines: String = measured.iter().map(|m| m.json() + "\n").collect();
                std::fs::write(&path, lines).with_context(|| path.display().to_string())?;
            }
            Ok(())
        }
        Command::Selftest { device, one_in } => {
            if one_in == 0 {
                bail!("--one-in is at least 1: of none there is nothing to run");
            }
            let device = Device::open(&device)?;
            println!("{}", device.info());
            let part = (one_in > 1).then_some((0, one_in));
            let results = operations::selftest(&device, part, |row| println!("{row}"));
            println!("{results}");
            match results.failures.as_slice() {
                [] => Ok(()),
                failures => bail!("{}", failures.join("\n")),
            }
        }
        Command::Operations => {
            print!("{}", operations::table());
            Ok(())
        }
        Command::Dump { device, out, batch } => {
            let device = Device::open(&device)?;
            std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
            let data = Resident::new(&drawn::digits(batch.max(1), 0));
            let cnn = Cnn::new([1, 28, 28], 10);
            let mut trainer = Trainer::new(&device, cnn, CrossEntropy, Adam::new(1e-3))?;
            let step = trainer.compile(&data, batch)?;
            for (name, text) in &step.compiled().dump {
                let path = out.join(name);
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
                println!("{}", path.display());
            }
            let report = step.report();
            println!(
                "{} dispatches, {} bytes of scratch memory, at least {} needed",
                report.counts.dispatches, report.peak_bytes, report.lower_bound
            );
            Ok(())
        }
    }
}
