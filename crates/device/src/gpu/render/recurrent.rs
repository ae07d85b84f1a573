//! Recurrent cells over sequences.

use super::super::term::Point;
use super::{Renderer, Source, accumulated};
use crate::{Cell, Sequence, SequenceRole, Store, TermId};
use shadegrad_shaders as shaders;

impl Renderer<'_> {
    pub(super) fn recurrent(
        &self,
        sequence: &Sequence,
        role: SequenceRole,
        sources: &[TermId],
        stores: &[Store],
    ) -> Source {
        let (needs, has) = (sequence.workgroup_bytes(role), self.limits.workgroup_bytes);
        let Sequence { cell, time, batch, hidden, .. } = *sequence;
        if needs > has {
            return Err(format!(
                "{hidden} units need {needs} bytes of workgroup memory, and there are {has}"
            ));
        }
        let size = hidden.clamp(1, 256).min(self.limits.invocations);
        let (grid, line) = self.grid(batch);
        let order = match sequence.reverse {
            false => "step".to_string(),
            true => format!("{}u - step", time.saturating_sub(1)),
        };
        let mut holes = self.frame();
        holes.extend([
            ("sources", self.recurrent_sources(sequence, role, sources)),
            ("keep", self.keep_step(sequence, role, stores)),
            ("size", size.to_string()),
            ("line", line.to_string()),
            ("batch", batch.to_string()),
            ("hidden", hidden.to_string()),
            ("time", time.to_string()),
            ("order", order),
        ]);
        match role {
            SequenceRole::Forward => {
                let masked = sequence.masked;
                let mask = if masked { "let held = !counts(t, b);" } else { "let held = false;" };
                let zero = lines(cell.gates(), |g| format!("var w{g} = 0.0;"));
                let multiply = lines(cell.gates(), |g| format!("w{g} += weight({g}u, u, k) * h;"));
                let begin = match cell {
                    Cell::Lstm => format!(
                        "states[0][u] = state0(b, u); states[0][{hidden}u + u] = state1(b, u);"
                    ),
                    _ => "states[0][u] = state0(b, u);".to_string(),
                };
                holes.extend([
                    ("words", (cell.states() * hidden).to_string()),
                    ("begin", begin),
                    ("mask", mask.to_string()),
                    ("zero", zero),
                    ("multiply", multiply),
                    ("cell", forward_cell(cell, hidden)),
                ]);
                Ok((shaders::fill(shaders::RECURRENT, &holes)?, grid))
            }
            SequenceRole::Gradient => {
                let mask = match sequence.masked {
                    true => "let share = select(0.0, 1.0, counts(t, b));",
                    false => "let share = 1.0;",
                };
                let multiply = lines(cell.gates(), |g| {
                    format!("sum += weight({g}u, k, u) * slopes[{}u + k];", g * hidden)
                });
                let (more, begin) = match cell {
                    Cell::Lstm => {
                        (format!("var<workgroup> by_c: array<f32, {hidden}>;"), "by_c[u] = 0.0;")
                    }
                    _ => (String::new(), ""),
                };
                // The state before a step: of the step before it, or what the sequence began with.
                let before = match sequence.reverse {
                    false => "t - 1u",
                    true => "t + 1u",
                };
                holes.extend([
                    ("gates_hidden", (cell.gates() * hidden).to_string()),
                    ("more", more),
                    ("begin", begin.to_string()),
                    ("mask", mask.to_string()),
                    ("multiply", multiply),
                    ("cell", gradient_cell(cell, hidden, before)),
                    ("by_state", (cell.slopes() - cell.states()).to_string()),
                ]);
                Ok((shaders::fill(shaders::RECURRENT_GRADIENT, &holes)?, grid))
            }
        }
    }

    /// A function for each source.
    fn recurrent_sources(
        &self,
        sequence: &Sequence,
        role: SequenceRole,
        sources: &[TermId],
    ) -> String {
        let mut heads = match role {
            SequenceRole::Forward => vec![("gate", "t b g u"), ("weight", "g u k")],
            SequenceRole::Gradient => {
                vec![("upstream", "t b g u"), ("kept", "t b g u"), ("weight", "g u k")]
            }
        };
        heads.push(("state0", "b u"));
        if sequence.cell == Cell::Lstm {
            heads.push(("state1", "b u"));
        }
        if role == SequenceRole::Forward && sequence.cell == Cell::Gru {
            heads.push(("bias", "u"));
        }
        if sequence.masked {
            heads.push(("counts", "t b"));
        }
        let shapes = sequence.sources(role);
        let mut text = String::new();
        for (((name, arguments), &term), shape) in heads.iter().zip(sources).zip(&shapes) {
            let names: Vec<String> = arguments.split(' ').map(str::to_string).collect();
            let mut flat = names[0].clone();
            for (name, n) in names.iter().zip(shape).skip(1) {
                flat = format!("({flat} * {n}u + {name})");
            }
            let typed: Vec<String> = names.iter().map(|name| format!("{name}: u32")).collect();
            let point = Point { coordinates: names, flat: Some(flat) };
            text += &self.function(&format!("{name}({})", typed.join(", ")), "", &point, term);
        }
        text
    }

    /// The function that stores one number of a step.
    fn keep_step(&self, sequence: &Sequence, role: SequenceRole, stores: &[Store]) -> String {
        let [_, batch, channels, hidden] =
            <[usize; 4]>::try_from(sequence.result(role)).unwrap_or([0; 4]);
        let mut text =
            format!("    let at = ((t * {batch}u + b) * {channels}u + channel) * {hidden}u + u;\n");
        text += &self.accumulators(&self.kernel.expr, &["value"]);
        let done = accumulated(&self.kernel.expr);
        let coordinates = ["t", "b", "channel", "u"].map(str::to_string).to_vec();
        let point = Point { coordinates, flat: Some("at".into()) };
        text += &self.stores(&self.kernel.expr, stores, &done, &point, "at", "    ");
        format!("fn keep(t: u32, b: u32, channel: u32, u: u32, value: f32) {{\n{text}}}\n")
    }
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().join("\n                ")
}

