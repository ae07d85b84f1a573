//! Attention.

use super::super::term::{Point, coordinates, literal};
use super::{Family, Renderer, Source, accumulated};
use crate::{Attention, DType, DeviceClass, Literal, Store, TermId, numel};
use shadegrad_shaders as shaders;

/// Queries of a workgroup.
const BLOCK: usize = 16;
/// Invocations of each.
const SHARES: usize = 16;
/// Features that they add at a time.
const CHUNK: usize = 8;

impl Renderer<'_> {
    pub(super) fn attention(
        &self,
        a: &Attention,
        terms: &[TermId],
        bias: Option<TermId>,
        stores: &[Store],
    ) -> Source {
        let (batch, names) = coordinates(&a.batch, "g", "g", "    ");
        let at = |row: &str, col: &str, rows: usize, cols: usize| Point {
            coordinates: [names.as_slice(), &[row.to_string(), col.to_string()]].concat(),
            flat: Some(format!("((g * {rows}u + {row}) * {cols}u + {col})")),
        };
        let mut sources = String::new();
        let named = [
            ("query", "m", a.queries, a.width),
            ("key", "n", a.keys, a.width),
            ("value", "n", a.keys, a.features),
        ];
        for ((name, row, rows, cols), &term) in named.into_iter().zip(terms) {
            let head = format!("{name}(g: u32, {row}: u32, d: u32)");
            sources += &self.function(&head, &batch, &at(row, "d", rows, cols), term);
        }
        if let Some(bias) = bias {
            let head = "bias(g: u32, m: u32, n: u32)";
            sources += &self.function(head, &batch, &at("m", "n", a.queries, a.keys), bias);
        }
        let point = at("m", "d", a.queries, a.features);
        let mut text = batch.clone();
        text += &format!("    let at = {};\n", point.flat.as_deref().unwrap_or_default());
        text += &self.accumulators(&self.kernel.expr, &["sum"]);
        let done = accumulated(&self.kernel.expr);
        let point = Point { flat: Some("at".into()), ..point };
        text += &self.stores(&self.kernel.expr, stores, &done, &point, "at", "    ");
        let rows = numel(&a.batch) * a.queries;
        let mut holes = self.frame();
        let nothing = literal(Literal::f32(f32::MIN));
        let add = bias.map_or("", |_| "score += added;");
        // A masked key takes no part: neither it nor its value is looked at.
        let masked = bias.map_or(String::new(), |_| {
            format!("let added = bias(g, m, n);\n        if (added <= {nothing}) {{ continue; }}")
        });
        holes.extend([
            ("sources", sources),
            ("keep", format!("fn keep(g: u32, m: u32, d: u32, sum: f32) {{\n{text}}}\n")),
            ("rows", rows.to_string()),
            ("queries", a.queries.to_string()),
            ("features", a.features.to_string()),
        ]);
        // Every so many-th key from a first one on, with sums for so many features.
        let attend = |first: &str, stride: usize, held: usize| {
            let holes = [
                ("bias", add.to_string()),
                ("masked", masked.clone()),
                ("keys", a.keys.to_string()),
                ("width", a.width.max(1).to_string()),
                ("features", a.features.to_string()),
                ("scale", literal(Literal { dtype: DType::F32, bits: a.scale })),
                ("nothing", nothing.clone()),
                ("first", first.to_string()),
                ("stride", stride.to_string()),
                ("held_sums", held.to_string()),
            ];
            shaders::fill(shaders::ATTENTION_KEYS, &holes)
        };
        let (invocations, held) = (BLOCK * SHARES, BLOCK * SHARES * CHUNK);
        let fits = self.limits.invocations >= invocations
            && self.limits.workgroup_bytes >= (2 * invocations + held) * 4;
        let grouped = self.variant.grouped.unwrap_or(self.limits.class != DeviceClass::Software);
        if !grouped || !fits || rows == 0 {
            holes.push(("size", self.size().to_string()));
            holes.push(("attend", attend("0u", 1, a.features)?));
            return self.alone(shaders::ATTENTION, &holes, rows);
        }
        let (grid, line) = self.grid(rows.div_ceil(BLOCK));
        holes.extend([
            ("line", line.to_string()),
            ("block", BLOCK.to_string()),
            ("shares", SHARES.to_string()),
            ("chunk", CHUNK.to_string()),
            ("invocations", invocations.to_string()),
            ("held", held.to_string()),
            ("attend", attend("share", SHARES, a.features.next_multiple_of(CHUNK))?),
        ]);
        Ok(Family::own(shaders::fill(shaders::ATTENTION_GROUP, &holes)?, grid))
    }
}
