//! Losses that aren't finite: noticed, explained, and nothing is lost by them.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::random;
use shadegrad::models::{Initializer, Loss, Parameter};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;
use shadegrad::train::data::text::Sequences;
use shadegrad::train::{Answer, Callback, Control, Ended, History, Streaming, TrainError};
use std::cell::Cell;
use std::rc::Rc;

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
        // Steps were queued behind it.
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

/// Counts the losses that it is told of.
struct Told(Rc<Cell<usize>>);

impl Callback for Told {
    fn steps(&mut self, from: usize, history: &History) -> Answer {
        assert_eq!(from, self.0.get(), "none is left out, and none told twice");
        self.0.set(history.losses.len());
        Ok(Control::Continue)
    }
}

#[test]
fn of_a_fit_that_fails_the_history_stays_and_so_do_the_best_weights() {
    let data = drawn::digits(20, 1);
    for (device, _) in harness::devices() {
        // Two steps an epoch: 0.45, 0.35 | 0.25, 0.15 | 0.05, and then the logarithm of -0.05. Of x log(x), which is the
        // loss, the one at 0.25 is less than that at 0.05.
        let fitted = |keep: bool, rate: f64| {
            let told = Rc::new(Cell::new(0));
            let fit = Fit::epochs(9).batch(10).quiet().validate(&data).monitor("loss");
            let fit = fit.callback(Told(told.clone()));
            let fit = if keep { fit.keep_best() } else { fit };
            let mut trainer = Trainer::new(&device, falling(0.45), mean, Sgd::new(rate)).unwrap();
            let end = trainer.fit(&data, fit);
            (trainer, end, told.get())
        };
        let level =
            |trainer: &mut Trainer<Falling>| trainer.weights().unwrap().tensors["level"].1[0];
        let (mut trainer, error, told) = fitted(true, 0.1);
        let error = error.unwrap_err();
        assert!(matches!(error, TrainError::Diverged { step: 5, .. }), "{error}");
        assert!(error.to_string().contains("or the best where these are kept"), "{error}");
        let history = trainer.history();
        assert_eq!((history.losses.len(), told), (5, 5));
        for (step, loss) in history.losses.iter().enumerate() {
            let level = 0.45 - 0.1 * step as f32;
            assert!((loss - level * level.ln()).abs() < 1e-5, "{step}: {loss}");
        }
        assert_eq!((history.epochs.len(), history.validations.len()), (2, 2));
        assert_eq!((history.best, &history.ended), (Some(1), &Ended::Failed(None)));
        assert_eq!(trainer.steps_done(), 5);
        assert!((level(&mut trainer) - 0.25).abs() < 1e-5, "{}", level(&mut trainer));
        // Without the best they are those before the step.
        let (mut trainer, _, _) = fitted(false, 0.1);
        assert_eq!((trainer.history().losses.len(), trainer.history().best), (5, None));
        assert!((level(&mut trainer) + 0.05).abs() < 1e-5, "{}", level(&mut trainer));
        // Of one that doesn't fail it is what is returned.
        let (trainer, history, _) = fitted(true, 0.0);
        assert_eq!(trainer.history(), &history.unwrap());
        assert_eq!(trainer.history().ended, Ended::Done);
    }
}

/// Digits of which one label is no class.
fn mislabelled(count: usize, at: usize) -> Images {
    let mut data = drawn::digits(count, 1);
    data.labels[at] = 200;
    data
}

fn linear() -> Sequential {
    Sequential::new().add(Flatten).add(BatchNorm1d::new(784)).add(Linear::new(784, 10))
}

