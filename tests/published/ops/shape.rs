//! Movement, indexing, and values that are used more than once.

use super::{Call, Outputs, y};
use shadegrad::graph::{PadMode, PoolOptions, Tensor};

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    moved(call).or_else(|| joined(call)).or_else(|| indexed(call)).map(y).or_else(|| split(call))
}

/// Movement of `x`.
fn moved(call: &Call<'_>) -> Option<Tensor> {
    let x = call.find("x")?;
    Some(match call.op() {
        "permute" => x.permute(&call.list("dims")),
        "permute_then_reshape" => x.permute(&call.list("dims")).flatten(0),
        "flip" => {
            assert_eq!(call.text("dims"), "first,last");
            x.flip(0).flip(-1)
        }
        "roll" => x.roll(call.signed("shifts"), call.signed("dims")),
        "tril" => x.tril(call.signed("diagonal")),
        "triu" => x.triu(call.signed("diagonal")),
        "diagonal" => x.diagonal(call.signed("offset")),
        "slice" => slice(call, x),
        "pad" => pad(call, x),
        "expand" => x.expand(&call.sizes("shape")),
        "repeat" => x.repeat(&call.sizes("repeats")),
        "unfold_im2col" => x.unfold(&windows(call)),
        "fold_col2im" => x.fold(call.each("output_size"), &windows(call)),
        "pixel_shuffle" => x.pixel_shuffle(call.count("upscale")),
        "chunk_reuse" => {
            let (left, middle) = (x.narrow(1, 0, 2), x.narrow(1, 1, 2));
            &left + &left * middle
        }
        "reuse_grad_accumulation" => x * x + x * x.sum_all() - x,
        "diamond" => x.sin() * x.cos() + x.sigmoid(),
        "detach_branch" => x * x.detach(),
        "deep_chain_200" => (0..200).fold(x.clone(), |v, _| &v * 0.99 + v.sin() * 0.01),
        _ => return None,
    })
}

/// `[start, stop, step]` for each axis in turn.
fn slice(call: &Call<'_>, x: &Tensor) -> Tensor {
    let ranges = call.attr("start_stop_step").as_array().unwrap();
    ranges.iter().enumerate().fold(x.clone(), |x, (axis, range)| {
        let [start, stop, step] = [0usize, 1, 2].map(|i| range[i].as_u64().unwrap() as usize);
        x.slice(axis, start, step as isize, (stop - start).div_ceil(step))
    })
}

/// Elements before and after, for pairs of axes from the last on; negative ones crop.
fn pad(call: &Call<'_>, x: &Tensor) -> Tensor {
    let mode = match call.text("mode") {
        "constant" => PadMode::Constant(call.number("value")),
        "reflect" => PadMode::Reflect,
        "replicate" => PadMode::Replicate,
        "circular" => PadMode::Circular,
        other => panic!("no padding is called `{other}`"),
    };
    let amounts = call.list("pad");
    let pairs: Vec<(isize, isize)> = amounts.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    x.pad_with(&pairs, mode)
}

fn windows(call: &Call<'_>) -> PoolOptions<2> {
    PoolOptions {
        stride: call.each("stride"),
        padding: call.each("padding"),
        dilation: call.each("dilation"),
        ..PoolOptions::new(call.each("kernel"))
    }
}

/// Several tensors in one.
fn joined(call: &Call<'_>) -> Option<Tensor> {
    match call.op() {
        "cat" => Some(call.graph.concat(&call.series(), call.signed("dim"))),
        "stack" => Some(call.graph.stack(&call.series(), call.signed("dim"))),
        _ => None,
    }
}

/// Reads and writes where indices say.
fn indexed(call: &Call<'_>) -> Option<Tensor> {
    let index = call.find("index")?;
    let (x, source) = (|| call.input("x"), || call.input("src"));
    let axis = || call.signed("dim");
    Some(match call.op() {
        "gather" => x().gather(axis(), index),
        "scatter" => x().scatter(axis(), index, source()),
        "scatter_add" => x().scatter_add(axis(), index, source()),
        "index_select" => x().index_select(axis(), index),
        "index_add" => x().index_add(axis(), index, source()),
        "embedding" => {
            // The row of padding is read like others, but its gradient is zero.
            let padding = call.attr("padding_idx").as_u64().map(|row| row as usize);
            call.input("w").embedding(index, padding)
        }
        "one_hot" => index.one_hot(call.count("num_classes")),
        _ => return None,
    })
}

/// Parts of an axis, `y0`, `y1`, ...: of sizes that are listed, or of one size but for the last.
fn split(call: &Call<'_>) -> Option<Outputs> {
    if call.op() != "split" {
        return None;
    }
    let (x, axis) = (call.input("x"), call.count("dim"));
    let sizes = match call.attr("sizes").is_array() {
        true => call.sizes("sizes"),
        false => {
            let (whole, size) = (x.shape()[axis], call.count("sizes"));
            (0..whole).step_by(size).map(|start| size.min(whole - start)).collect()
        }
    };
    let parts = x.split(&sizes, axis).into_iter().enumerate();
    Some(parts.map(|(number, part)| (format!("y{number}"), part)).collect())
}
