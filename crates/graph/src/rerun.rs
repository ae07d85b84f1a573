//! Rerun: kernels whose results wait long run again right before these are needed, and their memory serves others
//! meanwhile.
//!
//! A run more of the same kernel changes no value: it reads what it read the first time, from variables that nothing
//! has overwritten yet. So the order is all that changes, and which members each further run stores.
//!
//! Greedy, as Chen et al. (arXiv 1604.06174) and XLA's rematerialisation pass are: of all values that wait while more is alive
//! than there is room for, the one whose wait is given up first saves the most for its work.

use crate::Value;
use crate::fuse::{ClusterId, Core};
use crate::lower::Lowered;
use crate::ops::Op;
use crate::schedule::{Run, Schedule};
use std::collections::{BTreeMap, BTreeSet};

/// Operations that take as long as one byte of memory traffic: from 9 on a CPU to 20 on large GPUs.
const BALANCE: u64 = 10;

/// The part of a step's work that may be done again.
const MOST: f64 = 1.0 / 3.0;

/// How many waits are looked at closely for each that is given up: those that promise most for their work.
const CLOSELY: usize = 32;

/// How many kernels may run again for one result, because what they read has been given up too.
const DEEP: usize = 4;

/// Runs kernels again until `room` bytes suffice for what is alive at once, or too much work would be repeated.
pub(crate) fn rerun(schedule: &mut Schedule, kernels: &[Lowered], room: usize) {
    let mut work: BTreeMap<ClusterId, u64> = BTreeMap::new();
    for lowered in kernels {
        let [read, written] = lowered.kernel.traffic();
        let cost = lowered.kernel.body.flops() / BALANCE + read + written;
        *work.entry(lowered.cluster).or_default() += cost;
    }
    let mut left = (work.values().sum::<u64>() as f64 * MOST) as u64;
    let mut order = schedule.order.clone();
    let rerun = Rerun::new(schedule);
    let mut now = rerun.timeline(&order);
    while now.over(room) > 0 {
        let mut best: Option<(f64, u64, Vec<Run>, Timeline)> = None;
        for wait in rerun.promising(&now, room, &work) {
            for closed in [false, true] {
                let Some(runs) = rerun.runs(&order, &now, wait, closed) else { continue };
                let cost: u64 = runs.iter().map(|run| work[&run.cluster]).sum();
                if cost > left {
                    continue;
                }
                let mut tried = order.clone();
                tried.splice(wait.until..wait.until, runs);
                let then = rerun.timeline(&tried);
                let saved = now.over(room) as f64 - then.over(room) as f64;
                let gain = saved / cost.max(1) as f64;
                if saved > 0.0 && best.as_ref().is_none_or(|(most, ..)| gain > *most) {
                    best = Some((gain, cost, tried, then));
                }
            }
        }
        let Some((_, cost, tried, then)) = best else { break };
        (order, now, left) = (tried, then, left - cost);
    }
    schedule.order = order;
}

/// A value that lies in memory from one place in the order until another without being read.
#[derive(Clone, Copy)]
struct Wait {
    value: Value,
    from: usize,
    until: usize,
}

/// What is alive at each place in an order.
struct Timeline {
    live: Vec<usize>,
    /// For each value the places where it is written and read, a list for each time that it is written.
    touched: BTreeMap<Value, Vec<Vec<usize>>>,
}

impl Timeline {
    /// Bytes that don't fit, added up over the order.
    fn over(&self, room: usize) -> u64 {
        self.live.iter().map(|&bytes| bytes.saturating_sub(room) as u64).sum()
    }

    /// All waits of a value.
    fn waits(&self, value: Value) -> impl Iterator<Item = Wait> {
        let lives = self.touched.get(&value).into_iter().flatten();
        let pairs = lives.flat_map(|touched| touched.windows(2));
        pairs.map(move |pair| Wait { value, from: pair[0], until: pair[1] })
    }

    /// Whether a value is in memory when the run at a place begins.
    fn holds(&self, value: Value, at: usize) -> bool {
        let within = |touched: &Vec<usize>| touched[0] < at && *touched.last().unwrap_or(&0) >= at;
        self.touched.get(&value).is_some_and(|lives| lives.iter().any(within))
    }
}

struct Rerun<'a> {
    schedule: &'a Schedule,
    /// The values in scratch memory that each cluster reads, packed ones one by one.
    reads: Vec<Vec<Value>>,
    /// The variables that each cluster reads.
    variables: Vec<BTreeSet<u64>>,
    /// The values in scratch memory that each cluster stores.
    stores: Vec<Vec<Value>>,
    /// What lies in memory whatever is done: what is read back, and parts of packs.
    kept: BTreeSet<Value>,
}

