//! Activations that are computed again instead of stored: less memory, a bounded amount of work, and the same bits.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::bench::{self, Step};
use shadegrad::device::{Device, Limits};
use shadegrad::graph::{Options, Report};
use shadegrad::models::{CausalLm, CausalLmOptions, Positions};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::train::{Dataset, Padded, Resident, Samples, Windows};

/// The weights, state and statistics after some steps, as bits, and what a step costs.
fn trained<M: Module>(
    device: &Device,
    model: M,
    data: &dyn Samples,
    recompute: Option<usize>,
    mixed: bool,
) -> (Vec<Vec<u8>>, Report) {
    let trainer = Trainer::with_seed(device, model, CrossEntropy, AdamW::new(1e-2), 3).unwrap();
    let mut trainer = if mixed { trainer.mixed_precision() } else { trainer };
    let graph = trainer.record(data, 4);
    let options = Options { recompute, guard: 32, ..Options::default() };
    let mut step = trainer.session().compile_with(&graph, &[], &options).unwrap();
    step.run(3).unwrap();
    step.check_guards().unwrap();
    let variables = step.compiled().variables.clone();
    let read = variables.iter().map(|v| trainer.session().read(v).unwrap()).collect();
    (read, step.report().clone())
}

fn compare<M: Module>(name: &str, model: impl Fn() -> M, data: &dyn Samples) {
    for (device, _) in harness::devices() {
        for mixed in [false, true] {
            let (stored, before) = trained(&device, model(), data, None, mixed);
            let (again, after) = trained(&device, model(), data, Some(0), mixed);
            assert!(stored == again, "{name} on {}: other bits", device.info());
            // The recurrent network's halves take less than the gradients of its parameters: nothing is gained.
            if mixed && name == "lstm" {
                continue;
            }
            assert!(after.lower_bound < before.lower_bound, "{name} on {}", device.info());
            assert!(after.counts.dispatches > before.counts.dispatches, "{name}");
        }
    }
}

#[test]
fn a_cnn_with_batch_norm_and_dropout_keeps_its_bits() {
    let model = || {
        Sequential::new()
            .add(Conv2d::new(1, 6, 3).padding(1))
            .add(BatchNorm2d::new(6))
            .add(Gelu)
            .add(Conv2d::new(6, 8, 3))
            .add(BatchNorm2d::new(8))
            .add(Silu)
            .add(MaxPool2d::new(2))
            .add(Flatten)
            .add(Dropout::new(0.3))
            .add(Linear::new(8 * 13 * 13, 10))
    };
    compare("cnn", model, &Resident::new(&drawn::digits(20, 1)));
}

/// Layers of an LSTM whose sequences wait for each other's gradients.
struct Stacked {
    embedding: Embedding,
    lstm: Lstm,
    fc: Linear,
}

named!(Stacked { embedding, lstm, fc });

impl Module for Stacked {
    fn forward(&self, x: &Tensor) -> Tensor {
        let states = self.lstm.run(&self.embedding.forward(x), None, None).states;
        self.fc.forward(&states[0].narrow(0, 2, 1).squeeze(0))
    }
}

#[test]
fn a_recurrent_network_keeps_its_bits() {
    let tokens: Vec<u32> = (0..12 * 9).map(|i| i * 7 % 23).collect();
    let labels: Vec<u8> = (0..12).map(|i| i % 2).collect();
    let data = Padded::new(&tokens, 9, &labels);
    let model = || Stacked {
        embedding: Embedding::new(23, 16),
        lstm: Lstm::new(16, 12).num_layers(3).batch_first(),
        fc: Linear::new(12, 2),
    };
    compare("lstm", model, &data);
}

#[test]
fn a_transformer_keeps_its_bits() {
    let text: Vec<u32> = (0..200).map(|i| i * 5 % 11).collect();
    let windows = Windows::new(&text, 12).parts(4, None).remove(0);
    let model = || {
        CausalLm::new(CausalLmOptions {
            vocabulary: 11,
            context: 12,
            width: 24,
            heads: 3,
            layers: 2,
            positions: Positions::Learned,
            dropout: 0.2,
        })
    };
    compare("transformer", model, &*windows.samples);
}

#[test]
fn half_the_memory_of_a_language_model_takes_at_most_a_third_more_work() {
    for (profile, limits) in Limits::profiles() {
        let device = Device::null(limits);
        let report = |recompute| {
            let step = Step { recompute, ..Step::default() };
            bench::program("gpt", &device, step).unwrap().unwrap().0.report().clone()
        };
        let stored = report(None);
        let again = report(Some(stored.peak_bytes / 2));
        let part = |what: fn(&Report) -> u64| what(&again) as f64 / what(&stored) as f64;
        assert!(part(|r| r.peak_bytes as u64) <= 0.5, "on {profile}: {}", again.peak_bytes);
        let flops = part(|r| r.counts.flops);
        assert!((1.05..1.25).contains(&flops), "on {profile}: {flops}");
        let bytes = part(|r| r.counts.bytes_read + r.counts.bytes_written);
        assert!((1.0..1.25).contains(&bytes), "on {profile}: {bytes}");
        // No more than the whole work of a third, however little is asked for.
        let least = report(Some(0));
        let most = |r: &Report| {
            r.counts.flops as f64 / 10.0 + (r.counts.bytes_read + r.counts.bytes_written) as f64
        };
        assert!(most(&least) / most(&stored) <= 4.0 / 3.0, "on {profile}");
        assert!(least.lower_bound < again.lower_bound, "on {profile}");
    }
}
