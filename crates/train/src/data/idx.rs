//! The IDX format, in which MNIST and its kin are published: four bytes (0, 0, element type,
//! rank), one big-endian `u32` per dimension, then the elements in row-major order.
//! See <http://yann.lecun.com/exdb/mnist/>.
//!
//! Files may be gzipped, which is told by their first bytes and not by their name. Only unsigned
//! bytes are read. A file must end exactly where its header says, and its contents are not
//! trusted: nothing is allocated on the word of a header, and a gzip bomb is unpacked no further
//! than the header's size.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, ErrorKind, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::DataError;

/// The element type of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// A tensor of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// Its dimensions, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its elements in row-major order, as many as the product of the dimensions.
    pub data: Vec<u8>,
}

/// Reads the file at `path`, gzipped or not.
///
/// # Errors
///
/// When it cannot be read, is not an IDX file of unsigned bytes, or is shorter or longer than its
/// header says.
pub fn read(path: impl AsRef<Path>) -> Result<Idx, DataError> {
    read_if(path.as_ref(), |_| Ok(()))
}

/// As [`read`], but lets `accept` refuse the shape before any element is read.
pub(crate) fn read_if(
    path: &Path,
    accept: impl FnOnce(&[usize]) -> Result<(), DataError>,
) -> Result<Idx, DataError> {
    let file = File::open(path).map_err(DataError::at(path))?;
    let mut bytes = Counted {
        path,
        read: 0,
        inner: unpack(BufReader::new(file)).map_err(DataError::at(path))?,
    };

    let magic: [u8; 4] = bytes.array(4)?;
    let [0, 0, element, rank] = magic else {
        return Err(DataError::Magic { path: path.to_owned(), found: magic });
    };
    if element != UNSIGNED_BYTE {
        return Err(DataError::ElementType { path: path.to_owned(), found: element });
    }
    let header = 4 + 4 * u64::from(rank);
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(u32::from_be_bytes(bytes.array(header)?) as usize);
    }
    let elements = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
    let Some((elements, total)) =
        elements.and_then(|n| Some((n as u64, header.checked_add(n as u64)?)))
    else {
        return Err(DataError::TooLarge { path: path.to_owned(), shape });
    };
    accept(&shape)?;
    Ok(Idx { shape, data: bytes.rest(elements, total)? })
}

/// The contents of a stream that may be gzipped.
pub(crate) fn unpack<'a>(mut packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    packed.by_ref().take(2).read_to_end(&mut start)?;
    let gzipped = start == [0x1f, 0x8b];
    let whole = Cursor::new(start).chain(packed);
    Ok(if gzipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// Reads from a file and knows how far it is, for the sake of errors.
struct Counted<'a> {
    path: &'a Path,
    inner: Box<dyn Read>,
    read: u64,
}

impl Counted<'_> {
    /// The next `N` bytes of a header that is `expected` bytes long.
    fn array<const N: usize>(&mut self, expected: u64) -> Result<[u8; N], DataError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.next(N as u64, expected)?);
        Ok(array)
    }

    /// The last `length` bytes of a file of `expected`.
    fn rest(&mut self, length: u64, expected: u64) -> Result<Vec<u8>, DataError> {
        let data = self.next(length, expected)?;
        // Asking for one more byte also makes the decoder compare gzip's own checksum.
        match self.inner.read(&mut [0]) {
            Ok(0) => Ok(data),
            Ok(_) => Err(DataError::Trailing { path: self.path.to_owned(), expected }),
            Err(error) => Err(self.failed(error, expected)),
        }
    }

    fn next(&mut self, length: u64, expected: u64) -> Result<Vec<u8>, DataError> {
        // The vector grows with what is really there, not with what the header promised.
        let mut data = Vec::new();
        let result = self.inner.by_ref().take(length).read_to_end(&mut data);
        self.read += data.len() as u64;
        match result {
            Ok(_) if data.len() as u64 == length => Ok(data),
            Ok(_) => Err(self.failed(ErrorKind::UnexpectedEof.into(), expected)),
            Err(error) => Err(self.failed(error, expected)),
        }
    }

    fn failed(&self, source: io::Error, expected: u64) -> DataError {
        let path = self.path.to_owned();
        if source.kind() == ErrorKind::UnexpectedEof {
            DataError::Truncated { path, expected, found: self.read }
        } else {
            DataError::Io { path, source }
        }
    }
}

#[cfg(test)]
mod tests;
