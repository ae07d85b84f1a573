//! Extents of zero and one, in every operation that takes them.

use crate::{Build, agree, run, x};
use shadegrad::graph::Options;
use shadegrad::models::{cross_entropy, ctc_loss, l1_loss, mse_loss};
use shadegrad::prelude::*;

/// A layer: its name, the shapes of its parameters, and what it makes of them for a batch of so many.
type Layer = (&'static str, &'static [&'static [usize]], fn(&Graph, usize, &[Tensor]) -> Tensor);

fn plain() -> ConvOptions<2> {
    ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() }
}

fn images(g: &Graph, n: usize) -> Tensor {
    x(g, &[n, 2, 4, 4], 50)
}

const LAYERS: &[Layer] = &[
    ("linear", &[&[3, 5], &[3]], |g, n, p| x(g, &[n, 5], 50).linear(&p[0], Some(&p[1])).relu()),
    ("product of batches", &[&[5, 2]], |g, n, p| x(g, &[n, 3, 5], 50).matmul(&p[0]).tanh()),
    ("product with a vector", &[&[5]], |g, n, p| x(g, &[n, 5], 50).matmul(&p[0])),
    ("convolution", &[&[3, 2, 3, 3], &[3]], |g, n, p| {
        images(g, n).conv2d(&p[0], Some(&p[1]), &plain())
    }),
    ("signals", &[&[3, 2, 2]], |g, n, p| {
        x(g, &[n, 2, 5], 50).conv1d(&p[0], None, &ConvOptions::default())
    }),
    ("transposed convolution", &[&[2, 3, 2, 2]], |g, n, p| {
        images(g, n).conv_transpose2d(&p[0], None, &ConvOptions::default(), [0, 0])
    }),
    ("maxima of windows", &[&[2, 1, 1]], |g, n, p| {
        (images(g, n) * &p[0]).max_pool2d(&PoolOptions::new([2, 2]))
    }),
    ("means of windows", &[&[2, 1, 1]], |g, n, p| {
        (images(g, n) * &p[0]).avg_pool2d(&PoolOptions::new([2, 3]))
    }),
    ("adaptive pooling", &[&[2, 1, 1]], |g, n, p| {
        (images(g, n) * &p[0]).adaptive_avg_pool2d([3, 1])
    }),
    ("windows as columns", &[&[2, 1, 1]], |g, n, p| {
        (images(g, n) * &p[0]).unfold(&PoolOptions::new([2, 2]))
    }),
    ("another size", &[&[2, 1, 1]], |g, n, p| {
        (images(g, n) * &p[0])
            .interpolate(&[3, 7], Interpolation::Bilinear { align_corners: false })
    }),
    ("softmax", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).softmax(1)),
    ("log_softmax", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).log_softmax(-1)),
    ("layer norm", &[&[5], &[5]], |g, n, p| {
        x(g, &[n, 5], 50).layer_norm(&[5], Some(&p[0]), Some(&p[1]), 1e-5)
    }),
    ("rms norm", &[&[5]], |g, n, p| x(g, &[n, 5], 50).rms_norm(&[5], Some(&p[0]), 1e-5)),
    ("group norm", &[&[2], &[2]], |g, n, p| {
        images(g, n).group_norm(2, Some(&p[0]), Some(&p[1]), 1e-5)
    }),
    ("instance norm", &[&[2], &[2]], |g, n, p| {
        images(g, n).instance_norm(Some(&p[0]), Some(&p[1]), 1e-5)
    }),
    ("batch norm in use", &[&[2], &[2]], |g, n, p| {
        images(g, n).batch_norm(&g.zeros(&[2]), &g.ones(&[2]), Some(&p[0]), Some(&p[1]), 1e-5)
    }),
    ("attention", &[&[4, 4]], |g, n, p| {
        let (q, k) = (x(g, &[n, 3, 4], 50).matmul(&p[0]), x(g, &[n, 5, 4], 51));
        q.scaled_dot_product_attention(
            &k,
            &k,
            &AttentionOptions { causal: true, ..Default::default() },
        )
    }),
    ("sort", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).sort(1, true).0),
    ("sort of the batch", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).sort(0, false).0),
    ("cumsum", &[&[40]], |g, n, p| (x(g, &[n, 40], 50) * &p[0]).cumsum(1)),
    ("cumsum over the batch", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).cumsum(0)),
    ("cumprod", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).cumprod(1)),
    ("reductions", &[&[5]], |g, n, p| {
        let y = x(g, &[n, 5], 50) * &p[0];
        y.amax(&[1]) + y.prod(&[1]) + y.logsumexp(&[1]) + y.var(&[1], 1) + y.norm(2.0, &[1])
    }),
    ("gather", &[&[7, 3]], |g, n, p| {
        let index = g.iota(n * 2).reshape(&[n, 2]);
        p[0].embedding(&index, Some(1)).sum(&[1])
    }),
    ("scatter", &[&[5]], |g, n, p| {
        let source = x(g, &[n, 5], 50) * &p[0];
        let index = g.indices(&[5], &[1, 0, 1, 2, 2]).expand(&[n, 5]);
        x(g, &[n, 3], 51).scatter_add(1, &index, &source)
    }),
    ("concat", &[&[1, 5]], |g, n, p| {
        let y = x(g, &[n, 5], 50) * &p[0];
        g.concat(&[&y, &(&y * 2.0), &y.narrow(1, 2, 1)], 1)
    }),
    ("stack", &[&[5]], |g, n, p| {
        let y = x(g, &[n, 5], 50) * &p[0];
        g.stack(&[&y, &y.flip(1)], 1)
    }),
    ("halves", &[&[5]], |g, n, p| (x(g, &[n, 5], 50) * &p[0]).to(DType::F16).to(DType::F32)),
    ("cross-entropy", &[&[5]], |g, n, p| cross_entropy(&(x(g, &[n, 5], 50) * &p[0]), &g.iota(n))),
    ("squared error", &[&[5]], |g, n, p| {
        mse_loss(&(x(g, &[n, 5], 50) * &p[0]), &x(g, &[n, 5], 51), Reduction::None)
    }),
    ("absolute error", &[&[5]], |g, n, p| {
        l1_loss(&(x(g, &[n, 5], 50) * &p[0]), &x(g, &[n, 5], 51), Reduction::None)
    }),
    ("label sequences", &[&[4]], |g, n, p| {
        let logits = (x(g, &[6, n, 4], 50) * &p[0]).log_softmax(2);
        let labels = (g.iota(n * 2).reshape(&[n, 2]))
            .remainder(&g.iota(n * 2).reshape(&[n, 2]).full_like(3.0))
            + 1.0;
        let (times, lengths) = (labels.sum(&[1]).full_like(6.0), labels.sum(&[1]).full_like(2.0));
        ctc_loss(&logits, &labels, &times, &lengths, 0, Reduction::None)
    }),
];