/// One unit of a step: from `w0`, `w1`, .. to the new states, and what is kept.
fn forward_cell(cell: Cell, hidden: usize) -> String {
    const SIGMOID: &str = "1.0 / (1.0 + exponential(-(";
    let gate = |g: usize| format!("{SIGMOID}gate(t, b, {g}u, u) + w{g})))");
    let state = "let before = states[old][u];\n            let after = select(next, before, held);\n            states[next_states][u] = after;\n            keep(t, b, 0u, u, after);";
    match cell {
        Cell::RnnTanh => {
            format!("let next = hyperbolic_tangent(gate(t, b, 0u, u) + w0);\n            {state}")
        }
        Cell::RnnRelu => format!("let next = max_nan(gate(t, b, 0u, u) + w0, 0.0);\n            {state}"),
        Cell::Lstm => format!(
            "let i = {};\n            let f = {};\n            let g = hyperbolic_tangent(gate(t, b, 2u, u) + w2);\n            let o = {};
            let c = states[old][{hidden}u + u];
            let c_next = f * c + i * g;
            let c_after = select(c_next, c, held);
            states[next_states][{hidden}u + u] = c_after;
            let next = o * hyperbolic_tangent(c_next);
            {state}
            keep(t, b, 1u, u, c_after); keep(t, b, 2u, u, i); keep(t, b, 3u, u, f);
            keep(t, b, 4u, u, g); keep(t, b, 5u, u, o);",
            gate(0),
            gate(1),
            gate(3)
        ),
        Cell::Gru => format!(
            "let r = {};\n            let z = {};\n            let inner = w2 + bias(u);
            let n = hyperbolic_tangent(gate(t, b, 2u, u) + r * inner);
            let next = (1.0 - z) * n + z * states[old][u];
            {state}
            keep(t, b, 1u, u, r); keep(t, b, 2u, u, z); keep(t, b, 3u, u, n);
            keep(t, b, 4u, u, inner);",
            gate(0),
            gate(1)
        ),
    }
}

/// One unit of a step backwards: from `dh` to the slopes by the gates, and what goes past the recurrent weight.
fn gradient_cell(cell: Cell, hidden: usize, before: &str) -> String {
    // Only one of the two exists at the sequence's first step, so the other isn't read.
    let state = |number: usize| {
        format!(
            "var past{number} = 0.0;\n            if (step == 0u) {{ past{number} = state{number}(b, u); }} else {{ past{number} = kept({before}, b, {number}u, u); }}"
        )
    };
    let slope = |channel: usize, slot: usize, value: &str| {
        format!(
            "let d{channel} = {value};\n            slopes[{}u + u] = d{channel};\n            keep(t, b, {channel}u, u, d{channel});\n            ",
            slot * hidden
        )
    };
    match cell {
        Cell::RnnTanh => {
            String::from("let y = kept(t, b, 0u, u);\n            ")
                + &slope(0, 0, "dh * (1.0 - y * y)")
        }
        Cell::RnnRelu => slope(0, 0, "select(0.0, dh, kept(t, b, 0u, u) > 0.0)"),
        Cell::Lstm => {
            format!(
                "{}
            let i = kept(t, b, 2u, u); let f = kept(t, b, 3u, u);
            let g = kept(t, b, 4u, u); let o = kept(t, b, 5u, u);
            let bent = hyperbolic_tangent(f * past1 + i * g);
            let slope_c = by_c[u] + upstream(t, b, 1u, u);
            let dc = slope_c * share + dh * o * (1.0 - bent * bent);
            let c_after = dc * f + slope_c * (1.0 - share);
            by_c[u] = c_after;
            keep(t, b, 5u, u, c_after);
            ",
                state(1)
            ) + &slope(0, 0, "(dc * g + upstream(t, b, 2u, u)) * i * (1.0 - i)")
                + &slope(1, 1, "(dc * past1 + upstream(t, b, 3u, u)) * f * (1.0 - f)")
                + &slope(2, 2, "(dc * i + upstream(t, b, 4u, u)) * (1.0 - g * g)")
                + &slope(3, 3, "(dh * bent + upstream(t, b, 5u, u)) * o * (1.0 - o)")
        }
        Cell::Gru => {
            format!(
                "{}
            let r = kept(t, b, 1u, u); let z = kept(t, b, 2u, u);
            let n = kept(t, b, 3u, u); let inner = kept(t, b, 4u, u);
            let dn = (dh * (1.0 - z) + upstream(t, b, 3u, u)) * (1.0 - n * n);
            keep(t, b, 2u, u, dn);
            direct += dh * z;
            ",
                state(0)
            ) + &slope(0, 0, "(dn * inner + upstream(t, b, 1u, u)) * r * (1.0 - r)")
                + &slope(1, 1, "(dh * (past0 - n) + upstream(t, b, 2u, u)) * z * (1.0 - z)")
                + &slope(3, 2, "dn * r + upstream(t, b, 4u, u)")
        }
    }
}
