//! Row kernels: reductions of each row, then stores of rows and elements.

use super::super::term::{Point, address, coordinates, literal, missing, terms};
use super::{Family, Renderer, Source};
use crate::team::{Team, joined_rows};
use crate::{Body, Combine, DType, Expr, Reduction, Term, TermId, numel};
use shadegrad_shaders as shaders;
use std::fmt::Write;
use std::ops::Range;

/// What a row kernel goes through its columns for: reductions that don't use each other's results, or what is stored of elements.
struct Pass {
    /// The reductions.
    reductions: Range<usize>,
    /// The terms that are reduced or stored.
    roots: Vec<TermId>,
    /// The terms that depend on the column and are computed here.
    computed: Vec<bool>,
    /// Those that an earlier pass has computed and that are used here.
    used: Vec<bool>,
}

/// The passes of a row kernel, where what one computes of some terms is kept for those that follow.
fn column_passes(
    body: &Body,
    expr: &Expr,
    by_row: &[bool],
    keeps: impl Fn(&Term) -> bool,
) -> Vec<Pass> {
    let Body::Rows { reductions, stores, .. } = body else { return vec![] };
    let reduced = |pass: Range<usize>| {
        let roots = reductions[pass.clone()].iter().map(|reduction| reduction.term).collect();
        (pass, roots)
    };
    let stored: Vec<TermId> = stores.iter().map(|store| store.term).collect();
    let storing = (!stored.is_empty()).then_some((0..0, stored));
    let mut before = vec![false; expr.terms.len()];
    let mut passes = vec![];
    for (reductions, roots) in body.passes(expr).into_iter().map(reduced).chain(storing) {
        let mut needed = vec![false; expr.terms.len()];
        roots.iter().for_each(|&root| needed[root] = true);
        let [mut computed, mut used] = [0; 2].map(|_| vec![false; expr.terms.len()]);
        for id in (0..expr.terms.len()).rev().filter(|&id| !by_row[id]) {
            if needed[id] && before[id] && keeps(&expr.terms[id]) {
                used[id] = true;
            } else if needed[id] {
                computed[id] = true;
                expr.terms[id].arguments().iter().for_each(|&argument| needed[argument] = true);
            }
        }
        before.iter_mut().zip(&computed).for_each(|(before, &computed)| *before |= computed);
        passes.push(Pass { reductions, roots, computed, used });
    }
    passes
}

/// Most elements of a row that an invocation keeps between passes; sums of more in one invocation have partial sums.
const ELEMENTS: usize = 16;

/// Most values that it keeps of all of them: registers of the smallest GPUs.
const VALUES: usize = 32;

/// Most terms that are written out for them.
const TERMS: usize = 512;

/// How an invocation goes through the columns of its row.
struct Columns<'a> {
    expr: &'a Expr,
    /// The columns.
    count: usize,
    /// From one of its columns to the next.
    stride: usize,
    /// The first.
    first: &'static str,
    /// Statements that find where a column lies.
    coordinates: String,
    /// The terms that are kept of each column between passes. Passes that keep or use some are written out, others are loops.
    kept: Vec<TermId>,
}

