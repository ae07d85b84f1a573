//! Fuse: values to clusters, each of which becomes one kernel.
//!
//! Every value that needs work is computed in exactly one cluster. Constants, coordinates, movement
//! and what is cheaply generated from them (random masks, for one) are *virtual*: computed again
//! wherever they are used, so they never take memory. A value joins the latest cluster that
//! computes one of its inputs at the same point, unless that would close a cycle: so pointwise
//! chains become one kernel, contractions, windows and reductions get epilogues, and softmax with
//! its loss and gradient becomes one row kernel. A pointwise cluster that only one other cluster
//! reads then moves into it as its prologue.

mod join;
mod links;
mod merge;
mod points;
mod prepare;
mod reads;
mod recompute;
mod sums;

use crate::ops::{Lowering, Movement, Op};
use crate::{GraphError, Node, Nodes, Value};
use links::Links;
pub(crate) use points::{layout, reads_row};
use prepare::{lowering_of, prepare};
use shadegrad_device::{
    Attention, AttentionRole, Contraction, Limits, Merge, Recurrence, Sequence, SequenceRole, View,
    Window, WindowRole,
};
use std::collections::BTreeSet;

/// The number of a cluster.
pub(crate) type ClusterId = usize;

/// Heaviest value that is computed again for every point that uses it.
const CHEAP: u32 = 4;

/// Heaviest value that is computed again for as many points as it has itself.
const GENERATED: u32 = 64;

/// What a cluster's kernel is built around.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Core {
    Map,
    Rows {
        rows: Vec<usize>,
        cols: Vec<usize>,
        /// The axes of an element's own shape that rows and columns are.
        order: Vec<usize>,
    },
    Contract(Contraction),
    Window(Window, WindowRole),
    /// Shape of the sources, axis, its extent in the result.
    Scatter(Vec<usize>, usize, usize),
    Scan(Recurrence),
    Merge(Merge),
    Attention(Attention, AttentionRole),
    Recurrent(Sequence, SequenceRole),
    /// Words of two halves each; holds nothing else, because its points are no one's elements.
    Half,
}

/// Values that one kernel computes.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) core: Core,
    /// The domain over which element-level members are row-major.
    pub(crate) domain: Vec<usize>,
    /// Members in order, each with whether it has one element for each row only (of a contraction: whether it is the
    /// sum of the rows).
    pub(crate) members: Vec<(Value, bool)>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Computed wherever it is used.
    Virtual,
    /// A member of a cluster.
    In(ClusterId),
    /// Laid out in memory by its inputs' clusters.
    Packed,
}

/// The result of fusion.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    pub(crate) nodes: Nodes,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) place: Vec<Place>,
    /// Movement values that are stored, because no view expresses them or memory is asked for.
    pub(crate) copied: BTreeSet<Value>,
    /// Whether each value in scratch memory counts as a buffer of its own, as where scratch memory is larger than
    /// what can be bound; else all of them are one.
    spread: bool,
    links: Links,
}

/// Groups values into clusters. With `fusion` off every value gets a cluster of its own. `spread` keeps the
/// number of values in scratch memory that a cluster touches within what can be bound.
pub(crate) fn fuse(nodes: &Nodes, limits: &Limits, fusion: bool, spread: bool) -> Fused {
    let (nodes, copied) = prepare(nodes);
    let count = nodes.nodes.len();
    let place = vec![Place::Virtual; count];
    let links = Links::new(&nodes, &copied);
    let mut fused = Fused { nodes, clusters: vec![], place, copied, spread, links };
    let expanded = fused.expanded();
    let mut weight = vec![0; count];
    let mut generated = vec![false; count];
    let mut behind = vec![BTreeSet::new(); count];
    let needed = fused.nodes.reachable();
    for number in (0..count).filter(|&n| needed[n]) {
        let value = Value(number as u32);
        fused.classify(value, &mut generated, &mut weight);
        let most = if expanded[number] { CHEAP } else { GENERATED };
        behind[number] = fused.behind(value, &behind);
        // What is computed again binds its variables again: three inputs of a kernel have to fit.
        let light = weight[number] <= most && behind[number].len() <= (limits.bindings / 4).max(1);
        match fused.lowering(value) {
            Lowering::Pack => fused.place[number] = Place::Packed,
            Lowering::Leaf => {}
            Lowering::View(_) if !fused.copied.contains(&value) => {}
            Lowering::Pointwise(_) if generated[number] && light => {}
            _ => {
                weight[number] = 0;
                behind[number].clear();
                fused.put(value, limits, fusion);
            }
        }
    }
    if fusion {
        fused.merge_clusters(limits);
        fused.sink(limits);
        fused.absorb_sums(limits);
        fused.inline_prologues(limits);
    }
    fused
}

