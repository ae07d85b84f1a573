//! Checks of operations on their own samples: values against the reference, gradients against
//! differences. Used by the test suite and by whoever writes an operation.

use crate::ops::{Lowering, Op, Sample, SampleInput, Scalar};
use crate::{Array, Graph, GraphError, Init, Tensor, Type, Variable};
use shadegrad_device::{Combine, DType, Literal, random};

/// The contents of a sample's input: the same for the same seed.
pub fn draw(input: &SampleInput, seed: u32) -> Array {
    let count = input.ty.numel();
    let uniform = |i: usize| f64::from(random(seed, i as u32)) / 4_294_967_296.0;
    let span = input.high - input.low;
    let value = |i: usize| {
        if input.ty.dtype != DType::F32 {
            return (input.low + span * uniform(i)).floor();
        }
        if input.distinct {
            // A shuffled ladder: neighbours are a whole rung apart.
            let rung = shadegrad_device::shuffle(i as u32, count as u32, seed);
            return input.low + span * (f64::from(rung) + 0.5) / count as f64;
        }
        let drawn = input.low + span * uniform(i);
        let near = input.kinks.iter().find(|kink| (drawn - **kink).abs() < 0.05);
        near.map_or(drawn, |kink| kink + if drawn < *kink { -0.1 } else { 0.1 })
    };
    // Rounded to f32, so that reference and device start from the same numbers.
    let data = (0..count).map(value).map(|v| Literal::of(input.ty.dtype, v).value()).collect();
    Array { ty: input.ty.clone(), data }
}

/// A variable that holds an array.
pub fn variable(name: &str, array: &Array) -> Variable {
    let init = Init::Bytes(array.to_bytes().into());
    Variable::new(name, &array.ty.shape, array.ty.dtype, init)
}

/// Records a sample; its inputs are variables named `x0`, `x1`, ...
pub fn record(graph: &Graph, sample: &Sample, seed: u32) -> (Tensor, Vec<Array>) {
    let arrays: Vec<Array> = (sample.inputs.iter().zip(0..))
        .map(|(input, number)| draw(input, seed.wrapping_add(number)))
        .collect();
    let inputs: Vec<Tensor> = (arrays.iter().enumerate())
        .map(|(number, array)| graph.variable(&variable(&format!("x{number}"), array)))
        .collect();
    let values: Vec<_> = inputs.iter().map(Tensor::value).collect();
    (graph.push(sample.op.clone(), &values), arrays)
}

