//! Half precision: a storage type. What is computed from it is computed in f32.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity, floats};
use crate::{Array, Type};
use shadegrad_device::DType;

/// Each element rounded to half precision (to nearest, halves to even; infinity from 65 520 on) and
/// stored in two bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToHalf;

impl Operation for ToHalf {
    fn name(&self) -> String {
        "to_f16".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        floats(inputs)?;
        Ok(Type::new(&inputs[0].shape, DType::F16))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        Gradient::Through(vec![Some(b.upstream.clone())])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Half
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let round = |v: &f64| shadegrad_device::Literal::of(DType::F16, *v).value();
        Array { ty: ty.clone(), data: inputs[0].data.iter().map(round).collect() }
    }
    fn samples() -> Vec<Sample> {
        let sample = |shape: &[usize], high: f64| Sample {
            op: ToHalf.into(),
            inputs: vec![SampleInput::float(shape, -high, high)],
        };
        vec![
            sample(&[], 2.0),
            sample(&[1], 2.0),
            sample(&[2], 70_000.0),
            sample(&[3, 5], 1e-4),
            sample(&[257], 1e-6),
            sample(&[2, 3, 65], 70_000.0),
        ]
    }
}
