//! Counting, encoding, and the way to text and back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const TEXTS: [&str; 3] = ["The plot, the cast", "the PLOT isn't new", "zebra apple"];

fn words(vocabulary: &Vocabulary) -> Vec<&str> {
    (0..).map_while(|id| vocabulary.word(id)).collect()
}

#[test]
fn frequent_words_come_first_and_then_the_alphabet() {
    let all = Vocabulary::build(TEXTS, 1, None);
    let expected =
        ["<pad>", "<unk>", "the", "plot", ",", "apple", "cast", "is", "n't", "new", "zebra"];
    assert_eq!((words(&all), all.len()), (expected.to_vec(), 11));
    assert_eq!(words(&Vocabulary::build(TEXTS, 2, None)), &expected[..4]);
    assert_eq!(words(&Vocabulary::build(TEXTS, 1, Some(6))), &expected[..6]);
    assert_eq!(words(&Vocabulary::build(TEXTS, 0, Some(0))), &expected[..2]);
    assert_eq!(words(&Vocabulary::build([], 1, None)), &expected[..2]);
}

#[test]
fn texts_become_numbers_and_come_back() {
    let vocabulary = Vocabulary::build(TEXTS, 1, None);
    assert_eq!((vocabulary.id("plot"), vocabulary.id("Plot"), vocabulary.get("x")), (3, 1, None));
    let ids = vocabulary.encode("The zebra isn't old");
    assert_eq!(ids, [2, 10, 7, 8, 1]);
    assert_eq!(vocabulary.decode(&ids), "the zebra is n't <unk>");
    assert_eq!(vocabulary.decode(&[0, 2, 99, 0, 0]), "the <unk>");
    assert_eq!(vocabulary.word(11), None);
}

#[test]
fn coverage_is_the_share_of_known_tokens() {
    let vocabulary = Vocabulary::build(TEXTS, 2, None);
    assert_eq!(vocabulary.coverage(["the plot", "the end"]), 0.75);
    assert_eq!(vocabulary.coverage(TEXTS), 5.0 / 12.0);
    assert_eq!(vocabulary.coverage([""]), 1.0);
}

#[test]
fn text_keeps_every_number() {
    let vocabulary = Vocabulary::build(TEXTS, 1, Some(5));
    assert_eq!(vocabulary.to_text(), "the\nplot\n,\n");
    assert_eq!(Vocabulary::from_text(&vocabulary.to_text()).unwrap(), vocabulary);
    let none = Vocabulary::build([], 1, None);
    assert_eq!((none.to_text().as_str(), Vocabulary::from_text("").unwrap()), ("", none));
    // The last line need not end.
    assert_eq!(Vocabulary::from_text("the\nplot\n,").unwrap(), vocabulary);
}

#[test]
fn text_that_is_no_vocabulary_is_refused() {
    let refusal = |text| Vocabulary::from_text(text).unwrap_err().to_string();
    let twice = "vocabulary, line 3: the word \"a\" is already number 2";
    assert_eq!(refusal("a\nb\na\n"), twice);
    assert_eq!(refusal("a\n<pad>\n"), "vocabulary, line 2: the word \"<pad>\" is already number 0");
    assert_eq!(refusal("a\n\nb\n"), "vocabulary, line 2: \"\" is not a word");
    assert_eq!(refusal("\n"), "vocabulary, line 1: \"\" is not a word");
    assert_eq!(refusal("a\nb c\n"), "vocabulary, line 2: \"b c\" is not a word");
    assert_eq!(refusal("a\r\n"), "vocabulary, line 1: \"a\\r\" is not a word");
}
