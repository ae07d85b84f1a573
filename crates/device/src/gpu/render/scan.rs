//! Recurrences along an axis, and the passes of a merge sort.

use super::super::term::{Point, line_point, literal};
use super::{Family, Renderer, Source, accumulated};
use crate::{DType, Literal, Merge, Recurrence, Store, TermId};
use shadegrad_shaders as shaders;

impl Renderer<'_> {
    pub(super) fn scan(
        &self,
        recurrence: &Recurrence,
        source: TermId,
        coefficients: &[TermId],
        stores: &[Store],
    ) -> Source {
        let [outer, steps, inner] = recurrence.lines();
        let (prelude, at) = line_point(&recurrence.shape, recurrence.axis);
        let function = |name: &str, term: TermId| {
            self.function(&format!("{name}(o: u32, j: u32, e: u32)"), &prelude, &at, term)
        };
        let mut sources = function("source", source);
        for (number, &term) in coefficients.iter().enumerate() {
            sources += &function(&format!("coefficient{number}"), term);
        }
        let mut text = prelude.clone();
        text += &format!("    let at = {};\n", at.flat.as_deref().unwrap_or_default());
        text += &self.accumulators(&self.kernel.expr, &["state"]);
        let done = accumulated(&self.kernel.expr);
        let point = Point { coordinates: at.coordinates.clone(), flat: Some("at".into()) };
        text += &self.stores(&self.kernel.expr, stores, &done, &point, "at", "    ");
        let keep = format!("fn keep(o: u32, j: u32, e: u32, state: f32) {{\n{text}}}\n");
        let nothing = if recurrence.log { f64::NEG_INFINITY } else { 0.0 };
        let nothing = literal(Literal::of(DType::F32, nothing));
        let mixes = recurrence.mixes();
        let past = |offset: usize| match mixes {
            false => ("past".to_string(), "j > 0u".to_string()),
            true => (
                format!("states[old][max(e, {offset}u) - {offset}u]"),
                format!("j > 0u && e >= {offset}u"),
            ),
        };
        let step = step(recurrence, &past, &nothing);
        let mut holes = self.frame();
        let size =
            if mixes { inner.clamp(1, 256).min(self.limits.invocations) } else { self.size() };
        let lines = if mixes { outer } else { outer * inner };
        if mixes && inner * 8 > self.limits.workgroup_bytes {
            return Err(format!(
                "a recurrence of {inner} points that see each other needs {} bytes of workgroup memory, and there are {}",
                inner * 8,
                self.limits.workgroup_bytes
            ));
        }
        holes.extend([
            ("sources", sources),
            ("keep", keep),
            ("size", size.to_string()),
            ("lines", lines.to_string()),
            ("inner", inner.to_string()),
            ("steps", steps.to_string()),
            ("step", step),
        ]);
        if mixes {
            let (grid, line) = self.grid(outer);
            holes.push(("line", line.to_string()));
            return Ok(Family::own(shaders::fill(shaders::SCAN_GROUP, &holes)?, grid));
        }
        holes.push(("nothing", nothing));
        self.alone(shaders::SCAN_LINE, &holes, lines)
    }

    pub(super) fn merge(
        &self,
        merge: &Merge,
        key: TermId,
        place: TermId,
        stores: &[Store],
    ) -> Source {
        let at = |row: &str, column: &str| Point {
            coordinates: vec![row.to_string(), column.to_string()],
            flat: Some(format!("({row} * {}u + {column})", merge.len)),
        };
        let dtype = self.kernel.expr.types[key];
        let mut sources = self.function("key(r: u32, c: u32)", "", &at("r", "c"), key)
            + &self.function("place(r: u32, c: u32)", "", &at("r", "c"), place);
        // Places are permutations made by earlier passes; the bound only keeps a wrong one harmless.
        sources += &format!(
            "fn sorted(r: u32, c: u32) -> {} {{ return key(r, min(place(r, c), {}u)); }}\n",
            dtype.wgsl(),
            merge.len.saturating_sub(1)
        );
        let less = if merge.descending { "a > b" } else { "a < b" };
        let before = match dtype {
            DType::F32 => format!("{less} || (is_nan(b) && !is_nan(a))"),
            _ => less.to_string(),
        };
        let mut body = self.accumulators(&self.kernel.expr, &["value"]);
        let done = accumulated(&self.kernel.expr);
        let point = Point { flat: Some("i".into()), ..at("r", "c") };
        body += &self.stores(&self.kernel.expr, stores, &done, &point, "i", "    ");
        let points = merge.rows * merge.len;
        let mut holes = self.frame();
        holes.extend([
            ("sources", sources),
            ("type", dtype.wgsl().to_string()),
            ("before", before),
            ("size", self.size().to_string()),
            ("points", points.to_string()),
            ("len", merge.len.to_string()),
            ("width", merge.width.to_string()),
            ("pair", (merge.width * 2).to_string()),
            ("body", body),
        ]);
        self.alone(shaders::MERGE, &holes, points)
    }
}

/// Statements that compute `state` from `added`, the coefficients and the past. Where there is no past state, a
/// term is nothing, whatever its coefficient.
fn step(
    recurrence: &Recurrence,
    past: &impl Fn(usize) -> (String, String),
    nothing: &str,
) -> String {
    let mut text = String::new();
    let terms: Vec<String> = recurrence
        .offsets
        .iter()
        .enumerate()
        .map(|(number, &offset)| {
            let operator = if recurrence.log { "+" } else { "*" };
            let (past, exists) = past(offset);
            text += &format!(
                "let t{number} = select({nothing}, coefficient{number}(o, j, e) {operator} {past}, {exists});\n        "
            );
            format!("t{number}")
        })
        .collect();
    let all = [&["added".to_string()], terms.as_slice()].concat();
    if !recurrence.log {
        return text + &format!("let state = {};", all.join(" + "));
    }
    let most =
        all[1..].iter().fold(all[0].clone(), |most, term| format!("max_nan({most}, {term})"));
    let sum: Vec<String> = all.iter().map(|term| format!("exponential({term} - most)")).collect();
    // Where the largest is infinite, it is the result: there is nothing to subtract from it.
    text + &format!(
        "let most = {most};\n        var state = most;\n        if (most > -3.4e38 && most < 3.4e38) {{ state = most + logarithm({}); }}",
        sum.join(" + ")
    )
}
