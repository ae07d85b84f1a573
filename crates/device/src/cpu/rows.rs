//! Row kernels: reductions of each row one after the other, then stores.
//!
//! A row is summed block by block: in four times sixteen partial sums, which are added to sixteen and these in f64, as blocks are. The
//! order depends on the length alone. Rows of which the elements lie far apart are in `across`.

use super::block::{Accumulated, BLOCK, Plan, Registers, Slice};
use super::crew;
use super::scratch::{Few, Scratch};
use super::stores::{Stores, roots};
use super::vectors::arch;
use super::{TASK_POINTS, Task};
use crate::special::{Vectorized, vectorized};
use crate::{Body, Combine, DType, Expr, Kernel, Term, TermId, View, numel};
use bytemuck::{Pod, Zeroable};
use smallvec::SmallVec;
use std::array::from_fn;
use std::ops::Range;

/// Elements that are combined with as many partial results at once.
pub(super) const LANES: usize = 16;

/// Lines of partial results that don't wait for each other.
const CHAINS: usize = 4;

/// Elements of rows that go through all passes together: as many of some operands stay in a first-level cache.
const GROUP: usize = TASK_POINTS / 4;

/// Tasks for each thread that there are at least, where groups are so many.
const TASKS: usize = 8;

/// Whatever is found of a row, by a stage or by a pass, is an accumulator of all that is evaluated later, in the order of finding.
pub(super) struct Rows {
    rows: usize,
    cols: usize,
    /// What elements need and is the same for all of a row, for many rows at once: before the first pass and after each.
    stages: Vec<Plan>,
    /// Reductions that go through the columns together, each with how it combines what.
    passes: Vec<(Vec<(Combine, DType)>, Plan)>,
    /// What is kept of each element for later passes, as accumulators behind those of rows: the pass and which of its reductions'
    /// terms.
    kept: Vec<[usize; 2]>,
    row_stores: Stores,
    stores: Stores,
    /// Where elements are stored.
    layout: View,
    /// Rows that fit a block.
    together: usize,
    /// How much is found of a row.
    found: usize,
}

impl Rows {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Rows {
        let Body::Rows { rows, cols, layout, reductions, row_stores, stores } = &kernel.body else {
            unreachable!("prepared as rows because the body is rows")
        };
        let columns = rows.len()..rows.len() + cols.len();
        let passes = kernel.body.passes(&kernel.expr);
        let elements: Vec<_> = reductions.iter().map(|r| r.term).chain(roots(stores)).collect();
        let (expr, stages) = stages(&kernel.expr, &elements, columns.clone(), &passes);
        let together = (BLOCK / numel(cols).max(1)).max(1);
        // Of one row, or of several. What is kept differs from element to element, as what it was computed from.
        let uniform = expr.uniform(columns.clone());
        let same = (together == 1).then(|| uniform.clone());
        let found = stages.iter().map(|(_, terms)| terms.len()).sum::<usize>() + reductions.len();
        let kept = match numel(cols) <= TASK_POINTS {
            true => kept(&expr, &uniform, &kernel.body, &passes),
            false => vec![],
        };
        // With what passes before one have kept.
        let after = |number: usize| {
            let mut expr = expr.clone();
            for (place, &[pass, reduction]) in kept.iter().enumerate() {
                if pass < number {
                    let term = reductions[passes[pass].start + reduction].term;
                    expr.terms[term] = Term::Accumulator(found + place);
                }
            }
            expr
        };
        let pass = |(number, range): (usize, &Range<usize>)| {
            let all = &reductions[range.clone()];
            let terms: Vec<_> = all.iter().map(|r| r.term).collect();
            let combines = all.iter().map(|r| (r.combine, expr.types[r.term])).collect();
            (combines, Plan::unstored(&after(number), &terms, slices, same.clone()))
        };
        let of_rows = |(expr, terms): (Expr, Vec<TermId>)| {
            Plan::new(&expr.without(columns.clone()), &terms, slices)
        };
        let row_plan = of_rows((expr.clone(), roots(row_stores)));
        let plan = Plan::over_rows(&after(passes.len()), &roots(stores), slices, same.clone());
        Rows {
            rows: numel(rows),
            cols: numel(cols),
            stages: stages.into_iter().map(of_rows).collect(),
            passes: passes.iter().enumerate().map(pass).collect(),
            kept,
            row_stores: Stores::with(row_plan, false, row_stores, slices),
            stores: Stores::with(plan, false, stores, slices),
            layout: layout.collapsed(),
            together,
            found,
        }
    }

