//! Two terms of which the second is all that uses the first, computed in one loop: the value between them stays in registers.
//!
//! Bits are those of two loops: a product is rounded before something is added to it.

use crate::{DType, Expr, Intrinsic, Term, TermId};

/// `outer(inner(a, b), c)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    inner: Inner,
    outer: Outer,
}

/// The first of two terms, of `a` and `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    Add,
    Sub,
    Mul,
}

/// The second, of what the first gives and `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outer {
    Add,
    Sub,
    /// From `c`.
    SubFrom,
    Mul,
    /// With itself.
    Square,
    Div,
    Max,
}

/// For each term, the one that is computed in one loop with it, and what is computed of the three arguments: those of the earlier one, and the
/// other one of the later. `needed` are the terms that `roots` need, and those that are the `same` for all points are left alone.
pub(super) fn pairs(
    expr: &Expr,
    roots: &[TermId],
    needed: &[bool],
    same: &[bool],
) -> Vec<Option<(TermId, Pair, TermId)>> {
    let mut uses = vec![0; expr.terms.len()];
    roots.iter().for_each(|&root| uses[root] += 2);
    for (term, _) in expr.terms.iter().zip(needed).filter(|(_, needed)| **needed) {
        term.arguments().iter().for_each(|&argument| uses[argument] += 1);
    }
    let mut pairs: Vec<Option<(TermId, Pair, TermId)>> = Vec::with_capacity(expr.terms.len());
    for (id, term) in expr.terms.iter().enumerate() {
        let free = |&id: &TermId| needed[id] && !same[id] && expr.types[id] == DType::F32;
        pairs.push(match term {
            Term::Apply { op, args } if args.len() == 2 && free(&id) => {
                let [left, right] = [args[0], args[1]];
                let inner = |inner: TermId, times: usize| {
                    let alone = uses[inner] == times && free(&inner) && pairs[inner].is_none();
                    alone.then(|| Inner::of(&expr.terms[inner])).flatten()
                };
                let pair = |at: TermId, outer: Option<Outer>, times, other| {
                    let (outer, inner) = (outer?, inner(at, times)?);
                    Some((at, Pair { inner, outer }, other))
                };
                match left == right {
                    true => pair(left, (*op == Intrinsic::Mul).then_some(Outer::Square), 2, left),
                    false => pair(left, Outer::of_left(*op), 1, right)
                        .or_else(|| pair(right, Outer::of_right(*op), 1, left)),
                }
            }
            _ => None,
        });
    }
    pairs
}

impl Inner {
    fn of(term: &Term) -> Option<Inner> {
        match term {
            Term::Apply { op: Intrinsic::Add, .. } => Some(Inner::Add),
            Term::Apply { op: Intrinsic::Sub, .. } => Some(Inner::Sub),
            Term::Apply { op: Intrinsic::Mul, .. } => Some(Inner::Mul),
            _ => None,
        }
    }
}

impl Outer {
    /// Of an operation whose left argument is computed with it.
    fn of_left(op: Intrinsic) -> Option<Outer> {
        match op {
            Intrinsic::Add => Some(Outer::Add),
            Intrinsic::Sub => Some(Outer::Sub),
            Intrinsic::Mul => Some(Outer::Mul),
            Intrinsic::Div => Some(Outer::Div),
            Intrinsic::Max => Some(Outer::Max),
            _ => None,
        }
    }

    /// Of one whose right argument is.
    fn of_right(op: Intrinsic) -> Option<Outer> {
        match op {
            Intrinsic::Add => Some(Outer::Add),
            Intrinsic::Sub => Some(Outer::SubFrom),
            Intrinsic::Mul => Some(Outer::Mul),
            _ => None,
        }
    }
}

impl Pair {
    /// `out[i] = outer(inner(a[i], b[i]), c[i])`.
    #[inline(always)]
    pub(super) fn evaluate(self, [a, b, c]: [&[u32]; 3], out: &mut [u32]) {
        match self.inner {
            Inner::Add => self.finish([a, b, c], out, |x, y| x + y),
            Inner::Sub => self.finish([a, b, c], out, |x, y| x - y),
            Inner::Mul => self.finish([a, b, c], out, |x, y| x * y),
        }
    }

    #[inline(always)]
    fn finish(self, of: [&[u32]; 3], out: &mut [u32], inner: impl Fn(f32, f32) -> f32) {
        match self.outer {
            Outer::Add => each(of, out, |x, y, z| inner(x, y) + z),
            Outer::Sub => each(of, out, |x, y, z| inner(x, y) - z),
            Outer::SubFrom => each(of, out, |x, y, z| z - inner(x, y)),
            Outer::Mul => each(of, out, |x, y, z| inner(x, y) * z),
            Outer::Square => each(of, out, |x, y, _| inner(x, y) * inner(x, y)),
            Outer::Div => each(of, out, |x, y, z| inner(x, y) / z),
            Outer::Max => each(of, out, |x, y, z| {
                let first = inner(x, y);
                if first > z || first.is_nan() { first } else { z }
            }),
        }
    }
}

#[inline(always)]
fn each([a, b, c]: [&[u32]; 3], out: &mut [u32], f: impl Fn(f32, f32, f32) -> f32) {
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c)).to_bits();
    }
}
