//! Fusion as exact numbers of kernels, and that it changes no value: compositions of operations,
//! fused and unfused, on every device, against the f64 reference.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Limits, Term};
use shadegrad::graph::{Array, Compiled, GraphError, Options, check, compile};
use shadegrad::models::cross_entropy;
use shadegrad::prelude::*;

fn x(graph: &Graph, shape: &[usize], seed: u64) -> Tensor {
    let init = Init::Uniform { low: -1.5, high: 1.5, seed };
    graph.variable(&Variable::new("x", shape, DType::F32, init))
}

fn padded(zeros: usize) -> ConvOptions<2> {
    ConvOptions { padding: Padding::Zeros([zeros; 2]), ..ConvOptions::default() }
}

fn kernels(outputs: &[&Tensor]) -> Compiled {
    let nodes = outputs[0].graph().nodes(outputs).unwrap();
    compile(&nodes, &Limits::WEBGPU, &Options::default()).unwrap()
}

fn count(outputs: &[&Tensor]) -> usize {
    kernels(outputs).program.kernels.len()
}

#[test]
fn chains_prologues_and_epilogues_are_one_kernel() {
    let g = Graph::new();
    let a = x(&g, &[32, 48], 1);
    let chain = ((&a * 2.0 + 1.0).tanh() * a.exp()).relu();
    assert_eq!(count(&[&chain]), 1, "a pointwise chain");
    assert_eq!(count(&[&chain.sum(&[1])]), 1, "a reduction with a prologue");
    assert_eq!(count(&[&(chain.sum(&[0]) * 2.0).sqrt()]), 1, "with prologue and epilogue");
    let w = x(&g, &[48, 16], 2);
    let b = x(&g, &[16], 3);
    assert_eq!(count(&[&(a.matmul(&w) + &b).relu()]), 1, "a product with bias and relu");
    assert_eq!(count(&[&(&a * 0.5).matmul(&w)]), 1, "a product with a cheap prologue");
    assert_eq!(count(&[&a.transpose(0, 1).matmul(&a)]), 1, "a transposed product copies nothing");
    let image = x(&g, &[2, 3, 8, 8], 4);
    let filter = x(&g, &[4, 3, 3, 3], 5);
    let bias = x(&g, &[1, 4, 1, 1], 6);
    let conv = (image.conv2d(&filter, None, &padded(1)) + &bias).relu();
    assert_eq!(count(&[&conv]), 1, "a convolution with bias and relu");
    assert_eq!(count(&[&(conv.max_pool2d(&PoolOptions::new([2, 2])) * 2.0)]), 2, "and pooling");
}

#[test]
fn masks_that_choose_between_constants_are_seen_through() {
    let g = Graph::new();
    let scores = x(&g, &[4, 3, 16, 16], 1);
    let (from, to) = (g.iota(16).reshape(&[16, 1]), g.iota(16));
    let later = from.expand(&[16, 16]).less(&to.expand(&[16, 16]));
    let full = |value: f64| g.full(&[16, 16], DType::F32, value);
    let bias = later.select(&full(f64::NEG_INFINITY), &full(0.0)).expand(&[4, 3, 16, 16]);
    let masked = bias.less_equal(&bias.full_like(f64::from(f32::MIN)));
    let zero = scores.zeros_like();
    let kept = masked.select(&zero, &scores) + masked.select(&zero, &bias);
    let result = masked.select(&scores.full_like(f64::NEG_INFINITY), &kept);
    let operations = |options: &Options| {
        let nodes = g.nodes(&[&result]).unwrap();
        let compiled = compile(&nodes, &Limits::WEBGPU, options).unwrap();
        let terms = compiled.program.kernels.iter().flat_map(|kernel| &kernel.expr.terms);
        terms.filter(|term| matches!(term, Term::Apply { .. })).count()
    };
    assert_eq!(operations(&Options::default()), 2, "a comparison and a choice");
    assert!(operations(&Options { simplify: false, ..Options::default() }) >= 6);
    let device = Device::cpu(Some(1));
    let [found, all] = [&result, &scores].map(|tensor| tensor.eval(&device).unwrap().data);
    for (point, (found, score)) in found.iter().zip(&all).enumerate() {
        let later = point / 16 % 16 < point % 16;
        assert_eq!(*found, if later { f64::NEG_INFINITY } else { *score }, "at {point}");
    }
}

