//! The path of a training step, as one function.

use crate::expand::expand;
use crate::fuse::fuse;
use crate::halve::halve;
use crate::lower::{Lowered, Memory, lower};
use crate::plan::{Plan, Slot, plan};
use crate::rerun::rerun;
use crate::schedule::{Schedule, schedule};
use crate::share::share;
use crate::simplify::simplify;
use crate::{GraphError, Nodes, Type, Variable, dump};
use shadegrad_device::{BufferSpec, Counts, Kernel, Limits, Program, can_share, numel};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of scratch memory that are little for any device.
const LITTLE: usize = 1 << 20;

/// Optimisations, each of which can be switched off to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Apply the rules of the simplifier.
    pub simplify: bool,
    /// Put several values into one kernel.
    pub fuse: bool,
    /// Cut every contraction's summed axis into this many parts, on devices that split sums;
    /// `None` lets the shape decide.
    pub splits: Option<usize>,
    /// Let small kernels that don't depend on each other share a dispatch, on GPUs. What they touch is alive at the same time, so
    /// none do where that would take more than a twentieth more scratch memory, nor with `recompute`, which is to save it.
    pub share: bool,
    /// Bytes of scratch memory to aim at: values that would wait long in memory are computed again, by running
    /// their kernels again, until so little suffices or a third more work is spent. The results are the same
    /// bits. `None` stores everything (Chen et al., arXiv 1604.06174, on what is known as activation checkpointing).
    pub recompute: Option<usize>,
    /// Run many steps as one dispatch, by one workgroup, where the program is small enough and no kernel needs workgroup memory
    /// ([`Program::whole`]); nothing changes for others. The shader takes several times as long to compile,
    /// and has no cooperative matrices.
    pub one_dispatch: bool,
    /// Bytes left free after every value in scratch memory, to catch stray writes.
    pub guard: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            simplify: true,
            fuse: true,
            splits: None,
            share: true,
            recompute: None,
            one_dispatch: false,
            guard: 0,
        }
    }
}

/// A compiled recording: a program and what is needed to run it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the device runs.
    pub program: Program,
    /// The variables behind the program's external buffers, in order.
    pub variables: Vec<Variable>,
    /// Where the outputs are, in the order they were asked for.
    pub outputs: Vec<Output>,
    /// What it costs.
    pub report: Report,
    /// Every stage as text: file name and contents.
    pub dump: Vec<(String, String)>,
    /// Ranges of scratch buffers that no kernel may touch: buffer of the program, offset, bytes.
    pub gaps: Vec<(usize, usize, usize)>,
}

/// A value that can be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Buffer of the program.
    pub buffer: usize,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// What it is.
    pub ty: Type,
}

/// What a compiled program costs, counted exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Dispatches, bytes and operations of one step.
    pub counts: Counts,
    /// Bytes of scratch memory.
    pub peak_bytes: usize,
    /// The largest sum of live values at any dispatch: no plan of these dispatches can do with less.
    pub lower_bound: usize,
    /// Bytes of variables.
    pub variable_bytes: usize,
    /// Values in scratch memory.
    pub slots: Vec<Slot>,
}

/// Record, (differentiate,) simplify, fuse, share dispatches, plan memory: from a recording to a program.
///
/// # Errors
/// [`GraphError::Compiler`] if a stage breaks its own rules.
pub fn compile(
    recorded: &Nodes,
    limits: &Limits,
    options: &Options,
) -> Result<Compiled, GraphError> {
    recorded.verify("record")?;
    let mut dumps = vec![("0-record.txt".to_string(), dump::nodes(recorded))];
    let recorded = expand(recorded, limits)?;

    let nodes = if options.simplify {
        let simplified = simplify(&recorded);
        simplified.nodes.verify("simplify")?;
        dumps.push(("1-simple.txt".to_string(), dump::simplified(&simplified)));
        simplified.nodes
    } else {
        recorded.into_owned()
    };

    let mut compiled = arrange(&nodes, limits, options, false, &dumps)?;
    if compiled.program.kernels.iter().any(|kernel| kernel.buffers().len() > limits.bindings) {
        // Scratch memory takes more buffers than kernels were to expect.
        compiled = arrange(&nodes, limits, options, true, &dumps)?;
    }
    Ok(compiled)
}

/// Fuse, lower and plan: the part of the path that depends on how scratch memory is bound.
fn arrange(
    nodes: &Nodes,
    limits: &Limits,
    options: &Options,
    spread: bool,
    dumps: &[(String, String)],
) -> Result<Compiled, GraphError> {
    let mut dumps = dumps.to_vec();
    let wanted = nodes
        .outputs
        .iter()
        .map(|v| &nodes.nodes[v.index()].ty)
        .map(|ty| Type::new(&ty.shape, ty.dtype.stored()))
        .collect();
    let fused = fuse(nodes, limits, options.fuse, spread);
    fused.verify()?;
    dumps.push(("2-clusters.txt".to_string(), dump::clusters(&fused)));

    let mut scheduled = schedule(fused)?;
    halve(&mut scheduled, limits);
    let mut kernels = lower(&scheduled, limits, options.splits)?;
    if let Some(bytes) = options.recompute {
        rerun(&mut scheduled, &kernels, bytes);
        kernels = lower(&scheduled, limits, options.splits)?;
    }

    let plan_of = |kernels: &[Lowered]| plan(&scheduled, kernels, limits, options.guard);
    let mut plan = plan_of(&kernels);
    if options.share && options.recompute.is_none() && limits.class.is_gpu() {
        let shared = share(&scheduled, &kernels, limits);
        let other = plan_of(&shared);
        let bytes = |plan: &Plan| plan.buffers.iter().sum::<usize>();
        if bytes(&other) <= bytes(&plan) + (bytes(&plan) / 20).max(LITTLE) {
            (kernels, plan) = (shared, other);
        }
    }
    plan.verify()?;
    let count = kernels.last().map_or(0, |last| last.dispatch + 1);
    dumps.push(("3-plan.txt".to_string(), dump::plan(&plan, count)));

    let mut compiled = address(&scheduled, kernels, &plan, wanted, limits);
    compiled.program.one_dispatch = options.one_dispatch;
    dumps.push(("4-program.txt".to_string(), compiled.program.dump()));
    compiled.dump = dumps;
    Ok(compiled)
}

