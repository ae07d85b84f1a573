//! Lower: clusters to kernel specifications. Operands still name values and variables; memory is
//! planned next.

use crate::fuse::{Cluster, ClusterId, Core, Fused, Place, layout};
use crate::ops::{Lowering, Movement, Op};
use crate::schedule::{Run, Schedule};
use crate::{GraphError, Value};
use shadegrad_device::{
    Body, Combine, DType, DeviceClass, Expr, Kernel, Limits, Literal, Operand, Reduction, Store,
    Term, TermId, View, WindowRole, numel,
};
use std::collections::HashMap;

/// What an operand is, before it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Memory {
    /// A value in scratch memory, or in the variable that is its home.
    Value(Value),
    /// Elements of a variable.
    Variable(u64, usize),
    /// The partial sums of a split contraction, numbered.
    Partial(usize),
}

/// A kernel whose operands' addresses are open.
#[derive(Clone)]
pub(crate) struct Lowered {
    pub(crate) kernel: Kernel,
    /// The cluster that it computes.
    pub(crate) cluster: ClusterId,
    /// For each operand of the kernel what it is.
    pub(crate) operands: Vec<Memory>,
    /// The number of its dispatch, in order.
    pub(crate) dispatch: usize,
}

/// One kernel for each run of a cluster in order, two for a split contraction.
pub(crate) fn lower(
    schedule: &Schedule,
    limits: &Limits,
    splits: Option<usize>,
) -> Result<Vec<Lowered>, GraphError> {
    let mut kernels = Vec::new();
    let mut partials = 0;
    for run in &schedule.order {
        let cluster = &schedule.fused.clusters[run.cluster];
        if let Core::Contract(contraction) = &cluster.core {
            let parts = splits.unwrap_or_else(|| parts(contraction.matrix(), limits));
            let parts = match limits.class {
                // Tiles of the CPU backend keep every core busy; it takes no split programs.
                DeviceClass::Cpu => 1,
                _ => parts.min(contraction.matrix()[3]).max(1),
            };
            if parts > 1 {
                kernels.extend(split(schedule, run, parts, &mut partials, limits)?);
                continue;
            }
        }
        kernels.push(Lowerer::new(schedule, run, limits).cluster(cluster)?);
    }
    for (number, lowered) in kernels.iter_mut().enumerate() {
        lowered.dispatch = number;
    }
    Ok(kernels)
}

/// How many parts the summed axis of a product is cut into: more than one where it is so long that a dispatch more, which adds the
/// parts, takes less time than the tiles of the result alone, which would leave most of a GPU idle.
fn parts([groups, m, n, k]: [usize; 4], limits: &Limits) -> usize {
    if !limits.class.is_gpu() {
        return 1;
    }
    let (tiles, full) = (groups * m.div_ceil(64) * n.div_ceil(64), limits.class.full_groups());
    if tiles >= full || k < 2048 {
        return 1;
    }
    full.div_ceil(tiles.max(1)).min(k / 512).clamp(1, 64)
}

/// A contraction that stores partial sums, and kernels that add them and do the rest: one for the results, and one for the
/// sums of rows if there are any.
fn split(
    schedule: &Schedule,
    run: &Run,
    parts: usize,
    partials: &mut usize,
    limits: &Limits,
) -> Result<Vec<Lowered>, GraphError> {
    let cluster = &schedule.fused.clusters[run.cluster];
    let mut first = Lowerer::new(schedule, run, limits);
    let body = first.core(cluster)?;
    let Body::Contract { contraction, left, right, .. } = body else {
        return Err(wrong("only contractions are split".into()));
    };
    let mut seconds = Vec::new();
    let mut all_stores = [vec![], vec![]];
    for (number, domain) in [cluster.domain.clone(), contraction.rows()].into_iter().enumerate() {
        let of_rows = number == 1;
        let members = cluster.members.iter().filter(|(_, by_row)| *by_row == of_rows);
        let members: Vec<Value> = members.map(|(member, _)| *member).collect();
        if !members.iter().any(|&m| schedule.stored.contains(&m) && run.stores(m)) {
            continue;
        }
        let (memory, len) = (Memory::Partial(*partials), numel(&domain) * parts);
        *partials += 1;
        let term = first.expr.push(Term::Accumulator(number), DType::F32);
        let operand = first.operand(memory, len, DType::F32);
        all_stores[number].push(Store { operand, term });
        seconds.push(add_parts(schedule, run, &members, (memory, &domain, parts), limits)?);
    }
    let [stores, row_stores] = all_stores;
    let body = Body::Contract { contraction, left, right, splits: parts, row_stores, stores };
    let first = first.finish(body, format!("{} in {parts} parts", label(&schedule.fused, cluster)));
    Ok(std::iter::once(first).chain(seconds).collect())
}

