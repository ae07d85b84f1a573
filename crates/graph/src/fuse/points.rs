//! Points: whether a value can be computed at the points of a cluster, and how its operands move
//! there.

use super::prepare::resolve;
use super::{Cluster, ClusterId, Core, Fused, Place, Use};
use crate::Value;
use crate::ops::{Lowering, Movement};
use shadegrad_device::View;
use std::collections::HashSet;

/// The shape of which rows and columns are the axes in an order.
fn own_shape(order: &[usize], domain: &[usize]) -> Vec<usize> {
    let mut own = vec![0; order.len()];
    order.iter().zip(domain).for_each(|(&axis, &extent)| own[axis] = extent);
    own
}

/// Where the elements of a cluster's members lie, as a view over its domain.
pub(crate) fn layout(cluster: &Cluster) -> View {
    match &cluster.core {
        Core::Rows { order, .. } => {
            View::contiguous(&own_shape(order, &cluster.domain)).permute(order)
        }
        _ => View::contiguous(&cluster.domain),
    }
}

/// Where what a row kernel has for each row lies, as a view over its domain.
fn row_view(cluster: &Cluster) -> View {
    let rows = match &cluster.core {
        Core::Rows { rows, .. } => rows.len(),
        _ => cluster.domain.len(),
    };
    let shape = cluster.domain.iter().enumerate();
    let shape: Vec<usize> = shape.map(|(axis, &n)| if axis < rows { n } else { 1 }).collect();
    View::contiguous(&shape).expand(&cluster.domain)
}

/// Whether two views over one domain read the same elements of all of the memory that the second is of. Along an axis of one
/// element there is no step.
fn same_steps(view: &View, expected: &View) -> bool {
    view.shape == expected.shape
        && view.offset == expected.offset
        && !view.is_masked()
        && (0..view.shape.len())
            .all(|axis| view.shape[axis] == 1 || view.strides[axis] == expected.strides[axis])
}

/// Whether a view over the domain of a row kernel reads at every point what lies at its row.
pub(crate) fn reads_row(view: &View, cluster: &Cluster) -> bool {
    same_steps(view, &row_view(cluster))
}

impl Fused {
    /// The core and the domain of a kernel that a reduction begins.
    pub(super) fn reducing(&self, value: Value, axes: &[usize]) -> (Core, Vec<usize>) {
        let (rows, cols) = self.rows_and_cols(value, axes);
        let domain = [rows.as_slice(), &cols].concat();
        (Core::Rows { rows, cols, order: self.reduced_last(value, axes) }, domain)
    }

    pub(super) fn by_row(&self, value: Value, cluster: ClusterId) -> bool {
        self.clusters[cluster].members.iter().any(|&(member, by_row)| member == value && by_row)
    }

    pub(super) fn only_rows(&self, uses: &[Vec<Use>], cluster: ClusterId) -> bool {
        let mut inside =
            uses.iter().flatten().filter(|u| self.place(u.value) == Place::In(cluster));
        inside.all(|used| self.by_row(used.value, cluster))
    }

    /// Whether a view over the domain reads, at every point, what a member is there.
    pub(super) fn aligned(&self, member: Value, view: &View, cluster: ClusterId) -> bool {
        let target = &self.clusters[cluster];
        let rows = matches!(target.core, Core::Rows { .. });
        match rows && self.by_row(member, cluster) {
            true => reads_row(view, target),
            false => same_steps(view, &layout(target)),
        }
    }

    /// The movement from a member's shape to its cluster's domain.
    pub(crate) fn to_domain(&self, value: Value, cluster: &Cluster, by_row: bool) -> Vec<Movement> {
        let shape = &self.node(value).ty.shape;
        let mut chain = Vec::new();
        let (mut target, mut domain) = (cluster.domain.clone(), cluster.domain.clone());
        match &cluster.core {
            Core::Rows { rows, cols, .. } if by_row => {
                target = [rows.clone(), vec![1; cols.len()]].concat();
            }
            Core::Rows { order, .. } if !order.is_sorted() => {
                let own = own_shape(order, &domain);
                if *shape != own {
                    chain.push(Movement::Reshape(own));
                }
                chain.push(Movement::Permute(order.clone()));
                return chain;
            }
            // Sums of rows are stored over the rows alone.
            Core::Contract(contraction) if by_row => {
                (target, domain) = (contraction.rows(), contraction.rows());
            }
            _ => {}
        }
        if *shape != target {
            chain.push(Movement::Reshape(target.clone()));
        }
        if target != domain {
            chain.push(Movement::Expand(domain));
        }
        chain
    }