    /// `count` rows from `first` on, at most as many as a block has points.
    ///
    /// # Safety
    /// As [`Task::run`], and no other thread works on these rows.
    unsafe fn group(&self, first: usize, count: usize, state: &mut State) {
        let State { stages, passes, row_stores, stores, found, spread, totals, kept } = state;
        // While the last pass goes over these rows, what the first loads of the next ones; of long rows, what it loads of the next block.
        let group = count * self.cols;
        let first_pass = self.passes.first().map_or(&self.stores.plan, |(_, plan)| plan);
        let ahead = |[start, len]: [usize; 2]| {
            let distance = if group > TASK_POINTS { len } else { group };
            first_pass.prefetch(start + distance, len);
        };
        let [(found, _), (spread, _)] = [found, spread].map(|words| words.as_chunks_mut());
        let mut done = 0;
        for (number, (stage, registers)) in self.stages.iter().zip(stages).enumerate() {
            let (known, next) = found.split_at_mut(done);
            if !stage.roots.is_empty() {
                let known = each(known);
                // SAFETY: passed on to the caller.
                unsafe {
                    stage.evaluate(registers, first, count, &known);
                    for (root, next) in next[..stage.roots.len()].iter_mut().enumerate() {
                        next[..count].copy_from_slice(stage.root(registers, root, count, &known));
                    }
                }
                done += stage.roots.len();
            }
            let Some((combines, plan)) = self.passes.get(number) else { continue };
            let (known, next) = found.split_at_mut(done);
            let is_last = self.stores.is_empty() && number + 1 == self.passes.len();
            let earlier = self.kept.partition_point(|[pass, _]| *pass < number);
            let (before, here) = kept.split_at_mut(earlier * group);
            let here = here.chunks_mut(group.max(1)).zip(&self.kept[earlier..]);
            let mut here: Few<_> = here.filter(|(_, [pass, _])| *pass == number).collect();
            for rows in self.blocks(count) {
                let mut known = self.known(plan, known, &rows, spread);
                let registers = &mut passes[number];
                registers.begin_row();
                let each_row = rows.clone().flat_map(|_| combines);
                let totals = &mut totals[..rows.len() * combines.len()];
                totals.iter_mut().zip(each_row).for_each(|(total, &how)| *total = Total::of(how));
                for [start, len] in self.points(first, &rows) {
                    if is_last {
                        ahead([start, len]);
                    }
                    let at = start - first * self.cols;
                    self.recall(&mut known, before, group, at..at + len);
                    // SAFETY: passed on to the caller.
                    unsafe { plan.evaluate(registers, start, len, &known) };
                    for (values, [_, root]) in &mut here {
                        // SAFETY: as above.
                        let kept = unsafe { plan.root(registers, *root, len, &known) };
                        values[at..at + len].copy_from_slice(kept);
                    }
                    for root in 0..combines.len() {
                        // SAFETY: as above.
                        let values = unsafe { plan.root(registers, root, len, &known) };
                        let values = values.chunks(self.cols);
                        let totals = totals.iter_mut().skip(root).step_by(combines.len());
                        let how = combines[root];
                        totals.zip(values).for_each(|(total, values)| total.add(how, values));
                    }
                }
                for (row, totals) in rows.zip(totals.chunks(combines.len())) {
                    let totals = totals.iter().zip(combines);
                    for (next, (total, &how)) in next.iter_mut().zip(totals) {
                        next[row] = total.bits(how);
                    }
                }
            }
            done += combines.len();
        }
        // SAFETY: passed on to the caller; rows store disjoint ranges.
        unsafe { self.row_stores.block(row_stores, first, first, count, &each(found)) };
        if self.stores.is_empty() {
            return;
        }
        for rows in self.blocks(count) {
            let mut known = self.known(&self.stores.plan, found, &rows, spread);
            stores.begin_row();
            for points in self.points(first, &rows) {
                ahead(points);
                let at = points[0] - first * self.cols;
                self.recall(&mut known, kept, group, at..at + points[1]);
                // SAFETY: passed on to the caller; rows store disjoint ranges.
                unsafe { self.stores.spread(stores, &self.layout, points, &known) };
            }
        }
    }

