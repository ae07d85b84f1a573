//! First pass: every value joins the latest cluster that computes one of its inputs at the same
//! point, or begins a cluster of its own.

use super::{Cluster, ClusterId, Core, Fused, Place, Use};
use crate::Value;
use crate::ops::Lowering;
use shadegrad_device::{Limits, View, numel};
use std::collections::BTreeSet;

impl Fused {
    /// Gives a value a cluster: one that is there, where it fits, or a new one.
    pub(super) fn put(&mut self, value: Value, limits: &Limits, fusion: bool) {
        let lowering = self.lowering(value);
        if fusion && let Some((cluster, by_row)) = self.find(value, &lowering, limits) {
            if let (Lowering::Reduce(_, axes), Core::Map) =
                (&lowering, &self.clusters[cluster].core)
            {
                let (core, domain) = self.reducing(value, axes);
                (self.clusters[cluster].core, self.clusters[cluster].domain) = (core, domain);
            }
            self.clusters[cluster].members.push((value, by_row));
            self.place[value.index()] = Place::In(cluster);
            self.link_member(value, cluster);
            return;
        }
        let shape = self.node(value).ty.shape.clone();
        let mut by_row = false;
        let (core, domain) = match lowering {
            Lowering::Reduce(_, axes) => {
                by_row = true;
                self.reducing(value, &axes)
            }
            Lowering::Contract(contraction) => (Core::Contract(contraction), shape),
            Lowering::Window(window, role, _) => (Core::Window(window, role), shape),
            Lowering::Scatter(sources, axis, len) => (Core::Scatter(sources, axis, len), shape),
            Lowering::Scan(recurrence) => (Core::Scan(recurrence), shape),
            Lowering::Merge(merge) => (Core::Merge(merge), shape),
            Lowering::Attention(attention, role) => (Core::Attention(attention, role), shape),
            Lowering::Recurrent(sequence, role) => (Core::Recurrent(sequence, role), shape),
            Lowering::Half => (Core::Half, vec![numel(&shape).div_ceil(2)]),
            _ => (Core::Map, shape),
        };
        let cluster = self.clusters.len();
        self.place[value.index()] = Place::In(cluster);
        self.clusters.push(Cluster { core, domain, members: vec![(value, by_row)] });
        self.link(cluster);
    }

    /// The cluster that a value joins, and whether as one element for each row.
    pub(super) fn find(
        &self,
        value: Value,
        lowering: &Lowering,
        limits: &Limits,
    ) -> Option<(ClusterId, bool)> {
        let inputs = self.node(value).inputs.clone();
        let uses: Vec<Vec<Use>> = inputs.iter().map(|&v| self.uses(v)).collect();
        let mut candidates: BTreeSet<ClusterId> = BTreeSet::new();
        for used in uses.iter().flatten().filter(|used| used.view.is_some()) {
            if let Place::In(cluster) = self.place(used.value) {
                candidates.insert(cluster);
            }
        }
        match lowering {
            // Siblings: a reduction of what another row kernel reads, and the place of a maximum.
            Lowering::Reduce(..) | Lowering::Window(..) => {
                let kin = |&&id: &&ClusterId| {
                    matches!(self.clusters[id].core, Core::Rows { .. } | Core::Window(..))
                };
                for used in uses.iter().flatten() {
                    candidates.extend(self.readers(used.value).iter().filter(kin));
                }
            }
            // Single words share one kernel, whatever they are made of.
            Lowering::Pointwise(_) | Lowering::View(_) if self.node(value).ty.numel() == 1 => {
                let single = |c: &Cluster| c.core == Core::Map && numel(&c.domain) == 1;
                let last = self.clusters.iter().rposition(single);
                candidates.extend(last);
            }
            _ => {}
        }
        candidates.into_iter().rev().find_map(|cluster| {
            let by_row = self.fits(value, lowering, &uses, cluster)?;
            let before = |used: &Use| match self.place(used.value) {
                Place::In(c) if c == cluster => true,
                _ => self.makers(used.value).iter().all(|&c| !self.depends(c, cluster)),
            };
            let ordered = uses.iter().flatten().all(before);
            (ordered && self.binds(value, cluster) <= limits.bindings).then_some((cluster, by_row))
        })
    }

    /// Whether a value can be computed at a cluster's points, and if so whether for each row.
    pub(super) fn fits(
        &self,
        value: Value,
        lowering: &Lowering,
        uses: &[Vec<Use>],
        cluster: ClusterId,
    ) -> Option<bool> {
        let target = &self.clusters[cluster];
        let points = numel(&self.node(value).ty.shape);
        let inside = |used: &&Use| self.place(used.value) == Place::In(cluster);
        if target.core == Core::Half {
            return None;
        }
        match lowering {
            Lowering::Reduce(_, axes) => {
                let (core, domain) = self.reducing(value, axes);
                match (&target.core, &core) {
                    (Core::Map, _) if numel(&target.domain) == numel(&domain) => {
                        // Members so far become elements of the same shape, and are summed in their order.
                        let plain = |used: &Use| {
                            let whole =
                                |v: &View| v.is_contiguous() && numel(&v.shape) == numel(&domain);
                            used.view.as_ref().is_some_and(whole)
                        };
                        let aligned = uses.iter().flatten().filter(inside).all(plain);
                        (aligned && self.expressible_over(cluster, &core, &domain)).then_some(true)
                    }
                    (Core::Rows { rows: r, cols: c, .. }, Core::Rows { rows, cols, .. })
                        if r == rows && c == cols =>
                    {
                        let chain = self.operand_chain(value, target, true);
                        let input = self.node(value).inputs[0];
                        self.meets(input, &chain, cluster, false).then_some(true)
                    }
                    _ => None,
                }
            }
            Lowering::Window(window, role, _) => {
                let shared = target.core == Core::Window(*window, *role)
                    && self.node(target.members[0].0).inputs == self.node(value).inputs;
                shared.then_some(false)
            }
            Lowering::Pointwise(_) | Lowering::Gather(_) | Lowering::View(_) => {
                let indexed = matches!(lowering, Lowering::Gather(_));
                if indexed && uses[0].iter().any(|used| inside(&used)) {
                    return None;
                }
                let (rows, cols) = match &target.core {
                    Core::Rows { rows, cols, .. } => (numel(rows), numel(cols)),
                    _ => (numel(&target.domain), 1),
                };
                let is_rows = matches!(target.core, Core::Rows { .. });
                let by_row =
                    is_rows && points == rows && (cols != 1 || self.only_rows(uses, cluster));
                if !by_row && points != rows * cols {
                    return None;
                }
                let chain = self.to_domain(value, target, by_row);
                let operands = self.moved_operands(value);
                let view = match lowering {
                    Lowering::View(movement) => vec![movement.clone()],
                    _ => vec![],
                };
                let chain = [view, chain].concat();
                if !operands.iter().all(|&v| self.meets(v, &chain, cluster, by_row)) {
                    return None;
                }
                let moves = self.gathers(value, &chain)
                    && operands.iter().all(|&v| self.expressible(v, &chain, Some(cluster)));
                moves.then_some(by_row)
            }
            _ => None,
        }
    }
}
