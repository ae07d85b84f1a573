//! Matrix products and attention.

use super::{Call, Outputs, y};
use shadegrad::graph::{AttentionOptions, Tensor};

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    let x = |name: &str| call.input(name);
    Some(y(match call.op() {
        "matmul" => x("a").matmul(x("b")),
        "matmul_tn" => x("a").transpose(0, 1).matmul(x("b")),
        "matmul_nt" => x("a").matmul(&x("b").transpose(0, 1)),
        "outer" => x("a").outer(x("b")),
        // beta c + alpha a b
        "addmm" => x("c").addmm(x("a"), x("b"), call.number("beta"), call.number("alpha")),
        // x wᵀ + b
        "linear" => x("x").linear(x("w"), call.find("b")),
        "einsum" => call.graph.einsum(call.text("equation"), &call.series()),
        "scaled_dot_product_attention" => attention(call),
        _ => return None,
    }))
}

/// A mask of truth values says what takes part; one of floats is added to the scores. The scale is
/// one over the root of the width, the default.
fn attention(call: &Call<'_>) -> Tensor {
    let options = AttentionOptions {
        mask: call.find("mask").cloned(),
        causal: call.flag("causal"),
        ..AttentionOptions::default()
    };
    call.input("q").scaled_dot_product_attention(call.input("k"), call.input("v"), &options)
}
