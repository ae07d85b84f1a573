//! Folders in the layout of the Large Movie Review Dataset, sound and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

const SOUND: [(&str, &[u8]); 8] = [
    ("pos/1_9.txt", b"fine"),
    ("pos/0_8.txt", b"good<br />film\n"),
    ("pos/urls.dat", b"\xff"),
    ("neg/2_1.txt", b"bad"),
    ("neg/.hidden.txt", b""),
    ("unsup/0_0.txt", b"whatever"),
    (".cache/0_0.txt", b"whatever"),
    ("labeledBow.feat", b"9 0:9"),
];

#[test]
fn folders_are_classes_and_files_are_texts() {
    let dir = folder(&SOUND);
    let (texts, report) = Texts::folder(dir.path(), &Reading::default()).unwrap();
    assert_eq!(texts.classes, ["neg", "pos"]);
    assert_eq!(texts.texts, ["bad", "good<br />film\n", "fine"]);
    assert_eq!(texts.labels, [0, 1, 1]);
    assert_eq!((report.used, report.to_string()), (3, "skipped no files".into()));
}

#[test]
fn bad_files_are_named_or_skipped() {
    let dir = folder(&SOUND);
    let broken = dir.path().join("pos").join("2_7.txt");
    fs::write(&broken, b"abc\xe2\x82").unwrap();
    let error = Texts::folder(dir.path(), &Reading::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: not UTF-8 at byte 4", broken.display()));
    let empty = dir.path().join("neg").join("3_2.txt");
    fs::write(&empty, b" \n").unwrap();
    let error = Texts::folder(dir.path(), &Reading::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: no text", empty.display()));

    let skipping = Reading::default().skip_bad(true);
    let (texts, report) = Texts::folder(dir.path(), &skipping).unwrap();
    assert_eq!((texts.len(), report.used, report.count()), (3, 3, 2));
    assert_eq!(
        report.to_string(),
        "skipped 2 files: 1 without text (first at neg/3_2.txt), 1 not UTF-8 (first at pos/2_7.txt)"
    );
}

#[test]
fn classes_and_their_texts_must_be_there() {
    let dir = folder(&[("a.txt", b"text"), ("unsup/0.txt", b"text")]);
    let error = Texts::folder(dir.path(), &Reading::default()).unwrap_err();
    assert!(matches!(error, DataError::NoClasses { .. }), "{error}");

    let dir = folder(&[("neg/0.txt", b"text"), ("pos/0.text", b"text")]);
    let error = Texts::folder(dir.path(), &Reading::default()).unwrap_err().to_string();
    let pos = dir.path().join("pos");
    let expected = "nothing in it could be used (skipped no files)";
    assert_eq!(error, format!("{}: {expected}", pos.display()));

    let missing = Texts::folder(dir.path().join("none"), &Reading::default());
    assert!(matches!(missing, Err(DataError::Io { .. })));
}
