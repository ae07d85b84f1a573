//! Share: small kernels that don't depend on each other are moved into one dispatch.
//!
//! What runs at the same time is alive at the same time, so memory is planned after this, in dispatches instead of kernels.

use crate::Value;
use crate::lower::{Lowered, Memory};
use crate::ops::Op;
use crate::schedule::Schedule;
use shadegrad_device::{Kernel, Limits, can_share, numel};
use std::collections::BTreeSet;

/// How many dispatches back a kernel looks for one to share. Those from further back would keep their results for long.
const NEAR: usize = 4;

/// Memory by what it belongs to: whole variables, and values in scratch memory.
type Touched = BTreeSet<Memory>;

/// What a kernel reads and what it writes.
struct Access {
    read: Touched,
    written: Touched,
}

impl Access {
    fn of(schedule: &Schedule, lowered: &Lowered) -> Access {
        let mut access = Access { read: Touched::new(), written: Touched::new() };
        for (number, memory) in lowered.operands.iter().enumerate() {
            let (read, written) = lowered.kernel.access(number);
            let touched = touched(schedule, *memory);
            if read {
                access.read.extend(touched.clone());
            }
            if written {
                access.written.extend(touched);
            }
        }
        access
    }

    fn depends_on(&self, other: &Access) -> bool {
        !self.written.is_disjoint(&other.written)
            || !self.written.is_disjoint(&other.read)
            || !self.read.is_disjoint(&other.written)
    }
}

/// What an operand lies in: a variable, wherever in it; of a pack its parts, which are written one by one.
fn touched(schedule: &Schedule, memory: Memory) -> Vec<Memory> {
    let whole = |id: u64| vec![Memory::Variable(id, 0)];
    match memory {
        Memory::Variable(id, _) => whole(id),
        Memory::Value(value) => match schedule.home.get(&value) {
            Some(&id) => whole(id),
            None => parts(schedule, value),
        },
        Memory::Partial(_) => vec![memory],
    }
}

fn parts(schedule: &Schedule, value: Value) -> Vec<Memory> {
    let node = schedule.fused.node(value);
    let inputs = match node.op {
        Op::Pack(_) => node.inputs.as_slice(),
        _ => &[],
    };
    [value].iter().chain(inputs).map(|&value| Memory::Value(value)).collect()
}

/// Moves each kernel to a dispatch before it that it can share, if there is one: to the nearest of its family, else to the nearest.
/// All others stay in order.
pub(crate) fn share(schedule: &Schedule, kernels: &[Lowered], limits: &Limits) -> Vec<Lowered> {
    let variables: Vec<u64> = schedule.fused.nodes.variables.keys().copied().collect();
    let mut dispatches: Vec<Vec<(Lowered, Access)>> = Vec::new();
    for mut lowered in kernels.iter().cloned() {
        // Scratch memory has no addresses yet, so buffers are numbered as they probably will be.
        for (operand, memory) in lowered.kernel.operands.iter_mut().zip(&lowered.operands) {
            operand.buffer = match touched(schedule, *memory)[0] {
                Memory::Variable(id, _) => 2 + variables.binary_search(&id).unwrap_or(0),
                Memory::Value(value) => usize::from(schedule.halved.contains(&value)),
                Memory::Partial(_) => 0,
            };
        }
        let access = Access::of(schedule, &lowered);
        let independent = |dispatch: &[(Lowered, Access)]| {
            !dispatch.iter().any(|(_, other)| access.depends_on(other))
        };
        let near = dispatches.iter().enumerate().rev().take(NEAR);
        let near = near.take_while(|(_, dispatch)| independent(dispatch));
        let able = near.filter(|(_, dispatch)| {
            let all = dispatch.iter().map(|(other, _)| other).chain([&lowered]);
            let all: Vec<&Kernel> = all.map(|lowered| &lowered.kernel).collect();
            all.iter().all(|kernel| numel(&kernel.body.domain()) > 0) && can_share(&all, limits)
        });
        let able: Vec<usize> = able.map(|(number, _)| number).collect();
        // What follows from kernels of one family is of one family, too, and finds them in one dispatch.
        let alike = |number: &&usize| {
            let family = |lowered: &Lowered| lowered.kernel.body.family();
            family(&dispatches[**number][0].0) == family(&lowered)
        };
        match able.iter().find(alike).or(able.first()) {
            Some(&number) => dispatches[number].push((lowered, access)),
            None => dispatches.push(vec![(lowered, access)]),
        }
    }
    let numbered = dispatches.into_iter().enumerate().flat_map(|(dispatch, all)| {
        all.into_iter().map(move |(lowered, _)| Lowered { dispatch, ..lowered })
    });
    numbered.collect()
}
