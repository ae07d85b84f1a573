//! Mixed precision: what waits in halves and what doesn't, training with it beside training in f32, a scaled loss, steps
//! that are left out because of an overflow, and devices that store no halves.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::bench::{self, LastState, Step};
use shadegrad::device::{Device, Limits, Term, Variant, random};
use shadegrad::graph::{Array, Options, Report, compile};
use shadegrad::models::{CausalLm, CausalLmOptions, GradScaler, Parameter, Positions};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::train::{Dataset, History, Padded, Resident, Samples, TrainError, Windows};

/// The names of what waits in halves.
fn halved(report: &Report) -> Vec<String> {
    report.slots.iter().filter(|slot| slot.halved).map(|slot| slot.name.clone()).collect()
}

fn report(graph: &Graph, outputs: &[&Tensor], limits: &Limits) -> Report {
    let nodes = graph.nodes(outputs).unwrap();
    compile(&nodes, limits, &Options { fuse: false, ..Options::default() }).unwrap().report
}

#[test]
fn only_what_was_recorded_for_it_waits_in_halves() {
    let x = Variable::new("x", &[6, 8], DType::F32, Init::Full(0.5));
    let of = |limits: &Limits, record: &dyn Fn(&Graph, &Tensor) -> Tensor| {
        let graph = Graph::new();
        let output = record(&graph, &graph.variable(&x));
        halved(&report(&graph, &[&output], limits)).len()
    };
    let cpu = Limits::CPU;
    assert_eq!(of(&cpu, &|g, x| g.autocast(|| x.exp()).log()), 1);
    assert_eq!(of(&cpu, &|_, x| x.exp().log()), 0, "recorded outside");
    assert_eq!(of(&cpu, &|g, x| g.autocast(|| x.exp())), 0, "read back");
    assert_eq!(of(&Limits::WEBGPU, &|g, x| g.autocast(|| x.exp()).log()), 0, "no halves there");
    let both = |g: &Graph, x: &Tensor| {
        let half = g.autocast(|| x.exp());
        half.log() + x.exp()
    };
    assert_eq!(of(&cpu, &both), 0, "recorded outside as well");
    // Mean and deviation, and what follows from them: f32, whatever is made of them for each element is not.
    let statistics = |g: &Graph, x: &Tensor| g.autocast(|| (x.mean(&[1]) + 1.0).sqrt()).log();
    assert_eq!(of(&cpu, &statistics), 0, "statistics");
    let scan = |g: &Graph, x: &Tensor| g.autocast(|| x.cumsum(1)).log();
    assert_eq!(of(&cpu, &scan), 0, "what a scan goes on with");
    let integers = |g: &Graph, x: &Tensor| g.autocast(|| x.to(DType::U32)).to(DType::F32).log();
    assert_eq!(of(&cpu, &integers), 0, "integers");
}

#[test]
fn gradients_wait_as_what_they_are_of_does_and_those_of_parameters_in_f32() {
    let v = Variable::new("v", &[6, 8], DType::F32, Init::Full(0.5));
    let w = Variable::new("w", &[8, 4], DType::F32, Init::Full(0.5));
    let graph = Graph::new();
    let (x, weight) = (graph.variable(&v), graph.variable(&w));
    let y = graph.autocast(|| x.sin().matmul(&weight));
    let loss = y.sin().sum_all();
    let gradients = graph.gradients(&loss, &[&weight, &x]);
    let packed = graph.pack(&[&gradients[0]]);
    let report = report(&graph, &[&packed, &gradients[1]], &Limits::CPU);
    // sin(x), y, the gradient of sin(x), and its slope; the gradient of y comes from the loss, which is outside.
    assert_eq!(halved(&report).len(), 4, "{:?}", report.slots);
    let packs: Vec<_> = report.slots.iter().filter(|slot| slot.name.starts_with("pack")).collect();
    assert_eq!((packs.len(), packs[0].bytes, packs[0].halved), (1, 8 * 4 * 4, false));
}

