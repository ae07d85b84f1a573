//! Tables of texts: what is read of them, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::tests::rows;
use super::*;

const TABLE: &str = "id,text,mood\n1,\"so, so\",flat\n2,fine,good\n3,\"two\nlines\",bad\n";

#[test]
fn texts_are_read_with_their_classes() {
    let rows = rows(TABLE);
    let columns = TextColumns::fit(&rows, "text", "mood").unwrap();
    assert_eq!(columns.classes(), ["bad", "flat", "good"]);
    let texts = columns.labelled(&rows).unwrap();
    assert_eq!(texts.texts, ["so, so", "fine", "two\nlines"]);
    assert_eq!((texts.labels, texts.classes.as_slice()), (vec![1, 2, 0], columns.classes()));
    assert_eq!(columns.unlabelled(&rows).unwrap(), ["so, so", "fine", "two\nlines"]);
    let classes = columns.classes().to_vec();
    assert_eq!(TextColumns::new("text", "mood", classes).unwrap(), columns);
    assert_eq!(TextColumns::fit(&rows, 1, 2).unwrap(), columns);
}

#[test]
fn what_makes_no_sense_is_named() {
    let known = TextColumns::fit(&rows(TABLE), "text", "mood").unwrap();
    let refused = |table: &str, words: &[&str]| {
        let rows = rows(table);
        let error = known.labelled(&rows).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused("text,mood\nfine,good\n\" \",good\n", &["line 3", "text"]);
    refused("text,mood\nfine,good\nfine,\n", &["line 3", "mood"]);
    refused("text,mood\nfine,great\n", &["line 2", "great", "good"]);
    refused("words,mood\nfine,good\n", &["text", "words"]);
    // Of unlabelled texts the classes are not looked at.
    assert_eq!(known.unlabelled(&rows("text\nfine\n")).unwrap(), ["fine"]);
    let rows = rows(TABLE);
    let same = TextColumns::fit(&rows, "mood", "mood").unwrap_err().to_string();
    assert!(same.contains("mood") && same.contains("another"), "{same}");
    assert!(TextColumns::fit(&rows, "text", "moods").unwrap_err().to_string().contains("moods"));
    let twice = ["a", "a"].map(str::to_owned).to_vec();
    assert!(TextColumns::new("text", "mood", twice).is_err());
}
