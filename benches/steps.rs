//! `cargo bench`: every training step, and every kernel alone, on the best device. `shadegrad bench` has options.

use shadegrad::{bench, prelude::*};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::best()?;
    let settings = bench::Settings { seconds: 1.0, kernels: false, step: bench::Step::default() };
    let rates = bench::rates(&device)?;
    let steps = bench::TRAINING.iter().map(|training| training.name);
    let kernels = bench::KERNELS.iter().map(|kernel| kernel.name);
    let mut measured = Vec::new();
    for workload in steps.chain(kernels) {
        match bench::measure(workload, &device, settings, rates)? {
            bench::Outcome::Measured(measurement) => measured.push(*measurement),
            outcome => println!("{workload} is left out: {outcome:?}"),
        }
    }
    print!("{}", bench::table(&measured));
    Ok(())
}
