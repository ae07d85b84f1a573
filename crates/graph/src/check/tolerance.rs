//! How far a device may be from the f64 reference, and why: `docs/numerics.md` in code.

use crate::ops::{Lowering, Op, Scalar};
use crate::reference::Contents;
use crate::{Array, Nodes, Type};
use shadegrad_device::{AttentionRole, Combine, DType, WindowRole, random};

const EPS: f64 = f32::EPSILON as f64;

/// How far each element of a device's result may be from the f64 reference, and why: see
/// `docs/numerics.md`.
///
/// `exact` devices round basic arithmetic correctly and have accurate functions (the CPU backend);
/// others keep the bounds of the WGSL specification.
pub fn tolerance(op: &Op, inputs: &[&Array], expected: &Array, exact: bool) -> Vec<f64> {
    let types: Vec<&Type> = inputs.iter().map(|a| &a.ty).collect();
    let absolute = || -> Array {
        let positive: Vec<Array> = inputs
            .iter()
            .map(|a| match a.ty.dtype.loaded() {
                DType::F32 => {
                    Array { ty: a.ty.clone(), data: a.data.iter().map(|v| v.abs()).collect() }
                }
                _ => (*a).clone(),
            })
            .collect();
        op.reference(&positive.iter().collect::<Vec<_>>(), &expected.ty)
    };
    // A sum of k products in any order: k roundings of at most half an eps each of the sum of
    // magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), twice for
    // adapters that round either way.
    if expected.ty.dtype != DType::F32 {
        // Integers, truth values, random bits and permutations are exact everywhere.
        return vec![0.0; expected.data.len()];
    }
    let sum = |terms: usize| absolute().data.iter().map(|m| (terms + 1) as f64 * EPS * m).collect();
    match op.lower(&types) {
        Lowering::Contract(contraction) => sum(contraction.matrix()[3]),
        Lowering::Reduce(combine @ (Combine::Sum | Combine::Prod), axes) => {
            let terms: usize = axes.iter().map(|&axis| types[0].shape[axis]).product();
            match combine {
                Combine::Sum => sum(terms),
                // One rounding for each factor.
                _ => expected.data.iter().map(|y| (terms + 1) as f64 * EPS * y.abs()).collect(),
            }
        }
        Lowering::Scatter(shape, axis, _) => sum(shape[axis]),
        Lowering::Window(window, role, false) if role != WindowRole::Max => {
            sum(window.kernel[0] * window.kernel[1] + 1)
        }
        // Every step adds the roundings of its products and sums to what the states before had.
        Lowering::Scan(recurrence) if !recurrence.log => {
            sum(recurrence.lines()[1] * 2 * (recurrence.offsets.len() + 1))
        }
        // Every step takes exponentials of at most one and a logarithm of at least one.
        Lowering::Scan(recurrence) => {
            let largest = finite(&expected.data).fold(1.0, f64::max);
            let step = if exact { 8.0 } else { 16.0 } * EPS * largest;
            vec![recurrence.lines()[1] as f64 * step; expected.data.len()]
        }
        Lowering::Attention(a, role) => {
            // A score's error multiplies its weight; then a weighted mean of as many values as keys.
            let largest = |at: usize| finite(&inputs[at].data).fold(0.0, f64::max);
            let scale = f64::from(f32::from_bits(a.scale)).abs();
            let score = a.width as f64 * largest(0) * largest(1) * scale;
            let sources = a.sources(role).len();
            let bias = if inputs.len() > sources { largest(sources) } else { 0.0 };
            let relative = (a.width + 2) as f64 * score + bias;
            let relative = (2.0 * relative + 4.0 * (score + bias) + (a.keys + 16) as f64) * EPS;
            if role == AttentionRole::Gradient {
                // Weights of a query add up to one: what each key gives it is at most the largest, and each key gets at most
                // that of all queries.
                let slope =
                    2.0 * a.features as f64 * largest(3) * largest(2).max(largest(4)) * scale;
                let by_query = slope * largest(1);
                let by_key = a.queries as f64 * slope * largest(0);
                let by_value = a.queries as f64 * largest(3);
                let relative = relative + (a.features + a.queries) as f64 * EPS;
                let bound = relative * by_query.max(by_key).max(by_value);
                return vec![bound; expected.data.len()];
            }
            let mut positive: Vec<Array> = inputs.iter().map(|a| (*a).clone()).collect();
            positive[2].data.iter_mut().for_each(|v| *v = v.abs());
            let mean = op.reference(&positive.iter().collect::<Vec<_>>(), &expected.ty);
            mean.data.iter().map(|m| relative * m).collect()
        }
        // Every step rounds its products, and bounded functions pass on at most what they are given.
        Lowering::Recurrent(sequence, _) => {
            let largest = finite(&expected.data).fold(1.0, f64::max);
            let terms = sequence.time * (sequence.hidden * sequence.cell.gates() + 16);
            vec![4.0 * terms as f64 * EPS * largest; expected.data.len()]
        }
        Lowering::Pointwise(scalar) => (0..expected.data.len())
            .map(|i| {
                let y = expected.data[i].abs();
                let exact_result = matches!(scalar, Scalar::Add | Scalar::Sub | Scalar::Mul)
                    && inputs.iter().all(|a| is_f32(a.data[i]))
                    && is_f32(y);
                // Rounding keeps what needs none.
                if !y.is_finite() || exact_result {
                    return 0.0;
                }
                let x = inputs[0].data.get(i).copied().unwrap_or(0.0).abs();
                let second = inputs.get(1).map_or(0.0, |b| b.data[i].abs());
                scalar_tolerance(scalar, exact, x, second, y)
            })
            .collect(),
        _ => vec![0.0; expected.data.len()],
    }
}