/// The kernel that adds partial sums over a domain, which are the first of some members, and computes the others.
fn add_parts(
    schedule: &Schedule,
    run: &Run,
    members: &[Value],
    (memory, domain, parts): (Memory, &[usize], usize),
    limits: &Limits,
) -> Result<Lowered, GraphError> {
    let mut lowerer = Lowerer::new(schedule, run, limits);
    let rows = Cluster {
        core: Core::Rows {
            rows: domain.to_vec(),
            cols: vec![parts],
            order: (0..=domain.len()).collect(),
        },
        domain: [domain, &[parts]].concat(),
        members: members.iter().map(|&member| (member, true)).collect(),
    };
    let mut order: Vec<usize> = (1..=domain.len()).collect();
    order.push(0);
    let view = View::contiguous(&[&[parts], domain].concat()).permute(&order);
    let operand = lowerer.operand(memory, numel(domain) * parts, DType::F32);
    let term = lowerer.expr.push(Term::Load { operand, view }, DType::F32);
    let sum = lowerer.expr.push(Term::Accumulator(0), DType::F32);
    lowerer.terms.insert(members[0], sum);
    lowerer.reductions.push(Reduction { combine: Combine::Sum, term });
    lowerer.members(&rows)?;
    let (row_stores, stores) = lowerer.stores(&rows);
    let body = Body::Rows {
        rows: domain.to_vec(),
        cols: vec![parts],
        layout: layout(&rows),
        reductions: std::mem::take(&mut lowerer.reductions),
        row_stores,
        stores,
    };
    let label = label(&schedule.fused, &rows);
    Ok(lowerer.finish(body, format!("sum of {parts} parts, {label}")))
}

fn wrong(reason: String) -> GraphError {
    GraphError::Compiler { stage: "lower", reason }
}

/// The operations of a cluster, for people.
fn label(fused: &Fused, cluster: &Cluster) -> String {
    let mut names: Vec<String> = Vec::new();
    for (member, _) in &cluster.members {
        let name = match fused.copied.contains(member) {
            true => "copy".to_string(),
            false => fused.node(*member).op.name(),
        };
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    if names.len() > 8 {
        let rest = names.len() - 7;
        names.truncate(7);
        names.push(format!("{rest} more"));
    }
    names.join(", ")
}

struct Lowerer<'a> {
    schedule: &'a Schedule,
    fused: &'a Fused,
    limits: &'a Limits,
    run: &'a Run,
    expr: Expr,
    operands: Vec<(Memory, usize, DType)>,
    /// The terms of members.
    terms: HashMap<Value, TermId>,
    /// The terms of virtual values, as moved.
    moved_terms: HashMap<(Value, Vec<Movement>), TermId>,
    reductions: Vec<Reduction>,
}

