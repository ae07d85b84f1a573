//! Contractions in cooperative matrices: how sources lie in workgroup memory, and how matrices are loaded, multiplied and
//! stored, by the hardware or by what stands for it in tests.

use super::Renderer;
use super::contract::staged;
use crate::algorithm::CooperativeTile;
use crate::{Contraction, Matrices};
use shadegrad_shaders as shaders;
use std::fmt::Write;

/// How a source lies in workgroup memory.
struct Source {
    name: &'static str,
    /// What its matrices are to a multiplication.
    role: char,
    /// From one row of the left source, or column of the right one, to the next.
    by_side: usize,
    /// From one step of the sum to the next.
    by_sum: usize,
    /// How many halves of each kind there are.
    len: usize,
}

impl Source {
    /// As elements lie in memory, so neighbours stay neighbours.
    fn new(name: &'static str, role: char, side: usize, along_sum: bool) -> Source {
        let (steps, padding) = (CooperativeTile::STEPS, CooperativeTile::PADDING);
        let (by_side, by_sum, len) = match along_sum {
            true => (steps + padding, 1, side * (steps + padding)),
            false => (1, side + padding, steps * (side + padding)),
        };
        Source { name, role, by_side, by_sum, len }
    }

    /// Where a matrix of first or second halves begins, from `first` on the source's own side.
    fn at(&self, first: &str, half: usize) -> String {
        let at = format!("({first}) * {}u + step * {}u", self.by_side, self.by_sum);
        if half == 0 { at } else { format!("{}u + {at}", half * self.len) }
    }

    /// The expression that loads it from memory that is made of so many halves each.
    fn load(&self, Matrices { side, .. }: Matrices, at: &str, width: usize) -> String {
        let lines = if self.by_sum == 1 { self.by_side } else { self.by_sum } / width;
        let at = if width == 1 { at.to_string() } else { format!("({at}) / {width}u") };
        // Whether the numbers of columns, not those of rows, are next to each other.
        let row_major = (self.role == 'A') == (self.by_sum == 1);
        let suffix = if row_major { "T" } else { "" };
        let (name, role) = (self.name, self.role);
        format!(
            "coopLoad{suffix}<coop_mat{side}x{side}<f16, {role}>>(&tile_{name}[{at}], {lines}u)"
        )
    }
}

/// The products that a product of floats is: which half of either operand, and to which sums they go.
const PRODUCTS: [(usize, usize, usize); 3] = [(0, 0, 0), (0, 1, 1), (1, 0, 1)];

