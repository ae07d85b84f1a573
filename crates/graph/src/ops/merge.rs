//! Sorting: passes that merge sorted runs. Each is one kernel, and there are as many as the length has
//! bits, so that any length can be sorted.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity};
use crate::{Array, Type};
use shadegrad_device::{DType, Merge};

/// From keys `[rows, len]` and the places of sorted runs `[rows, len]`, the places of runs twice as long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MergeRuns(pub Merge);

impl Operation for MergeRuns {
    fn name(&self) -> String {
        "merge_runs".to_string()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        arity(inputs, 2)?;
        let shape = [self.0.rows, self.0.len];
        if inputs.iter().any(|ty| ty.shape != shape) || inputs[1].dtype != DType::U32 {
            return Err(format!("takes keys and u32 places of {shape:?}"));
        }
        if inputs[0].dtype == DType::Bool {
            return Err("can't sort truth values; cast first".to_string());
        }
        Ok(Type::new(&shape, DType::U32))
    }

    fn gradient(&self, _: &Backward<'_>) -> Gradient {
        Gradient::Zero
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Merge(self.0)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let (key, place) = (inputs[0], inputs[1]);
        let mut data = Vec::with_capacity(ty.numel());
        for (row, places) in place.data.chunks(self.0.len.max(1)).enumerate() {
            for pair in places.chunks(self.0.width * 2) {
                let mut pair = pair.to_vec();
                pair.sort_by(|&a, &b| {
                    let value = |place: f64| key.data[row * self.0.len + place as usize];
                    let (a, b) = (value(a), value(b));
                    let (a, b) = if self.0.descending { (-a, -b) } else { (a, b) };
                    // NaN, of which neither is less, comes last.
                    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
                });
                data.extend(pair);
            }
        }
        Array { ty: ty.clone(), data }
    }

    fn samples() -> Vec<Sample> {
        // Runs of one element are sorted whatever they are; longer ones are made by earlier passes.
        let sample = |rows, len, descending, dtype| {
            let merge = Merge { rows, len, width: 1, descending };
            let ty = Type::new(&[rows, len], dtype);
            let key = SampleInput { ty, low: 0.0, high: 9.0, distinct: false, kinks: &[] };
            Sample {
                op: MergeRuns(merge).into(),
                inputs: vec![key, SampleInput::index(&[rows, len], len)],
            }
        };
        vec![
            sample(1, 1, false, DType::F32),
            sample(3, 65, false, DType::F32),
            sample(2, 64, true, DType::F32),
            sample(2, 7, true, DType::U32),
            sample(2, 7, false, DType::I32),
        ]
    }
}
