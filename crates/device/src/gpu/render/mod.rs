//! Renders kernels to WGSL: fills the holes of the family's shader.

mod attention;
mod contract;
mod cooperative;
mod recurrent;
mod rows;
mod scan;
mod subgroup;
mod tiled;
mod window;

pub(super) use contract::shape;

use super::term::{Bindings, Point, coordinates, missing, terms};
use crate::share::Workgroups;
use crate::whole::SIZE;
use crate::{
    Algorithm, AttentionRole, Body, DeviceClass, Expr, Intrinsic, Kernel, Limits, MatmulPrecision,
    Matrices, Program, Store, Term, TermId, Tile, Whole, numel,
};
use shadegrad_shaders as shaders;
use std::fmt::Write;
use std::slice::from_ref;

/// Which of several equivalent shaders is used, and with what checks. For tests and measurements;
/// the default lets the device choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Keep the driver-side checks of indices and loops that rendered kernels don't need.
    pub checks: bool,
    /// Lower the device's limits to these.
    pub limits: Option<Limits>,
    /// Choose shaders as for a device of this class.
    pub class: Option<DeviceClass>,
    /// How precisely products are computed, where the device can do that.
    pub precision: MatmulPrecision,
    /// What stands for cooperative matrices, for devices that have none.
    pub emulated: Option<Matrices>,
    /// The size of subgroups for which a workgroup's memory stands where rows are folded, for devices that have smaller ones.
    pub exchanged: Option<usize>,
    /// A text and another one that takes its place in every shader: a fault that a test plants.
    pub planted: Option<(&'static str, &'static str)>,
    /// How contractions are computed, where the device can do that.
    pub algorithm: Option<Algorithm>,
    /// What a workgroup computes of contractions through its memory, where the device can do that.
    pub tile: Option<Tile>,
    /// Row kernels with one workgroup for a few rows (`true`) or one invocation for each (`false`), scatters of slices and queries
    /// of attention likewise, and pointwise kernels with four points for each invocation or one.
    pub grouped: Option<bool>,
    /// Row kernels that keep in registers what they compute of elements for their next pass, where there are few (`true`), or compute it
    /// again.
    pub kept: Option<bool>,
    /// Products in subgroups or cooperative matrices that load four elements at once where they lie side by side (`true`), or
    /// one by one.
    pub vectors: Option<bool>,
}

impl Variant {
    /// Limits and variant under which invocations share nothing, as in programs that run whole.
    pub(super) fn alone(&self, limits: &Limits) -> (Limits, Variant) {
        let limits = Limits { subgroup: 0, ..limits.clone() };
        let algorithm = Some(Algorithm::Direct);
        let (grouped, kept) = (Some(false), Some(false));
        (limits, Variant { algorithm, grouped, kept, ..self.clone() })
    }
}

/// A kernel as a shader, or a whole program.
#[derive(Clone)]
pub struct Rendered {
    /// The WGSL.
    pub source: String,
    /// For each binding the program's buffer number, and whether it is written.
    pub bindings: Vec<(usize, bool)>,
    /// Workgroups of each dispatch.
    pub groups: [u32; 3],
    /// What tells its dispatches apart, in a uniform behind the bindings: of a kernel that takes several their numbers, of a
    /// whole program how many steps they take. `None` where there is one and no uniform.
    pub numbers: Option<Vec<u32>>,
    /// How long a dispatch takes by prediction, or a step of a whole program: one is what a dispatch may take.
    pub span: f64,
}

