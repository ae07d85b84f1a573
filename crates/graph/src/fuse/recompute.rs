//! Last passes: values that are cheaper to compute again than to store, and pointwise clusters that
//! become the prologue of their only reader.

use super::{CHEAP, ClusterId, Core, Fused, Place};
use crate::Value;
use crate::ops::{Lowering, Op};
use shadegrad_device::{Limits, numel};
use std::collections::BTreeSet;

impl Fused {
    /// Makes cheap values virtual that are stored for other clusters although they follow from one
    /// value that is stored anyway: a relu's mask is computed again from the relu.
    pub(super) fn sink(&mut self, limits: &Limits) {
        for number in (0..self.place.len()).rev() {
            let value = Value(number as u32);
            let (Place::In(cluster), Lowering::Pointwise(_)) =
                (self.place(value), self.lowering(value))
            else {
                continue;
            };
            if self.tree_weight(value) > CHEAP || self.kept(value) {
                continue;
            }
            let readers = self.readers(value).clone();
            // Of use in its own cluster, or not read elsewhere: it stays.
            let used_here = self.clusters[cluster].members.iter().any(|&(member, _)| {
                self.node(member)
                    .inputs
                    .iter()
                    .any(|&v| self.uses(v).iter().any(|u| u.value == value))
            });
            let mut from = BTreeSet::new();
            for &input in &self.node(value).inputs {
                self.stored(input, &mut |v| {
                    from.insert(v);
                });
            }
            let whole = |v: &Value| self.node(*v).ty.numel() > 1;
            let anyway = from.iter().filter(|v| whole(v)).all(|&v| {
                matches!(self.node(v).op, Op::Leaf(_))
                    || self.readers(v).iter().any(|c| !self.makers(v).contains(c))
            });
            if readers.is_empty()
                || used_here
                || !anyway
                || from.iter().filter(|v| whole(v)).count() > 1
            {
                continue;
            }
            self.place[number] = Place::Virtual;
            let before = self.clusters[cluster].members.clone();
            self.clusters[cluster].members.retain(|(member, _)| *member != value);
            readers.iter().chain([&cluster]).for_each(|&c| self.link(c));
            let fine = !self.clusters[cluster].members.is_empty()
                && readers.iter().all(|&c| {
                    self.consistent(c)
                        && self.expressible_members(c)
                        && self.bound(c) <= limits.bindings
                });
            if !fine {
                self.place[number] = Place::In(cluster);
                self.clusters[cluster].members = before;
                readers.iter().chain([&cluster]).for_each(|&c| self.link(c));
            }
        }
    }

    /// What computing a value wherever it is used costs, with all that is virtual behind it.
    pub(super) fn tree_weight(&self, value: Value) -> u32 {
        let (mut open, mut seen, mut weight) = (vec![value], BTreeSet::from([value]), 0);
        while let Some(v) = open.pop() {
            if v != value && self.place(v) != Place::Virtual {
                continue;
            }
            if let Lowering::Pointwise(scalar) = self.lowering(v) {
                weight += scalar.weight();
            }
            open.extend(self.node(v).inputs.iter().copied().filter(|v| seen.insert(*v)));
        }
        weight
    }

    /// Moves pointwise clusters that only one other cluster reads into that cluster.
    pub(super) fn inline_prologues(&mut self, limits: &Limits) {
        for cluster in 0..self.clusters.len() {
            if self.clusters[cluster].core != Core::Map {
                continue;
            }
            let members = self.clusters[cluster].members.iter();
            let readers: BTreeSet<ClusterId> =
                members.flat_map(|(member, _)| self.readers(*member)).copied().collect();
            if let (1, Some(&reader)) = (readers.len(), readers.first()) {
                self.inline(cluster, reader, limits);
            }
        }
    }

    pub(super) fn inline(&mut self, cluster: ClusterId, reader: ClusterId, limits: &Limits) {
        let members = self.clusters[cluster].members.clone();
        let weight: u32 = members
            .iter()
            .map(|&(member, _)| match self.lowering(member) {
                Lowering::Pointwise(scalar) => scalar.weight(),
                // A gathered load costs more than the load of its result.
                _ => 2,
            })
            .sum();
        let target = &self.clusters[reader];
        let repeated = numel(&target.domain) > numel(&self.clusters[cluster].domain);
        let allowed = match target.core {
            Core::Map => !repeated || weight <= 2,
            // What a row needs once is computed once for each row.
            Core::Rows { .. } => true,
            // Sources of sums and windows are loaded several times.
            _ => weight <= CHEAP,
        };
        let expensive_rows = matches!(target.core, Core::Rows { .. })
            && self.passes(reader) > 1
            && !repeated
            && weight > CHEAP * 2;
        if !allowed || expensive_rows || members.iter().any(|&(member, _)| self.kept(member)) {
            return;
        }
        for (member, _) in &members {
            self.place[member.index()] = Place::Virtual;
        }
        self.link(reader);
        let fine = self.expressible_members(reader) && self.bound(reader) <= limits.bindings;
        if fine {
            self.clusters[cluster].members.clear();
        } else {
            for (member, _) in &members {
                self.place[member.index()] = Place::In(cluster);
            }
            self.link(reader);
        }
        self.link(cluster);
    }

    /// How often a row kernel goes through the columns.
    pub(super) fn passes(&self, cluster: ClusterId) -> usize {
        let members = &self.clusters[cluster].members;
        members.iter().filter(|(m, _)| matches!(self.lowering(*m), Lowering::Reduce(..))).count()
            + usize::from(members.iter().any(|(_, by_row)| !by_row))
    }
}