/// What one operand of a value refers to.
struct Use {
    /// A placed value.
    pub(super) value: Value,
    /// Its view over the operand's shape; `None` if something virtual is computed from it first.
    pub(super) view: Option<View>,
}

impl Fused {
    pub(crate) fn node(&self, value: Value) -> &Node {
        &self.nodes.nodes[value.index()]
    }

    pub(crate) fn lowering(&self, value: Value) -> Lowering {
        lowering_of(&self.nodes, self.node(value))
    }

    pub(crate) fn place(&self, value: Value) -> Place {
        self.place[value.index()]
    }

    /// The movement that a virtual value is.
    pub(crate) fn movement(&self, value: Value) -> Option<Movement> {
        match self.lowering(value) {
            Lowering::View(movement) => Some(movement),
            _ => None,
        }
    }

    /// Which values are repeated for several points of something larger.
    pub(super) fn expanded(&self) -> Vec<bool> {
        let mut expanded = vec![false; self.nodes.nodes.len()];
        for number in (0..expanded.len()).rev() {
            let value = Value(number as u32);
            if let Some(movement) = self.movement(value) {
                let input = self.node(value).inputs[0];
                let grows = matches!(movement, Movement::Expand(_));
                expanded[input.index()] |= grows || expanded[number];
            }
        }
        expanded
    }

    /// Whether a value is generated, and what it costs to compute where it is used.
    pub(super) fn classify(&self, value: Value, generated: &mut [bool], weight: &mut [u32]) {
        let node = self.node(value);
        let number = value.index();
        let inputs = || node.inputs.iter().map(|v| v.index());
        generated[number] = match &node.op {
            Op::Leaf(_) => node.ty.numel() <= 1,
            Op::Full(_) | Op::Iota(_) => true,
            _ => match self.lowering(value) {
                Lowering::Pointwise(_) | Lowering::View(_) => inputs().all(|i| generated[i]),
                _ => false,
            },
        };
        let below: u32 = inputs().map(|i| weight[i]).fold(0, u32::saturating_add);
        weight[number] = match self.lowering(value) {
            Lowering::Pointwise(scalar) => below.saturating_add(scalar.weight()),
            Lowering::View(_) => below,
            _ => 0,
        };
    }

    /// The variables that a kernel binds to compute a generated value where it is used.
    fn behind(&self, value: Value, behind: &[BTreeSet<u64>]) -> BTreeSet<u64> {
        let node = self.node(value);
        match &node.op {
            Op::Leaf(leaf) => BTreeSet::from([leaf.variable]),
            _ => node.inputs.iter().flat_map(|v| &behind[v.index()]).copied().collect(),
        }
    }

    /// The kept and the reduced extents of a reduction.
    pub(super) fn rows_and_cols(&self, value: Value, axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let shape = &self.node(self.node(value).inputs[0]).ty.shape;
        let cols = axes.iter().map(|&axis| shape[axis]).collect();
        let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
        (kept.map(|axis| shape[axis]).collect(), cols)
    }

    /// The axes of a reduction's input with the reduced ones last.
    pub(crate) fn reduced_last(&self, value: Value, axes: &[usize]) -> Vec<usize> {
        let rank = self.node(self.node(value).inputs[0]).ty.shape.len();
        (0..rank).filter(|axis| !axes.contains(axis)).chain(axes.iter().copied()).collect()
    }

    /// Checks that every value that needs work is computed exactly once.
    ///
    /// # Errors
    /// [`GraphError::Compiler`].
    pub(crate) fn verify(&self) -> Result<(), GraphError> {
        let wrong = |reason: String| GraphError::Compiler { stage: "fuse", reason };
        self.verify_links().map_err(wrong)?;
        let mut seen = BTreeSet::new();
        for (id, cluster) in self.clusters.iter().enumerate() {
            for (member, _) in &cluster.members {
                if self.place(*member) != Place::In(id) || !seen.insert(*member) {
                    return Err(wrong(format!("value {} is computed twice", member.0)));
                }
            }
        }
        let placed =
            (0..self.place.len()).filter(|&n| matches!(self.place[n], Place::In(_))).count();
        match placed == seen.len() {
            true => Ok(()),
            false => Err(wrong(format!("{placed} values are placed, {} are computed", seen.len()))),
        }
    }
}