    /// The rows of a group that are evaluated together.
    fn blocks(&self, count: usize) -> impl Iterator<Item = Range<usize>> {
        let together = self.together;
        (0..count).step_by(together).map(move |row| row..(row + together).min(count))
    }

    /// The first point and the number of points of each block of some rows of the group that begins at `first`.
    fn points(&self, first: usize, rows: &Range<usize>) -> impl Iterator<Item = [usize; 2]> {
        let [start, end] = [rows.start, rows.end].map(|row| (first + row) * self.cols);
        (start..end).step_by(BLOCK).map(move |at| [at, BLOCK.min(end - at)])
    }

    /// Adds what earlier passes kept of the elements of a block, each of so many elements of the group.
    fn recall<'s>(
        &self,
        known: &mut Known<'s>,
        kept: &'s [u32],
        group: usize,
        block: Range<usize>,
    ) {
        if kept.is_empty() {
            return;
        }
        known.resize(self.found, Accumulated::All(0));
        let of_block = |values: &'s [u32]| Accumulated::Each(&values[block.clone()]);
        known.extend(kept.chunks(group).take(self.kept.len()).map(of_block));
    }

    /// What is known of a row, or of the row of each point where several rows share a block, as far as a plan needs it.
    fn known<'s>(
        &self,
        plan: &Plan,
        found: &[[u32; BLOCK]],
        rows: &Range<usize>,
        spread: &'s mut [[u32; BLOCK]],
    ) -> Known<'s> {
        if self.together == 1 {
            return found.iter().map(|values| Accumulated::All(values[rows.start])).collect();
        }
        for number in plan.accumulators().filter(|&number| number < found.len()) {
            let lines = spread[number].chunks_mut(self.cols.max(1));
            lines.zip(&found[number][rows.clone()]).for_each(|(line, value)| line.fill(*value));
        }
        each(spread)
    }
}

/// Which elements' terms are worth keeping for later passes: what is reduced, needed again and takes longer to compute than to load. For
/// each, the pass and which of its reductions has it. `uniform` terms are the same for all of a row.
fn kept(expr: &Expr, uniform: &[bool], body: &Body, passes: &[Range<usize>]) -> Vec<[usize; 2]> {
    let Body::Rows { reductions, stores, .. } = body else { return vec![] };
    let mut slow = vec![false; expr.terms.len()];
    for (id, term) in expr.terms.iter().enumerate().filter(|(id, _)| !uniform[*id]) {
        let own = matches!(term, Term::Apply { op, .. } if op.is_slow());
        slow[id] = own || term.arguments().iter().any(|&argument| slow[argument]);
    }
    let mut kept = vec![];
    for (number, pass) in passes.iter().enumerate() {
        let later = reductions[pass.end..].iter().map(|reduction| reduction.term);
        let needed = expr.needed(&later.chain(roots(stores)).collect::<Vec<_>>());
        let mut terms = vec![];
        for (place, reduction) in reductions[pass.clone()].iter().enumerate() {
            if needed[reduction.term] && slow[reduction.term] && !terms.contains(&reduction.term) {
                terms.push(reduction.term);
                kept.push([number, place]);
            }
        }
    }
    kept
}