/// The gradients of a step, one for each parameter, as what a rate of one takes from it, and what the step costs.
fn gradients<M: Module>(
    device: &Device,
    model: M,
    data: &dyn Samples,
    mixed: bool,
) -> (Vec<(String, Vec<f32>)>, Report) {
    let trainer = Trainer::with_seed(device, model, CrossEntropy, Sgd::new(1.0), 3).unwrap();
    let mut trainer = if mixed { trainer.mixed_precision() } else { trainer };
    let names: Vec<String> = trainer.parameters().names().map(|(n, _)| n.to_string()).collect();
    let before = trainer.weights().unwrap();
    let mut step = trainer.compile(data, 8).unwrap();
    step.run(1).unwrap();
    let after = trainer.weights().unwrap();
    let difference = |name: String| {
        let (before, after) = (&before.tensors[&name].1, &after.tensors[&name].1);
        let gradient = before.iter().zip(after).map(|(b, a)| b - a).collect();
        (name, gradient)
    };
    (names.into_iter().map(difference).collect(), step.report().clone())
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// A step's gradients with and without halves differ as far as rounding explains: all together by a half's eps for each
/// value that waits, as if all errors went the same way. Those of a parameter may be sums in which much cancels.
fn close<M: Module>(name: &str, model: impl Fn() -> M, data: &dyn Samples) {
    for (device, _) in harness::devices() {
        let (exact, before) = gradients(&device, model(), data, false);
        let (rounded, after) = gradients(&device, model(), data, true);
        let count = halved(&after).len();
        assert!(count > 3 && halved(&before).is_empty(), "{name}: {count} values");
        let eps = count as f64 * 2f64.powi(-11);
        let whole = norm(exact.iter().flat_map(|(_, gradient)| gradient).copied());
        let mut errors = vec![];
        for ((parameter, exact), (_, rounded)) in exact.iter().zip(&rounded) {
            let error = norm(exact.iter().zip(rounded).map(|(e, r)| e - r));
            let own = norm(exact.iter().copied());
            // What is wrong is off by its own size.
            let fine = error <= 0.5 * own || own < eps * whole;
            assert!(fine, "{name}, {parameter} on {}: {error:e} of {own:e}", device.info());
            errors.push(error as f32);
        }
        let (error, allowed) = (norm(errors.into_iter()), eps * whole);
        assert!(error > 0.0, "{name}: nothing was rounded");
        assert!(error <= allowed, "{name} on {}: {error:e}, {allowed:e} allowed", device.info());
    }
}

#[test]
fn gradients_of_a_cnn_are_those_of_f32_but_for_rounding() {
    let model = || {
        Sequential::new()
            .add(Conv2d::new(1, 6, 3).padding(1))
            .add(BatchNorm2d::new(6))
            .add(Relu)
            .add(Conv2d::new(6, 12, 3).groups(6).stride(2))
            .add(Gelu)
            .add(MaxPool2d::new(2))
            .add(Flatten)
            .add(Dropout::new(0.3))
            .add(Linear::new(12 * 6 * 6, 10))
    };
    close("cnn", model, &Resident::new(&drawn::digits(20, 1)));
}

/// Texts of nine of 23 words, of two classes.
fn sentences() -> Padded {
    let tokens: Vec<u32> = (0..16 * 9).map(|i| random(5, i) % 23).collect();
    let labels: Vec<u8> = (0..16).map(|i| i % 2).collect();
    Padded::new(&tokens, 9, &labels)
}

#[test]
fn gradients_of_a_recurrent_network_are_those_of_f32_but_for_rounding() {
    close("lstm", || LastState::new(23, 9, 11, 2), &sentences());
}

fn language_model() -> CausalLm {
    CausalLm::new(CausalLmOptions {
        vocabulary: 19,
        context: 12,
        width: 16,
        heads: 2,
        layers: 2,
        positions: Positions::Learned,
        dropout: 0.1,
    })
}

#[test]
fn gradients_of_a_transformer_are_those_of_f32_but_for_rounding() {
    let text: Vec<u32> = (0..300).map(|i| random(3, i) % 19).collect();
    let windows = Windows::new(&text, 12).parts(8, None).remove(0);
    close("transformer", language_model, &*windows.samples);
}

/// Dispatches and bytes of scratch memory of the five training steps in mixed precision, on the CPU.
const MIXED: [(&str, usize, usize); 5] = [
    ("mlp", 17, 2_873_392),
    ("lenet", 24, 11_922_992),
    ("cifar", 46, 41_165_872),
    ("lstm", 22, 13_000_116),
    ("gpt", 62, 12_192_768),
];

#[test]
fn mixed_steps_take_so_much_memory_and_three_dispatches_more() {
    for (workload, dispatches, bytes) in MIXED {
        let device = Device::null(Limits::CPU);
        let step = Step { mixed: true, ..Step::default() };
        let (program, _) = bench::program(workload, &device, step).unwrap().unwrap();
        let report = program.report();
        assert_eq!(
            (report.counts.dispatches, report.peak_bytes),
            (dispatches, bytes),
            "{workload}"
        );
    }
}

/// Two layers, between which gradients wait.
fn perceptron() -> Sequential {
    Sequential::new().add(Flatten).add(Linear::new(784, 16)).add(Relu).add(Linear::new(16, 10))
}

#[test]
fn an_overflow_is_skipped_on_the_device_and_the_scale_recovers() {
    let data = drawn::digits(64, 1);
    for (device, _) in harness::devices() {
        // Gradients of the hidden layer are around a thousandth: this scale is too much for halves, for some steps.
        let scaler = GradScaler::new().init_scale(2f64.powi(34)).growth_interval(5);
        let mut trainer = Trainer::new(&device, perceptron(), CrossEntropy, Adam::new(1e-3))
            .unwrap()
            .mixed_precision_with(scaler.clone());
        let bits = |trainer: &mut Trainer<Sequential>| -> Vec<Vec<u8>> {
            let own = trainer.parameters().shards().to_vec();
            let state =
                trainer.updater().state().into_iter().filter(|m| !m.name.starts_with("scaler"));
            let all: Vec<Variable> = own.into_iter().chain(state.map(|m| m.variable)).collect();
            all.iter().map(|variable| trainer.session().read(variable).unwrap()).collect()
        };
        let start = bits(&mut trainer);
        let mut course = trainer.start(&data, 16).unwrap();
        let (mut history, mut skipped, mut scales) = (History::default(), 0, vec![2f64.powi(34)]);
        for step in 0..60 {
            let before = bits(&mut trainer);
            trainer.advance(&mut course, 1, &mut history).unwrap();
            let scale = trainer.session().read_array(scaler.scale()).unwrap().data[0];
            let out = trainer.session().read_array(scaler.skipped()).unwrap().data[0] as usize;
            let last = *scales.last().unwrap();
            let after = bits(&mut trainer);
            if out > skipped {
                assert_eq!((out, scale), (skipped + 1, last / 2.0), "step {step}");
                assert!(before == after, "a step that is left out changes nothing");
            } else {
                assert!(scale == last || scale == 2.0 * last, "step {step}: {last} to {scale}");
                assert!(before != after, "step {step} changes nothing");
            }
            skipped = out;
            scales.push(scale);
        }
        assert!(skipped > 2, "nothing was too much: {scales:?}");
        assert!(start != bits(&mut trainer));
        let lowest = scales.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(scales.iter().rev().any(|scale| *scale > lowest), "{scales:?}");
        assert!(scales.windows(2).any(|w| w[1] == 2.0 * w[0]), "the scale never grew: {scales:?}");
        assert!(history.losses[59] < 0.8 * history.losses[0], "{:?}", history.losses);
    }
}

#[test]
fn an_optimizer_counts_updates_and_not_what_was_left_out() {
    // After the last overflow all is as with a scale that fits from the beginning, Adam's bias correction, too.
    let data = Resident::new(&drawn::digits(16, 1));
    let run = |scale: f64, steps: usize| {
        let model = perceptron();
        let scaler = GradScaler::new().init_scale(scale);
        let mut trainer = Trainer::new(&Device::cpu(Some(2)), model, CrossEntropy, Adam::new(1e-3))
            .unwrap()
            .schedule(WarmUp { steps: 10, then: Constant })
            .mixed_precision_with(scaler.clone());
        // All samples are in each batch.
        let mut step = trainer.compile(&data, 16).unwrap();
        step.run(steps).unwrap();
        let skipped = trainer.session().read_array(scaler.skipped()).unwrap().data[0] as usize;
        (trainer.weights().unwrap().tensors, skipped)
    };
    let (_, skipped) = run(2f64.powi(30), 20);
    assert!(skipped > 0 && skipped < 15, "{skipped}");
    let fits = 2f64.powi(30 - skipped as i32);
    let ((late, _), (soon, none)) = (run(2f64.powi(30), 20), run(fits, 20 - skipped));
    assert_eq!(none, 0);
    for (name, (_, soon)) in &soon {
        let late = &late[name].1;
        let error = norm(soon.iter().zip(late).map(|(a, b)| a - b)) / norm(soon.iter().copied());
        // The order of the samples in a batch differs, and so does rounding.
        assert!(error < 1e-3, "{name}: {error:e}");
    }
}

#[test]
fn accumulated_gradients_overflow_together() {
    let data = drawn::digits(64, 1);
    for (device, _) in harness::devices() {
        let model = perceptron();
        let scaler = GradScaler::new().init_scale(2f64.powi(34));
        let mut trainer = Trainer::new(&device, model, CrossEntropy, Sgd::new(0.1))
            .unwrap()
            .accumulate(3)
            .mixed_precision_with(scaler.clone());
        let mut course = trainer.start(&data, 16).unwrap();
        let mut history = History::default();
        let read = |trainer: &mut Trainer<Sequential>, v: &Variable| {
            trainer.session().read_array(v).unwrap().data[0]
        };
        for step in 0..6 {
            trainer.advance(&mut course, 1, &mut history).unwrap();
            let windows = f64::from((step + 1) / 3);
            assert_eq!(read(&mut trainer, scaler.skipped()), windows, "step {step}");
            assert_eq!(read(&mut trainer, scaler.scale()), 2f64.powi(34) / 2f64.powf(windows));
        }
        trainer.advance(&mut course, 54, &mut history).unwrap();
        assert!(read(&mut trainer, scaler.skipped()) < 15.0);
        let weights = trainer.weights().unwrap();
        assert!(weights.tensors.values().all(|(_, data)| data.iter().all(|v| v.is_finite())));
        assert!(history.losses[59] < 0.8 * history.losses[0], "{:?}", history.losses);
    }
}

/// Two layers with numbers between them that are too large for halves, but not for floats.
struct Large {
    first: Linear,
    second: Linear,
}

named!(Large { first, second });

impl Module for Large {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.second.forward(&(self.first.forward(x) * 1e6)) * 1e-6
    }
}

