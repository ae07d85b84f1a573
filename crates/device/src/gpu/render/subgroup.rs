//! Loads of four elements at once, where they lie beside each other, and contractions in subgroups: how the elements of a few
//! steps of the sum are loaded, and multiplied.

use super::super::term::address;
use super::contract::MatMulPoints;
use super::{Renderer, SIZE};
use crate::{Algorithm, Body, Contraction, DType, Kernel, Limits, Term, TermId, Variant};
use std::fmt::Write;

/// Steps of the sum in a turn of the loop, and elements of a vector.
const STEPS: usize = 4;

/// Along which axis of a matrix vectors of four elements are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// The summed one.
    Sum,
    /// The rows of the left source, the columns of the right one.
    Side,
}

/// How both sources of a product are loaded in vectors: their operands, and along which axes.
pub(super) type Fours = [(usize, Along); 2];

/// The operand of a source and along which axis its elements lie in fours, if they do. Axis `sum` of the matrix is the
/// summed one.
pub(super) fn lies(kernel: &Kernel, term: TermId, sum: usize) -> Option<(usize, Along)> {
    let Term::Load { operand, view } = &kernel.expr.terms[term] else { return None };
    let rank = view.shape.len().checked_sub(2)?;
    let memory = &kernel.operands[*operand];
    let begins = memory.offset.is_multiple_of(16) && view.offset % 4 == 0;
    let fours = |along: usize| {
        let others = (0..view.shape.len()).filter(|&axis| axis != along && view.shape[axis] > 1);
        view.strides[along] == 1
            && view.shape[along].is_multiple_of(4)
            && others.map(|axis| view.strides[axis]).all(|stride| stride % 4 == 0)
    };
    let along = match (fours(rank + sum), fours(rank + 1 - sum)) {
        (true, _) => Along::Sum,
        (_, true) => Along::Side,
        _ => return None,
    };
    (begins && memory.dtype == DType::F32 && !view.is_masked()).then_some((*operand, along))
}

/// How a kernel's sources are loaded in vectors, if it is a product that is worth the code.
pub(super) fn in_fours(
    kernel: &Kernel,
    limits: &Limits,
    variant: &Variant,
    algorithm: Algorithm,
) -> Option<Fours> {
    let Body::Contract { row_stores, .. } = &kernel.body else { return None };
    // Cooperative matrices are loaded from vectors in workgroup memory on Vulkan only, and sums of rows are of single elements.
    let vulkan = limits.matrices.is_some_and(|matrices| matrices.side == 16);
    let single = variant.emulated.is_some() || !vulkan || !row_stores.is_empty();
    if algorithm == Algorithm::Cooperative && single {
        return None;
    }
    if !variant.vectors.unwrap_or(kernel.body.flops() >= PAYS) {
        return None;
    }
    fours(kernel)
}

/// How a kernel's sources can be loaded in vectors, if it is a product of two matrices that lie in memory in fours.
pub(super) fn fours(kernel: &Kernel) -> Option<Fours> {
    let Body::Contract { contraction, left, right, splits, .. } = &kernel.body else {
        return None;
    };
    let Contraction::MatMul { k, .. } = contraction else { return None };
    // Vectors along the sum must not begin in the middle of a range of it.
    let whole = k.div_ceil(*splits).is_multiple_of(STEPS);
    let found = |term: TermId, sum: usize| {
        lies(kernel, term, sum).filter(|(_, along)| whole || *along == Along::Side)
    };
    Some([found(*left, 1)?, found(*right, 0)?])
}

/// Rows that eight invocations load.
const BLOCK: usize = 8;

/// Multiplications and additions from which on vectors are worth the code that they are.
const PAYS: u64 = 1 << 24;
/// Blocks of rows that a subgroup may have, with the multiplications and additions from which on they are worth the code, and the
/// workgroups that there must be, so that all cores have some: software adapters mostly run on a few.
const BLOCKS: [(usize, u64, usize); 2] = [(4, 1 << 30, 16), (2, 1 << 26, 4)];

/// Rows of a subgroup, in blocks: what is loaded for the columns serves all of them. Each block is more code, which takes about
/// as long to compile as it saves in a few dozen steps of contractions so large.
pub(super) fn rows(contraction: &Contraction, splits: usize) -> usize {
    let [groups, m, n, _] = contraction.matrix();
    let pays = |&(blocks, operations, workgroups): &(usize, u64, usize)| {
        let rows = blocks * BLOCK;
        // Four columns for each invocation of a workgroup, however its subgroups lie; little may be computed past the last row.
        let found = groups * splits * m * n / (rows * 4 * SIZE);
        contraction.flops() >= operations
            && found >= workgroups
            && m.next_multiple_of(rows) * 3 <= m * 4
    };
    BLOCK * BLOCKS.iter().find(|&blocks| pays(blocks)).map_or(1, |(blocks, ..)| *blocks)
}

