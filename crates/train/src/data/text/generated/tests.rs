//! That generated reviews are the same everywhere, varied, and clear to a reader.

mod reader;

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::*;
use crate::data::text::{Vocabulary, tokenize};

#[test]
fn the_same_texts_on_every_platform() {
    let texts = generated(200, 7);
    let digest = Sha256::digest(texts.texts.join("\n"));
    let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, "fae7b74060ca06ab");
    assert_eq!(generated(31, 7), texts.clone().first(31));
    assert_ne!(generated(200, 8).texts, texts.texts);
    assert!(generated(0, 0).is_empty());
}

#[test]
fn classes_are_balanced_and_lengths_moderate() {
    let texts = generated(4001, 3);
    let positive = texts.labels.iter().filter(|&&label| label == 1).count();
    assert!((2000..=2001).contains(&positive), "{positive}");
    for text in texts.iter() {
        let tokens = tokenize(text);
        assert!((6..=22).contains(&tokens.len()), "{} tokens: {text}", tokens.len());
        assert_eq!(tokens.join(" "), *text, "tokenised already");
    }
    assert!(Texts::new(texts.texts, texts.labels, texts.classes).is_ok());
}

#[test]
fn two_seeds_hardly_share_a_review() {
    let (train, test) = (generated(8_000, 1), generated(1_000, 2));
    let known: HashSet<&str> = train.iter().collect();
    assert!(known.len() > 7_950, "{} different ones", known.len());
    let shared = test.iter().filter(|text| known.contains(text)).count();
    assert!(shared < 10, "{shared} shared");
    // The words are the same, though.
    let coverage = Vocabulary::build(train.iter(), 2, None).coverage(test.iter());
    assert!(coverage > 0.999, "{coverage}");
}

#[test]
fn word_lists_are_large_and_share_nothing() {
    let mut all: Vec<&str> = [words::PRAISING, words::DAMNING].concat();
    all.extend([words::PLEASING, words::FAILING].concat().concat());
    let distinct: HashSet<&str> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len());
    let subjects = [&words::PARTS[..], &words::MANY_PARTS[..]].concat();
    assert_eq!(subjects.iter().collect::<HashSet<_>>().len(), subjects.len());
    // Nothing but these words judges.
    let neutral = [&subjects, &words::FILMS[..], &words::NAMES, &words::OPENINGS, &words::CLOSINGS];
    for phrase in neutral.concat().iter().chain(&words::DEGREES) {
        assert!(phrase.split(' ').all(|word| !distinct.contains(word)), "{phrase}");
    }
}

#[test]
fn the_order_of_clauses_decides() {
    let (good, bad) = ("the plot is clever", "the film drags");
    for form in 0..review::FORMS {
        let [one, other] = [(good, bad), (bad, good)].map(|(a, b)| review::joined(form, a, b));
        assert!(!reader::praises(&one) && reader::praises(&other), "{one} / {other}");
        let sorted = |text: &str| {
            let mut tokens = tokenize(text);
            tokens.sort_unstable();
            tokens
        };
        assert_eq!(sorted(&one), sorted(&other));
    }
}

#[test]
fn a_reader_finds_every_label() {
    let texts = generated(6_000, 11);
    for (text, &label) in texts.iter().zip(&texts.labels) {
        assert_eq!(reader::praises(text), label == 1, "{text}");
    }
}
