//! Fuse: values to clusters, each of which becomes one kernel.
//!
//! Every value that needs work is computed in exactly one cluster. Constants, coordinates, movement
//! and what is cheaply generated from them (random masks, for one) are *virtual*: computed again
//! wherever they are used, so they never take memory. A value joins the latest cluster that
//! computes one of its inputs at the same point, unless that would close a cycle: so pointwise
//! chains become one kernel, contractions, windows and reductions get epilogues, and softmax with
//! its loss and gradient becomes one row kernel. A pointwise cluster that only one other cluster
//! reads then moves into it as its prologue.

use crate::ops::{Lowering, Movement, Op, Reshape};
use crate::{GraphError, Node, Nodes, Type, Value};
use shadegrad_device::{Contraction, Limits, View, Window, WindowRole, numel};
use std::collections::{BTreeSet, HashSet};

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
    Rows { rows: Vec<usize>, cols: Vec<usize> },
    Contract(Contraction),
    Window(Window, WindowRole),
    Scatter([usize; 3], usize),
}

/// Values that one kernel computes.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) core: Core,
    /// The domain over which element-level members are row-major.
    pub(crate) domain: Vec<usize>,
    /// Members in order, each with whether it has one element for each row only.
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
}

/// Groups values into clusters. With `fusion` off every value gets a cluster of its own.
pub(crate) fn fuse(nodes: &Nodes, limits: &Limits, fusion: bool) -> Fused {
    let (nodes, copied) = prepare(nodes);
    let count = nodes.nodes.len();
    let mut fused = Fused { nodes, clusters: vec![], place: vec![Place::Virtual; count], copied };
    let expanded = fused.expanded();
    let mut weight = vec![0; count];
    let mut generated = vec![false; count];
    let needed = fused.nodes.reachable();
    for number in (0..count).filter(|&n| needed[n]) {
        let value = Value(number as u32);
        fused.classify(value, &mut generated, &mut weight);
        let most = if expanded[number] { CHEAP } else { GENERATED };
        let light = weight[number] <= most;
        match fused.lowering(value) {
            Lowering::Pack => fused.place[number] = Place::Packed,
            Lowering::Leaf => {}
            Lowering::View(_) if !fused.copied.contains(&value) => {}
            Lowering::Pointwise(_) if generated[number] && light => {}
            _ => {
                weight[number] = 0;
                fused.put(value, limits, fusion);
            }
        }
    }
    if fusion {
        fused.merge_clusters(limits);
        fused.sink(limits);
        fused.inline_prologues(limits);
    }
    fused
}

/// Inserts copies where a later stage needs a value in memory of its own: outputs, assigned values
/// and packed values that are variables, views or generated, or that are wanted in two places.
fn prepare(nodes: &Nodes) -> (Nodes, BTreeSet<Value>) {
    let mut out = Nodes { variables: nodes.variables.clone(), ..Nodes::default() };
    let mut copied = BTreeSet::new();
    let mut moved = Vec::with_capacity(nodes.nodes.len());
    // Values that have been given memory of a pack or a variable.
    let mut owned = BTreeSet::new();
    for node in &nodes.nodes {
        let mut node = node.clone();
        node.inputs = node.inputs.iter().map(|v: &Value| moved[v.index()]).collect();
        let lowering = lowering_of(&out, &node);
        match &lowering {
            Lowering::Pack => {
                node.inputs = node
                    .inputs
                    .iter()
                    .map(|&v| own(&mut out, &mut copied, &mut owned, v, true))
                    .collect();
            }
            Lowering::View(movement) => {
                // A view that can't be expressed on top of the views before it needs memory.
                let expressed = resolve(&out, &copied, node.inputs[0])
                    .and_then(|(_, view)| movement.apply(&view))
                    .is_some();
                if !expressed {
                    node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
                }
            }
            Lowering::Gather(_) => {
                // Only a plain view can be indexed.
                let plain = resolve(&out, &copied, node.inputs[0]).is_some_and(|(base, view)| {
                    let stored = match lowering_of(&out, &out.nodes[base.index()]) {
                        Lowering::Leaf => matches!(out.nodes[base.index()].op, Op::Leaf(_)),
                        Lowering::Pointwise(_) => false,
                        _ => true,
                    };
                    stored && !view.is_masked()
                });
                if !plain {
                    node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
                }
            }
            Lowering::Window(window, role, _) => {
                let [h, w] = if role.is_gradient() { window.output } else { window.input };
                for input in &mut node.inputs {
                    *input = flat(&mut out, &mut copied, *input, &[window.planes, h, w]);
                }
            }
            Lowering::Scatter([outer, _, inner], count) => {
                for input in &mut node.inputs {
                    *input = flat(&mut out, &mut copied, *input, &[*outer, *count, *inner]);
                }
            }
            _ => {}
        }
        moved.push(push(&mut out, node));
    }
    out.assigns = nodes
        .assigns
        .iter()
        .map(|(id, v)| (*id, own(&mut out, &mut copied, &mut owned, moved[v.index()], true)))
        .collect();
    out.outputs = nodes
        .outputs
        .iter()
        .map(|v| own(&mut out, &mut copied, &mut owned, moved[v.index()], false))
        .collect();
    (out, copied)
}

