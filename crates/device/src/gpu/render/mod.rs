//! Renders kernels to WGSL: fills the holes of the family's shader.

mod attention;
mod contract;
mod cooperative;
mod recurrent;
mod rows;
mod scan;
mod subgroup;
mod window;

use super::term::{Bindings, Point, coordinates, missing, terms};
use crate::{
    Algorithm, Body, Expr, Intrinsic, Kernel, Limits, MatmulPrecision, Matrices, Store, Term,
    TermId, View, collapse, numel,
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
    /// How precisely products are computed, where the device can do that.
    pub precision: MatmulPrecision,
    /// What stands for cooperative matrices, for devices that have none.
    pub emulated: Option<Matrices>,
    /// A text and another one that takes its place in every shader: a fault that a test plants.
    pub planted: Option<(&'static str, &'static str)>,
    /// How contractions are computed, where the device can do that.
    pub algorithm: Option<Algorithm>,
    /// Row kernels with one workgroup (`true`) or one invocation (`false`) for each row; scatters of slices with one
    /// workgroup for a few rows, or one invocation for each element.
    pub grouped: Option<bool>,
    /// Products in subgroups that load four elements at once where they lie side by side (`true`), or one by one.
    pub vectors: Option<bool>,
}

/// A kernel as a shader.
pub struct Rendered {
    /// The WGSL.
    pub source: String,
    /// For each binding the program's buffer number, and whether it is written.
    pub bindings: Vec<(usize, bool)>,
    /// Workgroups of each dispatch.
    pub groups: [u32; 3],
    /// How many dispatches there are, if a uniform behind the bindings holds the number of each.
    pub numbered: Option<usize>,
    /// How long one of them takes by prediction: one is what a dispatch may take.
    pub span: f64,
}

/// Invocations of a workgroup in kernels that share nothing.
const SIZE: usize = 64;

/// Renders a kernel for a device.
///
/// # Errors
/// What doesn't fit, as text: a defect of this crate's shaders.
pub fn render(kernel: &Kernel, limits: &Limits, variant: &Variant) -> Result<Rendered, String> {
    let algorithm = match &kernel.body {
        Body::Contract { contraction, .. } => Algorithm::of(contraction, limits, variant.algorithm),
        _ => Algorithm::Direct,
    };
    let fours = match algorithm {
        Algorithm::Subgroups => subgroup::in_fours(kernel, variant),
        _ => None,
    };
    let in_fours: Vec<usize> = fours.iter().flatten().map(|(operand, _)| *operand).collect();
    let bindings = Bindings::new(kernel, limits, &in_fours);
    let parts = kernel.parts(limits);
    let renderer =
        Renderer { kernel, limits, variant, bindings: &bindings, algorithm, fours, parts };
    let (source, groups) = match &kernel.body {
        Body::Map { shape, stores } => renderer.map(shape, stores)?,
        Body::Rows { .. } => renderer.rows()?,
        Body::Contract { contraction, left, right, splits, row_stores, stores } => {
            renderer.contract(contraction, [*left, *right], *splits, row_stores, stores)?
        }
        Body::Window { window, role, source, index, stores } => {
            renderer.window(window, *role, *source, *index, stores)?
        }
        Body::Scatter { shape, axis, len, index, source, stores } => {
            renderer.scatter(shape, *axis, *len, [*index, *source], stores)?
        }
        Body::Scan { recurrence, source, coefficients, stores } => {
            renderer.scan(recurrence, *source, coefficients, stores)?
        }
        Body::Merge { merge, key, place, stores } => renderer.merge(merge, *key, *place, stores)?,
        Body::Recurrent { sequence, role, sources, stepwise, stores } => {
            renderer.recurrent(sequence, *role, sources, *stepwise, stores)?
        }
        Body::Attention { attention, query, key, value, bias, stores } => {
            renderer.attention(attention, [*query, *key, *value], *bias, stores)?
        }
    };
    let dispatches = kernel.dispatches(limits);
    let numbered = (parts > 1 || kernel.body.steps().is_some()).then_some(dispatches);
    let part = match numbered {
        None => shaders::WHOLE.to_string(),
        Some(_) => {
            let holes = [
                ("numbers", bindings.buffers.len().to_string()),
                ("parts", parts.to_string()),
                ("lines", groups[1].to_string()),
            ];
            shaders::fill(shaders::PART, &holes)?
        }
    };
    let source = source + &part + &renderer.custom() + shaders::BITS;
    let extensions = match algorithm {
        Algorithm::Cooperative if variant.emulated.is_none() => {
            "enable f16;\nenable wgpu_cooperative_matrix;\n"
        }
        Algorithm::Cooperative => "enable f16;\n",
        _ => bindings.extensions(),
    };
    let mut source = format!("{extensions}{source}{}", shaders::library(&source));
    if let Some((text, fault)) = variant.planted {
        source = source.replace(text, fault);
    }
    let bindings = bindings.buffers.iter().copied().zip(bindings.written.iter().copied()).collect();
    let span = kernel.span(limits) / dispatches.max(1) as f64;
    Ok(Rendered { source, bindings, groups, numbered, span })
}

