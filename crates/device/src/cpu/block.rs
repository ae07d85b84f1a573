//! Evaluates expressions block by block: every term of a block is one loop over a small array that
//! stays in the first-level cache, compiled for the widest vectors that the machine has.

use super::memory::{CACHED, Memory, Words};
use super::pair::{Pair, pairs};
use super::scratch::Scratch;
use super::vectors::arch;
use crate::special::{Vectorized, vectorized};
use crate::{DType, Expr, Intrinsic, Kernel, Term, TermId, View};
use half::slice::HalfFloatSliceExt;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

/// Points evaluated at once. Blocks take two kilobytes each, and a plan needs about ten at a time: they fit a first-level cache.
pub(super) const BLOCK: usize = 512;

/// A range of host memory that an operand names.
#[derive(Clone)]
pub(super) struct Slice {
    pub(super) memory: Arc<Memory>,
    /// First word.
    pub(super) start: usize,
    /// Elements.
    pub(super) len: usize,
    pub(super) dtype: DType,
}

impl Slice {
    /// The operand's words, to read one by one.
    fn words(&self) -> Words<'_> {
        let words = (self.len * self.dtype.bytes()).div_ceil(4);
        self.memory.words(self.start..self.start + words)
    }

    /// # Safety
    /// Nothing writes to the operand while the slice lives.
    pub(super) unsafe fn read(&self) -> &[u32] {
        let words = (self.len * self.dtype.bytes()).div_ceil(4);
        // SAFETY: passed on to the caller.
        unsafe { self.memory.read(self.start..self.start + words) }
    }

    /// # Safety
    /// Nothing writes to elements `from..from + len` while the slice lives.
    unsafe fn part(&self, from: usize, len: usize) -> &[u32] {
        assert!(from + len <= self.len, "a load leaves its operand");
        // SAFETY: passed on to the caller.
        unsafe { self.memory.read(self.start + from..self.start + from + len) }
    }

    /// Whether it pays to ask for elements early: no second-level cache holds them.
    pub(super) fn is_far(&self) -> bool {
        self.len * self.dtype.bytes() > CACHED * size_of::<u32>()
    }

    /// Asks for the lines of cache of elements `from..from + len`, as far as they lie in the operand's memory.
    #[inline(always)]
    pub(super) fn prefetch(&self, from: usize, len: usize) {
        let bytes = self.dtype.bytes();
        let words = from * bytes / 4..((from + len) * bytes).div_ceil(4);
        self.memory.prefetch(self.start + words.start..self.start + words.end);
    }

    /// Where elements `from..from + len` of an operand of halves lie, in halves.
    #[inline(always)]
    fn halves(&self, from: usize, len: usize) -> Range<usize> {
        assert!(from + len <= self.len, "halves leave their operand");
        let first = self.start * 2 + from;
        first..first + len
    }

    /// Elements `from..from + out.len()` of an operand of halves, as floats.
    ///
    /// # Safety
    /// Nothing writes to these elements meanwhile.
    #[inline(always)]
    unsafe fn widen(&self, from: usize, out: &mut [u32]) {
        // SAFETY: passed on to the caller.
        let halves = unsafe { self.memory.read_halves(self.halves(from, out.len())) };
        halves.convert_to_f32_slice(bytemuck::cast_slice_mut(out));
    }

    /// Writes values of the operand's loaded type from element `from` on.
    ///
    /// # Safety
    /// Nothing else touches these elements meanwhile.
    #[inline(always)]
    pub(super) unsafe fn store(&self, from: usize, values: &[u32]) {
        if self.dtype != DType::F16 {
            // SAFETY: passed on to the caller.
            return unsafe { self.write(from, values.len()).copy_from_slice(values) };
        }
        // SAFETY: passed on to the caller.
        let halves = unsafe { self.memory.write_halves(self.halves(from, values.len())) };
        halves.convert_from_f32_slice(bytemuck::cast_slice(values));
    }

    /// # Safety
    /// Nothing else touches the elements of `from..from + len` that are used while the cells live.
    pub(super) unsafe fn cells(&self, from: usize, len: usize) -> &[Cell<u32>] {
        assert!(from + len <= self.len, "a store leaves its operand");
        // SAFETY: passed on to the caller.
        unsafe { self.memory.cells(self.start + from..self.start + from + len) }
    }

    /// # Safety
    /// Nothing else touches elements `from..from + len` while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint ranges of one operand")]
    pub(super) unsafe fn write(&self, from: usize, len: usize) -> &mut [u32] {
        assert!(from + len <= self.len, "a store leaves its operand");
        // SAFETY: passed on to the caller.
        unsafe { self.memory.write(self.start + from..self.start + from + len) }
    }
}

