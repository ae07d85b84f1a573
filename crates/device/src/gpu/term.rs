//! Prints expressions as WGSL.

use crate::{DType, Expr, Intrinsic, Kernel, Limits, Literal, Operand, Term, TermId, View};
use std::fmt::Write;

/// How the points of a domain are named in a shader.
pub(super) struct Point {
    /// One WGSL expression for each axis.
    pub(super) coordinates: Vec<String>,
    /// The number of the point, where the shader has it at hand.
    pub(super) flat: Option<String>,
}

/// The buffers that a shader binds: each once, at the type that its operands need.
pub(super) struct Bindings {
    /// Buffer numbers of the program, in binding order.
    pub(super) buffers: Vec<usize>,
    /// For each binding, whether the shader stores to it.
    pub(super) written: Vec<bool>,
    /// For each binding, the type of its elements in the shader.
    elements: Vec<Element>,
    /// For each binding, whether its elements are bound in vectors of four.
    fours: Vec<bool>,
}

/// How a shader sees a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    /// All operands in it are floats.
    F32,
    /// All operands in it are halves, and the device can load and store them.
    F16,
    /// Words of any kind.
    U32,
}

impl Element {
    fn of(dtype: DType, f16: bool) -> Element {
        match dtype {
            DType::F32 => Element::F32,
            DType::F16 if f16 => Element::F16,
            _ => Element::U32,
        }
    }
}

impl Bindings {
    /// The buffers of kernels that share a shader; those of the operands `in_fours` are bound as vectors.
    pub(super) fn new(kernels: &[Kernel], limits: &Limits, in_fours: &[usize]) -> Bindings {
        let mut bindings =
            Bindings { buffers: vec![], written: vec![], elements: vec![], fours: vec![] };
        let operands = |kernel: &Kernel| 0..kernel.operands.len();
        let all = kernels.iter().flat_map(|kernel| operands(kernel).map(move |o| (kernel, o)));
        for (kernel, number) in all {
            let (operand, (read, written)) = (&kernel.operands[number], kernel.access(number));
            if !read && !written {
                continue;
            }
            let element = Element::of(operand.dtype, limits.f16);
            let at = bindings.buffers.iter().position(|&b| b == operand.buffer);
            let at = at.unwrap_or_else(|| {
                bindings.buffers.push(operand.buffer);
                bindings.written.push(false);
                bindings.elements.push(element);
                bindings.fours.push(false);
                bindings.buffers.len() - 1
            });
            bindings.written[at] |= written;
            bindings.fours[at] |= in_fours.contains(&number);
            if bindings.elements[at] != element {
                bindings.elements[at] = Element::U32;
            }
        }
        bindings
    }

    pub(super) fn declarations(&self) -> String {
        let mut text = String::new();
        for (number, (&written, element)) in self.written.iter().zip(&self.elements).enumerate() {
            let access = if written { "read_write" } else { "read" };
            let element = match element {
                Element::F32 => "f32",
                Element::F16 => "f16",
                Element::U32 => "u32",
            };
            let element = match self.fours[number] {
                true => format!("vec4<{element}>"),
                false => element.to_string(),
            };
            let _ = writeln!(
                text,
                "@group(0) @binding({number}) var<storage, {access}> b{number}: array<{element}>;"
            );
        }
        text
    }