/// Whether a number is a normal 32-bit float or zero.
fn is_f32(value: f64) -> bool {
    let rounded = value as f32;
    f64::from(rounded) == value && (rounded.is_normal() || rounded == 0.0)
}

/// The magnitudes of the finite elements.
fn finite(data: &[f64]) -> impl Iterator<Item = f64> {
    data.iter().map(|v| v.abs()).filter(|v| v.is_finite())
}

/// What a scalar function of `|x|` (and `|second|`) may be off where its value's magnitude is `y`.
fn scalar_tolerance(scalar: Scalar, exact: bool, x: f64, second: f64, y: f64) -> f64 {
    match (scalar, exact) {
        (Scalar::Floor | Scalar::Ceil | Scalar::Round, _) => 0.0,
        (Scalar::Trunc | Scalar::ToF32 | Scalar::Select, _) => 0.0,
        // By shifting and subtracting.
        (Scalar::Fmod, _) => 0.0,
        (Scalar::Maximum | Scalar::Minimum | Scalar::Relu | Scalar::Neg | Scalar::Abs, _) => 0.0,
        // What people write themselves is held to six digits.
        (Scalar::Custom(_), _) => 16.0 * EPS * y.max(1.0),
        // Half of one more than an error function, times x; the slope adds x times a density, which is at most 0.25.
        (Scalar::Gelu, true) => 4.0 * EPS * x,
        (Scalar::Gelu, false) => x * (1.2e-7 + 4.0 * EPS),
        (Scalar::GeluSlope, true) => 8.0 * EPS,
        (Scalar::GeluSlope, false) => 1.2e-7 + 16.0 * EPS,
        (_, true) => 4.0 * EPS * y.max(f64::from(f32::MIN_POSITIVE)),
        // Series below a half, with a division and a sum at each step; else built on an exponential or a
        // logarithm, and one more rounding.
        (Scalar::Expm1, _) if x < 0.5 => 8.0 * EPS * y,
        (Scalar::Expm1, _) => 4.0 * EPS * (y + 1.0),
        (Scalar::Log1p, _) if x < 0.5 => 12.0 * EPS * y,
        (Scalar::Log1p, _) => 4.0 * EPS * y.max(0.5),
        (Scalar::Softplus, _) => 8.0 * EPS * y,
        // The fit's 1.2e-7, and an exponential of at most 0.16.
        (Scalar::Erf, _) => 1.2e-7 + 4.0 * EPS * y,
        // The fits' documented errors are two units in the last place; what is left of the multiple of
        // pi/2 that was taken off counts against one.
        (Scalar::Sin | Scalar::Cos, _) if x < 0.78 => 4.0 * EPS * y,
        (Scalar::Sin | Scalar::Cos, _) => 2.0 * EPS,
        (Scalar::Tan, _) => 4.0 * EPS * (y + 1.0) * (y + 1.0),
        (Scalar::Asin | Scalar::Atan, _) => 4.0 * EPS * y,
        // A difference from pi or pi/2.
        (Scalar::Acos | Scalar::Atan2, _) => 4.0 * EPS * (y + 1.0),
        // Two exponentials of half the argument.
        (Scalar::Sinh | Scalar::Cosh, _) => 10.0 * EPS * y,
        (Scalar::Tanh, _) => 8.0 * EPS * y,
        // exp2(p log2(x)): what is rounded in the exponent multiplies the result.
        (Scalar::Pow, _) => {
            let exponent = second * x.max(f64::MIN_POSITIVE).log2().abs();
            (4.0 + 4.0 * exponent) * EPS * y
        }
        // An exponential, a sum and a quotient.
        (Scalar::Sigmoid, _) => 8.0 * EPS * y,
        _ => 4.0 * EPS * y,
    }
}

