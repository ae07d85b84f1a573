//! Short reviews of films, made by a grammar: a stand-in for a data set where there is none, made
//! so that the number of times each word occurs does not decide the label. Logistic regression on
//! these counts gets about 62 % of unseen reviews right (measured), while every label is plain
//! to a reader.
//!
//! For every form there is the one with the opposite label and (nearly) the same words: a negation
//! more or less ("the plot is never dull"), or in another clause, and two clauses in the opposite
//! order around `but`. Only plain judgements are more frequent than negated ones, which is all that
//! is left to go by for somebody who merely counts.
//!
//! A review is one judgement or several (`review`), each a clause of one polarity about the film or
//! some part of it (`clause`), from lists of words (`words`).

mod clause;
mod review;
// Long lists of short words are kept in rows.
#[rustfmt::skip]
mod words;

use super::Texts;
use crate::data::rng::Rng;

/// `count` reviews of two classes, `negative` (0) and `positive` (1), of about 6 to 20 words, in
/// lower case and tokenised.
///
/// Every two in a row are one of each class in a random order, so the classes are balanced and the
/// first reviews are the same whatever the `count`. The same `seed` gives the same reviews on every
/// platform; reviews of two seeds hardly ever agree.
pub fn generated(count: usize, seed: u64) -> Texts {
    let mut labels = Vec::with_capacity(count + 2);
    // Stream 0 orders the labels; review `i` has a stream of its own, `i + 1`.
    let mut order = Rng::new(seed, 0);
    while labels.len() < count {
        labels.extend(order.shuffled::<2>());
    }
    labels.truncate(count);
    let written = labels
        .iter()
        .zip(1..)
        .map(|(&label, stream)| review::review(label == 1, &mut Rng::new(seed, stream)));
    let texts = written.collect();
    Texts { texts, labels, classes: ["negative", "positive"].map(str::to_owned).to_vec() }
}

#[cfg(test)]
mod tests;
