//! Arrays of f64: what references compute with. Slow and obvious on purpose.

use crate::Type;
use shadegrad_device::{DType, Literal, contiguous_strides, numel};

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
        let data = match ty.dtype {
            DType::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            dtype => bytes
                .chunks_exact(4)
                .map(|word| {
                    let bits = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                    Literal { dtype, bits }.value()
                })
                .collect(),
        };
        Array { ty: ty.clone(), data }
    }

    /// Elements in memory layout.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.ty.dtype {
            DType::U8 => self.data.iter().map(|&v| v as u8).collect(),
            dtype => {
                self.data.iter().flat_map(|&v| Literal::of(dtype, v).bits.to_le_bytes()).collect()
            }
        }
    }
}