/// Runs of an interpretation whose every value is moved at random within its tolerance.
const RUNS: u32 = 8;

/// How far each output of a whole recording may be from the reference: every value is moved at random
/// within what [`tolerance`] allows it, several times over, and an output may be four times as far off
/// as it ever was then (stochastic arithmetic: Vignes, Math. Comput. Simul. 35, 1993). What a graph makes of
/// its operations' errors is so found by running it, not guessed.
pub fn allowed(nodes: &Nodes, start: &Contents, expected: &[Array], exact: bool) -> Vec<Vec<f64>> {
    let tiny = f64::from(f32::MIN_POSITIVE);
    let mut spread: Vec<Vec<f64>> = expected.iter().map(|a| vec![tiny; a.data.len()]).collect();
    for run in 0..RUNS {
        let mut number = 0;
        let moved = nodes.interpret_with(&mut start.clone(), &mut |op, inputs, value| {
            number += 1;
            let key = random(run, number);
            let allowed = tolerance(op, inputs, value, exact);
            for (i, (v, t)) in value.data.iter_mut().zip(allowed).enumerate() {
                if t > 0.0 {
                    *v += t * (f64::from(random(key, i as u32)) / 2_147_483_648.0 - 1.0);
                }
            }
        });
        for ((spread, moved), expected) in spread.iter_mut().zip(&moved).zip(expected) {
            for ((s, m), e) in spread.iter_mut().zip(&moved.data).zip(&expected.data) {
                let distance = (m - e).abs();
                let same = m == e || m.is_nan() && e.is_nan();
                let distance = if distance.is_nan() { f64::INFINITY } else { distance };
                *s = s.max(if same { 0.0 } else { distance });
            }
        }
    }
    for (spread, expected) in spread.iter_mut().zip(expected) {
        // The device's own rounding of the result counts even where nothing moved.
        let float = expected.ty.dtype.loaded() == DType::F32;
        for (s, e) in spread.iter_mut().zip(&expected.data) {
            *s = 4.0 * *s + if float && e.is_finite() { EPS * e.abs() } else { 0.0 };
        }
    }
    spread
}
