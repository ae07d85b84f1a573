//! Every stage as deterministic text: the same recording gives the same bytes.

use crate::fuse::{Core, Fused};
use crate::plan::Plan;
use crate::{Nodes, Simplified};
use std::fmt::Write;

pub(crate) fn nodes(nodes: &Nodes) -> String {
    let mut text = String::new();
    for (number, node) in nodes.nodes.iter().enumerate() {
        let inputs: Vec<String> = node.inputs.iter().map(|v| format!("%{}", v.0)).collect();
        let what = match &node.op {
            crate::ops::Op::Leaf(leaf) => {
                let name = nodes.variables.get(&leaf.variable).map_or("?", |v| v.name());
                format!("{name} from {}", leaf.offset)
            }
            op => format!("{op:?}"),
        };
        let half = if node.half { " may wait as halves" } else { "" };
        let _ = writeln!(text, "%{number}: {} = {what} {}{half}", node.ty, inputs.join(" "));
    }
    for (variable, value) in &nodes.assigns {
        let name = nodes.variables.get(variable).map_or("?", |v| v.name());
        let _ = writeln!(text, "{name} := %{}", value.0);
    }
    for output in &nodes.outputs {
        let _ = writeln!(text, "read %{}", output.0);
    }
    text
}

pub(crate) fn simplified(simplified: &Simplified) -> String {
    let mut text = String::new();
    for (rule, count) in &simplified.fired {
        let _ = writeln!(text, "{count} x {rule}");
    }
    text + &nodes(&simplified.nodes)
}

pub(crate) fn clusters(fused: &Fused) -> String {
    let mut text = nodes(&fused.nodes);
    for (number, cluster) in
        fused.clusters.iter().enumerate().filter(|(_, c)| !c.members.is_empty())
    {
        let core = match &cluster.core {
            Core::Map => "map".to_string(),
            Core::Rows { rows, cols, .. } => format!("rows {rows:?} of {cols:?}"),
            Core::Contract(contraction) => format!("{contraction:?}"),
            Core::Window(window, role) => format!("{role:?} {window:?}"),
            Core::Scatter(shape, axis, len) => {
                format!("scatter {shape:?} into {len} along axis {axis}")
            }
            Core::Scan(recurrence) => format!("{recurrence:?}"),
            Core::Merge(merge) => format!("{merge:?}"),
            Core::Attention(attention, role) => format!("{role:?} {attention:?}"),
            Core::Recurrent(sequence, role) => format!("{role:?} {sequence:?}"),
            Core::Half => "halves".to_string(),
        };
        let _ = writeln!(text, "cluster {number}: {core} over {:?}", cluster.domain);
        for (member, by_row) in &cluster.members {
            let level =
                if *by_row && matches!(cluster.core, Core::Rows { .. }) { ", by row" } else { "" };
            let _ = writeln!(text, "  %{} {}{level}", member.0, fused.node(*member).op.name());
        }
    }
    text
}

pub(crate) fn plan(plan: &Plan, kernels: usize) -> String {
    let peak: usize = plan.buffers.iter().sum();
    let mut text = format!("peak {peak} bytes, at least {} needed\n", plan.lower_bound);
    for slot in &plan.slots {
        let life: String = (0..kernels)
            .map(|at| {
                let alive = slot.lives.iter().any(|(first, last)| (first..=last).contains(&&at));
                if alive { '#' } else { '.' }
            })
            .collect();
        let _ = writeln!(
            text,
            "{life} {} in buffer {} at {}: {} bytes",
            slot.name, slot.buffer, slot.offset, slot.bytes
        );
    }
    text
}
