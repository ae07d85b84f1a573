//! Scalar operations as methods and operators.

use super::Tensor;
use crate::ops::Scalar;
use std::ops::{Add, Div, Mul, Neg, Sub};

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:ident),* $(,)?) => {
        impl Tensor {
            $($(#[$doc])* #[track_caller]
            pub fn $name(&self) -> Tensor {
                Tensor::scalar(Scalar::$op, &[self])
            })*
        }
    };
}

unary! {
    /// Absolute value.
    abs Abs,
    /// `e` to the power of each element.
    exp Exp,
    /// Natural logarithm.
    log Log,
    /// Square root.
    sqrt Sqrt,
    /// Sine.
    sin Sin,
    /// Cosine.
    cos Cos,
    /// Hyperbolic tangent.
    tanh Tanh,
    /// `1 / (1 + exp(-x))`.
    sigmoid Sigmoid,
    /// `max(x, 0)`; the slope at 0 is 0.
    relu Relu,
    /// The largest whole number that isn't larger.
    floor Floor,
    /// The smallest whole number that isn't smaller.
    ceil Ceil,
    /// The nearest whole number, halves to even.
    round Round,
    /// The whole number towards zero.
    trunc Trunc,
    /// Two to the power of each element.
    exp2 Exp2,
    /// Logarithm to base two.
    log2 Log2,
    /// `exp(x) - 1`, accurate near zero.
    expm1 Expm1,
    /// `log(1 + x)`, accurate near zero.
    log1p Log1p,
    /// The error function.
    erf Erf,
    /// Whether it is no number.
    is_nan IsNan,
    /// Not true.
    not Not,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $op:ident),* $(,)?) => {
        impl Tensor {
            $($(#[$doc])* #[track_caller]
            pub fn $name(&self, other: &Tensor) -> Tensor {
                Tensor::scalar(Scalar::$op, &[self, other])
            })*
        }
    };
}

binary! {
    /// The larger of two; at a tie the gradient goes to the first.
    maximum Maximum,
    /// The smaller of two; at a tie the gradient goes to the first.
    minimum Minimum,
    /// What floored division leaves.
    remainder Remainder,
    /// Whether it is less.
    less Less,
    /// Whether it is less or equal.
    less_equal LessEqual,
    /// Whether both are equal.
    equal Equal,
    /// Both.
    and And,
    /// One or both.
    or Or,
}

macro_rules! operator {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl $trait<&Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                Tensor::scalar(Scalar::$op, &[self, other])
            }
        }
        impl $trait<Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                $trait::$method(self, &other)
            }
        }
        impl $trait<&Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                $trait::$method(&self, other)
            }
        }
        impl $trait<Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                $trait::$method(&self, &other)
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                $trait::$method(self, &self.like(other))
            }
        }
        impl $trait<f64> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                $trait::$method(&self, other)
            }
        }
    )*};
}

operator!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div);

impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::scalar(Scalar::Neg, &[self])
    }
}

impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        -&self
    }
}