/// An expression prepared for evaluation: the terms that some roots need, in order.
pub(super) struct Plan {
    steps: Vec<Step>,
    /// The block of each step. Steps of which the values aren't needed at the same time share blocks.
    blocks: Vec<usize>,
    /// Which steps have one value for all points of a block.
    uniform: Vec<bool>,
    /// The register of each root.
    pub(super) roots: Vec<usize>,
    arch: pulp::Arch,
}

/// The evaluation of a block.
struct Evaluation<'a> {
    plan: &'a Plan,
    registers: &'a mut Registers,
    start: usize,
    len: usize,
    accumulated: &'a [Accumulated<'a>],
}

impl Vectorized for Evaluation<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Evaluation { plan, registers, start, len, accumulated } = self;
        for (number, step) in plan.steps.iter().enumerate() {
            if plan.uniform[number] && registers.ready {
                continue;
            }
            if let Some(chosen) = plan.chosen(number, registers) {
                registers.held[number] = chosen;
                continue;
            }
            registers.held[number] = number;
            if let Step::Load { view, lines: true, .. } = step {
                let lies = line(view, start, len);
                registers.lies[number] = lies.unwrap_or(NOWHERE);
                if lies.is_some() {
                    continue;
                }
            }
            let points = if plan.uniform[number] { len.min(1) } else { len };
            let Registers { blocks, held, lies, .. } = &mut *registers;
            let (blocks, _) = blocks.as_chunks_mut();
            let (before, rest) = blocks.split_at_mut(plan.blocks[number]);
            let Some((out, after)) = rest.split_first_mut() else { continue };
            let others = Others { before, after, held, lies };
            // SAFETY: what the plan loads isn't written to (`Plan::evaluate`).
            unsafe { plan.step::<FUSED>(step, others, &mut out[..points], start, accumulated) };
            if points < len {
                let value = out[0];
                out[1..len].fill(value);
            }
        }
        registers.ready = true;
    }
}

/// What the steps before one gave: the blocks beside its own, and where else it lies.
struct Others<'r> {
    before: &'r [[u32; BLOCK]],
    after: &'r [[u32; BLOCK]],
    held: &'r [usize],
    lies: &'r [usize],
}

enum Step {
    Literal(u32),
    /// `lines`: where all points of a block are neighbours in memory, they are read where they lie.
    Load {
        slice: Slice,
        view: View,
        lines: bool,
    },
    Gather {
        slice: Slice,
        view: View,
        index: usize,
        stride: usize,
        len: usize,
    },
    Index(View),
    Within(View),
    Accumulator(usize),
    Apply {
        op: Intrinsic,
        dtype: DType,
        args: [usize; 3],
    },
    Pair(Pair, [usize; 3]),
}

impl Step {
    /// The steps whose values it takes.
    fn arguments(&self) -> &[usize] {
        match self {
            Step::Apply { op, args, .. } => &args[..op.arity()],
            Step::Pair(_, args) => args,
            Step::Gather { index, .. } => std::slice::from_ref(index),
            _ => &[],
        }
    }
}

