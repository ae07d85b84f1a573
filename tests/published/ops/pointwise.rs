//! Functions of single elements, alone and of two or three tensors that broadcast.

use super::{Call, Outputs, y};
use shadegrad::graph::Tensor;

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    unary(call).or_else(|| binary(call)).or_else(|| ternary(call)).map(y)
}

/// Functions of `x`.
fn unary(call: &Call<'_>) -> Option<Tensor> {
    let x = call.find("x")?;
    Some(match call.op() {
        "neg" => -x,
        "abs" => x.abs(),
        "sign" => x.sign(),
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        "square" => x.square(),
        "reciprocal" => x.reciprocal(),
        "sqrt" => x.sqrt(),
        "rsqrt" => x.rsqrt(),
        "pow_2.5" | "pow_3" => x.powf(call.number("exponent")),
        "exp" => x.exp(),
        "expm1" => x.expm1(),
        "log" => x.log(),
        "log1p" => x.log1p(),
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tan" => x.tan(),
        "atan" => x.atan(),
        "sinh" => x.sinh(),
        "cosh" => x.cosh(),
        "tanh" => x.tanh(),
        "erf" => x.erf(),
        "sigmoid" => x.sigmoid(),
        "logsigmoid" => x.log_sigmoid(),
        "softplus" => x.softplus(),
        "softsign" => x.softsign(),
        "tanhshrink" => x.tanhshrink(),
        "relu" => x.relu(),
        "relu6" => x.relu6(),
        "leaky_relu" => x.leaky_relu(call.number("negative_slope")),
        "elu" => x.elu(call.number("alpha")),
        "celu" => x.celu(call.number("alpha")),
        "selu" => x.selu(),
        "gelu_erf" => x.gelu(),
        "gelu_tanh" => x.gelu_tanh(),
        "silu" => x.silu(),
        "mish" => x.mish(),
        "hardtanh" => x.hardtanh(call.number("min"), call.number("max")),
        "hardsigmoid" => x.hardsigmoid(),
        "hardswish" => x.hardswish(),
        "clamp_min" => x.clamp_min(call.number("min")),
        "add_scalar" => x + call.number("scalar"),
        "mul_scalar" => x * call.number("scalar"),
        // A number minus a tensor.
        "rsub_scalar" => -x + call.number("scalar"),
        _ => return None,
    })
}

/// Functions of `a` and `b`.
fn binary(call: &Call<'_>) -> Option<Tensor> {
    let (a, b) = (call.find("a")?, call.find("b")?);
    Some(match call.op() {
        "add" => a + b,
        "sub" => a - b,
        "mul" => a * b,
        "div" => a / b,
        "pow_t" => a.pow(b),
        "maximum" => a.maximum(b),
        "minimum" => a.minimum(b),
        "atan2" => a.atan2(b),
        "hypot" => a.hypot(b),
        // The sign of the dividend, and the sign of the divisor.
        "fmod" => a.fmod(b),
        "remainder" => a.remainder(b),
        "eq" => a.equal(b),
        "lt" => a.less(b),
        "ge" => a.greater_equal(b),
        _ => return None,
    })
}

/// Functions of more.
fn ternary(call: &Call<'_>) -> Option<Tensor> {
    let x = |name: &str| call.input(name);
    Some(match call.op() {
        "where" => x("c").select(x("a"), x("b")),
        // a + w (b - a)
        "lerp" => x("a").lerp(x("b"), x("w")),
        // a + value b c, and a + value b / c
        "addcmul" => x("a").addcmul(x("b"), x("c"), call.number("value")),
        "addcdiv" => x("a").addcdiv(x("b"), x("c"), call.number("value")),
        "masked_fill" => x("a").masked_fill(x("m"), call.number("value")),
        _ => return None,
    })
}
