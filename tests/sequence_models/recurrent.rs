//! Recurrent layers: every cell, in both directions, several layers, lengths.

use crate::composed::{self, Shape};
use crate::{Computed, agree, as_discrete, by_name, harness, stepwise, x};
use shadegrad::device::Cell;
use shadegrad::models::{Recurrent, RecurrentCell, RnnRelu};
use shadegrad::prelude::*;

fn layers<C: RecurrentCell>(shape: Shape) -> Recurrent<C> {
    let mut layers = Recurrent::new(shape.input, shape.hidden).num_layers(shape.layers);
    if shape.bidirectional {
        layers = layers.bidirectional();
    }
    if shape.bias { layers } else { layers.no_bias() }
}

/// The inputs in a recording: a sequence, the states before it, lengths.
fn inputs(graph: &Graph, shape: Shape) -> (Tensor, Vec<Tensor>, Tensor) {
    let Shape { time, batch, input, hidden, .. } = shape;
    let count = shape.layers * shape.ways();
    let states = (0..shape.cell.states() as u64)
        .map(|state| x(graph, &[count, batch, hidden], 2 + state))
        .collect();
    let lengths: Vec<u32> = shape.counted().iter().map(|&length| length as u32).collect();
    (x(graph, &[time, batch, input], 1), states, graph.indices(&[batch], &lengths))
}

fn agrees<C: RecurrentCell>(shape: Shape) {
    assert_eq!(C::CELL, shape.cell);
    let layers = layers::<C>(shape);
    let parameters = Parameters::new(&layers, 7).unwrap();
    let by = |graph: &Graph, x: &Tensor, states: &[Tensor]| {
        [vec![x.clone()], states.to_vec(), parameters.tensors(graph).concat()].concat()
    };
    let model = |graph: &Graph| -> Computed {
        let (x, states, lengths) = inputs(graph, shape);
        let result = layers.run(&x, Some(&states), Some(&lengths).filter(|_| shape.lengths));
        ([vec![result.output], result.states].concat(), by(graph, &x, &states))
    };
    let definition = |graph: &Graph| -> Computed {
        let (x, states, _) = inputs(graph, shape);
        let outputs = composed::recurrent(shape, &x, &states, &by_name(&parameters, graph));
        (outputs, by(graph, &x, &states))
    };
    agree(&format!("{shape:?}"), &model, &definition);
    if let Some(device) = stepwise() {
        crate::agrees(&device, false, &model, &definition)
            .unwrap_or_else(|e| panic!("{shape:?}, a dispatch for each step: {e}"));
    }
    if let Some(device) = as_discrete() {
        crate::agrees(&device, false, &model, &definition)
            .unwrap_or_else(|e| panic!("{shape:?}, shared by invocations: {e}"));
    }
}

fn of_every_cell(shape: Shape) {
    agrees::<shadegrad::models::RnnCell>(Shape { cell: Cell::RnnTanh, ..shape });
    agrees::<shadegrad::models::RnnReluCell>(Shape { cell: Cell::RnnRelu, ..shape });
    agrees::<shadegrad::models::LstmCell>(Shape { cell: Cell::Lstm, ..shape });
    agrees::<shadegrad::models::GruCell>(Shape { cell: Cell::Gru, ..shape });
}

const ONE: Shape = Shape {
    cell: Cell::Lstm,
    time: 1,
    batch: 1,
    input: 1,
    hidden: 1,
    layers: 1,
    bidirectional: false,
    bias: true,
    lengths: false,
};

#[test]
fn one_step_of_one_unit() {
    of_every_cell(ONE);
}

#[test]
fn a_sequence_of_odd_sizes() {
    of_every_cell(Shape { time: 7, batch: 9, input: 3, hidden: 5, ..ONE });
}

#[test]
fn more_units_than_invocations_share_work_evenly() {
    of_every_cell(Shape { time: 2, batch: 3, input: 4, hidden: 65, bias: false, ..ONE });
}

#[test]
fn more_units_than_a_workgroup_has_invocations() {
    agrees::<shadegrad::models::LstmCell>(Shape {
        time: 2,
        batch: 1,
        input: 2,
        hidden: 257,
        ..ONE
    });
}

