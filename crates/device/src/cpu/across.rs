//! Row kernels of rows whose elements lie far from each other, while the same elements of neighbouring rows lie side by side, as the
//! columns of a matrix do. Such rows are taken together, so that memory is read in lines.

use super::Task;
use super::block::{BLOCK, Plan, Registers, Slice};
use super::contract::{SUMMED, add_column_sums};
use super::crew;
use super::rows::{Rows, each};
use super::scratch::Scratch;
use super::stores::{Stores, roots};
use crate::{Body, Combine, DType, Kernel, Reduction, Term, TermId, View, numel};
use std::ops::Range;

/// Rows that are taken together, some lines of cache: the first number that divides the rows and leaves enough for the cores, or
/// the last that divides them. All divide a block.
const WIDTHS: [usize; 3] = [SUMMED, 32, 16];

/// Cores that there should be enough for.
const CORES: usize = 4;

/// Most chunks of rows that a task takes.
const STRIP: usize = 16;

/// Tasks that there should be for each thread.
const TASKS: usize = 2;

/// Sums over elements, block by block and in f64 between blocks, of rows that are taken together. All plans are over
/// `[rows / width, cols, width]`.
pub(super) struct Across {
    rows: usize,
    cols: usize,
    width: usize,
    /// What is summed in each pass over the elements.
    passes: Vec<Plan>,
    row_stores: Stores,
    stores: Stores,
    /// Where elements are stored.
    layout: View,
}

impl Across {
    /// `None` for kernels whose rows are read as well one by one, or that reduce them otherwise.
    pub(super) fn new(kernel: &Kernel, slices: &[Slice]) -> Option<Across> {
        let Body::Rows { rows, cols, layout, reductions, row_stores, stores } = &kernel.body else {
            return None;
        };
        let is_sum =
            |r: &Reduction| r.combine == Combine::Sum && kernel.expr.types[r.term] == DType::F32;
        if !reductions.iter().all(is_sum) || numel(cols) == 0 {
            return None;
        }
        let (last, axes) = (rows.len().checked_sub(1)?, rows.len() + cols.len());
        let mut widths = WIDTHS.into_iter().filter(|&width| rows[last].is_multiple_of(width));
        let busy = |&width: &usize| numel(rows) / width >= CORES;
        let width = widths.clone().find(busy).or_else(|| widths.next_back())?;
        let needed = kernel.expr.needed(&kernel.roots());
        let used = || kernel.expr.terms.iter().zip(&needed).filter(|(_, needed)| **needed);
        let far = |axis: usize| {
            let views = used().filter_map(|(term, _)| term.view());
            views.filter(|v| v.shape[axis] > 1 && !matches!(v.strides[axis], 0 | 1)).count()
        };
        let whole = |term: &Term| term.view().is_none_or(|view| view.shape.len() == axes);
        if !used().all(|(term, _)| whole(term)) || far(last) >= far(axes - 1) {
            return None;
        }
        let mut split = [rows, cols.as_slice()].concat();
        split.splice(last..=last, [rows[last] / width, width]);
        let mut order: Vec<usize> = (0..=axes).collect();
        let within = order.remove(rows.len());
        order.push(within);
        let mut expr = kernel.expr.clone();
        for (term, _) in expr.terms.iter_mut().zip(&needed).filter(|(_, needed)| **needed) {
            if let Some(view) = term.view_mut() {
                *view = view.reshape(&split)?.permute(&order);
            }
        }
        let plan = |terms: &[TermId]| Plan::new(&expr, terms, slices);
        let pass = |range: Range<usize>| {
            let terms: Vec<TermId> = reductions[range].iter().map(|r| r.term).collect();
            Plan::unstored(&expr, &terms, slices, None)
        };
        Some(Across {
            rows: numel(rows),
            cols: numel(cols),
            width,
            passes: kernel.body.passes(&kernel.expr).into_iter().map(pass).collect(),
            row_stores: Stores::with(plan(&roots(row_stores)), false, row_stores, slices),
            stores: Stores::with(plan(&roots(stores)), false, stores, slices),
            layout: layout.reshape(&split)?.permute(&order).collapsed(),
        })
    }

