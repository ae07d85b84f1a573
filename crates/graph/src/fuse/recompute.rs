//! Last passes: values that are cheaper to compute again than to store, and pointwise clusters that
//! become the prologue of their only reader.

use super::{CHEAP, ClusterId, Core, Fused, Place};
use crate::Value;
use crate::ops::{Lowering, Op};
use shadegrad_device::{Limits, numel};
use std::collections::{BTreeMap, BTreeSet};

/// Heaviest chain that is computed again for each reader rather than stored and loaded.
const AGAIN: u32 = 64;

/// How often elements may be read of what is computed again each time, though it isn't cheap.
const TIMES: usize = 4;

/// How much smaller a value is that costs nothing beside another: what a row has once, beside a row.
const SMALL: usize = 8;

/// What could be computed again from one value.
#[derive(Default)]
struct Chain {
    /// What is stored now and need not be.
    values: Vec<Value>,
    /// All that lies between these and the value that they follow from.
    between: BTreeSet<Value>,
}

impl Fused {
    /// Makes values virtual that are stored only for other clusters, although they follow from a single value of their
    /// size: a relu's mask from the relu, what is normalised from what came in and its rows' mean and deviation.
    pub(super) fn sink(&mut self, limits: &Limits) {
        for cluster in 0..self.clusters.len() {
            let mut chains: BTreeMap<Value, Chain> = BTreeMap::new();
            // Members so far that need not be stored.
            let mut sunk = BTreeSet::new();
            let members: Vec<Value> = self.clusters[cluster].members.iter().map(|m| m.0).collect();
            for &value in members.iter().filter(|&&value| self.may_sink(value, cluster)) {
                if let Some((from, between)) = self.follows(value, cluster, &sunk) {
                    sunk.insert(value);
                    let chain = chains.entry(from).or_default();
                    chain.values.push(value);
                    chain.between.extend(between);
                }
            }
            for (from, chain) in chains {
                let bytes = |v: Value| self.node(v).ty.bytes();
                let saved: usize = chain.values.iter().map(|&v| bytes(v)).sum();
                let cost = if self.stays(from, cluster, &sunk) { 0 } else { bytes(from) };
                let weight = chain.between.iter().map(|&v| self.weight(v)).sum::<u32>();
                if saved > cost && weight <= AGAIN {
                    self.make_virtual(cluster, &chain, limits);
                }
            }
        }
    }

    fn weight(&self, value: Value) -> u32 {
        match self.lowering(value) {
            Lowering::Pointwise(scalar) => scalar.weight(),
            _ => 0,
        }
    }

    /// Whether a member is stored only for clusters that read each of its elements once.
    fn may_sink(&self, value: Value, cluster: ClusterId) -> bool {
        let points = self.node(value).ty.numel();
        let once = |&reader: &ClusterId| {
            let target = &self.clusters[reader];
            numel(&target.domain) <= points
                && target.members.iter().all(|&(member, _)| {
                    let core = !matches!(
                        self.lowering(member),
                        Lowering::Pointwise(_) | Lowering::View(_) | Lowering::Reduce(..)
                    );
                    !core
                        || !self
                            .node(member)
                            .inputs
                            .iter()
                            .any(|&input| self.behind_is(input, value))
                })
        };
        let pointwise = matches!(self.lowering(value), Lowering::Pointwise(_));
        let readers = self.readers(value);
        pointwise
            && points > 1
            && !self.by_row(value, cluster)
            && !self.kept(value)
            && !readers.is_empty()
            && readers.iter().all(once)
            && self.times(value) <= TIMES
    }

    /// How often each element of a value is read on average, through views that are no copies of it, such as of an image that is shifted.
    fn times(&self, value: Value) -> usize {
        let elements = |value: Value| self.node(value).ty.numel();
        let (mut open, mut seen, mut read) = (vec![value], BTreeSet::from([value]), 0);
        while let Some(from) = open.pop() {
            let users = self.users(from);
            let (passing, readers): (Vec<Value>, Vec<Value>) =
                users.iter().partition(|&&user| self.place(user) == Place::Virtual);
            if !readers.is_empty() {
                read += elements(from).min(elements(value));
            }
            open.extend(passing.into_iter().filter(|&user| seen.insert(user)));
        }
        read / elements(value).max(1)
    }