#[test]
fn a_label_that_is_no_class_is_found_wherever_the_data_lies() {
    // Nearly four hundred steps, more than the device keeps the losses of.
    let data = mislabelled(1000, 700);
    for (device, _) in harness::devices() {
        let statistics = data.statistics().unwrap();
        let streamed = Streaming::new(data.clone()).normalised(statistics).threads(2);
        let mut steps = vec![];
        let all: [&dyn Dataset; 2] = [&data, &streamed];
        for data in all {
            let mut trainer =
                Trainer::with_seed(&device, linear(), CrossEntropy, Sgd::new(0.01), 4).unwrap();
            let error = trainer.fit(data, Fit::epochs(3).batch(3).quiet()).unwrap_err();
            let TrainError::Diverged { step, .. } = error else { panic!("{error}") };
            let text = error.to_string();
            assert!(text.contains("`select` [3]") && text.contains("1 NaN"), "{text}");
            assert_eq!(trainer.steps_done(), step);
            // The weights are those of as many good steps.
            let mut other =
                Trainer::with_seed(&device, linear(), CrossEntropy, Sgd::new(0.01), 4).unwrap();
            let mut course = other.start(data, 3).unwrap();
            other.advance(&mut course, step, &mut History::default()).unwrap();
            let (mut found, mut expected) = (trainer.weights().unwrap(), other.weights().unwrap());
            // Running statistics may have seen the inputs.
            for weights in [&mut found, &mut expected] {
                weights.tensors.retain(|name, _| !name.contains("running"));
            }
            assert_eq!(found, expected);
            steps.push(step);
        }
        assert_eq!(steps[0], steps[1]);
        assert!(steps[0] > 0);
    }
}

#[test]
fn a_loss_of_one_of_several_parts_is_not_hidden_by_the_others() {
    let length = |n: u32| [3, 7, 12][n as usize % 3];
    let tokens: Vec<Vec<u32>> =
        (0..300).map(|n| (0..length(n)).map(|i| 2 + random(n, i) % 38).collect()).collect();
    let mut labels: Vec<u8> = tokens.iter().map(|words| u8::from(words[0] > 20)).collect();
    labels[137] = 9;
    let data = Sequences { tokens, labels, classes: 2, cut: 0 };
    for seed in 0..6 {
        let model = TextClassifier::new(40, 4, 4, 2);
        let device = Device::cpu(Some(1));
        let mut trainer =
            Trainer::with_seed(&device, model, CrossEntropy, Sgd::new(0.1), seed).unwrap();
        let error = trainer.fit(&data, Fit::epochs(2).batch(4).quiet()).unwrap_err();
        let TrainError::Diverged { step, .. } = error else { panic!("{error}") };
        assert!(error.to_string().contains("`select` [4]"), "{error}");
        assert!(step < 75, "in the first epoch, not at {step}");
    }
}

#[test]
fn a_callback_that_fails_loses_no_count_of_steps() {
    struct Failing;
    impl Callback for Failing {
        fn steps(&mut self, _: usize, history: &History) -> Answer {
            match history.losses.len() >= 20 {
                true => Err("enough".into()),
                false => Ok(Control::Continue),
            }
        }
    }
    let data = drawn::digits(300, 1);
    for (device, _) in harness::devices() {
        let mut trainer =
            Trainer::with_seed(&device, linear(), CrossEntropy, Sgd::new(0.01), 4).unwrap();
        let fit = Fit::epochs(1).batch(3).quiet();
        let error = trainer.fit(&data, fit.callback(Failing)).unwrap_err().to_string();
        assert!(error.contains("enough"), "{error}");
        let done = trainer.steps_done();
        assert!(done >= 20);
        // What follows is what follows on the device.
        let mut course = trainer.start(&data, 3).unwrap();
        let mut history = History::default();
        trainer.advance(&mut course, 5, &mut history).unwrap();
        assert_eq!((trainer.steps_done(), history.losses.len()), (done + 5, 5));
        let mut other =
            Trainer::with_seed(&device, linear(), CrossEntropy, Sgd::new(0.01), 4).unwrap();
        let mut whole = History::default();
        let mut first = other.start(&data, 3).unwrap();
        other.advance(&mut first, done, &mut whole).unwrap();
        let mut second = other.start(&data, 3).unwrap();
        let mut rest = History::default();
        other.advance(&mut second, 5, &mut rest).unwrap();
        assert_eq!(history.losses, rest.losses);
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