impl<'a> Lowerer<'a> {
    fn new(schedule: &'a Schedule, run: &'a Run, limits: &'a Limits) -> Lowerer<'a> {
        Lowerer {
            schedule,
            fused: &schedule.fused,
            limits,
            run,
            expr: Expr::default(),
            operands: vec![],
            terms: HashMap::new(),
            moved_terms: HashMap::new(),
            reductions: vec![],
        }
    }

    fn cluster(mut self, cluster: &Cluster) -> Result<Lowered, GraphError> {
        let body = self.core(cluster)?;
        self.members(cluster)?;
        let (row_stores, stores) = self.stores(cluster);
        let body = match body {
            Body::Map { shape, .. } => Body::Map { shape, stores },
            Body::Rows { rows, cols, layout, .. } => {
                let reductions = std::mem::take(&mut self.reductions);
                Body::Rows { rows, cols, layout, reductions, row_stores, stores }
            }
            Body::Contract { contraction, left, right, splits, .. } => {
                Body::Contract { contraction, left, right, splits, row_stores, stores }
            }
            Body::Window { window, role, source, index, .. } => {
                Body::Window { window, role, source, index, stores }
            }
            Body::Scatter { shape, axis, len, index, source, .. } => {
                Body::Scatter { shape, axis, len, index, source, stores }
            }
            Body::Scan { recurrence, source, coefficients, .. } => {
                Body::Scan { recurrence, source, coefficients, stores }
            }
            Body::Merge { merge, key, place, .. } => Body::Merge { merge, key, place, stores },
            Body::Recurrent { sequence, role, sources, .. } => {
                let stepwise = sequence.stepwise(self.limits);
                Body::Recurrent { sequence, role, sources, stepwise, stores }
            }
            Body::Attention { attention, role, sources, bias, .. } => {
                Body::Attention { attention, role, sources, bias, stores }
            }
        };
        let label = label(self.fused, cluster);
        Ok(self.finish(body, label))
    }

    fn finish(self, body: Body, mut label: String) -> Lowered {
        if self.run.again.is_some() {
            label += ", again";
        }
        let operands = self
            .operands
            .iter()
            .map(|&(_, len, dtype)| Operand { buffer: 0, offset: 0, len, dtype })
            .collect();
        let kernel = Kernel { label, operands, expr: self.expr, body };
        let operands = self.operands.into_iter().map(|(memory, ..)| memory).collect();
        // Numbered when all are there.
        Lowered { kernel, cluster: self.run.cluster, operands, dispatch: 0 }
    }

    fn operand(&mut self, memory: Memory, len: usize, dtype: DType) -> usize {
        let operand = (memory, len, dtype);
        self.operands.iter().position(|o| *o == operand).unwrap_or_else(|| {
            self.operands.push(operand);
            self.operands.len() - 1
        })
    }

    /// The body without stores: emits what the core reads.
    fn core(&mut self, cluster: &Cluster) -> Result<Body, GraphError> {
        let stores = vec![];
        let first = cluster.members[0].0;
        let inputs = self.fused.node(first).inputs.clone();
        let chain = self.fused.operand_chain(first, cluster, false);
        Ok(match &cluster.core {
            Core::Map | Core::Half => Body::Map { shape: cluster.domain.clone(), stores },
            Core::Rows { rows, cols, .. } => Body::Rows {
                rows: rows.clone(),
                cols: cols.clone(),
                layout: layout(cluster),
                reductions: vec![],
                row_stores: vec![],
                stores,
            },
            Core::Contract(contraction) => {
                let left = self.emit(inputs[0], &chain)?;
                let right = self.emit(inputs[1], &chain)?;
                let contraction = contraction.clone();
                Body::Contract { contraction, left, right, splits: 1, row_stores: vec![], stores }
            }
            Core::Window(window, role) => {
                let source = self.emit(inputs[0], &chain)?;
                let index = match role {
                    WindowRole::MaxGradient => Some(self.emit(inputs[1], &chain)?),
                    _ => None,
                };
                Body::Window { window: *window, role: *role, source, index, stores }
            }
            Core::Scatter(shape, axis, len) => {
                let source = self.emit(inputs[0], &chain)?;
                let index = self.emit(inputs[1], &chain)?;
                Body::Scatter {
                    shape: shape.clone(),
                    axis: *axis,
                    len: *len,
                    index,
                    source,
                    stores,
                }
            }
            Core::Scan(recurrence) => {
                let recurrence = recurrence.clone();
                let source = self.emit(inputs[0], &chain)?;
                let coefficients = inputs[1..]
                    .iter()
                    .map(|&input| self.emit(input, &chain))
                    .collect::<Result<Vec<_>, _>>()?;
                Body::Scan { recurrence, source, coefficients, stores }
            }
            Core::Merge(merge) => {
                let key = self.emit(inputs[0], &chain)?;
                let place = self.emit(inputs[1], &chain)?;
                Body::Merge { merge: *merge, key, place, stores }
            }
            Core::Recurrent(sequence, role) => {
                let sources = inputs
                    .iter()
                    .map(|&input| self.emit(input, &chain))
                    .collect::<Result<Vec<_>, _>>()?;
                let (sequence, role) = (*sequence, *role);
                Body::Recurrent { sequence, role, sources, stepwise: false, stores }
            }
            Core::Attention(attention, role) => {
                let mut sources = inputs
                    .iter()
                    .map(|&input| self.emit(input, &chain))
                    .collect::<Result<Vec<_>, _>>()?;
                let (attention, role) = (attention.clone(), *role);
                let bias = sources.split_off(attention.sources(role).len()).pop();
                Body::Attention { attention, role, sources, bias, stores }
            }
        })
    }

    /// Emits every member that has no term yet.
    fn members(&mut self, cluster: &Cluster) -> Result<(), GraphError> {
        for &(member, by_row) in &cluster.members {
            if self.terms.contains_key(&member) {
                continue;
            }
            let inputs = self.fused.node(member).inputs.clone();
            let chain = self.fused.operand_chain(member, cluster, by_row);
            let term = match self.fused.lowering(member) {
                // The core sums its rows itself.
                Lowering::Reduce(..) if matches!(cluster.core, Core::Contract(_)) => {
                    self.expr.push(Term::Accumulator(1), DType::F32)
                }
                Lowering::Reduce(combine, _) => {
                    let term = self.emit(inputs[0], &chain)?;
                    let dtype = self.expr.types[term];
                    self.reductions.push(Reduction { combine, term });
                    self.expr.push(Term::Accumulator(self.reductions.len() - 1), dtype)
                }
                Lowering::Contract(_)
                | Lowering::Scatter(..)
                | Lowering::Scan(_)
                | Lowering::Attention(..)
                | Lowering::Recurrent(..)
                | Lowering::Window(_, _, false) => self.expr.push(Term::Accumulator(0), DType::F32),
                Lowering::Merge(_) => self.expr.push(Term::Accumulator(0), DType::U32),
                Lowering::Window(_, _, true) => self.expr.push(Term::Accumulator(1), DType::U32),
                Lowering::Half => self.pack_halves(inputs[0], &chain)?,
                // A copy: its movement is part of the chain.
                Lowering::View(_) => self.emit(inputs[0], &chain)?,
                _ => self.compute(member, &chain)?,
            };
            self.terms.insert(member, term);
        }
        Ok(())
    }

    /// The words of a value in half precision: of the flat value every second element from the first and
    /// from the second on.
    fn pack_halves(&mut self, input: Value, chain: &[Movement]) -> Result<TermId, GraphError> {
        let count = self.fused.node(input).ty.numel();
        let (first, second) = (count.div_ceil(2), count / 2);
        let low = [chain, &[Movement::Slice(0, 0, 2, first)]].concat();
        let high =
            [chain, &[Movement::Slice(0, 1, 2, second), Movement::Pad(0, 0, first - second)]]
                .concat();
        let low = self.emit(input, &low)?;
        let high = self.emit(input, &high)?;
        Ok(self.expr.apply(shadegrad_device::Intrinsic::PackHalves, &[low, high]))
    }

    /// The stores of rows and of elements, apart.
    fn stores(&mut self, cluster: &Cluster) -> (Vec<Store>, Vec<Store>) {
        let (mut row_stores, mut stores) = (vec![], vec![]);
        for &(member, by_row) in &cluster.members {
            if self.schedule.stored.contains(&member) && self.run.stores(member) {
                let ty = &self.fused.node(member).ty;
                // Values that are halves themselves are stored as the words that they are packed in.
                let (len, dtype) = match ty.dtype {
                    DType::F32 if self.schedule.halved.contains(&member) => {
                        (ty.numel(), DType::F16)
                    }
                    DType::F16 => (ty.numel().div_ceil(2), DType::U32),
                    dtype => (ty.numel(), dtype),
                };
                let operand = self.operand(Memory::Value(member), len, dtype);
                let store = Store { operand, term: self.terms[&member] };
                if by_row { row_stores.push(store) } else { stores.push(store) }
            }
        }
        (row_stores, stores)
    }

    fn moved(&self, shape: &[usize], chain: &[Movement]) -> Result<View, GraphError> {
        let view = self.fused.moved(&View::contiguous(shape), chain);
        view.ok_or_else(|| wrong(format!("no view of {shape:?} moved by {chain:?}")))
    }

    /// The term of an operand at the kernel's points, moved by a chain.
    fn emit(&mut self, operand: Value, chain: &[Movement]) -> Result<TermId, GraphError> {
        let node = self.fused.node(operand);
        let (shape, dtype) = (&node.ty.shape, node.ty.dtype);
        match self.fused.place(operand) {
            Place::In(cluster) if cluster == self.run.cluster => {
                self.terms.get(&operand).copied().ok_or_else(|| {
                    wrong(format!("value {} is used before it is computed", operand.0))
                })
            }
            Place::In(_) | Place::Packed => {
                let view = self.moved(shape, chain)?;
                let halved = self.schedule.halved.contains(&operand);
                let dtype = if halved { DType::F16 } else { dtype };
                let operand = self.operand(Memory::Value(operand), node.ty.numel(), dtype);
                Ok(self.expr.push(Term::Load { operand, view }, dtype))
            }
            Place::Virtual => match &node.op {
                Op::Leaf(leaf) => {
                    let view = self.moved(shape, chain)?;
                    let memory = Memory::Variable(leaf.variable, leaf.offset);
                    let operand = self.operand(memory, node.ty.numel(), dtype);
                    Ok(self.expr.push(Term::Load { operand, view }, dtype))
                }
                Op::Full(full) => Ok(self.expr.literal(full.literal)),
                Op::Iota(_) => {
                    let view = self.moved(shape, chain)?;
                    Ok(self.expr.push(Term::Index { view }, DType::U32))
                }
                _ => {
                    let key = (operand, chain.to_vec());
                    if let Some(&term) = self.moved_terms.get(&key) {
                        return Ok(term);
                    }
                    let term = match self.fused.movement(operand) {
                        Some(movement) => self.emit_moved(node.inputs[0], movement, chain),
                        None => self.compute(operand, chain),
                    }?;
                    self.moved_terms.insert(key, term);
                    Ok(term)
                }
            },
        }
    }

    fn emit_moved(
        &mut self,
        input: Value,
        movement: Movement,
        chain: &[Movement],
    ) -> Result<TermId, GraphError> {
        let pads = matches!(movement, Movement::Pad(..));
        let chain = [&[movement], chain].concat();
        let term = self.emit(input, &chain)?;
        let reads_zero = self.expr.terms[term].view().is_some();
        if !pads || reads_zero {
            return Ok(term);
        }
        // What is computed at a point outside must become zero too.
        let view = self.moved(&self.fused.node(input).ty.shape.clone(), &chain)?;
        let within = self.expr.push(Term::Within { view }, DType::Bool);
        let zero = self.expr.literal(Literal::of(self.expr.types[term], 0.0));
        Ok(self.expr.apply(shadegrad_device::Intrinsic::Select, &[within, term, zero]))
    }

    /// The term of a scalar operation or gather.
    fn compute(&mut self, value: Value, chain: &[Movement]) -> Result<TermId, GraphError> {
        let inputs = self.fused.node(value).inputs.clone();
        match self.fused.lowering(value) {
            Lowering::Pointwise(scalar) => {
                let args =
                    inputs.iter().map(|&v| self.emit(v, chain)).collect::<Result<Vec<_>, _>>()?;
                Ok(scalar.build(&mut self.expr, &args))
            }
            Lowering::Gather(axis) => self.gather(value, axis, chain),
            other => Err(wrong(format!("{other:?} is not computed point by point"))),
        }
    }

    fn gather(
        &mut self,
        value: Value,
        axis: usize,
        chain: &[Movement],
    ) -> Result<TermId, GraphError> {
        let node = self.fused.node(value);
        let index = self.emit(node.inputs[1], chain)?;
        let source = self.emit(node.inputs[0], &[])?;
        let Term::Load { operand, view } = self.expr.terms[source].clone() else {
            return Err(wrong("a gather's source is not in memory".to_string()));
        };
        let (stride, len) = (view.strides[axis], view.shape[axis]);
        let start = self.fused.gather_start(value, axis);
        let view = start.and_then(|start| self.fused.moved(&start, chain));
        let view = view.ok_or_else(|| wrong(format!("no view of a gather moved by {chain:?}")))?;
        let stride = usize::try_from(stride)
            .map_err(|_| wrong("a gather along an axis that runs backwards".to_string()))?;
        let dtype = node.ty.dtype;
        Ok(self.expr.push(Term::Gather { operand, view, index, stride, len }, dtype))
    }
}