#[test]
fn what_halves_can_not_hold_ends_training_with_an_error_that_says_so() {
    let data = drawn::digits(16, 1);
    for (device, _) in harness::devices() {
        let run = |mixed: bool| {
            let model = Sequential::new()
                .add(Flatten)
                .add(Large { first: Linear::new(784, 16), second: Linear::new(16, 10) });
            let trainer = Trainer::new(&device, model, CrossEntropy, Sgd::new(1e-3)).unwrap();
            let mut trainer = if mixed { trainer.mixed_precision() } else { trainer };
            let mut course = trainer.start(&data, 8).unwrap();
            trainer.advance(&mut course, 3, &mut History::default())
        };
        run(false).unwrap();
        let error = run(true).unwrap_err();
        assert!(matches!(error, TrainError::Diverged { step: 0, .. }), "{error}");
        assert!(error.to_string().contains("half precision, which ends at 65504"), "{error}");
    }
}

#[test]
fn fifty_steps_on_the_adapter_follow_f32() {
    let Some(device) = harness::adapter() else { return };
    let data = drawn::digits(256, 1);
    let losses = |mixed: bool| {
        let trainer =
            Trainer::new(&device, Cnn::new([1, 28, 28], 10), CrossEntropy, Adam::new(1e-3))
                .unwrap();
        let mut trainer = if mixed { trainer.mixed_precision() } else { trainer };
        let mut course = trainer.start(&data, 16).unwrap();
        let mut history = History::default();
        trainer.advance(&mut course, 50, &mut history).unwrap();
        history.losses
    };
    let (exact, mixed) = (losses(false), losses(true));
    let apart = |steps: usize| {
        let pairs = exact.iter().zip(&mixed).take(steps);
        pairs.map(|(e, m)| (e - m).abs() / e).sum::<f32>() / steps as f32
    };
    // At first by a few roundings; small differences grow with each step, as they do between devices.
    assert!(apart(4) < 1e-3 && apart(50) < 0.02, "{exact:?}\n{mixed:?}");
    assert!(exact != mixed, "nothing was rounded");
    assert!(mixed[49] < 0.5 * mixed[0], "{mixed:?}");
}

