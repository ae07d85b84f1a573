//! Scalar functions of every element that are made of others, and operators. Shapes broadcast. Those that are
//! operations of their own are in `ops/scalars.rs`.

use super::Tensor;
use crate::case;
use crate::catalog::{Case, index, kinked, positive, truth, wide};
use crate::ops::{Scalar, ToHalf};
use shadegrad_device::DType;
use std::ops::{Add, Div, Mul, Neg, Sub};

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
                $trait::$method(self, &self.full_like(other))
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

impl Tensor {
    /// Another element type. Floats become integers towards zero; truth is "not zero"; halves are rounded to
    /// nearest and packed two to a word. Rounding to halves passes gradients on.
    #[track_caller]
    pub fn to(&self, dtype: DType) -> Tensor {
        if self.dtype() == dtype {
            return self.clone();
        }
        let op = match dtype {
            DType::F32 => Scalar::ToF32,
            DType::I32 => Scalar::ToI32,
            DType::U32 | DType::U8 => Scalar::ToU32,
            DType::Bool => Scalar::ToBool,
            DType::F16 => {
                let float = self.to(DType::F32);
                return float.record(ToHalf, &[&float]);
            }
        };
        Tensor::scalar(op, &[self])
    }

    /// Where this is true `yes`, else `no`: PyTorch's `where`.
    #[track_caller]
    pub fn select(&self, yes: &Tensor, no: &Tensor) -> Tensor {
        Tensor::scalar(Scalar::Select, &[self, yes, no])
    }

    /// `self` to a constant power: by squaring for small whole numbers, else as [`Tensor::pow`].
    #[track_caller]
    pub fn powf(&self, power: f64) -> Tensor {
        if power.fract() != 0.0 || power.abs() > 64.0 {
            return self.pow(&self.full_like(power));
        }
        if power < 0.0 {
            return self.powf(-power).reciprocal();
        }
        let mut result: Option<Tensor> = None;
        let (mut square, mut rest) = (self.clone(), power as u32);
        while rest > 0 {
            if rest & 1 == 1 {
                result = Some(result.map_or_else(|| square.clone(), |r| &r * &square));
            }
            rest >>= 1;
            if rest > 0 {
                square = &square * &square;
            }
        }
        result.unwrap_or_else(|| self.ones_like())
    }

    /// `x²`
    #[track_caller]
    pub fn square(&self) -> Tensor {
        self * self
    }

    /// `1 / x`
    #[track_caller]
    pub fn reciprocal(&self) -> Tensor {
        self.ones_like() / self
    }

    /// `1 / sqrt(x)`
    #[track_caller]
    pub fn rsqrt(&self) -> Tensor {
        self.sqrt().reciprocal()
    }

    /// -1, 0 or 1; NaN stays.
    #[track_caller]
    pub fn sign(&self) -> Tensor {
        let zero = self.zeros_like();
        // Truncated, what is left is zero or NaN, and flat.
        let below = self.less(&zero).select(&self.full_like(-1.0), &self.trunc());
        zero.less(self).select(&self.ones_like(), &below)
    }

    /// What truncation takes away: `x - trunc(x)`.
    #[track_caller]
    pub fn frac(&self) -> Tensor {
        self - self.trunc()
    }

    /// Whether it is greater.
    #[track_caller]
    pub fn greater(&self, other: &Tensor) -> Tensor {
        other.less(self)
    }

    /// Whether it is greater or equal.
    #[track_caller]
    pub fn greater_equal(&self, other: &Tensor) -> Tensor {
        other.less_equal(self)
    }

    /// Whether they differ.
    #[track_caller]
    pub fn not_equal(&self, other: &Tensor) -> Tensor {
        self.equal(other).not()
    }

    /// Each element moved into `low..=high`. NaN stays; at a bound the gradient flows.
    #[track_caller]
    pub fn clamp(&self, low: f64, high: f64) -> Tensor {
        self.clamp_min(low).clamp_max(high)
    }

    /// At least `low`. NaN stays; at the bound the gradient flows.
    #[track_caller]
    pub fn clamp_min(&self, low: f64) -> Tensor {
        let low = self.full_like(low);
        self.less(&low).select(&low, self)
    }

    /// At most `high`. NaN stays; at the bound the gradient flows.
    #[track_caller]
    pub fn clamp_max(&self, high: f64) -> Tensor {
        let high = self.full_like(high);
        high.less(self).select(&high, self)
    }

