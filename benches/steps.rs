//! `cargo bench`: every workload on the best device. `shadegrad bench` has options.

use shadegrad::{bench, prelude::*};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::best()?;
    let settings = bench::Settings { seconds: 2.0, kernels: false };
    let mut measured = Vec::new();
    for (workload, _) in bench::WORKLOADS {
        measured.extend(bench::measure(workload, &device, settings)?);
    }
    print!("{}", bench::table(&measured));
    Ok(())
}