#[test]
fn without_halves_training_stays_in_f32_and_says_so() {
    let limits = Limits { f16: false, ..Limits::profile("lavapipe").unwrap() };
    let mut devices = vec![Device::null(limits.clone())];
    devices.extend(harness::adapter_with(Variant { limits: Some(limits), ..Variant::default() }));
    for device in devices {
        let trainer = || {
            Trainer::new(&device, Cnn::new([1, 28, 28], 10), CrossEntropy, Adam::new(1e-3)).unwrap()
        };
        let mixed = trainer().mixed_precision();
        assert!(!mixed.is_mixed());
        let said = mixed.precision();
        assert!(said.contains("f32") && said.contains(&device.info().to_string()), "{said}");
        assert_eq!(trainer().precision(), "f32");
        assert!(mixed.updater().state().iter().all(|memory| !memory.name.starts_with("scaler")));
        let data = drawn::digits(20, 1);
        let (plain, asked) = (trainer().report(&data, 4).unwrap(), mixed.report(&data, 4).unwrap());
        assert_eq!(plain.counts, asked.counts);
    }
    let mixed = Trainer::new(
        &Device::cpu(Some(1)),
        Cnn::new([1, 28, 28], 10),
        CrossEntropy,
        Adam::new(1e-3),
    )
    .unwrap()
    .mixed_precision();
    assert!(mixed.is_mixed() && mixed.precision().contains("f16"));
}

