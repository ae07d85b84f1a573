//! Recurrent cells over sequences: in one dispatch, or in one for each step.

use super::super::term::Point;
use super::{Renderer, Source, accumulated};
use crate::{Cell, Sequence, SequenceRole, Store, Term, TermId};
use shadegrad_shaders as shaders;

/// Between the statements that fill a hole.
const BREAK: &str = "\n            ";

impl Renderer<'_> {
    pub(super) fn recurrent(
        &self,
        sequence: &Sequence,
        role: SequenceRole,
        sources: &[TermId],
        stepwise: bool,
        stores: &[Store],
    ) -> Source {
        let (needs, has) = (sequence.workgroup_bytes(role), self.limits.workgroup_bytes);
        let Sequence { cell, time, batch, hidden, .. } = *sequence;
        if !stepwise && needs > has {
            return Err(format!(
                "{hidden} units need {needs} bytes of workgroup memory, and there are {has}"
            ));
        }
        let order = match sequence.reverse {
            false => "step".to_string(),
            true => format!("{}u - step", time.saturating_sub(1)),
        };
        let mut holes = self.frame();
        holes.extend([
            ("sources", self.recurrent_sources(sequence, role, sources)),
            ("keep", self.keep_step(sequence, role, stores)),
            ("hidden", hidden.to_string()),
            ("order", order),
            ("mask", mask(sequence, role)),
            ("multiply", self.multiply(sequence, role, stepwise)),
            ("cell", cell_of(cell, role)),
        ]);
        if role == SequenceRole::Gradient || stepwise {
            holes.push(("past", past(sequence, role)));
        }
        if role == SequenceRole::Gradient {
            holes.push(("time", time.to_string()));
            holes.push(("by_state", (cell.slopes() - cell.states()).to_string()));
        }
        if stepwise {
            return self.recurrent_step(sequence, role, stores, holes);
        }
        let size = hidden.clamp(1, 256).min(self.limits.invocations);
        let (grid, line) = self.grid(batch);
        holes.extend([
            ("size", size.to_string()),
            ("line", line.to_string()),
            ("batch", batch.to_string()),
        ]);
        let (c, template) = (cell == Cell::Lstm, role);
        let only = |there: bool, text: String| if there { text } else { String::new() };
        match template {
            SequenceRole::Forward => {
                let state = |number: usize| format!("[{}u + u]", number * hidden);
                holes.extend([
                    ("time", time.to_string()),
                    ("words", (cell.states() * hidden).to_string()),
                    (
                        "begin",
                        lines(cell.states(), |n| {
                            format!("states[0]{} = state{n}(b, u);", state(n))
                        }),
                    ),
                    ("zero", zeros(cell)),
                    (
                        "before",
                        lines(cell.states(), |n| {
                            format!("let before{n} = states[old]{};", state(n))
                        }),
                    ),
                    (
                        "after",
                        lines(cell.states(), |n| {
                            format!("states[1u - old]{} = after{n};", state(n))
                        }),
                    ),
                ]);
                Ok((shaders::fill(shaders::RECURRENT, &holes)?, grid))
            }
            SequenceRole::Gradient => {
                let channels = through(cell);
                let slots = lines(channels.len(), |slot| {
                    format!("slopes[{}u + u] = d{};", slot * hidden, channels[slot])
                });
                let keep_c = only(c, format!("{BREAK}by_c[u] = after1;"));
                holes.extend([
                    ("gates_hidden", (cell.gates() * hidden).to_string()),
                    ("by_c", only(c, format!("var<workgroup> by_c: array<f32, {hidden}>;"))),
                    ("begin", only(c, "by_c[u] = 0.0;".into())),
                    ("behind", only(c, "let behind1 = by_c[u];".into())),
                    ("after", slots + &keep_c),
                ]);
                Ok((shaders::fill(shaders::RECURRENT_GRADIENT, &holes)?, grid))
            }
        }
    }

    /// The rest of the holes where each step is a dispatch.
    fn recurrent_step(
        &self,
        sequence: &Sequence,
        role: SequenceRole,
        stores: &[Store],
        mut holes: Vec<(&'static str, String)>,
    ) -> Source {
        let Sequence { cell, batch, hidden, .. } = *sequence;
        let points = batch * hidden;
        let (grid, line) = self.grid(points.div_ceil(self.size()));
        holes.extend([
            ("found", self.found(sequence, role, stores)?),
            ("size", self.size().to_string()),
            ("line", (line * self.size()).to_string()),
            ("points", points.to_string()),
        ]);
        let template = match role {
            SequenceRole::Forward => {
                let before = |n| format!("let before{n} = past(step, b, {n}u, u);");
                holes.push(("zero", zeros(cell)));
                holes.push(("before", lines(cell.states(), before)));
                shaders::RECURRENT_STEP
            }
            SequenceRole::Gradient => {
                let c = cell == Cell::Lstm;
                let channel = cell.slopes() - 1;
                let later = format!("behind1 = found(t, b, {channel}u, u);");
                holes.push(("zero", if c { "var behind1 = 0.0;".into() } else { String::new() }));
                holes.push(("later", if c { later } else { String::new() }));
                shaders::RECURRENT_GRADIENT_STEP
            }
        };
        Ok((shaders::fill(template, &holes)?, grid))
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
        let mut text = format!("    let at = {};\n", place(sequence, role));
        text += &self.accumulators(&self.kernel.expr, &["value"]);
        let done = accumulated(&self.kernel.expr);
        let coordinates = ["t", "b", "channel", "u"].map(str::to_string).to_vec();
        let point = Point { coordinates, flat: Some("at".into()) };
        text += &self.stores(&self.kernel.expr, stores, &done, &point, "at", "    ");
        format!("fn keep(t: u32, b: u32, channel: u32, u: u32, value: f32) {{\n{text}}}\n")
    }

    /// The function that finds what an earlier dispatch has stored.
    fn found(
        &self,
        sequence: &Sequence,
        role: SequenceRole,
        stores: &[Store],
    ) -> Result<String, String> {
        let own = |store: &&Store| self.kernel.expr.terms[store.term] == Term::Accumulator(0);
        let store = stores.iter().find(own).ok_or("a stepwise kernel that doesn't store itself")?;
        let value = self.bindings.load(&self.kernel.operands[store.operand], "at");
        Ok(format!(
            "fn found(t: u32, b: u32, channel: u32, u: u32) -> f32 {{\n    let at = {};\n    return {value};\n}}\n",
            place(sequence, role)
        ))
    }

    /// What the recurrent weight takes from one unit to another.
    fn multiply(&self, sequence: &Sequence, role: SequenceRole, stepwise: bool) -> String {
        let Sequence { cell, hidden, .. } = *sequence;
        match role {
            SequenceRole::Forward => {
                lines(cell.gates(), |g| format!("w{g} += weight({g}u, u, k) * h;"))
            }
            SequenceRole::Gradient => lines(cell.gates(), |g| match stepwise {
                true => {
                    format!("by_h += weight({g}u, k, u) * found(t, b, {}u, k);", through(cell)[g])
                }
                false => format!("sum += weight({g}u, k, u) * slopes[{}u + k];", g * hidden),
            }),
        }
    }
}

