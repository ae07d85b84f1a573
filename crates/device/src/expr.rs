//! The expression language: what a kernel computes at one point of its domain.
//!
//! An [`Expr`] is a list of terms, each using only terms before it. The same list describes the
//! body of a pointwise kernel, what a reduction or contraction does to the elements it loads
//! (prologue) and to the results it stores (epilogue), for WGSL and for the CPU alike.

use crate::{DType, Intrinsic, Literal, View, collapse};
use std::fmt::Write;
use std::ops::Range;

/// A term's number in its expression.
pub type TermId = usize;

/// One step of an expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// A constant.
    Literal(Literal),
    /// The element of an operand that a view selects; zero outside the view's data.
    Load {
        /// Which of the kernel's operands.
        operand: usize,
        /// Which element, for each point of the domain.
        view: View,
    },
    /// The element `view + index * stride` of an operand, for `index < len`; NaN (zero for
    /// integers) for an index outside, so that a wrong index is seen and nothing is read.
    Gather {
        /// Which of the kernel's operands.
        operand: usize,
        /// Where index zero lies, for each point of the domain.
        view: View,
        /// The term with the index, `U32`.
        index: TermId,
        /// Elements between one index and the next.
        stride: usize,
        /// How many indices exist.
        len: usize,
    },
    /// The number of the element a view selects, as `U32`; zero outside the view's data.
    Index {
        /// Which number, for each point of the domain.
        view: View,
    },
    /// Whether the point lies inside the view's data.
    Within {
        /// The view whose mask is asked for.
        view: View,
    },
    /// What the kernel's core (reduction, contraction, window) found.
    Accumulator(usize),
    /// An intrinsic of earlier terms.
    Apply {
        /// The function.
        op: Intrinsic,
        /// As many terms as it takes.
        args: Vec<TermId>,
    },
}

/// Terms in order, each with its type. Equal terms are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expr {
    /// The terms.
    pub terms: Vec<Term>,
    /// The type of each term.
    pub types: Vec<DType>,
}

impl Expr {
    /// Adds a term of a type, or finds the one that is there already.
    pub fn push(&mut self, term: Term, dtype: DType) -> TermId {
        if let Some(at) = self.terms.iter().position(|t| *t == term) {
            return at;
        }
        self.terms.push(term);
        self.types.push(dtype.loaded());
        self.terms.len() - 1
    }

    /// Adds a constant.
    pub fn literal(&mut self, literal: Literal) -> TermId {
        self.push(Term::Literal(literal), literal.dtype)
    }

    /// Adds an intrinsic.
    ///
    /// # Panics
    /// If the arguments' types don't fit: the graph has checked them, so this is a defect.
    pub fn apply(&mut self, op: Intrinsic, args: &[TermId]) -> TermId {
        let types: Vec<DType> = args.iter().map(|&a| self.types[a]).collect();
        let dtype = op.result(&types).unwrap_or_else(|| panic!("{op:?} of {types:?}"));
        self.push(Term::Apply { op, args: args.to_vec() }, dtype)
    }

    /// The expression without some axes of its domain, for terms that are the same along them. What one of these axes hides stays
    /// hidden.
    pub fn without(&self, axes: Range<usize>) -> Expr {
        let mut expr = self.clone();
        let whole = |view: &&mut View| view.shape.len() >= axes.end;
        for view in expr.terms.iter_mut().filter_map(Term::view_mut).filter(whole) {
            let hidden = axes.clone().any(|axis| view.valid[axis] != (0, view.shape[axis]));
            view.shape.drain(axes.clone());
            view.strides.drain(axes.clone());
            view.valid.drain(axes.clone());
            if hidden {
                *view = view.hidden();
            }
        }
        expr
    }

