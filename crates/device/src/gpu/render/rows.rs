//! Row kernels: reductions of each row, then stores of rows and elements.

use super::super::term::{Point, coordinates, literal, missing, terms};
use super::{Renderer, Source};
use crate::{Body, Combine, DType, DeviceClass, Expr, Reduction, Term, TermId, numel};
use shadegrad_shaders as shaders;
use std::fmt::Write;

impl Renderer<'_> {
    pub(super) fn rows(&self) -> Source {
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

    /// Prints the wanted terms that don't depend on the column and marks them done.
    pub(super) fn row_level(
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
