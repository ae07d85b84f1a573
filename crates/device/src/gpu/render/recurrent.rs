//! Recurrent cells over sequences: in one dispatch, or in one for each step.

use super::super::term::{Point, address};
use super::subgroup::{Along, lies};
use super::{Family, Renderer, Source, accumulated};
use crate::{Body, Cell, DeviceClass, Kernel, Limits, Sequence, SequenceRole, Store, Term, TermId};
use shadegrad_shaders as shaders;
use std::fmt::Write;

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
        let (needs, has) = (sequence.workgroup_bytes(), self.limits.workgroup_bytes);
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
            ("cell", cell_of(cell, role)),
        ]);
        if role == SequenceRole::Gradient || stepwise {
            holes.push(("past", past(sequence, role)));
        }
        if role == SequenceRole::Gradient {
            holes.push(("time", time.to_string()));
        }
        if stepwise {
            return self.recurrent_step(sequence, role, stores, holes);
        }
        let Products { shares, all, size, held, multiply } = self.products(sequence, role);
        let (sums, terms) = (sequence.sums(role), sequence.terms(role));
        let (grid, line) = self.grid(batch);
        let c = cell == Cell::Lstm;
        let only = |there: bool, text: String| if there { text } else { String::new() };
        let second = |name: &str| only(c, format!("var<workgroup> {name}: array<f32, {hidden}>;"));
        holes.extend([
            ("size", size.to_string()),
            ("line", line.to_string()),
            ("batch", batch.to_string()),
            ("shares", shares.to_string()),
            ("all", all.to_string()),
            ("terms", terms.to_string()),
            ("held", held),
            ("multiply", multiply),
        ]);
        // What the invocations of one sum have found.
        let added = |at: &str| {
            let share = |share: usize| format!("sums[{}u + {at}]", share * sums);
            (0..shares).map(share).collect::<Vec<_>>().join(" + ")
        };
        match role {
            SequenceRole::Forward => {
                let state = |n: usize| if n == 0 { "states[u]" } else { "cells[u]" };
                let mut before = lines(cell.gates(), |g| {
                    format!("let w{g} = {};", added(&format!("{}u + u", g * hidden)))
                });
                before += BREAK;
                before += &lines(cell.states(), |n| format!("let before{n} = {};", state(n)));
                holes.extend([
                    ("time", time.to_string()),
                    ("cells", second("cells")),
                    ("begin", lines(cell.states(), |n| format!("{} = state{n}(b, u);", state(n)))),
                    ("before", before),
                    ("after", lines(cell.states(), |n| format!("{} = after{n};", state(n)))),
                ]);
                Ok(Family::own(shaders::fill(shaders::RECURRENT, &holes)?, grid))
            }
            SequenceRole::Gradient => {
                let channels = through(cell);
                let slots = lines(channels.len(), |slot| {
                    format!("slopes[{}u + u] = d{};", slot * hidden, channels[slot])
                });
                let keep_c = only(c, format!("{BREAK}cells[u] = after1;"));
                // Alone, an invocation is done with a unit at once.
                let kept = |by: &str, indent: &str| {
                    let state = cell.slopes() - cell.states();
                    format!(
                        "{indent}let by = {by};\n{indent}by_h[u] = by;\n{indent}keep(t, b, {state}u, u, by);"
                    )
                };
                let indent = "            ";
                let (store, joined) = match shares {
                    1 => (format!("{indent}let u = at;\n{}", kept("sum", indent)), String::new()),
                    _ => {
                        let by = format!("by_h[u] + ({})", added("u"));
                        let joined = format!(
                            "        workgroupBarrier();\n        for (var u = lane; u < {hidden}u; u += {size}u) {{\n{}\n        }}",
                            kept(&by, indent)
                        );
                        (format!("{indent}sums[at] = sum;"), joined)
                    }
                };
                holes.extend([
                    ("cells", second("cells")),
                    ("sums", only(shares > 1, format!("var<workgroup> sums: array<f32, {all}>;"))),
                    ("begin", only(c, "cells[u] = 0.0;".into())),
                    ("behind", only(c, "let behind1 = cells[u];".into())),
                    ("after", slots + &keep_c),
                    ("shared", store),
                    ("joined", joined),
                ]);
                Ok(Family::own(shaders::fill(shaders::RECURRENT_GRADIENT, &holes)?, grid))
            }
        }
    }

    /// How invocations multiply by the recurrent weight.
    fn products(&self, sequence: &Sequence, role: SequenceRole) -> Products {
        let (sums, terms, hidden) = (sequence.sums(role), sequence.terms(role), sequence.hidden);
        let shares = sequence.shares(role, self.limits);
        let all = sums * shares;
        let size = all.clamp(1, self.limits.invocations);
        let vectors = self.weight_in_fours.is_some();
        let width = if vectors { 4 } else { 1 };
        // Units of the sum that an invocation adds, in vectors where they are loaded so.
        let own = terms / shares / width;
        // Large GPUs have 65 536 registers for a workgroup, and an invocation needs some of its share for other things.
        let registers = match self.limits.class {
            DeviceClass::Discrete if all <= size => (65_536 / size).saturating_sub(32).min(96),
            _ => 0,
        };
        let held = (registers / width).min(own);
        let first = match shares {
            1 => String::new(),
            _ => format!("at / {sums}u * {own}u + "),
        };
        let turns = self.limits.class == DeviceClass::Discrete;
        let gates = sequence.cell.gates();
        let weight = |unit: &str| {
            let j = format!("{first}{unit}");
            match (role, vectors) {
                (SequenceRole::Forward, true) => {
                    format!("weight4(own / {hidden}u, own % {hidden}u, ({j}) * 4u)")
                }
                (SequenceRole::Forward, false) => {
                    format!("weight(own / {hidden}u, own % {hidden}u, {j})")
                }
                (SequenceRole::Gradient, _) if turns => {
                    format!("weight(({j}) / {hidden}u, ({j}) % {hidden}u, own)")
                }
                (SequenceRole::Gradient, _) => {
                    format!("weight(({j}) % {gates}u, ({j}) / {gates}u, own)")
                }
            }
        };
        let operand = if role == SequenceRole::Forward { "states" } else { "slopes" };
        // On large GPUs four sums take turns, so that no addition waits for the one before. Elsewhere terms are added in order, as
        // where each step is a dispatch.
        let add = |weight: &str, unit: &str, turn: usize| {
            let at = format!("{first}{unit}");
            let four = [0, 1, 2, 3].map(|n| format!("{operand}[({at}) * 4u + {n}u]"));
            match (turns, vectors) {
                (true, true) => {
                    format!("            p = fma({weight}, vec4<f32>({}), p);\n", four.join(", "))
                }
                (true, false) => {
                    let sum = format!("p[{}]", turn % 4);
                    format!("            {sum} = fma({weight}, {operand}[{at}], {sum});\n")
                }
                (false, true) => {
                    let terms = four.iter().enumerate();
                    let terms = terms.map(|(n, h)| format!("            sum += w[{n}] * {h};\n"));
                    format!("            w = {weight};\n{}", terms.collect::<String>())
                }
                (false, false) => {
                    let at = match role {
                        SequenceRole::Forward => at,
                        SequenceRole::Gradient => {
                            format!("({at}) % {gates}u * {hidden}u + ({at}) / {gates}u")
                        }
                    };
                    format!("            sum += {weight} * {operand}[{at}];\n")
                }
            }
        };
        let own_sum = format!("let own = at % {sums}u;\n");
        let mut text = match held {
            0 => String::new(),
            _ => format!("    let at = lane;\n    {own_sum}"),
        };
        let sums = match turns {
            true => "var p = vec4<f32>();",
            false if vectors => "var sum = 0.0;\n            var w = vec4<f32>();",
            false if role == SequenceRole::Gradient => "var sum = by_h[own];",
            false => "var sum = 0.0;",
        };
        let mut multiply = format!("            {own_sum}            {sums}\n");
        for unit in 0..held {
            let _ = writeln!(text, "    let held{unit} = {};", weight(&format!("{unit}u")));
            multiply += &add(&format!("held{unit}"), &format!("{unit}u"), unit);
        }
        let rest = own - held;
        let stride = if rest.is_multiple_of(4) { 4 } else { 1 };
        if rest > 0 {
            let _ = writeln!(
                multiply,
                "            for (var j = {held}u; j < {own}u; j += {stride}u) {{"
            );
            for turn in 0..stride {
                let unit = format!("j + {turn}u");
                multiply += &add(&weight(&unit), &unit, turn);
            }
            multiply += "            }\n";
        }
        if turns {
            multiply += "            let sum = (p[0] + p[1]) + (p[2] + p[3])";
            // Alone, an invocation adds to what goes past the recurrent weight.
            let past = role == SequenceRole::Gradient && shares == 1;
            multiply += if past { " + by_h[own];" } else { ";" };
        }
        Products { shares, all, size, held: text, multiply }
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
        holes.push(("multiply", multiply_step(sequence, role)));
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
                holes.push(("by_state", (cell.slopes() - cell.states()).to_string()));
                let later = format!("behind1 = found(t, b, {channel}u, u);");
                holes.push(("zero", if c { "var behind1 = 0.0;".into() } else { String::new() }));
                holes.push(("later", if c { later } else { String::new() }));
                shaders::RECURRENT_GRADIENT_STEP
            }
        };
        Ok(Family::own(shaders::fill(template, &holes)?, grid))
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
            if *name == "weight"
                && let Some(operand) = self.weight_in_fours
                && let Some(view) = self.kernel.expr.terms[term].view()
            {
                let load =
                    self.bindings.load_four(&self.kernel.operands[operand], &address(view, &point));
                let _ = writeln!(
                    text,
                    "fn weight4({}) -> vec4<f32> {{\n    return {load};\n}}",
                    typed.join(", ")
                );
            }
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
}

