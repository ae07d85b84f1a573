//! Pooling windows and scatter-add.

use super::super::term::{Point, coordinates, literal};
use super::{Renderer, Source, accumulated};
use crate::{Literal, Store, TermId, Window, WindowRole, numel};
use shadegrad_shaders as shaders;

impl Renderer<'_> {
    pub(super) fn window(
        &self,
        window: &Window,
        role: WindowRole,
        source: TermId,
        index: Option<TermId>,
        stores: &[Store],
    ) -> Source {
        let (input, output) = (window.input, window.output);
        let gradient = role.is_gradient();
        let [from, to] = if gradient { [output, input] } else { [input, output] };
        let at = |[h, w]: [usize; 2]| Point {
            coordinates: ["plane", "y", "x"].map(str::to_string).to_vec(),
            flat: Some(format!("((plane * {h}u + y) * {w}u + x)")),
        };
        let mut sources =
            self.function("source(plane: u32, y: u32, x: u32)", "", &at(from), source);
        if let Some(index) = index {
            sources += &self.function("index(plane: u32, y: u32, x: u32)", "", &at(from), index);
        }
        let area = window.kernel[0] * window.kernel[1];
        let (visit, finish) = match role {
            WindowRole::Max => (
                "if (place == 0xffffffffu || v > value || is_nan(v)) { value = v; place = at; }"
                    .to_string(),
                String::new(),
            ),
            WindowRole::Average => {
                ("value += v;".to_string(), format!("value /= {area}.0; place = 0u;"))
            }
            WindowRole::MaxGradient => (
                "if (index(plane, oy, ox) == at) { value += source(plane, oy, ox); }".to_string(),
                String::new(),
            ),
            WindowRole::AverageGradient => {
                ("value += source(plane, oy, ox);".to_string(), format!("value /= {area}.0;"))
            }
        };
        let shape = self.kernel.body.domain();
        let (mut body, names) = coordinates(&shape, "i", "p", "    ");
        let point = Point { coordinates: names, flat: Some("i".into()) };
        body += &self.accumulators(&self.kernel.expr, &["value", "place"]);
        let done = accumulated(&self.kernel.expr);
        body += &self.stores(&self.kernel.expr, stores, &done, &point, "i", "    ");
        let points = window.planes * to[0] * to[1];
        let (grid, line) = self.grid(points.div_ceil(self.size()));
        let mut holes = self.frame();
        let mut hole = |name, value: usize| holes.push((name, value.to_string()));
        hole("size", self.size());
        hole("line", line * self.size());
        hole("points", points);
        for (names, values) in [
            (["stride_y", "stride_x"], window.stride),
            (["pad_y", "pad_x"], window.padding),
            (["kernel_y", "kernel_x"], window.kernel),
        ] {
            hole(names[0], values[0]);
            hole(names[1], values[1]);
        }
        if gradient {
            hole("in_plane", input[0] * input[1]);
            hole("in_width", input[1]);
            hole("out_height", output[0]);
            hole("out_width", output[1]);
        } else {
            hole("out_plane", output[0] * output[1]);
            hole("out_width", output[1]);
            hole("in_height", input[0]);
            hole("in_width", input[1]);
            let identity = if role == WindowRole::Max { f32::MIN } else { 0.0 };
            holes.push(("identity", literal(Literal::f32(identity))));
        }
        holes.extend([("sources", sources), ("visit", visit), ("finish", finish), ("body", body)]);
        let template = if gradient { shaders::WINDOW_GRADIENT } else { shaders::WINDOW };
        Ok((shaders::fill(template, &holes)?, grid))
    }

    pub(super) fn scatter(
        &self,
        shape: [usize; 3],
        count: usize,
        index: TermId,
        source: TermId,
        stores: &[Store],
    ) -> Source {
        let [_, len, inner] = shape;
        let at = Point {
            coordinates: ["o", "j", "e"].map(str::to_string).to_vec(),
            flat: Some(format!("((o * {count}u + j) * {inner}u + e)")),
        };
        let sources = self.function("index(o: u32, j: u32, e: u32)", "", &at, index)
            + &self.function("source(o: u32, j: u32, e: u32)", "", &at, source);
        let point = Point {
            coordinates: ["o", "v", "e"].map(str::to_string).to_vec(),
            flat: Some("i".into()),
        };
        let mut body = self.accumulators(&self.kernel.expr, &["value"]);
        let done = accumulated(&self.kernel.expr);
        body += &self.stores(&self.kernel.expr, stores, &done, &point, "i", "    ");
        let points = numel(&shape);
        let (grid, line) = self.grid(points.div_ceil(self.size()));
        let mut holes = self.frame();
        holes.extend([
            ("sources", sources),
            ("size", self.size().to_string()),
            ("line", (line * self.size()).to_string()),
            ("points", points.to_string()),
            ("slab", (len * inner).to_string()),
            ("inner", inner.to_string()),
            ("count", count.to_string()),
            ("body", body),
        ]);
        Ok((shaders::fill(shaders::SCATTER, &holes)?, grid))
    }
}
