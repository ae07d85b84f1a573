//! Multi-head attention, blocks before and behind normalisation, decoders, positions.

use crate::composed::{self, Named};
use crate::{Computed, agree, by_name, x};
use shadegrad::models::{
    LearnedPositions, MultiheadAttention, SinusoidalPositions, TransformerDecoder,
    TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
};
use shadegrad::prelude::*;

const WIDTH: usize = 12;

fn ahead(graph: &Graph, n: usize) -> Tensor {
    graph.iota(n).unsqueeze(1).less(&graph.iota(n))
}

#[test]
fn attention_of_several_heads() {
    for (heads, batch, m, n) in [(1, 1, 1, 1), (3, 2, 5, 7), (4, 3, 1, 65), (2, 1, 33, 3)] {
        let layer = MultiheadAttention::new(WIDTH, heads);
        let parameters = Parameters::new(&layer, 5).unwrap();
        let inputs = |g: &Graph| (x(g, &[batch, m, WIDTH], 1), x(g, &[batch, n, WIDTH], 2));
        let by = |g: &Graph, q: &Tensor, kv: &Tensor| {
            [vec![q.clone(), kv.clone()], parameters.tensors(g).concat()].concat()
        };
        let model = |g: &Graph| -> Computed {
            let (q, kv) = inputs(g);
            let y = layer.attend(&q, &kv, &kv, &AttentionOptions::default());
            (vec![y], by(g, &q, &kv))
        };
        let definition = |g: &Graph| -> Computed {
            let (q, kv) = inputs(g);
            let y = composed::attention(&q, &kv, heads, None, &by_name(&parameters, g), "");
            (vec![y], by(g, &q, &kv))
        };
        agree(&format!("{heads} heads, {m} queries, {n} keys"), &model, &definition);
    }
}

#[test]
fn attention_with_a_mask_and_its_weights() {
    let layer = MultiheadAttention::new(WIDTH, 2);
    let parameters = Parameters::new(&layer, 5).unwrap();
    let n = 6;
    // The last two keys of the second sequence are padding.
    let padding = |g: &Graph| {
        let lengths = g.indices(&[2, 1, 1], &[6, 4]);
        g.iota(n).reshape(&[1, 1, n]).less(&lengths)
    };
    let model = |g: &Graph| -> Computed {
        let q = x(g, &[2, n, WIDTH], 1);
        let mask = Some(padding(g).unsqueeze(1));
        let options = AttentionOptions { mask, causal: true, ..AttentionOptions::default() };
        let (y, weights) = layer.attend_with_weights(&q, &q, &q, &options);
        let fused = layer.attend(&q, &q, &q, &options);
        // Each row of the weights adds up to one, also in the mean over heads.
        (vec![y, fused, weights.sum(&[2])], vec![q])
    };
    let definition = |g: &Graph| -> Computed {
        let q = x(g, &[2, n, WIDTH], 1);
        let hidden = padding(g).not().expand(&[2, n, n]).to(DType::U32)
            + ahead(g, n).expand(&[2, n, n]).to(DType::U32);
        let hidden = hidden.to(DType::Bool);
        let y = composed::attention(&q, &q, 2, Some(&hidden), &by_name(&parameters, g), "");
        let one = g.ones(&[2, n]) + (&q * 0.0).sum(&[2]);
        (vec![y.clone(), y, one], vec![q])
    };
    agree("masked attention", &model, &definition);
}

#[test]
fn a_query_that_sees_nothing_gives_zeros_and_no_slopes() {
    let layer = MultiheadAttention::new(WIDTH, 2).dropout(0.5);
    let parameters = Parameters::new(&layer, 5).unwrap();
    let (seed, step) = (Variable::word("seed", 1), Variable::word("step", 0));
    for (device, _) in crate::harness::devices() {
        for graph in [Graph::new(), Graph::training(&seed, &step)] {
            let q = x(&graph, &[1, 3, WIDTH], 1);
            let mask = graph
                .mask(&[1, 1, 3, 3], &[true, true, false, false, false, false, true, false, true]);
            let options = AttentionOptions { mask: Some(mask), ..AttentionOptions::default() };
            let fused = layer.attend(&q, &q, &q, &options);
            let (composed, weights) = layer.attend_with_weights(&q, &q, &q, &options);
            let mut all = vec![fused.clone(), composed.clone(), weights];
            all.extend(graph.gradients(&(fused + composed).square().sum_all(), &[&q]));
            let _ = parameters.tensors(&graph);
            let mut loaded =
                Session::new(&device).compile(&graph, &all.iter().collect::<Vec<_>>()).unwrap();
            loaded.run(1).unwrap();
            let read = |n: usize| loaded.read_array(n).unwrap().data;
            // The output projection of nothing is its bias.
            for output in [read(0), read(1)] {
                assert!(output.iter().all(|value| value.is_finite()));
                assert!(output[WIDTH..2 * WIDTH].iter().all(|&value| value == 0.0));
            }
            assert_eq!(read(2)[3..6], [0.0; 3]);
            assert!(read(3).iter().all(|value| value.is_finite()));
        }
    }
}