/// A layer's result for a batch, and the gradients by its parameters.
fn trained(g: &Graph, n: usize, (_, shapes, forward): &Layer) -> Vec<Tensor> {
    let parameters: Vec<Tensor> =
        shapes.iter().zip(1..).map(|(shape, seed)| x(g, shape, seed)).collect();
    let y = forward(g, n, &parameters);
    // A row of zeros makes a sum that isn't empty; and each parameter has a slope of its own.
    let own = parameters.iter().fold(g.zeros(&[]), |sum, p| sum + p.sum_all() * 0.5);
    let loss = y.pad(0, 1, 0).sum_all() + own;
    let mut all = g.gradients(&loss, &parameters.iter().collect::<Vec<_>>());
    all.push(y);
    all
}

fn batches_of(n: usize) {
    for layer in LAYERS {
        let build: Build<'_> = &|g| trained(g, n, layer);
        agree(&[(layer.0, build)]);
    }
}

#[test]
fn layers_take_batches_of_one() {
    batches_of(1);
}

#[test]
fn layers_take_empty_batches() {
    batches_of(0);
    // Nothing flows: only the slopes that parameters have of their own are left.
    for layer in LAYERS {
        let g = Graph::new();
        let mut all = trained(&g, 0, layer);
        let y = all.pop().unwrap();
        assert!(y.shape()[0] == 0, "{} of an empty batch gives {y:?}", layer.0);
        let found = run(&Device::cpu(Some(1)), &g, &all, &Options::default()).unwrap();
        assert!(found.iter().flat_map(|a| &a.data).all(|&v| v == 0.5), "{}: {found:?}", layer.0);
    }
}

#[test]
fn sums_of_nothing_have_their_neutral_elements() {
    let build: Build<'_> = &|g| {
        let nothing = x(g, &[3, 0], 1);
        vec![
            nothing.sum(&[1]),
            nothing.prod(&[1]),
            nothing.prod(&[0]),
            nothing.sum_all(),
            nothing.any(&[1]).to(DType::F32),
            nothing.all(&[1]).to(DType::F32),
            // A product over an axis without elements is zero.
            nothing.matmul(&x(g, &[0, 4], 2)),
            x(g, &[2, 3, 0], 3).matmul(&x(g, &[2, 0, 2], 4)) + 1.0,
            // No matrices, of rows that several tasks would share.
            x(g, &[0, 2048, 64], 6).permute(&[0, 2, 1]).matmul(&x(g, &[0, 2048, 300], 7)),
            g.einsum("ik,jk->ij", &[&nothing, &nothing]),
            nothing.pad(1, 1, 2),
            g.concat(&[&nothing, &x(g, &[3, 2], 5), &nothing], 1),
        ]
    };
    agree(&[("nothing", build)]);
    let g = Graph::new();
    let mean = x(&g, &[3, 0], 1).mean(&[1]).eval(&Device::cpu(Some(1))).unwrap();
    assert!(mean.data.iter().all(|v| v.is_nan()), "the mean of nothing is {mean:?}");
}

#[test]
fn extents_of_one_everywhere() {
    let one = |g: &Graph, rank: usize, seed| x(g, &vec![1; rank], seed);
    let build: Build<'_> = &|g| {
        let image = one(g, 4, 1);
        let options = ConvOptions::default();
        let norm = image.layer_norm(&[1, 1], None, None, 0.1);
        let all = vec![
            image.conv2d(&one(g, 4, 2), Some(&one(g, 1, 3)), &options),
            image.conv_transpose2d(&one(g, 4, 2), None, &options, [0, 0]),
            image.max_pool2d(&PoolOptions::new([1, 1])),
            image.avg_pool2d(&PoolOptions::new([1, 1])),
            image.matmul(&one(g, 2, 4)),
            one(g, 1, 5).matmul(&one(g, 1, 6)),
            image.softmax(2),
            image.logsumexp(&[0, 3]),
            image.sort(1, false).0,
            image.cumsum(0),
            image.gather(3, &g.indices(&[1, 1, 1, 1], &[0])),
            one(g, 2, 7).scaled_dot_product_attention(
                &one(g, 2, 8),
                &one(g, 2, 9),
                &AttentionOptions::default(),
            ),
            image.interpolate(&[3, 2], Interpolation::Nearest),
            image.var(&[1], 0) + norm.sum(&[1]),
        ];
        let loss = all.iter().fold(g.zeros(&[]), |sum, y| sum + y.tanh().sum_all());
        [all, g.gradients(&loss, &[&image])].concat()
    };
    agree(&[("ones", build)]);
}
