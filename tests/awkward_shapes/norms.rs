//! What batch normalisation keeps between steps: running statistics, in training, in use, and on disk.

use crate::harness;
use shadegrad::graph::Array;
use shadegrad::models::{BatchNorm1d, BatchNorm3d};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;

/// Mean and unbiased variance of every channel of `[batch, channels, ..]`.
fn statistics(images: &Array) -> Vec<(f64, f64)> {
    let (batch, channels) = (images.ty.shape[0], images.ty.shape[1]);
    let points = images.data.len() / (batch * channels);
    let of = |channel: usize| {
        let at = |sample: usize| (sample * channels + channel) * points;
        let values: Vec<f64> =
            (0..batch).flat_map(|n| images.data[at(n)..at(n) + points].to_vec()).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        (mean, spread / (count - 1.0))
    };
    (0..channels).map(of).collect()
}

fn close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= 2e-5 * (1.0 + e.abs()), "{got:?} is not {expected:?}");
    }
}

/// Runs three steps of a layer in training on inputs that grow, and then one in use.
fn three_steps(
    device: &Device,
    layer: &impl Module,
    (mean, var): (&Variable, &Variable),
    shape: &[usize],
    (momentum, eps): (f64, f64),
) {
    let init = Init::Uniform { low: -1.0, high: 3.0, seed: 5 };
    let source = Variable::new("source", shape, DType::F32, init);
    let step = Variable::word("step", 0);
    let train = Graph::training(&Variable::word("seed", 0), &step);
    let scale = train.step().to(DType::F32) + 1.0;
    let input = train.variable(&source) * &scale;
    let y = layer.forward(&input);
    train.assign(&step, &(train.step() + 1.0));
    let mut session = Session::new(device);
    let mut training = session.compile(&train, &[&y]).unwrap();
    let start = session.read_array(&source).unwrap();
    let channels = shape[1];
    let mut running = vec![(0.0, 1.0); channels];
    for number in 1..=3 {
        training.run(1).unwrap();
        let factor = f64::from(number);
        for (r, (mean, var)) in running.iter_mut().zip(statistics(&start)) {
            r.0 += momentum * (mean * factor - r.0);
            r.1 += momentum * (var * factor * factor - r.1);
        }
        // In training the batch's own statistics count: mean 0 and variance 1 of all values.
        let found = training.read_array(0).unwrap();
        let values = (start.data.len() / channels) as f64;
        for ((mean, var), (_, own)) in statistics(&found).into_iter().zip(statistics(&start)) {
            let biased = own * factor * factor * (values - 1.0) / values;
            close(&[mean, var * (values - 1.0) / values], &[0.0, biased / (biased + eps)]);
        }
    }
    let (means, vars): (Vec<f64>, Vec<f64>) = running.iter().copied().unzip();
    close(&session.read_array(mean).unwrap().data, &means);
    close(&session.read_array(var).unwrap().data, &vars);
    // In use the running statistics count, and stay.
    let infer = Graph::new();
    let y = layer.forward(&infer.variable(&source));
    let mut program = session.compile(&infer, &[&y]).unwrap();
    program.run(2).unwrap();
    let points = start.data.len() / (shape[0] * channels);
    let expected: Vec<f64> = (start.data.iter().enumerate())
        .map(|(i, v)| {
            let (mean, var) = running[i / points % channels];
            (v - mean) / (var + eps).sqrt()
        })
        .collect();
    close(&program.read_array(0).unwrap().data, &expected);
    close(&session.read_array(mean).unwrap().data, &means);
}

#[test]
fn running_statistics_follow_their_formula() {
    for (device, _) in harness::devices() {
        let layer = BatchNorm2d::new(3);
        let (mean, var) = layer.running();
        three_steps(&device, &layer, (mean.variable(), var.variable()), &[4, 3, 5, 2], (0.1, 1e-5));
        let layer = BatchNorm1d::new(5).momentum(0.3).eps(0.5);
        let (mean, var) = layer.running();
        three_steps(&device, &layer, (mean.variable(), var.variable()), &[7, 5], (0.3, 0.5));
        let layer = BatchNorm3d::new(2).no_affine();
        let (mean, var) = layer.running();
        let shape = [1, 2, 3, 1, 3];
        three_steps(&device, &layer, (mean.variable(), var.variable()), &shape, (0.1, 1e-5));
    }
}

fn network() -> Sequential {
    Sequential::new()
        .add(Conv2d::new(1, 3, 5).stride(4))
        .add_named("norm", BatchNorm2d::new(3))
        .add(Relu)
        .add(Flatten)
        .add(Linear::new(3 * 6 * 6, 10))
}

#[test]
fn running_statistics_are_saved_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let (train, test) = (drawn::digits(60, 1), drawn::digits(40, 2));
    for (device, _) in harness::devices() {
        let mut trainer =
            Trainer::with_seed(&device, network(), CrossEntropy, Sgd::new(0.05), 1).unwrap();
        trainer.fit(&train, Fit::epochs(2).batch(10).quiet()).unwrap();
        let weights = trainer.weights().unwrap();
        let kept = |name: &str| weights.tensors[&format!("norm.{name}")].clone();
        assert_eq!(kept("weight").0, [3]);
        assert_eq!(kept("bias").0, [3]);
        assert!(kept("running_mean").1.iter().all(|&mean| mean != 0.0), "{weights:?}");
        assert!(kept("running_var").1.iter().all(|&var| var != 1.0), "{weights:?}");
        trainer.save(&path).unwrap();
        let expected = trainer.evaluate(&test).unwrap();
        let mut other =
            Trainer::with_seed(&device, network(), CrossEntropy, Sgd::new(0.05), 2).unwrap();
        assert_ne!(other.evaluate(&test).unwrap(), expected);
        other.load(&path).unwrap();
        assert_eq!(other.evaluate(&test).unwrap(), expected, "on {}", device.info());
        assert_eq!(other.weights().unwrap(), weights);
        // It goes on from there: statistics move when it trains, and stay when it doesn't.
        other.evaluate(&test).unwrap();
        assert_eq!(other.weights().unwrap(), weights);
        other.fit(&train, Fit::epochs(1).batch(10).steps(1).quiet()).unwrap();
        assert_ne!(other.weights().unwrap().tensors["norm.running_var"], kept("running_var"));
    }
}

#[test]
fn a_layer_without_its_statistics_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let device = Device::cpu(Some(1));
    let trainer = || Trainer::new(&device, network(), CrossEntropy, Sgd::new(0.05)).unwrap();
    let mut weights = trainer().weights().unwrap();
    weights.tensors.remove("norm.running_var").unwrap();
    weights.save(&path).unwrap();
    let error = trainer().load(&path).unwrap_err().to_string();
    assert!(error.contains("norm.running_var"), "{error}");
}