/// What accumulators hold while a block is evaluated: one value for each point, or one for all.
#[derive(Clone, Copy)]
pub(super) enum Accumulated<'a> {
    Each(&'a [u32]),
    All(u32),
}

/// Where points lie that lie in no line of memory.
const NOWHERE: usize = usize::MAX;

/// The registers of one thread for one plan.
pub(super) struct Registers {
    blocks: Scratch,
    /// The step whose register holds what each step gives.
    held: Scratch<usize>,
    /// The element from which on a step's points lie in memory, or [`NOWHERE`] if they were copied.
    lies: Scratch<usize>,
    /// Whether what is the same for all of a row has been computed for this one.
    ready: bool,
}

impl Registers {
    /// Says that the next points are those of another row, or that other things are known of it.
    pub(super) fn begin_row(&mut self) {
        self.ready = false;
    }
}

impl Plan {
    pub(super) fn new(expr: &Expr, roots: &[TermId], slices: &[Slice]) -> Plan {
        Plan::over_rows(expr, roots, slices, None)
    }

    /// As [`Plan::over_rows`], for what is used before anything is stored.
    pub(super) fn unstored(
        expr: &Expr,
        roots: &[TermId],
        slices: &[Slice],
        same: Option<Vec<bool>>,
    ) -> Plan {
        Plan::over(expr, roots, slices, same, false)
    }

    /// A plan perhaps for blocks that don't leave a row: terms that are the `same` for all of a row are computed once for each.
    pub(super) fn over_rows(
        expr: &Expr,
        roots: &[TermId],
        slices: &[Slice],
        same: Option<Vec<bool>>,
    ) -> Plan {
        Plan::over(expr, roots, slices, same, true)
    }

    fn over(
        expr: &Expr,
        roots: &[TermId],
        slices: &[Slice],
        same: Option<Vec<bool>>,
        stored: bool,
    ) -> Plan {
        let needed = expr.needed(roots);
        let same = same.unwrap_or_else(|| vec![false; expr.terms.len()]);
        // What is stored as it was loaded is copied first: another store may overwrite it.
        let lines = |id: TermId, slice: &Slice, view: &View| {
            let along = view.strides.last() == Some(&1) && !view.is_masked() && !same[id];
            along && slice.dtype.bytes() == 4 && !(stored && roots.contains(&id))
        };
        let pairs = pairs(expr, roots, &needed, &same);
        let mut computed = needed;
        pairs.iter().flatten().for_each(|&(inner, ..)| computed[inner] = false);
        let mut uniform = Vec::new();
        let mut register = vec![usize::MAX; expr.terms.len()];
        let mut steps = Vec::new();
        for (id, term) in expr.terms.iter().enumerate().filter(|(id, _)| computed[*id]) {
            register[id] = steps.len();
            uniform.push(same[id] && !matches!(term, Term::Literal(_)));
            steps.push(match term {
                Term::Literal(literal) => Step::Literal(literal.bits),
                Term::Load { operand, view } => {
                    let (slice, view) = (slices[*operand].clone(), view.collapsed());
                    let lines = lines(id, &slice, &view);
                    Step::Load { slice, view, lines }
                }
                Term::Gather { operand, view, index, stride, len } => Step::Gather {
                    slice: slices[*operand].clone(),
                    view: view.collapsed(),
                    index: register[*index],
                    stride: *stride,
                    len: *len,
                },
                Term::Index { view } => Step::Index(view.collapsed()),
                Term::Within { view } => Step::Within(view.collapsed()),
                Term::Accumulator(number) => Step::Accumulator(*number),
                Term::Apply { .. } if let Some((_, pair, of)) = pairs[id] => {
                    Step::Pair(pair, of.map(|id| register[id]))
                }
                Term::Apply { op, args } => {
                    // Arguments that there aren't may be any that there is.
                    let mut registers = [register[args[0]]; 3];
                    for (slot, &arg) in registers.iter_mut().zip(args) {
                        *slot = register[arg];
                    }
                    Step::Apply { op: *op, dtype: expr.types[args[0]], args: registers }
                }
            });
        }
        let roots: Vec<usize> = roots.iter().map(|&root| register[root]).collect();
        let blocks = share_blocks(&steps, &uniform, &roots);
        Plan { steps, blocks, uniform, roots, arch: arch() }
    }

