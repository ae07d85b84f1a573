//! Scalar operations: one row each, in [`Scalar::row`].
//!
//! A row holds the operation's forward as a tree in the device's expression language, its gradient
//! in terms of other operations, an independent formula in f64 and the range it is tested on.

use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity};
use crate::{Array, Tensor, Type};
use shadegrad_device::{Custom, DType, Expr, Intrinsic, Literal, TermId};
use std::f64::consts::{FRAC_2_SQRT_PI, LN_2};

/// A scalar function of every element; inputs have one shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointwise(pub Scalar);

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
        const ALL: &[Scalar] = &[$(Scalar::$name),*];
    };
}

scalars! {
    Add, Sub, Mul, Div, Remainder, Fmod, Pow, Atan2, Maximum, Minimum, Neg, Abs, Exp, Log, Sqrt, Sin,
    Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Sigmoid, Softplus, Relu, Floor, Ceil, Round,
    Trunc, Exp2, Log2, Expm1, Log1p, Erf, IsNan, IsInf, Less, LessEqual, Equal, And, Or, Xor, Not,
    Select, ToF32, ToI32, ToU32, ToBool, Random, Shuffle,
}

/// A scalar operation of floats that a user of the library wrote, with everything that built-in ones
/// have: three spellings of its value, its gradient and what it is tested on. `shadegrad_graph::check`
/// holds it to what it says.
///
/// `docs/adding-an-operation.md` shows one.
pub struct CustomOperation {
    /// Its name and its value.
    pub function: Custom,
    /// The gradient with respect to each input, made of other operations.
    pub gradient: fn(&Backward<'_>) -> Gradient,
    /// For each input the range that it is tested on; without kinks.
    pub domains: &'static [(f64, f64)],
    /// Relative cost of one evaluation, an addition being one: costly values are stored rather than
    /// computed again.
    pub weight: u32,
}

impl std::fmt::Debug for CustomOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.function.fmt(f)
    }
}

impl PartialEq for CustomOperation {
    fn eq(&self, other: &CustomOperation) -> bool {
        self.function == other.function
    }
}

impl Eq for CustomOperation {}