    /// What a shader that binds them begins with.
    pub(super) fn extensions(&self) -> &'static str {
        if self.elements.contains(&Element::F16) { "enable f16;\n" } else { "" }
    }

    /// For each binding the program's buffer number, and whether it is written.
    pub(super) fn bound(&self) -> Vec<(usize, bool)> {
        self.buffers.iter().copied().zip(self.written.iter().copied()).collect()
    }

    fn slot(&self, operand: &Operand) -> usize {
        self.buffers.iter().position(|&b| b == operand.buffer).unwrap_or(0)
    }

    /// An element of a binding, by its number among single ones. Where elements are bound in fours it is a component, which
    /// Vulkan and DX12 store without touching the others.
    fn place(&self, slot: usize, index: &str) -> String {
        match self.fours[slot] {
            true => format!("b{slot}[({index}) >> 2u][({index}) & 3u]"),
            false => format!("b{slot}[{index}]"),
        }
    }

    /// Four floats of an operand from an index on that is a multiple of four.
    pub(super) fn load_four(&self, operand: &Operand, index: &str) -> String {
        let slot = self.slot(operand);
        let word = format!("b{slot}[({}) >> 2u]", sum(operand.offset as isize / 4, index));
        match self.elements[slot] {
            Element::U32 => format!("bitcast<vec4<f32>>({word})"),
            _ => word,
        }
    }

    /// The element of an operand at an index, as its loaded type.
    pub(super) fn load(&self, operand: &Operand, index: &str) -> String {
        let slot = self.slot(operand);
        if operand.dtype == DType::U8 {
            let at = sum(operand.offset as isize, index);
            let word = self.place(slot, &format!("({at}) >> 2u"));
            return format!("(({word} >> ((({at}) & 3u) * 8u)) & 0xffu)");
        }
        if operand.dtype == DType::F16 {
            let at = sum(operand.offset as isize / 2, index);
            if self.elements[slot] == Element::F16 {
                return format!("f32(b{slot}[{at}])");
            }
            let word = self.place(slot, &format!("({at}) >> 1u"));
            let bits = format!("({word} >> ((({at}) & 1u) * 16u)) & 0xffffu");
            return format!("half_value({bits})");
        }
        let word = self.place(slot, &sum(operand.offset as isize / 4, index));
        match operand.dtype {
            DType::F32 if self.elements[slot] == Element::F32 => word,
            DType::F32 => format!("bitcast<f32>({word})"),
            DType::I32 => format!("bitcast<i32>({word})"),
            DType::Bool => format!("({word} != 0u)"),
            DType::U32 | DType::U8 | DType::F16 => word,
        }
    }

    /// A statement that stores a value of the operand's type.
    pub(super) fn store(&self, operand: &Operand, index: &str, value: &str) -> String {
        let slot = self.slot(operand);
        if operand.dtype == DType::F16 {
            // Rounded by bits first: how a conversion rounds and what it makes of overflow is up to the device.
            let at = sum(operand.offset as isize / 2, index);
            return format!("b{slot}[{at}] = f16(half({value}));");
        }
        let value = match operand.dtype {
            DType::F32 if self.elements[slot] == Element::F32 => value.to_string(),
            DType::F32 | DType::I32 => format!("bitcast<u32>({value})"),
            DType::Bool => format!("u32({value})"),
            _ => value.to_string(),
        };
        let place = self.place(slot, &sum(operand.offset as isize / 4, index));
        format!("{place} = {value};")
    }
}

/// `offset + index` in wrapping u32 arithmetic.
fn sum(offset: isize, index: &str) -> String {
    match offset {
        0 => index.to_string(),
        _ => format!("{}u + {index}", offset as u32),
    }
}

/// A constant. Infinities and NaN aren't WGSL literals; they are made from bits at run time.
pub(super) fn literal(literal: Literal) -> String {
    match literal.dtype {
        DType::F32 | DType::F16 => {
            let value = f32::from_bits(literal.bits);
            if value.is_finite() {
                format!("{value:?}f").replace("-0.0f", "(-0.0f)")
            } else {
                format!("bitcast<f32>({}u + zero())", literal.bits)
            }
        }
        DType::I32 if literal.bits == 1 << 31 => "(-2147483647i - 1i)".to_string(),
        DType::I32 => format!("{}i", literal.bits as i32),
        DType::Bool => (literal.bits != 0).to_string(),
        DType::U32 | DType::U8 => format!("{}u", literal.bits),
    }
}

/// Prints the terms marked in `wanted`, in order, as `let` statements at a point.
pub(super) fn terms(
    kernel: &Kernel,
    expr: &Expr,
    wanted: &[bool],
    bindings: &Bindings,
    point: &Point,
    indent: &str,
) -> String {
    let mut text = String::new();
    for (id, term) in expr.terms.iter().enumerate().filter(|(id, _)| wanted[*id]) {
        let dtype = expr.types[id];
        let zero = literal(Literal::of(dtype, 0.0));
        let value = match term {
            Term::Accumulator(_) => continue,
            Term::Literal(value) => literal(*value),
            Term::Load { operand, view } => {
                let operand = &kernel.operands[*operand];
                masked(view, point, &zero, |at| bindings.load(operand, at))
            }
            Term::Gather { operand, view, index, stride, len } => {
                let operand = &kernel.operands[*operand];
                let missing = match dtype {
                    DType::F32 => "bitcast<f32>(0x7fc00000u + zero())".to_string(),
                    _ => zero.clone(),
                };
                // An index outside reads element zero of the line, and the value isn't used.
                let place = format!("select(0u, t{index}, t{index} < {len}u) * {stride}u");
                // The mask comes first: outside the data the index means nothing.
                masked(view, point, &zero, |at| {
                    let value = bindings.load(operand, &format!("({at} + {place})"));
                    format!("select({missing}, {value}, t{index} < {len}u)")
                })
            }
            Term::Index { view } => masked(view, point, "0u", str::to_string),
            Term::Within { view } => masked(view, point, "false", |_| "true".to_string()),
            Term::Apply { op, args } => {
                let name = |a: &TermId| match &expr.terms[*a] {
                    // Compilers take constants apart, and of a zero they assume what they like.
                    Term::Literal(value) if value.dtype == DType::F32 && value.value() == 0.0 => {
                        format!("bitcast<f32>({}u + zero())", value.bits)
                    }
                    _ => format!("t{a}"),
                };
                let names: Vec<String> = match op {
                    Intrinsic::Div | Intrinsic::Mul if dtype == DType::F32 => {
                        args.iter().map(name).collect()
                    }
                    _ => args.iter().map(|a| format!("t{a}")).collect(),
                };
                op.wgsl(expr.types[args[0]], &names)
            }
        };
        let _ = writeln!(text, "{indent}let t{id}: {} = {value};", dtype.wgsl());
    }
    text
}

