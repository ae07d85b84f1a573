//! Losses.

use super::{Call, Outputs, y};
use shadegrad::graph::Tensor;
use shadegrad::models::{
    CrossEntropyOptions, Reduction, binary_cross_entropy, binary_cross_entropy_with_logits,
    cosine_embedding_loss, cross_entropy_with, ctc_loss, gaussian_nll_loss, hinge_embedding_loss,
    huber_loss, kl_div, l1_loss, margin_ranking_loss, mse_loss, multi_margin_loss, nll_loss,
    poisson_nll_loss, smooth_l1_loss, triplet_margin_loss,
};

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    distance(call).or_else(|| likelihood(call)).or_else(|| margin(call)).map(y)
}

fn reduction(call: &Call<'_>) -> Reduction {
    match call.text("reduction") {
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        "none" => Reduction::None,
        other => panic!("no reduction is called `{other}`"),
    }
}

/// How far `a` is from `b`.
fn distance(call: &Call<'_>) -> Option<Tensor> {
    let (a, b) = (call.find("a")?, call.find("b")?);
    let number = |name: &str| call.number(name);
    let by = || reduction(call);
    Some(match call.op() {
        "mse_loss" => mse_loss(a, b, by()),
        "l1_loss" => l1_loss(a, b, by()),
        "smooth_l1_loss" => smooth_l1_loss(a, b, number("beta"), by()),
        "huber_loss" => huber_loss(a, b, number("delta"), by()),
        "bce" => binary_cross_entropy(a, b, by()),
        "bce_with_logits" | "bce_with_logits_wide" => {
            binary_cross_entropy_with_logits(a, b, None, by())
        }
        // The case gives logits. The mean is over all elements, not over the batch.
        "kl_div" => kl_div(&a.log_softmax(1), b, by()),
        "poisson_nll" => poisson_nll_loss(a, b, by()),
        "cosine_similarity" => a.cosine_similarity(b, call.signed("dim"), number("eps")),
        _ => return None,
    })
}

/// Minus the logarithm of a probability.
fn likelihood(call: &Call<'_>) -> Option<Tensor> {
    let x = call.find("x")?;
    let target = || call.input("target");
    let by = || reduction(call);
    Some(match call.op() {
        "cross_entropy" => cross_entropy_with(x, target(), &classes(call), by()),
        "cross_entropy_soft" => cross_entropy_with(x, call.input("p"), &classes(call), by()),
        // The case gives logits, as for `ctc_loss`.
        "nll_loss" => nll_loss(&x.log_softmax(1), target(), &classes(call), by()),
        "bce_with_logits_pos_weight" => {
            let weight = call.input("pw");
            binary_cross_entropy_with_logits(x, call.input("y"), Some(weight), by())
        }
        "gaussian_nll" => {
            assert!(!call.flag("full"), "the constant term is left out");
            gaussian_nll_loss(x, call.input("y"), call.input("v"), call.number("eps"), by())
        }
        "ctc_loss" => {
            let lengths = |name: &str| -> Tensor {
                let lengths: Vec<u32> = call.sizes(name).iter().map(|&n| n as u32).collect();
                call.graph.indices(&[lengths.len()], &lengths)
            };
            let (input, labels) = (lengths("input_lengths"), lengths("target_lengths"));
            let logs = x.log_softmax(2);
            ctc_loss(&logs, target(), &input, &labels, call.count("blank"), by())
        }
        _ => return None,
    })
}

/// The options of a case; -100 is PyTorch's way to ignore nothing, unless a target says so.
fn classes(call: &Call<'_>) -> CrossEntropyOptions {
    let ignored = call.attr("ignore_index").as_i64();
    let ignored = ignored.filter(|&class| class != -100 || call.case.tagged("all-ignored"));
    CrossEntropyOptions {
        weight: call.find("w").cloned(),
        ignore_index: ignored.map(|class| class as u32),
        label_smoothing: call.attr("label_smoothing").as_f64().unwrap_or(0.0),
    }
}

/// Losses that are zero once a margin is kept.
fn margin(call: &Call<'_>) -> Option<Tensor> {
    let x = |name: &str| call.input(name);
    let margin = || call.number("margin");
    let by = || reduction(call);
    Some(match call.op() {
        "hinge_embedding" => hinge_embedding_loss(x("x"), x("y"), margin(), by()),
        "margin_ranking" => margin_ranking_loss(x("a"), x("b"), x("y"), margin(), by()),
        "cosine_embedding" => cosine_embedding_loss(x("a"), x("b"), x("y"), margin(), by()),
        "multi_margin" => multi_margin_loss(x("x"), x("target"), by()),
        "triplet_margin" => {
            assert_eq!(call.number("p"), 2.0, "the distance is Euclidean");
            triplet_margin_loss(x("a"), x("p"), x("n"), margin(), by())
        }
        _ => return None,
    })
}
