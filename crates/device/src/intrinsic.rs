//! The few dozen scalar functions that expressions are made of: for each its types, its WGSL
//! spelling, its Rust loop and its f64 reference. This file is all that a new intrinsic touches.

use crate::{DType, special};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// A scalar function of one to three arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it; the table below gives the formulas")]
pub enum Intrinsic {
    Add,
    Sub,
    Mul,
    Div,
    /// What floored division leaves: it has the sign of the divisor.
    Rem,
    /// What truncated division leaves: it has the sign of the dividend.
    Fmod,
    /// `x` to the power `y`.
    Pow,
    /// The angle of the point `(y, x)`; the ordinate comes first.
    Atan2,
    Max,
    Min,
    Neg,
    Abs,
    Exp,
    Log,
    Sqrt,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Floor,
    Ceil,
    /// To the nearest whole number, halves to even.
    Round,
    Trunc,
    Exp2,
    Log2,
    /// `exp(x) - 1`, accurate near zero.
    Expm1,
    /// `log(1 + x)`, accurate near zero.
    Log1p,
    /// The error function.
    Erf,
    /// What of the standard normal distribution lies below.
    NormalCdf,
    /// The density of the standard normal distribution.
    NormalDensity,
    IsNan,
    IsInf,
    /// The nearest number that half precision has.
    Half,
    /// Two halves in a word, the first in the lower bits.
    PackHalves,
    Less,
    LessEqual,
    Equal,
    And,
    Or,
    Xor,
    Not,
    ShiftLeft,
    ShiftRight,
    /// `select(condition, if_true, if_false)`
    Select,
    ToF32,
    ToI32,
    ToU32,
    ToBool,
    /// `random(key, counter)`: 32 uniform bits, see [`random`].
    Random,
    /// `shuffle(index, length, key)`: a permutation of `0..length`, see [`shuffle`].
    Shuffle,
    /// A function that a user of the library wrote, of floats.
    Custom(&'static Custom),
}

use Intrinsic::*;

/// A scalar function of one to three floats, in the three languages that devices and tests speak.
pub struct Custom {
    /// Its name: letters, digits and underscores.
    pub name: &'static str,
    /// How many arguments it takes.
    pub arity: usize,
    /// The body of a WGSL function of `x`, `y`, `z` (as many as the arity) that returns an `f32`.
    pub wgsl: &'static str,
    /// The same for the CPU backend.
    pub evaluate: fn(&[f32]) -> f32,
    /// The same in f64: what both are tested on.
    pub reference: fn(&[f64]) -> f64,
}

impl Custom {
    const ARGUMENTS: [&'static str; 3] = ["x", "y", "z"];

    /// The WGSL function.
    pub fn declaration(&self) -> String {
        let arguments: Vec<String> =
            Custom::ARGUMENTS[..self.arity].iter().map(|a| format!("{a}: f32")).collect();
        let (name, arguments) = (self.name, arguments.join(", "));
        format!("fn custom_{name}({arguments}) -> f32 {{\n{}\n}}\n", self.wgsl)
    }

    /// An error unless shaders can be written with it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.name.is_empty() || !self.name.chars().all(letter) {
            return Err(format!("`{}` is no name of letters, digits and underscores", self.name));
        }
        match self.arity {
            1..=3 => Ok(()),
            other => Err(format!("`{}` takes {other} arguments, not one to three", self.name)),
        }
    }
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        (self.name, self.arity, self.wgsl) == (other.name, other.arity, other.wgsl)
    }
}

impl Eq for Custom {}

impl std::hash::Hash for Custom {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// [`float1`] of a large function by name: passed as a value it would not be inlined, nor use the caller's vectors.
macro_rules! each {
    ($a:ident, $out:ident, $f:path) => {
        for (o, &x) in $out.iter_mut().zip($a) {
            *o = $f(f32::from_bits(x)).to_bits();
        }
    };
}

impl Intrinsic {
    /// How many arguments it takes.
    pub fn arity(self) -> usize {
        match self {
            Neg | Abs | Exp | Log | Sqrt | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh
            | Tanh | Floor | Ceil | Round | Trunc | Exp2 | Log2 | Expm1 | Log1p | Erf
            | NormalCdf | NormalDensity | IsNan | IsInf | Half | Not | ToF32 | ToI32 | ToU32
            | ToBool => 1,
            Select | Shuffle => 3,
            Custom(custom) => custom.arity,
            _ => 2,
        }
    }

