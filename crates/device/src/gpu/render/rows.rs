//! Row kernels: reductions of each row, then stores of rows and elements.

use super::super::term::{Point, address, coordinates, literal, missing, terms};
use super::{Family, Renderer, Source};
use crate::team::{Team, joined_rows};
use crate::{Body, Combine, DType, Expr, Reduction, Term, TermId, numel};
use shadegrad_shaders as shaders;
use std::fmt::Write;

impl Renderer<'_> {
    pub(super) fn rows(&self) -> Source {
        let Body::Rows { rows, cols, layout, reductions, row_stores, stores } = &self.kernel.body
        else {
            return Err("not a row kernel".into());
        };
        let (row_count, col_count) = (numel(rows), numel(cols));
        let shape = self.kernel.body.domain();
        let (expr, groups, split) = joined_rows(self.kernel).ok_or("not a row kernel")?;
        let joined: Vec<usize> = groups.iter().map(|g| numel(&shape[g.clone()])).collect();
        let team = Team::of(self.kernel, self.limits, self.variant.grouped);
        let team = team.ok_or("not a row kernel")?;
        let grouped = team.lanes > 1;
        let size = team.rows * team.lanes;
        let (mut body, mut names) = coordinates(&joined[..split], "r", "r", "    ");
        let (columns, column_names) = coordinates(&joined[split..], "c", "c", "        ");
        names.extend(column_names);
        let point = Point { coordinates: names, flat: Some(format!("(r * {col_count}u + c)")) };
        let row_point = Point { flat: None, coordinates: point.coordinates.clone() };
        let by_row = expr.uniform(split..joined.len());
        let mut done = vec![false; expr.terms.len()];
        let first = if grouped { "own" } else { "0u" };
        let lanes = team.lanes;
        let header =
            format!("for (var c = {first}; c < {col_count}u; c += {lanes}u) {{\n{columns}");
        let mut shared = String::new();
        for pass in self.kernel.body.passes(&expr) {
            let roots: Vec<TermId> = reductions[pass.clone()].iter().map(|r| r.term).collect();
            let wanted = missing(&expr, &roots, &done);
            body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
            let inner: Vec<bool> = wanted.iter().zip(&by_row).map(|(&w, &r)| w && !r).collect();
            let inner = terms(self.kernel, &expr, &inner, self.bindings, &point, "        ");
            let dtype = |reduction: &Reduction| expr.types[reduction.term];
            for (number, reduction) in reductions.iter().enumerate().take(pass.end).skip(pass.start)
            {
                let identity = literal(reduction.combine.identity(dtype(reduction)));
                let name = dtype(reduction).wgsl();
                let _ = writeln!(body, "    var a{number}: {name} = {identity};");
            }
            let numbered: Vec<(usize, &Reduction)> =
                pass.clone().map(|number| (number, &reductions[number])).collect();
            let step = |(number, reduction): &(usize, &Reduction)| {
                let (a, b) = (format!("a{number}"), format!("t{}", reduction.term));
                format!("        {a} = {};\n", combine(reduction, dtype(reduction), &a, &b))
            };
            let is_sum = |(_, reduction): &&(usize, &Reduction)| {
                reduction.combine == Combine::Sum && dtype(reduction) == DType::F32
            };
            if col_count > (if grouped { 64 * lanes } else { 16 })
                && numbered.iter().any(|r| is_sum(&r))
            {
                let others: String = numbered.iter().filter(|r| !is_sum(r)).map(step).collect();
                let sums: Vec<(usize, TermId)> =
                    numbered.iter().filter(is_sum).map(|(number, r)| (*number, r.term)).collect();
                let inner = format!("{columns}{inner}{others}");
                body += &partial_sums(col_count, &sums, (first, lanes), &inner);
            } else {
                let steps: String = numbered.iter().map(step).collect();
                let _ = writeln!(body, "    {header}{inner}{steps}    }}");
            }
            for (number, reduction) in numbered {
                if grouped {
                    let name = dtype(reduction).wgsl();
                    if !shared.contains(&format!("w_{name}:")) {
                        let _ = writeln!(shared, "var<workgroup> w_{name}: array<{name}, {size}>;");
                    }
                    body += &tree(number, reduction, dtype(reduction), &team);
                }
                for (id, term) in expr.terms.iter().enumerate() {
                    if *term == Term::Accumulator(number) {
                        let _ = writeln!(body, "    let t{id} = a{number};");
                        done[id] = true;
                    }
                }
            }
        }
        let row_roots: Vec<TermId> = row_stores.iter().map(|s| s.term).collect();
        let wanted = missing(&expr, &row_roots, &done);
        body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
        let row_text = self.stores(&expr, row_stores, &done, &row_point, "r", "    ");
        match grouped && !row_stores.is_empty() {
            true => _ = writeln!(body, "    if (own == 0u && real) {{\n{row_text}    }}"),
            false => body += &row_text,
        }
        if !stores.is_empty() {
            let roots: Vec<TermId> = stores.iter().map(|s| s.term).collect();
            let wanted = missing(&expr, &roots, &done);
            body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
            let at = match layout.is_contiguous() {
                true => format!("(r * {col_count}u + c)"),
                false => format!("({})", address(&layout.join(&groups), &point)),
            };
            let text = self.stores(&expr, stores, &done, &point, &at, "        ");
            let _ = match grouped {
                true => writeln!(body, "    if (real) {{\n    {header}{text}    }}\n    }}"),
                false => writeln!(body, "    {header}{text}    }}"),
            };
        }
        let mut holes = self.frame();
        holes.extend([("rows", row_count.to_string()), ("body", body)]);
        if !grouped {
            holes.push(("size", size.to_string()));
            return self.alone(shaders::ROWS_SINGLE, &holes, row_count);
        }
        let (own, row) = match (team.rows, team.beside) {
            (1, _) => ("lane".to_string(), "0u".to_string()),
            (rows, true) => (format!("lane / {rows}u"), format!("lane % {rows}u")),
            (_, false) => (format!("lane % {lanes}u"), format!("lane / {lanes}u")),
        };
        holes.extend([("own", own), ("row", row), ("block", team.rows.to_string())]);
        holes.extend([("lanes", lanes.to_string()), ("shared", shared)]);
        let workgroups = team.workgroups(self.kernel).ok_or("not a row kernel")?;
        Family::of(shaders::ROWS_GROUP, holes, workgroups)
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

/// The loops of sums of `count` elements in one invocation, the first and every so many-th of a row, each an accumulator's number
/// and the term that is added: partial sums of about the root of the count (of the third root, where it is large), so that the
/// roundings of a sum stay few.
fn partial_sums(
    count: usize,
    sums: &[(usize, TermId)],
    (first, stride): (&str, usize),
    inner: &str,
) -> String {
    let own = count.div_ceil(stride);
    let levels = if own > 4096 { 3 } else { 2 };
    let side = (own as f64).powf(1.0 / f64::from(levels)).ceil() as usize;
    let side = side.next_power_of_two();
    let mut text = String::new();
    // The range that a level goes through.
    let (mut from, mut to) = (first.to_string(), format!("{count}u"));
    for level in (1..levels).rev() {
        let size = side.pow(level) * stride;
        let _ = writeln!(
            text,
            "    for (var p{level} = {from}; p{level} < {to}; p{level} += {size}u) {{"
        );
        for (number, _) in sums {
            let _ = writeln!(text, "    var s{level}_{number} = 0.0;");
        }
        to = format!("min(p{level} + {size}u, {count}u)");
        from = format!("p{level}");
    }
    let _ = writeln!(text, "    for (var c = {from}; c < {to}; c += {stride}u) {{\n{inner}");
    for (number, term) in sums {
        let _ = writeln!(text, "        s1_{number} += t{term};");
    }
    text += "    }\n";
    for level in 1..levels {
        for (number, _) in sums {
            let above = level + 1;
            let outer = match above == levels {
                true => format!("a{number}"),
                false => format!("s{above}_{number}"),
            };
            let _ = writeln!(text, "    {outer} += s{level}_{number};");
        }
        text += "    }\n";
    }
    text
}

fn combine(reduction: &Reduction, dtype: DType, a: &str, b: &str) -> String {
    let suffix = if dtype == DType::F32 { "_nan" } else { "" };
    match reduction.combine {
        Combine::Sum => format!("{a} + {b}"),
        Combine::Prod => format!("{a} * {b}"),
        Combine::Max => format!("max{suffix}({a}, {b})"),
        Combine::Min => format!("min{suffix}({a}, {b})"),
    }
}

/// Folds the partial results of each row in the array of their type and gives all its invocations the total. The array is free
/// again afterwards.
fn tree(number: usize, reduction: &Reduction, dtype: DType, team: &Team) -> String {
    let array = format!("w_{}", dtype.wgsl());
    let mut text = format!("    {array}[lane] = a{number};\n    workgroupBarrier();\n");
    // From an invocation of a row to its next one.
    let stride = if team.beside { team.rows } else { 1 };
    let mut half = team.lanes / 2;
    while half > 0 {
        let (a, b) = (format!("{array}[lane]"), format!("{array}[lane + {}u]", half * stride));
        let step = combine(reduction, dtype, &a, &b);
        let _ =
            writeln!(text, "    if (own < {half}u) {{ {a} = {step}; }}\n    workgroupBarrier();");
        half /= 2;
    }
    let _ =
        writeln!(text, "    a{number} = {array}[lane - own * {stride}u];\n    workgroupBarrier();");
    text
}
