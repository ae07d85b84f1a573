//! Linear recurrences along an axis, in numbers or in logarithms. Cumulative sums and products are
//! recurrences, and so is what a sequence model sums over its alignments.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, floats};
use crate::{Array, Tensor, Type};
use shadegrad_device::{DType, Recurrence};

/// `h[t][s] = x[t][s] + sum over j of a_j[t][s] h[t - 1][s - offset_j]`: inputs are `x` and every `a_j`,
/// of one shape. Its gradient is a recurrence that runs backwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan(pub Recurrence);

impl Scan {
    /// The state of the step before, `offset` points back; `nothing` where there is none.
    fn past(&self, h: &Tensor, offset: usize, nothing: f64) -> Tensor {
        let axis = self.0.axis;
        let steps = self.0.shape[axis];
        let mut past = h.narrow(axis, 0, steps.saturating_sub(1)).pad(axis, steps.min(1), 0);
        let mut exists = past.along(axis).greater(&past.along(axis).full_like(0.0));
        if offset > 0 {
            let points = self.0.shape[axis + 1];
            let offset = offset.min(points);
            past = past.narrow(axis + 1, 0, points - offset).pad(axis + 1, offset, 0);
            let point = past.along(axis + 1);
            exists = exists.and(&point.greater_equal(&point.full_like(offset as f64)));
        }
        exists.select(&past, &past.full_like(nothing))
    }

    /// What of a coefficient of the step after, `offset` points on, reaches back to here; zero where
    /// there is no such step or point.
    fn next(&self, a: &Tensor, offset: usize) -> Tensor {
        let axis = self.0.axis;
        let steps = self.0.shape[axis];
        let from = steps.min(1);
        let mut next = a.narrow(axis, from, steps - from).pad(axis, 0, from);
        if offset > 0 {
            let points = self.0.shape[axis + 1];
            let offset = offset.min(points);
            next = next.narrow(axis + 1, offset, points - offset).pad(axis + 1, 0, offset);
        }
        next
    }

    /// The loss's slope by every state, from its slope by what becomes of the states outside and the
    /// weights with which each state enters the next: the same recurrence, from the end.
    fn adjoint(&self, upstream: &Tensor, weights: &[Tensor]) -> Tensor {
        let reversed = |x: &Tensor| {
            let x = x.flip(self.0.axis);
            if self.0.mixes() { x.flip(self.0.axis + 1) } else { x }
        };
        let mut inputs = vec![reversed(upstream)];
        for (weight, &offset) in weights.iter().zip(&self.0.offsets) {
            inputs.push(reversed(&self.next(weight, offset)));
        }
        let backwards = Scan(Recurrence { log: false, ..self.0.clone() });
        reversed(&upstream.record(backwards, &inputs.iter().collect::<Vec<_>>()))
    }
}

impl Operation for Scan {
    fn name(&self) -> String {
        if self.0.log { "log_scan".to_string() } else { "scan".to_string() }
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        let Recurrence { shape, axis, offsets, .. } = &self.0;
        super::arity(inputs, 1 + offsets.len())?;
        floats(inputs)?;
        if let Some(ty) = inputs.iter().find(|ty| ty.shape != *shape) {
            return Err(format!("{:?} where {shape:?} is expected", ty.shape));
        }
        if *axis >= shape.len() || self.0.mixes() && axis + 2 != shape.len() {
            return Err(format!("steps along axis {axis} of {shape:?}"));
        }
        Ok(Type::new(shape, DType::F32))
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        let (h, coefficients) = (b.output, &b.inputs[1..]);
        let nothing = if self.0.log { f64::NEG_INFINITY } else { 0.0 };
        let pasts: Vec<Tensor> =
            self.0.offsets.iter().map(|&offset| self.past(h, offset, nothing)).collect();
        if !self.0.log {
            let slope = self.adjoint(b.upstream, coefficients);
            let mut gradients = vec![Some(slope.clone())];
            gradients.extend(pasts.iter().map(|past| Some(&slope * past)));
            return Gradient::Of(gradients);
        }
        // Where the state is minus infinity nothing has entered it.
        let some = h.greater(&h.full_like(f64::NEG_INFINITY));
        let share = |part: Tensor| {
            let zero = h.full_like(0.0);
            some.select(&some.select(&(part - h), &zero).exp(), &zero)
        };
        let weights: Vec<Tensor> =
            coefficients.iter().zip(&pasts).map(|(a, past)| share(a + past)).collect();
        let slope = self.adjoint(b.upstream, &weights);
        let mut gradients = vec![Some(&slope * share(b.inputs[0].clone()))];
        gradients.extend(weights.iter().map(|weight| Some(&slope * weight)));
        Gradient::Of(gradients)
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Scan(self.0.clone())
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let [outer, steps, inner] = self.0.lines();
        let mut h = inputs[0].data.clone();
        for line in 0..outer {
            for step in 1..steps {
                for point in 0..inner {
                    let at = (line * steps + step) * inner + point;
                    let mut parts = vec![h[at]];
                    for (a, &offset) in inputs[1..].iter().zip(&self.0.offsets) {
                        if point >= offset {
                            let past = h[at - inner - offset];
                            parts.push(if self.0.log {
                                a.data[at] + past
                            } else {
                                a.data[at] * past
                            });
                        }
                    }
                    h[at] = match self.0.log {
                        false => parts.iter().sum(),
                        true => {
                            let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
                            let most = parts.iter().copied().fold(f64::NEG_INFINITY, larger);
                            match most.is_finite() {
                                true => {
                                    most + parts.iter().map(|p| (p - most).exp()).sum::<f64>().ln()
                                }
                                false => most,
                            }
                        }
                    };
                }
            }
        }
        Array { ty: ty.clone(), data: h }
    }

    fn samples() -> Vec<Sample> {
        let cases: [(&[usize], usize, &[usize]); 7] = [
            (&[7], 0, &[0]),
            (&[3, 65], 1, &[0]),
            (&[2, 5, 3], 1, &[0]),
            (&[1, 3], 1, &[0]),
            (&[2, 6, 5], 1, &[0, 1]),
            (&[3, 4, 67], 1, &[0, 1, 2]),
            (&[2, 3, 2], 1, &[0, 1, 2]),
        ];
        let mut samples = Vec::new();
        for (shape, axis, offsets) in cases {
            for log in [false, true] {
                let recurrence =
                    Recurrence { shape: shape.to_vec(), axis, offsets: offsets.to_vec(), log };
                let mut inputs = vec![SampleInput::float(shape, -1.0, 1.0)];
                inputs.resize(1 + offsets.len(), SampleInput::float(shape, -0.9, 0.9));
                samples.push(Sample { op: Scan(recurrence).into(), inputs });
            }
        }
        samples
    }
}
