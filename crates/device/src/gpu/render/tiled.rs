//! Contractions through workgroup memory: which elements of a tile an invocation loads, multiplies and keeps.

use super::contract::staged;
use super::{Family, Hole, Renderer, Source};
use crate::{Contraction, Tile};
use shadegrad_shaders as shaders;
use std::fmt::Write;

impl Renderer<'_> {
    /// The shader for tiles of a size. `along_sum` says of each source whether its neighbours in memory are the steps of the sum.
    pub(super) fn tiled(
        &self,
        tile: Tile,
        along_sum: [bool; 2],
        (contraction, splits): (&Contraction, usize),
        row_sums: bool,
        mut holes: Vec<Hole>,
    ) -> Source {
        let [_, m, n, k] = contraction.matrix();
        let Tile { rows, cols, steps, each: [high, wide], slices } = tile;
        let even = |whole: usize, part: usize| part > 0 && whole.is_multiple_of(part);
        if ![(high, 4), (wide, 4), (rows, high), (cols, wide), (steps, slices)]
            .into_iter()
            .all(|(whole, part)| even(whole, part))
        {
            return Err(format!("{tile:?}, whose parts don't come out even"));
        }
        let (invocations, own) = (tile.invocations(), tile.own());
        let (down, across) = (rows / high, cols / wide);
        let (left_pitch, right_pitch) = (Tile::pitch(rows), Tile::pitch(cols));
        let right_first = steps * left_pitch;
        // Vectors of rows and of columns that an invocation holds.
        let (tall, broad) = (high / 4, wide / 4);
        let [mut begin, mut load, mut put, mut multiply, mut keep_all] =
            [const { String::new() }; 5];
        for (row, col) in points(high, broad) {
            let _ = writeln!(begin, "    var s{row}_{col} = vec4<f32>();");
        }
        let chunk = k.div_ceil(splits);
        let whole = k > 0 && splits * chunk == k && chunk.is_multiple_of(steps);
        for (name, first, letter, side, extent, hole) in [
            ("left", "top", "m", rows, m, "left_four"),
            ("right", "side", "n", cols, n, "right_four"),
        ] {
            let quads = side / 4 * steps;
            for turn in 0..quads.div_ceil(invocations) {
                let at = turn * invocations;
                let value = format!("{name}{turn}");
                let guard = match at + invocations > quads {
                    true => format!("if (lane < {}u) ", quads - at),
                    false => String::new(),
                };
                let _ = writeln!(begin, "    var {value} = vec4<f32>();");
                let _ = writeln!(
                    load,
                    "        {guard}{{ {value} = fetch_{name}(g, {first}, base, end, lane + {at}u); }}"
                );
                let _ = writeln!(put, "        {guard}{{ put_{name}(lane + {at}u, {value}); }}");
            }
            // What lies outside of the matrix or the range counts as zero.
            let element = |number: usize| match name {
                "left" => format!("left(g, m + {number}u, k)"),
                _ => format!("right(g, k, n + {number}u)"),
            };
            let elements = [0, 1, 2, 3].map(element);
            let within = if whole { "true" } else { "k < end" };
            holes.push((
                hole,
                if extent.is_multiple_of(4) {
                    let edge = match extent.is_multiple_of(side) {
                        true => String::new(),
                        false => format!(" && {letter} < {extent}u"),
                    };
                    let all = elements.join(", ");
                    format!("    if ({within}{edge}) {{ value = vec4<f32>({all}); }}")
                } else {
                    let each = |(number, element): (usize, &String)| {
                        format!(
                            "    if ({within} && {letter} + {number}u < {extent}u) {{ value[{number}] = {element}; }}"
                        )
                    };
                    elements.iter().enumerate().map(each).collect::<Vec<_>>().join("\n")
                },
            ));
        }
        for step in 0..steps / slices {
            let k = match slices {
                1 => format!("{step}u"),
                _ => format!("slice * {}u + {step}u", steps / slices),
            };
            let _ = writeln!(multiply, "        {{\n            let k = {k};");
            for row in 0..tall {
                let _ = writeln!(
                    multiply,
                    "            let a{row} = tiles[k * {left_pitch}u + y + {}u];",
                    row * down
                );
                if row_sums {
                    let _ = writeln!(multiply, "            z{row} += a{row};");
                }
            }
            for col in 0..broad {
                let _ = writeln!(
                    multiply,
                    "            let b{col} = tiles[{right_first}u + k * {right_pitch}u + x + {}u];",
                    col * across
                );
            }
            for (row, col) in points(high, broad) {
                let _ = writeln!(
                    multiply,
                    "            s{row}_{col} = fma(vec4<f32>(a{}[{}]), b{col}, s{row}_{col});",
                    row / 4,
                    row % 4
                );
            }
            multiply += "        }\n";
        }
        // Rows of each invocation that are kept in one round: as many as there is memory for.
        let line = own * broad;
        let round = (tile.vectors() / (slices * line)).min(high);
        if round == 0 {
            return Err(format!("tiles of {rows} x {cols} whose sums don't fit workgroup memory"));
        }
        for first in (0..high).step_by(round) {
            let count = round.min(high - first);
            for (row, col) in points(count, broad) {
                let _ = writeln!(
                    keep_all,
                    "    tiles[(slice * {count}u + {row}u) * {line}u + y * {}u + x + {}u] = s{}_{col};",
                    cols / 4,
                    col * across,
                    first + row
                );
            }
            let _ = writeln!(
                keep_all,
                "    keep_round(split, g, top, side, lane, {first}u, {count}u);"
            );
        }
        let mut keep_rows = String::new();
        if row_sums {
            let vectors = rows / 4;
            keep_rows += "    if (tile_col == 0u) {\n        if (x == 0u) {\n";
            for row in 0..tall {
                let _ = writeln!(begin, "    var z{row} = vec4<f32>();");
                let _ = writeln!(
                    keep_rows,
                    "            tiles[slice * {vectors}u + y + {}u] = z{row};",
                    row * down
                );
            }
            let _ = write!(
                keep_rows,
                "        }}
        workgroupBarrier();
        for (var m = lane; m < {rows}u; m += {invocations}u) {{
            var sum = 0.0;
            for (var part = 0u; part < {slices}u; part += 1u) {{ sum += tiles[part * {vectors}u + m / 4u][m % 4u]; }}
            if (top + m < {m}u) {{ keep_row(split, g, top + m, sum); }}
        }}
        workgroupBarrier();
    }}
"
            );
        }
        holes.extend(staged(along_sum, [rows / 4, cols / 4], steps, 1));
        holes.extend([
            ("invocations", invocations.to_string()),
            ("height", rows.to_string()),
            ("width", cols.to_string()),
            ("steps", steps.to_string()),
            ("slices", slices.to_string()),
            ("own", own.to_string()),
            ("across", across.to_string()),
            ("down", down.to_string()),
            ("vectors", tile.vectors().to_string()),
            ("left_pitch", left_pitch.to_string()),
            ("right_pitch", right_pitch.to_string()),
            ("right_first", right_first.to_string()),
            ("elements", (line * 4).to_string()),
            ("begin", begin),
            ("load", load),
            ("put", put),
            ("multiply", multiply),
            ("keep_rows", keep_rows),
            ("keep_all", keep_all),
        ]);
        Family::of(shaders::CONTRACT_TILED, holes, tile.workgroups(contraction, splits))
    }
}

fn points(rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..cols).map(move |col| (row, col)))
}
