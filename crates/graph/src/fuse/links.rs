//! Who reads what, kept up to date as clusters change: finding it out again for every question would make
//! fusion quadratic in the length of a recording.
//!
//! Whoever moves a value to another place calls [`Fused::link`] for all clusters whose reads change by it.

use super::prepare::resolve;
use super::{ClusterId, Fused, Place};
use crate::ops::Op;
use crate::{Nodes, Value};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// The stored values that each cluster reads from outside.
    reads: Vec<BTreeSet<Value>>,
    /// The clusters that read each value.
    readers: Vec<BTreeSet<ClusterId>>,
    /// A number for each cluster, larger than those of all it depends on.
    level: Vec<usize>,
    /// The values that each value is an input of.
    users: Vec<Vec<Value>>,
    /// Values that must be in memory whoever reads them.
    kept: Vec<bool>,
    /// The variables that take each assigned value.
    takers: BTreeMap<Value, Vec<u64>>,
}

impl Links {
    pub(super) fn new(nodes: &Nodes, copied: &BTreeSet<Value>) -> Links {
        let count = nodes.nodes.len();
        let mut links = Links {
            readers: vec![BTreeSet::new(); count],
            users: vec![vec![]; count],
            kept: vec![false; count],
            ..Links::default()
        };
        for (number, node) in nodes.nodes.iter().enumerate() {
            for input in &node.inputs {
                links.users[input.index()].push(Value(number as u32));
            }
            match node.op {
                Op::Pack(_) => node.inputs.iter().for_each(|v| links.kept[v.index()] = true),
                Op::Gather(_) => {
                    if let Some((base, _)) = resolve(nodes, copied, node.inputs[0]) {
                        links.kept[base.index()] = true;
                    }
                }
                _ => {}
            }
        }
        for (variable, value) in &nodes.assigns {
            links.takers.entry(*value).or_default().push(*variable);
            links.kept[value.index()] = true;
        }
        for value in nodes.outputs.iter().chain(copied) {
            links.kept[value.index()] = true;
        }
        links
    }
}

impl Fused {
    /// The stored values that a cluster reads from outside.
    pub(crate) fn reads(&self, cluster: ClusterId) -> &BTreeSet<Value> {
        &self.links.reads[cluster]
    }

    /// The clusters that read a value from outside.
    pub(crate) fn readers(&self, value: Value) -> &BTreeSet<ClusterId> {
        &self.links.readers[value.index()]
    }

    /// The values that a value is an input of.
    pub(super) fn users(&self, value: Value) -> &[Value] {
        &self.links.users[value.index()]
    }

    /// Whether a value must be in memory whoever reads it.
    pub(super) fn kept(&self, value: Value) -> bool {
        self.links.kept[value.index()]
    }

    /// The variables that take a value at the end of the step.
    pub(super) fn takers(&self, value: Value) -> &[u64] {
        self.links.takers.get(&value).map_or(&[], Vec::as_slice)
    }

    /// Finds out what a cluster reads, after it or the place of a value changed.
    pub(crate) fn link(&mut self, cluster: ClusterId) {
        let mut reads = BTreeSet::new();
        for (member, _) in &self.clusters[cluster].members {
            reads.extend(self.reads_of(*member, cluster));
        }
        let count = self.clusters.len().max(self.links.reads.len());
        self.links.reads.resize(count, BTreeSet::new());
        self.links.level.resize(count, 0);
        // A copy that the schedule adds is a new value, of which nothing is read.
        self.links.readers.resize(self.nodes.nodes.len(), BTreeSet::new());
        self.links.users.resize(self.nodes.nodes.len(), vec![]);
        let before = std::mem::take(&mut self.links.reads[cluster]);
        for value in before.difference(&reads) {
            self.links.readers[value.index()].remove(&cluster);
        }
        for value in reads.difference(&before) {
            self.links.readers[value.index()].insert(cluster);
        }
        self.links.reads[cluster] = reads;
        self.raise(cluster);
    }

    /// Checks that what is kept up to date is what is found out anew.
    ///
    /// # Errors
    /// What isn't, as text.
    pub(super) fn verify_links(&self) -> Result<(), String> {
        let mut readers = vec![BTreeSet::new(); self.nodes.nodes.len()];
        for (id, cluster) in self.clusters.iter().enumerate() {
            let members = cluster.members.iter();
            let reads: BTreeSet<Value> =
                members.flat_map(|(member, _)| self.reads_of(*member, id)).collect();
            if reads != self.links.reads[id] {
                return Err(format!(
                    "cluster {id} reads {reads:?}, not {:?}",
                    self.links.reads[id]
                ));
            }
            for &value in &reads {
                readers[value.index()].insert(id);
                for maker in self.makers(value) {
                    if self.links.level[maker] >= self.links.level[id] {
                        return Err(format!("cluster {id} is not above cluster {maker}"));
                    }
                }
            }
        }
        match (0..readers.len()).find(|&n| readers[n] != self.links.readers[n]) {
            Some(value) => Err(format!("value {value} is read by {:?}", readers[value])),
            None => Ok(()),
        }
    }

    /// [`Fused::link`] after a cluster got one more member.
    pub(super) fn link_member(&mut self, member: Value, cluster: ClusterId) {
        for value in self.reads_of(member, cluster) {
            self.links.readers[value.index()].insert(cluster);
            self.links.reads[cluster].insert(value);
        }
        self.raise(cluster);
    }

    fn reads_of(&self, member: Value, cluster: ClusterId) -> Vec<Value> {
        let mut reads = Vec::new();
        for &input in &self.node(member).inputs {
            self.stored(input, &mut |value| {
                if self.place(value) != Place::In(cluster) {
                    reads.push(value);
                }
            });
        }
        reads
    }

    /// Puts a cluster above those it depends on, and those that depend on it above it.
    fn raise(&mut self, cluster: ClusterId) {
        let mut open = vec![cluster];
        while let Some(cluster) = open.pop() {
            let makers = self.reads(cluster).iter().flat_map(|&v| self.makers(v));
            let least = makers.filter(|&c| c != cluster).map(|c| self.links.level[c] + 1).max();
            let own = &mut self.links.level[cluster];
            *own = least.unwrap_or(0).max(*own);
            let own = *own;
            let above = |c: &ClusterId| *c != cluster && self.links.level[*c] <= own;
            for (member, _) in &self.clusters[cluster].members {
                open.extend(self.readers(*member).iter().copied().filter(above));
                // What is packed is read under another name.
                for &pack in self.users(*member) {
                    if self.place(pack) == Place::Packed {
                        open.extend(self.readers(pack).iter().copied().filter(above));
                    }
                }
            }
        }
    }

    /// Whether cluster `from` depends on cluster `on`.
    pub(super) fn depends(&self, from: ClusterId, on: ClusterId) -> bool {
        let lowest = self.links.level[on];
        let (mut open, mut seen) = (vec![from], BTreeSet::from([from]));
        while let Some(cluster) = open.pop() {
            if cluster == on {
                return true;
            }
            for &value in self.reads(cluster) {
                let below = |c: &ClusterId| *c == on || self.links.level[*c] > lowest;
                let makers = self.makers(value).into_iter().filter(below);
                open.extend(makers.filter(|c| seen.insert(*c)));
            }
        }
        false
    }
}