#[test]
fn settings_of_the_scaler_that_make_no_sense_are_refused() {
    let data = drawn::digits(20, 1);
    let device = Device::cpu(Some(1));
    for (scaler, name) in [
        (GradScaler::new().init_scale(0.0), "init_scale"),
        (GradScaler::new().init_scale(f64::NAN), "init_scale"),
        (GradScaler::new().init_scale(1e39), "init_scale"),
        (GradScaler::new().init_scale(1e-46), "init_scale"),
        (GradScaler::new().growth_factor(1.0), "growth_factor"),
        (GradScaler::new().backoff_factor(1.0), "backoff_factor"),
        (GradScaler::new().backoff_factor(0.0), "backoff_factor"),
        (GradScaler::new().growth_interval(0), "growth_interval"),
    ] {
        let mut trainer =
            Trainer::new(&device, Mlp::new(&[784, 10]), CrossEntropy, Adam::new(1e-3))
                .unwrap()
                .mixed_precision_with(scaler);
        let error = trainer.start(&data, 4).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, TrainError::Graph(_)) && error.to_string().contains(name),
            "{error}"
        );
    }
}

#[test]
fn assigned_values_and_all_parts_of_a_parameters_gradient_stay_in_f32() {
    let m = Variable::new("m", &[4, 4], DType::F32, Init::Full(0.1));
    let u = Variable::new("u", &[4, 4], DType::F32, Init::Full(0.2));
    for (device, _) in harness::devices() {
        // Each takes what is computed from the other, so one of them waits.
        let graph = Graph::new();
        graph.autocast(|| {
            let (a, b) = (graph.variable(&m), graph.variable(&u));
            graph.assign(&u, &(a.matmul(&b) + 0.3));
            graph.assign(&m, &(b.flip(0).matmul(&a) + 0.3));
        });
        let mut session = Session::new(&device);
        let mut step = session.compile(&graph, &[]).unwrap();
        assert!(halved(step.report()).is_empty(), "{:?}", step.report().slots);
        step.run(1).unwrap();
        for variable in [&m, &u] {
            let found = session.read_array(variable).unwrap().data[0];
            assert!((found - 0.38).abs() < 1e-6, "{found}");
        }
    }
    // A weight that is used twice has a gradient of two parts.
    let (v, w) = (Variable::new("v", &[6, 4], DType::F32, Init::Full(0.5)), &m);
    let graph = Graph::new();
    let (x, weight) = (graph.variable(&v), graph.variable(w));
    let loss = graph.autocast(|| x.matmul(&weight).sin().matmul(&weight).sin()).sum_all();
    let gradient = graph.gradients(&loss, &[&weight]);
    let packed = graph.pack(&[&gradient[0]]);
    let report = report(&graph, &[&packed], &Limits::CPU);
    let size = 4 * 4 * 2;
    let parts = report.slots.iter().filter(|slot| slot.halved && slot.bytes == size);
    assert_eq!(parts.count(), 0, "{:?}", report.slots);
    assert!(!halved(&report).is_empty());
}

