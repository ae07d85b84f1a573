//! Events as bytes: messages in the wire format of Protocol Buffers
//! (<https://protobuf.dev/programming-guides/encoding/>), framed as records with checksums.

/// A message in the making. Fields are appended; messages within are fields of bytes.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// How a field is stored.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const SIZED: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    pub(super) fn uint(mut self, field: u64, value: u64) -> Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A list of numbers in one field ("packed").
    pub(super) fn doubles(self, field: u64, values: &[f64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, bytes)
    }

    pub(super) fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.key(field, SIZED);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(super) fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, message.0)
    }

    /// The message as a record of a TFRecord file: its length, the checksum of these eight bytes, the message, and its
    /// checksum (<https://www.tensorflow.org/tutorials/load_data/tfrecord>).
    pub(super) fn record(&self) -> Vec<u8> {
        let len = (self.0.len() as u64).to_le_bytes();
        let parts = [&len[..], &masked_crc(&len), &self.0, &masked_crc(&self.0)];
        parts.concat()
    }

    fn key(&mut self, field: u64, stored: u64) {
        self.varint(field << 3 | stored);
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// CRC-32C, masked as records have it: checksums of data that hold checksums would often be alike.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_stored_as_the_format_says() {
        // The example of the format's documentation: field 1 is 150.
        assert_eq!(Message::default().uint(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, "testing").0, b"\x12\x07testing");
        let inner = Message::default().uint(1, 150);
        assert_eq!(Message::default().message(3, inner).0, [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().uint(16, u64::MAX).0.len(), 2 + 10);
        assert_eq!(Message::default().float(2, 1.0).0, [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().double(1, -2.0).0, [9, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
    }

    #[test]
    fn checksums_are_those_of_castagnoli() {
        // The check value of CRC-32C, and 32 bytes of zeros (RFC 3720, B.4).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        // An empty record as TensorFlow writes it.
        let empty = [&[0; 8][..], b"\x29\x03\x98\x07", b"\xd8\xea\x82\xa2"].concat();
        assert_eq!(Message::default().record(), empty);
    }
}