    /// Whether it takes a host longer than to load a number from a cache.
    pub(crate) fn is_slow(self) -> bool {
        !matches!(
            self,
            Neg | Abs
                | Add
                | Sub
                | Mul
                | Max
                | Min
                | Less
                | LessEqual
                | Equal
                | And
                | Or
                | Xor
                | Not
                | Select
                | IsNan
                | IsInf
                | ToF32
                | ToI32
                | ToU32
                | ToBool
                | ShiftLeft
                | ShiftRight
        )
    }

    /// The result's type for arguments of these types, or `None` where it isn't defined.
    pub fn result(self, args: &[DType]) -> Option<DType> {
        use DType::{Bool, F32, I32, U32};
        let numeric = |t: DType| matches!(t, F32 | U32 | I32);
        let same = args.windows(2).all(|w| w[0] == w[1]);
        let first = *args.first()?;
        if args.len() != self.arity() {
            return None;
        }
        match self {
            Add | Sub | Mul | Div | Rem | Fmod | Max | Min => {
                (same && numeric(first)).then_some(first)
            }
            Neg | Abs => matches!(first, F32 | I32).then_some(first),
            Exp | Log | Sqrt | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Tanh
            | Floor | Ceil | Round | Trunc | Exp2 | Log2 | Expm1 | Log1p | Erf | NormalCdf
            | NormalDensity | Half | Pow | Atan2 | Custom(_) => {
                (same && first == F32).then_some(F32)
            }
            PackHalves => (same && first == F32).then_some(U32),
            IsNan | IsInf => (first == F32).then_some(Bool),
            Less | LessEqual => (same && numeric(first)).then_some(Bool),
            Equal => same.then_some(Bool),
            And | Or | Xor => (same && matches!(first, Bool | U32)).then_some(first),
            Not => (first == Bool).then_some(Bool),
            ShiftLeft | ShiftRight | Random | Shuffle => (same && first == U32).then_some(U32),
            Select => (first == Bool && args[1] == args[2]).then_some(args[1]),
            ToF32 => Some(F32),
            ToI32 => Some(I32),
            ToU32 => Some(U32),
            ToBool => Some(Bool),
        }
    }

    /// The WGSL expression for arguments `a` of type `t` (the first argument's).
    pub fn wgsl(self, t: DType, a: &[String]) -> String {
        let infix = |op: &str| format!("({} {op} {})", a[0], a[1]);
        let call = |name: &str| format!("{name}({})", a.join(", "));
        match self {
            Add => infix("+"),
            Sub => infix("-"),
            Mul => infix("*"),
            Div if t == DType::F32 => infix("/"),
            // Integer division by zero is zero here, on every backend.
            Div => guarded(t, &a[1], &format!("{} / {}", a[0], divisor(t, &a[1]))),
            Rem if t == DType::F32 => call("floored_rest"),
            Fmod if t == DType::F32 => call("truncated_rest"),
            Fmod => guarded(t, &a[1], &format!("{} % {}", a[0], divisor(t, &a[1]))),
            Pow => call("power"),
            Atan2 => call("angle"),
            Rem if t == DType::I32 => {
                let rest = format!("({} % {})", a[0], divisor(t, &a[1]));
                let other = format!("{rest} != 0i && ({rest} < 0i) != ({} < 0i)", a[1]);
                guarded(t, &a[1], &format!("select({rest}, {rest} + {}, {other})", a[1]))
            }
            Rem => guarded(t, &a[1], &format!("{} % {}", a[0], divisor(t, &a[1]))),
            Max if t == DType::F32 => call("max_nan"),
            Min if t == DType::F32 => call("min_nan"),
            Max => call("max"),
            Min => call("min"),
            Neg => format!("(-{})", a[0]),
            Abs => call("abs"),
            Exp => call("exponential"),
            Log => call("logarithm"),
            Sqrt => call("sqrt"),
            Sin => call("sine"),
            Cos => call("cosine"),
            Tan => call("tangent"),
            Asin => call("arcsine"),
            Acos => call("arccosine"),
            Atan => call("arctangent"),
            Sinh => call("hyperbolic_sine"),
            Cosh => call("hyperbolic_cosine"),
            Tanh => call("hyperbolic_tangent"),
            Floor => call("floor"),
            Ceil => call("ceil"),
            Round => call("round"),
            Trunc => call("trunc"),
            Exp2 => call("exponential2"),
            Log2 => call("logarithm2"),
            Expm1 => call("expm1"),
            Log1p => call("log1p"),
            Erf => call("erf"),
            NormalCdf => call("normal_cdf"),
            NormalDensity => call("normal_density"),
            IsNan => call("is_nan"),
            IsInf => call("is_inf"),
            Half => call("half"),
            PackHalves => format!("(half_bits({}) | (half_bits({}) << 16u))", a[0], a[1]),
            Less => infix("<"),
            LessEqual => infix("<="),
            Equal => infix("=="),
            And => infix("&"),
            Or => infix("|"),
            Xor if t == DType::Bool => infix("!="),
            Xor => infix("^"),
            Not => format!("(!{})", a[0]),
            ShiftLeft => format!("({} << ({} & 31u))", a[0], a[1]),
            ShiftRight => format!("({} >> ({} & 31u))", a[0], a[1]),
            Select => format!("select({}, {}, {})", a[2], a[1], a[0]),
            ToF32 => call("f32"),
            ToI32 if t == DType::F32 => call("to_i32"),
            ToU32 if t == DType::F32 => call("to_u32"),
            ToI32 => call("i32"),
            ToU32 => call("u32"),
            ToBool => call("bool"),
            Random => call("random_bits"),
            Shuffle => call("shuffle"),
            Custom(custom) => call(&format!("custom_{}", custom.name)),
        }
    }

