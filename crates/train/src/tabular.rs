//! Tables on the device: features as floats, classes as bytes.

use crate::data::table::{Classes, Table};
use crate::{Dataset, Part, Samples, Statistics};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Tensor, Variable};

/// A table of classes as variables.
pub struct Tabular {
    features: Variable,
    labels: Variable,
    count: usize,
}

impl Tabular {
    /// A table to be put on the device, with the features as they are.
    pub fn new(table: &Table<Classes>) -> Tabular {
        let (count, width) = (table.len(), table.width());
        let features: &[u8] = bytemuck::cast_slice(&table.features);
        let labels = &*table.targets.labels;
        Tabular {
            features: Variable::from_bytes("features", &[count, width], DType::F32, features),
            labels: Variable::from_bytes("labels", &[count], DType::U8, labels),
            count,
        }
    }
}

impl Samples for Tabular {
    fn len(&self) -> usize {
        self.count
    }

    /// Features `[batch, columns]`, `F32`, and labels `[batch]`, `U32`.
    #[track_caller]
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        let of = |variable| graph.variable(variable).index_select(0, index);
        (of(&self.features), of(&self.labels))
    }
}

/// Tables are one part. They were standardised column by column when they were made, so nothing is left to normalise.
impl Dataset for Table<Classes> {
    fn sizes(&self, _: usize) -> Vec<usize> {
        vec![self.targets.labels.len()]
    }

    fn parts(&self, _: usize, _: Option<Statistics>) -> Vec<Part> {
        let numbers = (0..self.targets.labels.len()).collect();
        vec![Part { samples: Box::new(Tabular::new(self)), numbers }]
    }
}
