//! What operands read, who makes it, and what clusters bind.

use super::prepare::resolve;
use super::{ClusterId, Core, Fused, Place, Use};
use crate::Value;
use crate::ops::Op;
use std::collections::BTreeSet;

impl Fused {
    /// The placed values behind an operand.
    pub(super) fn uses(&self, operand: Value) -> Vec<Use> {
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

    /// Buffers that a cluster would bind with one more value: each variable, and scratch memory.
    pub(super) fn binds(&self, value: Value, cluster: ClusterId) -> usize {
        let (mut variables, mut scratch) = (BTreeSet::new(), BTreeSet::new());
        let mut note = |stored: Value| {
            match &self.node(stored).op {
                Op::Leaf(leaf) => variables.insert(leaf.variable),
                _ => self.place(stored) != Place::In(cluster) && scratch.insert(stored),
            };
            // An assigned value may live in the variable.
            variables.extend(self.takers(stored));
        };
        for &input in &self.node(value).inputs {
            self.stored(input, &mut note);
        }
        self.reads(cluster).iter().copied().for_each(note);
        let members = self.clusters[cluster].members.iter().map(|(member, _)| *member);
        for member in members.clone().chain([value]) {
            variables.extend(self.takers(member));
        }
        if !self.spread {
            return variables.len() + 1;
        }
        scratch.extend(members.chain([value]).filter(|&v| self.leaves(v, value, cluster)));
        // A sum that is split has partial sums besides.
        let partial = matches!(self.clusters[cluster].core, Core::Contract(_));
        variables.len() + scratch.len() + usize::from(partial)
    }

    /// Whether anything outside of a cluster and one more value may read a value.
    fn leaves(&self, value: Value, more: Value, cluster: ClusterId) -> bool {
        let inside = |user: Value| user == more || self.place(user) == Place::In(cluster);
        self.kept(value) || self.users(value).iter().any(|&user| !inside(user))
    }

    pub(super) fn bound(&self, cluster: ClusterId) -> usize {
        self.clusters[cluster].members.last().map_or(0, |&(member, _)| self.binds(member, cluster))
    }
}