#[test]
fn softmax_with_its_loss_and_gradient_is_one_row_kernel() {
    let g = Graph::new();
    let logits = x(&g, &[40, 10], 1);
    let labels = g.variable(&Variable::new("labels", &[40], DType::U32, Init::Full(3.0)));
    assert_eq!(count(&[&logits.softmax(1)]), 1);
    assert_eq!(count(&[&cross_entropy(&logits, &labels)]), 1);
    let each = cross_entropy(&logits, &labels);
    let gradient = &g.gradients(&each.mean_all(), &[&logits])[0];
    assert_eq!(count(&[&each, gradient]), 1, "losses and gradient");
}

#[test]
fn layer_norm_is_one_row_kernel() {
    let g = Graph::new();
    let a = x(&g, &[12, 100], 1);
    let centred = &a - a.mean(&[1]).unsqueeze(1);
    let variance = (&centred * &centred).mean(&[1]).unsqueeze(1);
    let normal = &centred / (variance + 1e-5).sqrt() * x(&g, &[100], 2) + x(&g, &[100], 3);
    assert_eq!(count(&[&normal]), 1);
}

#[test]
fn a_dropout_mask_is_never_stored() {
    let g = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
    let a = x(&g, &[64, 64], 1);
    let dropped = Dropout::new(0.5).forward(&a.tanh());
    let gradient = &g.gradients(&(&dropped * &dropped).sum_all(), &[&a])[0];
    let compiled = kernels(&[gradient]);
    // The key is one word; everything else that is kept has the size of the input.
    let kept: usize = compiled.report.slots.iter().map(|slot| slot.bytes).sum();
    assert!(kept <= 2 * 64 * 64 * 4 + 64, "{:?}", compiled.report.slots);
}

#[test]
fn optimizers_update_everything_in_one_kernel() {
    let mlp = Mlp::new(&[20, 30, 30, 30, 10]);
    let parameters = Parameters::new(&mlp, 0).unwrap();
    let g = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
    let loss = mlp.forward(&x(&g, &[8, 20], 1)).sum_all();
    Updater::new(&parameters, AdamW::new(1e-3)).record(&g, &parameters, &loss);
    let compiled = compile(&g.nodes(&[]).unwrap(), &Limits::WEBGPU, &Options::default()).unwrap();
    let whole = |k: &&shadegrad::device::Kernel| k.body.domain() == [parameters.count()];
    assert_eq!(compiled.program.kernels.iter().filter(whole).count(), 1);
}

