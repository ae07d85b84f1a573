//! The lines of a file, one at a time, so that files larger than memory can be read. What is made
//! of a line either succeeds, or is an error with the file and the line, or is skipped and counted.
//!
//! Lines end with `\n` or `\r\n`; the last one need not end. A byte order mark is no part of the
//! first.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    str,
};

use super::{DataError, Reading, Report, TextFault};

/// Hands every line of the file to `accept`, which says what is wrong with it.
///
/// # Errors
///
/// When the file can't be read, and at the first line that is not UTF-8 or that `accept` refuses,
/// unless those are to be skipped.
pub(super) fn each(
    path: &Path,
    reading: &Reading,
    mut accept: impl FnMut(&str) -> Result<(), TextFault>,
) -> Result<Report, DataError> {
    let mut file = BufReader::new(File::open(path).map_err(DataError::at(path))?);
    let mut report = Report::of("line");
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if file.read_until(b'\n', &mut bytes).map_err(DataError::at(path))? == 0 {
            break;
        }
        let content = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let result = decode(content).and_then(|text| {
            let marked = if line == 1 { text.strip_prefix('\u{feff}') } else { None };
            accept(marked.unwrap_or(text))
        });
        match result {
            Ok(()) => report.used += 1,
            Err(fault) if reading.skip_bad => report.skip(fault, || format!("line {line}")),
            Err(reason) => return Err(DataError::Line { path: path.to_owned(), line, reason }),
        }
    }
    Ok(report)
}

/// The text that some bytes are.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, TextFault> {
    str::from_utf8(bytes).map_err(|e| TextFault::NotUtf8 { byte: e.valid_up_to() + 1 })
}