    /// `out[i] = f(a[i], b[i], c[i])` on the bits of values of type `t` (the first argument's).
    ///
    /// Inlined so that the caller's vector width applies to these loops; `FUSED` where it has products with sums.
    #[inline(always)]
    pub fn evaluate<const FUSED: bool>(
        self,
        t: DType,
        a: &[u32],
        b: &[u32],
        c: &[u32],
        out: &mut [u32],
    ) {
        use DType::{F32, I32};
        match (self, t) {
            (Add, F32) => float2(a, b, out, |x, y| x + y),
            (Sub, F32) => float2(a, b, out, |x, y| x - y),
            (Mul, F32) => float2(a, b, out, |x, y| x * y),
            (Div, F32) => float2(a, b, out, |x, y| x / y),
            (Rem, F32) => float2(a, b, out, |x, y| {
                let rest = x % y;
                if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
            }),
            (Fmod, F32) => float2(a, b, out, |x, y| x % y),
            (Pow, _) => float2(a, b, out, f32::powf),
            (Atan2, _) => float2(a, b, out, f32::atan2),
            (Max, F32) => float2(a, b, out, larger),
            (Min, F32) => float2(a, b, out, smaller),
            (Neg, F32) => float1(a, out, |x| -x),
            (Abs, F32) => float1(a, out, f32::abs),
            (Exp, _) => each!(a, out, special::exp::<FUSED>),
            (Log, _) => each!(a, out, special::ln::<FUSED>),
            (Sqrt, _) => float1(a, out, f32::sqrt),
            (Sin, _) => float1(a, out, f32::sin),
            (Cos, _) => float1(a, out, f32::cos),
            (Tan, _) => float1(a, out, f32::tan),
            (Asin, _) => float1(a, out, f32::asin),
            (Acos, _) => float1(a, out, f32::acos),
            (Atan, _) => float1(a, out, f32::atan),
            (Sinh, _) => float1(a, out, f32::sinh),
            (Cosh, _) => float1(a, out, f32::cosh),
            (Tanh, _) => each!(a, out, special::tanh::<FUSED>),
            (Floor, _) => float1(a, out, f32::floor),
            (Ceil, _) => float1(a, out, f32::ceil),
            (Round, _) => float1(a, out, f32::round_ties_even),
            (Trunc, _) => float1(a, out, f32::trunc),
            (Exp2, _) => float1(a, out, f32::exp2),
            (Log2, _) => float1(a, out, f32::log2),
            (Expm1, _) => float1(a, out, f32::exp_m1),
            (Log1p, _) => float1(a, out, f32::ln_1p),
            (Erf, _) => each!(a, out, special::erf::<FUSED>),
            (NormalCdf, _) => each!(a, out, special::normal_cdf::<FUSED>),
            (NormalDensity, _) => each!(a, out, special::normal_density::<FUSED>),
            (IsNan, _) => bits1(a, out, |x| u32::from(f32::from_bits(x).is_nan())),
            (IsInf, _) => bits1(a, out, |x| u32::from(f32::from_bits(x).is_infinite())),
            (Half, _) => float1(a, out, |x| half::f16::from_f32(x).to_f32()),
            (PackHalves, _) => float2_bits(a, b, out, |x, y| {
                let bits = |v: f32| u32::from(half::f16::from_f32(v).to_bits());
                bits(x) | bits(y) << 16
            }),
            (Less, F32) => compare(a, b, out, |x, y| x < y),
            (LessEqual, F32) => compare(a, b, out, |x, y| x <= y),
            (Equal, F32) => compare(a, b, out, |x, y| x == y),
            (Add, _) => bits2(a, b, out, u32::wrapping_add),
            (Sub, _) => bits2(a, b, out, u32::wrapping_sub),
            (Mul, _) => bits2(a, b, out, u32::wrapping_mul),
            (Div, I32) => signed2(a, b, out, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) }),
            (Div, _) => bits2(a, b, out, |x, y| x.checked_div(y).unwrap_or(0)),
            (Rem, I32) => signed2(a, b, out, |x, y| match y {
                0 => 0,
                _ => match x.wrapping_rem(y) {
                    rest if rest != 0 && (rest < 0) != (y < 0) => rest + y,
                    rest => rest,
                },
            }),
            (Fmod, I32) => signed2(a, b, out, |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) }),
            (Rem | Fmod, _) => bits2(a, b, out, |x, y| x.checked_rem(y).unwrap_or(0)),
            (Max, I32) => signed2(a, b, out, i32::max),
            (Max, _) => bits2(a, b, out, u32::max),
            (Min, I32) => signed2(a, b, out, i32::min),
            (Min, _) => bits2(a, b, out, u32::min),
            (Neg, _) => bits1(a, out, u32::wrapping_neg),
            (Abs, _) => bits1(a, out, |x| (x as i32).wrapping_abs() as u32),
            (Less, I32) => bits2(a, b, out, |x, y| u32::from((x as i32) < (y as i32))),
            (Less, _) => bits2(a, b, out, |x, y| u32::from(x < y)),
            (LessEqual, I32) => bits2(a, b, out, |x, y| u32::from((x as i32) <= (y as i32))),
            (LessEqual, _) => bits2(a, b, out, |x, y| u32::from(x <= y)),
            (Equal, _) => bits2(a, b, out, |x, y| u32::from(x == y)),
            (And, _) => bits2(a, b, out, |x, y| x & y),
            (Or, _) => bits2(a, b, out, |x, y| x | y),
            (Xor, _) => bits2(a, b, out, |x, y| x ^ y),
            (Not, _) => bits1(a, out, |x| x ^ 1),
            (ShiftLeft, _) => bits2(a, b, out, u32::wrapping_shl),
            (ShiftRight, _) => bits2(a, b, out, u32::wrapping_shr),
            (Select, _) => {
                // Both are read, so that there is no branch for each element.
                for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
                    let chosen = u32::from(a == 0).wrapping_sub(1);
                    *o = b & chosen | c & !chosen;
                }
            }
            (ToF32, F32) | (ToI32, I32) => out.copy_from_slice(a),
            (ToF32, I32) => bits1(a, out, |x| (x as i32 as f32).to_bits()),
            (ToF32, _) => bits1(a, out, |x| (x as f32).to_bits()),
            (ToI32, F32) => bits1(a, out, |x| f32::from_bits(x) as i32 as u32),
            (ToU32, F32) => bits1(a, out, |x| f32::from_bits(x) as u32),
            (ToI32 | ToU32, _) => out.copy_from_slice(a),
            (ToBool, F32) => bits1(a, out, |x| u32::from(f32::from_bits(x) != 0.0)),
            (ToBool, _) => bits1(a, out, |x| u32::from(x != 0)),
            (Random, _) => bits2(a, b, out, random),
            (Shuffle, _) => {
                for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
                    *o = shuffle(a, b, c);
                }
            }
            (Custom(custom), _) => {
                for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
                    let x = [a, b, c].map(f32::from_bits);
                    *o = (custom.evaluate)(&x[..custom.arity]).to_bits();
                }
            }
        }
    }

    /// The function at one point, in f64 for floats. The slow truth that kernels are tested on.
    pub fn reference(self, t: DType, args: &[f64]) -> f64 {
        if let Custom(custom) = self {
            return (custom.reference)(args);
        }
        if t == DType::F32 && self.arity() <= 2 {
            let (x, y) = (args[0], args.get(1).copied().unwrap_or(0.0));
            match self {
                Add => return x + y,
                Sub => return x - y,
                Mul => return x * y,
                Div => return x / y,
                Rem => {
                    let rest = x % y;
                    let other = rest != 0.0 && (rest < 0.0) != (y < 0.0);
                    return if other { rest + y } else { rest };
                }
                Fmod => return x % y,
                Pow => return x.powf(y),
                Atan2 => return x.atan2(y),
                Max => return if x > y || x.is_nan() { x } else { y },
                Min => return if x < y || x.is_nan() { x } else { y },
                Neg => return -x,
                Abs => return x.abs(),
                Exp => return x.exp(),
                Log => return x.ln(),
                Sqrt => return x.sqrt(),
                Sin => return x.sin(),
                Cos => return x.cos(),
                Tan => return x.tan(),
                Asin => return x.asin(),
                Acos => return x.acos(),
                Atan => return x.atan(),
                Sinh => return x.sinh(),
                Cosh => return x.cosh(),
                Tanh => return x.tanh(),
                Floor => return x.floor(),
                Ceil => return x.ceil(),
                Round => return x.round_ties_even(),
                Trunc => return x.trunc(),
                Exp2 => return x.exp2(),
                Log2 => return x.log2(),
                Expm1 => return x.exp_m1(),
                Log1p => return x.ln_1p(),
                Erf => return libm::erf(x),
                NormalCdf => return 0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
                NormalDensity => {
                    return (-0.5 * x * x).exp() * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI / 2.0;
                }
                IsNan => return f64::from(u8::from(x.is_nan())),
                IsInf => return f64::from(u8::from(x.is_infinite())),
                Half => return half::f16::from_f64(x).to_f64(),
                Less => return f64::from(u8::from(x < y)),
                LessEqual => return f64::from(u8::from(x <= y)),
                Equal => return f64::from(u8::from(x == y)),
                ToF32 => return x,
                ToI32 => return f64::from(x as i32),
                ToU32 => return f64::from(x as u32),
                ToBool => return f64::from(u8::from(x != 0.0)),
                _ => {}
            }
        }
        if self == Select {
            return if args[0] != 0.0 { args[1] } else { args[2] };
        }
        // Integers and truth values are exact in 32 bits: the loop above is their definition.
        let bits = |i: usize| args.get(i).map_or(0, |&v| crate::Literal::of(t, v).bits);
        let mut out = [0];
        self.evaluate::<false>(t, &[bits(0)], &[bits(1)], &[bits(2)], &mut out);
        let dtype = self.result(&vec![t; self.arity()]).unwrap_or(t);
        crate::Literal { dtype, bits: out[0] }.value()
    }
}