    /// The accumulators that it needs.
    pub(super) fn accumulators(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().filter_map(|step| match step {
            Step::Accumulator(number) => Some(*number),
            _ => None,
        })
    }

    pub(super) fn registers(&self) -> Registers {
        let count = self.blocks.iter().max().map_or(0, |last| last + 1);
        let mut blocks = Scratch::new(count * BLOCK);
        for (step, &block) in self.steps.iter().zip(&self.blocks) {
            if let Step::Literal(bits) = step {
                blocks[block * BLOCK..][..BLOCK].fill(*bits);
            }
        }
        let steps = self.steps.len();
        let (held, lies) = (Scratch::of(0..steps), Scratch::filled(steps, NOWHERE));
        Registers { blocks, held, lies, ready: false }
    }

    /// The step that a choice made for all points is, so that nothing has to be moved. What is read where it lies stays a
    /// choice: a store may overwrite it.
    #[inline(always)]
    fn chosen(&self, number: usize, registers: &Registers) -> Option<usize> {
        let Step::Apply { op: Intrinsic::Select, args: [choice, yes, no], .. } = self.steps[number]
        else {
            return None;
        };
        if !self.uniform[choice] || self.uniform[number] {
            return None;
        }
        let yes_or_no = if registers.blocks[self.blocks[choice] * BLOCK] != 0 { yes } else { no };
        let chosen = registers.held[yes_or_no];
        let lies = registers.lies[chosen] != NOWHERE;
        (!lies && !matches!(self.steps[chosen], Step::Accumulator(_))).then_some(chosen)
    }

    /// Asks for the lines of cache that points `start..start + len`, which are evaluated later, will read. There may be no such points.
    pub(super) fn prefetch(&self, start: usize, len: usize) {
        for step in &self.steps {
            if let Step::Load { slice, view, lines: true } = step
                && slice.is_far()
                && let Some(at) = line(view, start, len)
            {
                slice.prefetch(at, len);
            }
        }
    }

