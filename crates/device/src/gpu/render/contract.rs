//! Contractions: how the elements of both sources are found, and how results are stored.

use super::super::term::{Point, coordinates};
use super::subgroup::{self, Along};
use super::{Family, Renderer, SIZE, Source, accumulated};
use crate::algorithm::direct_tile;
use crate::{
    Algorithm, Body, Contraction, Conv, ConvRole, Expr, Kernel, Store, TermId, Tile, numel,
};
use shadegrad_shaders as shaders;
use std::fmt::Write;

/// The first invocation of a row of tiles stores the sums of its four rows.
const KEEP_ROWS: &str = "if (col == 0u) {
        for (var i = 0u; i < 4u; i += 1u) {
            if (row + i < {{m}}u) { keep_row(split, g, row + i, z[i]); }
        }
    }";

/// Whether neighbours in memory are steps of the sum, for each source, left and right of the product of matrices.
fn along_sum(expr: &Expr, contraction: &Contraction, [left, right]: [TermId; 2]) -> [bool; 2] {
    match contraction {
        Contraction::MatMul { batch, .. } => {
            let stride =
                |term: TermId, axis: usize| expr.terms[term].view().map_or(1, |v| v.strides[axis]);
            let rank = batch.len();
            [stride(left, rank + 1) == 1, stride(right, rank) == 1 && stride(right, rank + 1) != 1]
        }
        Contraction::Conv(_, role) => [true, *role == ConvRole::WeightGradient],
    }
}

/// A contraction's sizes, how its matrices lie in memory (`n`, or `t` for one that is stored transposed), whether they are loaded
/// as they are, and into how many parts its sums are cut, which decide how fast its shaders are; `None` of other kernels.
pub(in crate::gpu) fn shape(kernel: &Kernel) -> Option<String> {
    let Body::Contract { contraction, left, right, splits, .. } = &kernel.body else {
        return None;
    };
    let [rows, cols] = along_sum(&kernel.expr, contraction, [*left, *right]);
    let turned = match contraction {
        Contraction::MatMul { .. } => {
            format!(", {}{}", if rows { 'n' } else { 't' }, if cols { 't' } else { 'n' })
        }
        Contraction::Conv(..) => String::new(),
    };
    let fours = subgroup::fours(kernel).map_or("", |_| ", in fours");
    Some(format!("{contraction}{turned}{fours}, parts {splits}"))
}