fn push(out: &mut Nodes, node: Node) -> Value {
    out.nodes.push(node);
    Value(out.nodes.len() as u32 - 1)
}

fn copy(out: &mut Nodes, copied: &mut BTreeSet<Value>, value: Value) -> Value {
    let node = &out.nodes[value.index()];
    let shape = node.ty.shape.clone();
    let ty = Type::new(&shape, node.ty.dtype.loaded());
    let value = push(out, Node { op: Reshape(shape).into(), inputs: vec![value], ty, at: node.at });
    copied.insert(value);
    value
}

/// The value, or a copy of it, such that a reshape of it is a view.
fn flat(out: &mut Nodes, copied: &mut BTreeSet<Value>, value: Value, shape: &[usize]) -> Value {
    match resolve(out, copied, value).and_then(|(_, view)| view.reshape(shape)) {
        Some(_) => value,
        None => copy(out, copied, value),
    }
}

/// The value that is stored when this one is asked for, or a copy of it. `exclusive` memory can be
/// promised only once.
fn own(
    out: &mut Nodes,
    copied: &mut BTreeSet<Value>,
    owned: &mut BTreeSet<Value>,
    value: Value,
    exclusive: bool,
) -> Value {
    let base = resolve(out, copied, value).filter(|(base, view)| {
        let computed = copied.contains(base)
            || matches!(
                lowering_of(out, &out.nodes[base.index()]),
                Lowering::Reduce(..)
                    | Lowering::Contract(_)
                    | Lowering::Window(..)
                    | Lowering::Scatter(..)
                    | Lowering::Gather(_)
            )
            || matches!(out.nodes[base.index()].op, Op::Pointwise(_)) && !is_generated(out, *base);
        computed && view.is_contiguous() && (!exclusive || !owned.contains(base))
    });
    let value = match base {
        Some((base, _)) => base,
        None => copy(out, copied, value),
    };
    if exclusive {
        owned.insert(value);
    }
    value
}

/// Whether a value depends on nothing but constants, coordinates and single words.
fn is_generated(nodes: &Nodes, value: Value) -> bool {
    let (mut open, mut seen) = (vec![value], BTreeSet::from([value]));
    while let Some(value) = open.pop() {
        let node = &nodes.nodes[value.index()];
        let fine = match &node.op {
            Op::Leaf(_) => node.ty.numel() <= 1,
            Op::Full(_) | Op::Iota(_) | Op::Pointwise(_) => true,
            _ => matches!(lowering_of(nodes, node), Lowering::View(_)),
        };
        if !fine {
            return false;
        }
        open.extend(node.inputs.iter().copied().filter(|v| seen.insert(*v)));
    }
    true
}

fn lowering_of(nodes: &Nodes, node: &Node) -> Lowering {
    let types: Vec<&Type> = node.inputs.iter().map(|v| &nodes.nodes[v.index()].ty).collect();
    node.op.lower(&types)
}

/// The value that isn't movement behind a value, and the view of it; `None` if no view does.
fn resolve(nodes: &Nodes, copied: &BTreeSet<Value>, value: Value) -> Option<(Value, View)> {
    let node = &nodes.nodes[value.index()];
    match lowering_of(nodes, node) {
        Lowering::View(movement) if !copied.contains(&value) => {
            let (base, view) = resolve(nodes, copied, node.inputs[0])?;
            Some((base, movement.apply(&view)?))
        }
        _ => Some((value, View::contiguous(&node.ty.shape))),
    }
}

