//! Reductions over axes, which disappear from the shape.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity};
use crate::{Array, Tensor, Type};
use shadegrad_device::{Combine, DType, numel};

/// The sum, product, maximum or minimum over axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// How elements are combined.
    pub combine: Combine,
    /// Which axes, ascending.
    pub axes: Vec<usize>,
}

impl Operation for Reduce {
    fn name(&self) -> String {
        format!("{:?}", self.combine).to_lowercase()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        let rank = inputs[0].shape.len();
        if self.axes.iter().any(|&axis| axis >= rank) || self.axes.windows(2).any(|w| w[0] >= w[1])
        {
            return Err(format!("{:?} are not axes of rank {rank}, ascending", self.axes));
        }
        let empty = self.axes.iter().any(|&axis| inputs[0].shape[axis] == 0);
        if empty && matches!(self.combine, Combine::Max | Combine::Min) {
            return Err("no element to take the maximum or minimum of".to_string());
        }
        if matches!(inputs[0].dtype, DType::Bool | DType::U8) {
            return Err(format!("can't combine {}; cast first", inputs[0].dtype));
        }
        let kept = (0..rank).filter(|axis| !self.axes.contains(axis));
        let shape: Vec<usize> = kept.map(|axis| inputs[0].shape[axis]).collect();
        Ok(Type::new(&shape, inputs[0].dtype.loaded()))
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (x, shape) = (&b.inputs[0], b.inputs[0].shape());
        let mut kept = shape.clone();
        for &axis in &self.axes {
            kept[axis] = 1;
        }
        let g = b.upstream.reshape(&kept).expand(&shape);
        match self.combine {
            Combine::Sum => return Gradient::Of(vec![Some(g)]),
            Combine::Prod => return Gradient::Of(vec![Some(g * others(x, &self.axes))]),
            Combine::Max | Combine::Min => {}
        }
        // Equal extremes share the gradient.
        let hit = x.equal(&b.output.reshape(&kept).expand(&shape));
        let count = hit.to(DType::F32).sum(&self.axes).reshape(&kept).expand(&shape);
        Gradient::Of(vec![Some(hit.select(&(g / count), &x.full_like(0.0)))])
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Reduce(self.combine, self.axes.clone())
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let input = inputs[0];
        let start = match self.combine {
            Combine::Sum => 0.0,
            Combine::Prod => 1.0,
            Combine::Max => f64::NEG_INFINITY,
            Combine::Min => f64::INFINITY,
        };
        let mut result = Array { ty: ty.clone(), data: vec![start; ty.numel()] };
        let mut point = 0;
        Array::from_fn(&input.ty, |at| {
            let mut to = 0;
            for (axis, &c) in at.iter().enumerate() {
                if !self.axes.contains(&axis) {
                    to = to * input.ty.shape[axis] + c;
                }
            }
            let value = input.data[point];
            point += 1;
            let total = &mut result.data[to];
            *total = match self.combine {
                Combine::Sum => wrapped(*total + value, ty.dtype),
                Combine::Prod => wrapped(*total * value, ty.dtype),
                Combine::Max if value > *total || value.is_nan() => value,
                Combine::Min if value < *total || value.is_nan() => value,
                _ => *total,
            };
            0.0
        });
        result
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        let cases: [(&[usize], &[usize]); 10] = [
            (&[1], &[0]),
            (&[65], &[0]),
            (&[3, 257], &[1]),
            (&[257, 3], &[0]),
            (&[2, 3, 5], &[1]),
            (&[2, 3, 5], &[0, 2]),
            (&[2, 21, 3], &[0, 1, 2]),
            (&[2, 63, 3], &[0, 1, 2]),
            (&[4, 2], &[]),
            (&[2, 1000], &[1]),
        ];
        for combine in [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min] {
            for (shape, axes) in cases {
                let count: usize = axes.iter().map(|&axis| shape[axis]).product();
                // Near one, so that products stay in range; few, so that differences stay accurate.
                let (low, high) = match combine {
                    Combine::Prod if count > 130 => continue,
                    Combine::Prod => (0.9, 1.1),
                    _ => (-2.0, 2.0),
                };
                samples.push(Sample {
                    op: Reduce { combine, axes: axes.to_vec() }.into(),
                    inputs: vec![SampleInput::float(shape, low, high).distinct()],
                });
            }
        }
        samples
    }
}

/// Integers wrap.
fn wrapped(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::U32 => value.rem_euclid(4_294_967_296.0),
        DType::I32 => (value + 2_147_483_648.0).rem_euclid(4_294_967_296.0) - 2_147_483_648.0,
        _ => value,
    }
}

/// For each element the product of the others along the axes: what comes before it times what comes
/// after, so that zeros are no exception.
fn others(x: &Tensor, axes: &[usize]) -> Tensor {
    let shape = x.shape();
    let rank = shape.len();
    let order: Vec<usize> =
        (0..rank).filter(|axis| !axes.contains(axis)).chain(axes.iter().copied()).collect();
    let moved: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let split = rank - axes.len();
    let count = numel(&moved[split..]);
    let lines = x.permute(&order).reshape(&[numel(&moved[..split]), count]);
    // The products of all elements before each, of which there are none before the first.
    let before = |x: &Tensor| {
        let shifted = x.narrow(1, 0, count - 1).pad(1, 1, 0);
        let first = shifted.along(1).equal(&shifted.along(1).full_like(0.0));
        first.select(&shifted.full_like(1.0), &shifted).cumprod(1)
    };
    let product = before(&lines) * before(&lines.flip(1)).flip(1);
    let mut back = vec![0; rank];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    product.reshape(&moved).permute(&back)
}
