//! Scalar operations: what all of them have in common. The operations themselves are in `scalars.rs`.

use super::scalars::{ALL, Scalar};
use super::{Backward, Gradient, Lowering, Operation, Sample, SampleInput, arity};
use crate::{Array, Tensor, Type};
use shadegrad_device::{Custom, DType, Expr, Intrinsic, TermId};

/// A scalar function of every element; inputs have one shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointwise(pub Scalar);

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
        // Two of one name are still two: they may differ in their gradients.
        std::ptr::eq(self, other)
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
pub(super) struct Domain {
    pub(super) dtype: DType,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) kinks: &'static [f64],
}

pub(super) const fn floats(low: f64, high: f64) -> Domain {
    Domain { dtype: DType::F32, low, high, kinks: &[] }
}

pub(super) const fn kinked(low: f64, high: f64) -> Domain {
    Domain { dtype: DType::F32, low, high, kinks: &[0.0] }
}

pub(super) const fn of(dtype: DType, high: f64) -> Domain {
    Domain { dtype, low: 0.0, high, kinks: &[] }
}

pub(super) type GradientRule = fn(&Backward<'_>) -> Gradient;

/// What makes a scalar operation.
pub(super) struct Row {
    pub(super) forward: Forward,
    pub(super) gradient: GradientRule,
    pub(super) domains: Vec<Domain>,
    /// Relative cost of one evaluation.
    pub(super) weight: u32,
}

pub(super) fn flows<const N: usize>(gradients: [Tensor; N]) -> Gradient {
    Gradient::Of(gradients.into_iter().map(Some).collect())
}

pub(super) const STEP: GradientRule = |_| Gradient::Zero;
pub(super) const INTEGER: GradientRule =
    |_| Gradient::Undefined("integers and truth values have no slope");

impl Scalar {
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