type Case = (&'static str, fn(&Graph) -> Vec<Tensor>);

const CASES: &[Case] = &[
    ("softmax of a middle axis", |g| vec![x(g, &[3, 5, 7], 1).softmax(1)]),
    ("two reductions of one input", |g| {
        let a = x(g, &[6, 65], 1);
        vec![a.amax(&[1]), a.sum(&[1]), a.argmax(1).to(DType::F32), &a - a.amin(&[1]).unsqueeze(1)]
    }),
    ("reductions over several axes and orders", |g| {
        let a = x(g, &[4, 3, 5, 2], 1);
        vec![(&a * &a).sum(&[0, 2]), a.exp().sum(&[1, 3]), a.permute(&[2, 0, 3, 1]).sum(&[0, 1])]
    }),
    ("padding of what is computed", |g| {
        let a = x(g, &[4, 5], 1);
        vec![
            a.exp().pad(0, 1, 2).pad(1, 0, 3),
            (&a + 1.0).pad(1, 2, 0).sum(&[0]),
            a.cos().pad(0, 0, 1).flip(0),
        ]
    }),
    ("concatenation", |g| {
        let (a, b) = (x(g, &[3, 4], 1), x(g, &[3, 2], 2));
        vec![g.concat(&[&a, &b.exp(), &a], 1), g.concat(&[&a.sum(&[0]), &b.sum(&[0])], 0)]
    }),
    ("slices, steps and flips", |g| {
        let a = x(g, &[9, 8], 1);
        vec![
            a.slice(0, 8, -3, 3).slice(1, 1, 2, 3),
            a.tanh().flip(1).narrow(0, 2, 5),
            a.reshape(&[3, 3, 8]).transpose(0, 2).reshape(&[8, 9]),
        ]
    }),
    ("broadcast back and forth", |g| {
        let (a, b) = (x(g, &[1, 7], 1), x(g, &[5, 1], 2));
        let sum = &a + &b;
        vec![(&sum * &sum).sum(&[0]), (sum.sum(&[1]).unsqueeze(1) * &sum).exp()]
    }),
    ("gather and scatter of what is computed", |g| {
        let a = x(g, &[6, 4], 1);
        let index = g.iota(3).reshape(&[3, 1]).expand(&[3, 4]);
        let odd = (&index * 2.0) + 1.0;
        let taken = a.exp().gather(0, &odd);
        vec![
            &taken * 2.0,
            g.zeros(&[5, 4]).scatter_add(0, &index, &taken),
            a.index_select(0, &g.iota(2)).relu(),
        ]
    }),
    ("an index outside", |g| {
        let a = x(g, &[4], 1);
        let index = g.iota(4) + 2.0;
        vec![
            a.gather(0, &index).to(DType::Bool).to(DType::F32),
            g.zeros(&[4]).scatter_add(0, &index, &a),
        ]
    }),
    ("a product of products", |g| {
        let (a, b) = (x(g, &[5, 6], 1), x(g, &[6, 5], 2));
        let c = a.matmul(&b);
        vec![c.matmul(&c.transpose(0, 1)).relu(), (&c + c.transpose(0, 1)).sum(&[0])]
    }),
    ("vectors and batches in products", |g| {
        let (v, m, t) = (x(g, &[6], 1), x(g, &[6, 4], 2), x(g, &[2, 3, 5, 6], 3));
        vec![v.matmul(&m), t.matmul(&m), t.matmul(&v), v.matmul(&v), t.matmul(&t.transpose(2, 3))]
    }),
    ("gradients through normalisation", |g| {
        let a = x(g, &[5, 33], 1);
        let centred = &a - a.mean(&[1]).unsqueeze(1);
        let y = &centred / ((&centred * &centred).mean(&[1]).unsqueeze(1) + 1e-5).sqrt();
        let loss = (&y * x(g, &[5, 33], 2)).sum_all();
        g.gradients(&loss, &[&a])
    }),
    ("gradients through activations", |g| {
        let a = x(g, &[65], 1);
        let y =
            a.gelu_tanh() + a.silu() * a.softplus() + a.elu(1.0) - a.leaky_relu(0.1) + a.powf(3.0);
        g.gradients(&y.sum_all(), &[&a])
    }),
    ("gradients through a small network", |g| {
        let (a, w, f) = (x(g, &[2, 2, 6, 6], 1), x(g, &[12, 5], 2), x(g, &[3, 2, 3, 3], 3));
        let h = a.conv2d(&f, None, &padded(0)).relu().avg_pool2d(&PoolOptions::new([2, 2]));
        let y = h.flatten(1).matmul(&w).tanh();
        g.gradients(&(&y * &y).sum_all(), &[&a, &w, &f])
    }),
    ("values that are nothing but views", |g| {
        let a = x(g, &[3, 4], 1);
        vec![
            a.clone(),
            a.transpose(0, 1),
            a.narrow(1, 1, 2),
            g.full(&[2, 2], DType::F32, 5.0),
            g.iota(5).to(DType::F32),
        ]
    }),
    ("packed tensors", |g| {
        let (a, b) = (x(g, &[3, 4], 1), x(g, &[5], 2));
        let packed = g.pack(&[&a.exp(), &b, &a.sum(&[0]), &a.exp()]);
        vec![&packed * 2.0, packed.sum_all()]
    }),
    ("variance and log of sums", |g| {
        let a = x(g, &[3, 5, 7], 1);
        vec![
            a.var(&[1], 1),
            a.var(&[0, 2], 0),
            (&a * 50.0).logsumexp(&[2]),
            (-&a).argmax(1).to(DType::F32),
        ]
    }),
    ("nothing at all", |g| {
        let a = x(g, &[0, 3], 1);
        vec![(&a * 2.0).exp(), a.sum(&[0])]
    }),
];

#[test]
fn compositions_agree_with_the_reference_fused_or_not() {
    let mut failures = Vec::new();
    for (device, _) in harness::devices() {
        for (name, build) in CASES {
            for fuse in [true, false] {
                let g = Graph::new();
                let outputs = build(&g);
                let outputs: Vec<&Tensor> = outputs.iter().collect();
                let expected = g.reference(&outputs).unwrap();
                let mut session = Session::new(&device);
                let options = Options { fuse, guard: 16, ..Options::default() };
                let mut run = || -> Result<Vec<Array>, GraphError> {
                    let mut loaded = session.compile_with(&g, &outputs, &options)?;
                    loaded.run(2)?;
                    loaded.check_guards()?;
                    (0..outputs.len()).map(|i| loaded.read_array(i)).collect()
                };
                let got = run().unwrap_or_else(|e| panic!("{name}: {e}"));
                for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    // Sums of at most 66 terms below 100; adapters' functions within 2^-11.
                    let allowed: Vec<f64> =
                        expected.data.iter().map(|e| 1e-3 * (1.0 + e.abs())).collect();
                    if let Err(reason) = check::compare(got, expected, &allowed) {
                        failures.push(format!(
                            "{name}, output {number}, fuse {fuse}, {}: {reason}",
                            device.info()
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn assignments_see_what_was_there_before_the_step() {
    for (device, _) in harness::devices() {
        for fuse in [true, false] {
            let start: Vec<f32> = (0..9).map(|i| i as f32).collect();
            let bytes = |scale: f32| -> Vec<u8> {
                start.iter().flat_map(|v| (v * scale).to_le_bytes()).collect()
            };
            let variable =
                |name, scale| Variable::from_bytes(name, &[3, 3], DType::F32, bytes(scale));
            let (a, b, c) = (variable("a", 1.0), variable("b", 10.0), variable("c", 0.0));
            let g = Graph::new();
            let (old_a, old_b) = (g.variable(&a), g.variable(&b));
            // Swapped, one of them transposed, and both read by a third.
            g.assign(&a, &old_b);
            g.assign(&b, &old_a.transpose(0, 1));
            g.assign(&c, &(&old_a + &old_b));
            let product = old_a.matmul(&old_b);
            let mut session = Session::new(&device);
            let options = Options { fuse, ..Options::default() };
            let mut step = session.compile_with(&g, &[&product], &options).unwrap();
            step.run(1).unwrap();
            let read = |session: &mut Session, v: &Variable| session.read_array(v).unwrap().data;
            let at = |i: usize| i as f64;
            let transposed: Vec<f64> = (0..9).map(|i| at(i % 3 * 3 + i / 3)).collect();
            assert_eq!(read(&mut session, &a), (0..9).map(|i| at(i) * 10.0).collect::<Vec<_>>());
            assert_eq!(read(&mut session, &b), transposed);
            assert_eq!(read(&mut session, &c), (0..9).map(|i| at(i) * 11.0).collect::<Vec<_>>());
            assert_eq!(step.read_array(0).unwrap().data[0], (3.0 + 12.0) * 10.0);
        }
    }
}

#[test]
fn attention_stores_no_scores() {
    let g = Graph::new();
    let [query, key, value] = [1, 2, 3].map(|seed| x(&g, &[2, 64, 8], seed));
    let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
    let y = query.scaled_dot_product_attention(&key, &value, &options);
    let counts = kernels(&[&y]).program.counts(&Limits::CPU);
    // The inputs and the result, and nothing of the size of the 2 x 64 x 64 scores.
    let bytes = 2 * 64 * 8 * 4;
    assert_eq!((counts.dispatches, counts.bytes_read, counts.bytes_written), (1, 3 * bytes, bytes));
    assert_eq!(counts.scratch_bytes as u64, bytes, "the result");
}