    /// Whether computing an operand in place reads a value.
    fn behind_is(&self, operand: Value, value: Value) -> bool {
        let mut found = false;
        self.stored(operand, &mut |v| found |= v == value);
        found
    }

    /// Whether a value is in memory whatever becomes of those that could be computed again.
    fn stays(&self, value: Value, cluster: ClusterId, sunk: &BTreeSet<Value>) -> bool {
        matches!(self.node(value).op, Op::Leaf(_))
            || self.place(value) != Place::In(cluster)
            || self.kept(value)
            || !self.readers(value).is_empty() && !sunk.contains(&value)
    }

    /// The single value of its size that a member follows from, besides much smaller ones, and what lies between.
    fn follows(
        &self,
        value: Value,
        cluster: ClusterId,
        sunk: &BTreeSet<Value>,
    ) -> Option<(Value, BTreeSet<Value>)> {
        let points = self.node(value).ty.numel();
        let (mut from, mut between) = (None, BTreeSet::from([value]));
        let mut open = self.node(value).inputs.clone();
        while let Some(input) = open.pop() {
            let ty = &self.node(input).ty;
            let passes = match self.lowering(input) {
                Lowering::Pointwise(_) => true,
                Lowering::View(_) => !self.copied.contains(&input),
                _ => false,
            };
            let memory = match self.place(input) {
                Place::Virtual => matches!(self.node(input).op, Op::Leaf(_)),
                Place::In(at) => at != cluster || !passes || self.stays(input, cluster, sunk),
                Place::Packed => true,
            };
            let small = ty.numel() * SMALL <= points;
            match (self.place(input), memory) {
                // What has one element for a row stays where it is.
                (Place::In(_) | Place::Packed, _) if small => {}
                (_, true) if small => {}
                (_, true) if *from.get_or_insert(input) != input => return None,
                (_, true) => {}
                (Place::Virtual, false) if !passes => {
                    // Constants and coordinates; gathers read more than their own element.
                    if matches!(self.lowering(input), Lowering::Gather(_)) {
                        return None;
                    }
                }
                (_, false) => {
                    let new = match self.place(input) {
                        Place::In(_) => between.insert(input),
                        _ => true,
                    };
                    if new {
                        open.extend(&self.node(input).inputs);
                    }
                }
            }
        }
        Some((from?, between))
    }

    /// Has a chain computed again wherever it is used, if that works out.
    fn make_virtual(&mut self, cluster: ClusterId, chain: &Chain, limits: &Limits) {
        let before = self.clusters[cluster].members.clone();
        let readers: BTreeSet<ClusterId> =
            chain.between.iter().flat_map(|&v| self.readers(v)).copied().collect();
        chain.between.iter().for_each(|v| self.place[v.index()] = Place::Virtual);
        self.clusters[cluster].members.retain(|(member, _)| !chain.between.contains(member));
        readers.iter().chain([&cluster]).for_each(|&c| self.link(c));
        let fine = !self.clusters[cluster].members.is_empty()
            && readers.iter().chain([&cluster]).all(|&c| {
                self.consistent(c)
                    && self.expressible_members(c)
                    && self.bound(c) <= limits.bindings
                    && self.reads(c).iter().all(|&v| !self.makers(v).contains(&c))
            });
        if !fine {
            chain.between.iter().for_each(|v| self.place[v.index()] = Place::In(cluster));
            self.clusters[cluster].members = before;
            readers.iter().chain([&cluster]).for_each(|&c| self.link(c));
        }
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
            // What a row needs is computed once for each row, what a column needs for each element.
            Core::Rows { ref rows, ref cols, .. } => {
                let domain = &self.clusters[cluster].domain;
                let by_column = domain.ends_with(cols) && numel(domain) != numel(rows);
                let times = numel(&target.domain) / numel(domain).max(1);
                !by_column || weight as usize * times <= AGAIN as usize * TIMES
            }
            // Sources of sums and windows are loaded several times.
            _ => weight <= CHEAP,
        };
        let often = weight > CHEAP && members.iter().any(|&(member, _)| self.times(member) > TIMES);
        let expensive_rows = matches!(target.core, Core::Rows { .. })
            && self.passes(reader) > 1
            && !repeated
            && weight > CHEAP * 2;
        if !allowed
            || often
            || expensive_rows
            || members.iter().any(|&(member, _)| self.kept(member))
        {
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
