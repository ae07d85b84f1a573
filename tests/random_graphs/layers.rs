//! Steps that are products, windows, normalisations, attention, and what is stored or drawn.

use crate::compose::Composer;
use shadegrad::prelude::*;

pub(crate) fn matmul(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let rank = c.dice.pick(&[1, 2, 2, 3, 4]);
    let left = c.in_rank(&x, rank);
    let shape = left.shape();
    let k = shape[rank - 1];
    let columns = c.extent();
    let right = match c.dice.below(4) {
        0 => vec![k],
        1 | 2 => vec![k, columns],
        _ => {
            let batch = shape[..rank.saturating_sub(2)].iter();
            let mut wanted: Vec<usize> = batch.copied().collect();
            if wanted.is_empty() {
                wanted.push(2);
            } else if c.dice.chance(40) {
                wanted[0] = 1;
            }
            wanted.extend([k, columns]);
            wanted
        }
    };
    let right = c.of_shape(&right);
    if c.dice.chance(15) && rank == 2 {
        return Some(left.matmul(&left.transpose(0, 1)));
    }
    Some(left.matmul(&right))
}

pub(crate) fn linear(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let k = *x.shape().last()?;
    let out = c.dice.pick(&[1, 2, 5]);
    let (weight, bias) = (c.of_shape(&[out, k]), c.of_shape(&[out]));
    Some(x.linear(&weight, Some(&bias).filter(|_| c.dice.chance(60))))
}

pub(crate) fn vectors(c: &mut Composer) -> Option<Tensor> {
    let (x, y) = (c.any(), c.any());
    let (x, y) = (c.in_rank(&x, 1), c.in_rank(&y, 1));
    Some(match c.dice.below(2) {
        0 => x.outer(&y),
        _ => {
            let z = c.of_shape(&x.shape());
            x.dot(&z)
        }
    })
}

pub(crate) fn einsum(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let x = c.in_rank(&x, 3);
    let &[b, i, j] = x.shape().as_slice() else { return None };
    let k = c.dice.pick(&[1, 2, 3]);
    let y = c.of_shape(&[b, j, k]);
    let z = c.of_shape(&[j, j]);
    let _ = i;
    Some(match c.dice.below(8) {
        0 => c.graph.einsum("bij,bjk->bik", &[&x, &y]),
        1 => c.graph.einsum("bij,bjk->kib", &[&x, &y]),
        2 => c.graph.einsum("bij->jb", &[&x]),
        3 => c.graph.einsum("bij,jj->ib", &[&x, &z]),
        4 => c.graph.einsum("ii", &[&z]),
        5 => c.graph.einsum("ij,bkj,bjl->ilb", &[&z, &x, &y]),
        6 => c.graph.einsum("bij,bjk->kibj", &[&x, &y]),
        _ => c.graph.einsum("bij,bij->", &[&x, &x]),
    })
}

/// Groups, and channels that they divide, for images with these channels.
fn groups(c: &mut Composer, channels: usize) -> (usize, usize) {
    let groups = if c.dice.chance(30) { channels.max(1) } else { 1 };
    (groups, groups * c.dice.pick(&[1, 2]))
}

pub(crate) fn conv1d(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let x = c.in_rank(&x, 3);
    let &[_, channels, length] = x.shape().as_slice() else { return None };
    let (groups, out) = groups(c, channels);
    let (k, padding, dilation) = (1 + c.dice.below(3), c.dice.below(3), 1 + c.dice.below(2));
    if length == 0 || length + 2 * padding < dilation * (k - 1) + 1 || channels == 0 {
        return None;
    }
    let weight = c.of_shape(&[out, channels / groups, k]).tanh();
    let bias = c.of_shape(&[out]);
    let same = c.dice.chance(20);
    let stride = if same { [1] } else { [1 + c.dice.below(2)] };
    let padding = if same { Padding::Same } else { Padding::Zeros([padding]) };
    let options = ConvOptions { stride, padding, dilation: [dilation], groups };
    Some(x.conv1d(&weight, Some(&bias).filter(|_| c.dice.chance(50)), &options))
}

pub(crate) fn conv2d(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let x = c.in_rank(&x, 4);
    let &[_, channels, h, w] = x.shape().as_slice() else { return None };
    let (groups, out) = groups(c, channels);
    let [kh, kw] = [0; 2].map(|_| 1 + c.dice.below(3));
    let [ph, pw] = [0; 2].map(|_| c.dice.below(2));
    if h + 2 * ph < kh || w + 2 * pw < kw || h * w * channels == 0 {
        return None;
    }
    let weight = c.of_shape(&[out, channels / groups, kh, kw]).tanh();
    let stride = [0; 2].map(|_| 1 + c.dice.below(2));
    let padding = Padding::Zeros([ph, pw]);
    let options = ConvOptions { stride, padding, groups, ..ConvOptions::default() };
    Some(x.conv2d(&weight, None, &options))
}

