//! How the rows of a row kernel are shared by the invocations of an adapter.

use crate::share::Workgroups;
use crate::whole::SIZE;
use crate::{Body, DeviceClass, Expr, Kernel, Limits, Reduction, Term, View, numel};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Invocations of the largest subgroups that there are: workgroups of as many, and of multiples, have none that is a part of one.
const LARGEST: usize = 128;

/// Most results that are folded side by side, between the same barriers, and for which all of a workgroup takes a row of 128.
const TOGETHER: usize = 4;

/// How the invocations of a workgroup share rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    /// Rows of a workgroup.
    pub(crate) rows: usize,
    /// Invocations of a row, a power of two; with one for each row, rows share nothing.
    pub(crate) lanes: usize,
    /// Whether invocations beside each other have rows beside each other, not columns.
    pub(crate) beside: bool,
    /// Invocations beside each other that surely share a subgroup, a power of two; one where there are no subgroups.
    pub(crate) near: usize,
    /// Most results that are folded side by side.
    pub(crate) together: usize,
}

/// A row kernel's expression over as few axes as its views allow, the axes that were joined, rows before columns, and how many
/// of these are rows; `None` of other kernels.
pub(crate) fn joined_rows(kernel: &Kernel) -> Option<(Expr, Vec<Range<usize>>, usize)> {
    let Body::Rows { rows, layout, .. } = &kernel.body else { return None };
    // Rows and columns are joined apart, so that the two kinds of coordinates stay apart.
    let (expr, groups) =
        kernel.expr.joined(&kernel.roots(), &kernel.body.domain(), rows.len(), &[layout]);
    let of_rows = |group: &&Range<usize>| group.end <= rows.len() && group.start < rows.len();
    let split = groups.iter().take_while(of_rows).count();
    Some((expr, groups, split))
}

impl Team {
    /// The team for a row kernel: one invocation for each row where rows are short, where they lie beside each other and are many
    /// or not long, and on software adapters. Else all of a workgroup for one long row, parts of it for a few short ones, and where
    /// rows lie beside each other in memory, as many as are loaded together, but so few that a large device is busy. `grouped`
    /// forces one or the other; `None` of other kernels.
    pub(crate) fn of(kernel: &Kernel, limits: &Limits, grouped: Option<bool>) -> Option<Team> {
        let (expr, _, split) = joined_rows(kernel)?;
        let Body::Rows { rows, cols, reductions, .. } = &kernel.body else { return None };
        let [rows, cols] = [rows, cols].map(|shape| numel(shape));
        let beside = beside(&expr, split);
        let apart = beside && (cols < 64 || rows > 1 << 16);
        let long = cols > 16 && !apart && limits.class != DeviceClass::Software;
        let most = |wanted: usize| 1_usize << wanted.min(limits.invocations).ilog2();
        if !grouped.unwrap_or(long) || rows == 0 {
            let rows = SIZE.min(limits.invocations);
            return Some(Team { rows, lanes: 1, beside: false, near: 1, together: 1 });
        }
        let team = |rows: usize, lanes: usize, beside: bool| {
            let near = if rows * lanes >= LARGEST { limits.least_subgroup.max(1) } else { 1 };
            let arrays = types(kernel).len().max(1) * rows * lanes * 4;
            // So much that kernels still find room beside each other.
            let together = (limits.workgroup_bytes / 8 / arrays).clamp(1, TOGETHER);
            Some(Team { rows, lanes, beside, near: 1 << near.ilog2(), together })
        };
        if beside && limits.invocations > 1 {
            let own = [32, 16].into_iter().find(|own| rows >= own * 64).unwrap_or(8);
            let size = most(if cols >= 1024 { 1024 } else { 256 });
            let own = own.min(size / 2).max(1);
            return team(own, (size / own).max(2), true);
        }
        let size = most(256);
        // Folding many results takes longer than what few columns take.
        let long = cols >= 128 * reductions.len().div_ceil(TOGETHER);
        let lanes = if long { size } else { size.min(32) };
        team(size / lanes, lanes, false)
    }

    /// From an invocation of a row to its next one.
    pub(crate) fn stride(&self) -> usize {
        if self.beside { self.rows } else { 1 }
    }

    /// How far apart the invocations of a row are whose results are folded, step by step: those that tell each other through the memory
    /// of the workgroup, and those that share a subgroup.
    pub(crate) fn steps(&self) -> [Vec<usize>; 2] {
        let steps = (0..self.lanes.ilog2()).rev().map(|digit| 1 << digit);
        let (near, far) = steps.partition(|step| 2 * step * self.stride() <= self.near);
        [far, near]
    }

    /// The arrays in a workgroup's memory that results are folded through: the type of each, and how many results it holds of every
    /// invocation.
    pub(crate) fn arrays(&self, kernel: &Kernel) -> BTreeMap<&'static str, usize> {
        let mut arrays = BTreeMap::new();
        let Body::Rows { reductions, .. } = &kernel.body else { return arrays };
        let [far, _] = self.steps();
        if far.is_empty() {
            return arrays;
        }
        let passes = kernel.body.passes(&kernel.expr);
        for results in passes.into_iter().flat_map(|pass| reductions[pass].chunks(self.together)) {
            for wanted in types(kernel) {
                let of_type = |r: &&Reduction| kernel.expr.types[r.term].wgsl() == wanted;
                let most: &mut usize = arrays.entry(wanted).or_default();
                *most = results.iter().filter(of_type).count().max(*most);
            }
        }
        arrays
    }

    /// The workgroups of a row kernel.
    pub(crate) fn workgroups(&self, kernel: &Kernel) -> Option<Workgroups> {
        let Body::Rows { rows, .. } = &kernel.body else { return None };
        let size = self.rows * self.lanes;
        let [_, near] = self.steps();
        Some(Workgroups {
            count: numel(rows).div_ceil(self.rows),
            size,
            bytes: self.arrays(kernel).values().sum::<usize>() * size * 4,
            by_subgroup: !near.is_empty(),
        })
    }
}

/// The types of a row kernel's results.
fn types(kernel: &Kernel) -> BTreeSet<&'static str> {
    let Body::Rows { reductions, .. } = &kernel.body else { return BTreeSet::new() };
    reductions.iter().map(|reduction| kernel.expr.types[reduction.term].wgsl()).collect()
}

/// Whether elements beside each other in memory are of rows beside each other, and not of the same row.
fn beside(expr: &Expr, split: usize) -> bool {
    let Some(row) = split.checked_sub(1) else { return false };
    let loaded = |term: &&Term| matches!(term, Term::Load { .. } | Term::Gather { .. });
    let loads = || expr.terms.iter().filter(loaded).filter_map(Term::view);
    let views = || loads().filter(|view| view.shape.len() > split);
    let along = |view: &View, axis: usize| view.shape[axis] > 1 && view.strides[axis] == 1;
    views().any(|view| along(view, row)) && !views().any(|view| along(view, view.shape.len() - 1))
}
