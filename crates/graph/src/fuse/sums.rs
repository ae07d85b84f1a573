//! Sums of rows that a contraction reads anyway: beside the gradient of a weight, that of its bias. They become part of
//! the contraction, which has the rows at hand.

use super::{ClusterId, Core, Fused, Place, Use};
use crate::Value;
use crate::ops::Lowering;
use shadegrad_device::{Combine, Contraction, DType, Limits, View, numel};

impl Fused {
    /// Moves sums that stand alone into contractions whose rows they are the sums of.
    pub(super) fn absorb_sums(&mut self, limits: &Limits) {
        for cluster in 0..self.clusters.len() {
            let members = self.clusters[cluster].members.clone();
            let Some(&(sum, _)) = members.first().filter(|_| members.iter().all(|m| m.1)) else {
                continue;
            };
            // One sum; what else there is, is computed from it.
            let reduces = |(member, _): &&(Value, bool)| {
                matches!(self.lowering(*member), Lowering::Reduce(..))
            };
            if members.iter().filter(reduces).count() > 1 {
                continue;
            }
            let Lowering::Reduce(Combine::Sum, axes) = self.lowering(sum) else {
                continue;
            };
            let Some((value, view)) = self.plain(self.node(sum).inputs[0]) else {
                continue;
            };
            let fits = |&&reader: &&ClusterId| {
                self.sums_rows(reader, sum, &axes, (value, &view)) && !self.depends(reader, cluster)
            };
            let Some(&reader) = self.readers(value).iter().find(fits) else {
                continue;
            };
            let before = self.clusters[reader].members.clone();
            let joint = [before.as_slice(), &members].concat();
            self.regroup(&members, (reader, joint), (cluster, vec![]));
            let fine = self.consistent(reader)
                && self.expressible_members(reader)
                && self.bound(reader) <= limits.bindings;
            if !fine {
                self.regroup(&members, (cluster, members.clone()), (reader, before));
            }
        }
    }

    /// Gives two clusters the members that they have from now on, of which some go to the first.
    fn regroup(
        &mut self,
        moving: &[(Value, bool)],
        to: (ClusterId, Vec<(Value, bool)>),
        from: (ClusterId, Vec<(Value, bool)>),
    ) {
        moving.iter().for_each(|(member, _)| self.place[member.index()] = Place::In(to.0));
        for (cluster, members) in [to, from] {
            self.clusters[cluster].members = members;
            self.link(cluster);
        }
    }

    /// The value in memory that an operand is a view of.
    fn plain(&self, operand: Value) -> Option<(Value, View)> {
        match self.uses(operand).pop()? {
            Use { value, view: Some(view) } => Some((value, view)),
            _ => None,
        }
    }

    /// Whether a sum over axes of a view is that of the rows of a contraction.
    fn sums_rows(
        &self,
        cluster: ClusterId,
        sum: Value,
        axes: &[usize],
        (value, view): (Value, &View),
    ) -> bool {
        let target = &self.clusters[cluster];
        let Core::Contract(contraction) = &target.core else {
            return false;
        };
        let Some(source) = contraction.row_source() else {
            return false;
        };
        let first = self.node(target.members[0].0);
        let read = self.plain(first.inputs[source]);
        let Some((_, rows)) = read.filter(|(read, _)| *read == value) else {
            return false;
        };
        let same = match contraction {
            Contraction::Conv(..) => rows == *view && *axes == [0, 2, 3],
            Contraction::MatMul { k, .. } => {
                let shape = [numel(&contraction.rows()), *k];
                let fits = numel(&self.node(sum).ty.shape) == shape[0]
                    && numel(&view.shape) == shape[0] * shape[1];
                let summed = || view.permute(&self.reduced_last(sum, axes)).reshape(&shape);
                fits && summed().is_some_and(|summed| rows.reshape(&shape) == Some(summed))
            }
        };
        let float = self.node(sum).ty.dtype == DType::F32;
        same && float && target.members.iter().all(|(_, by_row)| !by_row)
    }
}