pub(crate) fn conv_transpose2d(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let x = c.in_rank(&x, 4);
    let shape = x.shape();
    let channels = shape[1];
    if channels == 0 || shape.contains(&0) {
        return None;
    }
    let stride = [0; 2].map(|_| 1 + c.dice.below(2));
    let [kh, kw] = [0; 2].map(|_| 1 + c.dice.below(2));
    let weight = c.of_shape(&[channels, 2, kh, kw]).tanh();
    let extra = stride.map(|s| c.dice.below(s));
    let options = ConvOptions { stride, ..ConvOptions::default() };
    Some(x.conv_transpose2d(&weight, None, &options, extra))
}

/// Images with a window that fits them.
fn windows(c: &mut Composer) -> Option<(Tensor, PoolOptions<2>)> {
    let x = c.any();
    let x = c.in_rank(&x, 4);
    let &[_, _, h, w] = x.shape().as_slice() else { return None };
    let kernel = [0; 2].map(|_| 1 + c.dice.below(3));
    let padding = kernel.map(|k| c.dice.below(k / 2 + 1));
    let stride = [0; 2].map(|_| 1 + c.dice.below(3));
    let fits = |n: usize, axis: usize| n > 0 && n + 2 * padding[axis] >= kernel[axis];
    let options = PoolOptions { padding, stride, ..PoolOptions::new(kernel) };
    (fits(h, 0) && fits(w, 1)).then_some((x, options))
}

pub(crate) fn pool(c: &mut Composer) -> Option<Tensor> {
    let (x, options) = windows(c)?;
    let options = PoolOptions { ceil_mode: c.dice.chance(30), ..options };
    Some(match c.dice.below(4) {
        0 | 1 => x.max_pool2d(&options),
        2 => {
            let count_include_pad = c.dice.chance(50);
            x.avg_pool2d(&PoolOptions { count_include_pad, ..options })
        }
        _ => x.lp_pool2d(2.0, &options),
    })
}

pub(crate) fn adaptive_pool(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let x = c.in_rank(&x, 4);
    if x.shape()[2..].contains(&0) {
        return None;
    }
    let output = [0; 2].map(|_| 1 + c.dice.below(3));
    Some(match c.dice.below(2) {
        0 => x.adaptive_avg_pool2d(output),
        _ => x.adaptive_max_pool2d(output),
    })
}

pub(crate) fn unfold(c: &mut Composer) -> Option<Tensor> {
    let (x, options) = windows(c)?;
    let columns = x.unfold(&options);
    Some(match c.dice.below(2) {
        0 => columns,
        _ => columns.tanh().fold([x.shape()[2], x.shape()[3]], &options),
    })
}

pub(crate) fn interpolate(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let x = c.in_rank(&x, 4);
    if x.shape()[2..].contains(&0) {
        return None;
    }
    let size = [0; 2].map(|_| 1 + c.dice.below(5));
    let mode = match c.dice.below(3) {
        0 => Interpolation::Nearest,
        1 => Interpolation::Bilinear { align_corners: true },
        _ => Interpolation::Bilinear { align_corners: false },
    };
    Some(x.interpolate(&size, mode))
}

pub(crate) fn norm(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let shape = x.shape();
    let from = c.axis(&x, 0)?;
    let last = &shape[from..];
    if last.iter().product::<usize>() < 2 {
        return None;
    }
    let (weight, bias) = (c.of_shape(last), c.of_shape(last));
    let weight = Some(&weight).filter(|_| c.dice.chance(60));
    Some(match c.dice.below(2) {
        0 => x.layer_norm(last, weight, Some(&bias).filter(|_| c.dice.chance(60)), 0.1),
        _ => x.rms_norm(last, weight, 0.1),
    })
}

