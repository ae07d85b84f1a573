//! Leaves: variables, constants and coordinates.

use super::{Backward, Gradient, Lowering, Operation, Sample, arity};
use crate::{Array, Type};
use shadegrad_device::{DType, Literal};

/// Part of a variable, as it is before the step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// The variable's id.
    pub variable: u64,
    /// First element.
    pub offset: usize,
    /// Shape and element type of the part.
    pub ty: Type,
}

impl Operation for Leaf {
    fn name(&self) -> String {
        "variable".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 0)?;
        Ok(self.ty.clone())
    }
    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Leaf
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        // The interpreter hands the variable's contents over as the only input.
        let data = inputs[0].data[self.offset..self.offset + ty.numel()].to_vec();
        Array { ty: ty.clone(), data }
    }
    fn samples() -> Vec<Sample> {
        // Every sample's inputs are leaves.
        vec![]
    }
}

/// One constant everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Full {
    /// Shape of the result.
    pub shape: Vec<usize>,
    /// The constant.
    pub literal: Literal,
}

impl Operation for Full {
    fn name(&self) -> String {
        format!("full {}", self.literal)
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 0)?;
        Ok(Type::new(&self.shape, self.literal.dtype))
    }
    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Leaf
    }
    fn reference(&self, _: &[&Array], ty: &Type) -> Array {
        Array::from_fn(ty, |_| self.literal.value())
    }
    fn samples() -> Vec<Sample> {
        let full = |shape: &[usize], dtype, value| Full {
            shape: shape.to_vec(),
            literal: Literal::of(dtype, value),
        };
        [full(&[3], DType::F32, -1.5), full(&[], DType::U32, 7.0), full(&[2, 2], DType::Bool, 1.0)]
            .into_iter()
            .map(|op| Sample { op: op.into(), inputs: vec![] })
            .collect()
    }
}

/// The coordinate along an axis, as `U32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Iota {
    /// How many.
    pub len: usize,
}

impl Operation for Iota {
    fn name(&self) -> String {
        "iota".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 0)?;
        Ok(Type::new(&[self.len], DType::U32))
    }
    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Leaf
    }
    fn reference(&self, _: &[&Array], ty: &Type) -> Array {
        Array::from_fn(ty, |at| at[0] as f64)
    }
    fn samples() -> Vec<Sample> {
        [1, 3, 257].map(|len| Sample { op: Iota { len }.into(), inputs: vec![] }).to_vec()
    }
}
