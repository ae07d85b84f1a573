//! Before clusters form: copies where a later stage needs a value in memory of its own, and what
//! lies behind a chain of movement.

use crate::ops::{Lowering, Movement, Op, Reshape, ToHalf};
use crate::{Node, Nodes, Type, Value};
use shadegrad_device::{DType, View};
use std::collections::{BTreeSet, HashSet};

/// Inserts copies where a later stage needs a value in memory of its own: outputs, assigned values
/// and packed values that are variables, views or generated, or that are wanted in two places.
pub(super) fn prepare(nodes: &Nodes) -> (Nodes, BTreeSet<Value>) {
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
            // A view that can't be expressed on top of what lies before it needs memory.
            Lowering::View(movement) if !moves(&out, &copied, node.inputs[0], movement) => {
                node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
            }
            Lowering::Gather(axis) => {
                // Only a plain view can be indexed, and only forwards.
                let plain = resolve(&out, &copied, node.inputs[0]).is_some_and(|(base, view)| {
                    let stored = match lowering_of(&out, &out.nodes[base.index()]) {
                        Lowering::Leaf => matches!(out.nodes[base.index()].op, Op::Leaf(_)),
                        Lowering::Pointwise(_) => false,
                        _ => true,
                    };
                    stored && !view.is_masked() && view.strides[*axis] >= 0
                });
                if !plain {
                    node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
                }
            }
            Lowering::Half => {
                let flat = Movement::Reshape(vec![node.ty.numel()]);
                if !moves(&out, &copied, node.inputs[0], &flat) {
                    node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
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
    let Node { ty, at, half, .. } = out.nodes[value.index()].clone();
    let packed = ty.dtype == DType::F16;
    let flat = Movement::Reshape(vec![ty.numel()]);
    let mut from = value;
    if !packed || !moves(out, copied, value, &flat) {
        // Halves are packed in order, which not every view can be read in: they wait as words.
        let dtype = if packed { DType::F32 } else { ty.dtype.stored() };
        let (op, ty) = (Reshape(ty.shape.clone()).into(), Type::new(&ty.shape, dtype));
        from = push(out, Node { op, inputs: vec![value], ty, at, half });
        copied.insert(from);
    }
    match packed {
        // Rounded once more to what it is already.
        true => push(out, Node { op: ToHalf.into(), inputs: vec![from], ty, at, half }),
        false => from,
    }
}

/// Whether a value can be read through one more movement, wherever it is computed: views are joined
/// down to memory, through what is generated in place.
fn moves(nodes: &Nodes, copied: &BTreeSet<Value>, value: Value, movement: &Movement) -> bool {
    let mut open = vec![(value, vec![movement.clone()])];
    let mut seen: HashSet<(Value, Vec<Movement>)> = open.iter().cloned().collect();
    while let Some((value, chain)) = open.pop() {
        let node = &nodes.nodes[value.index()];
        let next = match lowering_of(nodes, node) {
            Lowering::View(movement) if !copied.contains(&value) => {
                vec![(node.inputs[0], [&[movement], chain.as_slice()].concat())]
            }
            Lowering::Pointwise(_) if is_generated(nodes, value) => {
                node.inputs.iter().map(|&v| (v, chain.clone())).collect()
            }
            _ => {
                let whole = View::contiguous(&node.ty.shape);
                if chain.iter().try_fold(whole, |view, movement| movement.apply(&view)).is_none() {
                    return false;
                }
                vec![]
            }
        };
        open.extend(next.into_iter().filter(|step| seen.insert(step.clone())));
    }
    true
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
                    | Lowering::Scan(_)
                    | Lowering::Merge(_)
                    | Lowering::Attention(..)
                    | Lowering::Recurrent(..)
                    | Lowering::Half
                    | Lowering::Gather(_)
            )
            || matches!(out.nodes[base.index()].op, Op::Pointwise(_)) && !is_generated(out, *base);
        // A part of it would bring the rest along.
        let whole = || out.nodes[base.index()].ty.numel() == out.nodes[value.index()].ty.numel();
        let alone = !exclusive || !owned.contains(base) && whole();
        computed && view.is_contiguous() && alone
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

pub(super) fn lowering_of(nodes: &Nodes, node: &Node) -> Lowering {
    let types: Vec<&Type> = node.inputs.iter().map(|v| &nodes.nodes[v.index()].ty).collect();
    node.op.lower(&types)
}

/// The value that isn't movement behind a value, and the view of it; `None` if no view does.
pub(super) fn resolve(
    nodes: &Nodes,
    copied: &BTreeSet<Value>,
    value: Value,
) -> Option<(Value, View)> {
    let node = &nodes.nodes[value.index()];
    match lowering_of(nodes, node) {
        Lowering::View(movement) if !copied.contains(&value) => {
            let (base, view) = resolve(nodes, copied, node.inputs[0])?;
            Some((base, movement.apply(&view)?))
        }
        _ => Some((value, View::contiguous(&node.ty.shape))),
    }
}
