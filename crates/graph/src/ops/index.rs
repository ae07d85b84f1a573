//! Gather and scatter-add along an axis: each the other's gradient.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity, floats};
use crate::{Array, Type};
use shadegrad_device::DType;

/// `out[i][j][k] = x[i][index[i][j][k]][k]` along an axis, as PyTorch's `gather`.
///
/// An index outside the axis gives NaN (zero for integers), on every device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    /// Which axis.
    pub axis: usize,
}

impl Operation for Gather {
    fn name(&self) -> String {
        "gather".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 2)?;
        let (x, index) = (inputs[0], inputs[1]);
        let fits = x.shape.len() == index.shape.len()
            && self.axis < x.shape.len()
            && (0..x.shape.len())
                .all(|axis| axis == self.axis || index.shape[axis] <= x.shape[axis]);
        if fits && x.shape[self.axis] == 0 && index.numel() > 0 {
            return Err(format!("axis {} has nothing to gather", self.axis));
        }
        if !fits || index.dtype != DType::U32 {
            return Err(format!(
                "takes u32 indices no larger than the input but on axis {}",
                self.axis
            ));
        }
        Ok(Type::new(&index.shape, x.dtype.loaded()))
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (x, index) = (&b.inputs[0], &b.inputs[1]);
        let (shape, taken) = (x.shape(), index.shape());
        let op = ScatterAdd { axis: self.axis, len: shape[self.axis] };
        let mut dx = b.upstream.record(op, &[b.upstream, index]);
        for axis in 0..shape.len() {
            if axis != self.axis {
                dx = dx.pad(axis, 0, shape[axis] - taken[axis]);
            }
        }
        Gradient::Of(vec![Some(dx), None])
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Gather(self.axis)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (x, index) = (inputs[0], inputs[1]);
        Array::from_fn(ty, |at| {
            let mut from = at.to_vec();
            from[self.axis] = index.at(at) as usize;
            match from[self.axis] < x.ty.shape[self.axis] {
                true => x.at(&from),
                false if ty.dtype.loaded() == DType::F32 => f64::NAN,
                false => 0.0,
            }
        })
    }

    fn samples() -> Vec<Sample> {
        let cases: [(&[usize], &[usize], usize); 5] = [
            (&[5], &[9], 0),
            (&[7, 3], &[4, 3], 0),
            (&[3, 65], &[3, 2], 1),
            (&[2, 6, 3], &[2, 4, 2], 1),
            (&[2, 3, 257], &[1, 3, 63], 2),
        ];
        cases
            .map(|(x, index, axis)| Sample {
                op: Gather { axis }.into(),
                inputs: vec![SampleInput::float(x, -2.0, 2.0), SampleInput::index(index, x[axis])],
            })
            .to_vec()
    }
}

/// Zeros with `source[i][j][k]` added at `[i][index[i][j][k]][k]` along an axis of extent `len`.
///
/// Sources are added in order, so equal inputs give equal bits. An index outside goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScatterAdd {
    /// Which axis.
    pub axis: usize,
    /// Its extent in the result.
    pub len: usize,
}

impl Operation for ScatterAdd {
    fn name(&self) -> String {
        "scatter_add".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 2)?;
        floats(&inputs[..1])?;
        let (source, index) = (inputs[0], inputs[1]);
        if source.shape != index.shape
            || index.dtype != DType::U32
            || self.axis >= source.shape.len()
        {
            return Err(format!(
                "takes a source and u32 indices of one shape with an axis {}",
                self.axis
            ));
        }
        let mut shape = source.shape.clone();
        shape[self.axis] = self.len;
        Ok(Type::new(&shape, DType::F32))
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (source, index) = (&b.inputs[0], &b.inputs[1]);
        if self.len == 0 {
            return Gradient::Of(vec![Some(source.full_like(0.0)), None]);
        }
        // What goes nowhere has no slope.
        let inside = index.less(&index.full_like(self.len as f64));
        let taken = b.upstream.gather(self.axis, index);
        Gradient::Of(vec![Some(inside.select(&taken, &taken.full_like(0.0))), None])
    }

    fn lower(&self, inputs: &[&Type]) -> Lowering {
        Lowering::Scatter(inputs[0].shape.clone(), self.axis, self.len)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (source, index) = (inputs[0], inputs[1]);
        let mut result = Array::from_fn(ty, |_| 0.0);
        let strides = shadegrad_device::contiguous_strides(&ty.shape);
        Array::from_fn(&source.ty, |at| {
            let mut to = at.to_vec();
            to[self.axis] = index.at(at) as usize;
            if to[self.axis] < self.len {
                let place: usize = to.iter().zip(&strides).map(|(&c, &s)| c * s as usize).sum();
                result.data[place] += source.at(at);
            }
            0.0
        });
        result
    }

    fn samples() -> Vec<Sample> {
        let cases: [(&[usize], usize, usize); 4] =
            [(&[9], 0, 5), (&[4, 3], 0, 7), (&[2, 65, 3], 1, 4), (&[3, 2], 1, 257)];
        cases
            .map(|(source, axis, len)| Sample {
                op: ScatterAdd { axis, len }.into(),
                inputs: vec![
                    SampleInput::float(source, -2.0, 2.0),
                    SampleInput::index(source, len),
                ],
            })
            .to_vec()
    }
}
