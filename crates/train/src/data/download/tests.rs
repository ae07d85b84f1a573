//! Downloads, against servers on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use flate2::{Compression, write::GzEncoder};

use super::*;

const CONTENTS: &[u8] = b"a file as it was published";
const FILE: Pinned = Pinned {
    name: "file.gz",
    bytes: CONTENTS.len() as u64,
    sha256: "3174ea7479a0b78b295f66a12344bace269ccd4480578749a03ef107ebb958c2",
};

/// A mirror that answers every request with `body` after a header announcing `announced` bytes.
fn mirror(status: &'static str, announced: usize, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap()).lines();
            assert!(request.map_while(Result::ok).any(|line| line.is_empty()));
            let header = format!("HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n");
            // The client may hang up early, which is none of the mirror's business.
            let _ = write!(stream, "{header}Connection: close\r\n\r\n");
            let _ = stream.write_all(&body);
        }
    });
    format!("http://{address}/")
}

fn serving(body: Vec<u8>) -> String {
    mirror("200 OK", body.len(), body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Fetches into a fresh folder; what came, and the names of all files left there.
fn fetch_from(mirrors: &[&str]) -> (Result<Vec<u8>, DataError>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("made/as/needed");
    let result = fetch(&FILE, mirrors, &inner, Progress::Silent)
        .map(|()| fs::read(inner.join(FILE.name)).unwrap());
    let names = fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name());
    (result, names.map(|name| name.into_string().unwrap()).collect())
}

#[test]
fn a_verified_file_arrives() {
    let (result, names) = fetch_from(&[&serving(gzip(CONTENTS))]);
    assert_eq!(result.unwrap(), gzip(CONTENTS));
    assert_eq!(names, [FILE.name]);
    // Mirrors that unpack on the way are as good.
    assert_eq!(fetch_from(&[&serving(CONTENTS.to_vec())]).0.unwrap(), CONTENTS);
}

#[test]
fn the_next_mirror_is_tried() {
    let missing = mirror("404 Not Found", 0, vec![]);
    let changed = serving(gzip(b"something else altogether."));
    let cut = mirror("200 OK", 100, gzip(CONTENTS)[..20].to_vec());
    let sound = serving(gzip(CONTENTS));
    let (result, names) = fetch_from(&[&missing, &changed, &cut, &sound]);
    assert_eq!(result.unwrap(), gzip(CONTENTS));
    assert_eq!(names, [FILE.name]);
}

#[test]
fn failures_are_all_reported_and_leave_nothing() {
    let missing = mirror("404 Not Found", 0, vec![]);
    let changed = serving(gzip(b"something else altogether."));
    let bomb = serving(vec![0; 1 << 20]);
    let unpacked_bomb = serving(gzip(&[0; 1 << 16]));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let (result, names) = fetch_from(&[&missing, &changed, &bomb, &unpacked_bomb, &nobody]);
    assert!(names.is_empty(), "{names:?}");
    let error = result.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    let DataError::Download { attempts, .. } = error else { panic!("{error}") };
    let [first, second, third, fourth, fifth] = &attempts[..] else { panic!("{attempts:?}") };
    assert!(matches!(first, DataError::Fetch { url, .. } if url.ends_with("/file.gz")));
    assert!(matches!(second, DataError::Checksum { expected, .. } if expected == FILE.sha256));
    assert!(matches!(third, DataError::Fetch { .. }), "{third}");
    assert!(matches!(fourth, DataError::Checksum { .. }), "{fourth}");
    assert!(matches!(fifth, DataError::Fetch { .. }), "{fifth}");
}

#[test]
fn a_whole_file_is_kept_and_a_damaged_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE.name);
    fs::write(&path, gzip(CONTENTS)).unwrap();
    fetch(&FILE, &[], dir.path(), Progress::Silent).unwrap();
    fs::write(&path, b"damaged").unwrap();
    assert!(fetch(&FILE, &[], dir.path(), Progress::Silent).is_err());
    fetch(&FILE, &[&serving(gzip(CONTENTS))], dir.path(), Progress::Silent).unwrap();
    assert_eq!(fs::read(&path).unwrap(), gzip(CONTENTS));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = fetch(&FILE, &[], &file, Progress::Silent).unwrap_err();
    assert!(error.to_string().contains("a-file"), "{error}");
}
