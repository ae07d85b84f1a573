//! Exact costs: dispatches of a step, memory over many steps, programs for lengths.

use crate::harness;
use shadegrad::bench::LastState;
use shadegrad::device::{Limits, random};
use shadegrad::prelude::*;
use shadegrad::train::data::text::Sequences;
use shadegrad::train::{History, Padded};

/// Embedding 10 000x128, LSTM 128-128, linear 2, batch 32, Adam: the step over a number of tokens.
fn dispatches(limits: &Limits, time: usize) -> usize {
    let device = Device::null(limits.clone());
    let tokens: Vec<u32> = (0..64 * time as u32).map(|i| random(3, i) % 10_000).collect();
    let labels: Vec<u8> = (0..64).map(|i| (random(4, i) % 2) as u8).collect();
    let model = LastState::new(10_000, 128, 128, 2);
    let mut trainer = Trainer::new(&device, model, CrossEntropy, Adam::new(1e-3)).unwrap();
    let step = trainer.compile(&Padded::new(&tokens, time, &labels), 32).unwrap();
    step.report().counts.dispatches
}

#[test]
fn an_lstm_step_is_22_dispatches_however_long_the_sequence() {
    for (profile, limits) in Limits::profiles() {
        // GPUs cut two long sums of weight gradients into parts.
        let expected = match profile {
            "webgpu" | "h200" => 24,
            _ => 22,
        };
        for time in [64, 65, 256] {
            assert_eq!(dispatches(&limits, time), expected, "{time} tokens on {profile}");
        }
        assert!(dispatches(&limits, 2) <= expected, "2 tokens on {profile}");
    }
}

#[test]
fn more_units_than_a_workgroup_holds_take_a_dispatch_for_each_step() {
    let count = |hidden: usize, time: usize| {
        let device = Device::null(Limits::WEBGPU);
        let lstm = Lstm::new(4, hidden);
        let parameters = Parameters::new(&lstm, 0).unwrap();
        let graph = Graph::new();
        let init = Init::Full(0.5);
        let x = graph.variable(&Variable::new("x", &[time, 2, 4], DType::F32, init));
        let loss = lstm.forward(&x).square().sum_all();
        let gradients = graph.gradients(&loss, &[&x]);
        let _ = parameters.tensors(&graph);
        let loaded = Session::new(&device).compile(&graph, &[&gradients[0]]).unwrap();
        loaded.report().counts.dispatches
    };
    // 16 KiB hold the two states of two steps of 1024 units, and six slopes of 682.
    assert_eq!(count(682, 9), count(682, 5));
    assert_eq!(count(683, 9) - count(682, 9), 9);
    assert_eq!(count(1025, 9) - count(1024, 9), 8);
}

fn sentences(count: usize) -> Sequences {
    let length = |i: u32| if i.is_multiple_of(2) { 5 } else { 11 };
    let tokens = (0..count as u32)
        .map(|i| (0..length(i)).map(|t| 2 + random(i, t) % 50).collect::<Vec<u32>>())
        .collect::<Vec<_>>();
    let labels = tokens.iter().map(|t| u8::from(t[0] > 26)).collect();
    Sequences { tokens, labels, classes: 2, cut: 0 }
}

#[test]
fn a_thousand_steps_over_two_lengths_create_nothing() {
    for (device, _) in harness::devices() {
        let model = TextClassifier::new(60, 8, 8, 2);
        let mut trainer = Trainer::new(&device, model, CrossEntropy, Adam::new(1e-3)).unwrap();
        let data = sentences(256);
        let mut course = trainer.start(&data, 16).unwrap();
        assert_eq!(course.programs().len(), 2, "a program for each length");
        let mut history = History::default();
        trainer.advance(&mut course, 40, &mut history).unwrap();
        let before = device.counters();
        trainer.advance(&mut course, 1000, &mut history).unwrap();
        let after = device.counters();
        assert_eq!(before.buffers, after.buffers, "on {}", device.info());
        assert_eq!(before.pipelines, after.pipelines, "on {}", device.info());
        assert_eq!(before.bind_groups, after.bind_groups, "on {}", device.info());
        assert_eq!(history.losses.len(), 1040);
    }
}

