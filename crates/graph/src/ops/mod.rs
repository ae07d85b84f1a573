//! Operations: one struct each, that says everything the project knows about it.

mod attention;
mod contract;
mod half;
mod index;
mod leaf;
mod merge;
mod movement;
mod pack;
mod pointwise;
mod recurrent;
mod reduce;
pub(crate) mod scalars;
mod scan;
mod window;

pub use attention::{Attend, AttendGradient};
pub(crate) use contract::conv_extent;
pub use contract::{Conv2d, Conv2dInputGradient, Conv2dWeightGradient, MatMul};
pub use half::ToHalf;
pub use index::{Gather, ScatterAdd};
pub use leaf::{Full, Iota, Leaf};
pub use merge::MergeRuns;
pub use movement::{Detach, Expand, Movement, Pad, Permute, Reshape, Slice};
pub use pack::Pack;
pub use pointwise::{CustomOperation, Pointwise};
pub use recurrent::{Recurrent, RecurrentGradient};
pub use reduce::Reduce;
pub use scalars::Scalar;
pub use scan::Scan;
pub use window::{
    MaxPool2d, MaxPool2dGradient, MaxPool2dIndex, Pool, SumPool2d, SumPool2dGradient,
};

use crate::{Array, Tensor, Type};
use shadegrad_device::{
    Attention, AttentionRole, Combine, Contraction, Merge, Recurrence, Sequence, SequenceRole,
    Window, WindowRole,
};

/// Everything about one operation. Nothing has a default: an operation without samples, without
/// a reference or without a word about its gradient does not compile.
pub trait Operation: Clone + Eq + std::hash::Hash + std::fmt::Debug {
    /// Its name in messages and dumps.
    fn name(&self) -> String;

    /// The type of the result, or what is wrong with the inputs.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn infer(&self, inputs: &[&Type]) -> Result<Type, String>;

    /// For each input the gradient of the loss with respect to it, from `b.upstream`, made of
    /// other operations; `None` for an input that has no path to the loss.
    fn gradient(&self, b: &Backward<'_>) -> Gradient;

    /// Which kernel family computes it.
    fn lower(&self, inputs: &[&Type]) -> Lowering;

    /// The slow truth: plain loops in f64, no cleverness.
    fn reference(&self, inputs: &[&Array], ty: &Type) -> Array;

    /// What it is tested on.
    fn samples() -> Vec<Sample>
    where
        Self: Sized;
}

/// What a gradient is made from.
pub struct Backward<'a> {
    /// The operation's inputs.
    pub inputs: &'a [Tensor],
    /// Its result.
    pub output: &'a Tensor,
    /// The gradient of the loss with respect to the result.
    pub upstream: &'a Tensor,
}

/// An operation's gradient.
pub enum Gradient {
    /// One for each input; `None` where there is no path.
    Of(Vec<Option<Tensor>>),
    /// There is none, for this reason: differentiating through it is a mistake.
    Undefined(&'static str),
    /// It is zero everywhere it is defined: nothing flows.
    Zero,
    /// One for each input, of the function that the operation stands for rather than of its steps:
    /// rounding passes gradients on. Differences can't confirm it.
    Through(Vec<Option<Tensor>>),
}

/// How an operation becomes part of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Lowering {
    /// Memory, a constant or a coordinate: no work.
    Leaf,
    /// Another way to look at the input.
    View(Movement),
    /// A scalar function of every element.
    Pointwise(Scalar),
    /// The element of input 0 along an axis that input 1 selects.
    Gather(usize),
    /// A reduction over axes.
    Reduce(Combine, Vec<usize>),
    /// A sum of products.
    Contract(Contraction),
    /// A pooling window; `true` for the place of the maximum instead of its value.
    Window(Window, WindowRole, bool),
    /// Sources of input 0, of a shape, added where input 1 says along an axis of an extent.
    Scatter(Vec<usize>, usize, usize),
    /// A recurrence: input 0 is what each step adds, the others are coefficients.
    Scan(Recurrence),
    /// A pass of a merge sort: input 0 is sorted, input 1 says where its elements are now.
    Merge(Merge),
    /// Attention, or its gradient; inputs are those of the role, and perhaps a bias.
    Attention(Attention, AttentionRole),
    /// A recurrent cell over a sequence, or its gradient; inputs are those of the role.
    Recurrent(Sequence, SequenceRole),
    /// Rounded to half precision and packed two to a word.
    Half,
    /// Inputs laid one after the other in memory.
    Pack,
}