/// The divisor, or one where it is zero.
fn divisor(t: DType, by: &str) -> String {
    let suffix = if t == DType::I32 { "i" } else { "u" };
    format!("select({by}, 1{suffix}, {by} == 0{suffix})")
}

/// The result, or zero where the divisor is zero.
fn guarded(t: DType, by: &str, result: &str) -> String {
    let suffix = if t == DType::I32 { "i" } else { "u" };
    format!("select({result}, 0{suffix}, {by} == 0{suffix})")
}

#[inline(always)]
fn float1(a: &[u32], out: &mut [u32], f: impl Fn(f32) -> f32) {
    for (o, &x) in out.iter_mut().zip(a) {
        *o = f(f32::from_bits(x)).to_bits();
    }
}

/// The larger of two numbers, or the one that is none.
#[inline(always)]
pub(crate) fn larger(x: f32, y: f32) -> f32 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller of two numbers, or the one that is none.
#[inline(always)]
pub(crate) fn smaller(x: f32, y: f32) -> f32 {
    if x < y || x.is_nan() { x } else { y }
}

#[inline(always)]
fn float2(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(f32, f32) -> f32) {
    for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
        *o = f(f32::from_bits(x), f32::from_bits(y)).to_bits();
    }
}

#[inline(always)]
fn float2_bits(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(f32, f32) -> u32) {
    bits2(a, b, out, |x, y| f(f32::from_bits(x), f32::from_bits(y)));
}