/// The expression of a row kernel with accumulators for what `elements` need that is the same for all of a row; and the expressions
/// and terms that give these: before the first pass and after each.
fn stages(
    expr: &Expr,
    elements: &[TermId],
    columns: Range<usize>,
    passes: &[Range<usize>],
) -> (Expr, Vec<(Expr, Vec<TermId>)>) {
    /// Never: a term that differs from column to column.
    const NEVER: usize = usize::MAX;
    let uniform = expr.uniform(columns);
    // After how many passes a term is known for a row.
    let mut known: Vec<usize> = Vec::with_capacity(expr.terms.len());
    for (term, uniform) in expr.terms.iter().zip(uniform) {
        let arguments = term.arguments().iter().map(|&arg| known[arg]).max().unwrap_or(0);
        known.push(match term {
            Term::Accumulator(n) => passes.iter().take_while(|pass| pass.start <= *n).count(),
            _ if uniform => arguments,
            _ => NEVER,
        });
    }
    let needed = expr.needed(elements);
    let mut used = vec![false; known.len()];
    elements.iter().for_each(|&element| used[element] = true);
    for (id, term) in expr.terms.iter().enumerate() {
        if needed[id] && known[id] == NEVER {
            term.arguments().iter().for_each(|&arg| used[arg] = true);
        }
    }
    let computed =
        |id: &TermId| !matches!(expr.terms[*id], Term::Literal(_) | Term::Accumulator(_));
    let mut numbers = 0..;
    let mut after = expr.clone();
    let mut stages = Vec::new();
    for stage in 0..=passes.len() {
        let terms: Vec<TermId> = (0..known.len())
            .filter(|id| used[*id] && known[*id] == stage && computed(id))
            .collect();
        stages.push((after.clone(), terms.clone()));
        for (id, number) in terms.into_iter().zip(&mut numbers) {
            after.terms[id] = Term::Accumulator(number);
        }
        for (reduction, number) in
            passes.get(stage).cloned().into_iter().flatten().zip(&mut numbers)
        {
            for (term, now) in expr.terms.iter().zip(&mut after.terms) {
                if *term == Term::Accumulator(reduction) {
                    *now = Term::Accumulator(number);
                }
            }
        }
    }
    (after, stages)
}

/// What is known of a row: hardly ever more than so many numbers.
type Known<'a> = SmallVec<[Accumulated<'a>; 32]>;

pub(super) fn each(found: &[[u32; BLOCK]]) -> Known<'_> {
    found.iter().map(|values| Accumulated::Each(values)).collect()
}

/// What a task works in.
struct State {
    stages: Few<Registers>,
    passes: Few<Registers>,
    row_stores: Registers,
    stores: Registers,
    /// What is found of each row of a group, in blocks.
    found: Scratch,
    /// The same for each point of a block, where rows share blocks.
    spread: Scratch,
    /// The reductions of the rows of a block.
    totals: Scratch<Total>,
    /// What passes keep of the elements of a group.
    kept: Scratch,
}

impl Task for Rows {
    unsafe fn run(&self) {
        let found = self.found;
        let fit = |points: usize| (points / self.cols.max(1)).max(1);
        // What is found of rows takes a point of a block for each.
        let group = fit(GROUP).min(BLOCK);
        // Several groups, but not so many that cores have nothing to do.
        let tasks = TASKS * rayon::current_num_threads();
        let rows_each = fit(TASK_POINTS).min(self.rows.div_ceil(tasks)).max(fit(GROUP));
        let most = self.passes.iter().map(|(combines, _)| combines.len()).max().unwrap_or(0);
        crew::each(self.rows.div_ceil(rows_each), |task| {
            let mut state = State {
                stages: self.stages.iter().map(Plan::registers).collect(),
                passes: self.passes.iter().map(|(_, plan)| plan.registers()).collect(),
                row_stores: self.row_stores.registers(),
                stores: self.stores.registers(),
                found: Scratch::new(found * BLOCK),
                spread: Scratch::new(if self.together > 1 { found * BLOCK } else { 0 }),
                totals: Scratch::new(self.together.min(group) * most),
                kept: Scratch::new(self.kept.len() * group * self.cols),
            };
            let rows = task * rows_each..((task + 1) * rows_each).min(self.rows);
            for first in rows.clone().step_by(group) {
                // SAFETY: each row belongs to one task, and nothing loaded is stored.
                unsafe { self.group(first, group.min(rows.end - first), &mut state) };
            }
        });
    }
}

