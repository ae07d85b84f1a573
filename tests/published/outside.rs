//! Mistakes that depend on data, which a recording can't see: no kernel stops for them, but the
//! result says so. And the errors of the index that concern no operation here.

use crate::refused::{REFUSED, x};
use crate::{harness, vectors};
use shadegrad::models::{CrossEntropyOptions, Reduction, binary_cross_entropy, cross_entropy_with};
use shadegrad::prelude::*;

/// Errors of the index, what is computed instead, and the call.
type Outcome = (&'static [&'static str], &'static [f64], fn(&Graph) -> Tensor);

/// The index that -1 would be, had indices a sign.
const MINUS_ONE: u32 = u32::MAX;

const NAN: f64 = f64::NAN;

fn loss_of_label(g: &Graph, label: u32) -> Tensor {
    let target = g.indices(&[1], &[label]);
    let options = CrossEntropyOptions::default();
    cross_entropy_with(&x(g, &[1, 3]), &target, &options, Reduction::Mean)
}

const OUTCOMES: &[Outcome] = &[
    // Reading outside gives NaN.
    (&["gather_index_oob", "gather_index_negative"], &[NAN, NAN, 20.0], |g| {
        g.tensor(&[3], &[10.0, 20.0, 30.0]).gather(0, &g.indices(&[3], &[9, MINUS_ONE, 1]))
    }),
    (&["index_select_oob"], &[4.0, NAN], |g| {
        let x = g.tensor(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0]);
        x.index_select(0, &g.indices(&[2], &[4, 5]))
    }),
    (&["embedding_oob", "embedding_negative"], &[1.0, 1.0, NAN, NAN, NAN, NAN], |g| {
        x(g, &[7, 2]).embedding(&g.indices(&[3], &[6, 7, MINUS_ONE]), None)
    }),
    // Writing outside goes nowhere.
    (&["scatter_oob"], &[1.0, 1.0, 3.0], |g| {
        let (index, source) = (g.indices(&[2], &[4, 2]), g.tensor(&[2], &[5.0, 2.0]));
        x(g, &[3]).scatter_add(0, &index, &source)
    }),
    // A class that isn't one is no column.
    (&["onehot_oob"], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], |g| g.indices(&[1], &[6]).one_hot(6)),
    // Losses are NaN, so that a wrong label or probability can't pass unseen.
    (&["ce_target_oob"], &[NAN], |g| loss_of_label(g, 3)),
    (&["ce_target_negative"], &[NAN], |g| loss_of_label(g, MINUS_ONE)),
    (&["bce_prob_range"], &[NAN], |g| {
        let (p, target) = (g.tensor(&[1], &[1.5]), g.tensor(&[1], &[0.0]));
        binary_cross_entropy(&p, &target, Reduction::Mean)
    }),
];

/// Errors that no recorded operation can make, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("conv_negative_padding", "padding is `usize`"),
    ("reshape_two_minus_one", "extents are `usize`; none is inferred"),
    ("reshape_infer_indivisible", "extents are `usize`; none is inferred"),
    ("reshape_negative", "extents are `usize`"),
    ("negative_size", "extents are `usize`"),
    ("item_many", "a result is read as a whole array"),
    ("backward_twice", "differentiating consumes nothing: a second time gives the same"),
    ("inplace_leaf", "values never change; variables change at the end of a step"),
    ("inplace_saved", "values never change; variables change at the end of a step"),
    ("dropout_p", "a layer's argument: tests of the layers"),
    ("mha_heads", "a layer's argument: tests of the layers"),
    ("lstm_input_size", "a layer's argument: tests of the layers"),
    ("lstm_h0_shape", "a layer's argument: tests of the layers"),
    ("sgd_negative_lr", "tests of the optimizers"),
    ("nesterov_no_momentum", "tests of the optimizers"),
    ("adam_beta_range", "tests of the optimizers"),
    ("adam_negative_eps", "tests of the optimizers"),
    ("optim_empty", "tests of the optimizers"),
    ("load_shape_mismatch", "tests of weights on disk"),
    ("load_missing_key", "tests of weights on disk"),
    ("load_unexpected_key", "tests of weights on disk"),
    ("batch_size_zero", "tests of training"),
];

#[test]
fn mistakes_in_data_show_in_the_result() {
    let mut failures = Vec::new();
    for (device, _) in harness::devices() {
        for (ids, expected, build) in OUTCOMES {
            let got = build(&Graph::new()).eval(&device).unwrap().data;
            let same = |(g, e): (&f64, &f64)| g == e || (g.is_nan() && e.is_nan());
            if got.len() != expected.len() || !got.iter().zip(*expected).all(same) {
                failures.push(format!("{ids:?} on {}: {got:?}", device.info()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_error_of_the_index_is_refused_or_explained() {
    let refused = REFUSED.iter().map(|(id, ..)| *id);
    let outcomes = OUTCOMES.iter().flat_map(|(ids, ..)| ids.iter().copied());
    let elsewhere = ELSEWHERE.iter().map(|(id, _)| *id);
    let mut known: Vec<&str> = refused.chain(outcomes).chain(elsewhere).collect();
    let errors = vectors::index()["errors"].as_array().unwrap();
    let mut listed: Vec<&str> = errors.iter().map(|e| e["id"].as_str().unwrap()).collect();
    known.sort_unstable();
    listed.sort_unstable();
    assert_eq!(known, listed);
}