#[test]
fn units_that_lie_in_fours() {
    // Large GPUs keep three quarters of what an invocation needs of the weight in registers, and load the rest in fours.
    let shape = Shape { time: 3, batch: 2, input: 2, hidden: 128, ..ONE };
    agrees::<shadegrad::models::LstmCell>(shape);
    // There 10 vectors of 33 are left, which is no number of fours, and no two invocations share a sum forward.
    agrees::<shadegrad::models::LstmCell>(Shape { time: 2, batch: 1, hidden: 132, ..shape });
}

#[test]
fn two_layers_in_both_directions_over_lengths() {
    let shape = Shape { time: 5, batch: 4, input: 3, hidden: 4, layers: 2, ..ONE };
    of_every_cell(Shape { bidirectional: true, lengths: true, ..shape });
}

#[test]
fn lengths_of_one_and_none() {
    of_every_cell(Shape { time: 3, batch: 8, input: 2, hidden: 3, lengths: true, ..ONE });
}

#[test]
fn padding_changes_neither_outputs_nor_gradients() {
    // The same sequences, padded to 4 and to 9 steps with other numbers.
    let lengths = [4, 1, 2];
    for (device, _) in harness::devices() {
        let run = |time: usize| {
            let lstm = Lstm::new(3, 5).num_layers(2).bidirectional().batch_first();
            let parameters = Parameters::new(&lstm, 3).unwrap();
            let graph = Graph::new();
            let words = x(&graph, &[3, 4, 3], 1);
            let padding = x(&graph, &[3, time, 3], 50 + time as u64) * 3.0;
            let known = words.pad(1, 0, time - 4);
            let counts = graph.indices(&[3], &lengths);
            let inside = graph.iota(time).less(&counts.unsqueeze(1)).unsqueeze(2);
            let sequence = inside.select(&known, &padding);
            let result = lstm.run(&sequence, None, Some(&counts));
            let outputs = result.output.narrow(1, 0, 4);
            let loss = (&outputs * x(&graph, &[3, 4, 10], 2)).sum_all()
                + result.states.iter().zip(3..).fold(graph.zeros(&[]), |sum, (state, seed)| {
                    sum + (state * x(&graph, &state.shape(), seed)).sum_all()
                });
            let mut wanted = parameters.tensors(&graph).concat();
            wanted.extend([words, padding]);
            let gradients = graph.gradients(&loss, &wanted.iter().collect::<Vec<_>>());
            let mut all = vec![outputs, result.output.narrow(1, 4, time - 4)];
            all.extend(result.states);
            all.extend(gradients);
            let mut loaded =
                Session::new(&device).compile(&graph, &all.iter().collect::<Vec<_>>()).unwrap();
            loaded.run(1).unwrap();
            (0..all.len()).map(|n| loaded.read_array(n).unwrap().data).collect::<Vec<_>>()
        };
        let (short, long) = (run(4), run(9));
        let last = short.len() - 1;
        for (number, (a, b)) in short.iter().zip(&long).enumerate() {
            match number {
                // Behind the longest sequence nothing comes out, and padding gets no gradient.
                1 => assert!(b.iter().all(|&value| value == 0.0)),
                n if n == last => assert!(b.iter().all(|&value| value == 0.0)),
                // Sums over more steps may be rounded otherwise.
                _ => {
                    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(apart < 1e-5, "tensor {number} on {}: {apart}", device.info());
                }
            }
        }
    }
}

#[test]
fn dropout_lies_between_layers_and_only_there() {
    let graph = Graph::training(&Variable::word("seed", 1), &Variable::word("step", 0));
    let sequence = x(&graph, &[3, 2, 4], 1);
    let count = |layers: usize, p: f64| {
        let lstm = Lstm::new(4, 5).num_layers(layers).dropout(p);
        let parameters = Parameters::new(&lstm, 0).unwrap();
        let y = lstm.forward(&sequence);
        let _ = parameters.tensors(&graph);
        y.eval(&Device::cpu(Some(1))).unwrap().data
    };
    assert_eq!(count(1, 0.9), count(1, 0.0), "one layer has nothing between layers");
    let dropped = count(2, 0.9);
    assert_ne!(dropped, count(2, 0.0));
    assert!(dropped.iter().all(|&value| value != 0.0), "nothing is dropped behind the last layer");
}