    /// Evaluates points `start..start + len` (at most a block) of the domain.
    ///
    /// # Safety
    /// Nothing writes to the operands that the plan loads while this runs.
    pub(super) unsafe fn evaluate(
        &self,
        registers: &mut Registers,
        start: usize,
        len: usize,
        accumulated: &[Accumulated<'_>],
    ) {
        debug_assert!(len <= BLOCK, "a block holds {BLOCK} points, not {len}");
        vectorized(self.arch, Evaluation { plan: self, registers, start, len, accumulated });
    }

    /// Evaluates one step for the points of `out`, with what the steps before it gave.
    ///
    /// # Safety
    /// Nothing writes to the words that the step loads while this runs.
    #[inline(always)]
    unsafe fn step<const FUSED: bool>(
        &self,
        step: &Step,
        others: Others<'_>,
        out: &mut [u32],
        start: usize,
        accumulated: &[Accumulated<'_>],
    ) {
        let given = Given { plan: self, others, points: out.len(), accumulated };
        match step {
            Step::Literal(_) => {}
            // SAFETY: passed on to the caller.
            Step::Load { slice, view, .. } => unsafe { load(slice, view, start, out) },
            Step::Gather { slice, view, index, stride, len } => {
                // SAFETY: passed on to the caller.
                unsafe { gather(slice, view, (given.by(*index), *stride, *len), start, out) }
            }
            Step::Index(view) => segments(view, start, out, |at| at as u32),
            Step::Within(view) => segments(view, start, out, |_| 1),
            Step::Accumulator(number) => match accumulated[*number] {
                Accumulated::Each(_) => {}
                Accumulated::All(value) => out.fill(value),
            },
            Step::Apply { op, dtype, args } => {
                let arity = op.arity();
                // SAFETY: passed on to the caller.
                unsafe {
                    let first = given.by(args[0]);
                    let second = if arity > 1 { given.by(args[1]) } else { first };
                    let third = if arity > 2 { given.by(args[2]) } else { first };
                    op.evaluate::<FUSED>(*dtype, first, second, third, out);
                }
            }
            Step::Pair(pair, [a, b, c]) => {
                // SAFETY: passed on to the caller.
                unsafe { pair.evaluate([given.by(*a), given.by(*b), given.by(*c)], out) }
            }
        }
    }

    /// The values of a root after [`Plan::evaluate`] of `len` points with the same accumulators.
    ///
    /// # Safety
    /// Nothing writes to the operands that the plan loads while they are used, unless they are stored (see [`Plan::unstored`]).
    pub(super) unsafe fn root<'r>(
        &'r self,
        registers: &'r Registers,
        root: usize,
        len: usize,
        accumulated: &[Accumulated<'r>],
    ) -> &'r [u32] {
        let step = registers.held[self.roots[root]];
        match &self.steps[step] {
            Step::Load { slice, .. } if registers.lies[step] != NOWHERE => {
                // SAFETY: passed on to the caller.
                unsafe { slice.part(registers.lies[step], len) }
            }
            Step::Accumulator(number) if let Accumulated::Each(values) = accumulated[*number] => {
                &values[..len]
            }
            _ => &registers.blocks[self.blocks[step] * BLOCK..][..len],
        }
    }
}

/// What the steps before one gave, for so many points.
struct Given<'r> {
    plan: &'r Plan,
    others: Others<'r>,
    points: usize,
    accumulated: &'r [Accumulated<'r>],
}

impl<'r> Given<'r> {
    /// By one of them.
    ///
    /// # Safety
    /// Nothing writes to the words that it loads while they are used.
    #[inline(always)]
    unsafe fn by(&self, number: usize) -> &'r [u32] {
        let Given { plan, others: Others { before, after, held, lies }, points, accumulated } =
            self;
        let step = held[number];
        match (&plan.steps[step], lies[step]) {
            // SAFETY: passed on to the caller.
            (Step::Load { slice, .. }, at) if at != NOWHERE => unsafe { slice.part(at, *points) },
            (Step::Accumulator(number), _)
                if let Accumulated::Each(values) = accumulated[*number] =>
            {
                &values[..*points]
            }
            _ => match plan.blocks[step] {
                block if block < before.len() => &before[block][..*points],
                block => &after[block - before.len() - 1][..*points],
            },
        }
    }
}

/// A block for each step, so that what a step reads is still there. Constants, what is the same for all of a row and roots keep
/// theirs.
fn share_blocks(steps: &[Step], uniform: &[bool], roots: &[usize]) -> Vec<usize> {
    let keeps = |step: usize| {
        uniform[step] || roots.contains(&step) || matches!(steps[step], Step::Literal(_))
    };
    let mut last: Vec<usize> = (0..steps.len()).collect();
    for (number, step) in steps.iter().enumerate() {
        step.arguments().iter().for_each(|&argument| last[argument] = number);
    }
    // A choice for all points stays in the block of what is chosen.
    for (number, step) in steps.iter().enumerate().rev() {
        if let Step::Apply { op: Intrinsic::Select, args: [choice, yes, no], .. } = step
            && uniform[*choice]
        {
            let end = if keeps(number) { usize::MAX } else { last[number] };
            for &chosen in [yes, no] {
                last[chosen] = last[chosen].max(end);
            }
        }
    }
    let (mut blocks, mut free, mut count) = (Vec::new(), Vec::new(), 0);
    for (number, step) in steps.iter().enumerate() {
        // What isn't evaluated for each block must not be overwritten by what is.
        let once = uniform[number] || matches!(step, Step::Literal(_));
        blocks.push(free.pop_if(|_| !once).unwrap_or_else(|| {
            count += 1;
            count - 1
        }));
        let over = (0..=number).filter(|&step| last[step] == number && !keeps(step));
        free.extend(over.map(|step| blocks[step]));
    }
    blocks
}

