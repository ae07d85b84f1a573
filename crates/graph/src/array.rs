//! Arrays of f64: what references compute with. Slow and obvious on purpose.

use crate::Type;
use shadegrad_device::{DType, contiguous_strides, numel};

/// A row-major array. Integers and truth values are exact in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Shape and element type.
    pub ty: Type,
    /// Elements, row-major.
    pub data: Vec<f64>,
}

impl Array {
    /// An array from its elements.
    pub fn new(shape: &[usize], dtype: DType, data: Vec<f64>) -> Array {
        debug_assert_eq!(numel(shape), data.len(), "an array has as many elements as its shape");
        Array { ty: Type::new(shape, dtype), data }
    }

    /// An array from a function of coordinates.
    pub fn from_fn(ty: &Type, mut f: impl FnMut(&[usize]) -> f64) -> Array {
        let strides = contiguous_strides(&ty.shape);
        let mut at = vec![0; ty.shape.len()];
        let data = (0..ty.numel())
            .map(|point| {
                for (axis, at) in at.iter_mut().enumerate() {
                    *at = point / strides[axis] as usize % ty.shape[axis];
                }
                f(&at)
            })
            .collect();
        Array { ty: ty.clone(), data }
    }

    /// The element at coordinates.
    pub fn at(&self, coordinates: &[usize]) -> f64 {
        let mut index = 0;
        for (&c, &n) in coordinates.iter().zip(&self.ty.shape) {
            debug_assert!(c < n, "coordinates lie inside the shape");
            index = index * n + c;
        }
        self.data[index]
    }

    /// Elements read from memory layout.
    pub fn from_bytes(ty: &Type, bytes: &[u8]) -> Array {
        let data = bytes.chunks_exact(ty.dtype.bytes()).map(|b| ty.dtype.decode(b)).collect();
        Array { ty: ty.clone(), data }
    }

    /// Elements in memory layout.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.ty.bytes());
        self.data.iter().for_each(|&value| self.ty.dtype.encode(value, &mut bytes));
        bytes
    }
}
