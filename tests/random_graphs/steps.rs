//! The steps of random compositions: each takes what the pool has, made to fit, and gives one float tensor;
//! `None` where what it took doesn't do.

use crate::compose::Composer;
use crate::layers::*;
use crate::movement::*;
use shadegrad::device::Recurrence;
use shadegrad::prelude::*;

type Step = fn(&mut Composer) -> Option<Tensor>;

/// Every step, one as likely as another.
pub(crate) const STEPS: &[(&str, Step)] = &[
    ("function", function),
    ("function", function),
    ("activation", activation),
    ("steps of a stair", stair),
    ("arithmetic", arithmetic),
    ("arithmetic", arithmetic),
    ("arithmetic", arithmetic),
    ("quotient", quotient),
    ("three operands", three),
    ("choice", choice),
    ("choice of choices", logic),
    ("sum", sum),
    ("sum", sum),
    ("reduction", reduction),
    ("reduction", reduction),
    ("spread", spread),
    ("place", place),
    ("softmax", softmax),
    ("cumulative", cumulative),
    ("recurrence", recurrence),
    ("sort", sort),
    ("reshape", reshape),
    ("permute", permute),
    ("slice", slice),
    ("slice", slice),
    ("pad", pad),
    ("pad_with", pad_with),
    ("concat", concat),
    ("concat", concat),
    ("stack", stack),
    ("repeat", repeat),
    ("expand", expand),
    ("roll", roll),
    ("triangle", triangle),
    ("diagonal", diagonal),
    ("split", split),
    ("pack", pack),
    ("gather", gather),
    ("index_select", index_select),
    ("scatter_add", scatter_add),
    ("embedding", embedding),
    ("one_hot", one_hot),
    ("matmul", matmul),
    ("matmul", matmul),
    ("linear", linear),
    ("vectors", vectors),
    ("einsum", einsum),
    ("conv1d", conv1d),
    ("conv2d", conv2d),
    ("conv_transpose2d", conv_transpose2d),
    ("pool", pool),
    ("adaptive pool", adaptive_pool),
    ("unfold", unfold),
    ("interpolate", interpolate),
    ("norm", norm),
    ("norm of channels", channel_norm),
    ("normalize", normalize),
    ("attention", attention),
    ("halves", halves),
    ("integers", integers),
    ("drawn", drawn),
    ("dropout", dropout),
    ("constant", constant),
    ("detach", |c| Some(c.any().detach())),
];

fn function(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let (s, p) = (c.squashed(&x), c.positive(&x));
    Some(match c.dice.below(24) {
        0 => x.abs(),
        1 => s.exp(),
        2 => p.log(),
        3 => p.sqrt(),
        4 => x.sin(),
        5 => x.cos(),
        6 => s.tan(),
        7 => (s * 0.9).asin(),
        8 => (s * 0.9).acos(),
        9 => x.atan(),
        10 => s.sinh(),
        11 => s.cosh(),
        12 => x.tanh(),
        13 => s.exp2(),
        14 => p.log2(),
        15 => s.expm1(),
        16 => (s * 0.75).log1p(),
        17 => x.erf(),
        18 => -x,
        19 => s.square(),
        20 => p.reciprocal(),
        21 => p.rsqrt(),
        22 => s.powf(c.dice.pick(&[3.0, 4.0, 0.0])),
        _ => p.powf(c.dice.pick(&[-2.0, 0.5, 2.5])),
    })
}

fn activation(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    Some(match c.dice.below(18) {
        0 => x.relu(),
        1 => x.sigmoid(),
        2 => x.softplus(),
        3 => x.gelu(),
        4 => x.gelu_tanh(),
        5 => x.silu(),
        6 => x.elu(1.3),
        7 => x.selu(),
        8 => x.celu(0.7),
        9 => x.mish(),
        10 => x.softsign(),
        11 => x.leaky_relu(0.1),
        12 => x.hardtanh(-0.75, 1.25),
        13 => x.hardswish(),
        14 => x.log_sigmoid(),
        15 => x.tanhshrink(),
        16 => x.clamp(-0.5, 1.0),
        _ => {
            let axis = c.axis(&x, 2).filter(|&axis| x.shape()[axis].is_multiple_of(2))?;
            x.glu(axis)
        }
    })
}

fn stair(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    Some(match c.dice.below(6) {
        0 => x.floor(),
        1 => x.ceil(),
        2 => x.round(),
        3 => x.trunc(),
        4 => x.frac(),
        _ => x.sign(),
    })
}

fn arithmetic(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let y = c.partner(&x);
    Some(match c.dice.below(6) {
        0 => x + y,
        1 => x - y,
        2 => x * c.squashed(&y),
        3 => x.maximum(&y),
        4 => x.minimum(&y),
        _ => x * c.dice.pick(&[0.0, 0.5, 1.0, -2.0]) + c.dice.pick(&[0.0, 1.0]),
    })
}