impl std::hash::Hash for CustomOperation {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

/// How a scalar operation is computed.
pub(crate) enum Forward {
    /// One intrinsic.
    One(Intrinsic),
    /// A tree of them, of `usize` floats.
    Tree(usize, fn(&mut Expr, &[TermId]) -> TermId, fn(&[f64]) -> f64),
}

/// What a test draws a scalar operation's inputs from.
struct Domain {
    dtype: DType,
    low: f64,
    high: f64,
    kinks: &'static [f64],
}

const fn floats(low: f64, high: f64) -> Domain {
    Domain { dtype: DType::F32, low, high, kinks: &[] }
}

const fn kinked(low: f64, high: f64) -> Domain {
    Domain { dtype: DType::F32, low, high, kinks: &[0.0] }
}

const fn of(dtype: DType, high: f64) -> Domain {
    Domain { dtype, low: 0.0, high, kinks: &[] }
}

type GradientRule = fn(&Backward<'_>) -> Gradient;

struct Row {
    forward: Forward,
    gradient: GradientRule,
    domains: Vec<Domain>,
    /// Relative cost of one evaluation.
    weight: u32,
}

fn flows<const N: usize>(gradients: [Tensor; N]) -> Gradient {
    Gradient::Of(gradients.into_iter().map(Some).collect())
}

const STEP: GradientRule = |_| Gradient::Zero;
const INTEGER: GradientRule = |_| Gradient::Undefined("integers and truth values have no slope");

impl Scalar {
    fn row(self) -> Row {
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
            // Past -88 the exponential leaves f32, and the result is zero there anyway.
            Scalar::Sigmoid => row(
                Tree(
                    1,
                    |e, x| {
                        let (one, most) =
                            (e.literal(Literal::f32(1.0)), e.literal(Literal::f32(88.0)));
                        let negated = e.apply(I::Neg, &[x[0]]);
                        let bounded = e.apply(I::Min, &[negated, most]);
                        let exp = e.apply(I::Exp, &[bounded]);
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
                    |x| x[0].max(0.0),
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
            Scalar::ToF32 => row(One(I::ToF32), 1, STEP, vec![of(DType::U32, 1000.0)]),
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

    /// What it is tested on.
    pub(crate) fn samples(self) -> Vec<Sample> {
        let domains = self.row().domains;
        let shapes: [&[usize]; 6] = [&[], &[1], &[3], &[65], &[2, 3, 5], &[257]];
        let sample = |shape: &[usize]| {
            let input = |d: &Domain| SampleInput {
                ty: Type::new(shape, d.dtype),
                low: d.low,
                high: d.high,
                distinct: false,
                kinks: d.kinks,
            };
            Sample { op: Pointwise(self).into(), inputs: domains.iter().map(input).collect() }
        };
        shapes.into_iter().map(sample).collect()
    }

    /// How it is computed.
    pub(crate) fn forward(self) -> Forward {
        self.row().forward
    }

    /// How many arguments it takes.
    fn arity(self) -> usize {
        match self.forward() {
            Forward::One(intrinsic) => intrinsic.arity(),
            Forward::Tree(arity, ..) => arity,
        }
    }

    /// Relative cost of one evaluation: an addition is one.
    pub(crate) fn weight(self) -> u32 {
        self.row().weight
    }

    /// Adds its computation to an expression.
    pub(crate) fn build(self, expr: &mut Expr, args: &[TermId]) -> TermId {
        match self.forward() {
            Forward::One(intrinsic) => expr.apply(intrinsic, args),
            Forward::Tree(_, build, _) => build(expr, args),
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

impl Operation for Pointwise {
    fn name(&self) -> String {
        match self.0 {
            Scalar::Custom(custom) => custom.function.name.to_string(),
            scalar => format!("{scalar:?}").to_lowercase(),
        }
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
        let dtypes: Vec<DType> = inputs.iter().map(|ty| ty.dtype.loaded()).collect();
        if let Scalar::Custom(custom) = self.0 {
            custom.function.check()?;
        }
        arity(inputs, self.0.arity())?;
        let dtype = match self.0.forward() {
            Forward::One(intrinsic) => {
                intrinsic.result(&dtypes).ok_or("is not defined for these element types")?
            }
            Forward::Tree(..) => {
                super::floats(inputs)?;
                DType::F32
            }
        };
        match inputs.iter().find(|ty| ty.shape != inputs[0].shape) {
            Some(_) => Err("the shapes differ".to_string()),
            None => Ok(Type::new(&inputs[0].shape, dtype)),
        }
    }

    fn gradient(&self, b: &Backward<'_>) -> Gradient {
        (self.0.row().gradient)(b)
    }

    fn lower(&self, _: &[&Type]) -> Lowering {
        Lowering::Pointwise(self.0)
    }

    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
        let forward = self.0.forward();
        let value = |i: usize| {
            let args: Vec<f64> = inputs.iter().map(|input| input.data[i]).collect();
            match &forward {
                Forward::One(intrinsic) => intrinsic.reference(inputs[0].ty.dtype.loaded(), &args),
                Forward::Tree(.., formula) => formula(&args),
            }
        };
        Array { ty: ty.clone(), data: (0..ty.numel()).map(value).collect() }
    }

    fn samples() -> Vec<Sample> {
        use Scalar::{
            Abs, Add, Div, Equal, Fmod, Less, Maximum, Minimum, Mul, Neg, Remainder, Sub,
        };
        let mut samples = Vec::new();
        ALL.iter().for_each(|scalar| samples.extend(scalar.samples()));
        for scalar in [Add, Sub, Mul, Div, Remainder, Fmod, Maximum, Minimum, Neg, Abs, Less, Equal]
        {
            let arity = scalar.arity();
            let ty = Type::new(&[67], DType::I32);
            let input = SampleInput { ty, low: -9.0, high: 9.0, distinct: false, kinks: &[] };
            samples.push(Sample { op: Pointwise(scalar).into(), inputs: vec![input; arity] });
        }
        samples
    }
}