#[test]
fn what_does_not_fit_is_refused_with_shapes() {
    let refused = |run: &dyn Fn(&Graph, &Lstm)| {
        let graph = Graph::new();
        let lstm = Lstm::new(4, 5);
        run(&graph, &lstm);
        graph.error().unwrap().to_string()
    };
    let text = refused(&|g, lstm| _ = lstm.forward(&x(g, &[3, 4], 1)));
    assert!(text.contains("sequence_models/recurrent.rs"), "the line is the user's: {text}");
    assert!(text.contains("[time, batch, in]"), "{text}");
    let text = refused(&|g, lstm| _ = lstm.forward(&x(g, &[3, 2, 7], 1)));
    assert!(text.contains("[20, 7]") && text.contains("[20, 5]"), "{text}");
    assert!(text.contains("sequence_models/recurrent.rs"), "the line is the user's: {text}");
    let text = refused(&|g, lstm| {
        let states = [x(g, &[1, 2, 5], 2)];
        _ = lstm.run(&x(g, &[3, 2, 4], 1), Some(&states), None);
    });
    assert!(text.contains("2 states [1, 2, 5]"), "{text}");
    let text = refused(&|g, lstm| {
        let lengths = x(g, &[2], 2);
        _ = lstm.run(&x(g, &[3, 2, 4], 1), None, Some(&lengths));
    });
    assert!(text.contains("u32 lengths [2]"), "{text}");
}

#[test]
fn a_nan_is_kept_by_every_cell() {
    for (device, _) in harness::devices() {
        let kept = |layer: &dyn Module| {
            let parameters = Parameters::new(layer, 1).unwrap();
            let graph = Graph::new();
            let _ = parameters.tensors(&graph);
            let sequence = graph.tensor(&[2, 1, 2], &[f32::NAN, 0.0, 1.0, 1.0]);
            let found = layer.forward(&sequence).eval(&device).unwrap();
            assert!(
                found.data.iter().all(|value| value.is_nan()),
                "{found:?} on {}",
                device.info()
            );
        };
        kept(&RnnRelu::new(2, 3));
        kept(&Rnn::new(2, 3));
        kept(&Lstm::new(2, 3));
        kept(&Gru::new(2, 3));
    }
}

#[test]
fn padding_changes_nothing_wherever_it_stands() {
    for (device, _) in harness::devices() {
        let model = TextClassifier::new(9, 4, 5, 2);
        let mut trainer = Trainer::new(&device, model, CrossEntropy, Sgd::new(0.1)).unwrap();
        let tokens = [2, 3, 0, 0, 0, 2, 3, 0, 0, 2, 0, 3, 0, 0, 0, 0].map(f64::from);
        let tokens = shadegrad::graph::Array::new(&[4, 4], DType::U32, tokens.to_vec());
        let logits = trainer.predict(&tokens).unwrap().data;
        assert_eq!(logits[..2], logits[2..4], "on {}", device.info());
        assert_eq!(logits[..2], logits[4..6], "on {}", device.info());
        assert_ne!(logits[..2], logits[6..]);
        assert!(logits[6..].iter().all(|value| value.is_finite()), "a text without words");
    }
}

#[test]
fn parameters_have_the_names_and_shapes_of_pytorch() {
    let names = |layer: &dyn Named| -> Vec<String> {
        let parameters = Parameters::new(layer, 0).unwrap();
        parameters.names().map(|(name, shape)| format!("{name} {shape:?}")).collect()
    };
    assert_eq!(
        names(&Gru::new(3, 5).num_layers(2).bidirectional())[..8],
        [
            "weight_ih_l0 [15, 3]",
            "weight_hh_l0 [15, 5]",
            "bias_ih_l0 [15]",
            "bias_hh_l0 [15]",
            "weight_ih_l0_reverse [15, 3]",
            "weight_hh_l0_reverse [15, 5]",
            "bias_ih_l0_reverse [15]",
            "bias_hh_l0_reverse [15]",
        ]
    );
    assert_eq!(
        names(&RnnRelu::new(3, 5).num_layers(2).no_bias()),
        [
            "weight_ih_l0 [5, 3]",
            "weight_hh_l0 [5, 5]",
            "weight_ih_l1 [5, 5]",
            "weight_hh_l1 [5, 5]"
        ]
    );
}
