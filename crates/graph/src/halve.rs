//! Halve: which values wait in scratch memory in half precision, of those that were recorded under
//! [`Graph::autocast`](crate::Graph::autocast).
//!
//! A value is rounded when it is stored, and only then: what a kernel keeps to itself stays in f32, and so do sums. Not
//! rounded is what others look at or add up: outputs, variables, packs, reductions and what follows from these alone
//! (a norm's mean and deviation), and recurrences that a scan goes on with.

use crate::Value;
use crate::fuse::Core;
use crate::ops::{Lowering, Op, Scalar};
use crate::schedule::Schedule;
use shadegrad_device::{DType, Limits};
use std::collections::BTreeSet;

/// Chooses the values that wait as halves, if the device can store halves.
pub(crate) fn halve(schedule: &mut Schedule, limits: &Limits) {
    if !limits.f16 {
        return;
    }
    let nodes = &schedule.fused.nodes;
    let mut exact: BTreeSet<Value> = BTreeSet::new();
    for (number, node) in nodes.nodes.iter().enumerate().rev() {
        let packs = matches!(node.op, Op::Pack(_));
        // Of a gradient that is a sum, as that of a weight that is used twice, each part.
        let passes = exact.contains(&Value(number as u32))
            && adds(&schedule.fused.lowering(Value(number as u32)));
        if packs || passes {
            exact.extend(&node.inputs);
        }
    }
    exact.extend(&nodes.outputs);
    // Also those that wait until their variables may be overwritten.
    exact.extend(nodes.assigns.iter().map(|(_, value)| value));
    let statistics = statistics(schedule);
    let mut halved = BTreeSet::new();
    for cluster in &schedule.fused.clusters {
        if matches!(cluster.core, Core::Scan(_) | Core::Half) {
            continue;
        }
        // What the next step's dispatch goes on with: it would be rounded on some devices and not on others.
        let states = match cluster.core {
            Core::Recurrent(sequence, _) if sequence.stepwise(limits) => {
                cluster.members.first().map(|(member, _)| *member)
            }
            _ => None,
        };
        for &(member, by_row) in &cluster.members {
            let node = schedule.fused.node(member);
            let may = node.half && node.ty.dtype == DType::F32 && !by_row;
            let may = may && !exact.contains(&member) && states != Some(member);
            let may = may && !schedule.home.contains_key(&member);
            if may && schedule.stored.contains(&member) && !statistics[member.index()] {
                halved.insert(member);
            }
        }
    }
    schedule.halved = halved;
}

/// Whether an operation adds or moves what goes in.
fn adds(lowering: &Lowering) -> bool {
    matches!(lowering, Lowering::View(_) | Lowering::Pointwise(Scalar::Add))
}

/// Which values are reductions, or follow from reductions alone without being larger.
fn statistics(schedule: &Schedule) -> Vec<bool> {
    let fused = &schedule.fused;
    // How many numbers the reductions behind each value have; none for what isn't a statistic.
    let mut sizes: Vec<Option<usize>> = Vec::with_capacity(fused.nodes.nodes.len());
    for (number, node) in fused.nodes.nodes.iter().enumerate() {
        let value = Value(number as u32);
        let of_inputs = || node.inputs.iter().map(|input| sizes[input.index()]);
        sizes.push(match fused.lowering(value) {
            Lowering::Reduce(..) => Some(node.ty.numel()),
            Lowering::View(_) => of_inputs().next().flatten(),
            Lowering::Pointwise(_) => {
                let fine = node.inputs.iter().all(|input| {
                    let leaf = matches!(fused.lowering(*input), Lowering::Leaf);
                    leaf || sizes[input.index()].is_some()
                });
                let size = of_inputs().flatten().max();
                size.filter(|&size| fine && node.ty.numel() <= size)
            }
            _ => None,
        });
    }
    sizes.into_iter().map(|size| size.is_some()).collect()
}
