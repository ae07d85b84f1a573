//! Layers: parameters in PyTorch's shapes and names, results of the functions they stand for, and state that
//! steps change.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::Device;
use shadegrad::graph::{Array, check};
use shadegrad::models::{
    AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, BatchNorm3d, Conv3d, ConvTranspose1d,
    ConvTranspose2d, Dropout2d, InstanceNorm1d, InstanceNorm2d, MaxPool1d, PRelu, RMSNorm,
    Upsample, cross_entropy,
};
use shadegrad::prelude::*;

fn x(graph: &Graph, shape: &[usize], seed: u64) -> Tensor {
    let init = Init::Uniform { low: -1.5, high: 1.5, seed };
    graph.variable(&Variable::new("x", shape, DType::F32, init))
}

#[test]
fn parameters_have_the_shapes_and_names_of_pytorch() {
    macro_rules! is {
        ($layer:expr, $input:expr, $names:expr, $output:expr) => {
            let layer = $layer;
            let parameters = Parameters::new(&layer, 0);
            let graph = Graph::new();
            let y = layer.forward(&x(&graph, &$input, 1));
            assert!(graph.error().is_none(), "{:?}", graph.error());
            assert_eq!(y.shape(), $output, "{}", stringify!($layer));
            let names: Vec<String> = parameters.map_or(vec![], |parameters| {
                let own = parameters.names().map(|(name, shape)| format!("{name} {shape:?}"));
                let buffers =
                    parameters.buffers().map(|(n, b)| format!("{n} {:?}", b.variable().ty().shape));
                own.chain(buffers).collect()
            });
            assert_eq!(names, $names as &[&str], "{}", stringify!($layer));
        };
    }
    is!(Linear::new(3, 5), [2, 4, 3], &["weight [5, 3]", "bias [5]"], [2, 4, 5]);
    is!(Linear::new(3, 5).no_bias(), [3], &["weight [5, 3]"], [5]);
    is!(
        Conv1d::new(4, 6, 3).groups(2).stride(2),
        [2, 4, 9],
        &["weight [6, 2, 3]", "bias [6]"],
        [2, 6, 4]
    );
    is!(
        Conv2d::new(3, 4, 3).padding_same().dilation(2),
        [2, 3, 5, 7],
        &["weight [4, 3, 3, 3]", "bias [4]"],
        [2, 4, 5, 7]
    );
    is!(
        Conv3d::new(2, 4, 2).no_bias(),
        [1, 2, 3, 4, 5],
        &["weight [4, 2, 2, 2, 2]"],
        [1, 4, 2, 3, 4]
    );
    is!(
        ConvTranspose1d::new(4, 6, 3).stride(2).output_padding(1),
        [2, 4, 5],
        &["weight [4, 6, 3]", "bias [6]"],
        [2, 6, 12]
    );
    is!(
        ConvTranspose2d::new(4, 6, 3).groups(2).stride(2).padding(1),
        [2, 4, 5, 5],
        &["weight [4, 3, 3, 3]", "bias [6]"],
        [2, 6, 9, 9]
    );
    let statistics =
        &["weight [3]", "bias [3]", "running_mean [3]", "running_var [3]"] as &[&str];
    is!(BatchNorm1d::new(3), [4, 3], statistics, [4, 3]);
    is!(BatchNorm2d::new(3), [4, 3, 2, 2], statistics, [4, 3, 2, 2]);
    is!(BatchNorm3d::new(3), [4, 3, 2, 2, 1], statistics, [4, 3, 2, 2, 1]);
    is!(LayerNorm::new(&[3, 2]), [4, 3, 2], &["weight [3, 2]", "bias [3, 2]"], [4, 3, 2]);
    is!(RMSNorm::new(&[2]), [4, 3, 2], &["weight [2]"], [4, 3, 2]);
    is!(GroupNorm::new(2, 4), [3, 4, 5], &["weight [4]", "bias [4]"], [3, 4, 5]);
    is!(InstanceNorm1d::new(), [3, 4, 5], &[], [3, 4, 5]);
    is!(InstanceNorm2d::new().affine(4), [3, 4, 5, 1], &["weight [4]", "bias [4]"], [3, 4, 5, 1]);
    is!(PRelu::new(4), [3, 4, 5], &["weight [4]"], [3, 4, 5]);
    is!(MaxPool1d::new(2), [3, 4, 5], &[], [3, 4, 2]);
    is!(AvgPool2d::new(2).ceil_mode(), [3, 4, 5, 5], &[], [3, 4, 3, 3]);
    is!(AdaptiveAvgPool2d::new([1, 1]), [3, 4, 5, 5], &[], [3, 4, 1, 1]);
    is!(AdaptiveMaxPool2d::new([2, 3]), [3, 4, 5, 5], &[], [3, 4, 2, 3]);
    is!(Upsample::new(2), [3, 4, 5, 5], &[], [3, 4, 10, 10]);
    is!(Dropout2d::new(0.5), [3, 4, 5, 5], &[], [3, 4, 5, 5]);
}

