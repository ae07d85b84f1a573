//! Second pass: clusters over the same points become one.

use super::{Cluster, ClusterId, Core, Fused, Place};
use crate::Value;
use shadegrad_device::{Limits, numel};
use std::collections::BTreeSet;

impl Fused {
    /// Joins clusters over the same points that share a value or read the same memory: they began
    /// apart because their first values had nothing in common.
    pub(super) fn merge_clusters(&mut self, limits: &Limits) {
        let mut changed = true;
        while changed {
            changed = false;
            for a in 0..self.clusters.len() {
                for b in a + 1..self.clusters.len() {
                    changed |= self.merge(a, b, limits);
                }
            }
        }
    }

    /// Moves all members of cluster `a` to cluster `b`, if one kernel can compute both.
    pub(super) fn merge(&mut self, a: ClusterId, b: ClusterId, limits: &Limits) -> bool {
        let (left, right) = (&self.clusters[a], &self.clusters[b]);
        if left.members.is_empty() || right.members.is_empty() || !self.related(a, b) {
            return false;
        }
        // The rows and columns of the joint kernel, and whether Map members are rows of it.
        let (core, domain) = match (&left.core, &right.core) {
            (Core::Map, Core::Map) if left.domain == right.domain => {
                (Core::Map, left.domain.clone())
            }
            (Core::Rows { rows, cols }, Core::Rows { rows: r, cols: c })
                if rows == r && cols == c =>
            {
                (left.core.clone(), left.domain.clone())
            }
            (Core::Map, Core::Rows { .. }) => (right.core.clone(), right.domain.clone()),
            (Core::Rows { .. }, Core::Map) => (left.core.clone(), left.domain.clone()),
            _ => return false,
        };
        let Some(members) = self.joint_members(a, b, &core) else {
            return false;
        };
        let outside = |from: ClusterId, on: ClusterId| {
            let before: BTreeSet<ClusterId> =
                self.reads(from).into_iter().flat_map(|v| self.makers(v)).collect();
            before.into_iter().any(|c| c != on && c != from && self.depends(c, on))
        };
        if outside(a, b) || outside(b, a) {
            return false;
        }
        let before = (self.clusters[a].clone(), self.clusters[b].clone());
        for (member, _) in &before.0.members {
            self.place[member.index()] = Place::In(b);
        }
        self.clusters[b] = Cluster { core, domain, members };
        self.clusters[a].members.clear();
        // What is laid out in memory by a cluster can't be read by it.
        let apart = self.reads(b).iter().all(|&v| !self.makers(v).contains(&b));
        let fine = apart
            && self.consistent(b)
            && self.expressible_members(b)
            && self.bound(b) <= limits.bindings;
        if !fine {
            for (member, _) in &before.0.members {
                self.place[member.index()] = Place::In(a);
            }
            (self.clusters[a], self.clusters[b]) = before;
        }
        fine
    }

    /// Whether joining two clusters saves memory traffic, or both are so small that only the
    /// dispatch counts.
    pub(super) fn related(&self, a: ClusterId, b: ClusterId) -> bool {
        const SMALL: usize = 4096;
        let (left, right) = (self.reads(a), self.reads(b));
        let makes = |reads: &BTreeSet<Value>, c: ClusterId| {
            reads.iter().any(|&v| self.makers(v).contains(&c))
        };
        let small = |c: ClusterId| numel(&self.clusters[c].domain) <= SMALL;
        makes(&left, b)
            || makes(&right, a)
            || left.intersection(&right).any(|&v| self.node(v).ty.numel() > 1)
            || self.clusters[a].domain == self.clusters[b].domain && small(a) && small(b)
    }

    /// The members of both clusters in order, each with its level in a kernel with a core.
    pub(super) fn joint_members(
        &self,
        a: ClusterId,
        b: ClusterId,
        core: &Core,
    ) -> Option<Vec<(Value, bool)>> {
        let mut members = Vec::new();
        for id in [a, b] {
            let cluster = &self.clusters[id];
            for &(member, by_row) in &cluster.members {
                let points = self.node(member).ty.numel();
                let by_row = match core {
                    Core::Rows { rows, cols } if cluster.core == Core::Map => {
                        let (rows, cols) = (numel(rows), numel(cols));
                        match (points == rows, points == rows * cols) {
                            (_, true) => false,
                            (true, false) => true,
                            _ => return None,
                        }
                    }
                    _ => by_row,
                };
                members.push((member, by_row));
            }
        }
        members.sort_unstable();
        Some(members)
    }
}
