//! Downloads a file whose contents are known in advance: from the first mirror that delivers
//! them, into a temporary file that is verified, synced and then renamed.
//!
//! It assumes nothing of a mirror: every wait has a limit, the size has a bound, and contents with
//! another SHA-256 are thrown away. A kill at any moment leaves no half-written file behind under
//! the final name.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, Write},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{DataError, idx::unpack};

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// Whether a download shows how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on standard error, if that is a terminal.
    Bar,
    /// Nothing.
    Silent,
}

/// A file as its publisher knows it.
pub(crate) struct Pinned {
    /// Its name, at the mirrors and on disk.
    pub(crate) name: &'static str,
    /// How many bytes it has when unpacked.
    pub(crate) bytes: u64,
    /// The SHA-256 of its unpacked contents, in hexadecimal.
    pub(crate) sha256: &'static str,
}

impl Pinned {
    /// Compares (unpacked) contents with the published ones, reading hardly more than their size.
    fn verify(&self, origin: &str, packed: impl Read) -> Result<(), DataError> {
        let found = unpack(packed)
            .and_then(|contents| digest(contents.take(self.bytes + 1)))
            .map_err(DataError::at(origin))?;
        if found == self.sha256 {
            return Ok(());
        }
        let (origin, expected) = (origin.to_owned(), self.sha256.to_owned());
        Err(DataError::Checksum { origin, expected, found })
    }

    /// More than any compressor would make of the contents: gzip adds at most 5 bytes per 16 KiB.
    fn packed_limit(&self) -> u64 {
        self.bytes + self.bytes / 1000 + 1024
    }
}

/// The SHA-256 of a stream, in hexadecimal.
fn digest(mut stream: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => {
                return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect());
            }
            Ok(length) => hasher.update(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Brings `file` into `dir`, unless it is there already, from the first of the `mirrors`
/// (addresses that end in `/`) that has it.
pub(crate) fn fetch(
    file: &Pinned,
    mirrors: &[&str],
    dir: &Path,
    progress: Progress,
) -> Result<(), DataError> {
    let path = dir.join(file.name);
    if let Ok(present) = File::open(&path)
        && file.verify(file.name, BufReader::new(present)).is_ok()
    {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(DataError::at(dir))?;
    let agent = agent();
    let mut attempts = Vec::new();
    for mirror in mirrors {
        let url = format!("{mirror}{}", file.name);
        let mut temporary = NamedTempFile::new_in(dir).map_err(DataError::at(dir))?;
        match receive(&agent, file, &url, temporary.as_file_mut(), progress) {
            Ok(()) => {
                temporary.as_file().sync_all().map_err(DataError::at(&path))?;
                return match temporary.persist(&path) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(DataError::Io { path, source: error.error }),
                };
            }
            Err(error) => attempts.push(error),
        }
    }
    Err(DataError::Download { file: file.name.to_owned(), attempts })
}

fn agent() -> ureq::Agent {
    let seconds = |n| Some(Duration::from_secs(n));
    ureq::Agent::config_builder()
        .timeout_resolve(seconds(5))
        .timeout_connect(seconds(5))
        .timeout_recv_response(seconds(15))
        // A mirror that stalls is left soon, one that is merely slow is given its time.
        .timeout_per_read(seconds(15))
        .timeout_global(seconds(300))
        .max_redirects(3)
        .build()
        .new_agent()
}

/// Downloads `url` into `target` and verifies it.
fn receive(
    agent: &ureq::Agent,
    file: &Pinned,
    url: &str,
    target: &mut File,
    progress: Progress,
) -> Result<(), DataError> {
    let failed = |source| DataError::Fetch { url: url.to_owned(), source };
    let response = agent.get(url).call().map_err(|error| failed(error.into_io()))?;
    let (_, body) = response.into_parts();
    let bar = bar(progress, file, body.content_length());
    let mut body = body.into_with_config().limit(file.packed_limit()).reader();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        target.write_all(&chunk[..length]).map_err(DataError::at(file.name))?;
        bar.inc(length as u64);
    }
    bar.finish_and_clear();
    target.rewind().map_err(DataError::at(file.name))?;
    file.verify(url, BufReader::new(target))
}

fn bar(progress: Progress, file: &Pinned, length: Option<u64>) -> ProgressBar {
    if progress == Progress::Silent {
        return ProgressBar::hidden();
    }
    let template = "{msg:28} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length.unwrap_or(file.bytes))
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(file.name)
}

#[cfg(test)]
mod tests;