#[inline(always)]
fn compare(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(f32, f32) -> bool) {
    for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
        *o = u32::from(f(f32::from_bits(x), f32::from_bits(y)));
    }
}

#[inline(always)]
fn signed2(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(i32, i32) -> i32) {
    bits2(a, b, out, |x, y| f(x as i32, y as i32) as u32);
}

#[inline(always)]
fn bits1(a: &[u32], out: &mut [u32], f: impl Fn(u32) -> u32) {
    for (o, &x) in out.iter_mut().zip(a) {
        *o = f(x);
    }
}

#[inline(always)]
fn bits2(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(u32, u32) -> u32) {
    for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
        *o = f(x, y);
    }
}

/// 32 uniform random bits for `(key, counter)`: the same on every device.
///
/// Two rounds of the PCG output permutation, chained (Jarzynski and Olano, "Hash Functions for
/// GPU Rendering", JCGT 9(3), 2020). `shaders/random.wgsl` is its twin; a test compares them.
#[inline(always)]
pub fn random(key: u32, counter: u32) -> u32 {
    pcg(pcg(key) ^ counter.wrapping_mul(0x9E37_79B9).wrapping_add(0x85EB_CA6B))
}

#[inline(always)]
fn pcg(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// Where `index` goes in the permutation of `0..length` that `key` selects.
///
/// A four-round Feistel network over the next even power of two, walked until it lands inside
/// (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002): a bijection without
/// a table, so shuffling a data set takes no memory. An index outside the range stays as it is.
pub fn shuffle(index: u32, length: u32, key: u32) -> u32 {
    if index >= length {
        return index;
    }
    let bits = 32 - (length - 1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1u32 << half) - 1;
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (random(key.wrapping_add(round), right) & mask));
        }
        value = (left << half) | right;
        if value < length {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffle_is_a_permutation_that_depends_on_the_key() {
        for length in [1u32, 2, 3, 63, 64, 65, 1000] {
            let mut seen = vec![false; length as usize];
            for i in 0..length {
                seen[shuffle(i, length, 7) as usize] = true;
            }
            assert!(seen.iter().all(|&s| s), "length {length} misses an index");
        }
        let moved = (0..1000).filter(|&i| shuffle(i, 1000, 1) != shuffle(i, 1000, 2)).count();
        assert!(moved > 950, "two keys agree on {} of 1000 places", 1000 - moved);
        assert_eq!(shuffle(9, 5, 1), 9, "an index outside the range stays");
    }

    #[test]
    fn random_bits_are_balanced_and_uncorrelated() {
        let n = 1 << 16;
        for key in 0..4u32 {
            for bit in 0..32 {
                let ones = (0..n).filter(|&i| random(key, i) >> bit & 1 == 1).count() as f64;
                // Five standard deviations of a fair coin: sqrt(65536) / 2 = 128.
                assert!((ones - 32768.0).abs() < 640.0, "key {key} bit {bit}: {ones} ones");
            }
            let uniform = |i| f64::from(random(key, i)) / 4294967296.0 - 0.5;
            let lag: f64 = (0..n - 1).map(|i| uniform(i) * uniform(i + 1)).sum();
            // The sum of n products has standard deviation sqrt(n) / 12 = 21.3.
            assert!(lag.abs() < 107.0, "key {key}: neighbours correlate, {lag}");
            let keys: f64 = (0..n)
                .map(|i| uniform(i) * (f64::from(random(key + 1, i)) / 4294967296.0 - 0.5))
                .sum();
            assert!(keys.abs() < 107.0, "keys {key} and {}: correlated, {keys}", key + 1);
        }
    }
}