fn quotient(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let y = c.partner(&x);
    let p = c.positive(&y);
    Some(match c.dice.below(6) {
        0 => x / p,
        1 => x.remainder(&p),
        2 => x.fmod(&p),
        3 => c.positive(&x).pow(&y.tanh()),
        4 => x.atan2(&p),
        _ => x.hypot(&y),
    })
}

fn three(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let (y, z) = (c.of_shape(&x.shape()), c.partner(&x));
    Some(match c.dice.below(3) {
        0 => x.lerp(&y, &z.sigmoid()),
        1 => x.addcmul(&y, &z.tanh(), -0.5),
        _ => x.addcdiv(&y, &c.positive(&z), 0.5),
    })
}

fn compared(c: &mut Composer, x: &Tensor, y: &Tensor) -> Tensor {
    // What f64 tells apart may be equal in f32; halves are far enough from each other.
    let whole = |t: &Tensor| (t * 2.0).round();
    match c.dice.below(6) {
        0 => x.less(y),
        1 => x.less_equal(y),
        2 => x.greater(y),
        3 => x.greater_equal(y),
        4 => whole(x).equal(&whole(y)),
        _ => whole(x).not_equal(&whole(y)),
    }
}

fn choice(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let y = c.partner(&x);
    let mask = compared(c, &x, &y);
    Some(match c.dice.below(3) {
        0 => mask.select(&x, &y),
        1 => x.masked_fill(&mask, -0.5),
        _ => mask.to(DType::F32),
    })
}

fn logic(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let (y, z) = (c.of_shape(&x.shape()), c.partner(&x));
    let (a, b) = (compared(c, &x, &y), compared(c, &x, &z));
    let mask = match c.dice.below(5) {
        0 => a.and(&b),
        1 => a.or(&b),
        2 => a.xor(&b),
        3 => a.not().select(&b, &a),
        _ => x.to(DType::Bool).and(&b),
    };
    Some(mask.select(&y, &x))
}

fn sum(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    if c.dice.chance(10) {
        return Some(x.sum_all());
    }
    let axes = c.axes(&x)?;
    let y = if c.dice.chance(50) { x.sum(&axes) } else { x.mean(&axes) };
    Some(if c.dice.chance(40) { y.keepdim(&axes) } else { y })
}

fn reduction(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axes = c.axes(&x)?;
    let y = match c.dice.below(7) {
        0 => x.amax(&axes),
        1 => x.amin(&axes),
        2 => c.squashed(&x).prod(&axes),
        3 => x.logsumexp(&axes),
        4 => x.norm(c.dice.pick(&[0.0, 1.0, 2.0, f64::INFINITY]), &axes),
        5 => x.to(DType::Bool).any(&axes).to(DType::F32),
        _ => x.greater(&x.full_like(-1.0)).all(&axes).to(DType::F32),
    };
    Some(if c.dice.chance(40) { y.keepdim(&axes) } else { y })
}

fn spread(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axes = c.axes(&x)?;
    let correction = c.dice.below(2);
    let count: usize = axes.iter().map(|&axis| x.shape()[axis]).product();
    if count <= correction {
        return None;
    }
    Some(match c.dice.below(3) {
        0 => x.var(&axes, correction),
        1 => x.std(&axes, correction),
        _ => &x - x.mean(&axes).keepdim(&axes),
    })
}

fn place(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 1)?;
    Some(match c.dice.below(4) {
        0 => x.argmax(axis).to(DType::F32) * 0.25,
        1 => x.argmin(axis).to(DType::F32) * 0.25,
        2 => x.max(axis).0,
        _ => x.min(axis).0,
    })
}

fn softmax(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 2)?;
    Some(if c.dice.chance(50) { x.softmax(axis) } else { x.log_softmax(axis) })
}

fn cumulative(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let axis = c.axis(&x, 0)?;
    Some(if c.dice.chance(60) { x.cumsum(axis) } else { c.squashed(&x).cumprod(axis) })
}

fn recurrence(c: &mut Composer) -> Option<Tensor> {
    let rank = 2 + c.dice.below(2);
    let x = c.any();
    let x = c.in_rank(&x, rank);
    let (shape, log) = (x.shape(), c.dice.chance(30));
    let (axis, offsets) = match c.dice.chance(50) {
        true => (rank - 2, vec![0, 1]),
        false => (c.dice.below(rank), vec![0]),
    };
    let a: Vec<Tensor> = offsets.iter().map(|_| c.of_shape(&shape).tanh() * 0.5).collect();
    let recurrence = Recurrence { shape, axis, offsets, log };
    Some(x.recurrence(recurrence, &a.iter().collect::<Vec<_>>()))
}

fn sort(c: &mut Composer) -> Option<Tensor> {
    let x = c.any();
    let (axis, descending) = (c.axis(&x, 1)?, c.dice.chance(50));
    Some(match c.dice.below(3) {
        0 => x.sort(axis, descending).0,
        1 => {
            let k = 1 + c.dice.below(x.shape()[axis]);
            x.topk(k, axis, descending).0
        }
        _ => x.argsort(axis, descending).to(DType::F32) * 0.125,
    })
}
