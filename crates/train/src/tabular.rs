//! Tables on the device: features as floats, classes as bytes, targets of a regression as floats.

use crate::data::table::{Classes, Table, Targets, Values};
use crate::{Dataset, Part, Samples, Statistics};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Tensor, Variable};

/// A table as variables.
pub struct Tabular {
    features: Variable,
    targets: Variable,
    count: usize,
}

impl Tabular {
    /// A table of classes to be put on the device, with the features as they are.
    pub fn new(table: &Table<Classes>) -> Tabular {
        let labels = &*table.targets.labels;
        Tabular::of(table, Variable::from_bytes("labels", &[table.len()], DType::U8, labels))
    }

    /// The same of a regression.
    pub fn regression(table: &Table<Values>) -> Tabular {
        let values: &[u8] = bytemuck::cast_slice(&table.targets.0);
        Tabular::of(table, Variable::from_bytes("targets", &[table.len(), 1], DType::F32, values))
    }

    fn of<T: Targets>(table: &Table<T>, targets: Variable) -> Tabular {
        let (count, width) = (table.len(), table.width());
        let features: &[u8] = bytemuck::cast_slice(&table.features);
        let features = Variable::from_bytes("features", &[count, width], DType::F32, features);
        Tabular { features, targets, count }
    }
}

impl Samples for Tabular {
    fn len(&self) -> usize {
        self.count
    }

    /// Features `[batch, columns]`, `F32`, and labels `[batch]`, `U32`, or targets `[batch, 1]`, `F32`.
    #[track_caller]
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        let of = |variable| graph.variable(variable).index_select(0, index);
        (of(&self.features), of(&self.targets))
    }
}

/// Tables are one part. They were standardised column by column when they were made, so nothing is left to normalise.
fn part(samples: Tabular) -> Vec<Part> {
    let numbers = (0..samples.count).collect();
    vec![Part { samples: Box::new(samples), numbers }]
}

impl Dataset for Table<Classes> {
    fn sizes(&self, _: usize) -> Vec<usize> {
        vec![self.targets.labels.len()]
    }

    fn parts(&self, _: usize, _: Option<Statistics>) -> Vec<Part> {
        part(Tabular::new(self))
    }
}

impl Dataset for Table<Values> {
    fn sizes(&self, _: usize) -> Vec<usize> {
        vec![self.targets.0.len()]
    }

    fn parts(&self, _: usize, _: Option<Statistics>) -> Vec<Part> {
        part(Tabular::regression(self))
    }
}
