//! A reader of reviews that knows the words and how English joins clauses, and nothing of how
//! reviews are made: which clause decides, whether its word praises, and how often it is negated.

use crate::data::text::generated::words::{DAMNING, FAILING, OPENINGS, PLEASING, PRAISING};

/// Words that turn a judgement into its opposite.
const NEGATORS: [&str; 10] =
    ["not", "never", "hardly", "far", "anything", "no", "nothing", "nobody", "deny", "wrong"];

/// Whether the review is positive.
pub(super) fn praises(review: &str) -> bool {
    let mut text = review;
    for opening in OPENINGS {
        text = text.strip_prefix(opening).and_then(|t| t.strip_prefix(" , ")).unwrap_or(text);
    }
    let parted = |joints: &[&str]| joints.iter().find_map(|joint| text.split_once(joint));
    let decisive = if let Some((_, behind)) = parted(&[" , but ", " , yet ", " ; even so , "]) {
        behind
    } else if let Some((front, _)) = parted(&[" , although ", " , even though "]) {
        front
    } else if text.starts_with("although ") || text.starts_with("even if ") {
        text.split_once(" , ").map_or("", |(_, behind)| behind)
    } else {
        text
    };
    let clauses = decisive.replace(" and ", " , ").replace(" ; ", " , ");
    let verdicts: Vec<bool> = clauses.split(" , ").filter_map(verdict).collect();
    assert!(!verdicts.is_empty(), "nobody can tell: {review}");
    assert!(verdicts.iter().all(|v| *v == verdicts[0]), "contradicts itself: {review}");
    verdicts[0]
}

/// Whether a clause praises, if it judges at all.
fn verdict(clause: &str) -> Option<bool> {
    let words: Vec<&str> = clause.split(' ').collect();
    let good = |word: &&str| {
        PRAISING.contains(word) || PLEASING.iter().flatten().any(|w| w == word) || *word == "saved"
    };
    let bad = |word: &&str| {
        DAMNING.contains(word) || FAILING.iter().flatten().any(|w| w == word) || *word == "ruined"
    };
    let judging: Vec<bool> = words.iter().filter(|w| good(w) || bad(w)).map(good).collect();
    assert!(judging.len() <= 1, "judges twice: {clause}");
    let negations = words.iter().filter(|word| NEGATORS.contains(word)).count();
    judging.first().map(|&praises| praises == (negations % 2 == 0))
}
