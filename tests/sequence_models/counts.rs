//! Exact costs: dispatches of a step, memory over many steps, programs for lengths.

use crate::harness;
use shadegrad::bench::LastState;
use shadegrad::device::{Limits, random};
use shadegrad::models::Initializer;
use shadegrad::prelude::*;
use shadegrad::train::data::text::Sequences;
use shadegrad::train::{History, Padded, Part, Samples, Statistics};

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
fn an_lstm_step_is_19_dispatches_at_most_however_long_the_sequence() {
    for (profile, limits) in Limits::profiles() {
        // On GPUs small kernels share a dispatch; large ones cut two long sums of weight gradients into parts.
        let expected = match profile {
            "webgpu" => [17, 17, 17],
            "h200" => [17, 17, 18],
            _ => [19, 19, 19],
        };
        for (time, expected) in [64, 65, 256].into_iter().zip(expected) {
            assert_eq!(dispatches(&limits, time), expected, "{time} tokens on {profile}");
        }
        assert!(dispatches(&limits, 2) <= expected[0], "2 tokens on {profile}");
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
    // 16 KiB hold two states and four gates of 682 units. Of more, there is a dispatch for each of nine steps, and backwards
    // one for the first state, where two were.
    assert_eq!(count(682, 9), count(682, 5));
    assert_eq!(count(683, 9) - count(682, 9), 9 + 10 - 2);
}

fn sentences(count: usize) -> Sequences {
    sentences_from(0, count)
}

/// Texts of five and eleven words; the first decides.
fn sentences_from(first: u32, count: usize) -> Sequences {
    let length = |i: u32| if i.is_multiple_of(2) { 5 } else { 11 };
    let tokens = (first..first + count as u32)
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
    assert_eq!(right.count() as f64 / 300.0, found.scores.accuracy());
}

/// Samples that are their own numbers.
struct Numbers(Vec<usize>);

/// A part of them, from a number on.
struct From(u32, usize);

impl Dataset for Numbers {
    fn sizes(&self, _: usize) -> Vec<usize> {
        self.0.clone()
    }

    fn parts(&self, _: usize, _: Option<Statistics>) -> Vec<Part> {
        let part = |number: usize| {
            let first: usize = self.0[..number].iter().sum();
            let samples = Box::new(From(first as u32, self.0[number]));
            Part { samples, numbers: (first..first + self.0[number]).collect() }
        };
        (0..self.0.len()).map(part).collect()
    }
}

impl Samples for From {
    fn len(&self) -> usize {
        self.1
    }

    fn take(&self, _: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        (index + f64::from(self.0), index.zeros_like())
    }
}

/// A trainer that takes one from a sample's own parameter whenever it visits it.
fn visitor(samples: usize, batch: usize) -> Trainer<Embedding> {
    let table = Embedding::new(samples, 1).initializer(Initializer::Zeros);
    let loss = |output: &Tensor, _: &Tensor| output.squeeze(1);
    Trainer::new(&Device::cpu(Some(1)), table, loss, Sgd::new(batch as f64)).unwrap()
}

fn visits(trainer: &mut Trainer<Embedding>) -> Vec<i64> {
    let table = &trainer.weights().unwrap().tensors["weight"].1;
    table.iter().map(|value| -value.round() as i64).collect()
}

#[test]
fn every_sample_is_visited_once_in_every_epoch_of_every_fit() {
    let data = Numbers(vec![20, 12]);
    let mut trainer = visitor(32, 4);
    let fit = |epochs: usize| Fit::epochs(epochs).batch(4).quiet();
    for (number, epochs) in [(1, 1), (3, 2), (4, 1)] {
        trainer.fit(&data, fit(epochs)).unwrap();
        assert_eq!(visits(&mut trainer), vec![number; 32]);
    }
    // A fit that stops early doesn't put the next one out of step.
    let mut trainer = visitor(20, 4);
    trainer.fit(&Numbers(vec![20]), Fit::epochs(usize::MAX).batch(4).steps(2).quiet()).unwrap();
    let before = visits(&mut trainer);
    assert_eq!(before.iter().sum::<i64>(), 8);
    trainer.fit(&Numbers(vec![20]), fit(1)).unwrap();
    let after = visits(&mut trainer);
    assert!(after.iter().zip(&before).all(|(a, b)| a - b == 1), "{before:?} {after:?}");
}

#[test]
fn later_fits_visit_in_other_orders() {
    let order = |fits: usize| {
        let mut trainer = visitor(30, 1);
        let mut visited = vec![];
        for _ in 0..fits {
            visited.clear();
            let mut course = trainer.start(&Numbers(vec![30]), 1).unwrap();
            let mut before = visits(&mut trainer);
            for _ in 0..10 {
                trainer.advance(&mut course, 1, &mut History::default()).unwrap();
                let now = visits(&mut trainer);
                visited.push((0..30).find(|&n| now[n] != before[n]).unwrap());
                before = now;
            }
        }
        visited
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn batches_and_parts_that_make_no_sense_are_refused() {
    let refused = |data: &dyn Dataset, batch: usize| {
        let error = visitor(9, 1).fit(data, Fit::epochs(1).batch(batch).quiet());
        error.unwrap_err().to_string()
    };
    let text = refused(&Numbers(vec![5, 4]), 5);
    assert!(text.contains("the batch size is 5") && text.contains("1 to 4"), "{text}");
    assert!(refused(&Numbers(vec![5, 0]), 1).contains("1 to 0"));
    assert!(refused(&Numbers(vec![]), 1).contains("the number of samples is 0"));
    let text = visitor(9, 1).fit(&Numbers(vec![9]), Fit::epochs(1).quiet().batch(1).keep_best());
    assert!(text.unwrap_err().to_string().contains("keep_best"));
    // Texts join their buckets until each has a batch.
    let data = sentences(300);
    assert_eq!((data.sizes(64), data.sizes(192)), (vec![150, 150], vec![300]));
    // An evaluation has no batch to fill, and leaves out what is empty.
    let found = visitor(9, 1).evaluate(&Numbers(vec![5, 0, 4])).unwrap();
    assert_eq!(found.predictions, [0; 9]);
}

#[test]
fn the_best_epoch_is_kept() {
    let data = sentences(256);
    let run = |keep: bool| {
        let model = TextClassifier::new(60, 8, 8, 2);
        let adam = Adam::new(0.1);
        let mut trainer =
            Trainer::with_seed(&Device::cpu(Some(1)), model, CrossEntropy, adam, 5).unwrap();
        let held = sentences_from(1000, 128);
        let fit = Fit::epochs(6).batch(16).validate(&held).quiet();
        let history = trainer.fit(&data, if keep { fit.keep_best() } else { fit }).unwrap();
        let of = |number: usize| history.epochs[number - 1].validation.clone().unwrap();
        let accuracies: Vec<f64> = (1..=6).map(|number| of(number).accuracy()).collect();
        let found = trainer.evaluate(&held).unwrap();
        match history.best {
            None => assert_eq!(found.scores, of(6)),
            Some(best) => {
                let most = accuracies.iter().copied().fold(0.0, f64::max);
                assert_eq!(accuracies.iter().position(|&a| a == most), Some(best - 1));
                assert_eq!(found.scores, of(best));
            }
        }
        (history.best, accuracies)
    };
    let ((best, accuracies), (none, same)) = (run(true), run(false));
    assert_eq!((none, &accuracies), (None, &same), "keeping changes no step");
    assert!(
        best.is_some_and(|best| best < 6),
        "the last is not the best, or this shows nothing: {accuracies:?}"
    );
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
