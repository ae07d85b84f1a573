//! The layers that the library ships, with published parameters under PyTorch's names: recurrent layers, attention,
//! transformer blocks. Outputs, and gradients by inputs and parameters, are PyTorch's.

use crate::harness;
use crate::runner::{allowed, compare};
use crate::vectors::{self, Case};
use shadegrad::device::Device;
use shadegrad::graph::{Array, AttentionOptions, Graph, Session, Tensor, check};
use shadegrad::models::{
    GruCell, LstmCell, MultiheadAttention, Named, Parameters, Recurrent, RecurrentCell, RnnCell,
    RnnReluCell, TransformerDecoderLayer, TransformerEncoderLayer,
};
use std::collections::HashMap;

/// The operation keys that are layers, of the group of modules.
const LAYERS: &[&str] = &[
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "multihead_attention",
    "transformer_encoder_layer",
    "transformer_encoder_layer_causal",
    "transformer_decoder_layer",
];

/// Whether a case is run here, and not as an operation.
pub(crate) fn is_layer(case: &Case) -> bool {
    LAYERS.contains(&case.op.as_str())
}

#[test]
fn layers_on_the_cpu() {
    run(&Device::cpu(Some(2)));
}

#[test]
fn layers_on_the_adapter() {
    if let Some(device) = harness::adapter() {
        run(&device);
    }
}

fn run(device: &Device) {
    let cases: Vec<Case> = vectors::load("modules").into_iter().filter(is_layer).collect();
    assert_eq!(cases.len(), 34);
    let failures: Vec<String> = cases.iter().flat_map(|case| differences(device, case)).collect();
    assert!(failures.is_empty(), "on {}:\n{}", device.info(), failures.join("\n"));
}

