//! The slow truth of whole graphs: every value by its operation's reference, in f64.

use crate::ops::Op;
use crate::{Array, Graph, GraphError, Nodes, Tensor};
use std::collections::HashMap;

/// Contents of variables, by id.
pub type Contents = HashMap<u64, Array>;

impl Nodes {
    /// Every variable's contents at the start.
    pub fn initial(&self) -> Contents {
        self.variables
            .iter()
            .map(|(&id, variable)| {
                let ty = variable.ty();
                (id, Array::from_bytes(ty, &variable.init().bytes(ty.dtype, ty.numel())))
            })
            .collect()
    }

    /// Runs one step: every value that is needed, then the assignments to `contents`.
    pub fn interpret(&self, contents: &mut Contents) -> Vec<Array> {
        self.interpret_with(contents, &mut |_, _, _| {})
    }

    /// The same, where `each` sees every operation with its inputs and may change its value.
    pub(crate) fn interpret_with(
        &self,
        contents: &mut Contents,
        each: &mut impl FnMut(&Op, &[&Array], &mut Array),
    ) -> Vec<Array> {
        let needed = self.reachable();
        let mut values: Vec<Option<Array>> = Vec::with_capacity(self.nodes.len());
        for (number, node) in self.nodes.iter().enumerate() {
            if !needed[number] {
                values.push(None);
                continue;
            }
            let inputs: Vec<&Array> = match &node.op {
                Op::Leaf(leaf) => contents.get(&leaf.variable).into_iter().collect(),
                _ => node.inputs.iter().filter_map(|v| values[v.index()].as_ref()).collect(),
            };
            let mut value = node.op.reference(&inputs, &node.ty);
            if !matches!(node.op, Op::Leaf(_)) {
                each(&node.op, &inputs, &mut value);
            }
            values.push(Some(value));
        }
        for (variable, value) in &self.assigns {
            if let Some(array) = &values[value.index()] {
                contents.insert(*variable, array.clone());
            }
        }
        self.outputs.iter().filter_map(|v| values[v.index()].clone()).collect()
    }
}

impl Graph {
    /// The values of tensors by the reference, with variables as they start.
    ///
    /// # Errors
    /// The first mistake that was recorded.
    pub fn reference(&self, outputs: &[&Tensor]) -> Result<Vec<Array>, GraphError> {
        let nodes = self.nodes(outputs)?;
        Ok(nodes.interpret(&mut nodes.initial()))
    }
}