/// One element of an operand, as loaded.
///
/// # Safety
/// Nothing writes to it meanwhile, nor to the word of a byte.
#[inline(always)]
unsafe fn element(slice: &Slice, at: usize) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe {
        match slice.dtype {
            DType::U8 => slice.words().at(at / 4) >> (at % 4 * 8) & 0xFF,
            // Not its word: another thread may be writing the half beside it.
            DType::F16 => slice.memory.read_halves(slice.halves(at, 1))[0].to_f32().to_bits(),
            _ => slice.words().at(at),
        }
    }
}

/// # Safety
/// Nothing writes to the words that the view selects meanwhile.
#[inline(always)]
unsafe fn load(slice: &Slice, view: &View, start: usize, out: &mut [u32]) {
    if slice.dtype.bytes() != 4 {
        // SAFETY: passed on to the caller.
        return lines(view, start, out, |out, at, step| unsafe {
            match (at, step) {
                (None, _) => out.fill(0),
                (Some(at), 1) if slice.dtype == DType::F16 => slice.widen(at as usize, out),
                (Some(at), step) => {
                    for (i, value) in out.iter_mut().enumerate() {
                        *value = element(slice, (at + i as isize * step) as usize);
                    }
                }
            }
        });
    }
    let words = slice.words();
    // SAFETY: passed on to the caller.
    lines(view, start, out, |out, at, step| unsafe {
        match (at, step) {
            (None, _) => out.fill(0),
            (Some(at), 1) => words.copy(at as usize, out),
            (Some(at), 0) => out.fill(words.at(at as usize)),
            (Some(at), step) => {
                for (i, value) in out.iter_mut().enumerate() {
                    *value = words.at((at + i as isize * step) as usize);
                }
            }
        }
    });
}

/// `out[i]` = the element at an index times a stride past where the view has the point: NaN or zero where there is no
/// such index, zero outside of the view's data.
///
/// # Safety
/// Nothing writes to the operand meanwhile.
#[inline(always)]
unsafe fn gather(
    slice: &Slice,
    view: &View,
    (indices, stride, len): (&[u32], usize, usize),
    start: usize,
    out: &mut [u32],
) {
    let missing = if slice.dtype.loaded() == DType::F32 { f32::NAN.to_bits() } else { 0 };
    runs(view, start, out.len(), |points, at, step| {
        let (out, indices) = (&mut out[points.clone()], &indices[points]);
        let Some(at) = at else { return out.fill(0) };
        let first = indices[0];
        // Neighbours of one slice, such as the vector of a word, are copied.
        let together = step == 1 && slice.dtype.bytes() == 4 && (first as usize) < len;
        if together && indices.iter().fold(true, |same, &index| same & (index == first)) {
            // SAFETY: passed on to the caller.
            return unsafe { slice.words().copy(at as usize + first as usize * stride, out) };
        }
        for (i, (value, &index)) in out.iter_mut().zip(indices).enumerate() {
            let at = (at + i as isize * step) as usize + index as usize * stride;
            // SAFETY: passed on to the caller.
            *value = if (index as usize) < len { unsafe { element(slice, at) } } else { missing };
        }
    });
}

/// `out[i] = f(element)` for each point inside the view's data, zero outside.
#[inline(always)]
fn segments(view: &View, start: usize, out: &mut [u32], f: impl Fn(usize) -> u32) {
    lines(view, start, out, |out, at, step| match at {
        None => out.fill(0),
        Some(at) => {
            for (i, value) in out.iter_mut().enumerate() {
                *value = f((at + i as isize * step) as usize);
            }
        }
    });
}

