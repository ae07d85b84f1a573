//! Renders kernels to WGSL: fills the holes of the family's shader.

use super::term::{Bindings, Point, coordinates, literal, missing, terms};
use crate::{
    Body, Combine, Contraction, Conv, ConvRole, DType, DeviceClass, Expr, Kernel, Limits, Literal,
    Reduction, Store, Term, TermId, View, Window, WindowRole, collapse, numel,
};
use shadegrad_shaders as shaders;
use std::fmt::Write;

/// Which of several equivalent shaders is used, and with what checks. For tests and measurements;
/// the default lets the device choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Keep the driver-side checks of indices and loops that rendered kernels don't need.
    pub checks: bool,
    /// Lower the device's limits to these.
    pub limits: Option<Limits>,
    /// Contractions through workgroup memory (`true`) or straight from memory (`false`).
    pub tiled: Option<bool>,
    /// Row kernels with one workgroup (`true`) or one invocation (`false`) for each row.
    pub grouped: Option<bool>,
}

/// A kernel as a shader.
pub struct Rendered {
    /// The WGSL.
    pub source: String,
    /// For each binding the program's buffer number, and whether it is written.
    pub bindings: Vec<(usize, bool)>,
    /// Workgroups to dispatch.
    pub groups: [u32; 3],
}

/// Invocations of a workgroup in kernels that share nothing.
const SIZE: usize = 64;

/// Renders a kernel for a device.
///
/// # Errors
/// What doesn't fit, as text: a defect of this crate's shaders.
pub fn render(kernel: &Kernel, limits: &Limits, variant: &Variant) -> Result<Rendered, String> {
    let bindings = Bindings::new(kernel);
    let renderer = Renderer { kernel, limits, variant, bindings: &bindings };
    let (source, groups) = match &kernel.body {
        Body::Map { shape, stores } => renderer.map(shape, stores)?,
        Body::Rows { .. } => renderer.rows()?,
        Body::Contract { contraction, left, right, splits, stores } => {
            renderer.contract(contraction, *left, *right, *splits, stores)?
        }
        Body::Window { window, role, source, index, stores } => {
            renderer.window(window, *role, *source, *index, stores)?
        }
        Body::Scatter { shape, count, index, source, stores } => {
            renderer.scatter(*shape, *count, *index, *source, stores)?
        }
    };
    let bindings = bindings.buffers.iter().copied().zip(bindings.written.iter().copied()).collect();
    Ok(Rendered { source, bindings, groups })
}

struct Renderer<'a> {
    kernel: &'a Kernel,
    limits: &'a Limits,
    variant: &'a Variant,
    bindings: &'a Bindings,
}

type Source = Result<(String, [u32; 3]), String>;