impl Columns<'_> {
    /// The beginning of a loop.
    fn header(&self) -> String {
        let Columns { count, stride, first, coordinates, .. } = self;
        format!("for (var c = {first}; c < {count}u; c += {stride}u) {{\n{coordinates}")
    }

    /// Statements that compute something of each column, and others that use it and are left out past the last.
    fn pass(&self, pass: &Pass, compute: &str, finish: &str) -> String {
        let of = |terms: &[bool]| -> Vec<TermId> {
            self.kept.iter().copied().filter(|&id| terms[id]).collect()
        };
        let (saved, restored) = (of(&pass.computed), of(&pass.used));
        if saved.is_empty() && restored.is_empty() {
            return format!("    {}{compute}{finish}    }}\n", self.header());
        }
        let mut text = String::new();
        let elements = self.count.div_ceil(self.stride);
        for element in 0..elements {
            for &id in &saved {
                let _ = writeln!(text, "    var k{id}_{element}: {};", self.expr.types[id].wgsl());
            }
            let at = format!("{} + {}u", self.first, element * self.stride);
            // Past the last column, it is computed again and not used.
            let past = (element + 1) * self.stride > self.count;
            let c = if past { format!("min({at}, {}u)", self.count - 1) } else { at.clone() };
            let _ = writeln!(text, "    {{\n        let c = {c};\n{}", self.coordinates);
            for &id in &restored {
                let _ = writeln!(text, "        let t{id} = k{id}_{element};");
            }
            text += compute;
            for &id in &saved {
                let _ = writeln!(text, "        k{id}_{element} = t{id};");
            }
            let _ = match past {
                true => writeln!(
                    text,
                    "        if ({at} < {}u) {{\n{finish}        }}\n    }}",
                    self.count
                ),
                false => writeln!(text, "{finish}    }}"),
            };
        }
        text
    }
}

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
        let (coordinates, column_names) = coordinates(&joined[split..], "c", "c", "        ");
        names.extend(column_names);
        let point = Point { coordinates: names, flat: Some(format!("(r * {col_count}u + c)")) };
        let row_point = Point { flat: None, coordinates: point.coordinates.clone() };
        let by_row = expr.uniform(split..joined.len());
        let lanes = team.lanes;
        let (passes, kept) = self.kept(&expr, &by_row, col_count.div_ceil(lanes));
        let first = if grouped { "own" } else { "0u" };
        let columns =
            Columns { expr: &expr, count: col_count, stride: lanes, first, coordinates, kept };
        let mut done = vec![false; expr.terms.len()];
        let mut again = false;
        for pass in passes.iter().filter(|pass| !pass.reductions.is_empty()) {
            let wanted = missing(&expr, &pass.roots, &done);
            body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
            let compute =
                terms(self.kernel, &expr, &pass.computed, self.bindings, &point, "        ");
            let dtype = |reduction: &Reduction| expr.types[reduction.term];
            let numbered: Vec<(usize, &Reduction)> =
                pass.reductions.clone().map(|number| (number, &reductions[number])).collect();
            for (number, reduction) in &numbered {
                let identity = literal(reduction.combine.identity(dtype(reduction)));
                let name = dtype(reduction).wgsl();
                let _ = writeln!(body, "    var a{number}: {name} = {identity};");
            }
            let step = |(number, reduction): &(usize, &Reduction)| {
                let (a, b) = (format!("a{number}"), format!("t{}", reduction.term));
                format!("        {a} = {};\n", combine(reduction, dtype(reduction), &a, &b))
            };
            let is_sum = |(_, reduction): &&(usize, &Reduction)| {
                reduction.combine == Combine::Sum && dtype(reduction) == DType::F32
            };
            if col_count > (if grouped { 64 * lanes } else { ELEMENTS })
                && numbered.iter().any(|r| is_sum(&r))
            {
                let others: String = numbered.iter().filter(|r| !is_sum(r)).map(step).collect();
                let sums: Vec<(usize, TermId)> =
                    numbered.iter().filter(is_sum).map(|(number, r)| (*number, r.term)).collect();
                let inner = format!("{}{compute}{others}", columns.coordinates);
                body += &partial_sums(col_count, &sums, (first, lanes), &inner);
            } else {
                let steps: String = numbered.iter().map(step).collect();
                body += &columns.pass(pass, &compute, &steps);
            }
            for results in numbered.chunks(team.together).filter(|_| grouped) {
                body += &self.fold(results, dtype, &team, again);
                again = true;
            }
            for (number, _) in numbered {
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
        if let Some(pass) = passes.iter().find(|pass| pass.reductions.is_empty()) {
            let wanted = missing(&expr, &pass.roots, &done);
            body += &self.row_level(&expr, &wanted, &by_row, &mut done, &row_point);
            let at = match layout.is_contiguous() {
                true => format!("(r * {col_count}u + c)"),
                false => format!("({})", address(&layout.join(&groups), &point)),
            };
            let here: Vec<bool> = pass.computed.iter().map(|computed| !computed).collect();
            let text = self.stores(&expr, stores, &here, &point, &at, "        ");
            let text = columns.pass(pass, "", &text);
            match grouped {
                true => _ = writeln!(body, "    if (real) {{\n{text}    }}"),
                false => body += &text,
            }
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
        let shared = team.arrays(self.kernel).into_iter().map(|(name, count)| {
            format!("var<workgroup> w_{name}: array<{name}, {}>;\n", count * size)
        });
        let mut shared: String = shared.collect();
        let mut workgroups = team.workgroups(self.kernel).ok_or("not a row kernel")?;
        if self.variant.exchanged.is_some() && workgroups.by_subgroup {
            for name in ["f32", "i32", "u32"] {
                let _ = writeln!(shared, "var<workgroup> x_{name}: array<{name}, {size}>;");
                workgroups.bytes += 4 * size;
            }
            workgroups.by_subgroup = false;
        }
        holes.extend([("lanes", lanes.to_string()), ("shared", shared)]);
        Family::of(shaders::ROWS_GROUP, holes, workgroups)
    }

    /// The passes of the kernel, and the terms that are kept between them by invocations with so many elements of a row each.
    fn kept(&self, expr: &Expr, by_row: &[bool], elements: usize) -> (Vec<Pass>, Vec<TermId>) {
        let body = &self.kernel.body;
        if self.variant.kept.unwrap_or(self.limits.class.is_gpu()) && elements <= ELEMENTS {
            // Where a point lies is found faster than kept. What is loaded comes first if not all can be kept.
            let computed = |term: &Term| !matches!(term, Term::Index { .. } | Term::Within { .. });
            let loaded = |term: &Term| matches!(term, Term::Load { .. } | Term::Gather { .. });
            for passes in [
                column_passes(body, expr, by_row, computed),
                column_passes(body, expr, by_row, loaded),
            ] {
                let used = |&id: &TermId| passes.iter().any(|pass| pass.used[id]);
                let kept: Vec<TermId> = (0..expr.terms.len()).filter(used).collect();
                let terms = passes.iter().flat_map(|pass| &pass.computed);
                let written = terms.filter(|computed| **computed).count() * elements;
                if kept.len() * elements <= VALUES && written <= TERMS {
                    return (passes, kept);
                }
            }
        }
        (column_passes(body, expr, by_row, |_| false), vec![])
    }

    /// Folds the partial results of each row and gives all its invocations the totals: as trees, first those farthest apart, through the array
    /// of their type, of which the last are read at once instead of step by step, then those of a subgroup. `again`: whether arrays were used
    /// before.
    fn fold(
        &self,
        results: &[(usize, &Reduction)],
        dtype: impl Fn(&Reduction) -> DType,
        team: &Team,
        again: bool,
    ) -> String {
        let stride = team.stride();
        let [far, near] = team.steps();
        let mut text = String::new();
        if !far.is_empty() {
            let size = team.rows * team.lanes;
            // Where each lies in the array of its type.
            let place = |at: usize| {
                let array = |(_, reduction): &(usize, &Reduction)| dtype(reduction).wgsl();
                let name = array(&results[at]);
                let before =
                    results[..at].iter().filter(|other| array(other) == name).count() * size;
                move |lane: &str| match before {
                    0 => format!("w_{name}[{lane}]"),
                    _ => format!("w_{name}[{lane} + {before}u]"),
                }
            };
            // Others may still read what was folded before.
            if again {
                text += "    workgroupBarrier();\n";
            }
            for (at, (number, _)) in results.iter().enumerate() {
                let _ = writeln!(text, "    {} = a{number};", place(at)("lane"));
            }
            text += "    workgroupBarrier();\n";
            let read = far.len().min(READ.ilog2() as usize);
            let (tree, last) = far.split_at(far.len() - read);
            for step in tree {
                let _ = writeln!(text, "    if (own < {step}u) {{");
                for (at, (_, reduction)) in results.iter().enumerate() {
                    let own = place(at)("lane");
                    let other = place(at)(&format!("lane + {}u", step * stride));
                    let folded = combine(reduction, dtype(reduction), &own, &other);
                    let _ = writeln!(text, "        {own} = {folded};");
                }
                text += "    }\n    workgroupBarrier();\n";
            }
            let least = last.last().copied().unwrap_or(1);
            let first = format!("lane - own / {least}u * {}u", least * stride);
            for (at, (number, reduction)) in results.iter().enumerate() {
                let from = |other: usize| match other {
                    0 => place(at)(&first),
                    _ => place(at)(&format!("{first} + {}u", other * least * stride)),
                };
                let mut folded: Vec<String> = (0..1 << read).map(from).collect();
                while folded.len() > 1 {
                    let others = folded.split_off(folded.len() / 2);
                    let pairs = folded.iter().zip(&others);
                    folded =
                        pairs.map(|(a, b)| combine(reduction, dtype(reduction), a, b)).collect();
                }
                let _ = writeln!(text, "    a{number} = {};", folded.concat());
            }
        }
        for step in near {
            for (number, reduction) in results {
                let [own, other] = [format!("a{number}"), format!("o{number}_{step}")];
                let distance = step * stride;
                let _ = match self.variant.exchanged {
                    None => {
                        writeln!(text, "    let {other} = subgroupShuffleXor({own}, {distance}u);")
                    }
                    Some(_) => {
                        let array = format!("x_{}", dtype(reduction).wgsl());
                        writeln!(
                            text,
                            "    {array}[lane] = {own};\n    workgroupBarrier();\n    let {other} = {array}[lane ^ {distance}u];\n    workgroupBarrier();"
                        )
                    }
                };
                let folded = match reduction.combine {
                    Combine::Sum | Combine::Prod => {
                        combine(reduction, dtype(reduction), &own, &other)
                    }
                    // Of a zero and a negative one, all have to take the same.
                    Combine::Max | Combine::Min => {
                        let [first, second] = [[&own, &other], [&other, &own]]
                            .map(|[a, b]| format!("select({a}, {b}, (own & {step}u) != 0u)"));
                        combine(reduction, dtype(reduction), &first, &second)
                    }
                };
                let _ = writeln!(text, "    {own} = {folded};");
            }
        }
        text
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
        Combine::Sum => format!("({a} + {b})"),
        Combine::Prod => format!("({a} * {b})"),
        Combine::Max => format!("max{suffix}({a}, {b})"),
        Combine::Min => format!("min{suffix}({a}, {b})"),
    }
}

/// Most results that an invocation reads of others to fold them by itself.
const READ: usize = 8;
