//! What every family shares: storing an expression over ranges of a domain (which is also all
//! that a pointwise kernel does), and evaluating a source that isn't plain memory.

use super::block::{Accumulated, BLOCK, Plan, Registers, Slice, line, runs};
use super::crew::{each, each_of};
use super::scratch::{Dense, Scratch};
use super::{TASK_POINTS, Task};
use crate::{Body, Expr, Kernel, Store, Term, TermId, View, numel};
use std::cell::Cell;
use std::ops::Range;

/// The terms that are stored.
pub(super) fn roots(stores: &[Store]) -> Vec<TermId> {
    stores.iter().map(|store| store.term).collect()
}

/// Stores over one domain.
pub(super) struct Stores {
    pub(super) plan: Plan,
    targets: Vec<Slice>,
    /// Whether the only store is accumulator 0 as it is, in words.
    pub(super) plain: bool,
}

impl Stores {
    pub(super) fn new(expr: &Expr, stores: &[Store], slices: &[Slice]) -> Stores {
        let roots = roots(stores);
        let words = stores.iter().all(|store| slices[store.operand].dtype.bytes() == 4);
        let plain = words
            && matches!(roots.as_slice(), [root] if expr.terms[*root] == Term::Accumulator(0));
        Stores::with(Plan::new(expr, &roots, slices), plain, stores, slices)
    }

    /// Stores of the roots of a plan.
    pub(super) fn with(plan: Plan, plain: bool, stores: &[Store], slices: &[Slice]) -> Stores {
        Stores { plan, targets: stores.iter().map(|s| slices[s.operand].clone()).collect(), plain }
    }

    /// Whether nothing is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub(super) fn registers(&self) -> Registers {
        self.plan.registers()
    }

    /// The part of the only target that `range` covers, for a core that stores by itself.
    ///
    /// # Safety
    /// Nothing else touches the words of that part that are used while it lives.
    pub(super) unsafe fn target(&self, range: Range<usize>) -> &[Cell<u32>] {
        // SAFETY: passed on to the caller.
        unsafe { self.targets[0].cells(range.start, range.len()) }
    }

    /// Asks for the lines of cache where elements `at..at + len` will be stored, if that pays.
    fn prefetch(&self, at: usize, len: usize) {
        let far = self.targets.iter().filter(|target| target.is_far());
        far.for_each(|target| target.prefetch(at, len));
    }

    /// Evaluates and stores the points of `range`; `accumulated` are values for those points.
    ///
    /// # Safety
    /// Nothing writes to what is loaded, and nothing else touches the stored range.
    pub(super) unsafe fn run(
        &self,
        registers: &mut Registers,
        range: Range<usize>,
        accumulated: &[&[u32]],
    ) {
        if self.is_empty() {
            return;
        }
        for start in range.clone().step_by(BLOCK) {
            let len = BLOCK.min(range.end - start);
            let done = start - range.start;
            let mut blocks = [Accumulated::All(0); 2];
            for (block, values) in blocks.iter_mut().zip(accumulated) {
                *block = Accumulated::Each(&values[done..done + len]);
            }
            if start + len < range.end {
                self.plan.prefetch(start + len, len);
            }
            // SAFETY: passed on to the caller.
            unsafe { self.block(registers, start, start, len, &blocks) };
        }
    }

    /// Stores the sums of the rows of `range`, which are accumulator 1.
    ///
    /// # Safety
    /// As [`Stores::run`].
    pub(super) unsafe fn sums(&self, range: Range<usize>, sums: &[f64]) {
        let sums = Scratch::of(sums.iter().map(|&sum| (sum as f32).to_bits()));
        // SAFETY: passed on to the caller.
        unsafe { self.run(&mut self.registers(), range, &[&sums, &sums]) };
    }

    /// Evaluates `len` points from `point` and stores them from element `at`.
    ///
    /// # Safety
    /// As [`Stores::run`].
    pub(super) unsafe fn block(
        &self,
        registers: &mut Registers,
        point: usize,
        at: usize,
        len: usize,
        accumulated: &[Accumulated<'_>],
    ) {
        self.prefetch(at, len);
        // SAFETY: passed on to the caller; loads are copied into registers before any store.
        unsafe {
            self.plan.evaluate(registers, point, len, accumulated);
            for (root, target) in self.targets.iter().enumerate() {
                let values = self.plan.root(registers, root, len, accumulated);
                target.store(at, values);
            }
        }
    }
}

