//! Pooling windows and scatter-add.

use super::super::term::{Point, coordinates, line_point, literal};
use super::{Family, Renderer, Source, accumulated};
use crate::{DeviceClass, Literal, Store, TermId, View, Window, WindowRole, lines, numel};
use shadegrad_shaders as shaders;

/// Indices beyond which a scatter is searched by workgroups.
const GROUPED: usize = 32;

impl Renderer<'_> {
    pub(super) fn window(
        &self,
        window: &Window,
        role: WindowRole,
        source: TermId,
        index: Option<TermId>,
        stores: &[Store],
    ) -> Source {
        let gradient = role.is_gradient();
        let [from, to] = window.shapes(role);
        let (prelude, mut names) = coordinates(&window.planes, "plane", "q", "    ");
        names.extend(["y", "x"].map(str::to_string));
        let at = Point {
            coordinates: names,
            flat: Some(format!("((plane * {}u + y) * {}u + x)", from[2], from[3])),
        };
        let mut sources =
            self.function("source(plane: u32, y: u32, x: u32)", &prelude, &at, source);
        if let Some(index) = index {
            sources += &self.function("index(plane: u32, y: u32, x: u32)", &prelude, &at, index);
        }
        let visit = match role {
            WindowRole::Max => {
                "if (place == 0xffffffffu || v > value || is_nan(v)) { value = v; place = at; }"
            }
            WindowRole::Sum => "value += v;",
            WindowRole::MaxGradient => {
                "if (index(plane, oy, ox) == at) { value += source(plane, oy, ox); }"
            }
            WindowRole::SumGradient => "value += source(plane, oy, ox);",
        };
        let shape = self.kernel.body.domain();
        let (mut body, names) = coordinates(&shape, "i", "p", "    ");
        let point = Point { coordinates: names, flat: Some("i".into()) };
        body += &self.accumulators(&self.kernel.expr, &["value", "place"]);
        let done = accumulated(&self.kernel.expr);
        body += &self.stores(&self.kernel.expr, stores, &done, &point, "i", "    ");
        let points = numel(&to);
        let mut holes = self.frame();
        let mut hole = |name, value: usize| holes.push((name, value.to_string()));
        hole("size", self.size());
        hole("points", points);
        for (names, values) in [
            (["stride_y", "stride_x"], window.stride),
            (["pad_y", "pad_x"], window.padding),
            (["kernel_y", "kernel_x"], window.kernel),
            (["step_y", "step_x"], window.dilation),
            (["from_height", "from_width"], [from[2], from[3]]),
            (["to_height", "to_width"], [to[2], to[3]]),
        ] {
            hole(names[0], values[0]);
            hole(names[1], values[1]);
        }
        if !gradient {
            let identity = if role == WindowRole::Max { f32::NEG_INFINITY } else { 0.0 };
            holes.push(("identity", literal(Literal::f32(identity))));
        }
        holes.extend([("sources", sources), ("visit", visit.to_string()), ("body", body)]);
        let template = if gradient { shaders::WINDOW_GRADIENT } else { shaders::WINDOW };
        self.alone(template, &holes, points)
    }

    pub(super) fn scatter(
        &self,
        shape: &[usize],
        axis: usize,
        len: usize,
        [index, source]: [TermId; 2],
        stores: &[Store],
    ) -> Source {
        let [outer, count, inner] = lines(shape, axis);
        let (prelude, at) = line_point(shape, axis);
        let sources = self.function("index(o: u32, j: u32, e: u32)", &prelude, &at, index)
            + &self.function("source(o: u32, j: u32, e: u32)", &prelude, &at, source);
        let domain = self.kernel.body.domain();
        let (mut body, names) = coordinates(&domain, "i", "p", "    ");
        let point = Point { coordinates: names, flat: Some("i".into()) };
        body += &self.accumulators(&self.kernel.expr, &["value"]);
        let done = accumulated(&self.kernel.expr);
        body += &self.stores(&self.kernel.expr, stores, &done, &point, "i", "    ");
        let mut holes = self.frame();
        holes.extend([
            ("sources", sources),
            ("inner", inner.to_string()),
            ("count", count.to_string()),
            ("body", body),
        ]);
        let grouped = self.variant.grouped.unwrap_or(count > GROUPED);
        if grouped && self.same_within(index, axis + 1) {
            // Invocations of software adapters are lanes of a few threads: more share one search.
            let most = if self.limits.class == DeviceClass::Software { 1024 } else { 256 };
            let size = most.min(self.limits.invocations);
            let columns = inner.clamp(1, size);
            let rows = (size / columns).min(len.max(1));
            let (row_tiles, column_tiles) = (len.div_ceil(rows), inner.div_ceil(columns));
            let tiles = outer * row_tiles * column_tiles;
            let (grid, line) = self.grid(tiles);
            holes.extend([
                ("size", size.to_string()),
                ("summaries", size.div_ceil(32).to_string()),
                ("line", line.to_string()),
                ("tiles", tiles.to_string()),
                ("row_tiles", row_tiles.max(1).to_string()),
                ("column_tiles", column_tiles.max(1).to_string()),
                ("rows", rows.to_string()),
                ("columns", columns.to_string()),
                ("len", len.to_string()),
            ]);
            return Ok(Family::own(shaders::fill(shaders::SCATTER_GROUP, &holes)?, grid));
        }
        let points = numel(&domain);
        holes.extend([
            ("size", self.size().to_string()),
            ("points", points.to_string()),
            ("slab", (len * inner).max(1).to_string()),
        ]);
        self.alone(shaders::SCATTER, &holes, points)
    }

    /// Whether a term is the same at all coordinates of the axes from one on.
    fn same_within(&self, term: TermId, from: usize) -> bool {
        let needed = self.kernel.expr.needed(&[term]);
        let terms = self.kernel.expr.terms.iter().zip(&needed).filter(|(_, needed)| **needed);
        let still = |view: &View| {
            let axes = from..view.shape.len();
            axes.clone().all(|axis| view.strides[axis] == 0 || view.shape[axis] == 1)
                && axes.clone().all(|axis| view.valid[axis] == (0, view.shape[axis]))
        };
        terms.filter_map(|(term, _)| term.view()).all(still)
    }
}
