//! Two terms of which the second is all that uses the first, computed in one loop: the value between them stays in registers.
//!
//! Bits are those of two loops: a product is rounded before something is added to it.

use crate::intrinsic::{larger, smaller};
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
    Min,
}

/// For each term, the one that is computed in one loop with it, what is computed, and of which three terms. `needed` are the terms that `roots` need, and those that are the `same` for all points are left alone.
pub(super) fn pairs(
    expr: &Expr,
    roots: &[TermId],
    needed: &[bool],
    same: &[bool],
) -> Vec<Option<(TermId, Pair, [TermId; 3])>> {
    let mut uses = vec![0; expr.terms.len()];
    roots.iter().for_each(|&root| uses[root] += 2);
    for (term, _) in expr.terms.iter().zip(needed).filter(|(_, needed)| **needed) {
        term.arguments().iter().for_each(|&argument| uses[argument] += 1);
    }
    let mut pairs: Vec<Option<(TermId, Pair, [TermId; 3])>> = Vec::with_capacity(expr.terms.len());
    for (id, term) in expr.terms.iter().enumerate() {
        let free = |&id: &TermId| needed[id] && !same[id] && expr.types[id] == DType::F32;
        pairs.push(match term {
            Term::Apply { op, args } if args.len() == 2 && free(&id) => {
                let [left, right] = [args[0], args[1]];
                let inner = |inner: TermId, times: usize| {
                    let alone = uses[inner] == times && free(&inner) && pairs[inner].is_none();
                    alone.then(|| Inner::of(&expr.terms[inner])).flatten()
                };
                let pair = |at: TermId, outer: Option<Outer>, times, other: Option<TermId>| {
                    let pair = Pair { inner: inner(at, times)?, outer: outer? };
                    let of = expr.terms[at].arguments();
                    Some((at, pair, [of[0], of[1], other.unwrap_or(of[0])]))
                };
                match left == right {
                    true => {
                        // Of no third term: any stands for it.
                        pair(left, (*op == Intrinsic::Mul).then_some(Outer::Square), 2, None)
                    }
                    false => pair(left, Outer::of_left(*op), 1, Some(right))
                        .or_else(|| pair(right, Outer::of_right(*op), 1, Some(left))),
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
            Intrinsic::Min => Some(Outer::Min),
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
            Outer::Max => each(of, out, |x, y, z| larger(inner(x, y), z)),
            Outer::Min => each(of, out, |x, y, z| smaller(inner(x, y), z)),
        }
    }
}

#[inline(always)]
fn each([a, b, c]: [&[u32]; 3], out: &mut [u32], f: impl Fn(f32, f32, f32) -> f32) {
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c)).to_bits();
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{Accumulated, Plan};
    use super::*;

    const VALUES: [f32; 8] =
        [1.5, -2.25, 0.0, -0.0, 3.4e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

    /// All triples of values, as what three accumulators hold.
    fn inputs() -> [Vec<u32>; 3] {
        let count = VALUES.len();
        [1, count, count * count].map(|step| {
            let value = |point: usize| VALUES[point / step % count].to_bits();
            (0..count * count * count).map(value).collect()
        })
    }

    /// An expression of three accumulators, and their terms.
    fn of_three() -> (Expr, [TermId; 3]) {
        let mut expr = Expr::default();
        let terms = [0, 1, 2].map(|number| expr.push(Term::Accumulator(number), DType::F32));
        (expr, terms)
    }

    fn paired(expr: &Expr, roots: &[TermId]) -> usize {
        let same = vec![false; expr.terms.len()];
        pairs(expr, roots, &expr.needed(roots), &same).iter().flatten().count()
    }

    /// What a plan gives for a root, and each of its two terms alone.
    fn both(expr: &Expr, root: TermId) -> [Vec<u32>; 2] {
        let inputs = inputs();
        let accumulated: Vec<Accumulated<'_>> =
            inputs.iter().map(|values| Accumulated::Each(values)).collect();
        let len = inputs[0].len();
        let plan = Plan::new(expr, &[root], &[]);
        let mut registers = plan.registers();
        // SAFETY: the plan loads nothing.
        let found = unsafe {
            plan.evaluate(&mut registers, 0, len, &accumulated);
            plan.root(&registers, 0, len, &accumulated).to_vec()
        };
        let mut values: Vec<Vec<u32>> = inputs.to_vec();
        for term in &expr.terms[inputs.len()..] {
            let Term::Apply { op, args } = term else { continue };
            let (a, b) = (&values[args[0]], &values[args[1]]);
            let mut out = vec![0; len];
            op.evaluate::<true>(DType::F32, a, b, b, &mut out);
            values.push(out);
        }
        [found, values.swap_remove(root)]
    }

    /// The bits, but one of all that are no numbers.
    fn numbers(values: &[u32]) -> Vec<u32> {
        let one = |&bits: &u32| if f32::from_bits(bits).is_nan() { u32::MAX } else { bits };
        values.iter().map(one).collect()
    }

    #[test]
    fn two_terms_in_one_loop_have_the_bits_of_two_loops() {
        use Intrinsic::{Add, Div, Max, Min, Mul, Pow, Sub};
        let mut count = 0;
        for inner in [Add, Sub, Mul] {
            for (outer, left, right) in [
                (Add, 1, 1),
                (Sub, 1, 1),
                (Mul, 1, 1),
                (Div, 1, 0),
                (Max, 1, 0),
                (Min, 1, 0),
                (Pow, 0, 0),
            ] {
                for (expected, turned) in [(left, false), (right, true)] {
                    let (mut expr, [a, b, c]) = of_three();
                    let first = expr.apply(inner, &[a, b]);
                    let root = expr.apply(outer, &if turned { [c, first] } else { [first, c] });
                    assert_eq!(paired(&expr, &[root]), expected, "{outer:?} of {inner:?}");
                    let [found, alone] = both(&expr, root);
                    assert_eq!(numbers(&found), numbers(&alone), "{outer:?} of {inner:?}");
                    count += expected;
                }
            }
            let (mut expr, [a, b, _]) = of_three();
            let first = expr.apply(inner, &[a, b]);
            let root = expr.apply(Mul, &[first, first]);
            assert_eq!(paired(&expr, &[root]), 1, "the square of {inner:?}");
            let [found, alone] = both(&expr, root);
            assert_eq!(numbers(&found), numbers(&alone), "the square of {inner:?}");
        }
        assert_eq!(count, 27);
    }

    #[test]
    fn what_others_use_has_a_loop_of_its_own() {
        let (mut expr, [a, b, c]) = of_three();
        let product = expr.apply(Intrinsic::Mul, &[a, b]);
        let sum = expr.apply(Intrinsic::Add, &[product, c]);
        let other = expr.apply(Intrinsic::Sub, &[sum, product]);
        // The product is used twice, so only the sum is computed with what uses it.
        assert_eq!(paired(&expr, &[other]), 1);
        // As a root it is stored.
        assert_eq!(paired(&expr, &[sum, product]), 0);
        // Of three in a row, two are a pair.
        let (mut expr, [a, b, c]) = of_three();
        let product = expr.apply(Intrinsic::Mul, &[a, b]);
        let sum = expr.apply(Intrinsic::Add, &[product, c]);
        let more = expr.apply(Intrinsic::Add, &[sum, b]);
        assert_eq!(paired(&expr, &[more]), 1);
        // What is computed once for a row isn't computed for each point.
        let needed = expr.needed(&[sum]);
        let same: Vec<bool> = (0..expr.terms.len()).map(|id| id == product).collect();
        assert!(pairs(&expr, &[sum], &needed, &same).iter().all(Option::is_none));
    }
}
