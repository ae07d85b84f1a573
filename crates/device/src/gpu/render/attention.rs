//! Attention.

use super::super::term::{Point, coordinates, literal};
use super::{Renderer, Source, accumulated};
use crate::{Attention, DType, Literal, Store, TermId, numel};
use shadegrad_shaders as shaders;

impl Renderer<'_> {
    pub(super) fn attention(
        &self,
        a: &Attention,
        [query, key, value]: [TermId; 3],
        bias: Option<TermId>,
        stores: &[Store],
    ) -> Source {
        let (batch, names) = coordinates(&a.batch, "g", "g", "    ");
        let at = |row: &str, col: &str, rows: usize, cols: usize| Point {
            coordinates: [names.as_slice(), &[row.to_string(), col.to_string()]].concat(),
            flat: Some(format!("((g * {rows}u + {row}) * {cols}u + {col})")),
        };
        let mut sources = String::new();
        for (name, row, rows, cols, term) in [
            ("query", "m", a.queries, a.width, query),
            ("key", "n", a.keys, a.width, key),
            ("value", "n", a.keys, a.features, value),
        ] {
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
            ("bias", add.to_string()),
            ("masked", masked),
            ("size", self.size().to_string()),
            ("rows", rows.to_string()),
            ("queries", a.queries.to_string()),
            ("keys", a.keys.to_string()),
            ("width", a.width.max(1).to_string()),
            ("features", a.features.to_string()),
            ("scale", literal(Literal { dtype: DType::F32, bits: a.scale })),
            ("nothing", nothing),
        ]);
        self.alone(shaders::ATTENTION, &holes, rows)
    }
}
