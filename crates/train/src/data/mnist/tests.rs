//! Folders of small files in MNIST's format.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use super::*;

/// Writes an IDX file of bytes.
fn write(path: PathBuf, shape: &[u32], data: &[u8]) {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|side| side.to_be_bytes()));
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn images(count: usize) -> Vec<u8> {
    (0..count * SIDE * SIDE).map(|i| i as u8).collect()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("train-images-idx3-ubyte"), &[3, 28, 28], &images(3));
    write(dir.path().join("train-labels.idx1-ubyte"), &[3], &[0, 9, 4]);
    write(dir.path().join("t10k-images.idx3-ubyte"), &[1, 28, 28], &images(1));
    write(dir.path().join("t10k-labels-idx1-ubyte"), &[1], &[7]);
    dir
}

#[test]
fn a_folder_is_read_whatever_its_spelling() {
    let dir = folder();
    let train = Mnist::train(dir.path()).unwrap();
    assert_eq!((train.len(), train.shape(), train.classes), (3, [1, 28, 28], 10));
    assert_eq!((train.pixels, train.labels), (images(3), vec![0, 9, 4]));
    let (_, test, source) = find_from(&[], Some(dir.path()), None).unwrap();
    assert_eq!(test.labels, [7]);
    assert!(source.to_string().starts_with("MNIST from /"), "{source}");
}

#[test]
fn a_missing_file_lists_its_names() {
    let dir = folder();
    fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let error = find_from(&[], Some(dir.path()), None).unwrap_err().to_string();
    assert!(error.contains("t10k-labels-idx1-ubyte.gz"), "{error}");
    assert!(error.contains("t10k-labels.idx1-ubyte"), "{error}");
}

#[test]
fn files_must_belong_together() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    write(path("train-images-idx3-ubyte"), &[2, 28, 28], &images(2));
    let error = Mnist::train(dir.path()).unwrap_err();
    assert!(error.to_string().contains("2 images, but"), "{error}");
    assert!(error.to_string().ends_with("has 3 labels"), "{error}");

    write(path("train-images-idx3-ubyte"), &[3, 28, 27], &[]);
    let error = Mnist::train(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("expected shape [count, 28, 28], found [3, 28, 27]"), "{error}");

    write(path("train-labels.idx1-ubyte"), &[1, 3], &[1, 2, 3]);
    assert!(matches!(Mnist::train(dir.path()), Err(DataError::Shape { .. })));
}

#[test]
fn labels_are_checked() {
    let dir = folder();
    let path = dir.path().join("train-labels.idx1-ubyte");
    write(path.clone(), &[3], &[0, 10, 11]);
    let error = Mnist::train(dir.path()).unwrap_err().to_string();
    let expected = "label 10 at index 1 is not below the number of classes, 10";
    assert_eq!(error, format!("{}: {expected}", path.display()));
}

#[test]
fn the_cache_is_used_and_drawn_digits_come_last() {
    let dir = folder();
    let cached = find_from(&[], None, Some(dir.path().to_owned())).unwrap();
    assert!(matches!(cached.2, Source::Cache(_)));
    fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let (train, test, source) = find_from(&[], None, Some(dir.path().to_owned())).unwrap();
    assert_eq!((train.len(), test.len()), (12_000, 2_000));
    let text = source.to_string();
    assert!(text.contains("train-images-idx3-ubyte.gz could not be downloaded"), "{text}");
    let (_, _, source) = find_from(&[], None, None).unwrap();
    assert!(source.to_string().contains("set SHADEGRAD_CACHE"), "{source}");
}