impl Sequence {
    /// The sums by the recurrent weight in a step: forward one for each gate's unit, backwards one for each unit.
    fn sums(&self, role: SequenceRole) -> usize {
        match role {
            SequenceRole::Forward => self.cell.gates() * self.hidden,
            SequenceRole::Gradient => self.hidden,
        }
    }

    /// Products that are added in each of these sums.
    fn terms(&self, role: SequenceRole) -> usize {
        match role {
            SequenceRole::Forward => self.hidden,
            SequenceRole::Gradient => self.cell.gates() * self.hidden,
        }
    }

    /// Invocations that share each of these sums, a power of two: on large GPUs as many as a workgroup may have, and there is
    /// memory for.
    fn shares(&self, role: SequenceRole, limits: &Limits) -> usize {
        let (sums, terms) = (self.sums(role), self.terms(role));
        let fits = |&shares: &usize| {
            // Forward, one invocation's sums are counted already; backwards, one alone keeps none.
            let more = match (role, shares) {
                (_, 1) => 0,
                (SequenceRole::Forward, _) => sums * (shares - 1) * 4,
                (SequenceRole::Gradient, _) => sums * shares * 4,
            };
            sums * shares <= limits.invocations.min(HALF)
                && terms.is_multiple_of(4 * shares)
                && self.workgroup_bytes() + more <= limits.workgroup_bytes
        };
        match limits.class {
            DeviceClass::Discrete => [8, 4, 2].into_iter().find(fits).unwrap_or(1),
            _ => 1,
        }
    }
}