/// `element(address)` inside the view's data, `outside` elsewhere; nothing outside is touched.
fn masked(view: &View, point: &Point, outside: &str, element: impl Fn(&str) -> String) -> String {
    let address = address(view, point);
    if !view.is_masked() {
        return element(&address);
    }
    let mut inside = Vec::new();
    for (axis, &(low, high)) in view.valid.iter().enumerate() {
        let c = &point.coordinates[axis];
        if low >= high {
            return outside.to_string();
        }
        if low > 0 {
            inside.push(format!("{c} >= {low}u"));
        }
        if high < view.shape[axis] {
            inside.push(format!("{c} < {high}u"));
        }
    }
    let inside = format!("({})", inside.join(" && "));
    // Any element that exists will do where the mask hides the value.
    let safe = view.extent().map_or(0, |(low, _)| low);
    let value = element(&format!("select({safe}u, {address}, {inside})"));
    format!("select({outside}, {value}, {inside})")
}

/// The element that a view selects, in wrapping u32 arithmetic.
pub(super) fn address(view: &View, point: &Point) -> String {
    if view.is_contiguous()
        && let Some(flat) = &point.flat
    {
        return flat.clone();
    }
    let mut parts = Vec::new();
    for (axis, &stride) in view.strides.iter().enumerate() {
        match stride {
            _ if view.shape[axis] == 1 => {}
            0 => {}
            1 => parts.push(point.coordinates[axis].clone()),
            _ => parts.push(format!("{} * {}u", point.coordinates[axis], stride as u32)),
        }
    }
    if view.offset != 0 || parts.is_empty() {
        parts.push(format!("{}u", view.offset as u32));
    }
    format!("({})", parts.join(" + "))
}

/// `let` statements that take a point's number apart into coordinates `{name}0`, `{name}1`, ...
pub(super) fn coordinates(
    shape: &[usize],
    flat: &str,
    name: &str,
    indent: &str,
) -> (String, Vec<String>) {
    let (mut text, mut names) = (String::new(), Vec::new());
    let strides = crate::contiguous_strides(shape);
    for (axis, (&n, &stride)) in shape.iter().zip(&strides).enumerate() {
        let value = match (n, stride, axis) {
            (1, _, _) => "0u".to_string(),
            (_, 1, 0) => flat.to_string(),
            (_, 1, _) => format!("{flat} % {n}u"),
            (_, _, 0) => format!("{flat} / {stride}u"),
            _ => format!("{flat} / {stride}u % {n}u"),
        };
        let _ = writeln!(text, "{indent}let {name}{axis} = {value};");
        names.push(format!("{name}{axis}"));
    }
    (text, names)
}

/// The point of a shape that lies at `j` along an axis, at `o` in the axes before it and at `e` in those
/// after it, and the statements that find it.
pub(super) fn line_point(shape: &[usize], axis: usize) -> (String, Point) {
    let (mut text, mut names) = coordinates(&shape[..axis], "o", "o", "    ");
    let (inner, inner_names) = coordinates(&shape[axis + 1..], "e", "e", "    ");
    text += &inner;
    names.push("j".to_string());
    names.extend(inner_names);
    let [_, count, width] = crate::lines(shape, axis);
    let flat = Some(format!("((o * {count}u + j) * {width}u + e)"));
    (text, Point { coordinates: names, flat })
}

/// The terms that `roots` need and `done` doesn't have yet.
pub(super) fn missing(expr: &Expr, roots: &[TermId], done: &[bool]) -> Vec<bool> {
    expr.needed(roots).iter().zip(done).map(|(&needed, &done)| needed && !done).collect()
}