/// How what is combined, of which type.
type How = (Combine, DType);

/// A reduction under way.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Total {
    /// Sums and products of floats.
    pub(super) float: f64,
    /// Everything else.
    bits: u64,
}

struct Adding<'a> {
    total: &'a mut Total,
    how: How,
    block: &'a [u32],
}

impl Vectorized for Adding<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.total.add_up(self.how, self.block);
    }
}

/// Combines elements in lanes, because each would wait for the one before.
#[inline(always)]
pub(super) fn in_lanes(elements: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let into = |lanes: &mut [f32; LANES], values: &[f32]| {
        lanes.iter_mut().zip(values).for_each(|(lane, &value)| *lane = f(*lane, value));
    };
    let mut chains = [[start; LANES]; CHAINS];
    let (lines, rest) = elements.as_chunks::<{ LANES * CHAINS }>();
    for line in lines {
        let (values, _) = line.as_chunks::<LANES>();
        chains.iter_mut().zip(values).for_each(|(chain, values)| into(chain, values));
    }
    let [mut lanes, others @ ..] = chains;
    others.iter().for_each(|other| into(&mut lanes, other));
    rest.chunks(LANES).for_each(|values| into(&mut lanes, values));
    lanes
}

/// Combines lanes as a tree: a chain of as many steps would take longer than what fills them.
#[inline(always)]
pub(super) fn tree<T: Copy>(lanes: [T; 16], f: impl Fn(T, T) -> T) -> T {
    // Arrays of their own stay in registers.
    let eight: [T; 8] = from_fn(|lane| f(lanes[lane], lanes[lane + 8]));
    let four: [T; 4] = from_fn(|lane| f(eight[lane], eight[lane + 4]));
    f(f(four[0], four[2]), f(four[1], four[3]))
}

impl Total {
    pub(super) fn of((combine, dtype): How) -> Total {
        let float = if combine == Combine::Prod { 1.0 } else { 0.0 };
        Total { float, bits: combine.identity(dtype).bits.into() }
    }

    pub(super) fn add(&mut self, how: How, block: &[u32]) {
        vectorized(arch(), Adding { total: self, how, block });
    }

    #[inline(always)]
    fn add_up(&mut self, how: How, block: &[u32]) {
        let bits = self.bits as u32;
        match how {
            (Combine::Sum, DType::F32) => {
                let lanes = in_lanes(bytemuck::cast_slice(block), 0.0, |a, b| a + b);
                self.float += tree(lanes.map(f64::from), |a, b| a + b);
            }
            (Combine::Sum, _) => {
                self.bits = block.iter().fold(bits, |sum, &v| sum.wrapping_add(v)).into();
            }
            (Combine::Prod, DType::F32) => {
                let floats: &[f32] = bytemuck::cast_slice(block);
                self.float = floats.iter().fold(self.float, |all, &v| all * f64::from(v));
            }
            (Combine::Prod, _) => {
                self.bits = block.iter().fold(bits, |all, &v| all.wrapping_mul(v)).into();
            }
            (Combine::Max, DType::F32) => {
                self.extreme(block, |a, b| if b > a || b.is_nan() { b } else { a })
            }
            (Combine::Min, DType::F32) => {
                self.extreme(block, |a, b| if b < a || b.is_nan() { b } else { a })
            }
            (Combine::Max, DType::I32) => self.signed(block, i32::max),
            (Combine::Min, DType::I32) => self.signed(block, i32::min),
            (Combine::Max, _) => self.bits = block.iter().fold(bits, |a, &b| a.max(b)).into(),
            (Combine::Min, _) => self.bits = block.iter().fold(bits, |a, &b| a.min(b)).into(),
        }
    }

