//! The scalar operations: one word in the list, one row, one method and one case each, all in this file.
//!
//! A row holds an operation's value as a tree in the device's expression language (or one intrinsic), its
//! gradient in terms of other operations, an independent formula in f64 and the range it is tested on.

use super::pointwise::{
    CustomOperation, Domain, Forward, GradientRule, INTEGER, Row, STEP, floats, flows, kinked, of,
};
use super::{Backward, Gradient, SampleInput};
use crate::catalog::{Case, distinct, index, kinked as away, positive, truth, wide as spread};
use crate::{Tensor, case};
use shadegrad_device::{DType, Intrinsic, Literal};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LN_2};

macro_rules! scalars {
    ($($name:ident),* $(,)?) => {
        /// The scalar operations.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names say it; the rows give the formulas")]
        pub enum Scalar {
            $($name,)*
            /// An operation that a user of the library wrote.
            Custom(&'static CustomOperation),
        }

        /// Every scalar operation.
        pub(super) const ALL: &[Scalar] = &[$(Scalar::$name),*];
    };
}

scalars! {
    Add, Sub, Mul, Div, Remainder, Fmod, Pow, Atan2, Maximum, Minimum, Neg, Abs, Exp, Log, Sqrt, Sin,
    Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Sigmoid, Softplus, Relu, Floor, Ceil, Round,
    Trunc, Exp2, Log2, Expm1, Log1p, Erf, Gelu, GeluSlope, IsNan, IsInf, Less, LessEqual, Equal, And, Or, Xor, Not,
    Select, ToF32, ToI32, ToU32, ToBool, Random, Shuffle,
}

impl Scalar {
    pub(super) fn row(self) -> Row {
        use Forward::{One, Tree};
        use Intrinsic as I;
        let row = |forward, weight, gradient: GradientRule, domains| Row {
            forward,
            gradient,
            domains,
            weight,
        };
        let wide = || floats(-3.0, 3.0);
        match self {
            Scalar::Add => row(
                One(I::Add),
                1,
                |b| flows([b.upstream.clone(), b.upstream.clone()]),
                vec![wide(), wide()],
            ),
            Scalar::Sub => row(
                One(I::Sub),
                1,
                |b| flows([b.upstream.clone(), -b.upstream]),
                vec![wide(), wide()],
            ),
            Scalar::Mul => row(
                One(I::Mul),
                1,
                |b| flows([b.upstream * &b.inputs[1], b.upstream * &b.inputs[0]]),
                vec![wide(), wide()],
            ),
            Scalar::Div => row(
                One(I::Div),
                4,
                |b| {
                    let over = b.upstream / &b.inputs[1];
                    flows([over.clone(), -(over * b.output)])
                },
                vec![wide(), floats(0.5, 3.0)],
            ),
            // x - floor(x / y) y: the floor is constant almost everywhere.
            Scalar::Remainder => row(
                One(I::Rem),
                4,
                |b| {
                    let whole = (&b.inputs[0] / &b.inputs[1]).floor();
                    flows([b.upstream.clone(), -(b.upstream * whole)])
                },
                vec![floats(0.1, 0.9), floats(1.0, 2.0)],
            ),
            // x - trunc(x / y) y, likewise.
            Scalar::Fmod => row(
                One(I::Fmod),
                4,
                |b| {
                    let whole = (&b.inputs[0] / &b.inputs[1]).trunc();
                    flows([b.upstream.clone(), -(b.upstream * whole)])
                },
                vec![floats(-3.7, -2.3), floats(1.0, 1.1)],
            ),
            Scalar::Pow => row(
                One(I::Pow),
                20,
                |b| {
                    let (x, y, zero) = (&b.inputs[0], &b.inputs[1], b.upstream.full_like(0.0));
                    // A constant has no slope, even where the next lower power has none.
                    let slope = b.upstream * y * x.pow(&(y - 1.0));
                    let dx = y.equal(&zero).select(&zero, &slope);
                    let flat = x.equal(&zero).and(&y.greater_equal(&zero));
                    let dy = flat.select(&zero, &(b.upstream * b.output * x.log()));
                    flows([dx, dy])
                },
                vec![floats(0.3, 3.0), floats(-2.0, 2.0)],
            ),
            Scalar::Atan2 => row(
                One(I::Atan2),
                20,
                |b| {
                    let (y, x) = (&b.inputs[0], &b.inputs[1]);
                    let over = b.upstream / (x * x + y * y);
                    flows([&over * x, -(over * y)])
                },
                vec![wide(), floats(0.3, 3.0)],
            ),
            // At a tie each input gets half.
            Scalar::Maximum => row(
                One(I::Max),
                1,
                |b| choose(b, &b.inputs[1].less(&b.inputs[0])),
                vec![floats(-3.0, 0.0), floats(0.1, 3.0)],
            ),
            Scalar::Minimum => row(
                One(I::Min),
                1,
                |b| choose(b, &b.inputs[0].less(&b.inputs[1])),
                vec![floats(-3.0, 0.0), floats(0.1, 3.0)],
            ),
            Scalar::Neg => row(One(I::Neg), 1, |b| flows([-b.upstream]), vec![wide()]),
            Scalar::Abs => row(
                One(I::Abs),
                1,
                |b| {
                    let (x, zero) = (&b.inputs[0], b.upstream.full_like(0.0));
                    let right = zero.less(x).select(b.upstream, &zero);
                    flows([x.less(&zero).select(&-b.upstream, &right)])
                },
                vec![kinked(-3.0, 3.0)],
            ),
            Scalar::Exp => row(One(I::Exp), 8, |b| flows([b.upstream * b.output]), vec![wide()]),
            Scalar::Log => {
                row(One(I::Log), 8, |b| flows([b.upstream / &b.inputs[0]]), vec![floats(0.3, 4.0)])
            }
            Scalar::Sqrt => row(
                One(I::Sqrt),
                4,
                |b| flows([b.upstream * 0.5 / b.output]),
                vec![floats(0.3, 4.0)],
            ),
            Scalar::Sin => {
                row(One(I::Sin), 8, |b| flows([b.upstream * b.inputs[0].cos()]), vec![wide()])
            }
            Scalar::Cos => {
                row(One(I::Cos), 8, |b| flows([-(b.upstream * b.inputs[0].sin())]), vec![wide()])
            }
            Scalar::Tan => row(
                One(I::Tan),
                16,
                |b| flows([b.upstream * (b.output * b.output + 1.0)]),
                vec![floats(-1.2, 1.2)],
            ),
            Scalar::Asin => row(
                One(I::Asin),
                16,
                |b| flows([b.upstream / (-(&b.inputs[0] * &b.inputs[0]) + 1.0).sqrt()]),
                vec![floats(-0.9, 0.9)],
            ),
            Scalar::Acos => row(
                One(I::Acos),
                16,
                |b| flows([-b.upstream / (-(&b.inputs[0] * &b.inputs[0]) + 1.0).sqrt()]),
                vec![floats(-0.9, 0.9)],
            ),
            Scalar::Atan => row(
                One(I::Atan),
                16,
                |b| flows([b.upstream / (&b.inputs[0] * &b.inputs[0] + 1.0)]),
                vec![wide()],
            ),
            Scalar::Sinh => {
                row(One(I::Sinh), 16, |b| flows([b.upstream * b.inputs[0].cosh()]), vec![wide()])
            }
            Scalar::Cosh => {
                row(One(I::Cosh), 16, |b| flows([b.upstream * b.inputs[0].sinh()]), vec![wide()])
            }
            Scalar::Tanh => row(
                One(I::Tanh),
                8,
                |b| flows([b.upstream * (b.output.full_like(1.0) - b.output * b.output)]),
                vec![wide()],
            ),
            // Far below zero the exponential is infinite, and the result zero.
            Scalar::Sigmoid => row(
                Tree(
                    1,
                    |e, x| {
                        let one = e.literal(Literal::f32(1.0));
                        let negated = e.apply(I::Neg, &[x[0]]);
                        let exp = e.apply(I::Exp, &[negated]);
                        let below = e.apply(I::Add, &[one, exp]);
                        e.apply(I::Div, &[one, below])
                    },
                    |x| 1.0 / (1.0 + (-x[0]).exp()),
                ),
                10,
                |b| flows([b.upstream * b.output * (b.output.full_like(1.0) - b.output)]),
                vec![wide()],
            ),
            // A row because its slope is a sigmoid, also at zero, where those of its parts have kinks.
            Scalar::Softplus => row(
                Tree(
                    1,
                    |e, x| {
                        let zero = e.literal(Literal::f32(0.0));
                        let positive = e.apply(I::Max, &[x[0], zero]);
                        let size = e.apply(I::Abs, &[x[0]]);
                        let below = e.apply(I::Neg, &[size]);
                        let exp = e.apply(I::Exp, &[below]);
                        let rest = e.apply(I::Log1p, &[exp]);
                        e.apply(I::Add, &[positive, rest])
                    },
                    |x| x[0].max(0.0) + (-x[0].abs()).exp().ln_1p(),
                ),
                20,
                |b| flows([b.upstream * b.inputs[0].sigmoid()]),
                vec![wide()],
            ),
            // A row and not `maximum(x, 0)` because its gradient needs only the result: with the
            // maximum every layer would keep what came before it as well.
            Scalar::Relu => row(
                Tree(
                    1,
                    |e, x| {
                        let zero = e.literal(Literal::f32(0.0));
                        e.apply(I::Max, &[x[0], zero])
                    },
                    |x| if x[0] < 0.0 { 0.0 } else { x[0] },
                ),
                1,
                |b| {
                    let zero = b.output.full_like(0.0);
                    flows([zero.less(b.output).select(b.upstream, &zero)])
                },
                vec![kinked(-3.0, 3.0)],
            ),
            Scalar::Floor => row(One(I::Floor), 1, STEP, vec![floats(0.1, 0.9)]),
            Scalar::Ceil => row(One(I::Ceil), 1, STEP, vec![wide()]),
            Scalar::Round => row(One(I::Round), 1, STEP, vec![wide()]),
            Scalar::Trunc => row(One(I::Trunc), 1, STEP, vec![wide()]),
            Scalar::Exp2 => {
                row(One(I::Exp2), 8, |b| flows([b.upstream * b.output * LN_2]), vec![wide()])
            }
            Scalar::Log2 => row(
                One(I::Log2),
                8,
                |b| flows([b.upstream / (&b.inputs[0] * LN_2)]),
                vec![floats(0.3, 4.0)],
            ),
            Scalar::Expm1 => {
                row(One(I::Expm1), 10, |b| flows([b.upstream * (b.output + 1.0)]), vec![wide()])
            }
            Scalar::Log1p => row(
                One(I::Log1p),
                10,
                |b| flows([b.upstream / (&b.inputs[0] + 1.0)]),
                vec![floats(-0.7, 3.0)],
            ),
            Scalar::Erf => row(
                One(I::Erf),
                16,
                |b| {
                    let x = &b.inputs[0];
                    flows([b.upstream * (-(x * x)).exp() * FRAC_2_SQRT_PI])
                },
                vec![wide()],
            ),
            // Rows, so that a kernel that computes both needs the distribution once.
            Scalar::Gelu => row(
                Tree(
                    1,
                    |e, x| {
                        let below = e.apply(I::NormalCdf, &[x[0]]);
                        e.apply(I::Mul, &[x[0], below])
                    },
                    |x| x[0] * I::NormalCdf.reference(DType::F32, x),
                ),
                17,
                |b| flows([b.upstream * Tensor::scalar(Scalar::GeluSlope, &[&b.inputs[0]])]),
                vec![wide()],
            ),
            Scalar::GeluSlope => row(
                Tree(
                    1,
                    |e, x| {
                        let below = e.apply(I::NormalCdf, &[x[0]]);
                        let density = e.apply(I::NormalDensity, &[x[0]]);
                        let slope = e.apply(I::Mul, &[x[0], density]);
                        e.apply(I::Add, &[below, slope])
                    },
                    |x| {
                        let [below, density] =
                            [I::NormalCdf, I::NormalDensity].map(|f| f.reference(DType::F32, x));
                        below + x[0] * density
                    },
                ),
                28,
                |b| {
                    // The density times 2 - x^2, in an order in which nothing infinite meets zero.
                    let x = &b.inputs[0];
                    let scale = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0;
                    let density = (x * x * -0.5).exp() * scale;
                    flows([b.upstream * (&density * 2.0 - x * (x * &density))])
                },
                vec![wide()],
            ),
            Scalar::IsNan => row(One(I::IsNan), 1, STEP, vec![wide()]),
            Scalar::IsInf => row(One(I::IsInf), 1, STEP, vec![wide()]),
            Scalar::Less => row(One(I::Less), 1, STEP, vec![wide(), wide()]),
            Scalar::LessEqual => row(One(I::LessEqual), 1, STEP, vec![wide(), wide()]),
            Scalar::Equal => row(One(I::Equal), 1, STEP, vec![wide(), wide()]),
            Scalar::And => {
                row(One(I::And), 1, INTEGER, vec![of(DType::Bool, 2.0), of(DType::Bool, 2.0)])
            }
            Scalar::Or => {
                row(One(I::Or), 1, INTEGER, vec![of(DType::Bool, 2.0), of(DType::Bool, 2.0)])
            }
            Scalar::Xor => {
                row(One(I::Xor), 1, INTEGER, vec![of(DType::Bool, 2.0), of(DType::Bool, 2.0)])
            }
            Scalar::Not => row(One(I::Not), 1, INTEGER, vec![of(DType::Bool, 2.0)]),
            Scalar::Select => row(
                One(I::Select),
                1,
                |b| {
                    let (condition, zero) = (&b.inputs[0], b.upstream.full_like(0.0));
                    let (yes, no) =
                        (condition.select(b.upstream, &zero), condition.select(&zero, b.upstream));
                    Gradient::Of(vec![None, Some(yes), Some(no)])
                },
                vec![of(DType::Bool, 2.0), wide(), wide()],
            ),
            // Halves are floats already; integers have no slope.
            Scalar::ToF32 => row(
                One(I::ToF32),
                1,
                |b| match b.inputs[0].dtype().loaded() {
                    DType::F32 => flows([b.upstream.clone()]),
                    _ => Gradient::Zero,
                },
                vec![of(DType::U32, 1000.0)],
            ),
            Scalar::ToI32 => row(One(I::ToI32), 1, STEP, vec![floats(-9.0, 9.0)]),
            Scalar::ToU32 => row(One(I::ToU32), 1, STEP, vec![floats(0.0, 9.0)]),
            Scalar::ToBool => row(One(I::ToBool), 1, STEP, vec![of(DType::U32, 2.0)]),
            Scalar::Random => {
                row(One(I::Random), 4, INTEGER, vec![of(DType::U32, 4e9), of(DType::U32, 4e9)])
            }
            Scalar::Shuffle => row(
                One(I::Shuffle),
                24,
                INTEGER,
                vec![
                    of(DType::U32, 90.0),
                    Domain { low: 100.0, ..of(DType::U32, 101.0) },
                    of(DType::U32, 4e9),
                ],
            ),
            Scalar::Custom(custom) => row(
                One(I::Custom(&custom.function)),
                custom.weight,
                custom.gradient,
                custom.domains.iter().map(|&(low, high)| floats(low, high)).collect(),
            ),
        }
    }
}

/// The gradient of a choice between two inputs: equal ones share it, as in PyTorch.
fn choose(b: &Backward<'_>, first: &Tensor) -> Gradient {
    let zero = b.upstream.full_like(0.0);
    let tie = b.inputs[0].equal(&b.inputs[1]);
    let shared = tie.select(&(b.upstream * 0.5), &zero);
    let second = first.or(&tie).select(&zero, b.upstream) + &shared;
    flows([first.select(b.upstream, &shared), second])
}

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
    /// Tangent.
    tan Tan,
    /// Inverse sine, in `-pi/2..=pi/2`; NaN outside of `-1..=1`.
    asin Asin,
    /// Inverse cosine, in `0..=pi`; NaN outside of `-1..=1`.
    acos Acos,
    /// Inverse tangent, in `-pi/2..=pi/2`.
    atan Atan,
    /// Hyperbolic sine.
    sinh Sinh,
    /// Hyperbolic cosine.
    cosh Cosh,
    /// Hyperbolic tangent.
    tanh Tanh,
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
    /// Whether it is infinite.
    is_inf IsInf,
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
    /// The larger of two; equal ones share the gradient. NaN if one is NaN.
    maximum Maximum,
    /// The smaller of two; equal ones share the gradient. NaN if one is NaN.
    minimum Minimum,
    /// What floored division leaves: it has the sign of the divisor.
    remainder Remainder,
    /// What truncated division leaves: it has the sign of the dividend.
    fmod Fmod,
    /// `self` to the power of another tensor; NaN for negative numbers to fractional powers.
    pow Pow,
    /// The angle of the point `(other, self)`, in `-pi..=pi`.
    atan2 Atan2,
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
    /// One but not both.
    xor Xor,
}

