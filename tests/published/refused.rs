//! Calls that PyTorch refuses and that can be refused when they are recorded: the message names
//! the operation and the shapes.

use shadegrad::device::Limits;
use shadegrad::graph::{ConvOptions, PadMode, PoolOptions};
use shadegrad::models::{
    CrossEntropyOptions, Reduction, binary_cross_entropy, cross_entropy_with, mse_loss, nll_loss,
};
use shadegrad::prelude::*;

/// An error of the index, what the message must contain, and the call. Words with `|` between
/// them are alternatives: a composed function may let the operation that it is made of refuse.
type Refusal = (&'static str, &'static [&'static str], fn(&Graph) -> Tensor);

/// A variable of floats.
pub(crate) fn x(g: &Graph, shape: &[usize]) -> Tensor {
    g.variable(&Variable::new("x", shape, DType::F32, Init::Full(1.0)))
}

/// A convolution of an image with a filter.
fn conv(g: &Graph, image: &[usize], filter: &[usize], options: ConvOptions<2>) -> Tensor {
    x(g, image).conv2d(&x(g, filter), None, &options)
}

/// Cross-entropy with class indices.
fn entropy(logits: &Tensor, classes: usize, options: CrossEntropyOptions) -> Tensor {
    let target = logits.graph().indices(&[classes], &vec![0; classes]);
    cross_entropy_with(logits, &target, &options, Reduction::Mean)
}

/// Square windows.
fn windows(kernel: usize) -> PoolOptions<2> {
    PoolOptions::new([kernel; 2])
}

const MEAN: Reduction = Reduction::Mean;

pub(crate) const REFUSED: &[Refusal] = &[
    // Products and broadcasting.
    ("matmul_inner_mismatch", &["matmul", "[2, 3]", "[4, 5]"], |g| {
        x(g, &[2, 3]).matmul(&x(g, &[4, 5]))
    }),
    ("matmul_vec_mismatch", &["matmul", "[3]|[1, 3]", "[4]|[4, 1]"], |g| {
        x(g, &[3]).matmul(&x(g, &[4]))
    }),
    ("matmul_batch_mismatch", &["matmul", "[2, 3, 4]", "[3, 4, 5]"], |g| {
        x(g, &[2, 3, 4]).matmul(&x(g, &[3, 4, 5]))
    }),
    ("matmul_scalar", &["matmul", "[]", "[3]"], |g| x(g, &[]).matmul(&x(g, &[3]))),
    ("linear_in_mismatch", &["linear|matmul", "[2, 3]", "[5, 4]|[4, 5]"], |g| {
        x(g, &[2, 3]).linear(&x(g, &[5, 4]), None)
    }),
    ("linear_bias_mismatch", &["linear|add", "[4]", "[5, 3]|[2, 5]"], |g| {
        x(g, &[2, 3]).linear(&x(g, &[5, 3]), Some(&x(g, &[4])))
    }),
    ("einsum_bad", &["einsum", "[2, 3]", "[4, 5]"], |g| {
        g.einsum("ij,jk->ik", &[&x(g, &[2, 3]), &x(g, &[4, 5])])
    }),
    ("broadcast_mismatch", &["add", "[2, 3]", "[4]"], |g| x(g, &[2, 3]) + x(g, &[4])),
    ("broadcast_mismatch_mid", &["mul", "[2, 3, 4]", "[2, 4, 4]"], |g| {
        x(g, &[2, 3, 4]) * x(g, &[2, 4, 4])
    }),
    // Convolutions and pooling.
    ("conv_channel_mismatch", &["conv2d", "[1, 3, 5, 5]", "[4, 2, 3, 3]"], |g| {
        conv(g, &[1, 3, 5, 5], &[4, 2, 3, 3], ConvOptions::default())
    }),
    ("conv_kernel_too_big", &["conv2d", "[1, 1, 3, 3]", "[1, 1, 5, 5]"], |g| {
        conv(g, &[1, 1, 3, 3], &[1, 1, 5, 5], ConvOptions::default())
    }),
    ("conv_groups_indivisible", &["conv2d", "[1, 4, 5, 5]", "[3, 1, 3, 3]"], |g| {
        let options = ConvOptions { groups: 3, ..ConvOptions::default() };
        conv(g, &[1, 4, 5, 5], &[3, 1, 3, 3], options)
    }),
    ("conv_stride_zero", &["conv2d", "[1, 1, 5, 5]"], |g| {
        let options = ConvOptions { stride: [0, 0], ..ConvOptions::default() };
        conv(g, &[1, 1, 5, 5], &[1, 1, 3, 3], options)
    }),
    ("conv_dilation_zero", &["conv2d", "[1, 1, 5, 5]"], |g| {
        let options = ConvOptions { dilation: [0, 0], ..ConvOptions::default() };
        conv(g, &[1, 1, 5, 5], &[1, 1, 3, 3], options)
    }),
    ("conv_rank", &["conv2d", "[5, 5]"], |g| {
        conv(g, &[5, 5], &[1, 1, 3, 3], ConvOptions::default())
    }),
    ("conv_bias_size", &["conv2d", "[4, 3, 3, 3]", "[3]"], |g| {
        let (image, filter) = (x(g, &[1, 3, 5, 5]), x(g, &[4, 3, 3, 3]));
        image.conv2d(&filter, Some(&x(g, &[3])), &ConvOptions::default())
    }),
    ("convt_output_padding", &["conv_transpose2d", "[1, 3, 4, 4]"], |g| {
        let (image, filter) = (x(g, &[1, 3, 4, 4]), x(g, &[3, 2, 3, 3]));
        image.conv_transpose2d(&filter, None, &ConvOptions::default(), [1, 1])
    }),
    ("pool_pad_too_big", &["max_pool2d", "[1, 1, 4, 4]"], |g| {
        x(g, &[1, 1, 4, 4]).max_pool2d(&PoolOptions { padding: [2, 2], ..windows(2) })
    }),
    ("pool_output_zero", &["max_pool2d", "[1, 1, 2, 2]"], |g| {
        x(g, &[1, 1, 2, 2]).max_pool2d(&windows(3))
    }),
    ("pool_stride_zero", &["avg_pool2d", "[1, 1, 4, 4]"], |g| {
        x(g, &[1, 1, 4, 4]).avg_pool2d(&PoolOptions { stride: [0, 0], ..windows(2) })
    }),
    // Movement.
    ("reshape_count", &["reshape", "[2, 3]", "[4, 2]"], |g| x(g, &[2, 3]).reshape(&[4, 2])),
    ("permute_repeat", &["permute", "[2, 3]", "[0, 0]"], |g| x(g, &[2, 3]).permute(&[0, 0])),
    ("permute_rank", &["permute", "[2, 3]", "[0, 1, 2]"], |g| x(g, &[2, 3]).permute(&[0, 1, 2])),
    ("cat_mismatch", &["concat", "[2, 3]", "[2, 4]"], |g| {
        g.concat(&[&x(g, &[2, 3]), &x(g, &[2, 4])], 0)
    }),
    ("cat_empty_list", &["concat"], |g| g.concat(&[], 0)),
    ("stack_mismatch", &["stack", "[2]", "[3]"], |g| g.stack(&[&x(g, &[2]), &x(g, &[3])], 0)),
    ("expand_shrink", &["expand", "[3]", "[2]"], |g| x(g, &[3]).expand(&[2])),
    ("squeeze_dim_range", &["squeeze", "[3]", "5"], |g| x(g, &[3]).squeeze(5)),
    ("split_sizes", &["split", "[5]", "[1, 3]"], |g| {
        x(g, &[5]).split(&[1, 3], 0).pop().unwrap_or_else(|| x(g, &[]))
    }),
    ("slice_step_zero", &["slice", "[5]"], |g| x(g, &[5]).slice(0, 0, 0, 5)),
    ("narrow_range", &["narrow|slice", "[5]"], |g| x(g, &[5]).narrow(0, 3, 4)),
    ("pad_reflect_too_big", &["pad", "[1, 1, 4, 4]"], |g| {
        x(g, &[1, 1, 4, 4]).pad_with(&[(5, 0)], PadMode::Reflect)
    }),
    ("pad_negative_result", &["pad|slice", "[4]"], |g| {
        x(g, &[4]).pad_with(&[(-3, -3)], PadMode::Constant(0.0))
    }),
    // Reductions and searches.
    ("dim_out_of_range", &["sum", "[2, 3]", "2"], |g| x(g, &[2, 3]).sum(&[2])),
    ("amax_empty", &["max", "[0]"], |g| x(g, &[0]).amax(&[0])),
    ("argmax_empty", &["max", "[0]"], |g| x(g, &[0]).argmax(0)),
    ("topk_too_many", &["topk", "[5]", "9"], |g| x(g, &[5]).topk(9, 0, true).0),
    ("dtype_index_float", &["embedding|gather", "f32[2"], |g| {
        x(g, &[7, 3]).embedding(&x(g, &[2]), None)
    }),
    // Normalisation.
    ("bn_single_value", &["batch_norm", "[1, 3]"], |g| {
        x(g, &[1, 3]).batch_norm_train(None, None, 1e-5).0
    }),
    ("bn_running_size", &["batch_norm", "[4]"], |g| {
        x(g, &[2, 3]).batch_norm(&x(g, &[4]), &x(g, &[3]), None, None, 1e-5)
    }),
    ("ln_shape", &["layer_norm", "[2, 3]", "[4]"], |g| {
        x(g, &[2, 3]).layer_norm(&[4], None, None, 1e-5)
    }),
    ("gn_groups", &["group_norm", "[2, 5, 3]", "2"], |g| {
        x(g, &[2, 5, 3]).group_norm(2, None, None, 1e-5)
    }),
    // Losses.
    ("ce_batch_mismatch", &["cross_entropy", "[4, 3]", "[3]"], |g| {
        entropy(&x(g, &[4, 3]), 3, CrossEntropyOptions::default())
    }),
    ("ce_weight_size", &["cross_entropy", "[4, 3]", "[2]"], |g| {
        let weight = Some(x(g, &[2]));
        entropy(&x(g, &[4, 3]), 4, CrossEntropyOptions { weight, ..CrossEntropyOptions::default() })
    }),
    ("ce_label_smoothing_range", &["cross_entropy", "1.5"], |g| {
        let label_smoothing = 1.5;
        let options = CrossEntropyOptions { label_smoothing, ..CrossEntropyOptions::default() };
        entropy(&x(g, &[4, 3]), 4, options)
    }),
    ("bce_shape", &["binary_cross_entropy|mul|sub", "[2]", "[3]"], |g| {
        binary_cross_entropy(&x(g, &[2]), &x(g, &[3]), MEAN)
    }),
    ("mse_shape", &["mse_loss|sub", "[2]", "[3]"], |g| mse_loss(&x(g, &[2]), &x(g, &[3]), MEAN)),
    ("nll_target_dtype", &["nll_loss", "f32[2]"], |g| {
        nll_loss(&x(g, &[2, 3]), &x(g, &[2]), &CrossEntropyOptions::default(), MEAN)
    }),
    // Constants.
    ("arange_step", &["arange"], |g| g.arange(0.0, 5.0, 0.0)),
    ("overflow_size", &["zeros|full", "1099511627776"], |g| g.zeros(&[1 << 40, 1 << 40])),
    ("alloc_too_big", &["bytes"], |g| g.zeros(&[1 << 48])),
    // Gradients.
    ("backward_non_scalar", &["gradients", "[3]", "scalar"], |g| {
        let x = x(g, &[3]);
        g.gradients(&x, &[&x]).remove(0)
    }),
    ("backward_no_grad", &["does not depend on x"], |g| {
        let loss = g.full(&[], DType::F32, 1.0);
        g.gradients(&loss, &[&x(g, &[3])]).remove(0)
    }),
    ("cotangent_shape", &["mul", "[3]", "[4]"], |g| {
        let y = x(g, &[3]);
        g.gradients(&(&y * x(g, &[4])).sum_all(), &[&y]).remove(0)
    }),
    ("grad_of_int", &["ids|gradients"], |g| {
        let ids = g.variable(&Variable::new("ids", &[2], DType::U32, Init::Full(0.0)));
        g.gradients(&x(g, &[7, 3]).embedding(&ids, None).sum_all(), &[&ids]).remove(0)
    }),
];

#[test]
fn wrong_calls_are_refused_with_the_operation_and_the_shapes() {
    let mut failures = Vec::new();
    for (id, words, build) in REFUSED {
        let graph = Graph::new();
        let value = build(&graph);
        // What no device can hold is refused when it is to be loaded: by a device of which nothing
        // is needed but its limits.
        let load = || {
            let device = Device::null(Limits::WEBGPU);
            Session::new(&device).compile(&graph, &[&value]).err()
        };
        let Some(error) = graph.error().or_else(load) else {
            failures.push(format!("{id} is accepted"));
            continue;
        };
        let text = error.to_string();
        for word in words.iter().filter(|word| !word.split('|').any(|w| text.contains(w))) {
            failures.push(format!("{id}: `{word}` is not in: {text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
