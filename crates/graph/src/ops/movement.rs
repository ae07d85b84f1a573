//! Movement: other ways to look at the same elements. They cost nothing; each one's gradient is
//! another of them, or a sum.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity};
use crate::{Array, Type};
use shadegrad_device::{View, numel};

/// What a movement does to a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Movement {
    /// Another shape for the same elements in the same order.
    Reshape(Vec<usize>),
    /// Axes in another order.
    Permute(Vec<usize>),
    /// Axes of extent one repeated.
    Expand(Vec<usize>),
    /// `(axis, start, step, len)`
    Slice(usize, usize, isize, usize),
    /// `(axis, before, after)`, filled with zeros.
    Pad(usize, usize, usize),
}

impl Movement {
    /// The view moved, where a view can express it.
    pub fn apply(&self, view: &View) -> Option<View> {
        match self {
            Movement::Reshape(shape) => view.reshape(shape),
            Movement::Permute(order) => Some(view.permute(order)),
            Movement::Expand(shape) => Some(view.expand(shape)),
            Movement::Slice(axis, start, step, len) => Some(view.slice(*axis, *start, *step, *len)),
            Movement::Pad(axis, before, after) => Some(view.pad(*axis, *before, *after)),
        }
    }
}

fn sample(op: impl Into<super::Op>, shape: &[usize]) -> Sample {
    Sample { op: op.into(), inputs: vec![SampleInput::float(shape, -2.0, 2.0)] }
}

/// Another shape for the same elements in row-major order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape(pub Vec<usize>);