    /// Which terms are the same for all points that differ only along some axes.
    pub fn uniform(&self, axes: Range<usize>) -> Vec<bool> {
        let mut uniform: Vec<bool> = Vec::with_capacity(self.terms.len());
        for term in &self.terms {
            let still = |view: &View, axis: usize| {
                let whole = view.valid[axis] == (0, view.shape[axis]);
                view.shape[axis] == 1 || view.strides[axis] == 0 && whole
            };
            let view = term.view().is_none_or(|view| {
                view.shape.len() >= axes.end && axes.clone().all(|axis| still(view, axis))
            });
            uniform.push(view && term.arguments().iter().all(|&arg| uniform[arg]));
        }
        uniform
    }

    /// The expression over as few axes as the views of what `roots` need allow, where axes before and after `at` are
    /// joined apart; and the groups of axes that were joined. `more` are views that have to allow it, too.
    pub(crate) fn joined(
        &self,
        roots: &[TermId],
        shape: &[usize],
        at: usize,
        more: &[&View],
    ) -> (Expr, Vec<Range<usize>>) {
        let needed = self.needed(roots);
        let mut expr = self.clone();
        let part = |range: Range<usize>| {
            let order: Vec<usize> = range.collect();
            let views: Vec<View> = self
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

    /// Marks the terms that `roots` need, themselves included.
    pub fn needed(&self, roots: &[TermId]) -> Vec<bool> {
        let mut needed = vec![false; self.terms.len()];
        for &root in roots {
            needed[root] = true;
        }
        for id in (0..self.terms.len()).rev() {
            if needed[id] {
                for &arg in self.terms[id].arguments() {
                    needed[arg] = true;
                }
            }
        }
        needed
    }

    /// The terms that `roots` need, in order, as text: one line each.
    pub fn dump(&self, roots: &[TermId], indent: &str) -> String {
        let needed = self.needed(roots);
        let mut text = String::new();
        for (id, term) in self.terms.iter().enumerate().filter(|(id, _)| needed[*id]) {
            let what = match term {
                Term::Literal(literal) => literal.to_string(),
                Term::Load { operand, view } => format!("load #{operand}{}", view_text(view)),
                Term::Gather { operand, view, index, stride, len } => {
                    format!("gather #{operand}{} + {stride} * t{index} < {len}", view_text(view))
                }
                Term::Index { view } => format!("index{}", view_text(view)),
                Term::Within { view } => format!("within{}", view_text(view)),
                Term::Accumulator(number) => format!("accumulator {number}"),
                Term::Apply { op, args } => {
                    let args: Vec<String> = args.iter().map(|a| format!("t{a}")).collect();
                    format!("{op:?}({})", args.join(", "))
                }
            };
            let _ = writeln!(text, "{indent}t{id}: {} = {what}", self.types[id]);
        }
        text
    }
}

impl Term {
    /// The terms that this one uses.
    pub fn arguments(&self) -> &[TermId] {
        match self {
            Term::Apply { args, .. } => args,
            Term::Gather { index, .. } => std::slice::from_ref(index),
            _ => &[],
        }
    }

    /// The view through which the term depends on the point, if it does.
    pub fn view(&self) -> Option<&View> {
        match self {
            Term::Load { view, .. }
            | Term::Gather { view, .. }
            | Term::Index { view }
            | Term::Within { view } => Some(view),
            _ => None,
        }
    }

    /// The view, to change it.
    pub fn view_mut(&mut self) -> Option<&mut View> {
        match self {
            Term::Load { view, .. }
            | Term::Gather { view, .. }
            | Term::Index { view }
            | Term::Within { view } => Some(view),
            _ => None,
        }
    }
}

fn view_text(view: &View) -> String {
    let mut text = format!(" {:?}", view.shape);
    if !view.is_contiguous() {
        let _ = write!(text, " strides {:?}", view.strides);
        if view.offset != 0 {
            let _ = write!(text, " from {}", view.offset);
        }
        if view.is_masked() {
            let _ = write!(text, " where {:?}", view.valid);
        }
    }
    text
}
