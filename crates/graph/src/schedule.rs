//! Schedule: the order of clusters, which of their members are stored, and which are stored right
//! into the variable that takes them at the end of the step.
//!
//! Reads of a variable see what it held before the step, so whatever reads it runs before what
//! overwrites it. Where that can't be arranged, the new contents wait in scratch memory and a
//! last kernel copies them over.

use crate::fuse::{Cluster, ClusterId, Core, Fused, Place, reads_row};
use crate::ops::{Lowering, Movement, Op, Reshape, ToHalf};
use crate::{GraphError, Node, Value};
use shadegrad_device::{DType, View, numel};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};

/// A cluster's kernel at one place in the order.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) cluster: ClusterId,
    /// What is stored of the members that are, where the kernel runs again; `None` is all of them.
    pub(crate) again: Option<BTreeSet<Value>>,
}

impl Run {
    /// Whether this run stores a member that is stored at all.
    pub(crate) fn stores(&self, member: Value) -> bool {
        self.again.as_ref().is_none_or(|again| again.contains(&member))
    }
}

/// Clusters in order.
pub(crate) struct Schedule {
    pub(crate) fused: Fused,
    pub(crate) order: Vec<Run>,
    /// Members that are stored.
    pub(crate) stored: BTreeSet<Value>,
    /// The variable in which a stored member lives.
    pub(crate) home: BTreeMap<Value, u64>,
    /// Stored floats that wait in half precision.
    pub(crate) halved: BTreeSet<Value>,
}

impl Schedule {
    /// What a value takes in scratch memory.
    pub(crate) fn bytes(&self, value: Value) -> usize {
        let ty = &self.fused.node(value).ty;
        match self.halved.contains(&value) {
            true => ty.numel() * DType::F16.bytes(),
            false => ty.bytes(),
        }
    }
}

/// Orders the clusters.
pub(crate) fn schedule(mut fused: Fused) -> Result<Schedule, GraphError> {
    let mut after: Vec<BTreeSet<ClusterId>> = (0..fused.clusters.len())
        .map(|c| fused.reads(c).iter().flat_map(|&v| fused.makers(v)).collect())
        .collect();
    let mut home = BTreeMap::new();
    for (variable, value) in fused.nodes.assigns.clone() {
        let readers = readers(&fused, variable);
        let Place::In(cluster) = fused.place(value) else {
            return Err(wrong(format!("assigned value {} is not computed", value.0)));
        };
        let others: BTreeSet<ClusterId> =
            readers.iter().copied().filter(|&c| c != cluster).collect();
        let ordered = others.iter().all(|&c| !depends(&after, c, cluster));
        if ordered && (!readers.contains(&cluster) || in_place(&fused, cluster, value, variable)) {
            after[cluster].extend(others);
            home.insert(value, variable);
        } else {
            let copy = add_copy(&mut fused, value);
            after.push(readers.into_iter().chain([cluster]).collect());
            home.insert(copy, variable);
        }
    }
    let order = topological(&fused, &after)?;
    let order = order.into_iter().map(|cluster| Run { cluster, again: None }).collect();
    let stored = stored(&fused, &home);
    Ok(Schedule { fused, order, stored, home, halved: BTreeSet::new() })
}

fn wrong(reason: String) -> GraphError {
    GraphError::Compiler { stage: "schedule", reason }
}

/// The clusters that read a variable.
fn readers(fused: &Fused, variable: u64) -> BTreeSet<ClusterId> {
    let is_it =
        |v: &Value| matches!(&fused.node(*v).op, Op::Leaf(leaf) if leaf.variable == variable);
    let leaves = (0..fused.nodes.nodes.len()).map(|n| Value(n as u32)).filter(is_it);
    leaves.flat_map(|leaf| fused.readers(leaf)).copied().collect()
}

fn depends(after: &[BTreeSet<ClusterId>], from: ClusterId, on: ClusterId) -> bool {
    let (mut open, mut seen) = (vec![from], BTreeSet::from([from]));
    while let Some(cluster) = open.pop() {
        if cluster == on {
            return true;
        }
        open.extend(after[cluster].iter().copied().filter(|c| seen.insert(*c)));
    }
    false
}

/// Whether a cluster reads of a variable only the very element that it overwrites.
fn in_place(fused: &Fused, cluster: ClusterId, value: Value, variable: u64) -> bool {
    let target = &fused.clusters[cluster];
    if let Core::Rows { rows, .. } = &target.core {
        return fused.node(value).ty.numel() == numel(rows)
            && in_place_by_row(fused, cluster, variable);
    }
    let points = numel(&target.domain);
    target.core == Core::Map
        && fused.node(value).ty.numel() == points
        && target.members.iter().all(|&(member, by_row)| {
            let chain = fused.operand_chain(member, target, by_row);
            let own = |&v: &Value| reads_own(fused, v, &chain, variable, View::is_contiguous);
            !gathers_from(fused, member, variable) && fused.node(member).inputs.iter().all(own)
        })
}

/// Whether a row kernel reads of a variable only the element of its own row, and only for what is stored for each row:
/// elements may be computed after that.
fn in_place_by_row(fused: &Fused, cluster: ClusterId, variable: u64) -> bool {
    let target = &fused.clusters[cluster];
    let mut changed: BTreeSet<Value> = BTreeSet::new();
    target.members.iter().all(|&(member, by_row)| {
        let chain = fused.operand_chain(member, target, by_row);
        let mut own = !gathers_from(fused, member, variable);
        let mut touched = false;
        for &input in &fused.node(member).inputs {
            let mut reads = false;
            fused.stored(input, &mut |v| {
                reads |= matches!(&fused.node(v).op, Op::Leaf(leaf) if leaf.variable == variable);
                touched |= changed.contains(&v);
            });
            touched |= reads;
            let row = |view: &View| reads_row(view, target);
            own &= !reads || reads_own(fused, input, &chain, variable, row);
        }
        if touched {
            changed.insert(member);
        }
        let reduces = matches!(fused.lowering(member), Lowering::Reduce(..));
        own && (!touched || by_row && !reduces)
    })
}

