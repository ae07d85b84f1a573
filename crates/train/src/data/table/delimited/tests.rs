//! Files of separated values, sound and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn read(layout: Delimited, bytes: impl AsRef<[u8]>) -> Result<Rows, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    fs::write(&path, bytes).unwrap();
    layout.read(path)
}

fn fields(rows: &Rows) -> Vec<Vec<&str>> {
    rows.records.iter().map(|record| record.fields.iter().collect()).collect()
}

fn lines(rows: &Rows) -> Vec<u64> {
    rows.records.iter().map(|record| record.line).collect()
}

/// The error without the folder.
fn refused(layout: Delimited, bytes: impl AsRef<[u8]>) -> String {
    let error = read(layout, bytes).unwrap_err().to_string();
    let (_, told) = error.split_once("t.csv").unwrap_or(("", &error));
    told.to_owned()
}

#[test]
fn fields_may_be_quoted_and_lines_may_end_as_they_like() {
    let text = "\u{feff}name, size ,note\n\"Smith, J.\",1.5,\"a \"\"quoted\"\" word\"\n\n x , 2,\"two\nlines\"\n,,";
    let expected = [
        vec!["Smith, J.", "1.5", "a \"quoted\" word"],
        vec!["x", "2", "two\nlines"],
        vec!["", "", ""],
    ];
    for end in ["", "\n", "\n\n\n"] {
        let rows = read(Delimited::commas(), format!("{text}{end}")).unwrap();
        assert_eq!(rows.names(), ["name", "size", "note"]);
        assert_eq!(fields(&rows), expected);
        assert_eq!(lines(&rows), [2, 4, 6]);
        let windows = format!("{text}{end}").replace('\n', "\r\n");
        let rows = read(Delimited::commas(), windows).unwrap();
        assert_eq!((lines(&rows), rows.len()), (vec![2, 4, 6], 3));
        assert_eq!(rows.column("size").unwrap(), ["1.5", "2", ""]);
    }
    let closed = read(Delimited::commas(), "a,b\n1,\"x\"").unwrap();
    assert_eq!(fields(&closed), [["1", "x"]]);
}

#[test]
fn other_delimiters_and_no_header() {
    let rows = read(Delimited::tabs().without_header(), "1\t2, 3\n4\t5\n").unwrap();
    assert_eq!(rows.names(), ["0", "1"]);
    assert_eq!(fields(&rows), [["1", "2, 3"], ["4", "5"]]);
    assert_eq!(rows.column(1).unwrap(), ["2, 3", "5"]);
    let rows = read(Delimited::by(b';'), "a;b\n1,5;2\n").unwrap();
    assert_eq!(rows.column("a").unwrap(), ["1,5"]);
    for delimiter in [b'"', b'\n', b'\r', 0x80] {
        let error = Delimited::by(delimiter).read("unused").unwrap_err().to_string();
        assert!(error.starts_with("the delimiter is the byte 0x"), "{error}");
    }
}

#[test]
fn every_fault_is_named_with_its_line() {
    let commas = Delimited::commas();
    let expected = ", line 4: expected 2 fields, as in the first row, found 3";
    assert_eq!(refused(commas, "a,b\n1,2\n\n1,2,3\n4,5\n"), expected);
    assert_eq!(refused(commas, "a,b\r\n1,2\r\n\r\n1,2,3"), expected);
    let short = ", line 3: expected 2 fields, as in the first row, found 1";
    assert_eq!(refused(commas, "a,b\n1,2\n1"), short, "a file cut short");
    assert_eq!(refused(commas, "a,b\n1,2\n  \n"), short);
    assert_eq!(refused(commas, b"a,b\n1,2\n3,\xff\n"), ", line 3: field 2 is not UTF-8");
    let open = ", line 2: a quote in this row is never closed";
    for end in ["", "\n", "\n3,4\n", "\r\n\n"] {
        assert_eq!(refused(commas, format!("a,b\n1,\"2{end}")), open, "{end:?}");
    }
    assert_eq!(refused(commas, "\"a,b\n1,2\n"), ", line 1: a quote in this row is never closed");
}

#[test]
fn empty_files_and_names_that_are_the_same_are_refused() {
    let commas = Delimited::commas();
    for text in ["", "\n\r\n", "a,b\n", "a,b"] {
        assert_eq!(refused(commas, text), ": no rows", "{text:?}");
    }
    assert_eq!(refused(commas.without_header(), "\n"), ": no rows");
    assert_eq!(read(commas.without_header(), "a,b").unwrap().len(), 1);
    assert_eq!(refused(commas, "a,b, a\n1,2,3\n"), ": two columns are called \"a\"");
    assert!(matches!(commas.read("/no/such/file.csv"), Err(DataError::Io { .. })));
}

#[test]
fn columns_that_are_not_there_are_refused_with_those_that_are() {
    let rows = read(Delimited::commas(), "a,b\n1,2\n").unwrap();
    let error = rows.column("c").unwrap_err().to_string();
    assert!(error.ends_with("t.csv: no column \"c\": there are \"a\", \"b\""), "{error}");
    let error = rows.column(2).unwrap_err().to_string();
    assert!(error.ends_with("t.csv: no column 2: there are \"a\", \"b\""), "{error}");
}