/// What a scratch buffer holds that is too large for the device, which will refuse it by this name.
fn oversized(schedule: &Schedule, plan: &Plan, buffer: usize, limits: &Limits) -> Option<String> {
    let most = limits.largest_buffer();
    let large = |slot: &Slot| slot.buffer == buffer && slot.bytes > most;
    let held = plan.at.iter().find(|(_, (slot, _))| large(&plan.slots[*slot]));
    held.map(|(memory, (slot, _))| match memory {
        Memory::Value(value) => {
            let node = schedule.fused.node(*value);
            format!("{} {} at {}", node.op.name(), node.ty, node.at)
        }
        _ => plan.slots[*slot].name.clone(),
    })
}

/// Gives every operand its buffer and offset. Variables come first, then scratch buffers.
fn address(
    schedule: &Schedule,
    kernels: Vec<Lowered>,
    plan: &Plan,
    wanted: Vec<Type>,
    limits: &Limits,
) -> Compiled {
    let nodes = &schedule.fused.nodes;
    let variables: Vec<Variable> = nodes.variables.values().cloned().collect();
    let number: BTreeMap<u64, usize> =
        nodes.variables.keys().enumerate().map(|(at, &id)| (id, at)).collect();
    let scratch = variables.len();
    let place = |memory: &Memory| match memory {
        Memory::Variable(id, offset) => {
            (number[id], offset * nodes.variables[id].ty().dtype.bytes())
        }
        Memory::Value(value) if schedule.home.contains_key(value) => {
            (number[&schedule.home[value]], 0)
        }
        other => {
            let (slot, offset) = plan.at[other];
            (scratch + plan.slots[slot].buffer, plan.slots[slot].offset + offset)
        }
    };
    let mut buffers: Vec<BufferSpec> = variables
        .iter()
        .map(|v| BufferSpec {
            name: v.name().to_string(),
            bytes: v.ty().bytes().next_multiple_of(4).max(4),
            external: true,
        })
        .collect();
    buffers.extend(plan.buffers.iter().enumerate().map(|(at, &bytes)| BufferSpec {
        name: oversized(schedule, plan, at, limits).unwrap_or_else(|| format!("scratch {at}")),
        bytes: bytes.next_multiple_of(4).max(4),
        external: false,
    }));
    let outputs = nodes
        .outputs
        .iter()
        .zip(wanted)
        .map(|(&value, ty)| {
            // A reshaped value is the value it was, under the type that was asked for.
            let (buffer, offset) = place(&Memory::Value(value));
            Output { buffer, offset, ty }
        })
        .collect();
    let addressed = |mut lowered: Lowered| {
        for (operand, memory) in lowered.kernel.operands.iter_mut().zip(&lowered.operands) {
            (operand.buffer, operand.offset) = place(memory);
        }
        (lowered.kernel, lowered.dispatch)
    };
    // A kernel of no points does nothing.
    let works = |kernel: &Kernel| {
        kernel.body.stores().iter().any(|(_, len)| *len > 0) || numel(&kernel.body.domain()) > 0
    };
    let kernels = kernels.into_iter().map(addressed).filter(|(kernel, _)| works(kernel));
    let (kernels, dispatches): (Vec<Kernel>, Vec<usize>) = kernels.unzip();
    let joins = |&number: &usize| dispatches[number] == dispatches[number - 1];
    let joined = (1..kernels.len()).filter(joins).collect();
    let mut program = Program { buffers, kernels, joined, one_dispatch: false };
    // Where scratch memory takes more buffers than was expected, they may be more than one kernel can see.
    let apart: Vec<Range<usize>> = program
        .shared()
        .filter(|(_, kernels)| !can_share(kernels, limits))
        .map(|(group, _)| group)
        .collect();
    program.joined.retain(|number| apart.iter().all(|group| !group.contains(number)));
    let report = Report {
        counts: program.counts(limits),
        peak_bytes: plan.buffers.iter().sum(),
        lower_bound: plan.lower_bound,
        variable_bytes: variables.iter().map(|v| v.ty().bytes()).sum(),
        slots: plan.slots.clone(),
    };
    let gaps =
        plan.gaps().into_iter().map(|(b, offset, bytes)| (scratch + b, offset, bytes)).collect();
    Compiled { program, variables, outputs, report, dump: vec![], gaps }
}