    /// The movement from a member's operands to the points where the member needs them.
    pub(crate) fn operand_chain(
        &self,
        member: Value,
        cluster: &Cluster,
        by_row: bool,
    ) -> Vec<Movement> {
        match self.lowering(member) {
            Lowering::Reduce(_, axes) => {
                let order = self.reduced_last(member, &axes);
                let mut chain = Vec::new();
                if !order.is_sorted() {
                    chain.push(Movement::Permute(order));
                }
                chain
            }
            Lowering::Contract(_)
            | Lowering::Window(..)
            | Lowering::Scatter(..)
            | Lowering::Scan(_)
            | Lowering::Merge(_)
            | Lowering::Attention(..)
            | Lowering::Recurrent(..) => vec![],
            Lowering::Half => vec![Movement::Reshape(vec![self.node(member).ty.numel()])],
            Lowering::View(movement) => {
                [vec![movement], self.to_domain(member, cluster, by_row)].concat()
            }
            _ => self.to_domain(member, cluster, by_row),
        }
    }

    /// The operands that move with a member: all but what a gather indexes.
    pub(super) fn moved_operands(&self, member: Value) -> &[Value] {
        let inputs = &self.node(member).inputs;
        match self.lowering(member) {
            Lowering::Gather(_) => &inputs[1..],
            _ => inputs,
        }
    }

    /// Whether an operand, moved by a chain, can be read or computed in place.
    pub(super) fn expressible(
        &self,
        operand: Value,
        chain: &[Movement],
        cluster: Option<ClusterId>,
    ) -> bool {
        let mut open = vec![(operand, chain.to_vec())];
        let mut seen: HashSet<(Value, Vec<Movement>)> = open.iter().cloned().collect();
        while let Some((value, chain)) = open.pop() {
            let node = self.node(value);
            let moves = || self.moved(&View::contiguous(&node.ty.shape), &chain).is_some();
            let next: Vec<(Value, Vec<Movement>)> = match (self.place(value), self.lowering(value))
            {
                (Place::In(c), _) if Some(c) == cluster => continue,
                (Place::Virtual, Lowering::View(movement)) => {
                    vec![(node.inputs[0], [&[movement], chain.as_slice()].concat())]
                }
                _ if !moves() => return false,
                (Place::Virtual, Lowering::Leaf) | (Place::In(_) | Place::Packed, _) => continue,
                (Place::Virtual, Lowering::Gather(_)) if !self.gathers(value, &chain) => {
                    return false;
                }
                // What is indexed lies in memory and isn't moved.
                (Place::Virtual, Lowering::Gather(_)) => vec![(node.inputs[1], chain)],
                (Place::Virtual, _) => node.inputs.iter().map(|&v| (v, chain.clone())).collect(),
            };
            open.extend(next.into_iter().filter(|step| seen.insert(step.clone())));
        }
        true
    }

    /// Where index zero of a gather lies, for each element of its result; `None` if no view says.
    pub(crate) fn gather_start(&self, value: Value, axis: usize) -> Option<View> {
        let node = self.node(value);
        let (_, mut view) = resolve(&self.nodes, &self.copied, node.inputs[0])?;
        view.strides[axis] = 0;
        view.shape = node.ty.shape.clone();
        view.valid = view.shape.iter().map(|&n| (0, n)).collect();
        Some(view)
    }

    /// Whether a value isn't a gather, or one whose places can be found at points moved by a chain.
    pub(super) fn gathers(&self, value: Value, chain: &[Movement]) -> bool {
        match self.lowering(value) {
            Lowering::Gather(axis) => self
                .gather_start(value, axis)
                .is_some_and(|view| self.moved(&view, chain).is_some()),
            _ => true,
        }
    }

