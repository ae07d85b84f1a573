//! Checks: values against the f64 reference, gradients against differences. Used by the test suite, by
//! `shadegrad selftest`, and by whoever writes a function or an operation.

mod gradient;
mod suite;
mod tolerance;

pub use gradient::{gradcheck, gradient, is_differentiable, is_differentiated_once, rule};
pub use suite::{Checked, Settings, case, custom, samples, suite};
pub use tolerance::{allowed, tolerance};

use crate::ops::{Sample, SampleInput};
use crate::{Array, Graph, Init, Tensor, Variable};
use shadegrad_device::{DType, Literal, random};

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

/// The first element that is further from its expectation than allowed, as text; without a bound nothing is.
pub fn compare(got: &Array, expected: &Array, allowed: &[f64]) -> Result<(), String> {
    if got.ty != expected.ty {
        return Err(format!("{} where {} is expected", got.ty, expected.ty));
    }
    for (i, ((&g, &e), &t)) in got.data.iter().zip(&expected.data).zip(allowed).enumerate() {
        let bounded = t.is_finite() || !e.is_finite();
        let same = g == e || bounded && (g - e).abs() <= t || g.is_nan() && e.is_nan();
        if !same {
            return Err(format!(
                "element {i} is {g:e}, not {e:e}: {:e} apart, {t:e} allowed",
                (g - e).abs()
            ));
        }
    }
    Ok(())
}