/// A trainer of one layer, in which no gradient waits as a half.
fn linear(device: &Device) -> Trainer<Sequential> {
    let model = Sequential::new().add(Flatten).add(Linear::new(784, 10));
    Trainer::new(device, model, CrossEntropy, Adam::new(1e-2)).unwrap()
}

#[test]
fn a_scale_that_is_a_power_of_two_changes_no_bit() {
    // Gradients are no longer scaled when they are clipped and penalised, accumulated and averaged.
    let data = drawn::digits(64, 1);
    for (device, _) in harness::devices() {
        let run = |power: i32| {
            let trainer = linear(&device)
                .clip_grad_value(0.02)
                .clip_grad_norm(0.1)
                .l1_penalty(1e-4)
                .accumulate(2)
                .ema(0.9)
                .group(Group::matching(|name| name.ends_with("bias")).lr_multiplier(0.5))
                .schedule(WarmUp { steps: 5, then: Constant });
            let scaler = GradScaler::new().init_scale(2f64.powi(power));
            let mut trainer = trainer.mixed_precision_with(scaler);
            let mut course = trainer.start(&data, 16).unwrap();
            let mut history = History::default();
            trainer.advance(&mut course, 20, &mut history).unwrap();
            let averages: Vec<Variable> =
                trainer.updater().averages().into_iter().cloned().collect();
            let averages: Vec<Vec<u8>> =
                averages.iter().map(|v| trainer.session().read(v).unwrap()).collect();
            (trainer.weights().unwrap().tensors, averages, history.losses)
        };
        let one = run(0);
        for power in [-3, 10] {
            assert!(run(power) == one, "2^{power} on {}", device.info());
        }
    }
}

#[test]
fn evaluation_and_prediction_are_in_f32() {
    let data = drawn::digits(40, 1);
    for (device, _) in harness::devices() {
        let new = || {
            Trainer::new(&device, Cnn::new([1, 28, 28], 10), CrossEntropy, Adam::new(1e-3)).unwrap()
        };
        let (mut mixed, mut plain) = (new().mixed_precision(), new());
        let mut course = mixed.start(&data, 8).unwrap();
        mixed.advance(&mut course, 3, &mut History::default()).unwrap();
        plain.restore(&mixed.weights().unwrap(), std::path::Path::new("the other")).unwrap();
        let input = Array::new(
            &[2, 1, 28, 28],
            DType::F32,
            (0..1568).map(|i| f64::from(i % 7) / 8.0).collect(),
        );
        assert_eq!(mixed.predict(&input).unwrap().data, plain.predict(&input).unwrap().data);
        let (a, b) = (mixed.evaluate(&data).unwrap(), plain.evaluate(&data).unwrap());
        assert_eq!((a.scores, a.predictions), (b.scores, b.predictions));
    }
}