/// Invocations of a workgroup that shares sums: twice as many would have half of the registers each.
const HALF: usize = 512;

/// How the invocations of a workgroup multiply by the recurrent weight.
struct Products {
    /// Invocations of each sum.
    shares: usize,
    /// Sums of all.
    all: usize,
    /// Invocations.
    size: usize,
    /// The statements that load what stays in registers.
    held: String,
    /// The statements that find the `sum` of an invocation.
    multiply: String,
}

/// The operand of a sequence's weight, if a workgroup goes through all steps forward and the weight lies in fours along what is
/// summed.
pub(super) fn weight_in_fours(kernel: &Kernel) -> Option<usize> {
    let Body::Recurrent { role: SequenceRole::Forward, stepwise: false, sources, .. } =
        &kernel.body
    else {
        return None;
    };
    let (operand, along) = lies(kernel, sources[1], 1)?;
    // Where results lie in the same buffer, they would be stored as parts of vectors, which some devices do by storing all of one.
    let buffer = kernel.operands[operand].buffer;
    let mut operands = kernel.operands.iter().enumerate();
    let stored = operands.any(|(number, other)| other.buffer == buffer && kernel.access(number).1);
    (along == Along::Sum && !stored).then_some(operand)
}

/// What the recurrent weight takes from one unit to another, where each step is a dispatch.
fn multiply_step(sequence: &Sequence, role: SequenceRole) -> String {
    let cell = sequence.cell;
    lines(cell.gates(), |g| match role {
        SequenceRole::Forward => format!("w{g} += weight({g}u, u, k) * h;"),
        SequenceRole::Gradient => {
            format!("by_h += weight({g}u, k, u) * found(t, b, {}u, k);", through(cell)[g])
        }
    })
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