/// The holes that say which element of either source the `at`-th one of a tile is, so that neighbours are loaded one after
/// the other: tiles of so many rows, columns and steps of the sum, which are loaded one by one or several neighbours at once.
pub(super) fn staged(
    along_sum: [bool; 2],
    [rows, cols]: [usize; 2],
    steps: usize,
    width: usize,
) -> [(&'static str, String); 4] {
    let place = |length: usize| {
        let turns = length / width;
        let along = match width {
            1 => format!("at % {turns}u"),
            _ => format!("at % {turns}u * {width}u"),
        };
        (along, format!("at / {turns}u"))
    };
    let split = |along_sum: bool, side: usize| match along_sum {
        true => {
            let (step, line) = place(steps);
            [line, step]
        }
        false => {
            let (line, step) = place(side);
            [line, step]
        }
    };
    let ([left_m, left_k], [right_n, right_k]) =
        (split(along_sum[0], rows), split(along_sum[1], cols));
    [("left_m", left_m), ("left_k", left_k), ("right_n", right_n), ("right_k", right_k)]
}

/// How the points of both sources of a product of matrices are named, and the statements that find the batch's.
pub(super) struct MatMulPoints {
    pub(super) before: String,
    pub(super) points: [Point; 2],
}

impl MatMulPoints {
    pub(super) fn new(batch: &[usize], [m, n, k]: [usize; 3]) -> MatMulPoints {
        let (before, names) = coordinates(batch, "g", "g", "    ");
        let point = |rows: usize, cols: usize, row: &str, col: &str| Point {
            coordinates: [names.as_slice(), &[row.to_string(), col.to_string()]].concat(),
            flat: Some(format!("((g * {rows}u + {row}) * {cols}u + {col})")),
        };
        let points = [point(m, k, "m", "k"), point(k, n, "k", "n")];
        MatMulPoints { before, points }
    }
}

impl Renderer<'_> {
    pub(super) fn contract(
        &self,
        contraction: &Contraction,
        [left, right]: [TermId; 2],
        splits: usize,
        row_stores: &[Store],
        stores: &[Store],
    ) -> Source {
        let [_, m, n, k] = contraction.matrix();
        let algorithm = self.algorithm;
        let shared = algorithm == Algorithm::Subgroups;
        let cooperative = self.cooperative_tile(contraction, splits);
        let lanes = self.limits.subgroup;
        let stripe = 4 * lanes;
        // Subgroups beside each other, as far as there are columns; the others lie below.
        let across = if shared {
            n.div_ceil(stripe).next_power_of_two().clamp(1, 32 / lanes.min(32))
        } else {
            1
        };
        let rows = subgroup::rows(contraction, splits);
        let tile = Tile::of(contraction, splits, self.limits, self.variant.tile);
        let (height, width) = match algorithm {
            Algorithm::Cooperative => (cooperative.rows, cooperative.cols),
            Algorithm::Tiled => (tile.rows, tile.cols),
            Algorithm::Subgroups => (64 / lanes / across * rows, across * stripe),
            Algorithm::Direct => direct_tile(contraction).into(),
        };
        let (tiles_m, tiles_n) = (m.div_ceil(height), n.div_ceil(width));
        let tiles = contraction.tiles([height, width], splits);
        let mut sources = match contraction {
            Contraction::MatMul { batch, .. } => self.matmul_sources(batch, [m, n, k], left, right),
            Contraction::Conv(conv, role) => self.conv_sources(conv, *role, left, right),
        };
        sources += &self.vector_functions();
        sources += &self.keep(contraction, splits, stores);
        sources += &self.keep_row(contraction, splits, row_stores);
        let mut holes = self.frame();
        holes.extend([
            ("sources", sources),
            ("tiles_m", tiles_m.to_string()),
            ("tiles_n", tiles_n.to_string()),
            ("tiles_mn", (tiles_m * tiles_n).to_string()),
            ("splits", splits.to_string()),
            ("chunk", k.div_ceil(splits).to_string()),
            ("m", m.to_string()),
            ("n", n.to_string()),
            ("k", k.to_string()),
        ]);
        let sums = !row_stores.is_empty();
        if algorithm == Algorithm::Tiled {
            let along_sum = along_sum(&self.kernel.expr, contraction, [left, right]);
            return self.tiled(tile, along_sum, (contraction, splits), sums, holes);
        }
        holes.push(("tiles", tiles.to_string()));
        if algorithm == Algorithm::Direct {
            let [add_rows, keep_rows] = if sums { ["z += a;", KEEP_ROWS] } else { ["", ""] };
            holes.extend([
                ("down", (height / 4).to_string()),
                ("across", (width / 4).to_string()),
                ("add_rows", add_rows.to_string()),
                ("keep_rows", keep_rows.replace("{{m}}", &m.to_string())),
            ]);
            return self.alone_in(shaders::CONTRACT_DIRECT, &holes, tiles, SIZE);
        }
        let (grid, line) = self.grid(tiles);
        holes.push(("line", line.to_string()));
        if shared {
            holes.extend([
                ("height", height.to_string()),
                ("width", width.to_string()),
                ("across", across.to_string()),
                ("stripe", stripe.to_string()),
            ]);
            self.subgroups(contraction, splits, rows, sums, &mut holes);
            return Ok(Family::own(shaders::fill(shaders::CONTRACT_SUBGROUP, &holes)?, grid));
        }
        let along_sum = match self.fours {
            Some(fours) => fours.map(|(_, along)| along == Along::Sum),
            None => along_sum(&self.kernel.expr, contraction, [left, right]),
        };
        self.cooperative(cooperative, along_sum, m, sums, &mut holes)?;
        Ok(Family::own(shaders::fill(shaders::CONTRACT_COOPERATIVE, &holes)?, grid))
    }

    pub(super) fn matmul_sources(
        &self,
        batch: &[usize],
        [m, n, k]: [usize; 3],
        left: TermId,
        right: TermId,
    ) -> String {
        let MatMulPoints { before, points: [a, b] } = MatMulPoints::new(batch, [m, n, k]);
        self.function("left(g: u32, m: u32, k: u32)", &before, &a, left)
            + &self.function("right(g: u32, k: u32, n: u32)", &before, &b, right)
    }

    pub(super) fn conv_sources(
        &self,
        c: &Conv,
        role: ConvRole,
        left: TermId,
        right: TermId,
    ) -> String {
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

    /// The function that stores the sum of one row, if any is stored.
    fn keep_row(&self, contraction: &Contraction, splits: usize, stores: &[Store]) -> String {
        if stores.is_empty() {
            return String::new();
        }
        let [groups, m, ..] = contraction.matrix();
        let rows = groups * m;
        let mut shape = contraction.rows();
        if splits > 1 {
            shape.insert(0, splits);
        }
        let (text, names) = coordinates(&shape, "at", "c", "    ");
        let point = Point { coordinates: names, flat: Some("at".into()) };
        let expr = &self.kernel.expr;
        let mut body = format!(
            "    let at = split * {rows}u + g * {m}u + m;
{text}"
        );
        body += &self.accumulators(expr, &["", "sum"]);
        body += &self.stores(expr, stores, &accumulated(expr), &point, "at", "    ");
        format!(
            "fn keep_row(split: u32, g: u32, m: u32, sum: f32) {{
{body}}}
"
        )
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
}
