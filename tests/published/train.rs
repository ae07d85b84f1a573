//! Whole runs: twenty steps of small models with given initial parameters and batches, clipping and schedules among
//! them. Losses, norms of gradients, the first step's gradients and the last parameters are PyTorch's.

use crate::runner::{allowed, compare};
use crate::vectors::{self, Case};
use shadegrad::device::{Cell, DType, Device};
use shadegrad::graph::{
    Array, AttentionOptions, ConvOptions, Graph, Init, Padding, PoolOptions, RecurrentOptions,
    RecurrentWeights, Session, Tensor, Variable, check,
};
use shadegrad::models::{
    Adam, AdamW, Cosine, Named, Parameter, Parameters, Reduction, Sgd, Updater, Visitor,
    cross_entropy, mse_loss,
};
use std::collections::HashMap;

/// The group of the index.
pub(crate) const GROUP: &str = "train";

/// Computes every case on a device; returns what differs.
pub(crate) fn failures(device: &Device) -> Vec<String> {
    let mut failures = Vec::new();
    for case in vectors::load(GROUP) {
        let got = steps(device, &case);
        let outputs = case.outputs.iter().map(|expected| (expected.name.clone(), expected));
        let gradients = case.gradients.iter().map(|e| (format!("grad.{}", e.name), e));
        for (name, expected) in outputs.chain(gradients) {
            let Some(data) = got.get(&name).cloned() else {
                failures.push(format!("{} {name}: it is not computed", case.id));
                continue;
            };
            let array = Array { ty: expected.array.ty.clone(), data };
            if let Err(reason) = compare(&array, expected, &allowed(expected, false)) {
                failures.push(format!("{} {name}: {reason}", case.id));
            }
        }
    }
    failures
}

/// Parameters under the names of a case.
pub(crate) struct Given(Vec<(String, Parameter)>);

impl Given {
    /// The inputs of a case whose names begin with `p.`.
    pub(crate) fn new(case: &Case) -> Given {
        let given = |(name, array): &(String, Array)| {
            let values: Vec<f32> = array.data.iter().map(|&v| v as f32).collect();
            let name = name.strip_prefix("p.")?.to_string();
            Some((name, Parameter::from_values(&array.ty.shape, &values).unwrap()))
        };
        Given(case.inputs.iter().filter_map(given).collect())
    }
}

impl Named for Given {
    fn visit(&self, visitor: &mut Visitor) {
        self.0.iter().for_each(|(name, parameter)| visitor.parameter(name, parameter));
    }
}

/// Everything that a case must compute, by name.
fn steps(device: &Device, case: &Case) -> HashMap<String, Vec<f64>> {
    let model = Given::new(case);
    let parameters = Parameters::new(&model, 0).unwrap();
    let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
    let graph = Graph::training(&seed, &step);
    let number = graph.step();
    let batch = |name: &str| {
        let (_, all) = case.inputs.iter().find(|(n, _)| n == name).unwrap();
        let all = graph.variable(&check::variable(name, all));
        all.index_select(0, &number.reshape(&[1])).squeeze(0)
    };
    let p: HashMap<&str, Tensor> =
        parameters.names().map(|(name, _)| name).zip(parameters.tensors(&graph).concat()).collect();
    let statistic = |name, value| Variable::new(name, &[8], DType::F32, Init::Full(value));
    let running = [statistic("4.running_mean", 0.0), statistic("4.running_var", 1.0)];
    let loss = loss(case, &p, &running, &batch("x"), &batch("y"));
    let gradients =
        graph.gradients(&loss, &parameters.tensors(&graph).concat().iter().collect::<Vec<_>>());
    let squares = gradients.iter().map(|gradient| gradient.square().sum_all());
    let norm = squares.reduce(|a, b| a + b).unwrap().sqrt();
    updater(case, &parameters).record(&graph, &parameters, &loss);
    graph.assign(&step, &(&number + 1.0));

    let mut outputs = vec![&loss, &norm];
    outputs.extend(&gradients);
    let mut session = Session::new(device);
    let mut loaded = session.compile(&graph, &outputs).unwrap();
    let mut got: HashMap<String, Vec<f64>> = HashMap::new();
    for step in 0..case.attrs["steps"].as_u64().unwrap() {
        loaded.run(1).unwrap();
        for (output, name) in ["loss", "grad_norm"].into_iter().enumerate() {
            let value = loaded.read_array(output).unwrap().data[0];
            got.entry(name.to_string()).or_default().push(value);
        }
        if step == 0 {
            for (output, (name, _)) in parameters.names().enumerate() {
                let gradient = loaded.read_array(2 + output).unwrap().data;
                got.insert(format!("grad.{name}"), gradient);
            }
        }
    }
    let all = session.read_array(&parameters.shards()[0]).unwrap().data;
    for statistic in &running {
        let data = session.read_array(statistic).unwrap().data;
        got.insert(format!("final.{}", statistic.name()), data);
    }
    let mut start = 0;
    for (name, shape) in parameters.names() {
        let count: usize = shape.iter().product();
        got.insert(format!("final.{name}"), all[start..start + count].to_vec());
        start += count;
    }
    got
}

