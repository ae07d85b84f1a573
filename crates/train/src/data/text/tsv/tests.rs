//! Sound and damaged TSV files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use super::*;

fn read(bytes: &[u8], reading: &Reading) -> Result<(Texts, Report), DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.tsv");
    fs::write(&path, bytes).unwrap();
    Texts::tsv(&path, reading)
}

/// What the error says behind the path.
fn refusal(bytes: &[u8]) -> String {
    let error = read(bytes, &Reading::default()).unwrap_err().to_string();
    error.split_once("train.tsv").unwrap().1.to_owned()
}

#[test]
fn sound_files_are_read_whatever_their_line_ends() {
    let expected = Texts {
        texts: vec!["a good film".into(), "tab\tin it".into(), "caf\u{e9}".into()],
        labels: vec![1, 0, 1],
        classes: vec!["0".into(), "1".into()],
    };
    for text in [
        "a good film\t1\ntab\tin it\t0\ncaf\u{e9}\t1\n",
        "a good film\t1\ntab\tin it\t0\ncaf\u{e9}\t1",
        "a good film\t1\r\ntab\tin it\t0\r\ncaf\u{e9}\t1\r\n",
        "\u{feff}a good film\t1\ntab\tin it\t0\ncaf\u{e9}\t1",
    ] {
        let (texts, report) = read(text.as_bytes(), &Reading::default()).unwrap();
        assert_eq!(texts, expected);
        assert_eq!((report.used, report.count()), (3, 0));
        assert_eq!(report.to_string(), "skipped no lines");
    }
}

#[test]
fn labels_are_looked_up_by_name() {
    let reading = Reading::default().classes(["neg", "neutral", "pos"]);
    let (texts, _) = read(b"x\tpos\ny\tneg\nz\tneutral\n", &reading).unwrap();
    assert_eq!((texts.labels, texts.classes.len()), (vec![2, 0, 1], 3));
    let twice = Reading::default().classes(["a", "a"]);
    assert!(matches!(read(b"x\ta\n", &twice), Err(DataError::Classes { .. })));
}

#[test]
fn every_fault_is_named_with_its_line() {
    assert_eq!(refusal(b"a\t1\nb\xff\t0\n"), ", line 2: not UTF-8 at byte 2");
    assert_eq!(refusal(b"a\t1\n\nb\t0\n"), ", line 2: no text");
    assert_eq!(refusal(b"a\t1\nb\t0\n \t1\n"), ", line 3: no text");
    assert_eq!(refusal(b"\t1\n"), ", line 1: no text");
    assert_eq!(refusal(b"a\t1\nb 0\n"), ", line 2: no tab between text and label");
    let unknown = r#", line 1: unknown label "2": known are "0", "1""#;
    assert_eq!(refusal(b"a\t2\n"), unknown);
    assert!(refusal(b"a\t1\nb\t\n").starts_with(r#", line 2: unknown label "": "#));
    // Exactly: a space more is another label.
    assert!(refusal(b"a\t1 \n").starts_with(r#", line 1: unknown label "1 ": "#));
    let long = format!("a\t{}\n", "\u{e9}".repeat(1000));
    assert!(refusal(long.as_bytes()).contains(&format!("\"{}...\"", "\u{e9}".repeat(40))));
    assert_eq!(refusal(b""), ": nothing in it could be used (skipped no lines)");
    let missing = Texts::tsv("/no/such/file", &Reading::default());
    assert!(matches!(missing, Err(DataError::Io { .. })));
}

#[test]
fn what_is_bad_can_be_skipped_and_is_counted() {
    let skipping = Reading::default().skip_bad(true);
    let file = b"a\t1\nb 0\nc\t7\nd 1\ne\t0\n\n\xc3\x28\t1\nf\t1";
    let (texts, report) = read(file, &skipping).unwrap();
    assert_eq!(
        (texts.texts, texts.labels),
        (vec!["a".into(), "e".into(), "f".into()], vec![1, 0, 1])
    );
    assert_eq!((report.used, report.count()), (3, 5));
    assert_eq!(
        report.to_string(),
        "skipped 5 lines: 2 without a tab (first at line 2), 1 of unknown label (first at \
         line 3), 1 without text (first at line 6), 1 not UTF-8 (first at line 7)"
    );
    assert_eq!(report.skipped[0].fault, TextFault::NoTab);
    assert_eq!(report.skipped[3].fault, TextFault::NotUtf8 { byte: 1 });

    let error = read(b"a\n", &skipping).unwrap_err().to_string();
    let expected =
        "nothing in it could be used (skipped 1 line: 1 without a tab (first at line 1))";
    assert!(error.ends_with(expected), "{error}");
}