/// Where a number of a step lies in the result.
fn place(sequence: &Sequence, role: SequenceRole) -> String {
    let [_, batch, channels, hidden] =
        <[usize; 4]>::try_from(sequence.result(role)).unwrap_or([0; 4]);
    format!("((t * {batch}u + b) * {channels}u + channel) * {hidden}u + u")
}

/// The function that gives a state before a step: what the step before has left, or the sequence began with.
fn past(sequence: &Sequence, role: SequenceRole) -> String {
    let before = if sequence.reverse { "t + 1u" } else { "t - 1u" };
    let order = match sequence.reverse {
        false => "step".to_string(),
        true => format!("{}u - step", sequence.time.saturating_sub(1)),
    };
    let kept = if role == SequenceRole::Forward { "found" } else { "kept" };
    let first = match sequence.cell.states() {
        1 => "return state0(b, u);",
        _ => "if (state == 0u) { return state0(b, u); } return state1(b, u);",
    };
    format!(
        "fn past(step: u32, b: u32, state: u32, u: u32) -> f32 {{\n    if (step == 0u) {{ {first} }}\n    let t = {order};\n    return {kept}({before}, b, state, u);\n}}\n"
    )
}

/// Whether a step counts: forward as what holds the states, backward as a share of the slope.
fn mask(sequence: &Sequence, role: SequenceRole) -> String {
    let text = match (role, sequence.masked) {
        (SequenceRole::Forward, true) => "let held = !counts(t, b);",
        (SequenceRole::Forward, false) => "let held = false;",
        (SequenceRole::Gradient, true) => "let share = select(0.0, 1.0, counts(t, b));",
        (SequenceRole::Gradient, false) => "let share = 1.0;",
    };
    text.to_string()
}

/// The channels of slopes that the recurrent weight takes back to the states, gate by gate.
fn through(cell: Cell) -> Vec<usize> {
    match cell {
        Cell::Gru => vec![0, 1, 3],
        _ => (0..cell.gates()).collect(),
    }
}

fn zeros(cell: Cell) -> String {
    lines(cell.gates(), |g| format!("var w{g} = 0.0;"))
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().join(BREAK)
}