    #[inline(always)]
    fn extreme(&mut self, block: &[u32], f: impl Fn(f32, f32) -> f32) {
        let start = f32::from_bits(self.bits as u32);
        let lanes = in_lanes(bytemuck::cast_slice(block), start, &f);
        self.bits = tree(lanes, f).to_bits().into();
    }

    #[inline(always)]
    fn signed(&mut self, block: &[u32], f: impl Fn(i32, i32) -> i32) {
        let bits = block.iter().fold(self.bits as u32 as i32, |a, &b| f(a, b as i32));
        self.bits = (bits as u32).into();
    }

    fn bits(&self, how: How) -> u32 {
        match how {
            (Combine::Sum | Combine::Prod, DType::F32) => (self.float as f32).to_bits(),
            _ => self.bits as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Intrinsic, Reduction, Store};

    /// Which terms a kernel keeps that takes the largest of a row off its elements, sums what `op` makes of these and divides by it.
    fn kept_of(op: Intrinsic) -> Vec<[usize; 2]> {
        let mut expr = Expr::default();
        let load = Term::Load { operand: 0, view: View::contiguous(&[2, 8]) };
        let x = expr.push(load, DType::F32);
        let most = expr.push(Term::Accumulator(0), DType::F32);
        let off = expr.apply(Intrinsic::Sub, &[x, most]);
        let changed = expr.apply(op, &[off]);
        let total = expr.push(Term::Accumulator(1), DType::F32);
        let share = expr.apply(Intrinsic::Div, &[changed, total]);
        let reduction = |combine, term| Reduction { combine, term };
        let body = Body::Rows {
            rows: vec![2],
            cols: vec![8],
            layout: View::contiguous(&[2, 8]),
            reductions: vec![reduction(Combine::Max, x), reduction(Combine::Sum, changed)],
            row_stores: vec![],
            stores: vec![Store { operand: 1, term: share }],
        };
        kept(&expr, &expr.uniform(1..2), &body, &body.passes(&expr))
    }

    #[test]
    fn exponentials_are_kept_and_what_is_computed_faster_is_not() {
        assert_eq!(kept_of(Intrinsic::Exp), [[1, 0]]);
        assert!(kept_of(Intrinsic::Abs).is_empty());
    }

    const LENGTHS: [usize; 10] = [1, 15, 16, 17, 63, 64, 65, 100, 130, BLOCK];

    /// Of all elements, in two blocks.
    fn total(combine: Combine, row: &[f32]) -> f32 {
        let how = (combine, DType::F32);
        let mut total = Total::of(how);
        let (first, second) = row.split_at(row.len() / 3);
        total.add(how, bytemuck::cast_slice(first));
        total.add(how, bytemuck::cast_slice(second));
        f32::from_bits(total.bits(how))
    }

    #[test]
    fn extremes_are_found_anywhere_and_one_that_is_no_number_stays() {
        for len in LENGTHS {
            for place in 0..len {
                let mut row: Vec<f32> = (0..len).map(|at| (at * 7 % 13) as f32).collect();
                row[place] = 20.0;
                assert_eq!(total(Combine::Max, &row), 20.0, "place {place} of {len}");
                row[place] = -20.0;
                assert_eq!(total(Combine::Min, &row), -20.0, "place {place} of {len}");
                row[place] = f32::NAN;
                for combine in [Combine::Max, Combine::Min] {
                    assert!(total(combine, &row).is_nan(), "place {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn every_element_is_summed_once() {
        for len in LENGTHS {
            let row: Vec<f32> = (0..len).map(|at| (at * at + 1) as f32).collect();
            let expected: f64 = row.iter().map(|&value| f64::from(value)).sum();
            assert_eq!(total(Combine::Sum, &row), expected as f32, "{len}");
        }
    }
}
