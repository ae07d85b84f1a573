//! Layers and blocks, written from functions: recurrent layers, attention, transformer blocks.

use super::{Call, Outputs, named, y};
use shadegrad::device::Cell;
use shadegrad::graph::{AttentionOptions, RecurrentOptions, RecurrentWeights, Tensor};

/// PyTorch's default of layer normalisation.
const EPS: f64 = 1e-5;

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    Some(match call.op() {
        "lstm" => recurrent(call, Cell::Lstm),
        "gru" => recurrent(call, Cell::Gru),
        "rnn_tanh" => recurrent(call, Cell::RnnTanh),
        "rnn_relu" => recurrent(call, Cell::RnnRelu),
        "lstm_cell" => {
            let [h, c] = step(call, Cell::Lstm, &["h", "c"]).try_into().ok()?;
            named([("h1", h), ("c1", c)])
        }
        "gru_cell" => y(step(call, Cell::Gru, &["h"]).remove(0)),
        "multihead_attention" => {
            let (attended, weights) =
                attention(call, "p.", call.input("q"), call.input("kv"), call.flag("causal"));
            named([("y", attended), ("attn", weights)])
        }
        "transformer_encoder_layer" => y(encoder(call, false)),
        "transformer_encoder_layer_causal" => y(encoder(call, true)),
        "transformer_decoder_layer" => y(decoder(call)),
        "mlp_3layer" => {
            let layer = |number: usize, x: &Tensor| linear(call, &format!("p.{number}__"), x);
            let hidden = layer(2, &layer(0, call.input("x")).relu()).tanh();
            y(layer(4, &hidden))
        }
        "bilinear" => {
            let inputs = [call.input("a"), call.input("p.weight"), call.input("b")];
            y(call.graph.einsum("ni,oij,nj->no", &inputs) + call.input("p.bias"))
        }
        "prelu" => y(call.input("x").prelu(call.input("p.weight"))),
        "weight_tying" => {
            let weight = call.input("p.weight");
            y(call.input("x").linear(weight, None).tanh().linear(weight, None))
        }
        _ => return None,
    })
}

/// The weights of a layer and direction, by what their names end with.
fn weights(call: &Call<'_>, suffix: &str) -> RecurrentWeights {
    let of = |name: &str| call.find(&format!("p.{name}{suffix}")).cloned();
    let biases = of("bias_ih").zip(of("bias_hh")).map(|(input, recurrent)| [input, recurrent]);
    RecurrentWeights {
        input: call.input(&format!("p.weight_ih{suffix}")).clone(),
        recurrent: call.input(&format!("p.weight_hh{suffix}")).clone(),
        biases,
    }
}

/// Layers one on the other, each in one or both directions.
fn recurrent(call: &Call<'_>, cell: Cell) -> Outputs {
    // Where the index says nothing, there is one layer in one direction.
    let flag = |name: &str| call.attr(name).as_bool().unwrap_or(false);
    let layers = call.attr("layers").as_u64().unwrap_or(1) as usize;
    let ways: &[&str] = if flag("bidirectional") { &["", "_reverse"] } else { &[""] };
    let x = call.input("x");
    let mut sequence = if flag("batch_first") { x.transpose(0, 1) } else { x.clone() };
    let mut last: Vec<Vec<Tensor>> = vec![vec![]; cell.states()];
    for layer in 0..layers {
        let mut outputs = vec![];
        for (way, suffix) in ways.iter().enumerate() {
            let number = layer * ways.len() + way;
            let own = |state: &Tensor| state.narrow(0, number, 1).squeeze(0);
            let given: Option<Vec<Tensor>> =
                ["h0", "c0"][..cell.states()].iter().map(|s| call.find(s).map(own)).collect();
            let options = RecurrentOptions { states: given, mask: None, reverse: way == 1 };
            let weights = weights(call, &format!("_l{layer}{suffix}"));
            let result = sequence.recurrent(cell, &weights, &options);
            outputs.push(result.output);
            last.iter_mut().zip(result.states).for_each(|(all, state)| all.push(state));
        }
        sequence = call.graph.concat(&outputs.iter().collect::<Vec<_>>(), 2);
    }
    let stacked = |all: &Vec<Tensor>| call.graph.stack(&all.iter().collect::<Vec<_>>(), 0);
    let output = if flag("batch_first") { sequence.transpose(0, 1) } else { sequence };
    let mut outputs = named([("y", output), ("hn", stacked(&last[0]))]);
    outputs.extend(last.get(1).map(|c| ("cn".to_string(), stacked(c))));
    outputs
}