impl Stores {
    /// Evaluates `len` points from `point` and stores each where a layout has it.
    ///
    /// # Safety
    /// As [`Stores::run`].
    pub(super) unsafe fn spread(
        &self,
        registers: &mut Registers,
        layout: &View,
        [point, len]: [usize; 2],
        accumulated: &[Accumulated<'_>],
    ) {
        if layout.strides.last() == Some(&1)
            && let Some(at) = line(layout, point, len)
        {
            self.prefetch(at, len);
        }
        // SAFETY: passed on to the caller; loads are copied into registers before any store.
        unsafe {
            self.plan.evaluate(registers, point, len, accumulated);
            for (root, target) in self.targets.iter().enumerate() {
                let values = self.plan.root(registers, root, len, accumulated);
                runs(layout, point, len, |points, at, step| {
                    let Some(at) = at.map(|at| at as usize) else { return };
                    let values = &values[points];
                    match step {
                        1 => target.store(at, values),
                        step => {
                            for (number, value) in values.iter().enumerate() {
                                target.store(at + number * step as usize, &[*value]);
                            }
                        }
                    }
                });
            }
        }
    }
}

/// A pointwise kernel.
pub(super) struct Map {
    points: usize,
    stores: Stores,
}

impl Map {
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Map {
        let stores = match &kernel.body {
            Body::Map { stores, .. } => stores.as_slice(),
            _ => &[],
        };
        let domain = kernel.body.domain();
        // What is one number for all points, such as a learning rate, is computed once for each task.
        let same = kernel.expr.uniform(0..domain.len());
        let plan = Plan::over_rows(&kernel.expr, &roots(stores), slices, Some(same));
        Map { points: numel(&domain), stores: Stores::with(plan, false, stores, slices) }
    }
}

impl Task for Map {
    unsafe fn run(&self) {
        each(self.points.div_ceil(TASK_POINTS), |task| {
            let start = task * TASK_POINTS;
            let range = start..(start + TASK_POINTS).min(self.points);
            // SAFETY: tasks cover disjoint ranges; a point that is loaded from a stored operand is
            // loaded by the task that stores it (`Program::verify`).
            unsafe { self.stores.run(&mut self.stores.registers(), range, &[]) };
        });
    }
}

/// Where a core's source comes from.
pub(super) enum Source {
    /// All of an operand.
    Memory(Slice),
    /// An expression, stored to scratch memory before the core runs.
    Computed(Plan, usize),
}

/// The operand and view of a term that is memory as it is, without a mask.
pub(super) fn memory<'a>(
    expr: &'a Expr,
    term: TermId,
    slices: &'a [Slice],
) -> Option<(&'a Slice, &'a View)> {
    match &expr.terms[term] {
        Term::Load { operand, view }
            if !view.is_masked() && slices[*operand].dtype.bytes() == 4 =>
        {
            Some((&slices[*operand], view))
        }
        _ => None,
    }
}

impl Source {
    pub(super) fn new(expr: &Expr, term: TermId, shape: &[usize], slices: &[Slice]) -> Source {
        match memory(expr, term, slices) {
            Some((slice, view)) if view.is_contiguous() => Source::Memory(slice.clone()),
            _ => Source::Computed(Plan::unstored(expr, &[term], slices, None), numel(shape)),
        }
    }

    /// The source's elements, row-major.
    ///
    /// # Safety
    /// Nothing writes to what the source loads while the result lives.
    pub(super) unsafe fn dense(&self) -> Dense<'_> {
        match self {
            // SAFETY: passed on to the caller.
            Source::Memory(slice) => Dense::Lies(unsafe { slice.read() }),
            // SAFETY: passed on to the caller.
            Source::Computed(plan, points) => Dense::Computed(unsafe { evaluate(plan, *points) }),
        }
    }
}

/// # Safety
/// Nothing writes to what the plan loads while this runs.
unsafe fn evaluate(plan: &Plan, points: usize) -> Scratch {
    let mut values = Scratch::new(points);
    let tasks = points.div_ceil(TASK_POINTS);
    each_of(tasks, values.chunks_mut(TASK_POINTS).enumerate(), |(task, chunk)| {
        let mut registers = plan.registers();
        for (number, block) in chunk.chunks_mut(BLOCK).enumerate() {
            let start = task * TASK_POINTS + number * BLOCK;
            // SAFETY: passed on to the caller.
            unsafe {
                plan.evaluate(&mut registers, start, block.len(), &[]);
                block.copy_from_slice(plan.root(&registers, 0, block.len(), &[]));
            }
        }
    });
    values
}