impl Renderer<'_> {
    /// What a workgroup computes: a large tile where there are enough of them to keep a large GPU busy. Software adapters, which
    /// emulate matrices in tests, would compile what holds many of them for long; there each subgroup has one of 16x16 or two of 8x8.
    pub(super) fn cooperative_tile(
        &self,
        contraction: &Contraction,
        splits: usize,
    ) -> CooperativeTile {
        if let Some(Matrices { side, .. }) = self.variant.emulated {
            let subgroups = if side < 16 { [1, 2] } else { [2, 1] };
            return CooperativeTile { rows: 2 * side, cols: subgroups[1] * side, subgroups };
        }
        let [g, m, n, _] = contraction.matrix();
        let large = CooperativeTile::large(self.limits.precision.halves().unwrap_or(1));
        let tiles = g * splits * m.div_ceil(large.rows) * n.div_ceil(large.cols);
        match tiles >= 128 && m.min(n) >= large.rows && large.fits(self.limits) {
            true => large,
            false => CooperativeTile::SMALL,
        }
    }

    /// The holes of the shader for cooperative matrices. `along_sum` says of each source whether its neighbours in memory are
    /// the steps of the sum.
    pub(super) fn cooperative(
        &self,
        tile: CooperativeTile,
        along_sum: [bool; 2],
        m: usize,
        row_sums: bool,
        holes: &mut Vec<(&'static str, String)>,
    ) -> Result<(), String> {
        let (Some(matrices), Some(halves)) = (self.limits.matrices, self.limits.precision.halves())
        else {
            return Err("a device without cooperative matrices".to_string());
        };
        let Matrices { side, lanes } = matrices;
        let elements = side * side;
        let [down, across] = tile.subgroups;
        let (rows, cols) = (tile.rows / down, tile.cols / across);
        let invocations = down * across * lanes;
        let sources = [
            Source::new("left", 'A', tile.rows, along_sum[0]),
            Source::new("right", 'B', tile.cols, along_sum[1]),
        ];
        let [left, right] = &sources;
        let emulated = self.variant.emulated.is_some();
        // Halves that are loaded and lie in memory together.
        let width = if self.fours.is_some() { 4 } else { 1 };
        let strides = [
            ("left_by_m", left.by_side.to_string()),
            ("left_by_k", left.by_sum.to_string()),
            ("right_by_n", right.by_side.to_string()),
            ("right_by_k", right.by_sum.to_string()),
        ];
        let [mut begin, mut multiply, mut keep_all] = [const { String::new() }; 3];
        let products = &PRODUCTS[..if halves == 1 { 1 } else { 3 }];
        for (source, (place, count)) in
            sources.iter().zip([("row", rows / side), ("col", cols / side)])
        {
            for (i, half) in (0..count).flat_map(|i| (0..halves).map(move |half| (i, half))) {
                let at = source.at(&format!("{place} + {}u", i * side), half);
                let value = if emulated { at } else { source.load(matrices, &at, width) };
                let _ = writeln!(multiply, "            let {}{i}_{half} = {value};", source.name);
            }
        }
        for (i, j) in (0..rows / side).flat_map(|i| (0..cols / side).map(move |j| (i, j))) {
            for half in 0..halves {
                let sums = format!("s{i}_{j}_{half}");
                let zeros = match emulated {
                    true => "Sums()".to_string(),
                    false => format!("coop_mat{side}x{side}<f32, C>()"),
                };
                let _ = writeln!(begin, "    var {sums} = {zeros};");
                let at = format!("own + {}u", half * elements);
                let _ = match emulated {
                    true => writeln!(keep_all, "    put_sums({at}, &{sums}, member);"),
                    false => {
                        writeln!(keep_all, "    coopStoreT({sums}, &tile_sum[{at}], {side}u);")
                    }
                };
            }
            let _ = writeln!(
                keep_all,
                "    keep_matrix(split, g, top + row + {}u, side + col + {}u, own, member);",
                i * side,
                j * side
            );
            for (a, b, half) in products {
                let (a, b) = (format!("left{i}_{a}"), format!("right{j}_{b}"));
                let sums = format!("s{i}_{j}_{half}");
                let _ = match emulated {
                    true => {
                        writeln!(multiply, "            multiply_add({a}, {b}, &{sums}, member);")
                    }
                    false => {
                        writeln!(
                            multiply,
                            "            {sums} = coopMultiplyAdd({a}, {b}, {sums});"
                        )
                    }
                };
            }
        }
        let (floats, parts) = match width {
            1 => ("f32", "f16"),
            _ => ("vec4<f32>", "vec4<f16>"),
        };
        // Emulation has to round itself: conversions of software adapters cut off.
        let half = |value: &str| match emulated {
            true => format!("f16(half({value}))"),
            false => format!("{parts}({value})"),
        };
        let second = |name: &str, len: usize| match halves {
            1 => String::new(),
            _ => {
                let rest = half("(value - high) * 2048.0");
                format!("tile_{name}[at + {}u] = {rest};", len / width)
            }
        };
        // Of two halves the first is rounded by bits, or below 2^-14 to a multiple of 2^-24: compilers take a conversion to a half
        // and back for none.
        let words = floats.replace("f32", "u32");
        let high = match halves {
            1 => "value".to_string(),
            _ => {
                let normal = format!(
                    "bitcast<{floats}>((bitcast<{words}>(value) + {words}(0x1000u)) & {words}(0xffffe000u))"
                );
                let power = |n: i32| format!("{:?}", f32::powi(2.0, n));
                let small = format!("round(value * {}) * {}", power(24), power(-24));
                format!("select({normal}, {small}, abs(value) < {floats}({}))", power(-14))
            }
        };
        if row_sums && invocations < CooperativeTile::STEPS {
            return Err(format!("sums of rows by {invocations} invocations"));
        }
        // An invocation has loaded of so many rows, of which those of all invocations are together in a round.
        let summed = row_sums.then(|| match along_sum[0] {
            true => {
                let steps = CooperativeTile::STEPS;
                let rows = invocations / steps;
                (tile.rows / rows, rows, steps, format!("lane * {steps}u + part"))
            }
            false => {
                let rows = tile.rows.min(invocations);
                let at = format!("lane + part * {}u", tile.rows);
                (tile.rows / rows, rows, invocations.div_ceil(tile.rows), at)
            }
        });
        let [mut load, mut put] = [const { String::new() }; 2];
        for (source, extent) in sources.iter().zip([tile.rows, tile.cols]) {
            let name = source.name;
            let turns = extent * CooperativeTile::STEPS / invocations / width;
            let origin = if name == "left" { "top" } else { "side" };
            let fetch = |at: &str| format!("fetch_{name}(g, {origin}, base, end, {at})");
            let add_rows = match &summed {
                Some((rounds, ..)) if name == "left" => format!("z[t % {rounds}u] += value;"),
                _ => String::new(),
            };
            if emulated || !add_rows.is_empty() {
                // A loop: software adapters would compile for long what is written out, and sums of rows are an array.
                let _ = writeln!(
                    put,
                    "        for (var t = 0u; t < {turns}u; t += 1u) {{
            let at = t * {invocations}u + lane;
            let value = {};
            put_{name}(at, value);
            {add_rows}
        }}",
                    fetch("at")
                );
                continue;
            }
            for turn in 0..turns {
                let at = format!("lane + {}u", turn * invocations);
                let _ = writeln!(load, "        let next_{name}{turn} = {};", fetch(&at));
                let _ = writeln!(put, "        put_{name}({at}, next_{name}{turn});");
            }
        }
        let sum = match halves {
            1 => "tile_sum[own + at]".to_string(),
            _ => format!(
                "tile_sum[own + at] + tile_sum[own + {elements}u + at] * {:?}",
                1.0 / 2048.0
            ),
        };
        let mut keep_rows = String::new();
        if let Some((rounds, rows, parts, at)) = summed {
            let _ = writeln!(begin, "    var z = array<f32, {rounds}>();");
            keep_rows = format!(
                "    if (tile_col == 0u) {{
        for (var round = 0u; round < {rounds}u; round += 1u) {{
            tile_sum[lane] = z[round];
            workgroupBarrier();
            let m = top + round * {rows}u + lane;
            if (lane < {rows}u && m < {m}u) {{
                var sum = 0.0;
                for (var part = 0u; part < {parts}u; part += 1u) {{ sum += tile_sum[{at}]; }}
                keep_row(split, g, m, sum);
            }}
            workgroupBarrier();
        }}
    }}"
            );
        }
        let emulation = match emulated {
            true => {
                let mut holes = strides.to_vec();
                holes.extend([
                    ("lanes", lanes.to_string()),
                    ("side", side.to_string()),
                    ("held", (elements / lanes).to_string()),
                ]);
                shaders::fill(shaders::COOPERATIVE_EMULATED, &holes)?
            }
            false => String::new(),
        };
        let sides = [tile.rows, tile.cols];
        holes.extend(staged(along_sum, sides, CooperativeTile::STEPS, width));
        holes.extend(strides);
        let vectors = if width == 1 { "" } else { "4" };
        for name in ["left", "right"] {
            let hole = if name == "left" { "load_left" } else { "load_right" };
            holes.push((hole, format!("{name}{vectors}")));
        }
        holes.extend([
            ("matrices", emulation),
            ("side", side.to_string()),
            ("lanes", lanes.to_string()),
            ("halves", halves.to_string()),
            ("steps", CooperativeTile::STEPS.to_string()),
            ("invocations", invocations.to_string()),
            ("height", tile.rows.to_string()),
            ("width", tile.cols.to_string()),
            ("rows", rows.to_string()),
            ("cols", cols.to_string()),
            ("across", across.to_string()),
            ("own", (halves * elements).to_string()),
            ("left_size", (halves * left.len / width).to_string()),
            ("right_size", (halves * right.len / width).to_string()),
            ("width_of", width.to_string()),
            ("floats", floats.to_string()),
            ("parts", parts.to_string()),
            ("high", high),
            ("half", half("high")),
            ("load", load),
            ("put", put),
            ("sum_size", (down * across * halves * elements).to_string()),
            ("elements", elements.to_string()),
            ("second_left", second("left", left.len)),
            ("second_right", second("right", right.len)),
            ("sum", sum),
            ("begin", begin),
            ("multiply", multiply),
            ("keep_rows", keep_rows),
            ("keep_all", keep_all),
        ]);
        Ok(())
    }
}
