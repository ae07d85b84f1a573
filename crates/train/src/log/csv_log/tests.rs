//! Logs that are begun, continued and refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

#[test]
fn the_first_row_gives_the_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let mut log = CsvLog::open(&path).unwrap();
    assert!(log.columns().is_empty() && fs::read(&path).unwrap().is_empty());
    log.row(&[("epoch", &1), ("loss", &0.1_f32), ("note", &"a, \"b\"\nc")]).unwrap();
    // Without closing or flushing it.
    let first = "epoch,loss,note\n1,0.1,\"a, \"\"b\"\"\nc\"\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
    log.row(&[("note", &""), ("epoch", &2), ("loss", &f64::NAN)]).unwrap();
    log.flush().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}2,NaN,\n"));
    assert_eq!(log.columns(), ["epoch", "loss", "note"]);
}

#[test]
fn a_log_with_the_same_columns_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    CsvLog::with_columns(&path, &["a", "b"]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a,b\n");
    for number in 0..3 {
        let mut log = match number {
            0 => CsvLog::open(&path),
            _ => CsvLog::with_columns(&path, &["a", "b"]),
        }
        .unwrap();
        log.row(&[("b", &(number * 2)), ("a", &number)]).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "a,b\n0,0\n1,2\n2,4\n");
}

#[test]
fn other_columns_are_refused_naming_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let mut log = CsvLog::with_columns(&path, &["a", "b"]).unwrap();
    log.row(&[("a", &1), ("b", &2)]).unwrap();
    let before = fs::read(&path).unwrap();
    let at = path.display();
    let error = CsvLog::with_columns(&path, &["b", "a"]).unwrap_err().to_string();
    assert_eq!(error, format!("{at}: the columns are a, b, found b, a"));
    let rows: [&[(&str, &dyn Display)]; 5] = [
        &[("a", &1)],
        &[("a", &1), ("c", &2)],
        &[("a", &1), ("a", &2)],
        &[("a", &1), ("b", &2), ("c", &3)],
        &[("a", &1), ("b", &2), ("b", &3)],
    ];
    for row in rows {
        let error = log.row(row).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{at}: the columns are a, b, found a")), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);

    let fresh = dir.path().join("fresh.csv");
    let error = CsvLog::with_columns(&fresh, &["a", " a"]).unwrap_err();
    assert!(matches!(error, LogError::Names { .. }), "{error}");
    assert!(CsvLog::open(&fresh).unwrap().row(&[]).is_err());
    assert!(fs::read(&fresh).unwrap().is_empty());
}

#[test]
fn damaged_logs_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    for (text, expected) in [
        ("a,b\n1,2\n3,4", "the last row doesn't end with a line break"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 fields"),
        ("a,b\n1,\"2\n3,4\n", "line 2: a quote in this row is never closed"),
    ] {
        fs::write(&path, text).unwrap();
        let error = CsvLog::open(&path).unwrap_err().to_string();
        assert!(error.contains("log.csv") && error.contains(expected), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let error = CsvLog::open(dir.path().join("none").join("log.csv")).unwrap_err().to_string();
    assert!(error.contains("log.csv"), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_with_the_file() {
    let mut log = CsvLog::open("/dev/full").unwrap();
    let error = log.row(&[("a", &1)]).unwrap_err().to_string();
    assert!(error.starts_with("/dev/full: "), "{error}");
    assert!(log.columns().is_empty(), "the header is not there");
}
