//! Weights of another model, frozen layers, and several models with their own losses and optimizers in one step.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::Device;
use shadegrad::models::{Parameters, Reduction, binary_cross_entropy_with_logits};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::train::{History, Images};

fn body(classes: usize) -> Sequential {
    Sequential::new()
        .add_named("conv", Conv2d::new(1, 6, 3))
        .add_named("norm", BatchNorm2d::new(6))
        .add(Relu)
        .add(MaxPool2d::new(4))
        .add(Flatten)
        .add_named("hidden", Linear::new(6 * 36, 24))
        .add(Relu)
        .add_named("head", Linear::new(24, classes))
}

/// Whether a digit is even.
fn parity(mut digits: Images) -> Images {
    digits.labels.iter_mut().for_each(|label| *label %= 2);
    digits.classes = 2;
    digits
}

#[test]
fn a_trained_body_gets_another_head_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.safetensors");
    for (device, _) in harness::devices() {
        let mut first = Trainer::new(&device, body(10), CrossEntropy, Adam::new(3e-3)).unwrap();
        let fit = |epochs| Fit::epochs(epochs).batch(50).quiet();
        first.fit(&drawn::digits(1000, 1), fit(3)).unwrap();
        first.save(&path).unwrap();

        let rule = AdamW::new(3e-3).weight_decay(0.1);
        let mut second = Trainer::with_seed(&device, body(2), CrossEntropy, rule, 7)
            .unwrap()
            .group(Group::matching(|name| !name.starts_with("head")).frozen());
        let matched = second.load_matching(&path).unwrap();
        assert_eq!(matched.loaded.len(), 8, "{matched}");
        assert!(matched.missing.is_empty() && matched.extra.is_empty(), "{matched}");
        let text = matched.to_string();
        assert!(
            text.contains("head.weight is [10, 24] in the file, [2, 24] in the model"),
            "{text}"
        );
        // Loading all of it is refused, with the same names.
        let error = second.load(&path).unwrap_err().to_string();
        assert!(error.contains("head.weight"), "{error}");
        let history = second.fit(&parity(drawn::digits(1000, 3)), fit(3)).unwrap();
        let (before, after) = (first.weights().unwrap(), second.weights().unwrap());
        for name in ["conv.weight", "norm.weight", "hidden.weight", "hidden.bias"] {
            assert_eq!(before.tensors[name], after.tensors[name], "{name}");
        }
        assert_ne!(before.tensors["norm.running_mean"], after.tensors["norm.running_mean"]);
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&history.losses[..10]), mean(&history.losses[50..]));
        assert!(last < 0.65 && last < first * 0.75, "{first} {last}");
    }
    let other = Sequential::new().add(Flatten).add(Linear::new(784, 10));
    let mut other =
        Trainer::new(&Device::cpu(Some(1)), other, CrossEntropy, Adam::new(1e-3)).unwrap();
    let error = other.load_matching(&path).unwrap_err().to_string();
    assert!(error.contains("digits.safetensors") && error.contains("0 tensors loaded"), "{error}");
    assert!(error.contains("missing in the file: 1.bias, 1.weight"), "{error}");
}

/// A generator of numbers, and a judge of where they are from.
fn adversaries() -> (Sequential, Sequential) {
    let generator = Sequential::new().add(Linear::new(4, 16)).add(Relu).add(Linear::new(16, 2));
    let judge = Sequential::new().add(Linear::new(2, 16)).add(Relu).add(Linear::new(16, 1));
    (generator, judge)
}

#[test]
fn adversaries_learn_in_one_step_each_by_its_own_rule() {
    const BATCH: usize = 64;
    for (device, _) in harness::devices() {
        let (generator, judge) = adversaries();
        let [made, judged] = [&generator, &judge].map(|model| Parameters::new(model, 1).unwrap());
        let makes = Updater::new(&made, Adam::new(2e-3).betas(0.5, 0.999));
        let judges = Updater::new(&judged, RMSprop::new(2e-3));
        let (seed, step) = (Variable::word("seed", 3), Variable::word("step", 0));
        let graph = Graph::training(&seed, &step);
        // What is to be imitated: normal numbers around (2, -1).
        let middle = graph.tensor(&[1, 2], &[2.0, -1.0]);
        let real = graph.random_key().normal(&[BATCH, 2]) * 0.3 + middle;
        let fake = generator.forward(&graph.random_key().normal(&[BATCH, 4]));
        let says = |x: &Tensor, real: f64| {
            let logits = judge.forward(x);
            let target = logits.full_like(real);
            binary_cross_entropy_with_logits(&logits, &target, None, Reduction::Mean)
        };
        let judging = says(&real, 1.0) + says(&fake.detach(), 0.0);
        let making = says(&fake, 1.0);
        judges.record(&graph, &judged, &judging);
        makes.record(&graph, &made, &making);
        graph.assign(&step, &(graph.step() + 1.0));
        let mean = fake.mean(&[0]);
        let mut session = Session::new(&device);
        let mut program = session.compile(&graph, &[&mean, &judging, &making]).unwrap();
        // Both see the weights from before the step, as the f64 reference does.
        let nodes = graph.nodes(&[&mean, &judging, &making]).unwrap();
        let mut contents = nodes.initial();
        for _ in 0..3 {
            let expected = nodes.interpret(&mut contents);
            program.run(1).unwrap();
            for (output, expected) in expected.iter().enumerate() {
                let got = program.read_array(output).unwrap().data;
                for (got, expected) in got.iter().zip(&expected.data) {
                    assert!((got - expected).abs() < 1e-4, "{got} not {expected}");
                }
            }
        }
        program.run(2500).unwrap();
        let mean = program.read_array(0).unwrap().data;
        assert!((mean[0] - 2.0).abs() < 0.4 && (mean[1] + 1.0).abs() < 0.4, "{mean:?}");
    }
}

#[test]
fn a_frozen_model_costs_no_gradients() {
    let count = |frozen: bool| {
        let device = Device::open("null:webgpu").unwrap();
        let mut trainer = Trainer::new(&device, body(10), CrossEntropy, Adam::new(1e-3)).unwrap();
        if frozen {
            trainer = trainer.group(Group::matching(|name| !name.starts_with("head")).frozen());
        }
        let mut course = trainer.start(&drawn::digits(100, 1), 10).unwrap();
        trainer.advance(&mut course, 1, &mut History::default()).ok();
        course.programs()[0].report().counts
    };
    let (all, head) = (count(false), count(true));
    assert!(head.dispatches < all.dispatches, "{head:?} {all:?}");
    // The forward pass, and the last layer's gradient: twice its product.
    assert!(head.flops * 2 < all.flops, "{head:?} {all:?}");
}