fn cell_of(cell: Cell, role: SequenceRole) -> String {
    let statements = match role {
        SequenceRole::Forward => forward_cell(cell),
        SequenceRole::Gradient => gradient_cell(cell),
    };
    statements.join(BREAK)
}

/// One unit of a step: from `w0`, `w1`, .. and the states `before0`, `before1` to those after it, and what is kept.
fn forward_cell(cell: Cell) -> Vec<String> {
    let sigmoid = |g: usize| format!("1.0 / (1.0 + exponential(-(gate(t, b, {g}u, u) + w{g})))");
    let mut text: Vec<String> = match cell {
        Cell::RnnTanh => vec!["let next = hyperbolic_tangent(gate(t, b, 0u, u) + w0);".into()],
        Cell::RnnRelu => vec!["let next = max_nan(gate(t, b, 0u, u) + w0, 0.0);".into()],
        Cell::Lstm => vec![
            format!("let i = {};", sigmoid(0)),
            format!("let f = {};", sigmoid(1)),
            "let g = hyperbolic_tangent(gate(t, b, 2u, u) + w2);".into(),
            format!("let o = {};", sigmoid(3)),
            "let c_next = f * before1 + i * g;".into(),
            "let after1 = select(c_next, before1, held);".into(),
            "let next = o * hyperbolic_tangent(c_next);".into(),
            "keep(t, b, 1u, u, after1); keep(t, b, 2u, u, i); keep(t, b, 3u, u, f);".into(),
            "keep(t, b, 4u, u, g); keep(t, b, 5u, u, o);".into(),
        ],
        Cell::Gru => vec![
            format!("let r = {};", sigmoid(0)),
            format!("let z = {};", sigmoid(1)),
            "let inner = w2 + bias(u);".into(),
            "let n = hyperbolic_tangent(gate(t, b, 2u, u) + r * inner);".into(),
            "let next = (1.0 - z) * n + z * before0;".into(),
            "keep(t, b, 1u, u, r); keep(t, b, 2u, u, z); keep(t, b, 3u, u, n);".into(),
            "keep(t, b, 4u, u, inner);".into(),
        ],
    };
    text.push("let after0 = select(next, before0, held);".into());
    text.push("keep(t, b, 0u, u, after0);".into());
    text
}

/// One unit of a step backwards: from `dh`, and of an LSTM the slope `behind1` by its second state, to the slopes by the
/// gates, `d0`, `d1`, .., and what goes past the recurrent weight.
fn gradient_cell(cell: Cell) -> Vec<String> {
    let slope = |channel: usize, value: &str| {
        format!("let d{channel} = {value}; keep(t, b, {channel}u, u, d{channel});")
    };
    let kept = |name: &str, channel: usize| format!("let {name} = kept(t, b, {channel}u, u);");
    match cell {
        Cell::RnnTanh => vec![kept("y", 0), slope(0, "dh * (1.0 - y * y)")],
        Cell::RnnRelu => vec![slope(0, "select(0.0, dh, kept(t, b, 0u, u) > 0.0)")],
        Cell::Lstm => vec![
            "let past1 = past(step, b, 1u, u);".into(),
            kept("i", 2),
            kept("f", 3),
            kept("g", 4),
            kept("o", 5),
            "let bent = hyperbolic_tangent(f * past1 + i * g);".into(),
            "let slope_c = behind1 + upstream(t, b, 1u, u);".into(),
            "let dc = slope_c * share + dh * o * (1.0 - bent * bent);".into(),
            "let after1 = dc * f + slope_c * (1.0 - share); keep(t, b, 5u, u, after1);".into(),
            slope(0, "(dc * g + upstream(t, b, 2u, u)) * i * (1.0 - i)"),
            slope(1, "(dc * past1 + upstream(t, b, 3u, u)) * f * (1.0 - f)"),
            slope(2, "(dc * i + upstream(t, b, 4u, u)) * (1.0 - g * g)"),
            slope(3, "(dh * bent + upstream(t, b, 5u, u)) * o * (1.0 - o)"),
        ],
        Cell::Gru => vec![
            "let past0 = past(step, b, 0u, u);".into(),
            kept("r", 1),
            kept("z", 2),
            kept("n", 3),
            kept("inner", 4),
            "let dn = (dh * (1.0 - z) + upstream(t, b, 3u, u)) * (1.0 - n * n);".into(),
            "keep(t, b, 2u, u, dn);".into(),
            "direct += dh * z;".into(),
            slope(0, "(dn * inner + upstream(t, b, 1u, u)) * r * (1.0 - r)"),
            slope(1, "(dh * (past0 - n) + upstream(t, b, 2u, u)) * z * (1.0 - z)"),
            slope(3, "dn * r + upstream(t, b, 4u, u)"),
        ],
    }
}