/// The optimizer, its clipping and its schedule, as the case's `spec` says. It leaves out that the transformer learns at
/// a rate of 0.01 with a second beta of 0.95: with these the whole run agrees.
fn updater(case: &Case, parameters: &Parameters) -> Updater {
    let mut updater = match case.id.as_str() {
        "train.mlp_sgd_momentum" => Updater::new(parameters, Sgd::new(0.1).momentum(0.9)),
        "train.cnn_bn_sgd" => {
            Updater::new(parameters, Sgd::new(0.05).momentum(0.9).weight_decay(5e-4))
        }
        "train.tiny_transformer_adamw_cosine" => {
            Updater::new(parameters, AdamW::new(1e-2).betas(0.9, 0.95).weight_decay(0.1))
        }
        _ => Updater::new(parameters, Adam::new(1e-2)),
    };
    if let Some(norm) = case.attrs["clip_norm"].as_f64() {
        updater.clip_grad_norm(norm);
    }
    if case.id.ends_with("cosine") {
        updater.schedule(Cosine { steps: 20, floor: 0.0 });
    }
    updater
}

/// The loss of a batch, as the case's `spec` says; `running` are the statistics of its batch normalisation, if it
/// has one.
fn loss(
    case: &Case,
    p: &HashMap<&str, Tensor>,
    running: &[Variable],
    x: &Tensor,
    y: &Tensor,
) -> Tensor {
    let linear = |x: &Tensor, name: &str| {
        x.linear(&p[format!("{name}.weight").as_str()], p.get(format!("{name}.bias").as_str()))
    };
    let padded = |padding| ConvOptions { padding, ..ConvOptions::default() };
    let output = match case.id.as_str() {
        "train.mlp_sgd_momentum" => linear(&linear(&linear(x, "0").relu(), "2").tanh(), "4"),
        "train.mlp_adam_mse" => linear(&linear(x, "0").gelu(), "2"),
        "train.cnn_bn_sgd" => {
            let same = padded(Padding::Zeros([1, 1]));
            let h = x.conv2d(&p["0.weight"], Some(&p["0.bias"]), &same).relu();
            let h = h.max_pool2d(&PoolOptions::new([2, 2]));
            let h = h.conv2d(&p["3.weight"], None, &ConvOptions::default());
            let (h, mean, variance) =
                h.batch_norm_train(Some(&p["4.weight"]), Some(&p["4.bias"]), 1e-5);
            for (statistic, new) in running.iter().zip([mean, variance]) {
                let old = x.graph().variable(statistic);
                x.graph().assign(statistic, &(old * 0.9 + new * 0.1));
            }
            linear(&h.relu().mean(&[2, 3]), "8")
        }
        "train.autoencoder_adam" => {
            let half = ConvOptions { stride: [2, 2], ..padded(Padding::Zeros([1, 1])) };
            let h = x.conv2d(&p["0.weight"], Some(&p["0.bias"]), &half).silu();
            h.conv_transpose2d(&p["2.weight"], Some(&p["2.bias"]), &half, [0, 0]).sigmoid()
        }
        "train.char_lstm_adam_clip" => {
            let words = p["emb.weight"].embedding(x, None).transpose(0, 1);
            let weights = RecurrentWeights {
                input: p["rnn.weight_ih_l0"].clone(),
                recurrent: p["rnn.weight_hh_l0"].clone(),
                biases: Some([p["rnn.bias_ih_l0"].clone(), p["rnn.bias_hh_l0"].clone()]),
            };
            let run = words.recurrent(Cell::Lstm, &weights, &RecurrentOptions::default());
            linear(&run.output.transpose(0, 1), "out")
        }
        "train.tiny_transformer_adamw_cosine" => {
            let norm = |x: &Tensor, name: &str| {
                let of = |part: &str| Some(&p[format!("{name}.{part}").as_str()]);
                x.layer_norm(&[12], of("weight"), of("bias"), 1e-5)
            };
            let x = p["tok.weight"].embedding(x, None) + &p["pos.weight"];
            let qkv = linear(&norm(&x, "ln1"), "qkv");
            let heads = |number: usize| {
                qkv.narrow(2, number * 12, 12).reshape(&[3, 9, 3, 4]).transpose(1, 2)
            };
            let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
            let seen = heads(0).scaled_dot_product_attention(&heads(1), &heads(2), &options);
            let x = x + linear(&seen.transpose(1, 2).reshape(&[3, 9, 12]), "proj");
            let x = &x + linear(&linear(&norm(&x, "ln2"), "fc").gelu_tanh(), "out");
            linear(&norm(&x, "lnf"), "head")
        }
        other => panic!("`{other}` has no model"),
    };
    match case.attrs["loss"].as_str().unwrap() {
        "mse" => mse_loss(&output, y, Reduction::Mean),
        _ => {
            let classes = *output.shape().last().unwrap();
            let rows = output.ty().numel() / classes;
            let logits = output.reshape(&[rows, classes]);
            cross_entropy(&logits, &y.to(DType::U32).reshape(&[rows])).mean_all()
        }
    }
}