    /// The ranges of a block each of the points of rows that are taken together.
    fn blocks(&self) -> impl Iterator<Item = [usize; 2]> {
        let points = self.width * self.cols;
        (0..points).step_by(BLOCK).map(move |at| [at, BLOCK.min(points - at)])
    }

    /// Adds a block of a chunk's points to the sums of a pass, with the sums of the passes before.
    ///
    /// # Safety
    /// As [`Task::run`].
    unsafe fn add(
        &self,
        plan: &Plan,
        registers: &mut Registers,
        [start, len]: [usize; 2],
        known: &[[u32; BLOCK]],
        sums: &mut [[f64; SUMMED]],
    ) {
        let known = each(known);
        // SAFETY: passed on to the caller.
        unsafe {
            plan.evaluate(registers, start, len, &known);
            for (root, sums) in sums.iter_mut().enumerate() {
                add_column_sums(sums, plan.root(registers, root, len, &known), self.width);
            }
        }
    }
}

impl Task for Across {
    unsafe fn run(&self) {
        let width = self.width;
        let chunks = self.rows / width;
        // Chunks of a task are gone through side by side, so that longer lines are read, while each is summed as it would be alone.
        // Elements that are needed again are in cache still only if there are few.
        let once = self.passes.len() == 1 && self.stores.is_empty();
        let most = if once { STRIP } else { 1 };
        let strip = (chunks / (TASKS * rayon::current_num_threads())).clamp(1, most);
        let count = self.passes.iter().map(|plan| plan.roots.len()).sum::<usize>();
        crew::each(chunks.div_ceil(strip), |task| {
            let strip = task * strip..((task + 1) * strip).min(chunks);
            let start = |chunk: usize| chunk * width * self.cols;
            // The sums so far of each chunk, for each point of a block.
            let mut found = Scratch::new(strip.len() * count * BLOCK);
            let (found, _) = found.as_chunks_mut::<BLOCK>();
            let mut done = 0;
            for plan in &self.passes {
                let roots = plan.roots.len();
                let mut registers = plan.registers();
                let mut sums = Scratch::filled(strip.len() * roots * SUMMED, 0f64);
                let (sums, _) = sums.as_chunks_mut::<SUMMED>();
                for [at, len] in self.blocks() {
                    for (number, chunk) in strip.clone().enumerate() {
                        let known = &found[number * count..][..done];
                        let sums = &mut sums[number * roots..][..roots];
                        // SAFETY: nothing writes to what is loaded (`Program::verify`).
                        unsafe {
                            self.add(plan, &mut registers, [start(chunk) + at, len], known, sums)
                        };
                    }
                }
                for (at, sums) in sums.iter().enumerate() {
                    let found = &mut found[at / roots * count + done + at % roots];
                    let sum = |point: usize| (sums[point % width] as f32).to_bits();
                    found.iter_mut().enumerate().for_each(|(point, found)| *found = sum(point));
                }
                done += roots;
            }
            let mut row_registers = self.row_stores.registers();
            let mut registers = self.stores.registers();
            for (number, chunk) in strip.enumerate() {
                let (start, found) = (start(chunk), each(&found[number * count..][..count]));
                // SAFETY: each row belongs to one task, and nothing loaded is stored.
                unsafe {
                    self.row_stores.block(&mut row_registers, start, chunk * width, width, &found)
                };
                if self.stores.is_empty() {
                    continue;
                }
                for [at, len] in self.blocks() {
                    let points = [start + at, len];
                    // SAFETY: as above.
                    unsafe { self.stores.spread(&mut registers, &self.layout, points, &found) };
                }
            }
        });
    }
}

/// A row kernel: its rows together, or one after the other.
pub(super) fn prepare(kernel: &Kernel, slices: &[Slice]) -> Box<dyn Task> {
    match Across::new(kernel, slices) {
        Some(across) => Box::new(across),
        None => Box::new(Rows::new(kernel, slices)),
    }
}
