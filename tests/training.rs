//! Training runs: they learn, they repeat bit for bit, and optimisations don't change them.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::Device;
use shadegrad::graph::{Array, Options, check};
use shadegrad::models::{Initializer, Parameters, Schedule, Visitor, cross_entropy, mse_loss};
use shadegrad::prelude::*;
use shadegrad::train::{Resident, Samples, TrainError, data::drawn};

fn small_cnn() -> Sequential {
    Sequential::new()
        .add(Conv2d::new(1, 4, 3).padding(1))
        .add(Relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(4, 6, 3).stride(2).groups(2))
        .add(Relu)
        .add(AvgPool2d::new(2))
        .add(Flatten)
        .add(Dropout::new(0.25))
        .add(Linear::new(6 * 3 * 3, 10))
}

fn losses(device: &Device, seed: u64, steps: usize) -> (Vec<u32>, Vec<u8>) {
    let data = drawn::digits(100, 9);
    let adam = Adam::new(3e-3);
    let mut trainer = Trainer::with_seed(device, small_cnn(), CrossEntropy, adam, seed).unwrap();
    let history = trainer.fit(&data, Fit::epochs(100).batch(7).steps(steps).quiet()).unwrap();
    let flat = trainer.parameters().shards()[0].clone();
    let bits = history.losses.iter().map(|l| l.to_bits()).collect();
    (bits, trainer.session().read(&flat).unwrap())
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    for (device, _) in harness::devices() {
        let first = losses(&device, 11, 12);
        assert_eq!(first, losses(&device, 11, 12), "on {}", device.info());
        assert_ne!(first.0, losses(&device, 12, 12).0, "another seed, on {}", device.info());
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let one = losses(&Device::cpu(Some(1)), 4, 20);
    for threads in [2, 3, 64] {
        assert_eq!(one, losses(&Device::cpu(Some(threads)), 4, 20), "{threads} threads");
    }
}

/// Contents of the losses' ring after steps by the f64 reference.
fn reference_losses(
    trainer: &Trainer<impl Module>,
    data: &dyn Samples,
    batch: usize,
    steps: usize,
) -> Vec<f64> {
    let nodes = trainer.record(data, batch).nodes(&[]).unwrap();
    let ring = nodes.variables.values().find(|v| v.name() == "ring").unwrap().id();
    let mut contents = nodes.initial();
    for _ in 0..steps {
        nodes.interpret(&mut contents);
    }
    contents[&ring].data[..steps].to_vec()
}

#[test]
fn a_run_follows_the_f64_reference() {
    for (device, _) in harness::devices() {
        let data = drawn::digits(100, 9);
        let mut trainer =
            Trainer::new(&device, small_cnn(), CrossEntropy, Adam::new(3e-3)).unwrap();
        // The trainer normalises by the data it is given, as `Resident::new` does.
        let expected = reference_losses(&trainer, &Resident::new(&data), 7, 8);
        let got = trainer.fit(&data, Fit::epochs(1).batch(7).steps(8).quiet()).unwrap().losses;
        for (step, (g, e)) in got.iter().zip(&expected).enumerate() {
            // A loss of about 2.3 has an eps of 2e-7; Adam's first steps divide small gradients
            // by their own size, which multiplies their rounding. See docs/numerics.md.
            assert!(
                (f64::from(*g) - e).abs() < 2e-5,
                "step {step} on {}: {g} not {e}",
                device.info()
            );
        }
    }
}

#[test]
fn optimisations_do_not_change_a_step() {
    for (device, _) in harness::devices() {
        let mut found: Vec<Array> = Vec::new();
        for options in [
            Options::default(),
            Options { fuse: false, ..Options::default() },
            Options { simplify: false, ..Options::default() },
            Options { splits: Some(4), guard: 32, ..Options::default() },
        ] {
            let data = Resident::new(&drawn::digits(60, 2));
            let mut trainer =
                Trainer::with_seed(&device, small_cnn(), CrossEntropy, AdamW::new(1e-3), 5)
                    .unwrap()
                    .clip_grad_norm(0.5);
            let graph = trainer.record(&data, 6);
            let flat = trainer.parameters().shards()[0].clone();
            let mut step = trainer.session().compile_with(&graph, &[], &options).unwrap();
            step.run(4).unwrap();
            step.check_guards().unwrap();
            found.push(trainer.session().read_array(&flat).unwrap());
        }
        for other in &found[1..] {
            // Four steps of 1e-3 each; rounding moves what is left by a small part of one.
            let allowed = vec![2e-5; other.data.len()];
            check::compare(other, &found[0], &allowed)
                .unwrap_or_else(|e| panic!("on {}: {e}", device.info()));
        }
    }
}

#[test]
fn a_cnn_learns_drawn_digits_and_a_linear_classifier_does_not() {
    let device = Device::cpu(None);
    let (train, test) = (drawn::digits(12_000, 1), drawn::digits(2_000, 2));
    let fit = |epochs| Fit::epochs(epochs).batch(64).quiet();
    let mut cnn =
        Trainer::new(&device, Cnn::new([1, 28, 28], 10), CrossEntropy, Adam::new(1e-3)).unwrap();
    cnn.fit(&train, fit(2)).unwrap();
    let accuracy = cnn.evaluate(&test).unwrap().scores.accuracy();
    assert!(accuracy >= 0.97, "the CNN reaches {accuracy}");
    let mut linear =
        Trainer::new(&device, Mlp::new(&[784, 10]), CrossEntropy, Adam::new(1e-3)).unwrap();
    linear.fit(&train, fit(10)).unwrap();
    let accuracy = linear.evaluate(&test).unwrap().scores.accuracy();
    assert!((0.5..0.92).contains(&accuracy), "the linear classifier reaches {accuracy}");
}

#[test]
fn saved_weights_give_the_same_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let (train, test) = (drawn::digits(300, 1), drawn::digits(70, 2));
    let device = Device::cpu(Some(2));
    let make = |seed| {
        Trainer::with_seed(&device, Mlp::new(&[784, 32, 10]), CrossEntropy, Sgd::new(0.1), seed)
            .unwrap()
    };
    let mut trained = make(0);
    trained.fit(&train, Fit::epochs(2).batch(30).quiet()).unwrap();
    trained.save(&path).unwrap();
    let expected = trained.evaluate(&test).unwrap();
    for (device, exact) in harness::devices() {
        let mlp = Mlp::new(&[784, 32, 10]);
        let mut other = Trainer::with_seed(&device, mlp, CrossEntropy, Sgd::new(0.1), 99).unwrap();
        assert_ne!(other.evaluate(&test).unwrap().predictions, expected.predictions);
        other.load(&path).unwrap();
        let got = other.evaluate(&test).unwrap();
        assert!(
            (got.scores.loss - expected.scores.loss).abs() < 1e-5,
            "{} not {}",
            got.scores.loss,
            expected.scores.loss
        );
        assert!(!exact || got == expected, "the same device gives the same bits");
    }
    let mut other =
        Trainer::new(&device, Mlp::new(&[784, 16, 10]), CrossEntropy, Sgd::new(0.1)).unwrap();
    let error = other.load(&path).unwrap_err().to_string();
    assert!(error.contains("`layers.0.weight` is [32, 784], not [16, 784]"), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let device = Device::cpu(Some(1));
    let data = drawn::digits(20, 1);
    let mut trainer =
        Trainer::new(&device, Mlp::new(&[784, 10]), CrossEntropy, Sgd::new(0.1)).unwrap();
    for batch in [0, 21] {
        let error = trainer.fit(&data, Fit::epochs(1).batch(batch).quiet()).unwrap_err();
        assert!(error.to_string().contains("the batch size"), "{error}");
    }
    // Shapes that don't fit name the operation, the shapes and this file.
    let mut trainer =
        Trainer::new(&device, Mlp::new(&[100, 10]), CrossEntropy, Sgd::new(0.1)).unwrap();
    let error = trainer.fit(&data, Fit::epochs(1).batch(4).quiet()).unwrap_err().to_string();
    assert!(error.contains("linear of f32[4, 784], f32[10, 100], f32[10]"), "{error}");
    assert!(error.contains("takes [.., 100]"), "{error}");
    let mut trainer =
        Trainer::new(&device, Mlp::new(&[784, 10]), CrossEntropy, Sgd::new(1e38)).unwrap();
    let error = trainer.fit(&data, Fit::epochs(50).batch(5).quiet()).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}

/// Two inputs, two outputs, two losses, parameters of its own.
struct Twin {
    left: Linear,
    right: Linear,
    mix: Parameter,
}

shadegrad::models::named!(Twin { left, right, mix });

impl Twin {
    fn forward(&self, a: &Tensor, b: &Tensor) -> (Tensor, Tensor) {
        let (a, b) = (self.left.forward(a).tanh(), self.right.forward(b).tanh());
        let mix = self.mix.tensor(a.graph()).sigmoid();
        (&a * &mix + &b * (mix.full_like(1.0) - &mix), a * b)
    }
}

#[test]
fn a_hand_written_model_with_two_inputs_and_two_losses_trains() {
    for (device, _) in harness::devices() {
        let twin = Twin {
            left: Linear::new(3, 5),
            right: Linear::new(4, 5).no_bias(),
            mix: Parameter::new(&[1], Initializer::Zeros),
        };
        let parameters = Parameters::new(&twin, 3).unwrap();
        let names: Vec<String> =
            parameters.names().map(|(name, shape)| format!("{name} {shape:?}")).collect();
        assert_eq!(
            names,
            ["left.weight [5, 3]", "left.bias [5]", "right.weight [5, 4]", "mix [1]"]
        );
        let updater = Updater::new(&parameters, Sgd::new(0.2).momentum(0.9).nesterov());
        let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
        let graph = Graph::training(&seed, &step);
        let (a, b) = (
            Variable::new(
                "a",
                &[6, 3],
                DType::F32,
                Init::Uniform { low: -1.0, high: 1.0, seed: 1 },
            ),
            Variable::new(
                "b",
                &[6, 4],
                DType::F32,
                Init::Uniform { low: -1.0, high: 1.0, seed: 2 },
            ),
        );
        let (sum, product) = twin.forward(&graph.variable(&a), &graph.variable(&b));
        let loss = mse_loss(&sum, &sum.full_like(0.25), Reduction::Mean)
            + mse_loss(&product, &product.zeros_like(), Reduction::Mean) * 0.5;
        updater.record(&graph, &parameters, &loss);
        graph.assign(&step, &(graph.step() + 1.0));
        let mut session = Session::new(&device);
        let mut train = session.compile(&graph, &[&loss]).unwrap();
        train.run(1).unwrap();
        let first = train.read_array(0).unwrap().data[0];
        train.run(60).unwrap();
        let last = train.read_array(0).unwrap().data[0];
        assert!(last < first / 10.0, "{first} to {last}");

        // The same model for inference alone, on the same weights and other inputs.
        let infer = Graph::new();
        let c = Variable::new("c", &[1, 3], DType::F32, Init::Full(0.5));
        let d = Variable::new("d", &[1, 4], DType::F32, Init::Full(-0.5));
        let (y, _) = twin.forward(&infer.variable(&c), &infer.variable(&d));
        let mut program = session.compile(&infer, &[&y]).unwrap();
        program.run(1).unwrap();
        assert_eq!(program.read_array(0).unwrap().ty.shape, [1, 5]);
    }
}

/// A rule's parameters after steps with a gradient that is known: of `sum(c p^2 / 2)`, `c p`.
fn run_optimizer(
    device: &Device,
    optimizer: impl Optimizer + 'static,
    schedule: impl Schedule + 'static,
    clip: Option<f64>,
    steps: usize,
) -> Vec<f64> {
    struct One(Parameter);
    impl Named for One {
        fn visit(&self, visitor: &mut Visitor) {
            visitor.parameter("p", &self.0);
        }
    }
    let model = One(Parameter::new(&[3], Initializer::Ones));
    let parameters = Parameters::new(&model, 0).unwrap();
    let mut updater = Updater::new(&parameters, optimizer);
    updater.schedule(schedule);
    if let Some(norm) = clip {
        updater.clip_grad_norm(norm);
    }
    let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
    let graph = Graph::training(&seed, &step);
    let p = model.0.tensor(&graph);
    let loss = (&p * &p * graph.tensor(&[3], &[0.5, 1.0, -2.0]) * 0.5).sum_all();
    updater.record(&graph, &parameters, &loss);
    graph.assign(&step, &(graph.step() + 1.0));
    let mut session = Session::new(device);
    session.compile(&graph, &[]).unwrap().run(steps).unwrap();
    session.read_array(&parameters.shards()[0]).unwrap().data
}

#[test]
fn optimizers_schedules_and_clipping_agree_with_their_formulas() {
    const C: [f64; 3] = [0.5, 1.0, -2.0];
    const STEPS: usize = 7;
    type Rule = fn(f64, f64, &mut [f64; 2], f64, i32) -> f64;
    // (parameter, gradient, memory, rate, step from one) -> parameter
    let sgd: Rule = |p, g, m, rate, t| {
        let g = g + 0.1 * p;
        m[0] = if t == 1 { g } else { 0.9 * m[0] + 0.8 * g };
        p - rate * m[0]
    };
    let nesterov: Rule = |p, g, m, rate, _| {
        m[0] = 0.9 * m[0] + g;
        p - rate * (g + 0.9 * m[0])
    };
    let adam: Rule = |p, g, m, rate, t| {
        *m = [0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g];
        let root = (m[1] / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8;
        p - rate * m[0] / (1.0 - 0.9f64.powi(t)) / root
    };
    let adamw: Rule = |p, g, m, rate, t| {
        *m = [0.8 * m[0] + 0.2 * g, 0.9 * m[1] + 0.1 * g * g];
        let root = (m[1] / (1.0 - 0.9f64.powi(t))).sqrt() + 1e-3;
        p * (1.0 - rate * 0.05) - rate * m[0] / (1.0 - 0.8f64.powi(t)) / root
    };
    let expected = |rule: Rule, rate: &dyn Fn(i32) -> f64, clip: f64| -> Vec<f64> {
        let (mut p, mut memory) = ([1.0; 3], [[0.0; 2]; 3]);
        for t in 1..=STEPS as i32 {
            let g: Vec<f64> = p.iter().zip(C).map(|(p, c)| p * c).collect();
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            let scale = (clip / (norm + 1e-6)).min(1.0);
            for i in 0..3 {
                p[i] = rule(p[i], g[i] * scale, &mut memory[i], rate(t - 1), t);
            }
        }
        p.to_vec()
    };
    let flat = |rate: f64| move |_: i32| rate;
    let warm = |step: i32| match step {
        0..3 => 0.1 * f64::from(step + 1) / 3.0,
        _ => {
            let progress = (f64::from(step - 3) / 2.0).min(1.0);
            0.1 * (0.2 + 0.8 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()))
        }
    };
    for (device, _) in harness::devices() {
        let none = f64::INFINITY;
        let cases: Vec<(&str, Vec<f64>, Vec<f64>)> = vec![
            (
                "sgd",
                run_optimizer(
                    &device,
                    Sgd::new(0.1).momentum(0.9).dampening(0.2).weight_decay(0.1),
                    Constant,
                    None,
                    STEPS,
                ),
                expected(sgd, &flat(0.1), none),
            ),
            (
                "nesterov",
                run_optimizer(
                    &device,
                    Sgd::new(0.05).momentum(0.9).nesterov(),
                    Constant,
                    None,
                    STEPS,
                ),
                expected(nesterov, &flat(0.05), none),
            ),
            (
                "adam",
                run_optimizer(&device, Adam::new(0.01), Constant, None, STEPS),
                expected(adam, &flat(0.01), none),
            ),
            (
                "adamw",
                run_optimizer(
                    &device,
                    AdamW::new(0.02).betas(0.8, 0.9).eps(1e-3).weight_decay(0.05),
                    Constant,
                    None,
                    STEPS,
                ),
                expected(adamw, &flat(0.02), none),
            ),
            (
                "clipping",
                run_optimizer(
                    &device,
                    Sgd::new(0.1).momentum(0.9).nesterov(),
                    Constant,
                    Some(0.7),
                    STEPS,
                ),
                expected(nesterov, &flat(0.1), 0.7),
            ),
            (
                "warm-up and cosine",
                run_optimizer(
                    &device,
                    Sgd::new(0.1).momentum(0.9).nesterov(),
                    WarmUp { steps: 3, then: Cosine { steps: 2, floor: 0.2 } },
                    None,
                    STEPS,
                ),
                expected(nesterov, &warm, none),
            ),
        ];
        for (name, got, expected) in cases {
            for (g, e) in got.iter().zip(&expected) {
                // Seven steps of a few operations each, on numbers below 10; on adapters the
                // cosine of the schedule is allowed 2^-11 of a rate of 0.1.
                let allowed = if name.starts_with("warm") { 2e-3 } else { 2e-6 * (1.0 + e.abs()) };
                assert!(
                    (g - e).abs() < allowed,
                    "{name} on {}: {got:?} not {expected:?}",
                    device.info()
                );
            }
        }
    }
}

#[test]
fn dropout_drops_the_share_it_says_and_only_in_training() {
    for (device, _) in harness::devices() {
        let graph = Graph::training(&Variable::word("seed", 1), &Variable::word("step", 0));
        let x = graph.full(&[200, 100], DType::F32, 1.0);
        let dropout = Dropout::new(0.3);
        let kept = dropout.forward(&x).eval(&device).unwrap().data;
        let zeros = kept.iter().filter(|&&v| v == 0.0).count() as f64;
        // Five standard deviations of 20 000 draws: sqrt(20000 * 0.3 * 0.7) = 65.
        assert!((zeros - 6000.0).abs() < 325.0, "{zeros} zeros on {}", device.info());
        assert!(kept.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
        let plain = Graph::new();
        let y = dropout.forward(&plain.full(&[4], DType::F32, 1.0)).eval(&device).unwrap();
        assert_eq!(y.data, [1.0; 4]);
    }
}

#[test]
fn a_label_that_is_no_class_makes_the_loss_nan() {
    for (device, _) in harness::devices() {
        let graph = Graph::new();
        let logits = graph.tensor(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let labels = graph.full(&[2], DType::U32, 3.0);
        let losses = cross_entropy(&logits, &labels).eval(&device).unwrap();
        assert!(losses.data.iter().all(|l| l.is_nan()), "{:?} on {}", losses.data, device.info());
    }
}

#[test]
fn a_parameter_the_loss_does_not_use_is_named() {
    let twin = Twin {
        left: Linear::new(3, 5),
        right: Linear::new(4, 5),
        mix: Parameter::new(&[1], Initializer::Zeros),
    };
    let parameters = Parameters::new(&twin, 0).unwrap();
    let graph = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
    let x = graph.full(&[2, 3], DType::F32, 1.0);
    let loss = twin.left.forward(&x).sum_all();
    Updater::new(&parameters, Sgd::new(0.1)).record(&graph, &parameters, &loss);
    let error = graph.nodes(&[]).unwrap_err().to_string();
    assert!(
        error.contains("the loss does not depend on `right.weight`, `right.bias`, `mix`"),
        "{error}"
    );
}

#[test]
fn parameters_in_shards_train_to_the_same_bits() {
    let steps = |max_bytes: usize| {
        let mlp = Mlp::new(&[20, 30, 10]);
        let parameters = Parameters::sharded(&mlp, 7, max_bytes).unwrap();
        let mut updater = Updater::new(&parameters, Adam::new(0.01));
        updater.clip_grad_norm(10.0);
        let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
        let graph = Graph::training(&seed, &step);
        let init = Init::Uniform { low: -1.0, high: 1.0, seed: 1 };
        let x = graph.variable(&Variable::new("x", &[8, 20], DType::F32, init));
        let y = mlp.forward(&x);
        updater.record(&graph, &parameters, &(&y * &y).mean_all());
        graph.assign(&step, &(graph.step() + 1.0));
        let mut session = Session::new(&Device::cpu(Some(2)));
        let mut loaded = session.compile(&graph, &[]).unwrap();
        loaded.run(5).unwrap();
        let updates = |k: &&shadegrad::device::Kernel| k.label.contains("sqrt, div");
        let kernels = loaded.compiled().program.kernels.iter().filter(updates).count();
        let bytes: Vec<u8> =
            parameters.shards().iter().flat_map(|s| session.read(s).unwrap()).collect();
        (parameters.shards().len(), kernels, bytes)
    };
    let (one, three) = (steps(usize::MAX), steps(2400));
    assert_eq!((one.0, three.0), (1, 2), "2400 bytes hold the first weight and no more");
    assert_eq!(three.1, one.1 + 1, "one update for each shard");
    assert_eq!(one.2, three.2);
}

#[test]
fn initialisers_have_the_spread_they_say() {
    let drawn = |initializer: Initializer| {
        let linear = Linear::new(300, 200).initializer(initializer);
        let parameters = Parameters::new(&linear, 1).unwrap();
        Session::new(&Device::cpu(Some(1))).read_array(&parameters.shards()[0]).unwrap().data
            [..60_000]
            .to_vec()
    };
    let moments = |data: &[f64]| {
        let mean = data.iter().sum::<f64>() / data.len() as f64;
        let variance = data.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / data.len() as f64;
        (mean, variance.sqrt(), data.iter().fold(0f64, |m, v| m.max(v.abs())))
    };
    let root = |x: f64| x.sqrt();
    for (initializer, std, bound) in [
        (Initializer::KaimingUniform { fan_in: 300 }, root(2.0 / 300.0), root(6.0 / 300.0)),
        (Initializer::KaimingNormal { fan_in: 300 }, root(2.0 / 300.0), f64::INFINITY),
        (
            Initializer::XavierUniform { fan_in: 300, fan_out: 200 },
            root(2.0 / 500.0),
            root(6.0 / 500.0),
        ),
        (Initializer::XavierNormal { fan_in: 300, fan_out: 200 }, root(2.0 / 500.0), f64::INFINITY),
        (Initializer::default_for(300), 1.0 / root(900.0), 1.0 / root(300.0)),
        (Initializer::Normal { std: 0.3 }, 0.3, f64::INFINITY),
    ] {
        let (mean, spread, largest) = moments(&drawn(initializer));
        // Five standard errors of 60 000 draws: of the mean std / 245, of the spread std / 346.
        assert!(mean.abs() < 5.0 * std / 245.0, "{initializer:?}: mean {mean}");
        assert!(
            (spread / std - 1.0).abs() < 5.0 / 346.0,
            "{initializer:?}: spread {spread}, not {std}"
        );
        assert!(largest <= bound * 1.000001, "{initializer:?}: {largest} is over {bound}");
    }
}

/// The error function by adding up its integrand: slow, and nobody else's code.
fn erf(x: f64) -> f64 {
    let steps = 4000;
    let h = x / f64::from(steps);
    let f = |i: i32| (-(h * f64::from(i)).powi(2)).exp();
    // Simpson's rule.
    let inner: f64 = (1..steps).map(|i| if i % 2 == 1 { 4.0 * f(i) } else { 2.0 * f(i) }).sum();
    std::f64::consts::FRAC_2_SQRT_PI * h / 3.0 * (f(0) + inner + f(steps))
}

#[test]
fn activations_and_losses_agree_with_their_formulas() {
    let points: Vec<f32> = (-60..=60).map(|i| i as f32 / 10.0).collect();
    type Case = (&'static str, fn(&Tensor) -> Tensor, fn(f64) -> f64);
    let cases: [Case; 18] = [
        ("relu", Tensor::relu, |x| if x > 0.0 { x } else { 0.0 }),
        ("sigmoid", Tensor::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        ("tanh", Tensor::tanh, f64::tanh),
        ("silu", Tensor::silu, |x| x / (1.0 + (-x).exp())),
        ("softplus", Tensor::softplus, |x| x.exp().ln_1p()),
        ("elu", |x| x.elu(1.5), |x| if x > 0.0 { x } else { 1.5 * x.exp_m1() }),
        ("leaky relu", |x| x.leaky_relu(0.2), |x| if x > 0.0 { x } else { 0.2 * x }),
        ("gelu", Tensor::gelu_tanh, |x| {
            0.5 * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        ("square", |x| x.powf(2.0), |x| x * x),
        ("gelu exact", Tensor::gelu, |x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()))),
        ("selu", Tensor::selu, |x| {
            1.0507009873554805 * if x > 0.0 { x } else { 1.6732632423543772 * x.exp_m1() }
        }),
        ("celu", |x| x.celu(2.0), |x| if x > 0.0 { x } else { 2.0 * (x / 2.0).exp_m1() }),
        ("mish", Tensor::mish, |x| x * x.exp().ln_1p().tanh()),
        ("softsign", Tensor::softsign, |x| x / (1.0 + x.abs())),
        ("hardswish", Tensor::hardswish, |x| x * ((x + 3.0).clamp(0.0, 6.0) / 6.0)),
        ("relu6", |x| (x * 2.0).relu6(), |x| (2.0 * x).clamp(0.0, 6.0)),
        ("sign", Tensor::sign, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        ("rsqrt", |x| (x * x + 1.0).rsqrt(), |x| 1.0 / (x * x + 1.0).sqrt()),
    ];
    for (device, _) in harness::devices() {
        for (name, activation, formula) in cases {
            let graph = Graph::new();
            let got = activation(&graph.tensor(&[points.len()], &points)).eval(&device).unwrap();
            for (x, y) in points.iter().zip(&got.data) {
                let expected = formula(f64::from(*x));
                // The specification allows tanh 1e-5 on adapters, and gelu multiplies it by x.
                let far = (y - expected).abs() > 6e-5 * (1.0 + expected.abs());
                assert!(!far, "{name}({x}) is {y}, not {expected}, on {}", device.info());
            }
        }
        let graph = Graph::new();
        let logits = graph.tensor(&[2, 3], &[0.5, -1.0, 2.0, 100.0, 101.0, 99.0]);
        let labels = graph.tensor(&[2], &[0.0, 1.0]).to(DType::U32);
        let got = cross_entropy(&logits, &labels).eval(&device).unwrap().data;
        let sum = 0.5f64.exp() + (-1f64).exp() + 2f64.exp();
        let second = ((-1f64).exp() + 1.0 + (-2f64).exp()).ln();
        assert!(
            (got[0] - (sum.ln() - 0.5)).abs() < 1e-5 && (got[1] - second).abs() < 1e-5,
            "{got:?}"
        );
        let (a, b) = (graph.tensor(&[3], &[1.0, 2.0, 3.0]), graph.tensor(&[3], &[0.0, 2.0, 5.0]));
        assert!(
            (mse_loss(&a, &b, Reduction::Mean).eval(&device).unwrap().data[0] - 5.0 / 3.0).abs()
                < 1e-6
        );
    }
}
