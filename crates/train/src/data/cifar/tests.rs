//! Folders of small files in the format of CIFAR-10, sound and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// Records of these classes, with pixels that tell file, record and place apart.
fn batch(file: usize, labels: &[u8]) -> Vec<u8> {
    let pixel = |record: usize, place: usize| (file * 31 + record * 7 + place / 5) as u8;
    let record = |(record, &label): (usize, &u8)| {
        let pixels = (0..RECORD - 1).map(move |place| pixel(record, place));
        std::iter::once(label).chain(pixels)
    };
    labels.iter().enumerate().flat_map(record).collect()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in 1..=5 {
        // One, two, ... five records.
        let labels: Vec<u8> = (0..file as u8).map(|i| 9 - i).collect();
        fs::write(dir.path().join(format!("data_batch_{file}.bin")), batch(file, &labels)).unwrap();
    }
    fs::write(dir.path().join("test_batch.bin"), batch(0, &[3])).unwrap();
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    fs::write(dir.path().join("batches.meta.txt"), names).unwrap();
    dir
}

#[test]
fn the_files_follow_each_other_plane_by_plane() {
    let dir = folder();
    let train = Cifar10::train(dir.path()).unwrap();
    assert_eq!((train.len(), train.shape(), train.classes), (15, [3, 32, 32], 10));
    assert_eq!(train.labels, [9, 9, 8, 9, 8, 7, 9, 8, 7, 6, 9, 8, 7, 6, 5]);
    // The second image of the third file: the sixth is the last of that file.
    assert_eq!(train.image(4), &batch(3, &[9, 8, 7])[RECORD + 1..2 * RECORD]);
    let test = Cifar10::test(dir.path()).unwrap();
    assert_eq!((test.len(), test.labels[0]), (1, 3));
    assert_eq!(test.pixels, batch(0, &[3])[1..]);
}

#[test]
fn classes_have_names() {
    let dir = folder();
    let names = Cifar10::classes(dir.path()).unwrap();
    assert_eq!((names.len(), &*names[3], &*names[9]), (10, "cat", "truck"));
    let path = dir.path().join("batches.meta.txt");
    fs::write(&path, "cat\ndog\n").unwrap();
    let error = Cifar10::classes(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: expected 10 names, a line each, found 2", path.display()));
    fs::write(&path, "cat\n".repeat(10)).unwrap();
    assert!(matches!(Cifar10::classes(dir.path()), Err(DataError::Classes { .. })));
}

#[test]
fn damaged_files_are_refused_by_name() {
    let dir = folder();
    let path = dir.path().join("data_batch_3.bin");
    let whole = fs::read(&path).unwrap();
    for len in [0, 1, RECORD - 1, RECORD + 1, 3 * RECORD - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let error = Cifar10::train(dir.path()).unwrap_err().to_string();
        let expected = format!("expected records of 3073 bytes each, found {len} bytes");
        assert_eq!(error, format!("{}: {expected}", path.display()));
    }
    let mut foreign = whole.clone();
    foreign[2 * RECORD] = 10;
    fs::write(&path, &foreign).unwrap();
    let error = Cifar10::train(dir.path()).unwrap_err().to_string();
    let expected = "label 10 at index 2 is not below the number of classes, 10";
    assert_eq!(error, format!("{}: {expected}", path.display()));
    fs::remove_file(&path).unwrap();
    let error = Cifar10::train(dir.path()).unwrap_err().to_string();
    assert!(error.contains("data_batch_3.bin"), "{error}");
}