    /// `sqrt(x² + y²)`, scaled so that the squares stay finite; the slope at the origin is zero.
    #[track_caller]
    pub fn hypot(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.abs(), other.abs());
        let largest = a.maximum(&b).detach();
        let some = largest.greater(&largest.zeros_like()).and(&largest.is_inf().not());
        let scale = some.select(&largest, &largest.ones_like());
        let squares = (&a / &scale).square() + (&b / &scale).square();
        squares.sqrt_or_zero() * scale
    }

    /// The square root, with slope zero at zero, where it has none.
    #[track_caller]
    pub(crate) fn sqrt_or_zero(&self) -> Tensor {
        let zero = self.zeros_like();
        let none = self.equal(&zero);
        none.select(&zero, &none.select(&self.ones_like(), self).sqrt())
    }

    /// `self + weight (end - self)`: from here to `end` by a share.
    #[track_caller]
    pub fn lerp(&self, end: &Tensor, weight: &Tensor) -> Tensor {
        self + weight * (end - self)
    }

    /// `self + value a b`
    #[track_caller]
    pub fn addcmul(&self, a: &Tensor, b: &Tensor, value: f64) -> Tensor {
        self + a * b * value
    }

    /// `self + value a / b`
    #[track_caller]
    pub fn addcdiv(&self, a: &Tensor, b: &Tensor, value: f64) -> Tensor {
        self + a / b * value
    }

    /// `value` where the mask is true.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Tensor {
        mask.select(&self.full_like(value), self)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    const STEPS: &str = "it is flat between its steps";
    vec![
        case!("frac", [kinked(&[65], &[-1.0, 0.0, 1.0])], |_, x| x[0].frac()),
        case!("greater", [wide(&[65]), wide(&[65])], |_, x| x[0].greater(&x[1])).flat(STEPS),
        case!("greater_equal", [wide(&[9]), wide(&[9])], |_, x| x[0].greater_equal(&x[1]))
            .flat(STEPS),
        case!("not_equal", [index(&[65], 3), index(&[65], 3)], |_, x| x[0].not_equal(&x[1]))
            .flat(STEPS),
        case!("to", [wide(&[65])], |_, x| {
            vec![
                (&x[0] * 9.0).to(DType::I32),
                (x[0].abs() * 9.0).to(DType::U32),
                x[0].to(DType::Bool),
                x[0].to(DType::F16),
                x[0].to(DType::F16).to(DType::F32) * 3.0,
                (&x[0] * 9.0).to(DType::I32).to(DType::F32),
            ]
        })
        .flat("integers and truth values have none; halves pass it on"),
        case!("select", [truth(&[65]), wide(&[65]), wide(&[1])], |_, x| x[0].select(&x[1], &x[2])),
        case!("powf", [positive(&[65])], |_, x| {
            vec![x[0].powf(2.5), x[0].powf(3.0), x[0].powf(-2.0), x[0].powf(0.0) * &x[0]]
        }),
        case!("square", [wide(&[65])], |_, x| x[0].square()),
        case!("reciprocal", [positive(&[65])], |_, x| x[0].reciprocal()),
        case!("rsqrt", [positive(&[65])], |_, x| x[0].rsqrt()),
        case!("sign", [kinked(&[65], &[0.0])], |_, x| x[0].sign()).flat(STEPS),
        case!("clamp", [kinked(&[65], &[-0.5, 1.0])], |_, x| x[0].clamp(-0.5, 1.0)),
        case!("clamp_min", [kinked(&[65], &[0.25])], |_, x| x[0].clamp_min(0.25)),
        case!("clamp_max", [kinked(&[65], &[0.25])], |_, x| x[0].clamp_max(0.25)),
        case!("hypot", [wide(&[65]), positive(&[65])], |_, x| x[0].hypot(&x[1])),
        case!("lerp", [wide(&[3, 5]), wide(&[5]), wide(&[])], |_, x| x[0].lerp(&x[1], &x[2])),
        case!("addcmul", [wide(&[3, 5]), wide(&[5]), wide(&[])], |_, x| {
            x[0].addcmul(&x[1], &x[2], 0.7)
        }),
        case!("addcdiv", [wide(&[3, 5]), wide(&[5]), positive(&[])], |_, x| {
            x[0].addcdiv(&x[1], &x[2], 0.7)
        }),
        case!("masked_fill", [wide(&[3, 5]), truth(&[5])], |_, x| x[0].masked_fill(&x[1], -7.5)),
    ]
}
