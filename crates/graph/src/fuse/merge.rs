//! Second pass: clusters over the same points become one.

use super::{Cluster, ClusterId, Core, Fused, Place};
use crate::Value;
use crate::ops::Lowering;
use shadegrad_device::{Combine, DType, Limits, numel};
use std::collections::{BTreeSet, HashMap};

/// Most points of a kernel whose dispatch counts more than its work.
const SMALL: usize = 4096;

/// Most points of a kernel that takes what it needs for each row from a kernel over the rows, and least rows: fewer
/// would leave a device idle.
const WIDE: usize = 1 << 18;
const MANY: usize = 16;

/// How many small clusters of the same domain each one is tried with: a bound on the work for long recordings.
const NEAR: usize = 64;

impl Fused {
    /// Joins clusters over the same points that share a value or read the same memory: they began
    /// apart because their first values had nothing in common.
    ///
    /// Kernels over rows join those over rows and columns only where nothing else can be done: they fit fewer others
    /// afterwards.
    pub(super) fn merge_clusters(&mut self, limits: &Limits) {
        self.merge_all(false, limits);
        self.merge_all(true, limits);
    }

    /// Joins what can be joined; Map clusters over rows with those over rows and columns, too, if `widen`.
    fn merge_all(&mut self, widen: bool, limits: &Limits) {
        let mut changed = true;
        while changed {
            changed = false;
            let mut small: HashMap<Vec<usize>, Vec<ClusterId>> = HashMap::new();
            for id in (0..self.clusters.len()).filter(|&id| self.is_small(id)) {
                small.entry(self.clusters[id].domain.clone()).or_default().push(id);
            }
            for a in 0..self.clusters.len() {
                for b in self.relatives(a, &small) {
                    changed |= self.merge(a, b, widen, limits);
                }
            }
        }
    }

    /// The clusters behind cluster `a` in order that joining with it may be of use: it saves memory traffic,
    /// or both are so small that only the dispatch counts.
    fn relatives(
        &self,
        a: ClusterId,
        small: &HashMap<Vec<usize>, Vec<ClusterId>>,
    ) -> BTreeSet<ClusterId> {
        let mut found = BTreeSet::new();
        for &value in self.reads(a) {
            found.extend(self.makers(value));
            if self.node(value).ty.numel() > 1 {
                found.extend(self.readers(value));
            }
        }
        for (member, _) in &self.clusters[a].members {
            found.extend(self.readers(*member));
            let packs = self.users(*member).iter().filter(|&&u| self.place(u) == Place::Packed);
            packs.for_each(|&pack| found.extend(self.readers(pack)));
        }
        // Sums over the same rows of what one kernel stores, as of the gradients of a normalisation's weight and bias: a dispatch
        // less.
        if self.only_sums(a) {
            let makers = self.reads(a).iter().flat_map(|&value| self.makers(value));
            let stored = makers.flat_map(|maker| &self.clusters[maker].members);
            let siblings = stored.flat_map(|(member, _)| self.readers(*member)).copied();
            let alike = |&b: &ClusterId| {
                b > a && self.clusters[b].core == self.clusters[a].core && self.only_sums(b)
            };
            found.extend(siblings.filter(alike).take(NEAR));
        }
        if self.is_small(a)
            && let Some(equal) = small.get(&self.clusters[a].domain)
        {
            let behind = equal.partition_point(|&id| id <= a);
            found.extend(equal[behind..].iter().take(NEAR));
        }
        found.split_off(&(a + 1))
    }

    /// Whether a cluster is a row kernel all of whose reductions are sums. Beside a maximum, say, the CPU would sum columns one by one.
    fn only_sums(&self, cluster: ClusterId) -> bool {
        let Cluster { core, members, .. } = &self.clusters[cluster];
        let sums = |(member, _): &(Value, bool)| match self.lowering(*member) {
            Lowering::Reduce(combine, _) => {
                combine == Combine::Sum && self.node(*member).ty.dtype == DType::F32
            }
            _ => true,
        };
        matches!(core, Core::Rows { .. }) && members.iter().all(sums)
    }

    fn is_small(&self, cluster: ClusterId) -> bool {
        let Cluster { domain, members, .. } = &self.clusters[cluster];
        !members.is_empty() && numel(domain) <= SMALL
    }

    /// Moves all members of cluster `a` to cluster `b`, if one kernel can compute both.
    fn merge(&mut self, a: ClusterId, b: ClusterId, widen: bool, limits: &Limits) -> bool {
        let (left, right) = (&self.clusters[a], &self.clusters[b]);
        if left.members.is_empty() || right.members.is_empty() {
            return false;
        }
        // The rows and columns of the joint kernel, and whether Map members are rows of it.
        let (core, domain) = match (&left.core, &right.core) {
            (Core::Map, Core::Map) if left.domain == right.domain => {
                (Core::Map, left.domain.clone())
            }
            (Core::Map, Core::Map) if let Some(cols) = self.columns(a, b).filter(|_| widen) => {
                let order = (0..right.domain.len()).collect();
                (Core::Rows { rows: left.domain.clone(), cols, order }, right.domain.clone())
            }
            (a, b @ Core::Rows { .. }) if a == b => (left.core.clone(), left.domain.clone()),
            (Core::Map, Core::Rows { .. }) => (right.core.clone(), right.domain.clone()),
            (Core::Rows { .. }, Core::Map) => (left.core.clone(), left.domain.clone()),
            _ => return false,
        };
        let Some(members) = self.joint_members(a, b, &core) else {
            return false;
        };
        let outside = |from: ClusterId, on: ClusterId| {
            let before: BTreeSet<ClusterId> =
                self.reads(from).iter().flat_map(|&v| self.makers(v)).collect();
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
        self.link(a);
        self.link(b);
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
            self.link(a);
            self.link(b);
        }
        fine
    }

    /// The columns over which cluster `b` reads what `a` computes for each row, where one kernel is worth it.
    fn columns(&self, a: ClusterId, b: ClusterId) -> Option<Vec<usize>> {
        let (rows, domain) = (&self.clusters[a].domain, &self.clusters[b].domain);
        let cols = domain.strip_prefix(rows.as_slice())?;
        let reads = self.reads(b).iter().any(|&value| self.place(value) == Place::In(a));
        let worth = numel(rows) >= MANY && numel(cols) > 1 && numel(domain) <= WIDE;
        (reads && worth).then(|| cols.to_vec())
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
                    Core::Rows { rows, cols, .. } if cluster.core == Core::Map => {
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