/// Queries or keys `[batch, length, width]` of heads side by side, turned pair by pair.
fn turned(x: &Tensor, heads: usize, base: f64) -> Tensor {
    let (length, width) = (x.shape()[1], x.shape()[2]);
    let (d, half) = (width / heads, width / heads / 2);
    let mut columns = vec![];
    for head in 0..heads {
        let pair = |i: usize| {
            let angle = |t: usize| t as f64 * base.powf(-(i as f64) / half as f64);
            let of = |f: fn(f64) -> f64| -> Vec<f32> {
                (0..length).map(|t| f(angle(t)) as f32).collect()
            };
            let (cos, sin) = (of(f64::cos), of(f64::sin));
            let column = |number: usize| x.narrow(2, head * d + number, 1).squeeze(2);
            let (cos, sin) = (x.graph().tensor(&[length], &cos), x.graph().tensor(&[length], &sin));
            let (a, b) = (column(i), column(half + i));
            [&a * &cos - &b * &sin, &a * &sin + &b * &cos]
        };
        let pairs: Vec<[Tensor; 2]> = (0..half).map(pair).collect();
        columns.extend(pairs.iter().map(|[a, _]| a.clone()));
        columns.extend(pairs.iter().map(|[_, b]| b.clone()));
    }
    x.graph().stack(&columns.iter().collect::<Vec<_>>(), 2)
}

#[test]
fn rotary_attention_turns_pairs_half_a_head_apart() {
    let (heads, base, width) = (2, 50.0, 12);
    let layer = MultiheadAttention::new(width, heads).rotary(base);
    let parameters = Parameters::new(&layer, 5).unwrap();
    let by = |g: &Graph, q: &Tensor| [vec![q.clone()], parameters.tensors(g).concat()].concat();
    let model = |g: &Graph| -> Computed {
        let q = x(g, &[2, 5, width], 1);
        let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
        (vec![layer.attend(&q, &q, &q, &options)], by(g, &q))
    };
    let definition = |g: &Graph| -> Computed {
        let q = x(g, &[2, 5, width], 1);
        let p = by_name(&parameters, g);
        let project = |number: usize| {
            let part = |name: &str| p[name].narrow(0, number * width, width);
            q.matmul(&part("in_proj_weight").transpose(0, 1)) + part("in_proj_bias")
        };
        let (query, key) = (turned(&project(0), heads, base), turned(&project(1), heads, base));
        let mut seen = vec![];
        for head in 0..heads {
            let own = |t: &Tensor| t.narrow(2, head * width / heads, width / heads);
            let scores = own(&query).matmul(&own(&key).transpose(1, 2)) * (1.0 / 6f64.sqrt());
            let scores = scores.masked_fill(&ahead(g, 5), f64::NEG_INFINITY);
            seen.push(scores.softmax(2).matmul(&own(&project(2))));
        }
        let joined = g.concat(&seen.iter().collect::<Vec<_>>(), 2);
        let y = joined.matmul(&p["out_proj.weight"].transpose(0, 1)) + &p["out_proj.bias"];
        (vec![y], by(g, &q))
    };
    agree("rotary attention", &model, &definition);
}

fn block(x: &Tensor, p: Named<'_>, pre: bool, gelu: bool, hidden: Option<&Tensor>) -> Tensor {
    let attend = |x: &Tensor| composed::attention(x, x, 3, hidden, p, "self_attn.");
    let feed = |x: &Tensor| composed::feed_forward(x, p, "", gelu);
    let norm = |x: &Tensor, name: &str| composed::norm(x, p, name);
    if pre {
        let y = x + attend(&norm(x, "norm1"));
        return &y + feed(&norm(&y, "norm2"));
    }
    let y = norm(&(x + attend(x)), "norm1");
    norm(&(&y + feed(&y)), "norm2")
}

