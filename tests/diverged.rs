//! Losses that aren't finite: noticed, explained, and nothing is lost by them.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::models::{Initializer, Loss, Parameter};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::train::{History, TrainError};

/// The logarithm of a number that falls by a tenth with each step.
struct Falling {
    level: Parameter,
    bias: Parameter,
}

named!(Falling { level, bias });

impl Module for Falling {
    fn forward(&self, x: &Tensor) -> Tensor {
        let level = self.level.tensor(x.graph());
        let line = level.log();
        // The gradient of the level is one: that of its logarithm is multiplied by the level itself.
        let slope = line * level.detach() + self.bias.tensor(x.graph()) * 0.0;
        slope.expand(&[x.shape()[0], 1])
    }
}

fn mean(output: &Tensor, _: &Tensor) -> Tensor {
    output.mean(&[1])
}

fn falling(start: f32) -> Falling {
    Falling {
        level: Parameter::from_values(&[1], &[start]).unwrap(),
        bias: Parameter::new(&[1], Initializer::Zeros),
    }
}

#[test]
fn the_step_and_the_operation_are_named_and_the_weights_are_those_before() {
    let data = drawn::digits(20, 1);
    for (device, _) in harness::devices() {
        let mut trainer = Trainer::new(&device, falling(0.35), mean, Sgd::new(0.1)).unwrap();
        let mut course = trainer.start(&data, 10).unwrap();
        let mut history = History::default();
        // 0.35, 0.25, 0.15, 0.05, and then the logarithm of -0.05.
        let error = trainer.advance(&mut course, 300, &mut history).unwrap_err();
        assert!(matches!(error, TrainError::Diverged { step: 4, .. }), "{error}");
        let text = error.to_string();
        let line = 1 + include_str!("diverged.rs")
            .lines()
            .position(|line| line.contains("level.log()"))
            .unwrap();
        for part in
            ["step 4", "`log` [1]", &format!("tests/diverged.rs:{line}"), "1 NaN", "as before"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(history.losses.len(), 4);
        // Hundreds of steps were queued behind it.
        let weights = trainer.weights().unwrap();
        let level = weights.tensors["level"].1[0];
        assert!((level + 0.05).abs() < 1e-6, "{level}");
        assert_eq!(trainer.steps_done(), 4);
        // From better weights training goes on.
        let mut better = weights.clone();
        better.tensors.get_mut("level").unwrap().1[0] = 10.0;
        trainer.restore(&better, std::path::Path::new("here")).unwrap();
        let mut course = trainer.start(&data, 10).unwrap();
        trainer.advance(&mut course, 20, &mut history).unwrap();
        let level = trainer.weights().unwrap().tensors["level"].1[0];
        assert!((level - 8.0).abs() < 1e-4, "{level}");
    }
}

#[test]
fn infinities_are_traced_to_where_they_come_from() {
    let data = drawn::digits(20, 1);
    for (device, _) in harness::devices() {
        // The logarithm of zero is infinite, and the class entropy of infinities is NaN.
        let model = |x: &Tensor| x.reshape(&[10, 784]).narrow(1, 0, 10).relu() * 0.0;
        let model = Closure { bias: Parameter::new(&[1], Initializer::Zeros), of: model };
        let mut trainer = Trainer::new(&device, model, LogEntropy, Sgd::new(0.1)).unwrap();
        let mut course = trainer.start(&data, 10).unwrap();
        let error =
            trainer.advance(&mut course, 3, &mut History::default()).unwrap_err().to_string();
        assert!(error.contains("step 0") && error.contains("`log` [10, 10]"), "{error}");
        assert!(error.contains("100 infinite numbers"), "{error}");
    }
}

struct Closure<F> {
    bias: Parameter,
    of: F,
}

impl<F> Named for Closure<F> {
    fn visit(&self, visitor: &mut shadegrad::models::Visitor) {
        visitor.parameter("bias", &self.bias);
    }
}

impl<F: Fn(&Tensor) -> Tensor> Module for Closure<F> {
    fn forward(&self, x: &Tensor) -> Tensor {
        (self.of)(x) + self.bias.tensor(x.graph())
    }
}

struct LogEntropy;

impl Loss for LogEntropy {
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor {
        CrossEntropy.each(&output.log(), target)
    }
}

#[test]
fn a_parameter_that_an_update_made_infinite_is_named() {
    let data = drawn::digits(40, 1);
    for (device, _) in harness::devices() {
        let model = || Sequential::new().add(Flatten).add(Linear::new(784, 10));
        let mut trainer = Trainer::new(&device, model(), CrossEntropy, Sgd::new(1e40)).unwrap();
        let mut course = trainer.start(&data, 10).unwrap();
        let error = trainer.advance(&mut course, 50, &mut History::default()).unwrap_err();
        assert!(matches!(error, TrainError::Diverged { step: 1, .. }), "{error}");
        assert!(
            error.to_string().contains("parameter `1.weight` [10, 784] isn't finite"),
            "{error}"
        );
    }
}
