//! How precisely products are computed, and the hardware that trades precision for speed.

use std::fmt;
use std::str::FromStr;

/// How precisely matrix products and convolutions of floats are computed, with the names of PyTorch's
/// `torch.set_float32_matmul_precision`. Less than [`MatmulPrecision::Highest`] is for adapters with cooperative matrices
/// (tensor cores); sums are floats in any case, and so is all that isn't a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatmulPrecision {
    /// Operands are floats.
    #[default]
    Highest,
    /// Each operand is the sum of two halves, and a product is three: about the precision of floats, in the range of halves.
    /// Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores while surpassing the FP32 theoretical peak
    /// performance", arXiv 2203.03341.
    High,
    /// Each operand is rounded to a half.
    Medium,
}

impl MatmulPrecision {
    const ALL: [MatmulPrecision; 3] =
        [MatmulPrecision::Highest, MatmulPrecision::High, MatmulPrecision::Medium];

    /// Halves that an operand is made of, if it is made of halves.
    pub(crate) fn halves(self) -> Option<usize> {
        match self {
            MatmulPrecision::Highest => None,
            MatmulPrecision::High => Some(2),
            MatmulPrecision::Medium => Some(1),
        }
    }

    /// How far the product of two floats may be off by how they are rounded, as a part of it: docs/numerics.md says why.
    pub fn rounding(self) -> f32 {
        match self {
            MatmulPrecision::Highest => 0.0,
            MatmulPrecision::High => 3.0 / 4_194_304.0,
            MatmulPrecision::Medium => 1.0 / 1024.0 + 1.0 / 4_194_304.0,
        }
    }
}

impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            MatmulPrecision::Highest => "highest",
            MatmulPrecision::High => "high",
            MatmulPrecision::Medium => "medium",
        })
    }
}

impl FromStr for MatmulPrecision {
    type Err = String;

    fn from_str(name: &str) -> Result<MatmulPrecision, String> {
        let found = MatmulPrecision::ALL.into_iter().find(|p| p.to_string() == name);
        found.ok_or_else(|| {
            let names = MatmulPrecision::ALL.map(|p| p.to_string()).join(", ");
            format!("no precision of products `{name}`: there are {names}")
        })
    }
}

/// Cooperative matrices: square ones of halves, which the invocations of a subgroup multiply together and sum in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Rows and columns.
    pub side: usize,
    /// Invocations that share one.
    pub lanes: usize,
}

impl fmt::Display for Matrices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cooperative matrices of {}x{}", self.side, self.side)
    }
}