/// Renders a kernel for a device.
///
/// # Errors
/// What doesn't fit, as text: a defect of this crate's shaders.
pub fn render(kernel: &Kernel, limits: &Limits, variant: &Variant) -> Result<Rendered, String> {
    let algorithm = algorithm(kernel, limits, variant);
    let fours = match algorithm {
        Algorithm::Subgroups | Algorithm::Cooperative => {
            subgroup::in_fours(kernel, limits, variant, algorithm)
        }
        _ => None,
    };
    let weight_in_fours = recurrent::weight_in_fours(kernel);
    let in_fours = fours.iter().flatten().map(|(operand, _)| *operand);
    let in_fours: Vec<usize> = in_fours.chain(weight_in_fours).collect();
    let bindings = Bindings::new(from_ref(kernel), limits, &in_fours);
    let parts = kernel.parts(limits);
    let several = false;
    let bindings = &bindings;
    let renderer = Renderer {
        kernel,
        limits,
        variant,
        bindings,
        algorithm,
        fours,
        weight_in_fours,
        parts,
        several,
    };
    let Family { text, entry } = renderer.family()?;
    let (text, groups) = match entry {
        Entry::Own(groups) => (text, groups),
        Entry::Statements(statements, workgroups) => {
            let (grid, line) = renderer.grid(workgroups.count);
            let guard = format!("    if (t >= {}u) {{ return; }}\n", workgroups.count);
            let Workgroups { size, by_subgroup, .. } = workgroups;
            (text + &entry_point(size, line, by_subgroup, guard + &statements)?, grid)
        }
    };
    let dispatches = kernel.dispatches(limits);
    let numbered = parts > 1 || kernel.body.steps().is_some();
    let part = match numbered {
        false => shaders::WHOLE.to_string(),
        true => {
            let holes = [
                ("numbers", bindings.buffers.len().to_string()),
                ("parts", parts.to_string()),
                ("lines", groups[1].to_string()),
            ];
            shaders::fill(shaders::PART, &holes)?
        }
    };
    let extensions = match algorithm {
        Algorithm::Cooperative if variant.emulated.is_none() => {
            "enable f16;\nenable wgpu_cooperative_matrix;\n"
        }
        Algorithm::Cooperative => "enable f16;\n",
        _ => bindings.extensions(),
    };
    let source = complete(extensions, text + &part + &renderer.custom(), variant);
    let numbers = numbered.then(|| (0..dispatches as u32).collect());
    let span = kernel.span(limits) / dispatches.max(1) as f64;
    Ok(Rendered { source, bindings: bindings.bound(), groups, numbers, span })
}

/// Renders kernels that share a dispatch: see [`can_share`](crate::can_share). `None` where a variant makes them such that they
/// can't.
///
/// # Errors
/// As [`render`].
pub fn render_shared(
    kernels: &[Kernel],
    limits: &Limits,
    variant: &Variant,
) -> Result<Option<Rendered>, String> {
    let bindings = &Bindings::new(kernels, limits, &[]);
    let mut families = Vec::new();
    for kernel in kernels {
        let renderer = Renderer {
            kernel,
            limits,
            variant,
            bindings,
            algorithm: algorithm(kernel, limits, variant),
            fours: None,
            weight_in_fours: None,
            parts: 1,
            several: true,
        };
        let Family { text, entry } = renderer.family()?;
        let Entry::Statements(statements, workgroups) = entry else { return Ok(None) };
        families.push((text + &renderer.custom(), statements, workgroups));
    }
    let size = families.iter().map(|(.., workgroups)| workgroups.size).max().unwrap_or(1);
    let bytes: usize = families.iter().map(|(.., workgroups)| workgroups.bytes).sum();
    let by_subgroup = families.iter().any(|(.., workgroups)| workgroups.by_subgroup);
    if bytes > limits.workgroup_bytes {
        return Ok(None);
    }
    let (mut text, mut calls, mut first) = (bindings.declarations(), String::new(), 0);
    for (number, (functions, statements, workgroups)) in families.into_iter().enumerate() {
        let Some(within) = workgroups.within(size) else { return Ok(None) };
        let (functions, statements) =
            shaders::numbered(&format!("\n{functions}"), &statements, number);
        text += &functions;
        let last = first + workgroups.count.div_ceil(within);
        let _ = writeln!(calls, "    if (t >= {first}u && t < {last}u) {{");
        let _ = match within {
            1 => writeln!(calls, "    let t = t - {first}u;"),
            _ => writeln!(
                calls,
                "    let t = (t - {first}u) * {within}u + lane / {0}u;\n    let lane = lane % {0}u;",
                workgroups.size
            ),
        };
        calls += &statements;
        calls += "    }\n";
        first = last;
    }
    let line = first.clamp(1, limits.groups);
    let groups = [line as u32, first.div_ceil(line) as u32, 1];
    let source = text + &entry_point(size, line, by_subgroup, calls)? + shaders::WHOLE;
    let source = complete(bindings.extensions(), source, variant);
    let span = kernels.iter().map(|kernel| kernel.span(limits)).sum();
    Ok(Some(Rendered { source, bindings: bindings.bound(), groups, numbers: None, span }))
}