/// Whether a value is a gather from a variable: it reads other elements than its own.
fn gathers_from(fused: &Fused, value: Value, variable: u64) -> bool {
    let mut found = false;
    if matches!(fused.lowering(value), Lowering::Gather(_)) {
        fused.stored(fused.node(value).inputs[0], &mut |v| {
            found |= matches!(&fused.node(v).op, Op::Leaf(leaf) if leaf.variable == variable);
        });
    }
    found
}

/// Whether computing an operand reads of a variable only the element at its own point: through views that `own` accepts.
fn reads_own(
    fused: &Fused,
    operand: Value,
    chain: &[Movement],
    variable: u64,
    own: impl Fn(&View) -> bool,
) -> bool {
    let mut open = vec![(operand, chain.to_vec())];
    let mut seen: HashSet<(Value, Vec<Movement>)> = open.iter().cloned().collect();
    while let Some((value, chain)) = open.pop() {
        let node = fused.node(value);
        if fused.place(value) != Place::Virtual {
            continue;
        }
        match &node.op {
            Op::Leaf(leaf) if leaf.variable == variable => {
                let view = fused.moved(&View::contiguous(&node.ty.shape), &chain);
                if leaf.offset != 0 || !view.is_some_and(|v| own(&v)) {
                    return false;
                }
            }
            _ if gathers_from(fused, value, variable) => return false,
            _ => {
                let movement: Vec<Movement> = fused.movement(value).into_iter().collect();
                let chain = [movement, chain].concat();
                let next = node.inputs.iter().map(|&v| (v, chain.clone()));
                open.extend(next.filter(|step| seen.insert(step.clone())));
            }
        }
    }
    true
}

/// A cluster that copies a value.
fn add_copy(fused: &mut Fused, value: Value) -> Value {
    let node = fused.node(value).clone();
    let half = node.ty.dtype == DType::F16;
    let copy = Value(fused.nodes.nodes.len() as u32);
    let shape = node.ty.shape.clone();
    let op = if half { ToHalf.into() } else { Reshape(shape.clone()).into() };
    fused.nodes.nodes.push(Node { op, inputs: vec![value], ..node });
    fused.place.push(Place::In(fused.clusters.len()));
    let (core, domain) = match half {
        true => (Core::Half, vec![numel(&shape).div_ceil(2)]),
        false => (Core::Map, shape),
    };
    if !half {
        fused.copied.insert(copy);
    }
    let cluster = fused.clusters.len();
    fused.clusters.push(Cluster { core, domain, members: vec![(copy, false)] });
    fused.link(cluster);
    copy
}

/// The clusters with members, each after those it depends on; else in the order of recording.
fn topological(fused: &Fused, after: &[BTreeSet<ClusterId>]) -> Result<Vec<ClusterId>, GraphError> {
    let used: Vec<bool> = fused.clusters.iter().map(|c| !c.members.is_empty()).collect();
    let mut left: Vec<usize> =
        after.iter().map(|a| a.iter().filter(|&&c| used[c]).count()).collect();
    let key = |c: ClusterId| {
        let last = fused.clusters[c].members.iter().map(|(m, _)| m.0).max().unwrap_or(0);
        std::cmp::Reverse((last, c))
    };
    let mut ready: BinaryHeap<_> =
        (0..after.len()).filter(|&c| used[c] && left[c] == 0).map(key).collect();
    let mut behind = vec![vec![]; after.len()];
    for (next, before) in after.iter().enumerate().filter(|(next, _)| used[*next]) {
        before.iter().for_each(|&c| behind[c].push(next));
    }
    let mut order = Vec::new();
    while let Some(std::cmp::Reverse((_, cluster))) = ready.pop() {
        order.push(cluster);
        for &next in &behind[cluster] {
            left[next] -= 1;
            if left[next] == 0 {
                ready.push(key(next));
            }
        }
    }
    match order.len() == used.iter().filter(|&&u| u).count() {
        true => Ok(order),
        false => {
            let stuck: Vec<String> = (0..after.len())
                .filter(|c| used[*c] && !order.contains(c))
                .map(|c| format!("{c} {:?} after {:?}", fused.clusters[c].members, after[c]))
                .collect();
            Err(wrong(format!("clusters wait for each other: {}", stuck.join("; "))))
        }
    }
}

/// The members that something outside of their cluster reads.
fn stored(fused: &Fused, home: &BTreeMap<Value, u64>) -> BTreeSet<Value> {
    let mut stored: BTreeSet<Value> = home.keys().copied().collect();
    let mut keep = |value: Value| {
        if matches!(fused.place(value), Place::In(_)) {
            stored.insert(value);
        }
    };
    for cluster in 0..fused.clusters.len() {
        fused.reads(cluster).iter().copied().for_each(&mut keep);
    }
    fused.nodes.outputs.iter().copied().for_each(&mut keep);
    // A recurrent kernel may read what it has stored at the step before.
    let recurrent = |cluster: &&Cluster| matches!(cluster.core, Core::Recurrent(..));
    for cluster in fused.clusters.iter().filter(recurrent) {
        cluster.members.first().into_iter().for_each(|(member, _)| keep(*member));
    }
    for node in fused.nodes.nodes.iter().filter(|node| matches!(node.op, Op::Pack(_))) {
        node.inputs.iter().copied().for_each(&mut keep);
    }
    stored
}