/// What one operand of a value refers to.
struct Use {
    /// A placed value.
    value: Value,
    /// Its view over the operand's shape; `None` if something virtual is computed from it first.
    view: Option<View>,
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
    fn expanded(&self) -> Vec<bool> {
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
    fn classify(&self, value: Value, generated: &mut [bool], weight: &mut [u32]) {
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

    /// Gives a value a cluster: one that is there, where it fits, or a new one.
    fn put(&mut self, value: Value, limits: &Limits, fusion: bool) {
        let lowering = self.lowering(value);
        if fusion && let Some((cluster, by_row)) = self.find(value, &lowering, limits) {
            if let (Lowering::Reduce(_, axes), Core::Map) =
                (&lowering, &self.clusters[cluster].core)
            {
                let (rows, cols) = self.rows_and_cols(value, axes);
                self.clusters[cluster].domain = [rows.as_slice(), &cols].concat();
                self.clusters[cluster].core = Core::Rows { rows, cols };
            }
            self.clusters[cluster].members.push((value, by_row));
            self.place[value.index()] = Place::In(cluster);
            return;
        }
        let shape = self.node(value).ty.shape.clone();
        let mut by_row = false;
        let (core, domain) = match lowering {
            Lowering::Reduce(_, axes) => {
                by_row = true;
                let (rows, cols) = self.rows_and_cols(value, &axes);
                let domain = [rows.as_slice(), &cols].concat();
                (Core::Rows { rows, cols }, domain)
            }
            Lowering::Contract(contraction) => (Core::Contract(contraction), shape),
            Lowering::Window(window, role, _) => {
                let [h, w] = if role.is_gradient() { window.input } else { window.output };
                (Core::Window(window, role), vec![window.planes, h, w])
            }
            Lowering::Scatter(shape, count) => (Core::Scatter(shape, count), shape.to_vec()),
            _ => (Core::Map, shape),
        };
        self.place[value.index()] = Place::In(self.clusters.len());
        self.clusters.push(Cluster { core, domain, members: vec![(value, by_row)] });
    }

    /// The kept and the reduced extents of a reduction.
    fn rows_and_cols(&self, value: Value, axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
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

    /// The placed values behind an operand.
    fn uses(&self, operand: Value) -> Vec<Use> {
        let mut found = Vec::new();
        let base = resolve(&self.nodes, &self.copied, operand);
        if let Some((value, view)) = base
            && self.place(value) != Place::Virtual
        {
            return vec![Use { value, view: Some(view) }];
        }
        self.stored(operand, &mut |value| found.push(Use { value, view: None }));
        found
    }

    /// Calls `f` with every value in memory that computing an operand in place reads: placed values
    /// and variables, each once.
    pub(crate) fn stored(&self, operand: Value, f: &mut impl FnMut(Value)) {
        let (mut open, mut seen) = (vec![operand], BTreeSet::from([operand]));
        while let Some(value) = open.pop() {
            let node = self.node(value);
            if self.place(value) != Place::Virtual || matches!(node.op, Op::Leaf(_)) {
                f(value);
            } else {
                open.extend(node.inputs.iter().copied().filter(|v| seen.insert(*v)));
            }
        }
    }

    /// The stored values that a cluster reads from outside.
    pub(crate) fn reads(&self, cluster: ClusterId) -> BTreeSet<Value> {
        let mut reads = BTreeSet::new();
        for (member, _) in &self.clusters[cluster].members {
            for &input in &self.node(*member).inputs {
                self.stored(input, &mut |value| {
                    if self.place(value) != Place::In(cluster) {
                        reads.insert(value);
                    }
                });
            }
        }
        reads
    }

    /// The clusters that must run before a stored value can be read.
    pub(crate) fn makers(&self, value: Value) -> Vec<ClusterId> {
        match self.place(value) {
            Place::In(cluster) => vec![cluster],
            Place::Virtual => vec![],
            Place::Packed => {
                let mut clusters = Vec::new();
                for &input in &self.node(value).inputs {
                    clusters.extend(self.makers(input));
                }
                clusters
            }
        }
    }

    /// Whether cluster `from` depends on cluster `on`.
    fn depends(&self, from: ClusterId, on: ClusterId) -> bool {
        let (mut open, mut seen) = (vec![from], BTreeSet::from([from]));
        while let Some(cluster) = open.pop() {
            if cluster == on {
                return true;
            }
            for value in self.reads(cluster) {
                open.extend(self.makers(value).into_iter().filter(|c| seen.insert(*c)));
            }
        }
        false
    }

    /// The cluster that a value joins, and whether as one element for each row.
    fn find(
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
                for (id, cluster) in self.clusters.iter().enumerate() {
                    let kin = matches!(cluster.core, Core::Rows { .. } | Core::Window(..));
                    let mut read = uses.iter().flatten();
                    if kin && read.any(|used| self.reads(id).contains(&used.value)) {
                        candidates.insert(id);
                    }
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

    /// Buffers that a cluster would bind with one more value: each variable, and scratch memory.
    fn binds(&self, value: Value, cluster: ClusterId) -> usize {
        let mut variables = BTreeSet::new();
        let mut note = |stored: Value| {
            if let Op::Leaf(leaf) = &self.node(stored).op {
                variables.insert(leaf.variable);
            }
            // An assigned value may live in the variable.
            let assigned = self.nodes.assigns.iter().filter(|(_, v)| *v == stored);
            variables.extend(assigned.map(|(variable, _)| *variable));
        };
        for &input in &self.node(value).inputs {
            self.stored(input, &mut note);
        }
        self.reads(cluster).into_iter().for_each(note);
        for (variable, assigned) in &self.nodes.assigns {
            if *assigned == value || self.place(*assigned) == Place::In(cluster) {
                variables.insert(*variable);
            }
        }
        variables.len() + 1
    }

    /// Whether a value can be computed at a cluster's points, and if so whether for each row.
    fn fits(
        &self,
        value: Value,
        lowering: &Lowering,
        uses: &[Vec<Use>],
        cluster: ClusterId,
    ) -> Option<bool> {
        let target = &self.clusters[cluster];
        let points = numel(&self.node(value).ty.shape);
        let inside = |used: &&Use| self.place(used.value) == Place::In(cluster);
        match lowering {
            Lowering::Reduce(_, axes) => {
                let (rows, cols) = self.rows_and_cols(value, axes);
                match &target.core {
                    Core::Map if numel(&target.domain) == numel(&rows) * numel(&cols) => {}
                    Core::Rows { rows: r, cols: c } if *r == rows && *c == cols => {}
                    _ => return None,
                }
                let order = self.reduced_last(value, axes);
                let domain = [rows.as_slice(), &cols].concat();
                let aligned = uses.iter().flatten().filter(inside).all(|used| {
                    used.view.as_ref().is_some_and(|view| {
                        self.aligned(
                            used.value,
                            &view.permute(&order),
                            cluster,
                            numel(&rows),
                            numel(&cols),
                        )
                    })
                });
                // Members so far must be expressible over the axes of rows and columns.
                let same = target.domain == domain || self.expressible_over(cluster, &domain);
                (aligned && same).then_some(true)
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
                    Core::Rows { rows, cols } => (numel(rows), numel(cols)),
                    _ => (numel(&target.domain), 1),
                };
                let is_rows = matches!(target.core, Core::Rows { .. });
                let by_row =
                    is_rows && points == rows && (cols != 1 || self.only_rows(uses, cluster));
                if !by_row && points != rows * cols {
                    return None;
                }
                let here = uses.iter().flatten().filter(inside).all(|used| {
                    used.view.as_ref().is_some_and(|view| match by_row {
                        true => self.by_row(used.value, cluster) && view.is_contiguous(),
                        false => self.aligned(used.value, view, cluster, rows, cols),
                    })
                });
                if !here {
                    return None;
                }
                let chain = self.to_domain(value, target, by_row);
                let operands = self.moved_operands(value);
                let view = match lowering {
                    Lowering::View(movement) => vec![movement.clone()],
                    _ => vec![],
                };
                let chain = [view, chain].concat();
                operands
                    .iter()
                    .all(|&v| self.expressible(v, &chain, Some(cluster)))
                    .then_some(by_row)
            }
            _ => None,
        }
    }

    fn by_row(&self, value: Value, cluster: ClusterId) -> bool {
        self.clusters[cluster].members.iter().any(|&(member, by_row)| member == value && by_row)
    }

    fn only_rows(&self, uses: &[Vec<Use>], cluster: ClusterId) -> bool {
        let mut inside =
            uses.iter().flatten().filter(|u| self.place(u.value) == Place::In(cluster));
        inside.all(|used| self.by_row(used.value, cluster))
    }

    /// Whether a view of a member reads, at every point of the domain, what the member is there.
    pub(crate) fn aligned(
        &self,
        member: Value,
        view: &View,
        cluster: ClusterId,
        rows: usize,
        cols: usize,
    ) -> bool {
        match self.by_row(member, cluster) {
            false => view.is_contiguous() && numel(&view.shape) == rows * cols,
            true => {
                numel(&view.shape) == rows * cols
                    && !view.is_masked()
                    && view.reshape(&[rows, cols]).is_some_and(|v| {
                        v.offset == 0
                            && (rows == 1 || v.strides[0] == 1)
                            && (cols == 1 || v.strides[1] == 0)
                    })
            }
        }
    }

    /// The movement from a member's shape to its cluster's domain.
    pub(crate) fn to_domain(&self, value: Value, cluster: &Cluster, by_row: bool) -> Vec<Movement> {
        let shape = &self.node(value).ty.shape;
        let mut chain = Vec::new();
        let mut target = cluster.domain.clone();
        if let (true, Core::Rows { rows, cols }) = (by_row, &cluster.core) {
            target = [rows.clone(), vec![1; cols.len()]].concat();
        }
        if *shape != target {
            chain.push(Movement::Reshape(target.clone()));
        }
        if target != cluster.domain {
            chain.push(Movement::Expand(cluster.domain.clone()));
        }
        chain
    }

    /// Whether all members of a pointwise cluster can be computed over another domain.
    fn expressible_over(&self, cluster: ClusterId, domain: &[usize]) -> bool {
        let moved = Cluster { domain: domain.to_vec(), ..self.clusters[cluster].clone() };
        moved.members.iter().all(|&(member, by_row)| {
            let mut chain: Vec<Movement> = match self.copied.contains(&member) {
                true => self.movement(member).into_iter().collect(),
                false => vec![],
            };
            chain.extend(self.to_domain(member, &moved, by_row));
            self.moved_operands(member).iter().all(|&v| self.expressible(v, &chain, Some(cluster)))
        })
    }

    /// The operands that move with a member: all but what a gather indexes.
    fn moved_operands(&self, member: Value) -> &[Value] {
        let inputs = &self.node(member).inputs;
        match self.lowering(member) {
            Lowering::Gather(_) => &inputs[1..],
            _ => inputs,
        }
    }

    /// Whether an operand, moved by a chain, can be read or computed in place.
    fn expressible(&self, operand: Value, chain: &[Movement], cluster: Option<ClusterId>) -> bool {
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
                // What is indexed lies in memory and isn't moved.
                (Place::Virtual, Lowering::Gather(_)) => vec![(node.inputs[1], chain)],
                (Place::Virtual, _) => node.inputs.iter().map(|&v| (v, chain.clone())).collect(),
            };
            open.extend(next.into_iter().filter(|step| seen.insert(step.clone())));
        }
        true
    }

    /// A view moved by a chain.
    pub(crate) fn moved(&self, view: &View, chain: &[Movement]) -> Option<View> {
        chain.iter().try_fold(view.clone(), |view, movement| movement.apply(&view))
    }

    /// Joins clusters over the same points that share a value or read the same memory: they began
    /// apart because their first values had nothing in common.
    fn merge_clusters(&mut self, limits: &Limits) {
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
    fn merge(&mut self, a: ClusterId, b: ClusterId, limits: &Limits) -> bool {
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
    fn related(&self, a: ClusterId, b: ClusterId) -> bool {
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
    fn joint_members(&self, a: ClusterId, b: ClusterId, core: &Core) -> Option<Vec<(Value, bool)>> {
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

    /// Whether every member uses other members only at its own point.
    fn consistent(&self, cluster: ClusterId) -> bool {
        let target = &self.clusters[cluster];
        let (rows, cols) = match &target.core {
            Core::Rows { rows, cols } => (numel(rows), numel(cols)),
            _ => (numel(&target.domain), 1),
        };
        target.members.iter().all(|&(member, by_row)| {
            let inputs = &self.node(member).inputs;
            let lowering = self.lowering(member);
            inputs.iter().enumerate().all(|(at, &input)| {
                let uses = self.uses(input);
                let mut inside =
                    uses.iter().filter(|used| self.place(used.value) == Place::In(cluster));
                inside.all(|used| match (&used.view, &lowering) {
                    (None, _) => false,
                    (_, Lowering::Gather(_)) if at == 0 => false,
                    (Some(view), Lowering::Reduce(_, axes)) => {
                        let order = self.reduced_last(member, axes);
                        self.aligned(used.value, &view.permute(&order), cluster, rows, cols)
                    }
                    (Some(view), _) if by_row => {
                        self.by_row(used.value, cluster) && view.is_contiguous()
                    }
                    (Some(view), _) => self.aligned(used.value, view, cluster, rows, cols),
                })
            })
        })
    }

    /// Makes cheap values virtual that are stored for other clusters although they follow from one
    /// value that is stored anyway: a relu's mask is computed again from the relu.
    fn sink(&mut self, limits: &Limits) {
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
            let readers: Vec<ClusterId> = (0..self.clusters.len())
                .filter(|&c| c != cluster && self.reads(c).contains(&value))
                .collect();
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
                    || (0..self.clusters.len())
                        .any(|c| !self.makers(v).contains(&c) && self.reads(c).contains(&v))
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
            let fine = !self.clusters[cluster].members.is_empty()
                && readers.iter().all(|&c| {
                    self.consistent(c)
                        && self.expressible_members(c)
                        && self.bound(c) <= limits.bindings
                });
            if !fine {
                self.place[number] = Place::In(cluster);
                self.clusters[cluster].members = before;
            }
        }
    }

    /// What computing a value wherever it is used costs, with all that is virtual behind it.
    fn tree_weight(&self, value: Value) -> u32 {
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

    /// Whether a value must be in memory whoever reads it.
    fn kept(&self, value: Value) -> bool {
        let assigned = self.nodes.assigns.iter().any(|(_, v)| *v == value);
        let packed = self
            .nodes
            .nodes
            .iter()
            .any(|node| matches!(node.op, Op::Pack(_)) && node.inputs.contains(&value));
        let indexed = self.nodes.nodes.iter().any(|node| {
            matches!(node.op, Op::Gather(_))
                && resolve(&self.nodes, &self.copied, node.inputs[0])
                    .is_some_and(|(base, _)| base == value)
        });
        assigned
            || packed
            || indexed
            || self.nodes.outputs.contains(&value)
            || self.copied.contains(&value)
    }

    /// Moves pointwise clusters that only one other cluster reads into that cluster.
    fn inline_prologues(&mut self, limits: &Limits) {
        for cluster in 0..self.clusters.len() {
            if self.clusters[cluster].core != Core::Map {
                continue;
            }
            let readers: Vec<ClusterId> = (0..self.clusters.len())
                .filter(|&other| other != cluster)
                .filter(|&other| {
                    self.reads(other).iter().any(|&v| self.place(v) == Place::In(cluster))
                })
                .collect();
            if let [reader] = readers.as_slice() {
                self.inline(cluster, *reader, limits);
            }
        }
    }

    fn inline(&mut self, cluster: ClusterId, reader: ClusterId, limits: &Limits) {
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
        let fine = self.expressible_members(reader) && self.bound(reader) <= limits.bindings;
        if fine {
            self.clusters[cluster].members.clear();
        } else {
            for (member, _) in &members {
                self.place[member.index()] = Place::In(cluster);
            }
        }
    }

    /// How often a row kernel goes through the columns.
    fn passes(&self, cluster: ClusterId) -> usize {
        let members = &self.clusters[cluster].members;
        members.iter().filter(|(m, _)| matches!(self.lowering(*m), Lowering::Reduce(..))).count()
            + usize::from(members.iter().any(|(_, by_row)| !by_row))
    }

    fn bound(&self, cluster: ClusterId) -> usize {
        self.clusters[cluster].members.last().map_or(0, |&(member, _)| self.binds(member, cluster))
    }

    /// Whether every member's operands can be read or computed in place.
    fn expressible_members(&self, cluster: ClusterId) -> bool {
        let target = &self.clusters[cluster];
        target.members.iter().all(|&(member, by_row)| {
            let chain = self.operand_chain(member, target, by_row);
            self.moved_operands(member).iter().all(|&v| self.expressible(v, &chain, Some(cluster)))
        })
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
            Lowering::Contract(_) => vec![],
            Lowering::Window(window, role, _) => {
                let [h, w] = if role.is_gradient() { window.output } else { window.input };
                vec![Movement::Reshape(vec![window.planes, h, w])]
            }
            Lowering::Scatter([outer, _, inner], count) => {
                vec![Movement::Reshape(vec![outer, count, inner])]
            }
            Lowering::View(movement) => {
                [vec![movement], self.to_domain(member, cluster, by_row)].concat()
            }
            _ => self.to_domain(member, cluster, by_row),
        }
    }

    /// Checks that every value that needs work is computed exactly once.
    ///
    /// # Errors
    /// [`GraphError::Compiler`].
    pub(crate) fn verify(&self) -> Result<(), GraphError> {
        let wrong = |reason: String| GraphError::Compiler { stage: "fuse", reason };
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