/// How a kernel's contraction is computed, if it has one.
fn algorithm(kernel: &Kernel, limits: &Limits, variant: &Variant) -> Algorithm {
    match &kernel.body {
        Body::Contract { contraction, .. } => Algorithm::of(contraction, limits, variant.algorithm),
        _ => Algorithm::Direct,
    }
}

/// The entry point that does some statements in each workgroup `t`, of which so many are in a line, for the invocations `lane`: perhaps
/// numbered by subgroups, so that it is known which share one.
fn entry_point(
    size: usize,
    line: usize,
    by_subgroup: bool,
    statements: String,
) -> Result<String, String> {
    let (parameters, lane) = match by_subgroup {
        true => (
            "@builtin(subgroup_id) subgroup: u32, @builtin(subgroup_size) width: u32, @builtin(subgroup_invocation_id) place: u32",
            // What is no number of an invocation would be one outside of a workgroup's memory.
            format!("    let lane = min(subgroup * width + place, {size}u - 1u);\n"),
        ),
        false => ("@builtin(local_invocation_index) lane: u32", String::new()),
    };
    let holes = [
        ("size", size.to_string()),
        ("invocation", parameters.to_string()),
        ("line", line.to_string()),
        ("statements", lane + &statements),
    ];
    shaders::fill(shaders::ENTRY, &holes)
}

/// Renders a whole program for a device, with kernels whose invocations share nothing.
///
/// # Errors
/// As [`render`].
pub fn render_whole(
    program: &Program,
    whole: Whole,
    limits: &Limits,
    variant: &Variant,
) -> Result<Rendered, String> {
    let (limits, variant) = &variant.alone(limits);
    let bindings = &Bindings::new(&program.kernels, limits, &[]);
    // Software adapters take a workgroup's invocations one after the other.
    let count = match limits.class {
        DeviceClass::Software => 1,
        _ => (limits.invocations / SIZE).clamp(1, 4),
    };
    let (mut kernels, mut calls) = (String::new(), String::new());
    for (number, kernel) in program.kernels.iter().enumerate() {
        let renderer = Renderer {
            kernel,
            limits,
            variant,
            bindings,
            algorithm: Algorithm::Direct,
            fours: None,
            weight_in_fours: None,
            parts: 1,
            several: true,
        };
        let Family { text, entry } = renderer.family()?;
        let Entry::Statements(_, Workgroups { count: groups, bytes: 0, .. }) = entry else {
            return Err(format!("`{}`, whose invocations share something", kernel.label));
        };
        if groups == 0 {
            continue;
        }
        let text = format!("\n{text}{}", renderer.custom());
        kernels += &shaders::numbered(&text, "", number).0;
        let _ = match (groups, count) {
            (1, 1) => writeln!(calls, "        kernel_{number}(0u, lane);"),
            _ => writeln!(
                calls,
                "        for (var g = first; g < {groups}u; g += {count}u) {{ kernel_{number}(g, lane); }}"
            ),
        };
        calls += "        storageBarrier();\n";
    }
    if rolls(limits, variant) {
        calls = shaders::rolled(&calls, UNIFORM_ZERO)?;
    }
    let (first, lane) = match count {
        1 => ("0u".to_string(), "index".to_string()),
        _ => (format!("index / {SIZE}u"), format!("index % {SIZE}u")),
    };
    let holes = [
        ("declarations", bindings.declarations()),
        ("steps", bindings.buffers.len().to_string()),
        ("kernels", kernels),
        ("size", (count * SIZE).to_string()),
        ("first", first),
        ("lane", lane),
        ("calls", calls),
    ];
    let source = complete(bindings.extensions(), shaders::fill(shaders::PROGRAM, &holes)?, variant);
    let numbers = Some((0..=whole.top).map(|digit| 1 << digit).collect());
    let span = program.whole_span(limits);
    Ok(Rendered { source, bindings: bindings.bound(), groups: [1; 3], numbers, span })
}