impl Operation for Reshape {
    fn name(&self) -> String {
        "reshape".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        if inputs[0].numel() != numel(&self.0) {
            return Err(format!("{:?} has {} elements", self.0, numel(&self.0)));
        }
        Ok(Type::new(&self.0, inputs[0].dtype))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        Gradient::Of(vec![Some(b.upstream.reshape(&b.inputs[0].shape()))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::View(Movement::Reshape(self.0.clone()))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        Array { ty: ty.clone(), data: inputs[0].data.clone() }
    }
    fn samples() -> Vec<Sample> {
        vec![sample(Reshape(vec![6, 4]), &[2, 3, 4]), sample(Reshape(vec![]), &[1, 1])]
    }
}

/// Axes in another order: axis `i` of the result is axis `order[i]` of the input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permute(pub Vec<usize>);

impl Operation for Permute {
    fn name(&self) -> String {
        "permute".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        if sorted != (0..inputs[0].shape.len()).collect::<Vec<_>>() {
            return Err(format!("{:?} is no order of the axes", self.0));
        }
        let shape: Vec<usize> = self.0.iter().map(|&axis| inputs[0].shape[axis]).collect();
        Ok(Type::new(&shape, inputs[0].dtype))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let mut back = vec![0; self.0.len()];
        for (to, &from) in self.0.iter().enumerate() {
            back[from] = to;
        }
        Gradient::Of(vec![Some(b.upstream.permute(&back))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::View(Movement::Permute(self.0.clone()))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        Array::from_fn(ty, |at| {
            let mut source = vec![0; at.len()];
            for (to, &from) in self.0.iter().enumerate() {
                source[from] = at[to];
            }
            inputs[0].at(&source)
        })
    }
    fn samples() -> Vec<Sample> {
        vec![
            sample(Permute(vec![1, 0]), &[3, 65]),
            sample(Permute(vec![2, 0, 1]), &[2, 3, 4]),
            sample(Permute(vec![0, 3, 1, 2]), &[2, 3, 5, 1]),
        ]
    }
}

/// Axes of extent one repeated to the extents of a shape of the same rank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expand(pub Vec<usize>);

impl Operation for Expand {
    fn name(&self) -> String {
        "expand".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        let fits = inputs[0].shape.len() == self.0.len()
            && inputs[0].shape.iter().zip(&self.0).all(|(&from, &to)| from == to || from == 1);
        match fits {
            true => Ok(Type::new(&self.0, inputs[0].dtype)),
            false => Err(format!("does not expand to {:?}", self.0)),
        }
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let from = b.inputs[0].shape();
        let axes: Vec<usize> = (0..from.len()).filter(|&axis| from[axis] != self.0[axis]).collect();
        Gradient::Of(vec![Some(b.upstream.sum(&axes).reshape(&from))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::View(Movement::Expand(self.0.clone()))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let shape = &inputs[0].ty.shape;
        Array::from_fn(ty, |at| {
            let source: Vec<usize> = at.iter().zip(shape).map(|(&c, &n)| c.min(n - 1)).collect();
            inputs[0].at(&source)
        })
    }
    fn samples() -> Vec<Sample> {
        vec![
            sample(Expand(vec![4, 65]), &[1, 65]),
            sample(Expand(vec![2, 3, 5]), &[2, 1, 1]),
            sample(Expand(vec![7]), &[1]),
        ]
    }
}

/// Every `step`-th element from `start` along an axis; a negative step walks back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Which axis.
    pub axis: usize,
    /// First coordinate.
    pub start: usize,
    /// Distance to the next; not zero.
    pub step: isize,
    /// How many.
    pub len: usize,
}

impl Operation for Slice {
    fn name(&self) -> String {
        "slice".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        let mut shape = inputs[0].shape.clone();
        let extent = *shape.get(self.axis).ok_or(format!("there is no axis {}", self.axis))?;
        let way = self.len.saturating_sub(1).checked_mul(self.step.unsigned_abs());
        let last = way.and_then(|way| match self.step > 0 {
            true => self.start.checked_add(way),
            false => self.start.checked_sub(way),
        });
        let inside = self.start < extent && last.is_some_and(|last| last < extent);
        if self.step == 0 || self.len > 0 && !inside {
            return Err(format!(
                "{} elements from {} by {} leave axis {} of extent {extent}",
                self.len, self.start, self.step, self.axis
            ));
        }
        shape[self.axis] = self.len;
        Ok(Type::new(&shape, inputs[0].dtype))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let extent = b.inputs[0].shape()[self.axis];
        if self.len == 0 {
            return Gradient::Of(vec![Some(b.inputs[0].full_like(0.0))]);
        }
        let step = self.step.unsigned_abs();
        // Walk forwards, put step - 1 zeros after each element, then pad to where they came from.
        let mut g = b.upstream.clone();
        let mut start = self.start;
        if self.step < 0 {
            g = g.flip(self.axis);
            start -= (self.len - 1) * step;
        }
        if step > 1 {
            let mut spread = g.shape();
            spread.insert(self.axis + 1, 1);
            g = g.reshape(&spread).pad(self.axis + 1, 0, step - 1);
            let mut joined = b.upstream.shape();
            joined[self.axis] *= step;
            let keep = (self.len - 1) * step + 1;
            g = g.reshape(&joined).narrow(self.axis, 0, keep);
        }
        let covered = g.shape()[self.axis];
        Gradient::Of(vec![Some(g.pad(self.axis, start, extent - start - covered))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::View(Movement::Slice(self.axis, self.start, self.step, self.len))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        Array::from_fn(ty, |at| {
            let mut source = at.to_vec();
            source[self.axis] = (self.start as isize + at[self.axis] as isize * self.step) as usize;
            inputs[0].at(&source)
        })
    }
    fn samples() -> Vec<Sample> {
        let slice = |axis, start, step, len| Slice { axis, start, step, len };
        vec![
            sample(slice(0, 1, 1, 3), &[5, 3]),
            sample(slice(1, 6, -2, 3), &[2, 7]),
            sample(slice(1, 1, 3, 2), &[2, 7, 3]),
            sample(slice(0, 64, -1, 65), &[65]),
        ]
    }
}

/// Zeros before and after along an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pad {
    /// Which axis.
    pub axis: usize,
    /// Zeros before the first element.
    pub before: usize,
    /// Zeros after the last.
    pub after: usize,
}

impl Operation for Pad {
    fn name(&self) -> String {
        "pad".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        let mut shape = inputs[0].shape.clone();
        let extent =
            shape.get_mut(self.axis).ok_or_else(|| format!("there is no axis {}", self.axis))?;
        let grown = extent.checked_add(self.before).and_then(|n| n.checked_add(self.after));
        *extent =
            grown.ok_or_else(|| format!("{} and {} more are too many", self.before, self.after))?;
        Ok(Type::new(&shape, inputs[0].dtype))
    }
    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let extent = b.inputs[0].shape()[self.axis];
        Gradient::Of(vec![Some(b.upstream.narrow(self.axis, self.before, extent))])
    }
    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::View(Movement::Pad(self.axis, self.before, self.after))
    }
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let extent = inputs[0].ty.shape[self.axis];
        Array::from_fn(ty, |at| match at[self.axis].checked_sub(self.before) {
            Some(c) if c < extent => {
                let mut source = at.to_vec();
                source[self.axis] = c;
                inputs[0].at(&source)
            }
            _ => 0.0,
        })
    }
    fn samples() -> Vec<Sample> {
        let pad = |axis, before, after| Pad { axis, before, after };
        vec![
            sample(pad(0, 2, 1), &[3]),
            sample(pad(1, 0, 4), &[2, 5, 3]),
            sample(pad(0, 63, 0), &[2, 2]),
            // Longer than a block of the CPU backend, with whole blocks outside of the data.
            sample(pad(1, 0, 7), &[26, 3]),
            sample(pad(0, 0, 300), &[20]),
            sample(pad(0, 280, 0), &[20]),
        ]
    }
}

/// The same value, through which no gradient flows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detach;

impl Operation for Detach {
    fn name(&self) -> String {
        "detach".to_string()
    }
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 1)?;
        Ok(inputs[0].clone())
    }
    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Zero
    }
    fn lower(&self, inputs: &[&Type]) -> Lowering {
        Lowering::View(Movement::Reshape(inputs[0].shape.clone()))
    }
    fn reference(&self, inputs: &[&Array], _: &Type) -> Array {
        inputs[0].clone()
    }
    fn samples() -> Vec<Sample> {
        vec![sample(Detach, &[3])]
    }
}