pub(crate) fn channel_norm(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let rank = 3 + c.dice.below(2);
    let x = c.in_rank(&x, rank);
    let shape = x.shape();
    let (channels, points) = (shape[1], shape[2..].iter().product::<usize>());
    if channels == 0 || points < 2 || shape[0] == 0 {
        return None;
    }
    let (weight, bias) = (c.of_shape(&[channels]), c.of_shape(&[channels]));
    let (weight, bias) = (Some(&weight).filter(|_| c.dice.chance(60)), Some(&bias));
    Some(match c.dice.below(5) {
        0 => x.batch_norm_train(weight, bias, 0.1).0,
        1 => {
            let (_, mean, var) = x.batch_norm_train(weight, bias, 0.1);
            x.batch_norm(&mean.detach(), &var, weight, None, 0.1)
        }
        2 => x.group_norm(1, weight, bias, 0.1),
        3 => x.group_norm(channels, weight, bias, 0.1),
        _ => x.instance_norm(weight, bias, 0.1),
    })
}

pub(crate) fn normalize(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    // Of one element only the sign would be left, and what was rounded would decide on maxima.
    let axis = c.axis(&x, 2)?;
    Some(match c.dice.below(2) {
        0 => x.normalize(c.dice.pick(&[1.0, 2.0]), axis, 0.1),
        _ => {
            let y = c.of_shape(&x.shape());
            x.cosine_similarity(&y, axis, 0.1)
        }
    })
}

pub(crate) fn attention(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let rank = 2 + c.dice.below(3);
    let query = c.in_rank(&x, rank);
    let shape = query.shape();
    let (batch, &[m, d]) = shape.split_last_chunk()?;
    if m == 0 || d == 0 {
        return None;
    }
    let [n, e] = [0; 2].map(|_| c.dice.pick(&[1, 2, 3, 5]));
    let batch = if c.dice.chance(50) { batch } else { &[] };
    let key = c.of_shape(&[batch, &[n, d]].concat());
    let value = c.of_shape(&[batch, &[n, e]].concat());
    let mask = match c.dice.below(3) {
        0 => None,
        1 => Some(c.of_shape(&[m, n])),
        _ => {
            let seen = c.of_shape(&[m, n]);
            Some(seen.greater(&seen.full_like(-0.5)))
        }
    };
    let scale = if c.dice.chance(50) { None } else { Some(0.3) };
    let options = AttentionOptions { mask, causal: c.dice.chance(40), scale };
    Some(query.scaled_dot_product_attention(&key, &value, &options))
}

pub(crate) fn halves(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let half = x.to(DType::F16);
    Some(if c.dice.chance(60) { half } else { half.to(DType::F32) })
}

pub(crate) fn integers(c: &mut Composer) -> Option<Tensor> {
    let shape = c.shape();
    let signed = c.dice.chance(50);
    let dtype = if signed { DType::I32 } else { DType::U32 };
    let x = match c.dice.chance(40) {
        // Away from whole numbers, where a rounding would decide.
        true => (c.any() * 3.0 + 0.37).to(DType::I32).to(dtype),
        false => c.index(&shape, 23).to(dtype),
    };
    let y = c.index(&x.shape(), 9).to(dtype);
    // Words wrap below zero.
    let y = if c.dice.chance(50) { y - 4.0 } else { y };
    let z = match c.dice.below(10) {
        0 => x + y,
        1 => x - y,
        2 => x * y,
        3 => x / y,
        4 => x.remainder(&y),
        5 => x.fmod(&y),
        6 => x.maximum(&y),
        7 => x.minimum(&y),
        8 => match c.axes(&x) {
            Some(axes) => x.sum(&axes),
            None => x,
        },
        _ => x.less(&y).select(&y, &x),
    };
    let seven = z.full_like(7.0);
    Some(z.remainder(&seven).to(DType::F32) * 0.25)
}

pub(crate) fn drawn(c: &mut Composer) -> Option<Tensor> {
    let (key, shape) = (c.graph.random_key(), c.shape());
    Some(match c.dice.below(4) {
        0 => key.uniform(&shape),
        1 => key.normal(&shape),
        2 => key.bernoulli(&shape, 0.3).to(DType::F32),
        _ => key.permutation(1 + c.dice.below(9)).to(DType::F32) * 0.25,
    })
}

pub(crate) fn dropout(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    Some(if x.shape().len() >= 2 && c.dice.chance(30) { x.dropout2d(0.3) } else { x.dropout(0.3) })
}

pub(crate) fn constant(c: &mut Composer) -> Option<Tensor> {
    let (x, shape) = (c.any(), c.shape());
    Some(match c.dice.below(5) {
        0 => c.graph.full(&shape, DType::F32, 0.5),
        1 => c.graph.arange(-1.0, 2.0, 0.4),
        2 => c.graph.linspace(-1.0, 1.0, 1 + c.dice.below(9)),
        3 => c.graph.eye(3, 1 + c.dice.below(4)),
        _ => x.along(c.axis(&x, 0)?).to(DType::F32) * 0.25,
    })
}