/// A shader with what it begins with, and all functions that it calls.
fn complete(extensions: &str, shader: String, variant: &Variant) -> String {
    let shader = shader + shaders::BITS;
    let library = shaders::library(&shader);
    let source = format!("{extensions}{shader}{library}");
    match variant.planted {
        Some((text, fault)) => source.replace(text, fault),
        None => source,
    }
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
    /// The operand of a recurrent weight that is loaded in vectors.
    weight_in_fours: Option<usize>,
    /// Dispatches that share the workgroups.
    parts: usize,
    /// Whether it is one of several in a shader.
    several: bool,
}

/// Points from which on a pointwise kernel is large.
const MANY: usize = 1 << 16;
/// Points of an invocation in very large ones.
const EACH: usize = 4;

/// A family's shader, without what all have.
struct Family {
    text: String,
    entry: Entry,
}

/// How a family's workgroups begin.
enum Entry {
    /// By an entry point of its own, for so many along each axis.
    Own([u32; 3]),
    /// By statements, for the invocation `lane` of the workgroup `t`.
    Statements(String, Workgroups),
}

impl Family {
    /// A shader with an entry point of its own.
    fn own(text: String, groups: [u32; 3]) -> Family {
        Family { text, entry: Entry::Own(groups) }
    }

    /// A template with functions, the hole `statements`, and what each workgroup does with them.
    fn of(template: &str, mut holes: Vec<Hole>, workgroups: Workgroups) -> Source {
        holes.push(("statements", SEAM.to_string()));
        let text = shaders::fill(template, &holes)?;
        let (text, statements) = text.split_once(SEAM).ok_or("no hole `statements`")?;
        let entry = Entry::Statements(statements.to_string(), workgroups);
        Ok(Family { text: text.to_string(), entry })
    }
}

/// What no shader holds.
const SEAM: char = '\0';

type Source = Result<Family, String>;