#[test]
fn an_embedding_takes_indices_and_keeps_its_padding() {
    let graph = Graph::new();
    let embedding = Embedding::new(5, 3).padding_idx(1);
    let parameters = Parameters::new(&embedding, 0).unwrap();
    let y = embedding.forward(&graph.indices(&[2, 2], &[4, 1, 1, 0]));
    assert_eq!(y.shape(), [2, 2, 3]);
    let table = &parameters.tensors(&graph)[0][0];
    let slope = &graph.gradients(&y.sum_all(), &[table])[0];
    let rows = slope.sum(&[1]).eval(&Device::cpu(Some(1))).unwrap().data;
    assert_eq!(rows, [3.0, 0.0, 0.0, 0.0, 3.0]);
}

#[test]
fn running_statistics_follow_the_batches_and_are_used_afterwards() {
    for (device, _) in harness::devices() {
        let layer = BatchNorm2d::new(3).momentum(0.2);
        let mut session = Session::new(&device);
        let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
        let train = Graph::training(&seed, &step);
        let input = x(&train, &[4, 3, 5, 2], 7);
        let y = layer.forward(&input);
        let mut loaded = session.compile(&train, &[&y]).unwrap();
        loaded.run(3).unwrap();

        let batch = train.reference(&[&input]).unwrap().remove(0);
        let channel = |c: usize| -> Vec<f64> {
            (0..4)
                .flat_map(|n| (0..10).map(move |i| (n * 3 + c) * 10 + i))
                .map(|i| batch.data[i])
                .collect()
        };
        let (mut means, mut vars) = (vec![], vec![]);
        for values in (0..3).map(channel) {
            let mean = values.iter().sum::<f64>() / 40.0;
            let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 39.0;
            let (mut running_mean, mut running_var) = (0.0, 1.0);
            for _ in 0..3 {
                running_mean += 0.2 * (mean - running_mean);
                running_var += 0.2 * (var - running_var);
            }
            means.push(running_mean);
            vars.push(running_var);
        }
        let (mean, var) = layer.running();
        for (buffer, expected) in [(mean, &means), (var, &vars)] {
            let got = session.read_array(buffer.variable()).unwrap();
            let expected = Array::new(&[3], DType::F32, expected.clone());
            check::compare(&got, &expected, &[1e-6; 3]).unwrap();
        }

        // Afterwards the layer does what the formula says, with the statistics that it has.
        let test = Graph::new();
        let z = layer.forward(&x(&test, &[4, 3, 5, 2], 7));
        let mut loaded = session.compile(&test, &[&z]).unwrap();
        loaded.run(1).unwrap();
        let got = loaded.read_array(0).unwrap();
        for (i, (z, x)) in got.data.iter().zip(&batch.data).enumerate() {
            let c = i / 10 % 3;
            let expected = (x - means[c]) / (vars[c] + 1e-5).sqrt();
            assert!((z - expected).abs() < 1e-5, "element {i} is {z}, not {expected}");
        }
    }
}

#[test]
fn a_function_is_a_loss_and_statistics_are_saved_with_the_weights() {
    use shadegrad::train::data::drawn;
    let data = drawn::digits(60, 3);
    let model = || {
        Sequential::new()
            .add(Conv2d::new(1, 4, 3).stride(3))
            .add(BatchNorm2d::new(4))
            .add(Relu)
            .add(Flatten)
            .add(Linear::new(4 * 81, 10))
    };
    let device = Device::cpu(Some(2));
    let halved = |x: &Tensor, y: &Tensor| cross_entropy(x, y) * 0.5;
    let mut trainer = Trainer::new(&device, model(), halved, Sgd::new(0.1)).unwrap();
    trainer.fit(&data, Fit::epochs(2).batch(20).quiet()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    trainer.save(&path).unwrap();
    let weights = trainer.weights().unwrap();
    let mean = &weights.tensors["1.running_mean"];
    assert_eq!(mean.0, [4]);
    assert!(mean.1.iter().any(|v| *v != 0.0), "the running mean has moved");
    let before = trainer.evaluate(&data).unwrap();
    let mut other = Trainer::new(&device, model(), CrossEntropy, Sgd::new(0.1)).unwrap();
    other.load(&path).unwrap();
    assert_eq!(other.weights().unwrap().tensors, weights.tensors);
    assert_eq!(other.evaluate(&data).unwrap().predictions, before.predictions);
}
