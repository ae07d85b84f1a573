//! Cells and small modules, written from functions; layers.rs runs the layers that the library ships.

use super::{Call, Outputs, named, y};
use shadegrad::device::Cell;
use shadegrad::graph::{RecurrentOptions, RecurrentWeights, Tensor};

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    Some(match call.op() {
        "lstm_cell" => {
            let [h, c] = step(call, Cell::Lstm, &["h", "c"]).try_into().ok()?;
            named([("h1", h), ("c1", c)])
        }
        "gru_cell" => y(step(call, Cell::Gru, &["h"]).remove(0)),
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

/// One step of a cell.
fn step(call: &Call<'_>, cell: Cell, states: &[&str]) -> Vec<Tensor> {
    let of = |name: &str| call.input(&format!("p.{name}")).clone();
    let weights = RecurrentWeights {
        input: of("weight_ih"),
        recurrent: of("weight_hh"),
        biases: Some([of("bias_ih"), of("bias_hh")]),
    };
    let states = states.iter().map(|name| call.input(name).clone()).collect();
    let options = RecurrentOptions { states: Some(states), ..RecurrentOptions::default() };
    call.input("x").unsqueeze(0).recurrent(cell, &weights, &options).states
}

fn linear(call: &Call<'_>, prefix: &str, x: &Tensor) -> Tensor {
    let bias = call.find(&format!("{prefix}bias"));
    x.linear(call.input(&format!("{prefix}weight")), bias)
}