#[test]
fn encoder_blocks() {
    for (pre, gelu, causal) in
        [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
    {
        let mut layer = TransformerEncoderLayer::new(WIDTH, 3).dim_feedforward(17).dropout(0.0);
        if pre {
            layer = layer.norm_first();
        }
        if gelu {
            layer = layer.gelu();
        }
        let parameters = Parameters::new(&layer, 5).unwrap();
        let by = |g: &Graph, q: &Tensor| [vec![q.clone()], parameters.tensors(g).concat()].concat();
        let model = |g: &Graph| -> Computed {
            let q = x(g, &[2, 5, WIDTH], 1);
            let options = AttentionOptions { causal, ..AttentionOptions::default() };
            (vec![layer.run(&q, &options)], by(g, &q))
        };
        let definition = |g: &Graph| -> Computed {
            let q = x(g, &[2, 5, WIDTH], 1);
            let hidden = ahead(g, 5);
            let hidden = Some(&hidden).filter(|_| causal);
            (vec![block(&q, &by_name(&parameters, g), pre, gelu, hidden)], by(g, &q))
        };
        agree(
            &format!("a block, pre-norm {pre}, gelu {gelu}, causal {causal}"),
            &model,
            &definition,
        );
    }
}

#[test]
fn decoder_blocks() {
    for pre in [false, true] {
        let block = || {
            let block = TransformerDecoderLayer::new(WIDTH, 3).dim_feedforward(7).dropout(0.0);
            if pre { block.norm_first() } else { block }
        };
        let decoder = TransformerDecoder::new(2, block);
        let parameters = Parameters::new(&decoder, 5).unwrap();
        let inputs = |g: &Graph| (x(g, &[2, 4, WIDTH], 1), x(g, &[2, 6, WIDTH], 2));
        let by = |g: &Graph, a: &Tensor, b: &Tensor| {
            [vec![a.clone(), b.clone()], parameters.tensors(g).concat()].concat()
        };
        let model = |g: &Graph| -> Computed {
            let (q, memory) = inputs(g);
            let own = AttentionOptions { causal: true, ..AttentionOptions::default() };
            let y = decoder.run(&q, &memory, &own, &AttentionOptions::default());
            (vec![y], by(g, &q, &memory))
        };
        let definition = |g: &Graph| -> Computed {
            let (q, memory) = inputs(g);
            let p = &by_name(&parameters, g);
            let hidden = ahead(g, 4);
            let mut y = q.clone();
            for number in 0..2 {
                let of = |name: &str| format!("layers.{number}.{name}");
                let own =
                    |x: &Tensor| composed::attention(x, x, 3, Some(&hidden), p, &of("self_attn."));
                let cross = |x: &Tensor| {
                    composed::attention(x, &memory, 3, None, p, &of("multihead_attn."))
                };
                let feed = |x: &Tensor| composed::feed_forward(x, p, &of(""), false);
                let part = |x: Tensor, name: &str, part: &dyn Fn(&Tensor) -> Tensor| match pre {
                    true => &x + part(&composed::norm(&x, p, &of(name))),
                    false => composed::norm(&(&x + part(&x)), p, &of(name)),
                };
                y = part(y, "norm1", &own);
                y = part(y, "norm2", &cross);
                y = part(y, "norm3", &feed);
            }
            (vec![y], by(g, &q, &memory))
        };
        agree(&format!("decoder blocks, pre-norm {pre}"), &model, &definition);
    }
}

#[test]
fn defaults_names_and_shapes_are_those_of_pytorch() {
    let names = |layer: &dyn shadegrad::models::Named| -> Vec<String> {
        let parameters = Parameters::new(layer, 0).unwrap();
        parameters.names().map(|(name, shape)| format!("{name} {shape:?}")).collect()
    };
    let layer = || TransformerEncoderLayer::new(12, 3);
    assert_eq!(
        names(&TransformerEncoder::new(1, layer).norm(LayerNorm::new(&[12]))),
        [
            "layers.0.self_attn.in_proj_weight [36, 12]",
            "layers.0.self_attn.in_proj_bias [36]",
            "layers.0.self_attn.out_proj.weight [12, 12]",
            "layers.0.self_attn.out_proj.bias [12]",
            "layers.0.linear1.weight [2048, 12]",
            "layers.0.linear1.bias [2048]",
            "layers.0.linear2.weight [12, 2048]",
            "layers.0.linear2.bias [12]",
            "layers.0.norm1.weight [12]",
            "layers.0.norm1.bias [12]",
            "layers.0.norm2.weight [12]",
            "layers.0.norm2.bias [12]",
            "norm.weight [12]",
            "norm.bias [12]",
        ]
    );
    assert_eq!(names(&TransformerDecoderLayer::new(12, 3)).len(), 18);
}

#[test]
fn dropout_acts_in_training_only() {
    let layer = TransformerEncoderLayer::new(WIDTH, 3).dim_feedforward(16).dropout(0.5);
    let parameters = Parameters::new(&layer, 0).unwrap();
    let (seed, step) = (Variable::word("seed", 1), Variable::word("step", 0));
    let of = |graph: Graph| {
        let _ = parameters.tensors(&graph);
        layer.forward(&x(&graph, &[2, 5, WIDTH], 1)).eval(&Device::cpu(Some(1))).unwrap().data
    };
    let calm = of(Graph::new());
    assert_eq!(calm, of(Graph::new()));
    assert_ne!(calm, of(Graph::training(&seed, &step)));
}

#[test]
fn sines_and_learned_places() {
    let graph = Graph::new();
    let places = graph.iota(7).to(DType::F32);
    for width in [6, 7, 1] {
        let found = SinusoidalPositions.of(&places, width).eval(&Device::cpu(Some(1))).unwrap();
        assert_eq!(found.ty.shape, [7, width]);
        for place in 0..7 {
            for feature in 0..width {
                let rate = 10_000_f64.powf(-((feature / 2 * 2) as f64) / width as f64);
                let angle = place as f64 * rate;
                let expected = if feature % 2 == 0 { angle.sin() } else { angle.cos() };
                let got = found.at(&[place, feature]);
                assert!((got - expected).abs() < 2e-6, "{place} {feature}: {got} not {expected}");
            }
        }
    }
    let learned = LearnedPositions::new(4, 3);
    let words = x(&graph, &[2, 5, 3], 1);
    learned.first(&words, 5);
    let text = graph.error().unwrap().to_string();
    assert!(text.contains("a sequence of 5 where there are 4 places"), "{text}");
}

#[test]
fn rotary_scores_depend_on_distances_only() {
    // The same token everywhere: what a query gives to a key depends on how far apart they are.
    let one = MultiheadAttention::new(8, 1).rotary(100.0);
    let parameters = Parameters::new(&one, 2).unwrap();
    let graph = Graph::new();
    let _ = parameters.tensors(&graph);
    let token = x(&graph, &[1, 1, 8], 1).expand(&[1, 6, 8]);
    let (_, weights) =
        one.attend_with_weights(&token, &token, &token, &AttentionOptions::default());
    let found = weights.eval(&Device::cpu(Some(1))).unwrap();
    let ratio = |query: usize| found.at(&[0, query, query - 1]) / found.at(&[0, query, query + 1]);
    for query in 2..5 {
        assert!((ratio(query) / ratio(1) - 1.0).abs() < 1e-4, "{} {}", ratio(query), ratio(1));
    }
    assert!((ratio(1) - 1.0).abs() > 1e-3, "places make a difference");
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |run: &dyn Fn(&Graph)| {
        let graph = Graph::new();
        run(&graph);
        graph.error().unwrap().to_string()
    };
    let attend = |g: &Graph, layer: MultiheadAttention, width: usize| {
        let q = x(g, &[2, 3, width], 1);
        layer.attend(&q, &q, &q, &AttentionOptions::default());
    };
    let text = refused(&|g| attend(g, MultiheadAttention::new(12, 5), 12));
    assert!(text.contains("5 heads that divide the width"), "{text}");
    let text = refused(&|g| attend(g, MultiheadAttention::new(12, 4), 11));
    assert!(text.contains("[batch, length, 12]"), "{text}");
    let text = refused(&|g| attend(g, MultiheadAttention::new(12, 4).rotary(10.0), 12));
    assert!(text.contains("even width"), "{text}");
}