impl Renderer<'_> {
    /// Workgroups for a number of groups, folded into two axes where one is too short, and the
    /// number of groups along the first.
    fn grid(&self, groups: usize) -> ([u32; 3], usize) {
        let line = groups.clamp(1, self.limits.groups);
        ([line as u32, groups.div_ceil(line) as u32, 1], line)
    }

    fn size(&self) -> usize {
        SIZE.min(self.limits.invocations)
    }

    /// The holes that every family has.
    fn frame(&self) -> Vec<(&'static str, String)> {
        let needed = self.kernel.expr.needed(&self.kernel.roots());
        let random = self.kernel.expr.terms.iter().zip(&needed).any(
            |(term, &needed)| matches!(term, Term::Apply { op, .. } if needed && op.needs_random()),
        );
        let mut functions = shaders::BITS.to_string();
        if random {
            functions += shaders::RANDOM;
        }
        vec![("declarations", self.bindings.declarations()), ("functions", functions)]
    }

    /// Statements that compute and store at a point.
    fn stores(
        &self,
        expr: &Expr,
        stores: &[Store],
        done: &[bool],
        point: &Point,
        at: &str,
        indent: &str,
    ) -> String {
        let roots: Vec<TermId> = stores.iter().map(|s| s.term).collect();
        let wanted = missing(expr, &roots, done);
        let mut text = terms(self.kernel, expr, &wanted, self.bindings, point, indent);
        for store in stores {
            let operand = &self.kernel.operands[store.operand];
            let line = self.bindings.store(operand, at, &format!("t{}", store.term));
            let _ = writeln!(text, "{indent}{line}");
        }
        text
    }

    fn map(&self, shape: &[usize], stores: &[Store]) -> Source {
        let points = numel(shape);
        let (expr, groups) = self.joined(shape, 0);
        let shape: Vec<usize> = groups.iter().map(|g| numel(&shape[g.clone()])).collect();
        let (mut body, names) = coordinates(&shape, "i", "c", "    ");
        let point = Point { coordinates: names, flat: Some("i".into()) };
        let none = vec![false; expr.terms.len()];
        body += &self.stores(&expr, stores, &none, &point, "i", "    ");
        let (grid, line) = self.grid(points.div_ceil(self.size()));
        let mut holes = self.frame();
        holes.extend([
            ("size", self.size().to_string()),
            ("line", (line * self.size()).to_string()),
            ("points", points.to_string()),
            ("body", body),
        ]);
        Ok((shaders::fill(shaders::MAP, &holes)?, grid))
    }

    /// `let` statements for a core's accumulators, which the shader holds in variables.
    fn accumulators(&self, expr: &Expr, names: &[&str]) -> String {
        let needed = expr.needed(&self.kernel.roots());
        let mut text = String::new();
        for (id, term) in expr.terms.iter().enumerate() {
            if let Term::Accumulator(number) = term
                && needed[id]
                && let Some(name) = names.get(*number)
            {
                let _ = writeln!(text, "    let t{id} = {name};");
            }
        }
        text
    }

    fn rows(&self) -> Source {
        let Body::Rows { rows, cols, reductions, row_stores, stores } = &self.kernel.body else {
            return Err("not a row kernel".into());
        };
        let (row_count, col_count) = (numel(rows), numel(cols));
        let long = col_count >= 128 && self.limits.class != DeviceClass::Software;
        let grouped = self.variant.grouped.unwrap_or(long);
        let size = if grouped { 256.min(self.limits.invocations) } else { self.size() };

        // Rows and columns are joined apart, so that the two kinds of coordinates stay apart.
        let shape = self.kernel.body.domain();
        let (expr, groups) = self.joined(&shape, rows.len());
        let split =
            groups.iter().take_while(|g| g.end <= rows.len() && g.start < rows.len()).count();
        let joined: Vec<usize> = groups.iter().map(|g| numel(&shape[g.clone()])).collect();
        let (mut body, mut names) = coordinates(&joined[..split], "r", "r", "    ");
        let (columns, column_names) = coordinates(&joined[split..], "c", "c", "        ");
        names.extend(column_names);
        let point = Point { coordinates: names, flat: Some(format!("(r * {col_count}u + c)")) };
        let row_point = Point { flat: None, coordinates: point.coordinates.clone() };
        let by_row = row_terms(&expr, &joined, split);
        let mut done = vec![false; expr.terms.len()];
        let header = if grouped {
            format!("for (var c = lane; c < {col_count}u; c += {size}u) {{\n{columns}")
        } else {
            format!("for (var c = 0u; c < {col_count}u; c += 1u) {{\n{columns}")
        };
        let mut shared = String::new();
        for (number, reduction) in reductions.iter().enumerate() {
            let dtype = expr.types[reduction.term];
            let identity = literal(reduction.combine.identity(dtype));
            let wanted = missing(&expr, &[reduction.term], &done);
            body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
            let inner: Vec<bool> = wanted.iter().zip(&by_row).map(|(&w, &r)| w && !r).collect();
            let _ = writeln!(body, "    var a{number}: {} = {identity};", dtype.wgsl());
            // Partial sums of 256 keep the rounding error of long rows small.
            let nested = reduction.combine == Combine::Sum
                && dtype == DType::F32
                && col_count > 256
                && !grouped;
            let target = if nested { "part" } else { &format!("a{number}") };
            if nested {
                let _ = writeln!(
                    body,
                    "    for (var base = 0u; base < {col_count}u; base += 256u) {{\n    var part = 0.0;"
                );
                let _ = writeln!(
                    body,
                    "    for (var c = base; c < min(base + 256u, {col_count}u); c += 1u) {{\n{columns}"
                );
            } else {
                let _ = writeln!(body, "    {header}");
            }
            body += &terms(self.kernel, &expr, &inner, self.bindings, &point, "        ");
            let _ = writeln!(
                body,
                "        {target} = {};\n    }}",
                combine(reduction, dtype, target, &format!("t{}", reduction.term))
            );
            if nested {
                let _ = writeln!(body, "    a{number} += part;\n    }}");
            }
            if grouped {
                let name = dtype.wgsl();
                if !shared.contains(&format!("w_{name}:")) {
                    let _ = writeln!(shared, "var<workgroup> w_{name}: array<{name}, {size}>;");
                }
                body += &tree(number, reduction, dtype, size);
            }
            for (id, term) in expr.terms.iter().enumerate() {
                if *term == Term::Accumulator(number) {
                    let _ = writeln!(body, "    let t{id} = a{number};");
                    done[id] = true;
                }
            }
        }
        let row_roots: Vec<TermId> = row_stores.iter().map(|s| s.term).collect();
        let wanted = missing(&expr, &row_roots, &done);
        body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
        let row_text = self.stores(&expr, row_stores, &done, &row_point, "r", "    ");
        match grouped && !row_stores.is_empty() {
            true => _ = writeln!(body, "    if (lane == 0u) {{\n{row_text}    }}"),
            false => body += &row_text,
        }
        if !stores.is_empty() {
            let roots: Vec<TermId> = stores.iter().map(|s| s.term).collect();
            let wanted = missing(&expr, &roots, &done);
            body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
            let at = format!("(r * {col_count}u + c)");
            let text = self.stores(&expr, stores, &done, &point, &at, "        ");
            let _ = writeln!(body, "    {header}{text}    }}");
        }
        let groups = if grouped { row_count } else { row_count.div_ceil(size) };
        let (grid, line) = self.grid(groups);
        let mut holes = self.frame();
        holes.extend([
            ("size", size.to_string()),
            ("line", if grouped { line } else { line * size }.to_string()),
            ("rows", row_count.to_string()),
            ("body", body),
        ]);
        let template = if grouped {
            holes.push(("shared", shared));
            shaders::ROWS_GROUP
        } else {
            shaders::ROWS_SINGLE
        };
        Ok((shaders::fill(template, &holes)?, grid))
    }

    /// The expression over as few axes as its views allow, where axes before and after `at` are
    /// joined apart; and the groups of axes that were joined.
    fn joined(&self, shape: &[usize], at: usize) -> (Expr, Vec<std::ops::Range<usize>>) {
        let needed = self.kernel.expr.needed(&self.kernel.roots());
        let mut expr = self.kernel.expr.clone();
        let part = |range: std::ops::Range<usize>| {
            let order: Vec<usize> = range.collect();
            let views: Vec<View> = self
                .kernel
                .expr
                .terms
                .iter()
                .zip(&needed)
                .filter(|(_, n)| **n)
                .filter_map(|(t, _)| t.view().map(|v| v.permute(&order)))
                .collect();
            let shape: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
            collapse(&shape, &views.iter().collect::<Vec<_>>())
        };
        let mut groups = part(0..at);
        groups.extend(part(at..shape.len()).into_iter().map(|g| g.start + at..g.end + at));
        for (term, _) in expr.terms.iter_mut().zip(&needed).filter(|(_, needed)| **needed) {
            if let Some(view) = term.view_mut() {
                *view = view.join(&groups);
            }
        }
        (expr, groups)
    }

    /// Prints the wanted terms that don't depend on the column and marks them done.
    fn row_level(
        &self,
        expr: &Expr,
        wanted: &[bool],
        by_row: &[bool],
        done: &mut [bool],
        point: &Point,
    ) -> String {
        let level: Vec<bool> = wanted.iter().zip(by_row).map(|(&w, &r)| w && r).collect();
        let text = terms(self.kernel, expr, &level, self.bindings, point, "    ");
        for (done, level) in done.iter_mut().zip(level) {
            *done |= level;
        }
        text
    }

    /// A WGSL function of coordinates that returns a term.
    fn function(&self, head: &str, before: &str, point: &Point, term: TermId) -> String {
        let expr = &self.kernel.expr;
        let text = terms(self.kernel, expr, &expr.needed(&[term]), self.bindings, point, "    ");
        format!(
            "fn {head} -> {} {{\n{before}{text}    return t{term};\n}}\n",
            expr.types[term].wgsl()
        )
    }

    fn contract(
        &self,
        contraction: &Contraction,
        left: TermId,
        right: TermId,
        splits: usize,
        stores: &[Store],
    ) -> Source {
        let [g, m, n, k] = contraction.matrix();
        let tiled = self
            .variant
            .tiled
            .unwrap_or(self.limits.class != DeviceClass::Software && m.min(n) > 16 && k >= 16)
            && self.limits.invocations >= 256
            && self.limits.workgroup_bytes >= 16 * 65 * 8;
        let tile = if tiled { 64 } else { 32 };
        let (tiles_m, tiles_n) = (m.div_ceil(tile), n.div_ceil(tile));
        let tiles = tiles_m * tiles_n * splits * g;
        let (grid, line) = self.grid(tiles);
        let mut sources = match contraction {
            Contraction::MatMul { batch, .. } => self.matmul_sources(batch, [m, n, k], left, right),
            Contraction::Conv(conv, role) => self.conv_sources(conv, *role, left, right),
        };
        sources += &self.keep(contraction, splits, stores);
        let mut holes = self.frame();
        holes.extend([
            ("sources", sources),
            ("line", line.to_string()),
            ("tiles", tiles.to_string()),
            ("tiles_m", tiles_m.to_string()),
            ("tiles_n", tiles_n.to_string()),
            ("tiles_mn", (tiles_m * tiles_n).to_string()),
            ("splits", splits.to_string()),
            ("chunk", k.div_ceil(splits).to_string()),
            ("m", m.to_string()),
            ("n", n.to_string()),
            ("k", k.to_string()),
        ]);
        if !tiled {
            return Ok((shaders::fill(shaders::CONTRACT_DIRECT, &holes)?, grid));
        }
        let (left_by_k, right_by_k) = match contraction {
            Contraction::MatMul { batch, .. } => {
                let along = |term: TermId, axis: usize| {
                    self.kernel.expr.terms[term].view().map_or(1, |view| view.strides[axis])
                };
                let rank = batch.len();
                (along(left, rank + 1) == 1, along(right, rank) == 1 && along(right, rank + 1) != 1)
            }
            Contraction::Conv(_, role) => (true, *role == ConvRole::WeightGradient),
        };
        let split = |by_k: bool| match by_k {
            true => ("at / 16u".to_string(), "at % 16u".to_string()),
            false => ("at % 64u".to_string(), "at / 64u".to_string()),
        };
        let (left_m, left_k) = split(left_by_k);
        let (right_n, right_k) = split(right_by_k);
        holes.extend([
            ("left_m", left_m),
            ("left_k", left_k),
            ("right_n", right_n),
            ("right_k", right_k),
        ]);
        Ok((shaders::fill(shaders::CONTRACT_TILED, &holes)?, grid))
    }

    fn matmul_sources(
        &self,
        batch: &[usize],
        [m, n, k]: [usize; 3],
        left: TermId,
        right: TermId,
    ) -> String {
        let (text, names) = coordinates(batch, "g", "g", "    ");
        let point = |rows: usize, cols: usize, row: &str, col: &str| Point {
            coordinates: [names.as_slice(), &[row.to_string(), col.to_string()]].concat(),
            flat: Some(format!("((g * {rows}u + {row}) * {cols}u + {col})")),
        };
        self.function("left(g: u32, m: u32, k: u32)", &text, &point(m, k, "m", "k"), left)
            + &self.function("right(g: u32, k: u32, n: u32)", &text, &point(k, n, "k", "n"), right)
    }

    fn conv_sources(&self, c: &Conv, role: ConvRole, left: TermId, right: TermId) -> String {
        let (ci, co) = (c.in_channels / c.groups, c.out_channels / c.groups);
        let ([kh, kw], [oh, ow], [h, w]) = (c.kernel, c.output, c.input);
        let ([sy, sx], [py, px], [dy, dx]) = (c.stride, c.padding, c.dilation);
        let window = kh * kw;
        let names = |names: [&str; 4]| names.map(str::to_string).to_vec();
        let weight = Point {
            coordinates: names(["o", "i", "ky", "kx"]),
            flat: Some(format!("(((o * {ci}u + i) * {kh}u + ky) * {kw}u + kx)")),
        };
        let input = Point {
            coordinates: names(["image", "channel", "y", "x"]),
            flat: Some(format!("(((image * {}u + channel) * {h}u + y) * {w}u + x)", c.in_channels)),
        };
        let output = Point {
            coordinates: names(["image", "channel", "y", "x"]),
            flat: Some(format!(
                "(((image * {}u + channel) * {oh}u + y) * {ow}u + x)",
                c.out_channels
            )),
        };
        let taps = |index: &str| {
            format!("    let ky = {index} % {window}u / {kw}u;\n    let kx = {index} % {kw}u;\n")
        };
        let pixel = |index: &str, height: usize, width: usize, y: &str, x: &str| {
            format!(
                "    let image = {index} / {}u;\n    let {y} = {index} % {}u / {width}u;\n    let {x} = {index} % {width}u;\n",
                height * width,
                height * width
            )
        };
        // Coordinates left of the input wrap around to huge numbers, which the comparison refuses.
        let input_at = format!(
            "    let y = oy * {sy}u + ky * {dy}u - {py}u;\n    let x = ox * {sx}u + kx * {dx}u - {px}u;\n    if (y >= {h}u || x >= {w}u) {{ return 0.0; }}\n"
        );
        match role {
            ConvRole::Forward => {
                let before = format!(
                    "    let o = g * {co}u + m;\n    let i = k / {window}u;\n{}",
                    taps("k")
                );
                let mut text =
                    self.function("left(g: u32, m: u32, k: u32)", &before, &weight, right);
                let before = format!(
                    "    let channel = g * {ci}u + k / {window}u;\n{}{}{input_at}",
                    taps("k"),
                    pixel("n", oh, ow, "oy", "ox")
                );
                text += &self.function("right(g: u32, k: u32, n: u32)", &before, &input, left);
                text
            }
            ConvRole::InputGradient => {
                let before = format!(
                    "    let o = g * {co}u + k / {window}u;\n    let i = m;\n{}",
                    taps("k")
                );
                let mut text =
                    self.function("left(g: u32, m: u32, k: u32)", &before, &weight, right);
                let before = format!(
                    "    let channel = g * {co}u + k / {window}u;\n{}{}    let ty = iy + {py}u - ky * {dy}u;\n    let tx = ix + {px}u - kx * {dx}u;\n    let y = ty / {sy}u;\n    let x = tx / {sx}u;\n    if (ty % {sy}u != 0u || tx % {sx}u != 0u || y >= {oh}u || x >= {ow}u) {{ return 0.0; }}\n",
                    taps("k"),
                    pixel("n", h, w, "iy", "ix")
                );
                text += &self.function("right(g: u32, k: u32, n: u32)", &before, &output, left);
                text
            }
            ConvRole::WeightGradient => {
                let before =
                    format!("    let channel = g * {co}u + m;\n{}", pixel("k", oh, ow, "y", "x"));
                let mut text =
                    self.function("left(g: u32, m: u32, k: u32)", &before, &output, right);
                let before = format!(
                    "    let channel = g * {ci}u + n / {window}u;\n{}{}{input_at}",
                    taps("n"),
                    pixel("k", oh, ow, "oy", "ox")
                );
                text += &self.function("right(g: u32, k: u32, n: u32)", &before, &input, left);
                text
            }
        }
    }

    /// The function that stores one element of a contraction's result.
    fn keep(&self, contraction: &Contraction, splits: usize, stores: &[Store]) -> String {
        let [_, m, n, _] = contraction.matrix();
        let shape = contraction.shape();
        let total = numel(&shape);
        let (mut text, mut names, flat);
        match contraction {
            Contraction::MatMul { batch, .. } => {
                (text, names) = coordinates(batch, "g", "g", "    ");
                names.extend(["m".to_string(), "n".to_string()]);
                flat = format!("((g * {m}u + m) * {n}u + n)");
            }
            Contraction::Conv(c, ConvRole::WeightGradient) => {
                let window = c.kernel[0] * c.kernel[1];
                text = format!(
                    "    let o = g * {m}u + m;\n    let i = n / {window}u;\n    let ky = n % {window}u / {}u;\n    let kx = n % {}u;\n",
                    c.kernel[1], c.kernel[1]
                );
                names = ["o", "i", "ky", "kx"].map(str::to_string).to_vec();
                flat = format!("((g * {m}u + m) * {n}u + n)");
            }
            Contraction::Conv(..) => {
                let (plane, width) = (shape[2] * shape[3], shape[3]);
                text = format!(
                    "    let image = n / {plane}u;\n    let channel = g * {m}u + m;\n    let y = n % {plane}u / {width}u;\n    let x = n % {width}u;\n"
                );
                names = ["image", "channel", "y", "x"].map(str::to_string).to_vec();
                flat = format!("((image * {}u + channel) * {plane}u + n % {plane}u)", shape[1]);
            }
        }
        let _ = writeln!(text, "    let at = split * {total}u + {flat};");
        let mut domain = shape;
        if splits > 1 {
            domain.insert(0, splits);
            names.insert(0, "split".to_string());
        }
        let point = Point { coordinates: names, flat: Some("at".into()) };
        text += &self.accumulators(&self.kernel.expr, &["sum"]);
        let done = accumulated(&self.kernel.expr);
        text += &self.stores(&self.kernel.expr, stores, &done, &point, "at", "    ");
        format!("fn keep(split: u32, g: u32, m: u32, n: u32, sum: f32) {{\n{text}}}\n")
    }

    fn window(
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

    fn scatter(
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

/// The accumulators of an expression: printed apart, so already done.
fn accumulated(expr: &Expr) -> Vec<bool> {
    expr.terms.iter().map(|term| matches!(term, Term::Accumulator(_))).collect()
}

/// Which terms are the same for all columns of a row. Axes from `split` on are columns.
fn row_terms(expr: &Expr, shape: &[usize], split: usize) -> Vec<bool> {
    let mut by_row = Vec::with_capacity(expr.terms.len());
    for term in &expr.terms {
        let view = term.view().is_none_or(|view| {
            (split..view.shape.len()).all(|axis| {
                shape.get(axis) == Some(&1)
                    || view.strides[axis] == 0 && view.valid[axis] == (0, view.shape[axis])
            })
        });
        let args = term.arguments().iter().all(|&arg| by_row[arg]);
        by_row.push(view && args);
    }
    by_row
}

fn combine(reduction: &Reduction, dtype: DType, a: &str, b: &str) -> String {
    let suffix = if dtype == DType::F32 { "_nan" } else { "" };
    match reduction.combine {
        Combine::Sum => format!("{a} + {b}"),
        Combine::Max => format!("max{suffix}({a}, {b})"),
        Combine::Min => format!("min{suffix}({a}, {b})"),
    }
}

/// Folds the partial results of a workgroup in the array of their type and gives all invocations
/// the total. The array is free again afterwards.
fn tree(number: usize, reduction: &Reduction, dtype: DType, size: usize) -> String {
    let array = format!("w_{}", dtype.wgsl());
    let mut text = format!("    {array}[lane] = a{number};\n    workgroupBarrier();\n");
    let mut half = size.next_power_of_two() / 2;
    while half > 0 {
        let (a, b) = (format!("{array}[lane]"), format!("{array}[lane + {half}u]"));
        let step = combine(reduction, dtype, &a, &b);
        let bound = half.min(size - half);
        let _ =
            writeln!(text, "    if (lane < {bound}u) {{ {a} = {step}; }}\n    workgroupBarrier();");
        half /= 2;
    }
    let _ = writeln!(text, "    a{number} = {array}[0];\n    workgroupBarrier();");
    text
}