fn between(shape: &[usize], low: f64, high: f64) -> SampleInput {
    SampleInput::float(shape, low, high)
}

pub(crate) fn cases() -> Vec<Case> {
    const STEPS: &str = "it is flat between its steps";
    vec![
        case!("abs", [away(&[65], &[0.0])], |_, x| x[0].abs()),
        case!("exp", [spread(&[65])], |_, x| x[0].exp()),
        case!("log", [positive(&[65])], |_, x| x[0].log()),
        case!("sqrt", [positive(&[65])], |_, x| x[0].sqrt()),
        case!("sin", [between(&[65], -50.0, 50.0)], |_, x| x[0].sin()),
        case!("cos", [between(&[65], -50.0, 50.0)], |_, x| x[0].cos()),
        case!("tan", [between(&[65], -1.2, 1.2)], |_, x| x[0].tan()),
        case!("asin", [between(&[65], -0.95, 0.95)], |_, x| x[0].asin()),
        case!("acos", [between(&[65], -0.95, 0.95)], |_, x| x[0].acos()),
        case!("atan", [between(&[65], -9.0, 9.0)], |_, x| x[0].atan()),
        case!("sinh", [between(&[65], -9.0, 9.0)], |_, x| x[0].sinh()),
        case!("cosh", [between(&[65], -9.0, 9.0)], |_, x| x[0].cosh()),
        case!("tanh", [between(&[65], -9.0, 9.0)], |_, x| x[0].tanh()),
        case!("floor", [away(&[65], &[-1.0, 0.0, 1.0])], |_, x| x[0].floor()).flat(STEPS),
        case!("ceil", [away(&[65], &[-1.0, 0.0, 1.0])], |_, x| x[0].ceil()).flat(STEPS),
        case!("round", [away(&[65], &[-1.5, -0.5, 0.5, 1.5])], |_, x| x[0].round()).flat(STEPS),
        case!("trunc", [away(&[65], &[-1.0, 0.0, 1.0])], |_, x| x[0].trunc()).flat(STEPS),
        case!("exp2", [spread(&[65])], |_, x| x[0].exp2()),
        case!("log2", [positive(&[65])], |_, x| x[0].log2()),
        case!("expm1", [spread(&[65])], |_, x| x[0].expm1()),
        case!("log1p", [positive(&[65])], |_, x| x[0].log1p()),
        case!("erf", [spread(&[65])], |_, x| x[0].erf()),
        case!("is_nan", [spread(&[5])], |_, x| x[0].log().is_nan()).flat(STEPS),
        case!("is_inf", [spread(&[5])], |_, x| (&x[0] * 0.0).reciprocal().is_inf()).flat(STEPS),
        case!("not", [truth(&[65])], |_, x| x[0].not()).flat(STEPS),
        case!("and", [truth(&[65]), truth(&[65])], |_, x| x[0].and(&x[1])).flat(STEPS),
        case!("or", [truth(&[65]), truth(&[65])], |_, x| x[0].or(&x[1])).flat(STEPS),
        case!("xor", [truth(&[65]), truth(&[65])], |_, x| x[0].xor(&x[1])).flat(STEPS),
        case!("maximum", [distinct(&[3, 65]), between(&[65], -0.01, 0.01)], |_, x| x[0]
            .maximum(&x[1])),
        case!("minimum", [distinct(&[3, 65]), between(&[65], -0.01, 0.01)], |_, x| x[0]
            .minimum(&x[1])),
        case!("remainder", [between(&[65], 1.1, 1.9), between(&[1], 0.95, 1.0)], |_, x| {
            vec![x[0].remainder(&x[1]), (-&x[0]).remainder(&x[1])]
        }),
        case!("fmod", [between(&[65], 1.1, 1.9), between(&[1], 0.95, 1.0)], |_, x| {
            vec![x[0].fmod(&x[1]), (-&x[0]).fmod(&x[1])]
        }),
        case!("pow", [positive(&[65]), spread(&[3, 1])], |_, x| x[0].pow(&x[1])),
        case!("atan2", [spread(&[65]), away(&[65], &[0.0])], |_, x| x[0].atan2(&x[1])),
        case!("less", [spread(&[65]), spread(&[65])], |_, x| x[0].less(&x[1])).flat(STEPS),
        case!("less_equal", [spread(&[65]), spread(&[65])], |_, x| x[0].less_equal(&x[1]))
            .flat(STEPS),
        case!("equal", [index(&[65], 3), index(&[65], 3)], |_, x| x[0].equal(&x[1])).flat(STEPS),
    ]
}