/// What a layer makes of the inputs of a case.
type Outputs = Vec<(&'static str, Tensor)>;

/// A layer, and what it makes of inputs by name.
type Layer = (Box<dyn Named>, Box<dyn Fn(&HashMap<&str, Tensor>) -> Outputs>);

fn differences(device: &Device, case: &Case) -> Vec<String> {
    let (layer, forward) = layer(case);
    let parameters = Parameters::new(&*layer, 0).unwrap();
    let graph = Graph::new();
    let mut by_name: HashMap<&str, Tensor> = case
        .inputs
        .iter()
        .filter(|(name, _)| !name.starts_with("p."))
        .map(|(name, array)| (name.as_str(), graph.variable(&check::variable(name, array))))
        .collect();
    let computed = forward(&by_name);
    let weighted = case.cotangents.iter().map(|(name, cotangent)| {
        let (_, y) = computed.iter().find(|(output, _)| output == name).unwrap();
        (y * graph.variable(&check::variable("cotangent", cotangent))).sum_all()
    });
    let loss = weighted.reduce(|a, b| a + b).unwrap();
    // The names of the vectors have underscores where PyTorch's have dots.
    let names: Vec<String> =
        parameters.names().map(|(name, _)| format!("p.{}", name.replace('.', "__"))).collect();
    let tensors = parameters.tensors(&graph).concat();
    by_name.extend(names.iter().map(String::as_str).zip(tensors));
    let inputs: Vec<&Tensor> = case.gradients.iter().map(|e| &by_name[e.name.as_str()]).collect();
    let gradients = graph.gradients(&loss, &inputs);
    let outputs: Vec<&Tensor> = computed.iter().map(|(_, y)| y).chain(&gradients).collect();

    let mut session = Session::new(device);
    let mut loaded = session.compile(&graph, &outputs).unwrap();
    let given: HashMap<&str, &Array> =
        case.inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    assert_eq!(
        given.keys().filter(|name| name.starts_with("p.")).count(),
        names.len(),
        "{}",
        case.id
    );
    let values = names.iter().flat_map(|name| given[name.as_str()].to_bytes()).collect::<Vec<u8>>();
    session.write(&parameters.shards()[0], &values).unwrap();
    loaded.run(1).unwrap();

    let outputs = computed.iter().map(|(name, _)| {
        case.outputs.iter().find(|e| e.name == *name).unwrap_or_else(|| panic!("{name}"))
    });
    assert_eq!(outputs.len(), case.outputs.len(), "{}", case.id);
    let wanted = outputs.chain(&case.gradients).enumerate();
    let difference = |(number, expected): (usize, &vectors::Expected)| {
        let got = loaded.read_array(number).unwrap();
        let reason = compare(&got, expected, &allowed(expected, false)).err()?;
        Some(format!("{} {}: {reason}", case.id, expected.name))
    };
    wanted.filter_map(difference).collect()
}

fn layer(case: &Case) -> Layer {
    let size = |name: &str| case.attrs[name].as_u64().map(|n| n as usize);
    let flag = |name: &str| case.attrs[name].as_bool();
    match case.op.as_str() {
        "lstm" => recurrent::<LstmCell>(case),
        "gru" => recurrent::<GruCell>(case),
        "rnn_tanh" => recurrent::<RnnCell>(case),
        "rnn_relu" => recurrent::<RnnReluCell>(case),
        "multihead_attention" => {
            let mut layer = MultiheadAttention::new(size("embed").unwrap(), size("heads").unwrap());
            if flag("bias") == Some(false) {
                layer = layer.no_bias();
            }
            let layer = std::rc::Rc::new(layer);
            let causal = flag("causal") == Some(true);
            let own = layer.clone();
            let forward = move |inputs: &HashMap<&str, Tensor>| {
                let options = AttentionOptions { causal, ..AttentionOptions::default() };
                let (q, kv) = (&inputs["q"], &inputs["kv"]);
                let (y, weights) = own.attend_with_weights(q, kv, kv, &options);
                vec![("y", y), ("attn", weights)]
            };
            (Box::new(Shared(layer)), Box::new(forward))
        }
        "transformer_decoder_layer" => {
            let layer =
                TransformerDecoderLayer::new(size("d_model").unwrap(), size("heads").unwrap());
            let layer = std::rc::Rc::new(layer.dim_feedforward(size("ffn").unwrap()).dropout(0.0));
            let own = layer.clone();
            let forward = move |inputs: &HashMap<&str, Tensor>| {
                let all = AttentionOptions::default();
                vec![("y", own.run(&inputs["x"], &inputs["mem"], &all, &all))]
            };
            (Box::new(Shared(layer)), Box::new(forward))
        }
        _ => {
            let layer =
                TransformerEncoderLayer::new(size("d_model").unwrap(), size("heads").unwrap());
            let mut layer = layer.dim_feedforward(size("ffn").unwrap()).dropout(0.0);
            if flag("norm_first") == Some(true) {
                layer = layer.norm_first();
            }
            if case.attrs["activation"] == "gelu" {
                layer = layer.gelu();
            }
            let layer = std::rc::Rc::new(layer);
            let causal = flag("causal") == Some(true);
            let own = layer.clone();
            let forward = move |inputs: &HashMap<&str, Tensor>| {
                let options = AttentionOptions { causal, ..AttentionOptions::default() };
                vec![("y", own.run(&inputs["x"], &options))]
            };
            (Box::new(Shared(layer)), Box::new(forward))
        }
    }
}

/// A layer that is named here and run elsewhere.
struct Shared<L>(std::rc::Rc<L>);

impl<L: Named> Named for Shared<L> {
    fn visit(&self, visitor: &mut shadegrad::models::Visitor) {
        self.0.visit(visitor);
    }
}

fn recurrent<C: RecurrentCell + 'static>(case: &Case) -> Layer {
    let size = |name: &str| case.attrs[name].as_u64().map(|n| n as usize);
    let flag = |name: &str| case.attrs[name].as_bool();
    let mut layers = Recurrent::<C>::new(size("input").unwrap(), size("hidden").unwrap())
        .num_layers(size("layers").unwrap_or(1));
    if flag("bidirectional") == Some(true) {
        layers = layers.bidirectional();
    }
    if flag("batch_first") == Some(true) {
        layers = layers.batch_first();
    }
    if flag("bias") == Some(false) {
        layers = layers.no_bias();
    }
    let layers = std::rc::Rc::new(layers);
    let own = layers.clone();
    let forward = move |inputs: &HashMap<&str, Tensor>| {
        let states = ["h0", "c0"].iter().filter_map(|name| inputs.get(name).cloned());
        let states: Vec<Tensor> = states.collect();
        let given = (!states.is_empty()).then_some(states.as_slice());
        let result = own.run(&inputs["x"], given, None);
        let mut outputs = vec![("y", result.output)];
        outputs.extend(["hn", "cn"].into_iter().zip(result.states));
        outputs
    };
    (Box::new(Shared(layers)), Box::new(forward))
}