/// Cuts `out`, which begins at point `start`, into lines: runs of points with one step between
/// their elements. The line function gets the first element, or `None` outside the data.
#[inline(always)]
fn lines(
    view: &View,
    start: usize,
    out: &mut [u32],
    mut line: impl FnMut(&mut [u32], Option<isize>, isize),
) {
    runs(view, start, out.len(), |points, at, step| line(&mut out[points], at, step));
}

/// The element of the first of `count` points that are neighbours in memory, of a view whose last axis has step one and that masks
/// nothing.
pub(super) fn line(view: &View, start: usize, count: usize) -> Option<usize> {
    let (&width, axes) = view.shape.split_last()?;
    if count == 0 || start % width + count > width {
        return None;
    }
    let (mut number, column) = (start / width, start % width);
    let mut at = view.offset + column as isize;
    for (size, stride) in axes.iter().zip(&view.strides).rev() {
        at += (number % size) as isize * stride;
        number /= size;
    }
    Some(at as usize)
}

/// [`lines`] of `count` points by their numbers.
#[inline(always)]
pub(super) fn runs(
    view: &View,
    start: usize,
    count: usize,
    mut run: impl FnMut(Range<usize>, Option<isize>, isize),
) {
    let Some(last) = view.shape.len().checked_sub(1) else {
        return run(0..count, Some(view.offset), 0);
    };
    let (width, step) = (view.shape[last], view.strides[last]);
    let (first, end) = view.valid[last];
    // Lines that follow each other along the last axis but one lie as far from each other, so that nothing is divided for them.
    let (lines, pitch, valid) = match last.checked_sub(1) {
        Some(axis) => (view.shape[axis], view.strides[axis], view.valid[axis]),
        None => (1, 0, (0, 1)),
    };
    // Where the first of such lines begins, and whether the axes before have them.
    let locate = |mut number: usize| {
        let (mut at, mut exists) = (view.offset, true);
        for axis in (0..last.saturating_sub(1)).rev() {
            let c = number % view.shape[axis];
            number /= view.shape[axis];
            at += c as isize * view.strides[axis];
            exists &= c >= view.valid[axis].0 && c < view.valid[axis].1;
        }
        (at, exists)
    };
    if count == 0 {
        return;
    }
    let (line, mut column) = (start / width, start % width);
    let (mut number, mut along) = (line / lines, line % lines);
    let (mut base, mut all) = locate(number);
    let mut done = 0;
    while done < count {
        let at = base + along as isize * pitch;
        let exists = all && valid.0 <= along && along < valid.1;
        let len = (width - column).min(count - done);
        if exists && first <= column && column + len <= end {
            run(done..done + len, Some(at + column as isize * step), step);
        } else if !exists {
            run(done..done + len, None, 0);
        } else {
            // The line crosses the edge of the data: before, inside, after.
            let low = first.clamp(column, column + len);
            let inside = low - column..end.clamp(low, column + len) - column;
            run(done..done + inside.start, None, 0);
            let from = at + (column + inside.start) as isize * step;
            // An empty part lies nowhere: its address may be outside of the operand.
            if !inside.is_empty() {
                run(done + inside.start..done + inside.end, Some(from), step);
            }
            run(done + inside.end..done + len, None, 0);
        }
        done += len;
        (column, along) = (0, along + 1);
        if along == lines && done < count {
            (number, along) = (number + 1, 0);
            (base, all) = locate(number);
        }
    }
}

/// The slices of a kernel's operands.
pub(super) fn slices(kernel: &Kernel, buffers: &[Arc<Memory>]) -> Vec<Slice> {
    kernel
        .operands
        .iter()
        .map(|operand| Slice {
            memory: buffers[operand.buffer].clone(),
            start: operand.offset / 4,
            len: operand.len,
            dtype: operand.dtype,
        })
        .collect()
}