struct Renderer<'a> {
    kernel: &'a Kernel,
    limits: &'a Limits,
    variant: &'a Variant,
    bindings: &'a Bindings,
    /// How a contraction is computed.
    algorithm: Algorithm,
    /// How a product's sources are loaded in vectors.
    fours: Option<subgroup::Fours>,
    /// Dispatches that share the workgroups.
    parts: usize,
}

type Source = Result<(String, [u32; 3]), String>;

impl Renderer<'_> {
    /// Workgroups of each part for a number of groups, folded into two axes where one is too short, and the
    /// number of groups along the first. The lines of all parts are one behind the other.
    pub(super) fn grid(&self, groups: usize) -> ([u32; 3], usize) {
        let groups = groups.div_ceil(self.parts);
        let line = groups.clamp(1, self.limits.groups);
        ([line as u32, groups.div_ceil(line) as u32, 1], line)
    }

    pub(super) fn size(&self) -> usize {
        SIZE.min(self.limits.invocations)
    }

    /// The holes that every family has.
    pub(super) fn frame(&self) -> Vec<(&'static str, String)> {
        vec![("declarations", self.bindings.declarations())]
    }

    /// The functions that users of the library wrote.
    fn custom(&self) -> String {
        let needed = self.kernel.expr.needed(&self.kernel.roots());
        let mut declared: Vec<String> = Vec::new();
        for (term, _) in self.kernel.expr.terms.iter().zip(&needed).filter(|(_, n)| **n) {
            if let Term::Apply { op: Intrinsic::Custom(custom), .. } = term {
                let text = custom.declaration();
                if !declared.contains(&text) {
                    declared.push(text);
                }
            }
        }
        declared.concat()
    }

    /// The expression over as few axes as its views allow, where axes before and after `at` are
    /// joined apart; and the groups of axes that were joined. `more` are views that have to allow it, too.
    pub(super) fn joined(
        &self,
        shape: &[usize],
        at: usize,
        more: &[&View],
    ) -> (Expr, Vec<std::ops::Range<usize>>) {
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
                .filter_map(|(t, _)| t.view())
                .chain(more.iter().copied())
                .map(|v| v.permute(&order))
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

    /// Statements that compute and store at a point.
    pub(super) fn stores(
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

    /// A WGSL function of coordinates that returns a term.
    pub(super) fn function(&self, head: &str, before: &str, point: &Point, term: TermId) -> String {
        let expr = &self.kernel.expr;
        let text = terms(self.kernel, expr, &expr.needed(&[term]), self.bindings, point, "    ");
        format!(
            "fn {head} -> {} {{\n{before}{text}    return t{term};\n}}\n",
            expr.types[term].wgsl()
        )
    }

    /// `let` statements for a core's accumulators, which the shader holds in variables; those without a name aren't
    /// to be had here.
    pub(super) fn accumulators(&self, expr: &Expr, names: &[&str]) -> String {
        let needed = expr.needed(&self.kernel.roots());
        let mut text = String::new();
        for (id, term) in expr.terms.iter().enumerate() {
            if let Term::Accumulator(number) = term
                && needed[id]
                && let Some(name) = names.get(*number).filter(|name| !name.is_empty())
            {
                let _ = writeln!(text, "    let t{id} = {name};");
            }
        }
        text
    }

    pub(super) fn map(&self, shape: &[usize], stores: &[Store]) -> Source {
        let points = numel(shape);
        let (expr, groups) = self.joined(shape, 0, &[]);
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
}

/// The accumulators of an expression: printed apart, so already done.
pub(super) fn accumulated(expr: &Expr) -> Vec<bool> {
    expr.terms.iter().map(|term| matches!(term, Term::Accumulator(_))).collect()
}