#[test]
fn gradients_that_never_become_finite_end_training() {
    /// The slope of a root at zero is infinite.
    struct Root {
        level: Parameter,
    }
    named!(Root { level });
    impl Module for Root {
        fn forward(&self, x: &Tensor) -> Tensor {
            self.level.tensor(x.graph()).sqrt().expand(&[x.shape()[0], 1])
        }
    }
    fn mean(output: &Tensor, _: &Tensor) -> Tensor {
        output.mean(&[1])
    }
    let data = drawn::digits(16, 1);
    for (device, _) in harness::devices() {
        let root = Root { level: Parameter::from_values(&[1], &[0.0]).unwrap() };
        let mut trainer = Trainer::new(&device, root, mean, Sgd::new(0.1))
            .unwrap()
            .mixed_precision_with(GradScaler::new().init_scale(2f64.powi(-11)));
        let before = trainer.weights().unwrap().tensors;
        let mut course = trainer.start(&data, 8).unwrap();
        let error = trainer.advance(&mut course, 20, &mut History::default()).unwrap_err();
        // 2^-11, -12, -13, and nothing is below 2^-14.
        assert!(matches!(error, TrainError::Diverged { step: 3, .. }), "{error}");
        assert!(error.to_string().contains("also with the lowest scale"), "{error}");
        assert_eq!(trainer.loss_scale().unwrap(), Some((2f64.powi(-14), 3)));
        assert!(trainer.weights().unwrap().tensors == before);
    }
}

#[test]
fn a_scaler_serves_one_update() {
    let model = Sequential::new().add(Linear::new(3, 2));
    let parameters = Parameters::new(&model, 1).unwrap();
    let (seed, step) = (Variable::word("seed", 3), Variable::word("step", 0));
    let graph = Graph::training(&seed, &step);
    let loss = model.forward(&graph.tensor(&[1, 3], &[1.0, 2.0, 3.0])).sum_all();
    let scaler = GradScaler::new();
    for _ in 0..2 {
        let mut updater = Updater::new(&parameters, Sgd::new(0.1));
        updater.scaler(scaler.clone());
        updater.record(&graph, &parameters, &loss);
    }
    let error = graph.error().unwrap().to_string();
    assert!(error.contains("GradScaler") && error.contains("one update"), "{error}");
    // Another scale is another scaler.
    assert_ne!(scaler.clone().init_scale(2.0).skipped().id(), scaler.skipped().id());
}

#[test]
fn states_that_the_next_dispatch_goes_on_with_stay_in_f32() {
    let data = sentences();
    let lavapipe = Limits::profile("lavapipe").unwrap();
    let small = Limits { workgroup_bytes: 8, ..lavapipe.clone() };
    for (limits, expected) in [(lavapipe, DType::F16), (small, DType::F32)] {
        let device = Device::null(limits);
        let model = LastState::new(23, 9, 11, 2);
        let mut trainer =
            Trainer::new(&device, model, CrossEntropy, Sgd::new(1.0)).unwrap().mixed_precision();
        let step = trainer.compile(&data, 8).unwrap();
        let kernels = &step.compiled().program.kernels;
        let recurrent = kernels.iter().filter(|kernel| kernel.body.family() == "recurrent");
        let stored: Vec<DType> = recurrent
            .flat_map(|kernel| {
                let states = kernel.body.stores().into_iter().map(|(store, _)| store);
                let states = states.filter(|s| kernel.expr.terms[s.term] == Term::Accumulator(0));
                states.map(|store| kernel.operands[store.operand].dtype).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(stored, [expected; 2]);
    }
}
