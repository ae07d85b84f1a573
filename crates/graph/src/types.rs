//! Types of values: a static shape and an element type; and the broadcasting rule.

use shadegrad_device::{DType, numel};
use std::fmt;

/// Shape and element type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
}

impl Type {
    /// A type from its parts.
    pub fn new(shape: &[usize], dtype: DType) -> Type {
        Type { shape: shape.to_vec(), dtype }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        numel(&self.shape)
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.numel() * self.dtype.bytes()
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// The shape that both shapes broadcast to: axes are matched from the last, and an extent of one
/// is repeated (NumPy's rule).
///
/// # Errors
/// If two extents differ and neither is one.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(at) => shape[at],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (m, n) if m == n => Ok(m),
            (1, n) | (n, 1) => Ok(n),
            (m, n) => Err(format!("{a:?} and {b:?} don't broadcast: {m} against {n}")),
        })
        .collect()
}