impl Renderer<'_> {
    /// The holes of the shader for subgroups: how rows and columns are loaded, multiplied and stored.
    pub(super) fn subgroups(
        &self,
        contraction: &Contraction,
        splits: usize,
        rows: usize,
        row_stores: bool,
        holes: &mut Vec<(&'static str, String)>,
    ) {
        let [_, m, n, k] = contraction.matrix();
        let [left, right] = match self.fours {
            Some(fours) => fours.map(|(_, along)| Some(along)),
            None => [None; 2],
        };
        let steps = if self.fours.is_some() { STEPS } else { 1 };
        // Past the end of the range, zeros are added.
        let whole = k.div_ceil(splits).is_multiple_of(steps) && k.is_multiple_of(steps);
        let vector = |load: &dyn Fn(&str) -> String, step: &str| match whole {
            true => load(&format!("k + {step}")),
            false => {
                let value = load(&format!("min(k + {step}, end - 1u)"));
                format!("select(vec4<f32>(), {value}, k + {step} < end)")
            }
        };
        let [mut begin, mut load, mut multiply, mut add_rows, mut keep_rows] =
            [const { String::new() }; 5];
        for block in 0..rows / BLOCK {
            let first = block * BLOCK;
            let last = m - 1;
            let _ =
                writeln!(begin, "    let own{block} = min(row + {first}u + lane % 8u, {last}u);");
            let value = match left {
                None => format!("left(g, own{block}, k)"),
                Some(Along::Sum) => format!("left4(g, own{block}, k)"),
                Some(Along::Side) => {
                    let row = format!("min(row + {first}u + lane % 2u * 4u, {}u)", m - 4);
                    vector(&|k| format!("left4(g, {row}, {k})"), "lane / 2u % 4u")
                }
            };
            let _ = writeln!(load, "        let a{block} = {value};");
            if !row_stores {
                continue;
            }
            let _ = writeln!(begin, "    var z{block} = 0.0;");
            let mut finish = String::new();
            match left {
                None => {
                    let _ = writeln!(add_rows, "        z{block} += a{block};");
                }
                Some(Along::Sum) => {
                    let sum = (0..steps)
                        .fold(format!("z{block}"), |sum, u| format!("({sum} + a{block}[{u}])"));
                    let _ = writeln!(add_rows, "        z{block} = {sum};");
                }
                // Other invocations have the row's elements.
                Some(Along::Side) => {
                    finish = format!(
                        "for (var k = first; k < end; k += 1u) {{ z{block} += left(g, own{block}, k); }}"
                    );
                }
            }
            let _ = writeln!(
                keep_rows,
                "    if (side == 0u && lane < 8u && row + {first}u + lane < {m}u) {{\n        {finish}\n        keep_row(split, g, row + {first}u + lane, z{block});\n    }}"
            );
        }
        if right == Some(Along::Sum) {
            for c in 0..4 {
                let _ = writeln!(load, "        let w{c} = right4(g, k, c{c});");
            }
        }
        for u in 0..steps {
            let value = match right {
                None => {
                    let all = [0, 1, 2, 3].map(|c| format!("right(g, k, c{c})"));
                    format!("vec4<f32>({})", all.join(", "))
                }
                Some(Along::Sum) => format!("vec4<f32>(w0[{u}], w1[{u}], w2[{u}], w3[{u}])"),
                Some(Along::Side) => {
                    let last = n - 4;
                    vector(&|k| format!("right4(g, {k}, min(col, {last}u))"), &format!("{u}u"))
                }
            };
            let _ = writeln!(load, "        let b{u} = {value};");
        }
        for row in 0..rows {
            let (block, own) = (row / BLOCK, row % BLOCK);
            let element = |u: usize| match left {
                None => format!("subgroupBroadcast(a{block}, {own}u)"),
                Some(Along::Sum) => format!("subgroupBroadcast(a{block}[{u}], {own}u)"),
                Some(Along::Side) => {
                    format!("subgroupBroadcast(a{block}[{}], {}u)", own % 4, 2 * u + own / 4)
                }
            };
            let _ = writeln!(begin, "    var s{row} = vec4<f32>();");
            let sum = (0..steps)
                .fold(format!("s{row}"), |sum, u| format!("({sum} + {} * b{u})", element(u)));
            let _ = writeln!(multiply, "        s{row} = {sum};");
        }
        let sums: Vec<String> = (0..rows).map(|row| format!("s{row}")).collect();
        holes.extend([
            ("rows", rows.to_string()),
            ("steps", steps.to_string()),
            ("begin", begin),
            ("load", load),
            ("multiply", multiply),
            ("add_rows", add_rows),
            ("keep_rows", keep_rows),
            ("sums", sums.join(", ")),
        ]);
    }

    /// `left4` and `right4`, four elements beside each other in memory, of a product that is loaded so.
    pub(super) fn vector_functions(&self) -> String {
        let (
            Some(_),
            Body::Contract {
                contraction: Contraction::MatMul { batch, m, n, k }, left, right, ..
            },
        ) = (self.fours, &self.kernel.body)
        else {
            return String::new();
        };
        let MatMulPoints { before, points } = MatMulPoints::new(batch, [*m, *n, *k]);
        let heads = ["left4(g: u32, m: u32, k: u32)", "right4(g: u32, k: u32, n: u32)"];
        let mut text = String::new();
        for ((term, head), point) in [left, right].into_iter().zip(heads).zip(&points) {
            if let Term::Load { operand, view } = &self.kernel.expr.terms[*term] {
                let operand = &self.kernel.operands[*operand];
                let load = self.bindings.load_four(operand, &address(view, point));
                let _ = write!(text, "fn {head} -> vec4<f32> {{\n{before}    return {load};\n}}\n");
            }
        }
        text
    }
}