    /// Whether all members of a pointwise cluster can be computed over another domain.
    pub(super) fn expressible_over(
        &self,
        cluster: ClusterId,
        core: &Core,
        domain: &[usize],
    ) -> bool {
        let members = self.clusters[cluster].members.clone();
        let moved = Cluster { core: core.clone(), domain: domain.to_vec(), members };
        moved.members.iter().all(|&(member, by_row)| {
            let mut chain: Vec<Movement> = match self.copied.contains(&member) {
                true => self.movement(member).into_iter().collect(),
                false => vec![],
            };
            chain.extend(self.to_domain(member, &moved, by_row));
            self.reads_through(member, &chain, cluster)
        })
    }

    /// Whether all that a member is computed from can be read or computed in place, moved by a chain.
    fn reads_through(&self, member: Value, chain: &[Movement], cluster: ClusterId) -> bool {
        let mut operands = self.moved_operands(member).iter();
        self.gathers(member, chain) && operands.all(|&v| self.expressible(v, chain, Some(cluster)))
    }

    /// Whether every member's operands can be read or computed in place.
    pub(super) fn expressible_members(&self, cluster: ClusterId) -> bool {
        let target = &self.clusters[cluster];
        target.members.iter().all(|&(member, by_row)| {
            let chain = self.operand_chain(member, target, by_row);
            self.reads_through(member, &chain, cluster)
        })
    }

    /// A view moved by a chain.
    pub(crate) fn moved(&self, view: &View, chain: &[Movement]) -> Option<View> {
        chain.iter().try_fold(view.clone(), |view, movement| movement.apply(&view))
    }

    /// Whether every member uses other members only at its own point, through whatever is computed in between.
    pub(super) fn consistent(&self, cluster: ClusterId) -> bool {
        let target = &self.clusters[cluster];
        target.members.iter().all(|&(member, by_row)| {
            let chain = self.operand_chain(member, target, by_row);
            let gathers = matches!(self.lowering(member), Lowering::Gather(_));
            let reduces = matches!(self.lowering(member), Lowering::Reduce(..));
            let mut indexed = self.node(member).inputs[..usize::from(gathers)].iter();
            let mut operands = self.moved_operands(member).iter();
            !indexed.any(|&input| self.reads_member(input, cluster))
                && operands.all(|&v| self.meets(v, &chain, cluster, by_row && !reduces))
        })
    }

    /// Whether computing an operand uses a member of a cluster.
    fn reads_member(&self, operand: Value, cluster: ClusterId) -> bool {
        let mut found = false;
        self.stored(operand, &mut |v| found |= self.place(v) == Place::In(cluster));
        found
    }

    /// Whether computing an operand, moved by a chain, uses members only at the point where it is needed: those with
    /// one element for a row at their row, and only those if the operand is `by_row` itself.
    pub(super) fn meets(
        &self,
        operand: Value,
        chain: &[Movement],
        cluster: ClusterId,
        by_row: bool,
    ) -> bool {
        let target = &self.clusters[cluster];
        let mut open = vec![(operand, chain.to_vec())];
        let mut seen: HashSet<(Value, Vec<Movement>)> = open.iter().cloned().collect();
        while let Some((value, chain)) = open.pop() {
            let node = self.node(value);
            let next: Vec<(Value, Vec<Movement>)> = match (self.place(value), self.lowering(value))
            {
                (Place::In(at), _) if at == cluster => {
                    let row = self.by_row(value, cluster);
                    let Some(view) = self.moved(&View::contiguous(&node.ty.shape), &chain) else {
                        return false;
                    };
                    let met = match &target.core {
                        // Sums of rows of a contraction are computed apart from its result.
                        Core::Contract(_) => row == by_row && view.is_contiguous(),
                        _ => (row || !by_row) && self.aligned(value, &view, cluster),
                    };
                    if !met {
                        return false;
                    }
                    continue;
                }
                (Place::Virtual, Lowering::View(movement)) => {
                    vec![(node.inputs[0], [&[movement], chain.as_slice()].concat())]
                }
                // What is indexed is read at other points than this.
                (Place::Virtual, Lowering::Gather(_))
                    if self.reads_member(node.inputs[0], cluster) =>
                {
                    return false;
                }
                (Place::Virtual, Lowering::Gather(_)) => vec![(node.inputs[1], chain)],
                (Place::Virtual, _) => node.inputs.iter().map(|&v| (v, chain.clone())).collect(),
                (Place::In(_) | Place::Packed, _) => continue,
            };
            open.extend(next.into_iter().filter(|step| seen.insert(step.clone())));
        }
        true
    }
}
