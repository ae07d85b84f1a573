//! The `shadegrad` command.

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser, Subcommand};
use shadegrad::device::{Autotune, Counts, Limits, MatmulPrecision, Tuning};
use shadegrad::experiment::{self, Asked, Config, Prediction, Trained};
use shadegrad::graph::Compiled;
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::{bench, operations};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Train neural networks in compute shaders, on any GPU, and on the CPU where there is none
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  shadegrad devices\n  shadegrad train flowers.toml\n  shadegrad predict runs/flowers garden.jpg\n  shadegrad bench --device cpu\n  shadegrad selftest --device gpu\n  shadegrad dump --device null:webgpu --out dump/"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices of this machine, best first
    Devices,
    /// Train what a TOML file describes: a classifier of images in folders, of the rows of a table, of texts, ...
    #[command(
        after_help = "Example of a file, flowers.toml:\n\n  [data]\n  kind = \"images\"             # or mnist, cifar10, table, text\n  train = \"flowers/\"          # a folder for each class\n  validate = 0.2               # a part of them, or another folder\n  size = 64\n\n  [train]\n  epochs = 20\n\nThen: shadegrad train flowers.toml\nEverything that a file can say: docs/training.md"
    )]
    Train {
        /// The file
        #[arg(value_name = "FILE")]
        config: PathBuf,
        /// Go on from the newest checkpoint
        #[arg(long)]
        resume: bool,
        /// Begin anew, and remove the checkpoints of an earlier run
        #[arg(long, conflicts_with = "resume")]
        restart: bool,
        /// Device, instead of the file's: best, cpu, gpu, software, or a name from `shadegrad devices`
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// Passes over the data, instead of the file's
        #[arg(long)]
        epochs: Option<usize>,
        /// Folder to write to, instead of the file's
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Evaluate a trained model on other data
    #[command(after_help = "Example: shadegrad eval runs/flowers more-flowers/")]
    Eval {
        /// The folder of a run, or its model.safetensors
        model: PathBuf,
        /// A folder with a folder for each class, or a table with the target's column
        data: PathBuf,
        /// Device: best, cpu, gpu, software, or a name from `shadegrad devices`
        #[arg(long, value_name = "NAME", default_value = "best")]
        device: String,
    },
    /// Tell what a trained model makes of images, or of the rows of tables
    #[command(after_help = "Example: shadegrad predict runs/flowers garden.jpg")]
    Predict {
        /// The folder of a run, or its model.safetensors
        model: PathBuf,
        /// Images or tables
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How many classes are named
        #[arg(long, default_value_t = 3)]
        top: usize,
        /// Device: best, cpu, gpu, software, or a name from `shadegrad devices`
        #[arg(long, value_name = "NAME", default_value = "best")]
        device: String,
    },
    /// Print completions for a shell
    #[command(
        after_help = "Example: shadegrad completions bash > ~/.local/share/bash-completion/completions/shadegrad"
    )]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Measure training steps and kernels
    #[command(
        after_help = "Examples:\n  shadegrad bench                                  every training step, and a product, on the best device\n  shadegrad bench kernels --device gpu             every kernel alone\n  shadegrad bench lenet softmax --device cpu,gpu   some of them, on two devices\n  shadegrad bench lenet --kernels                  with the time of each kernel of the step\n  shadegrad bench --host --device gpu              what a dispatch costs the host\n  shadegrad bench lenet --starts                   with the first step, cold and warm\n  shadegrad bench --json new.json --compare old.json\n  shadegrad bench mlp lenet --beside 'python train.py --workload {}'"
    )]
    Bench {
        /// Devices: best, cpu, gpu, software, or names from `shadegrad devices`
        #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "best")]
        device: Vec<String>,
        /// Names of training steps and kernels, or `steps`, `kernels`, `all`; else the steps and `matmul`
        #[arg(value_name = "WORKLOAD")]
        workloads: Vec<String>,
        /// Seconds for each workload, about
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Samples of a training step, instead of each one's own number
        #[arg(long, value_name = "N")]
        batch: Option<usize>,
        /// Megabytes of scratch memory to aim at by computing activations again
        #[arg(long, value_name = "MB")]
        recompute: Option<f64>,
        /// Keep the activations of training steps in half precision
        #[arg(long)]
        mixed: bool,
        /// Many steps as one dispatch, of small models on adapters
        #[arg(long)]
        one_dispatch: bool,
        /// Give each kernel a dispatch of its own, on GPUs, too, where small ones share one
        #[arg(long)]
        apart: bool,
        /// How precisely products are computed: highest, high (three products of halves) or medium (one); the last two on
        /// devices with cooperative matrices
        #[arg(long, value_name = "NAME", default_value_t)]
        matmul_precision: MatmulPrecision,
        /// Choose the shaders of products and convolutions by measuring, on adapters; choices are kept for later runs
        #[arg(long)]
        autotune: bool,
        /// Measure what the training loop costs beside the CNN's step instead: loader threads, logs, checkpoints
        #[arg(long, conflicts_with_all = ["json", "compare", "from", "kernels", "trace", "workloads"])]
        overhead: bool,
        /// Measure what each dispatch of a step costs the host instead, beside a bare loop of calls to wgpu
        #[arg(long, conflicts_with_all = ["json", "compare", "from", "kernels", "trace", "overhead"])]
        host: bool,
        /// Measure the first step in processes of their own as well: where nothing was compiled before, and where all was
        #[arg(long, conflicts_with_all = ["overhead", "host", "from", "matmul_precision", "autotune"])]
        starts: bool,
        /// Print the milliseconds of the first step: what --starts runs
        #[arg(long, hide = true)]
        first: bool,
        /// Run another program in turn with each workload: a command for the shell, with {} for the workload's name, that prints a
        /// line of JSON; may be given several times
        #[arg(long, value_name = "COMMAND", conflicts_with_all = ["overhead", "host", "starts", "kernels", "trace", "compare", "from"])]
        beside: Vec<String>,
        /// How often the programs are run in turn
        #[arg(long, value_name = "N", default_value_t = 3, requires = "beside")]
        rounds: usize,
        /// Measure each kernel of a step as well
        #[arg(long)]
        kernels: bool,
        /// Write the kernels of each step as a trace that Perfetto and Chrome show; implies --kernels
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// Write a line of JSON for each measurement
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Print the measurements beside those of another run or of other frameworks, lines of JSON
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
        /// Take the measurements from a file instead of measuring
        #[arg(long, value_name = "FILE", requires = "compare", conflicts_with_all = ["json", "trace"])]
        from: Option<PathBuf>,
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
    /// Write every stage of a compiled training step as text, and print what it costs: memory, dispatches, kernels
    #[command(
        after_help = "Examples:\n  shadegrad dump                                  a small CNN's step\n  shadegrad dump flowers.toml --device gpu        the step that `train` would run there"
    )]
    Dump {
        /// What `shadegrad train` takes; a small CNN if nothing is said
        #[arg(value_name = "FILE")]
        config: Option<PathBuf>,
        /// Device, or null:PROFILE for one that isn't here
        #[arg(long, value_name = "NAME", default_value = "null:webgpu")]
        device: String,
        /// Folder to write to
        #[arg(long, value_name = "DIR", default_value = "dump")]
        out: PathBuf,
        /// Samples of a step, instead of the file's; 64 of the CNN
        #[arg(long)]
        batch: Option<usize>,
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

/// A prediction for people: of images after the file, of rows after their number.
fn line(file: &Path, number: usize, prediction: Prediction, top: usize) -> String {
    let told = match prediction {
        Prediction::Value(value) => value.to_string(),
        Prediction::Classes(all) => {
            let named = all.iter().take(top.max(1));
            let named = named.map(|(class, share)| format!("{class} {:.1} %", share * 100.0));
            named.collect::<Vec<_>>().join(", ")
        }
    };
    format!("{} {}: {told}", file.display(), number + 1)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Devices => {
            for info in Device::list() {
                let matrices =
                    info.matrices.map_or(String::new(), |matrices| format!(", {matrices}"));
                println!("{info}{matrices}");
            }
            println!("chosen by default: {}", Device::best()?.info());
            Ok(())
        }
        Command::Train { config, resume, restart, device, epochs, out } => {
            let (mut config, text) = Config::read(&config)?;
            config.device = device.unwrap_or(config.device);
            config.train.epochs = epochs.unwrap_or(config.train.epochs);
            config.out = out.or(config.out);
            let asked = Asked { resume, restart, stop: experiment::stop_on_interrupt()? };
            experiment::train(&config, &text, &asked)?;
            Ok(())
        }
        Command::Eval { model, data, device } => {
            println!("{}", Trained::open(&model, &device)?.evaluate(&data)?);
            Ok(())
        }
        Command::Predict { model, files, top, device } => {
            let mut model = Trained::open(&model, &device)?;
            for file in files {
                for (number, prediction) in model.predict(&file)?.into_iter().enumerate() {
                    println!("{}", line(&file, number, prediction, top));
                }
            }
            Ok(())
        }
        Command::Completions { shell } => {
            let command = &mut Arguments::command();
            clap_complete::generate(shell, command, "shadegrad", &mut std::io::stdout());
            Ok(())
        }
        Command::Bench {
            device,
            workloads,
            seconds,
            batch,
            recompute,
            mixed,
            one_dispatch,
            apart,
            matmul_precision: precision,
            autotune,
            overhead,
            host,
            starts,
            first,
            beside,
            rounds,
            kernels,
            trace,
            json,
            compare,
            from,
        } => {
            if overhead {
                for name in &device {
                    let device = open(name, precision, autotune)?;
                    println!("{}", device.info());
                    let folder = std::env::temp_dir().join("shadegrad-overhead");
                    std::fs::create_dir_all(&folder)
                        .with_context(|| folder.display().to_string())?;
                    let measured = bench::overhead(&device, seconds, &folder);
                    // What was written was to be timed, not to be kept.
                    let _ = std::fs::remove_dir_all(&folder);
                    print!("{}", bench::overheads(&measured?));
                    tell(&device.tuning());
                }
                return Ok(());
            }
            if batch == Some(0) {
                bail!("--batch is at least 1: a step of no samples does nothing");
            }
            let recompute = recompute.map(|megabytes| (megabytes * 1e6) as usize);
            let step = bench::Step { batch, recompute, mixed, one_dispatch, apart };
            if first {
                for (name, workload) in device.iter().zip(chosen(&workloads)?) {
                    let first = bench::first(workload, &Device::open(name)?, step)?;
                    println!("{}", first.unwrap_or(f64::NAN));
                }
                return Ok(());
            }
            if host {
                for name in &device {
                    let device = open(name, precision, autotune)?;
                    println!("{}", device.info());
                    print!("{}", bench::hosts(&measure_host(&device, &workloads, seconds, step)?));
                    tell(&device.tuning());
                }
                return Ok(());
            }
            if !beside.is_empty() {
                if rounds == 0 {
                    bail!("--rounds is at least 1: in none nothing is measured");
                }
                let [device] = device.as_slice() else {
                    bail!("--beside takes one device, on which the programs run in turn");
                };
                let mut arguments = step.arguments();
                arguments.extend(["--device".to_string(), device.clone()]);
                arguments.extend(["--seconds".to_string(), seconds.to_string()]);
                arguments.extend(["--matmul-precision".to_string(), precision.to_string()]);
                arguments.extend(autotune.then(|| "--autotune".to_string()));
                let program = std::env::current_exe()?;
                let others = &beside;
                let beside = bench::Beside { shadegrad: (&program, arguments), others, rounds };
                let mut lines = String::new();
                let told = beside.run(&chosen(&workloads)?, |told| match told {
                    Ok(line) => {
                        eprintln!("{line}");
                        lines += &format!("{line}\n");
                    }
                    Err(reason) => eprintln!("{reason}"),
                });
                // Whatever has been measured is kept.
                if let Some(path) = json {
                    std::fs::write(&path, &lines).with_context(|| path.display().to_string())?;
                }
                let [ours, theirs] = told.map_err(anyhow::Error::msg)?;
                print!("{}", bench::compare(&ours, &theirs));
                return Ok(());
            }
            let ours = match from {
                Some(path) => rows(&path)?,
                None => {
                    let kernels = kernels || trace.is_some();
                    let settings = bench::Settings { seconds, kernels, step };
                    let workloads = chosen(&workloads)?;
                    let opened = device.iter().map(|name| open(name, precision, autotune));
                    let measured = measure(opened, &workloads, settings, starts)?;
                    if let Some(path) = trace {
                        std::fs::write(&path, bench::trace(&measured))
                            .with_context(|| path.display().to_string())?;
                    }
                    let lines: String = measured.iter().map(|m| bench::json(m) + "\n").collect();
                    if let Some(path) = json {
                        std::fs::write(&path, &lines)
                            .with_context(|| path.display().to_string())?;
                    }
                    bench::read(&lines).map_err(anyhow::Error::msg)?
                }
            };
            if let Some(path) = compare {
                print!("\n{}", bench::compare(&ours, &rows(&path)?));
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
        Command::Dump { config, device, out, batch } => {
            let device = Device::open(&device)?;
            let compiled = match config {
                Some(file) => experiment::plan(&Config::read(&file)?.0, &device, batch)?,
                None => {
                    let batch = batch.unwrap_or(64);
                    let cnn = Cnn::new([1, 28, 28], 10);
                    let trainer = Trainer::new(&device, cnn, CrossEntropy, Adam::new(1e-3))?;
                    trainer.plan(&drawn::digits(batch.max(1), 0), batch)?
                }
            };
            compiled.program.verify(device.limits(), &device.info().name)?;
            std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
            for (name, text) in &compiled.dump {
                let path = out.join(name);
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
                println!("{}", path.display());
            }
            print!("{}", costs(&compiled, device.limits()));
            Ok(())
        }
    }
}

/// Opens a device, and says so where its products are more precise than asked for.
fn open(name: &str, precision: MatmulPrecision, autotune: bool) -> Result<Device> {
    let device = Device::open_with_precision(name, precision)?;
    if autotune {
        device.autotune(Autotune::default());
    }
    if let Some(reason) = device.refused() {
        println!("{name}: products have the highest precision, since {reason}");
    }
    Ok(device)
}

/// Prints what the autotuner found, if it was asked and had a choice.
fn tell(tuning: &Tuning) {
    for tuned in &tuning.measured {
        println!("autotuner: {tuned}");
    }
    if *tuning != Tuning::default() {
        println!("autotuner: {tuning}");
    }
}

/// What a step costs: its kernels one after the other, and all together.
fn costs(compiled: &Compiled, limits: &Limits) -> String {
    let row = |costs: Counts, what: &str| {
        let [read, written] = [costs.bytes_read, costs.bytes_written].map(|b| b as f64 * 1e-3);
        format!("{read:>12.1} {written:>12.1} {:>12.3}  {what}\n", costs.flops as f64 * 1e-6)
    };
    let heading = "kernel (+ in the dispatch of the one before)";
    let mut text = format!("{:>12} {:>12} {:>12}  {heading}\n", "kB read", "kB written", "MFLOP");
    for group in compiled.program.groups() {
        for (number, kernel) in compiled.program.kernels[group].iter().enumerate() {
            let joins = if number > 0 { "+ " } else { "" };
            text += &row(kernel.counts(limits), &format!("{joins}{}", kernel.label));
        }
    }
    let report = &compiled.report;
    text += &row(report.counts, "together");
    text + &format!(
        "{} dispatches, {} bytes of scratch memory, at least {} needed, {} bytes of parameters, optimizer and data\n",
        report.counts.dispatches, report.peak_bytes, report.lower_bound, report.variable_bytes
    )
}

/// The workloads that some names stand for.
fn chosen(names: &[String]) -> Result<Vec<&'static str>> {
    let steps = || bench::TRAINING.iter().map(|training| training.name);
    let kernels = || bench::KERNELS.iter().map(|kernel| kernel.name);
    let mut chosen = Vec::new();
    for name in names {
        match name.as_str() {
            "steps" => chosen.extend(steps()),
            "kernels" => chosen.extend(kernels()),
            "all" => chosen.extend(steps().chain(kernels())),
            name => match steps().chain(kernels()).find(|known| *known == name) {
                Some(known) => chosen.push(known),
                None => bail!(
                    "no workload `{name}`: there are steps ({}), kernels ({}) and all",
                    steps().collect::<Vec<_>>().join(", "),
                    kernels().collect::<Vec<_>>().join(", ")
                ),
            },
        }
    }
    if names.is_empty() {
        chosen.extend(steps().chain(["matmul"]));
    }
    Ok(chosen)
}

/// Measures what dispatches of workloads cost the host: of training steps if none is named.
fn measure_host(
    device: &Device,
    workloads: &[String],
    seconds: f64,
    step: bench::Step,
) -> Result<Vec<bench::Host>> {
    let steps = ["steps".to_string()];
    let workloads = if workloads.is_empty() { &steps } else { workloads };
    let mut measured = Vec::new();
    for workload in chosen(workloads)? {
        match bench::host(workload, device, seconds, step)? {
            Some(host) => measured.push(host),
            None => bail!(
                "--host measures how dispatches are encoded for an adapter, and {} is none: `shadegrad devices` lists them",
                device.info()
            ),
        }
    }
    Ok(measured)
}

/// Measures workloads on devices and prints the results.
fn measure(
    devices: impl Iterator<Item = Result<Device>>,
    workloads: &[&str],
    settings: bench::Settings,
    starts: bool,
) -> Result<Vec<bench::Measurement>> {
    let mut measured = Vec::new();
    for device in devices {
        let device = device?;
        let rates = bench::rates(&device)?;
        println!(
            "{}: products at {:.1} GFLOP/s, copies at {:.2} GB/s; floors are at these rates",
            device.info(),
            rates.gflops,
            rates.gbytes
        );
        for workload in workloads {
            match bench::measure(workload, &device, settings, rates)? {
                bench::Outcome::Measured(mut measurement) => {
                    if starts {
                        let (program, device) = (std::env::current_exe()?, &device.info().name);
                        let starts = bench::starts(&program, workload, device, settings.step);
                        measurement.starts = Some(starts.map_err(anyhow::Error::msg)?);
                    }
                    measured.push(*measurement);
                }
                bench::Outcome::TooLong(seconds) => {
                    println!("{workload} is left out: a step takes {seconds:.0} s at least");
                }
                bench::Outcome::Unknown => bail!("no workload `{workload}`"),
            }
        }
        tell(&device.tuning());
    }
    print!("{}", bench::table(&measured));
    Ok(measured)
}

/// Measurements from a file.
fn rows(path: &Path) -> Result<Vec<bench::Row>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
    bench::read(&text).map_err(|reason| anyhow::anyhow!("{name}, {reason}"))
}
