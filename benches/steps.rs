//! `cargo bench`: every training step on the best device. `shadegrad bench` has options.

use shadegrad::{bench, prelude::*};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::best()?;
    let settings = bench::Settings { seconds: 2.0, kernels: false, step: bench::Step::default() };
    let rates = bench::rates(&device)?;
    let mut measured = Vec::new();
    for training in bench::TRAINING {
        let outcome = bench::measure(training.name, &device, settings, rates)?;
        if let bench::Outcome::Measured(measurement) = outcome {
            measured.push(*measurement);
        }
    }
    print!("{}", bench::table(&measured));
    Ok(())
}