/// One step.
fn step(call: &Call<'_>, cell: Cell, states: &[&str]) -> Vec<Tensor> {
    let states = states.iter().map(|name| call.input(name).clone()).collect();
    let options = RecurrentOptions { states: Some(states), ..RecurrentOptions::default() };
    call.input("x").unsqueeze(0).recurrent(cell, &weights(call, ""), &options).states
}

fn linear(call: &Call<'_>, prefix: &str, x: &Tensor) -> Tensor {
    let bias = call.find(&format!("{prefix}bias"));
    x.linear(call.input(&format!("{prefix}weight")), bias)
}

fn norm(call: &Call<'_>, name: &str, x: &Tensor) -> Tensor {
    let of = |part: &str| call.input(&format!("p.{name}__{part}"));
    let (weight, bias) = (of("weight"), of("bias"));
    x.layer_norm(&weight.shape(), Some(weight), Some(bias), EPS)
}

/// Attention of several heads, and its weights in the mean of the heads.
fn attention(
    call: &Call<'_>,
    prefix: &str,
    query: &Tensor,
    memory: &Tensor,
    causal: bool,
) -> (Tensor, Tensor) {
    let heads = call.count("heads");
    let weight = call.input(&format!("{prefix}in_proj_weight"));
    let bias = call.find(&format!("{prefix}in_proj_bias"));
    let width = weight.shape()[1];
    // [batch, length, width] to [batch, heads, length, width / heads].
    let project = |x: &Tensor, number: usize| {
        let part = |t: &Tensor| t.narrow(0, number * width, width);
        let y = x.linear(&part(weight), bias.map(part).as_ref());
        let (batch, length) = (y.shape()[0], y.shape()[1]);
        y.reshape(&[batch, length, heads, width / heads]).transpose(1, 2)
    };
    let (q, k, v) = (project(query, 0), project(memory, 1), project(memory, 2));
    let options = AttentionOptions { causal, ..AttentionOptions::default() };
    let attended = q.scaled_dot_product_attention(&k, &v, &options).transpose(1, 2);
    let joined = attended.reshape(&query.shape());
    let mut scores = q.matmul(&k.transpose(2, 3)) * (1.0 / ((width / heads) as f64).sqrt());
    if causal {
        let ahead = scores.along(2).less(&scores.along(3));
        scores = scores.masked_fill(&ahead, f64::NEG_INFINITY);
    }
    (linear(call, &format!("{prefix}out_proj__"), &joined), scores.softmax(3).mean(&[1]))
}

fn feed_forward(call: &Call<'_>, x: &Tensor) -> Tensor {
    let hidden = linear(call, "p.linear1__", x);
    let hidden = match call.attr("activation").as_str() {
        Some("gelu") => hidden.gelu(),
        _ => hidden.relu(),
    };
    linear(call, "p.linear2__", &hidden)
}

fn encoder(call: &Call<'_>, causal: bool) -> Tensor {
    let attend = |x: &Tensor| attention(call, "p.self_attn__", x, x, causal).0;
    let x = call.input("x");
    if call.flag("norm_first") {
        let x = x + attend(&norm(call, "norm1", x));
        return &x + feed_forward(call, &norm(call, "norm2", &x));
    }
    let x = norm(call, "norm1", &(x + attend(x)));
    norm(call, "norm2", &(&x + feed_forward(call, &x)))
}

fn decoder(call: &Call<'_>) -> Tensor {
    let x = call.input("x");
    let x = norm(call, "norm1", &(x + attention(call, "p.self_attn__", x, x, false).0));
    let seen = attention(call, "p.multihead_attn__", &x, call.input("mem"), false).0;
    let x = norm(call, "norm2", &(&x + seen));
    norm(call, "norm3", &(&x + feed_forward(call, &x)))
}
