//! Steps that move elements or pick them by index.

use crate::compose::Composer;
use shadegrad::prelude::*;

pub(crate) fn reshape(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let rank = c.dice.below(7);
    match c.dice.below(4) {
        0 => Some(x.flatten(c.dice.below(x.shape().len() + 1))),
        1 => Some(x.unsqueeze(c.dice.below(x.shape().len() + 1))),
        2 => Some(x.squeeze(c.axis(&x, 0)?)),
        _ => {
            let joined = c.in_rank(&x, 1);
            Some(c.in_rank(&joined, rank.max(1)))
        }
    }
}

pub(crate) fn permute(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let order = c.dice.order(x.shape().len());
    Some(x.permute(&order))
}

pub(crate) fn slice(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 1)?;
    let n = x.shape()[axis];
    Some(match c.dice.below(4) {
        0 => x.flip(axis),
        1 => {
            let start = c.dice.below(n);
            x.narrow(axis, start, c.dice.below(n - start + 1))
        }
        2 => {
            let (start, step) = (c.dice.below(n), 1 + c.dice.below(3));
            x.slice(axis, start, step as isize, (n - start).div_ceil(step))
        }
        _ => {
            let (start, step) = (c.dice.below(n), 1 + c.dice.below(3));
            x.slice(axis, start, -(step as isize), start / step + 1)
        }
    })
}

pub(crate) fn pad(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 0)?;
    Some(x.pad(axis, c.dice.below(3), c.dice.below(3)))
}

pub(crate) fn pad_with(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let mut pairs = Vec::new();
    let mode = match c.dice.below(4) {
        0 => PadMode::Constant(c.dice.pick(&[0.0, 1.5])),
        1 => PadMode::Reflect,
        2 => PadMode::Replicate,
        _ => PadMode::Circular,
    };
    for &n in x.shape().iter().rev().take(2) {
        let most = match mode {
            PadMode::Reflect => n.saturating_sub(1),
            PadMode::Circular => n,
            PadMode::Replicate => 3 * n.min(1),
            PadMode::Constant(_) => 3,
        };
        let (before, after) = (c.dice.below(most.min(3) + 1), c.dice.below(most.min(3) + 1));
        let crop = matches!(mode, PadMode::Constant(_)) && n > 1 && c.dice.chance(30);
        pairs.push((if crop { -1 } else { before as isize }, after as isize));
    }
    Some(x.pad_with(&pairs, mode))
}

pub(crate) fn concat(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 0)?;
    let mut parts = vec![x.clone()];
    for _ in 0..1 + c.dice.below(3) {
        let mut shape = x.shape();
        shape[axis] = c.dice.pick(&[shape[axis], 1, 2, 0]);
        let part = if c.dice.chance(30) {
            x.to(DType::F32).narrow(axis, 0, shape[axis].min(x.shape()[axis]))
        } else {
            c.of_shape(&shape)
        };
        parts.push(part);
    }
    let parts: Vec<Tensor> = parts.iter().map(|t| t.to(DType::F32)).collect();
    Some(c.graph.concat(&parts.iter().collect::<Vec<_>>(), axis))
}

pub(crate) fn stack(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let (y, axis) = (c.of_shape(&x.shape()), c.dice.below(x.shape().len() + 1));
    let (x, y) = (x.to(DType::F32), y.to(DType::F32));
    Some(c.graph.stack(&[&x, &y, &x], axis))
}

pub(crate) fn repeat(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let count = x.shape().len() + c.dice.below(2);
    let repeats: Vec<usize> = (0..count).map(|_| c.dice.pick(&[1, 1, 2, 3])).collect();
    Some(x.repeat(&repeats))
}

pub(crate) fn expand(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let mut shape = x.shape();
    for n in &mut shape {
        *n = if *n == 1 { c.dice.pick(&[1, 2, 3, 5]) } else { *n };
    }
    if c.dice.chance(50) {
        shape.insert(0, c.dice.pick(&[1, 2, 3, 0]));
    }
    Some(x.expand(&shape))
}

pub(crate) fn roll(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 0)?;
    Some(x.roll(c.dice.below(9) as isize - 4, axis))
}

fn matrices(c: &mut Composer) -> Tensor {
    let x = c.any();
    let rank = 2 + c.dice.below(2);
    c.in_rank(&x, rank)
}

pub(crate) fn triangle(c: &mut Composer) -> Option<Tensor> {
    let (x, offset) = (matrices(c), c.dice.below(5) as isize - 2);
    Some(if c.dice.chance(50) { x.tril(offset) } else { x.triu(offset) })
}

pub(crate) fn diagonal(c: &mut Composer) -> Option<Tensor> {
    let offset = c.dice.below(5) as isize - 2;
    if c.dice.chance(30) {
        let x = c.any();
        return Some(c.in_rank(&x, 1).diag(offset));
    }
    Some(matrices(c).diagonal(offset))
}

pub(crate) fn split(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 1)?;
    let parts = x.chunk(1 + c.dice.below(4), axis);
    Some(c.dice.pick(&parts))
}

pub(crate) fn pack(c: &mut Composer) -> Option<Tensor> {
    let (x, y) = (c.any().to(DType::F32), c.any().to(DType::F32));
    Some(c.graph.pack(&[&x, &y, &x]))
}

pub(crate) fn gather(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 1)?;
    let mut shape: Vec<usize> = x.shape().iter().map(|&n| n - c.dice.below(2).min(n)).collect();
    shape[axis] = c.extent();
    let index = c.index(&shape, x.shape()[axis]);
    Some(x.gather(axis, &index))
}

pub(crate) fn index_select(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 1)?;
    let count = c.extent();
    let index = match c.dice.chance(20) {
        true => x.argsort(axis, false).flatten(0),
        false => c.index(&[count], x.shape()[axis]),
    };
    Some(x.index_select(axis, &index))
}

pub(crate) fn scatter_add(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 1)?;
    let mut shape = x.shape();
    shape[axis] = c.extent();
    let source = c.of_shape(&shape);
    if c.dice.chance(30) {
        let index = c.index(&[shape[axis]], x.shape()[axis]);
        return Some(x.index_add(axis, &index, &source));
    }
    // The last place may lie outside, and goes nowhere.
    let below = x.shape()[axis] + c.dice.below(2);
    let index = c.index(&shape, below);
    Some(x.scatter_add(axis, &index, &source))
}

pub(crate) fn embedding(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let table = c.in_rank(&x, 2);
    let rows = table.shape()[0];
    if rows == 0 {
        return None;
    }
    let shape = c.dice.pick(&[vec![], vec![3], vec![2, 3], vec![1, 1]]);
    let index = c.index(&shape, rows);
    let padding = if c.dice.chance(40) { Some(c.dice.below(rows)) } else { None };
    Some(table.embedding(&index, padding))
}

pub(crate) fn one_hot(c: &mut Composer) -> Option<Tensor> {
    let shape = c.dice.pick(&[vec![], vec![3], vec![2, 5], vec![7, 1]]);
    Some(c.index(&shape, 5).one_hot(4).to(DType::F32))
}
