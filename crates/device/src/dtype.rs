//! Element types and literals. Every type but two takes four bytes in memory. `U8` exists for data sets
//! that are bytes, is packed four to a word, and becomes `U32` when loaded; `F16` is packed two to a
//! word, can be loaded on every device, becomes `F32`, and is stored one by one where `Limits::f16` says so.

use std::fmt;

/// The type of an element in memory or of a value in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 32-bit unsigned integer; arithmetic wraps.
    U32,
    /// 32-bit signed integer; arithmetic wraps.
    I32,
    /// Truth value, stored as a 32-bit word holding 0 or 1.
    Bool,
    /// Unsigned byte in memory, `U32` once loaded. Read-only.
    U8,
    /// 16-bit IEEE float in memory, `F32` once loaded.
    F16,
}

impl DType {
    /// Bytes that one element takes in memory.
    pub fn bytes(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::F16 => 2,
            _ => 4,
        }
    }

    /// The type that a loaded element has in an expression.
    pub fn loaded(self) -> DType {
        match self {
            DType::U8 => DType::U32,
            DType::F16 => DType::F32,
            other => other,
        }
    }

    /// The type that a computed element has in memory: bytes are never stored.
    pub fn stored(self) -> DType {
        match self {
            DType::U8 => DType::U32,
            other => other,
        }
    }

    /// Appends an element to memory.
    pub fn encode(self, value: f64, memory: &mut Vec<u8>) {
        match self {
            DType::U8 => memory.push(value as u8),
            DType::F16 => memory.extend(half::f16::from_f64(value).to_le_bytes()),
            other => memory.extend(Literal::of(other, value).bits.to_le_bytes()),
        }
    }

    /// An element from its bytes in memory, of which there are [`DType::bytes`].
    pub fn decode(self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (DType::U8, [byte, ..]) => f64::from(*byte),
            (DType::F16, [a, b, ..]) => half::f16::from_le_bytes([*a, *b]).to_f64(),
            (_, [a, b, c, d, ..]) => {
                Literal { dtype: self, bits: u32::from_le_bytes([*a, *b, *c, *d]) }.value()
            }
            _ => f64::NAN,
        }
    }

    /// The WGSL spelling of the loaded type.
    pub fn wgsl(self) -> &'static str {
        match self {
            DType::F32 | DType::F16 => "f32",
            DType::U32 | DType::U8 => "u32",
            DType::I32 => "i32",
            DType::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::F16 => "f16",
        })
    }
}

/// A constant of one element, kept as its bits so that it can be compared and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    /// The type of the constant.
    pub dtype: DType,
    /// Its bits: those of the float, of the integer, or 0 / 1.
    pub bits: u32,
}

impl Literal {
    /// A float constant.
    pub fn f32(value: f32) -> Self {
        Literal { dtype: DType::F32, bits: value.to_bits() }
    }

    /// An unsigned constant.
    pub fn u32(value: u32) -> Self {
        Literal { dtype: DType::U32, bits: value }
    }

    /// A constant of the given type from a number; integers saturate, truth is "not zero".
    pub fn of(dtype: DType, value: f64) -> Self {
        let bits = match dtype {
            DType::F32 => (value as f32).to_bits(),
            DType::F16 => half::f16::from_f64(value).to_f32().to_bits(),
            DType::U32 | DType::U8 => value as u32,
            DType::I32 => value as i32 as u32,
            DType::Bool => u32::from(value != 0.0),
        };
        Literal { dtype: dtype.loaded(), bits }
    }

    /// The constant as a number.
    pub fn value(self) -> f64 {
        match self.dtype {
            DType::F32 => f64::from(f32::from_bits(self.bits)),
            DType::I32 => f64::from(self.bits as i32),
            _ => f64::from(self.bits),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            DType::F32 => write!(f, "{:?}", f32::from_bits(self.bits)),
            DType::I32 => write!(f, "{}i", self.bits as i32),
            DType::Bool => write!(f, "{}", self.bits != 0),
            _ => write!(f, "{}u", self.bits),
        }
    }
}
