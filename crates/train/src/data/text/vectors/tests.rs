//! Sound and damaged files of word vectors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use super::*;

fn vocabulary() -> Vocabulary {
    Vocabulary::from_text("the\ngood\nfilm\n").unwrap()
}

fn read(bytes: &[u8], reading: &Reading) -> Result<(WordVectors, Report), DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("glove.txt");
    fs::write(&path, bytes).unwrap();
    WordVectors::glove_with(&path, 2, &vocabulary(), reading)
}

/// What the error says behind the path.
fn refusal(bytes: &[u8]) -> String {
    let error = read(bytes, &Reading::default()).unwrap_err().to_string();
    error.split_once("glove.txt").unwrap().1.to_owned()
}

#[test]
fn rows_of_known_words_are_kept() {
    let file = b"film 0.5 -1e-3\nother 1 2\nthe 3 4.25\nthe 9 9\n. . . 5 6\n<pad> 8 8\n";
    let (vectors, report) = read(file, &Reading::default()).unwrap();
    assert_eq!((report.used, report.count()), (6, 0));
    assert_eq!((vectors.found(), vectors.width()), (2, 2));
    assert_eq!(vectors.row(2), Some(&[3.0, 4.25][..]));
    assert_eq!(vectors.row(4), Some(&[0.5, -0.001][..]));
    assert_eq!([0, 1, 3, 5].map(|id| vectors.row(id)), [None; 4]);
    let matrix = vectors.matrix(|id, column| (10 * id) as f32 + column as f32);
    assert_eq!(matrix, [0.0, 0.0, 10.0, 11.0, 3.0, 4.25, 30.0, 31.0, 0.5, -0.001]);
}

#[test]
fn lines_may_end_as_they_like_and_unknown_words_have_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("glove.txt");
    fs::write(&path, b"good 1 2\r\n<unk> 3 4").unwrap();
    let vectors = WordVectors::glove(&path, 2, &vocabulary()).unwrap();
    assert_eq!((vectors.row(1), vectors.row(3)), (Some(&[3.0, 4.0][..]), Some(&[1.0, 2.0][..])));
}

#[test]
fn every_fault_is_named_with_its_line() {
    // Also in rows of words that nobody asks for.
    let width =
        |line, found| format!(", line {line}: expected a word and 2 numbers, found {found}");
    assert_eq!(refusal(b"the 1 2\nother 1\n"), width(2, 1));
    assert_eq!(refusal(b"the 1 2\nother 1 2 3\n"), width(2, 3));
    assert_eq!(refusal(b"other 1 2 3 4\n"), width(1, 4));
    assert_eq!(refusal(b"the 1 2\n\n"), width(2, 0));
    // The header of another format.
    assert_eq!(refusal(b"400000 2\nthe 1 2\n"), width(1, 1));
    let number = |column, found| {
        format!(", line 2: number {column} of the row is {found:?}, which is not a finite number")
    };
    assert_eq!(refusal(b"the 1 2\nother 1 x\n"), number(2, "x"));
    assert_eq!(refusal(b"the 1 2\nother 0,5 2\n"), number(1, "0,5"));
    assert_eq!(refusal(b"the 1 2\nother nan 2\n"), number(1, "nan"));
    assert_eq!(refusal(b"the 1 2\nother 1 1e99\n"), number(2, "1e99"));
    assert_eq!(refusal(b"the 1 2\nother 1  2\n"), number(1, ""));
    assert_eq!(refusal(b"the 1 2\n 1 2\n"), ", line 2: \"\" is not a word");
    assert_eq!(refusal(b"the 1 2\nth\xe9 1 2\n"), ", line 2: not UTF-8 at byte 3");
    assert_eq!(refusal(b""), ": nothing in it could be used (skipped no lines)");
    let missing = WordVectors::glove("/no/such/file", 2, &vocabulary());
    assert!(matches!(missing, Err(DataError::Io { .. })));
}

#[test]
fn what_is_bad_can_be_skipped_and_is_counted() {
    let skipping = Reading::default().skip_bad(true);
    let (vectors, report) = read(b"the 1\ngood 1 2\nfilm 1 x\ntoo 1\n", &skipping).unwrap();
    assert_eq!((vectors.found(), report.used), (1, 1));
    assert_eq!(
        report.to_string(),
        "skipped 3 lines: 2 of wrong width (first at line 1), 1 with something else than a \
         number (first at line 3)"
    );
    assert_eq!(report.skipped[0].fault, TextFault::Width { expected: 2, found: 1 });
    let error = read(b"the 1\n", &skipping).unwrap_err().to_string();
    assert!(error.ends_with("(skipped 1 line: 1 of wrong width (first at line 1))"), "{error}");
}