#[test]
fn a_new_length_is_compiled_once() {
    for (device, _) in harness::devices() {
        let model = TextClassifier::new(60, 8, 8, 2);
        let mut trainer = Trainer::new(&device, model, CrossEntropy, Adam::new(1e-3)).unwrap();
        let words = |len: usize| {
            let ids = (0..2 * len as u32).map(|i| f64::from(2 + random(1, i) % 50)).collect();
            shadegrad::graph::Array::new(&[2, len], DType::U32, ids)
        };
        let first = trainer.predict(&words(5)).unwrap();
        let buffers = device.counters().buffers;
        trainer.predict(&words(7)).unwrap();
        let more = device.counters().buffers;
        assert!(more > buffers, "a new length is a new program");
        for _ in 0..5 {
            assert_eq!(trainer.predict(&words(5)).unwrap(), first);
            trainer.predict(&words(7)).unwrap();
        }
        assert_eq!(device.counters().buffers, more, "on {}", device.info());
    }
}

#[test]
fn parts_are_visited_as_often_as_they_have_samples() {
    let device = Device::cpu(Some(1));
    let model = TextClassifier::new(60, 4, 4, 2);
    let mut trainer = Trainer::new(&device, model, CrossEntropy, Sgd::new(0.1)).unwrap();
    // 150 samples of each length in batches of 64: five steps in the first epoch, then four or five.
    let data = sentences(300);
    let mut course = trainer.start(&data, 64).unwrap();
    let fit = Fit::epochs(4).batch(64).quiet();
    let mut history = History::default();
    let mut epochs = vec![];
    for _ in 0..4 {
        let steps = course.left_in_epoch();
        epochs.push(steps);
        trainer.advance(&mut course, steps, &mut history).unwrap();
    }
    assert_eq!(epochs, [6, 4, 6, 4]);
    assert_eq!(epochs.iter().sum::<usize>(), fit.total_steps(&data));
    // What an evaluation says of each sample is in the order of the data, whatever the parts.
    let found = trainer.evaluate(&data).unwrap();
    let right = found.predictions.iter().zip(&data.labels).filter(|(p, l)| **p == u32::from(**l));
    assert_eq!(right.count() as f64 / 300.0, found.accuracy);
}

#[test]
fn a_data_set_that_is_gone_makes_room() {
    let device = Device::cpu(Some(1));
    let model = TextClassifier::new(60, 4, 4, 2);
    let mut trainer = Trainer::new(&device, model, CrossEntropy, Sgd::new(0.1)).unwrap();
    let data = sentences(200);
    let held = |trainer: &mut Trainer<TextClassifier>| trainer.session().variables();
    trainer.fit(&data, Fit::epochs(1).quiet()).unwrap();
    trainer.evaluate(&data).unwrap();
    let first = held(&mut trainer);
    for _ in 0..3 {
        trainer.fit(&data, Fit::epochs(1).quiet()).unwrap();
        trainer.evaluate(&data).unwrap();
    }
    assert_eq!(held(&mut trainer), first);
}

#[test]
fn a_recording_of_thousands_of_values_compiles() {
    // An LSTM and its gradient, step by step of elementary operations.
    for time in [16, 64, 256] {
        let graph = Graph::new();
        let [w, u] = [1, 2].map(|seed| crate::x(&graph, &[32, 128], seed));
        let (mut h, mut c) = (graph.zeros(&[8, 32]), graph.zeros(&[8, 32]));
        for t in 0..time {
            let gates = crate::x(&graph, &[8, 32], 3 + t).matmul(&w) + h.matmul(&u);
            let gate = |number: usize| gates.narrow(1, number * 32, 32);
            c = gate(1).sigmoid() * c + gate(0).sigmoid() * gate(2).tanh();
            h = gate(3).sigmoid() * c.tanh();
        }
        let gradients = graph.gradients(&h.square().sum_all(), &[&w, &u]);
        let clock = std::time::Instant::now();
        let outputs: Vec<&Tensor> = gradients.iter().collect();
        let loaded = Session::new(&Device::null(Limits::CPU)).compile(&graph, &outputs).unwrap();
        let (dispatches, seconds) = (loaded.report().counts.dispatches, clock.elapsed());
        println!("{time} steps: {dispatches} dispatches, compiled in {seconds:.2?}");
        // Two products, a kernel of gates, and as many again backwards: more for each step, and not too many.
        assert!((5 * time as usize..=12 * time as usize).contains(&dispatches), "{dispatches}");
    }
}
