//! Pack: tensors laid one after the other in memory, so that one kernel can work on all of them.
//! Inputs that are computed anyway are computed right into their place.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput};
use crate::{Array, Type};
use shadegrad_device::DType;

/// All elements of all inputs in order, as one axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pack;

impl Operation for Pack {
    fn name(&self) -> String {
        "pack".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        if let Some(ty) = inputs.iter().find(|ty| ty.dtype != DType::F32) {
            return Err(format!("packs f32, not {}", ty.dtype));
        }
        Ok(Type::new(&[inputs.iter().map(|ty| ty.numel()).sum()], DType::F32))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let mut start = 0;
        let part = |x: &crate::Tensor| {
            let shape = x.shape();
            let count = shadegrad_device::numel(&shape);
            start += count;
            Some(b.upstream.narrow(0, start - count, count).reshape(&shape))
        };
        Gradient::Of(b.inputs.iter().map(part).collect())
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Pack
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        Array { ty: ty.clone(), data: inputs.iter().flat_map(|x| x.data.clone()).collect() }
    }
    fn samples() -> Vec<Sample> {
        let input = |shape: &[usize]| SampleInput::float(shape, -2.0, 2.0);
        vec![
            Sample { op: Pack.into(), inputs: vec![input(&[3])] },
            Sample { op: Pack.into(), inputs: vec![input(&[2, 3]), input(&[]), input(&[65])] },
        ]
    }
}