impl Lowering {
    /// The kernel family that does the work; views and leaves need none.
    pub fn family(&self) -> &'static str {
        match self {
            Lowering::Leaf => "none: memory, constants, coordinates",
            Lowering::View(_) => "none: a view",
            Lowering::Pointwise(_) | Lowering::Gather(_) | Lowering::Half => "map",
            Lowering::Reduce(..) => "rows",
            Lowering::Contract(Contraction::MatMul { .. }) => "matmul",
            Lowering::Contract(Contraction::Conv(..)) => "conv",
            Lowering::Window(..) => "window",
            Lowering::Scatter(..) => "scatter",
            Lowering::Scan(_) => "scan",
            Lowering::Merge(_) => "merge",
            Lowering::Attention(..) => "attention",
            Lowering::Recurrent(..) => "recurrent",
            Lowering::Pack => "none: a layout",
        }
    }
}

/// One case that an operation is tested on: values, gradients and every device.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The operation, with its attributes.
    pub op: Op,
    /// Its inputs.
    pub inputs: Vec<SampleInput>,
}

/// An input of a sample.
#[derive(Clone, Debug)]
pub struct SampleInput {
    /// Its type.
    pub ty: Type,
    /// Elements are drawn uniformly from `low..high`; integers below `high`.
    pub low: f64,
    /// The bound that isn't reached.
    pub high: f64,
    /// Elements all differ, by far more than a finite difference moves them: for maxima.
    pub distinct: bool,
    /// Elements this close to a kink are moved away from it.
    pub kinks: &'static [f64],
}

impl SampleInput {
    /// Floats between `low` and `high`.
    pub fn float(shape: &[usize], low: f64, high: f64) -> SampleInput {
        let ty = Type::new(shape, shadegrad_device::DType::F32);
        SampleInput { ty, low, high, distinct: false, kinks: &[] }
    }

    /// Unsigned integers below `high`.
    pub fn index(shape: &[usize], high: usize) -> SampleInput {
        let ty = Type::new(shape, shadegrad_device::DType::U32);
        SampleInput { ty, low: 0.0, high: high as f64, distinct: false, kinks: &[] }
    }

    /// The same, with all elements different.
    pub fn distinct(self) -> SampleInput {
        SampleInput { distinct: true, ..self }
    }
}

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        /// Every operation there is.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each operation's struct says what it is")]
        pub enum Op { $($name($name)),* }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op { Op::$name(op) }
        })*

        impl Op {
            /// Its name in messages and dumps.
            pub fn name(&self) -> String {
                match self { $(Op::$name(op) => op.name()),* }
            }
            /// The type of the result.
            ///
            /// # Errors
            /// What is wrong with the inputs.
            pub fn infer(&self, inputs: &[&Type]) -> Result<Type, String> {
                match self { $(Op::$name(op) => op.infer(inputs)),* }
            }
            /// The gradient with respect to each input.
            pub fn gradient(&self, b: &Backward<'_>) -> Gradient {
                match self { $(Op::$name(op) => op.gradient(b)),* }
            }
            /// Which kernel family computes it.
            pub fn lower(&self, inputs: &[&Type]) -> Lowering {
                match self { $(Op::$name(op) => op.lower(inputs)),* }
            }
            /// The slow truth.
            pub fn reference(&self, inputs: &[&Array], ty: &Type) -> Array {
                match self { $(Op::$name(op) => op.reference(inputs, ty)),* }
            }
            /// The samples of every operation, in the order of the list.
            pub fn samples() -> Vec<Sample> {
                let mut all = Vec::new();
                $(all.extend(<$name as Operation>::samples());)*
                all
            }
            /// The name of every operation in the list.
            pub fn names() -> &'static [&'static str] {
                &[$(stringify!($name)),*]
            }
        }
    };
}

// The only list of operations.
ops! {
    Leaf, Full, Iota,
    Pointwise,
    Reshape, Permute, Expand, Slice, Pad, Detach,
    Reduce,
    MatMul,
    Conv2d, Conv2dInputGradient, Conv2dWeightGradient,
    MaxPool2d, MaxPool2dIndex, MaxPool2dGradient, SumPool2d, SumPool2dGradient,
    Gather, ScatterAdd,
    Scan, MergeRuns, Attend, AttendGradient, Recurrent, RecurrentGradient,
    Pack, ToHalf,
}

/// An error unless there are `count` inputs.
fn arity(inputs: &[&Type], count: usize) -> Result<(), String> {
    match inputs.len() {
        found if found == count => Ok(()),
        found => Err(format!("takes {count} inputs, not {found}")),
    }
}

/// An error unless all inputs are floats.
fn floats(inputs: &[&Type]) -> Result<(), String> {
    match inputs.iter().find(|ty| ty.dtype.loaded() != shadegrad_device::DType::F32) {
        Some(ty) => Err(format!("works on floats, not {}", ty.dtype)),
        None => Ok(()),
    }
}