/// A hole of a shader and what fills it.
type Hole = (&'static str, String);

/// A zero that compilers can't foresee.
const ZERO: &str = "zero()";
/// The same in entry points, as [`ZERO`] is a private variable, which WGSL doesn't take for uniform, and their loops may hold barriers.
const UNIFORM_ZERO: &str = "group.z";

/// Whether loops are rolled: compilers of software adapters unroll those whose turns they can count, and take as long as the code is
/// long. What stands for cooperative matrices runs on such adapters only.
fn rolls(limits: &Limits, variant: &Variant) -> bool {
    limits.class == DeviceClass::Software || variant.emulated.is_some()
}

impl Renderer<'_> {
    fn family(&self) -> Source {
        let mut family = self.as_written()?;
        if rolls(self.limits, self.variant) {
            let text = &family.text;
            let (functions, main) = text.split_at(text.find("@compute").unwrap_or(text.len()));
            family.text = shaders::rolled(functions, ZERO)? + &shaders::rolled(main, UNIFORM_ZERO)?;
            if let Entry::Statements(statements, _) = &mut family.entry {
                *statements = shaders::rolled(statements, UNIFORM_ZERO)?;
            }
        }
        Ok(family)
    }

    fn as_written(&self) -> Source {
        match &self.kernel.body {
            Body::Map { shape, stores } => self.map(shape, stores),
            Body::Rows { .. } => self.rows(),
            Body::Contract { contraction, left, right, splits, row_stores, stores } => {
                self.contract(contraction, [*left, *right], *splits, row_stores, stores)
            }
            Body::Window { window, role, source, index, stores } => {
                self.window(window, *role, *source, *index, stores)
            }
            Body::Scatter { shape, axis, len, index, source, stores } => {
                self.scatter(shape, *axis, *len, [*index, *source], stores)
            }
            Body::Scan { recurrence, source, coefficients, stores } => {
                self.scan(recurrence, *source, coefficients, stores)
            }
            Body::Merge { merge, key, place, stores } => self.merge(merge, *key, *place, stores),
            Body::Recurrent { sequence, role, sources, stepwise, stores } => {
                self.recurrent(sequence, *role, sources, *stepwise, stores)
            }
            Body::Attention { attention, role: AttentionRole::Forward, sources, bias, stores } => {
                self.attention(attention, sources, *bias, stores)
            }
            Body::Attention { role: AttentionRole::Gradient, .. } => {
                Err("there is no shader for the gradient of attention".to_string())
            }
        }
    }

    /// A family whose invocations share nothing, with so many of them.
    pub(super) fn alone(&self, template: &str, holes: &[Hole], invocations: usize) -> Source {
        self.alone_in(template, holes, invocations.div_ceil(self.size()), self.size())
    }

    /// A family whose invocations share nothing, in workgroups of a size: a function of a workgroup's number and theirs.
    pub(super) fn alone_in(
        &self,
        template: &str,
        holes: &[Hole],
        groups: usize,
        size: usize,
    ) -> Source {
        let text = shaders::fill(template, holes)?;
        let workgroups = Workgroups { count: groups, size, bytes: 0, by_subgroup: false };
        Ok(Family { text, entry: Entry::Statements("    kernel(t, lane);\n".into(), workgroups) })
    }

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
    pub(super) fn frame(&self) -> Vec<Hole> {
        let declarations = if self.several { String::new() } else { self.bindings.declarations() };
        vec![("declarations", declarations)]
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
        let (expr, groups) = self.kernel.expr.joined(&self.kernel.roots(), shape, 0, &[]);
        let shape: Vec<usize> = groups.iter().map(|g| numel(&shape[g.clone()])).collect();
        let (mut body, names) = coordinates(&shape, "i", "c", "    ");
        let point = Point { coordinates: names, flat: Some("i".into()) };
        let none = vec![false; expr.terms.len()];
        let mut holes = self.frame();
        holes.push(("points", points.to_string()));
        // GPUs start workgroups one after the other, so those of large kernels have more to do.
        let gpu = self.limits.class.is_gpu();
        let size = match gpu && !self.several && points >= MANY {
            true => (4 * SIZE).min(self.limits.invocations),
            false => self.size(),
        };
        let many = self.variant.grouped.unwrap_or(gpu && points >= 16 * MANY);
        let many = many && !self.several && points > 0;
        if many {
            self.map_many(&expr, stores, (body, &point), [points, size], &mut holes);
            return self.alone_in(shaders::MAP_MANY, &holes, points.div_ceil(EACH * size), size);
        }
        body += &self.stores(&expr, stores, &none, &point, "i", "    ");
        holes.extend([("size", size.to_string()), ("body", body)]);
        self.alone_in(shaders::MAP, &holes, points.div_ceil(size), size)
    }

    /// The holes of a pointwise kernel whose invocations compute several points each.
    fn map_many(
        &self,
        expr: &Expr,
        stores: &[Store],
        (coordinates, point): (String, &Point),
        [points, size]: [usize; 2],
        holes: &mut Vec<Hole>,
    ) {
        let mut stored: Vec<TermId> = stores.iter().map(|store| store.term).collect();
        stored.sort_unstable();
        stored.dedup();
        let wanted = expr.needed(&stored);
        let compute =
            coordinates + &terms(self.kernel, expr, &wanted, self.bindings, point, "    ");
        let [mut fields, mut store, mut all] = [const { String::new() }; 3];
        for &term in &stored {
            let _ = writeln!(fields, "    t{term}: {},", expr.types[term].wgsl());
        }
        for Store { operand, term } in stores {
            let operand = &self.kernel.operands[*operand];
            let line = self.bindings.store(operand, "i", &format!("values.t{term}"));
            let _ = writeln!(store, "    {line}");
        }
        let last = points - 1;
        for number in 0..EACH {
            let at = number * size;
            let _ = writeln!(all, "    let v{number} = values(min(first + {at}u, {last}u));");
        }
        for number in 0..EACH {
            let _ = writeln!(all, "    put(first + {}u, v{number});", number * size);
        }
        let names: Vec<String> = stored.iter().map(|term| format!("t{term}")).collect();
        holes.extend([
            ("each", EACH.to_string()),
            ("span", (EACH * size).to_string()),
            ("fields", fields),
            ("names", names.join(", ")),
            ("compute", compute),
            ("store", store),
            ("all", all),
        ]);
    }
}

/// The accumulators of an expression: printed apart, so already done.
pub(super) fn accumulated(expr: &Expr) -> Vec<bool> {
    expr.terms.iter().map(|term| matches!(term, Term::Accumulator(_))).collect()
}