/// How far each element of a device's result may be from the f64 reference, and why: see
/// `docs/numerics.md`.
///
/// `exact` devices round basic arithmetic correctly and have accurate functions (the CPU backend);
/// others keep the bounds of the WGSL specification.
pub fn tolerance(op: &Op, inputs: &[&Array], expected: &Array, exact: bool) -> Vec<f64> {
    const EPS: f64 = f32::EPSILON as f64;
    let types: Vec<&Type> = inputs.iter().map(|a| &a.ty).collect();
    let absolute = || -> Array {
        let positive: Vec<Array> = inputs
            .iter()
            .map(|a| match a.ty.dtype {
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
        Lowering::Reduce(Combine::Sum, axes) => {
            sum(axes.iter().map(|&axis| types[0].shape[axis]).product())
        }
        Lowering::Scatter(_, count) => sum(count),
        Lowering::Window(window, role, false) if role != shadegrad_device::WindowRole::Max => {
            sum(window.kernel[0] * window.kernel[1] + 1)
        }
        Lowering::Pointwise(scalar) => (0..expected.data.len())
            .map(|i| {
                let y = expected.data[i].abs();
                let x = inputs[0].data.get(i).copied().unwrap_or(0.0).abs();
                match (scalar, exact) {
                    (Scalar::Floor | Scalar::Ceil | Scalar::Round, _) => 0.0,
                    (Scalar::Trunc | Scalar::ToF32, _) => 0.0,
                    (_, true) => 4.0 * EPS * y.max(f64::from(f32::MIN_POSITIVE)),
                    (Scalar::Exp | Scalar::Exp2, _) => (3.0 + 2.0 * x) * EPS * y,
                    (Scalar::Log | Scalar::Log2, _) if (0.5..=2.0).contains(&x) => 2f64.powi(-21),
                    (Scalar::Log | Scalar::Log2, _) => 3.0 * EPS * y,
                    // Series below a half, with a division and a sum at each step; else built on
                    // exp and log, and one more rounding.
                    (Scalar::Expm1, _) if x < 0.5 => 8.0 * EPS * y,
                    (Scalar::Expm1, _) => (4.0 + 2.0 * x) * EPS * (y + 1.0),
                    (Scalar::Log1p, _) if x < 0.5 => 12.0 * EPS * y,
                    (Scalar::Log1p, _) => 2f64.powi(-21) + 3.0 * EPS * y,
                    // The fit's 1.2e-7, and an exponential of at most 0.16.
                    (Scalar::Erf, _) => 1.2e-7 + 12.0 * EPS * y,
                    (Scalar::Sin | Scalar::Cos, _) => 2f64.powi(-11),
                    (Scalar::Tanh, _) => 1e-5,
                    // An exponential, a sum and a quotient.
                    (Scalar::Sigmoid, _) => (8.0 + 2.0 * x) * EPS * y,
                    // x - floor(x / y) y: two roundings of what is subtracted.
                    (Scalar::Remainder, _) => 4.0 * EPS * x.max(y),
                    _ => 4.0 * EPS * y,
                }
            })
            .collect(),
        _ => vec![0.0; expected.data.len()],
    }
}

/// The first element that is further from its expectation than allowed, as text.
pub fn compare(got: &Array, expected: &Array, allowed: &[f64]) -> Result<(), String> {
    if got.ty.shape != expected.ty.shape {
        return Err(format!("shape {:?} where {:?} is expected", got.ty.shape, expected.ty.shape));
    }
    for (i, ((&g, &e), &t)) in got.data.iter().zip(&expected.data).zip(allowed).enumerate() {
        let same = (g - e).abs() <= t || g.is_nan() && e.is_nan();
        if !same {
            return Err(format!(
                "element {i} is {g:e}, not {e:e}: {:e} apart, {t:e} allowed",
                (g - e).abs()
            ));
        }
    }
    Ok(())
}

/// Whether an operation of these inputs has a gradient to check.
pub fn is_differentiable(sample: &Sample) -> bool {
    let graph = Graph::new();
    let (y, _) = record(&graph, sample, 0);
    if y.dtype() != DType::F32 || !sample.inputs.iter().any(|i| i.ty.dtype == DType::F32) {
        return false;
    }
    let inputs: Vec<Tensor> =
        graph.node(y.value()).inputs.clone().iter().map(|&v| Tensor::new(&graph, v)).collect();
    let rule = crate::ops::Backward { inputs: &inputs, output: &y, upstream: &y.like(1.0) };
    matches!(sample.op.gradient(&rule), crate::ops::Gradient::Of(_))
}

/// Checks a sample's gradient in f64, mid-graph, in a random direction, against a central
/// difference: `loss = sum(c * op(s * x)) + sum(d * x)` for random `c` and `d`, so that neither an
/// upstream factor nor another path can be forgotten. `order` 2 checks the gradient's gradient.
///
/// The gradient rule of the operation is multiplied by `mutation`; anything but 1 must fail.
///
/// # Errors
/// Both numbers, if they disagree.
pub fn gradient(sample: &Sample, seed: u32, order: usize, mutation: f64) -> Result<(), String> {
    let graph = Graph::new();
    graph.scale_gradients(&sample.op.name(), mutation);
    let mut variables = Vec::new();
    let mut direction = Vec::new();
    let mut inputs = Vec::new();
    for (input, number) in sample.inputs.iter().zip(seed..) {
        let variable = variable(&format!("x{number}"), &draw(input, number));
        let x = graph.variable(&variable);
        if input.ty.dtype == DType::F32 {
            let sign = SampleInput::float(&input.ty.shape, 0.5, 1.5);
            direction.push(draw(&sign, number ^ 0xD1EC));
            variables.push((variable, x.clone()));
            // Mid-graph, and by a power of two, so that distinct elements stay where they are.
            inputs.push(&(&x * 2.0) * 0.5);
        } else {
            inputs.push(x);
        }
    }
    let values: Vec<_> = inputs.iter().map(Tensor::value).collect();
    let y = graph.push(sample.op.clone(), &values);
    let constant = |ty: &Type, seed: u32| {
        let array = draw(&SampleInput::float(&ty.shape, 0.5, 1.5), seed);
        graph.variable(&variable("c", &array))
    };
    let parameters: Vec<&Tensor> = variables.iter().map(|(_, x)| x).collect();
    let mut loss = (&y * constant(&y.ty(), seed ^ 0xC0)).sum_all();
    for (number, x) in parameters.iter().enumerate() {
        loss = loss + (*x * constant(&x.ty(), seed ^ (0xD0 + number as u32))).sum_all() * 0.25;
    }
    for _ in 1..order {
        let flows = graph.gradients(&loss, &parameters);
        let mut next = loss.like(0.0);
        for (number, flow) in flows.iter().enumerate() {
            let weight = constant(&flow.ty(), seed ^ (0xE0 + number as u32));
            next = next + (flow * weight).sum_all();
        }
        // Keeps a path where the second derivative is zero.
        for x in &parameters {
            next = next + (*x * *x).sum_all() * 0.125;
        }
        loss = next;
    }
    let flows = graph.gradients(&loss, &parameters);
    let mut outputs: Vec<&Tensor> = vec![&loss];
    outputs.extend(&flows);
    let text = |error: GraphError| error.to_string();
    let nodes = graph.nodes(&outputs).map_err(text)?;
    let start = nodes.initial();
    let values = nodes.interpret(&mut start.clone());
    let slope: f64 = values[1..]
        .iter()
        .zip(&direction)
        .map(|(g, d)| g.data.iter().zip(&d.data).map(|(g, d)| g * d).sum::<f64>())
        .sum();
    let only_loss = graph.nodes(&[&loss]).map_err(text)?;
    let at = |step: f64| {
        let mut contents = start.clone();
        for ((variable, _), d) in variables.iter().zip(&direction) {
            if let Some(array) = contents.get_mut(&variable.id()) {
                for (x, d) in array.data.iter_mut().zip(&d.data) {
                    *x += step * d;
                }
            }
        }
        only_loss.interpret(&mut contents)[0].data[0]
    };
    // The difference's own error: h^2 / 6 of the third derivative, and 2^-52 of the loss over h.
    let h = 1e-5;
    let difference = (at(h) - at(-h)) / (2.0 * h);
    let allowed = 1e-6 * (slope.abs() + difference.abs()) + 1e-9 * values[0].data[0].abs() + 1e-9;
    match (slope - difference).abs() <= allowed {
        true => Ok(()),
        false => Err(format!("gradient {slope:e}, difference {difference:e}, {allowed:e} allowed")),
    }
}