impl<'a> Rerun<'a> {
    fn new(schedule: &'a Schedule) -> Rerun<'a> {
        let fused = &schedule.fused;
        let mut kept: BTreeSet<Value> = fused.nodes.outputs.iter().copied().collect();
        for node in fused.nodes.nodes.iter().filter(|node| matches!(node.op, Op::Pack(_))) {
            kept.extend(&node.inputs);
        }
        let scratch = |value: &Value| !schedule.home.contains_key(value);
        let (mut reads, mut variables, mut stores) = (vec![], vec![], vec![]);
        for (number, cluster) in fused.clusters.iter().enumerate() {
            let (mut values, mut leaves) = (BTreeSet::new(), BTreeSet::new());
            for &value in fused.reads(number) {
                match &fused.node(value).op {
                    Op::Leaf(leaf) => _ = leaves.insert(leaf.variable),
                    Op::Pack(_) => values.extend(&fused.node(value).inputs),
                    _ => _ = values.insert(value),
                }
            }
            reads.push(values.into_iter().filter(scratch).collect());
            variables.push(leaves);
            let members = cluster.members.iter().map(|(member, _)| *member);
            stores.push(members.filter(|m| schedule.stored.contains(m) && scratch(m)).collect());
        }
        Rerun { schedule, reads, variables, stores, kept }
    }

    /// The waits while more is alive than there is room for, those first that take most room for the least work.
    fn promising(&self, now: &Timeline, room: usize, work: &BTreeMap<ClusterId, u64>) -> Vec<Wait> {
        let promise = |wait: &Wait| {
            let during = now.live.get(wait.from + 1..wait.until).unwrap_or_default();
            let crowded = during.iter().filter(|&&bytes| bytes > room).count();
            let bytes = self.schedule.bytes(wait.value) * crowded;
            let makers = self.schedule.fused.makers(wait.value);
            let cost: u64 = makers.iter().map(|maker| work.get(maker).unwrap_or(&0)).sum();
            bytes as f64 / cost.max(1) as f64
        };
        let free = now.touched.keys().filter(|value| !self.kept.contains(value));
        let waits = free.flat_map(|&value| now.waits(value));
        let promises = waits.map(|wait| (promise(&wait), wait));
        let mut promises: Vec<_> = promises.filter(|(promise, _)| *promise > 0.0).collect();
        promises.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        promises.into_iter().take(CLOSELY).map(|(_, wait)| wait).collect()
    }

    fn timeline(&self, order: &[Run]) -> Timeline {
        let mut touched: BTreeMap<Value, Vec<Vec<usize>>> = BTreeMap::new();
        for (at, run) in order.iter().enumerate() {
            for value in &self.reads[run.cluster] {
                if let Some(life) = touched.get_mut(value).and_then(|lives| lives.last_mut()) {
                    life.push(at);
                }
            }
            for &value in self.stores[run.cluster].iter().filter(|&&v| run.stores(v)) {
                touched.entry(value).or_default().push(vec![at]);
            }
        }
        let mut change = vec![(0, 0); order.len() + 1];
        for (value, lives) in &touched {
            let bytes = self.schedule.bytes(*value);
            for life in lives {
                let last = match self.schedule.fused.nodes.outputs.contains(value) {
                    true => order.len() - 1,
                    false => *life.last().unwrap_or(&0),
                };
                change[life[0]].0 += bytes;
                change[last + 1].1 += bytes;
            }
        }
        let mut alive = 0;
        let live = change[..order.len()].iter().map(|(more, less)| {
            alive = alive + more - less;
            alive
        });
        Timeline { live: live.collect(), touched }
    }

    /// The runs that end a wait: of the kernel that makes the value and of those that make what it reads and has been
    /// given up; if `closed`, also of what would have to wait for it.
    fn runs(&self, order: &[Run], now: &Timeline, wait: Wait, closed: bool) -> Option<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut open = vec![wait.value];
        while let Some(value) = open.pop() {
            let makers = self.schedule.fused.makers(value);
            let &[cluster] = makers.as_slice() else { return None };
            if self.kept.contains(&value) || !self.may_run(order, cluster, wait.until) {
                return None;
            }
            // Whatever else the kernel makes and is waited for at this place comes along.
            let waits = |&member: &Value| {
                let mut own = now.waits(member);
                member == value
                    || own.any(|own| own.from + 1 < wait.until && wait.until <= own.until)
            };
            let members = self.stores[cluster].iter().copied();
            let mut stores: BTreeSet<Value> =
                members.filter(|m| !self.kept.contains(m) && waits(m)).collect();
            if matches!(self.schedule.fused.clusters[cluster].core, Core::Recurrent(..)) {
                // It reads what it has stored at the step before.
                stores.extend(self.stores[cluster].first());
            }
            if closed {
                let missing = self.reads[cluster].iter().filter(|&&v| !now.holds(v, wait.until));
                open.extend(missing);
            }
            // What others need runs before them.
            runs.retain(|run| run.cluster != cluster);
            runs.insert(0, Run { cluster, again: Some(stores) });
            if runs.len() > DEEP {
                return None;
            }
        }
        Some(runs)
    }

    /// Whether a kernel would still read the same variables at a place in the order.
    fn may_run(&self, order: &[Run], cluster: ClusterId, at: usize) -> bool {
        let overwritten = |run: &Run| {
            let members = self.schedule.fused.clusters[run.cluster].members.iter();
            let mut homes = members.filter_map(|(member, _)| self.schedule.home.get(member));
            homes.any(|variable| self.variables[cluster].contains(variable))
        };
        !order[..at].iter().any(overwritten)
    }
}
