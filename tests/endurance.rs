//! Twenty thousand steps: memory is flat once training has begun.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::Device;
use shadegrad::models::{Cosine, TopK};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::train::{History, Streaming, Transforms, augment::RandomCrop};

/// Kilobytes that the process has in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// Steps of a small model in courses of a hundred, and that nothing grows after the first of them.
fn run(device: &Device, data: &dyn Dataset, steps: usize) {
    let model =
        Sequential::new().add(Flatten).add(Linear::new(784, 8)).add(Relu).add(Linear::new(8, 10));
    let mut trainer = Trainer::new(device, model, CrossEntropy, Adam::new(1e-3))
        .unwrap()
        .schedule(Cosine { steps, floor: 0.1 })
        .clip_grad_norm(1.0)
        .ema(0.99)
        .metric(TopK(2));
    let mut course = trainer.start(data, 8).unwrap();
    let mut history = History::default();
    let tenth = steps / 10;
    trainer.advance(&mut course, tenth, &mut history).unwrap();
    let (counters, before) = (device.counters(), resident());
    for _ in 0..(steps - tenth) / 100 {
        trainer.advance(&mut course, 100, &mut history).unwrap();
    }
    let after = device.counters();
    assert_eq!(history.losses.len(), steps);
    assert_eq!(counters.buffers, after.buffers, "on {}", device.info());
    assert_eq!(counters.bind_groups, after.bind_groups, "on {}", device.info());
    assert_eq!(counters.pipelines, after.pipelines, "on {}", device.info());
    if let (Some(before), Some(after)) = (before, resident()) {
        // The losses of all steps, and what the system's allocator keeps.
        let history = steps * 4 * 4 / 1024;
        let more = after.saturating_sub(before) as usize;
        assert!(more < history + 4096, "{more} kB more on {}", device.info());
    }
}

// One test: two at a time would count each other's memory.
#[test]
fn twenty_thousand_steps_take_no_more_memory_than_two_thousand() {
    let data = drawn::digits(200, 1);
    for (device, _) in harness::devices() {
        run(&device, &data, 20_000);
    }
    // Streamed and changed at random as well.
    let statistics = data.statistics().unwrap();
    let streaming = Streaming::new(data).normalised(statistics);
    let streaming = streaming.augmented(Transforms::new().add(RandomCrop { padding: 2 }));
    run(&Device::cpu(Some(1)), &streaming, 5_000);
}
