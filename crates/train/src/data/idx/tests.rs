//! Sound, damaged and hostile IDX files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, io::Write};

use flate2::{Compression, write::GzEncoder};

use super::*;

/// A 2x3 tensor, as a file.
const SOUND: [u8; 18] = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];

fn read_bytes(bytes: &[u8]) -> Result<Idx, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    read(&path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn plain_and_gzipped_files_read_the_same() {
    let idx = read_bytes(&SOUND).unwrap();
    assert_eq!(idx, Idx { shape: vec![2, 3], data: vec![1, 2, 3, 4, 5, 6] });
    assert_eq!(read_bytes(&gzip(&SOUND)).unwrap(), idx);
    let scalar = read_bytes(&[0, 0, 8, 0, 7]).unwrap();
    assert_eq!(scalar, Idx { shape: vec![], data: vec![7] });
}

#[test]
fn foreign_files_are_refused() {
    let error = read_bytes(b"PNG\n....").unwrap_err().to_string();
    assert!(error.contains("found [50, 4e, 47, 0a]"), "{error}");
    let floats = read_bytes(&[0, 0, 0x0d, 1, 0, 0, 0, 0]).unwrap_err().to_string();
    assert!(floats.contains("found element type 0x0d"), "{floats}");
    assert!(matches!(read("/no/such/file"), Err(DataError::Io { .. })));
}

#[test]
fn every_cut_is_noticed() {
    for cut in 0..SOUND.len() {
        let error = read_bytes(&SOUND[..cut]).unwrap_err();
        assert!(
            matches!(error, DataError::Truncated { found, .. } if found <= cut as u64),
            "{cut}: {error}"
        );
    }
    let error = read_bytes(&SOUND[..15]).unwrap_err().to_string();
    assert!(error.ends_with("expected 18 bytes (unpacked), found 15"), "{error}");
    // Also when gzip's own checksum is all that is missing.
    let packed = gzip(&SOUND);
    for cut in 2..packed.len() {
        let error = read_bytes(&packed[..cut]).unwrap_err();
        assert!(matches!(error, DataError::Truncated { .. }), "{cut}: {error}");
    }
}

#[test]
fn damage_and_trailing_bytes_are_noticed() {
    let long = [&SOUND[..], &[7]].concat();
    assert!(matches!(read_bytes(&long), Err(DataError::Trailing { expected: 18, .. })));
    assert!(matches!(read_bytes(&gzip(&long)), Err(DataError::Trailing { .. })));
    let mut damaged = gzip(&SOUND);
    let crc = damaged.len() - 8;
    damaged[crc] ^= 1;
    assert!(matches!(read_bytes(&damaged), Err(DataError::Io { .. })));
}

#[test]
fn a_header_is_not_believed() {
    // 2^96 elements, and then 2^60: neither is allocated.
    let mut hostile = vec![0, 0, 8, 3];
    hostile.extend([0xff; 12]);
    assert!(matches!(read_bytes(&hostile), Err(DataError::TooLarge { .. })));
    let mut hostile = vec![0, 0, 8, 2];
    hostile.extend([0x40, 0, 0, 0, 0x40, 0, 0, 0]);
    assert!(matches!(read_bytes(&hostile), Err(DataError::Truncated { found: 12, .. })));
}
