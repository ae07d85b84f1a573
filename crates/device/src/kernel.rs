//! Kernel specifications: what one dispatch (or several of the same shader) computes, as plain data that every backend reads.
//!
//! A kernel is an expression around a core. The core is one of ten families; the expression says
//! how elements are loaded into it and what is stored of its result. Stores are row-major over
//! the family's output domain.

use crate::{DType, Expr, Literal, Sequence, SequenceRole, TermId, View, numel};
use std::fmt::{self, Write};

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Name for people: the operations that were fused.
    pub label: String,
    /// The memory it touches.
    pub operands: Vec<Operand>,
    /// The terms that the body refers to.
    pub expr: Expr,
    /// The core and the stores.
    pub body: Body,
}

/// A range of one of the program's buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Which buffer of the program.
    pub buffer: usize,
    /// Where the range begins, in bytes; a multiple of four.
    pub offset: usize,
    /// How many elements it has.
    pub len: usize,
    /// The type of its elements.
    pub dtype: DType,
}

/// `operand[point] = term`, for every point of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which of the kernel's operands.
    pub operand: usize,
    /// What is stored.
    pub term: TermId,
}

/// How a reduction combines elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Combine {
    /// The sum.
    Sum,
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
    /// The product.
    Prod,
}

impl Combine {
    /// The value that changes nothing when combined.
    pub fn identity(self, dtype: DType) -> Literal {
        let (low, high) = match dtype {
            DType::F32 => (f64::NEG_INFINITY, f64::INFINITY),
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            _ => (0.0, f64::from(u32::MAX)),
        };
        Literal::of(
            dtype,
            match self {
                Combine::Sum => 0.0,
                Combine::Prod => 1.0,
                Combine::Max => low,
                Combine::Min => high,
            },
        )
    }
}

/// One reduction of a row kernel; its result is the accumulator of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// How elements are combined.
    pub combine: Combine,
    /// What is reduced; may use the accumulators of earlier reductions.
    pub term: TermId,
}

/// The shapes of a two-dimensional convolution (cross-correlation, as in PyTorch's `conv2d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Groups of channels that don't see each other.
    pub groups: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the filter.
    pub kernel: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: [usize; 2],
    /// Step between filter elements.
    pub dilation: [usize; 2],
}

/// Which of a convolution's three tensors is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvRole {
    /// Output `[batch, out, oh, ow]` from input (`left`) and weight (`right`).
    Forward,
    /// Input gradient `[batch, in, h, w]` from output gradient (`left`) and weight (`right`).
    InputGradient,
    /// Weight gradient `[out, in / groups, kh, kw]` from input (`left`) and output gradient.
    WeightGradient,
}

impl Conv {
    /// Shape of the input.
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.in_channels, self.input[0], self.input[1]]
    }
    /// Shape of the weight.
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel[0], self.kernel[1]]
    }
    /// Shape of the output.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.out_channels, self.output[0], self.output[1]]
    }
    /// Shapes of the left source, the right source and the result in a role.
    pub fn shapes(&self, role: ConvRole) -> [[usize; 4]; 3] {
        let (x, w, y) = (self.input_shape(), self.weight_shape(), self.output_shape());
        match role {
            ConvRole::Forward => [x, w, y],
            ConvRole::InputGradient => [y, w, x],
            ConvRole::WeightGradient => [x, y, w],
        }
    }
}

/// What a contraction sums over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Contraction {
    /// `[batch.., m, k] x [batch.., k, n]`, for all transposes: the views say which.
    MatMul {
        /// Leading axes.
        batch: Vec<usize>,
        /// Rows of the result.
        m: usize,
        /// Columns of the result.
        n: usize,
        /// The summed axis.
        k: usize,
    },
    /// One of the three tensors of a convolution.
    Conv(Conv, ConvRole),
}

impl fmt::Display for Contraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contraction::MatMul { batch, m, n, k } => {
                write!(f, "matmul {batch:?} of {m}x{k} and {k}x{n}")
            }
            Contraction::Conv(conv, role) => {
                let role = match role {
                    ConvRole::Forward => "conv2d",
                    ConvRole::InputGradient => "conv2d_input_gradient",
                    ConvRole::WeightGradient => "conv2d_weight_gradient",
                };
                let (input, weight) = (conv.input_shape(), conv.weight_shape());
                let Conv { groups, stride, padding, dilation, .. } = conv;
                write!(
                    f,
                    "{role} of {input:?} and {weight:?}, stride {stride:?}, padding {padding:?}, dilation {dilation:?}, groups {groups}"
                )
            }
        }
    }
}

impl Contraction {
    /// Shape of the result.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Contraction::MatMul { batch, m, n, .. } => [batch.as_slice(), &[*m, *n]].concat(),
            Contraction::Conv(conv, role) => conv.shapes(*role)[2].to_vec(),
        }
    }

    /// Shape of one column of the result's matrices: of a weight gradient its output channels.
    pub fn rows(&self) -> Vec<usize> {
        match self {
            Contraction::MatMul { batch, m, .. } => [batch.as_slice(), &[*m]].concat(),
            Contraction::Conv(..) => vec![self.matrix()[0] * self.matrix()[1]],
        }
    }

    /// Which source holds the rows, if their sums are to be had: the left one of a product, the output gradient
    /// of a weight gradient.
    pub fn row_source(&self) -> Option<usize> {
        match self {
            Contraction::MatMul { .. } => Some(0),
            Contraction::Conv(_, ConvRole::WeightGradient) => Some(1),
            Contraction::Conv(..) => None,
        }
    }

    /// Shapes of the two sources.
    pub fn sources(&self) -> [Vec<usize>; 2] {
        match self {
            Contraction::MatMul { batch, m, n, k } => {
                [[batch.as_slice(), &[*m, *k]].concat(), [batch.as_slice(), &[*k, *n]].concat()]
            }
            Contraction::Conv(conv, role) => {
                let [left, right, _] = conv.shapes(*role);
                [left.to_vec(), right.to_vec()]
            }
        }
    }

    /// Multiplications and additions.
    pub fn flops(&self) -> u64 {
        2 * self.matrix().iter().map(|&n| n as u64).product::<u64>()
    }

    /// Tiles of so many rows and columns of results, of sums that are cut into parts.
    pub(crate) fn tiles(&self, [rows, cols]: [usize; 2], splits: usize) -> usize {
        let [groups, m, n, _] = self.matrix();
        groups * splits * m.div_ceil(rows) * n.div_ceil(cols)
    }

    /// The contraction as a matrix product: groups, rows, columns and summed length.
    pub fn matrix(&self) -> [usize; 4] {
        match self {
            Contraction::MatMul { batch, m, n, k } => [numel(batch), *m, *n, *k],
            Contraction::Conv(c, role) => {
                let (g, ci, co) = (c.groups, c.in_channels / c.groups, c.out_channels / c.groups);
                let window = c.kernel[0] * c.kernel[1];
                let (pixels_in, pixels_out) =
                    (c.batch * c.input[0] * c.input[1], c.batch * c.output[0] * c.output[1]);
                match role {
                    ConvRole::Forward => [g, co, pixels_out, ci * window],
                    ConvRole::InputGradient => [g, ci, pixels_in, co * window],
                    ConvRole::WeightGradient => [g, co, ci * window, pixels_out],
                }
            }
        }
    }
}

/// The shapes of a pooling window over planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Batch and channels: how many planes there are.
    pub planes: [usize; 2],
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Points around the input that don't take part.
    pub padding: [usize; 2],
    /// Step between the elements of a window.
    pub dilation: [usize; 2],
}

impl Window {
    /// `[batch, channels, h, w]` of what a role reads and of what it computes.
    pub fn shapes(&self, role: WindowRole) -> [[usize; 4]; 2] {
        let shape = |[h, w]: [usize; 2]| [self.planes[0], self.planes[1], h, w];
        let (input, output) = (shape(self.input), shape(self.output));
        if role.is_gradient() { [output, input] } else { [input, output] }
    }
}

/// What a window kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowRole {
    /// Accumulator 0: the largest element; 1: its number in the plane (the first, of equals).
    Max,
    /// Accumulator 0: the sum.
    Sum,
    /// Accumulator 0, over the input: the sum of the windows whose index (`index`) is this point.
    MaxGradient,
    /// Accumulator 0, over the input: the sum of the windows that cover it.
    SumGradient,
}

impl WindowRole {
    /// Whether the result lies over the input, and the source over the output.
    pub fn is_gradient(self) -> bool {
        matches!(self, WindowRole::MaxGradient | WindowRole::SumGradient)
    }
}

/// A recurrence along one axis of a shape: `h[t][s] = x[t][s] + sum over j of a_j[t][s] *
/// h[t - 1][s - offset_j]`, where `t` runs along the axis and `s` along the axes after it, in
/// row-major order. What lies before the first step or before the first point counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recurrence {
    /// Shape of sources and result.
    pub shape: Vec<usize>,
    /// Which axis the steps run along.
    pub axis: usize,
    /// For each coefficient, how far back along `s` the state is taken from.
    pub offsets: Vec<usize>,
    /// In logarithms: `log(exp(a) + exp(b))` for a sum, and a sum for a product.
    pub log: bool,
}

impl Recurrence {
    /// Lines that don't see each other, steps, and points of a step.
    pub fn lines(&self) -> [usize; 3] {
        lines(&self.shape, self.axis)
    }

    /// Whether a point's state depends on other points.
    pub fn mixes(&self) -> bool {
        self.offsets.iter().any(|&offset| offset > 0)
    }
}

/// A shape with an axis of parts before it, if there are several.
fn parted(parts: usize, mut shape: Vec<usize>) -> Vec<usize> {
    if parts > 1 {
        shape.insert(0, parts);
    }
    shape
}

/// Elements before an axis, along it and after it.
pub fn lines(shape: &[usize], axis: usize) -> [usize; 3] {
    [numel(&shape[..axis]), shape[axis], numel(&shape[axis + 1..])]
}

/// One pass of a merge sort along the last axis of `[rows, len]`: places that name the elements of
/// sorted runs in order become those of runs twice as long. Equal keys keep their order, and NaN
/// comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Merge {
    /// Lines that are sorted each on its own.
    pub rows: usize,
    /// Elements of a line.
    pub len: usize,
    /// Elements of the runs that are sorted already.
    pub width: usize,
    /// Largest first.
    pub descending: bool,
}

/// The shapes of attention: queries `[batch.., queries, width]`, keys `[batch.., keys, width]`, values
/// `[batch.., keys, features]`, result `[batch.., queries, features]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Leading axes.
    pub batch: Vec<usize>,
    /// Queries.
    pub queries: usize,
    /// Keys, and as many values.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub width: usize,
    /// Elements of a value.
    pub features: usize,
    /// What the products of queries and keys are multiplied with, as the bits of an `f32`.
    pub scale: u32,
}

/// Which of attention's two kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionRole {
    /// The result, from queries, keys and values.
    Forward,
    /// The slopes of queries, keys and values one after the other, each row-major, from these, the slope of the result and the result:
    /// `[batch.., (queries + keys) * width + keys * features]`. On the CPU only.
    Gradient,
}

impl Attention {
    /// The batch axes with two more.
    pub fn shape(&self, rows: usize, cols: usize) -> Vec<usize> {
        [self.batch.as_slice(), &[rows, cols]].concat()
    }

    /// The shapes of what a role reads, in order; a bias is apart.
    pub fn sources(&self, role: AttentionRole) -> Vec<Vec<usize>> {
        let mut shapes = vec![
            self.shape(self.queries, self.width),
            self.shape(self.keys, self.width),
            self.shape(self.keys, self.features),
        ];
        if role == AttentionRole::Gradient {
            shapes.extend(vec![self.result(AttentionRole::Forward); 2]);
        }
        shapes
    }

    /// The shape of what a role computes.
    pub fn result(&self, role: AttentionRole) -> Vec<usize> {
        match role {
            AttentionRole::Forward => self.shape(self.queries, self.features),
            AttentionRole::Gradient => {
                [self.batch.as_slice(), &[self.slopes().iter().sum()]].concat()
            }
        }
    }

    /// How many slopes the queries, the keys and the values of a matrix have.
    pub fn slopes(&self) -> [usize; 3] {
        [self.queries * self.width, self.keys * self.width, self.keys * self.features]
    }

    /// Multiplications and additions of a role: the scores and the mean of values; for slopes the scores again, the slopes of
    /// weights, and from these and the weights the slopes of all three.
    pub fn flops(&self, role: AttentionRole) -> u64 {
        let pairs = numel(&self.batch) * self.queries * self.keys;
        let terms = match role {
            AttentionRole::Forward => self.width + self.features,
            AttentionRole::Gradient => 3 * self.width + 2 * self.features,
        };
        2 * (pairs * terms) as u64
    }
}

/// The ten kernel families.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Every point of `shape` on its own.
    Map {
        /// The domain.
        shape: Vec<usize>,
        /// Over the domain.
        stores: Vec<Store>,
    },
    /// For each row: reductions one after the other, then stores of rows and of elements.
    Rows {
        /// Leading axes of the domain.
        rows: Vec<usize>,
        /// Trailing axes of the domain: what is reduced.
        cols: Vec<usize>,
        /// Where elements are stored: a view over the domain of memory without gaps.
        layout: View,
        /// Accumulator `i` is the result of reduction `i`.
        reductions: Vec<Reduction>,
        /// Over the rows.
        row_stores: Vec<Store>,
        /// Over rows and columns.
        stores: Vec<Store>,
    },
    /// Accumulator 0 is a sum of products; accumulator 1 is the sum of the row source alone over the summed axis, which
    /// beside a weight's gradient is the bias's.
    Contract {
        /// The geometry.
        contraction: Contraction,
        /// The first source, over its own domain.
        left: TermId,
        /// The second source, over its own domain.
        right: TermId,
        /// Into how many ranges the summed axis is cut; each gives a slice of partial sums.
        splits: usize,
        /// Over [`Contraction::rows`], with an axis of `splits` before them if that is more than one.
        row_stores: Vec<Store>,
        /// Over the result, with an axis of `splits` before it if that is more than one.
        stores: Vec<Store>,
    },
    /// A pooling window.
    Window {
        /// The geometry.
        window: Window,
        /// What is computed.
        role: WindowRole,
        /// The source, over `[planes, h, w]` of input or output.
        source: TermId,
        /// For `MaxGradient`: where the maximum was, over the same domain as the source.
        index: Option<TermId>,
        /// Over `[planes, h, w]` of the result.
        stores: Vec<Store>,
    },
    /// Accumulator 0 is the sum of the sources whose index is this one's.
    Scatter {
        /// Shape of the sources.
        shape: Vec<usize>,
        /// The axis that indices replace.
        axis: usize,
        /// Its extent in the result.
        len: usize,
        /// Where each source goes, over `shape`, `U32`; others than `0..len` go nowhere.
        index: TermId,
        /// What is added, over `shape`.
        source: TermId,
        /// Over the result.
        stores: Vec<Store>,
    },
    /// Accumulator 0 is the state of a recurrence after each step.
    Scan {
        /// The geometry.
        recurrence: Recurrence,
        /// What each step adds, over the shape.
        source: TermId,
        /// For each offset what the state is multiplied with, over the shape.
        coefficients: Vec<TermId>,
        /// Over the shape.
        stores: Vec<Store>,
    },
    /// Accumulator 0 is the place of the element that comes here, `U32`.
    Merge {
        /// The geometry.
        merge: Merge,
        /// What is sorted, over `[rows, len]`.
        key: TermId,
        /// Places within each row, sorted in runs, over `[rows, len]`, `U32`.
        place: TermId,
        /// Over `[rows, len]`.
        stores: Vec<Store>,
    },
    /// Accumulator 0 is the mean of the values, weighted by the softmax of scaled products of query and
    /// keys, zero where every key is masked; or the slopes of all three.
    Attention {
        /// The geometry.
        attention: Attention,
        /// What is computed.
        role: AttentionRole,
        /// What is read, over the shapes of [`Attention::sources`].
        sources: Vec<TermId>,
        /// What is added to the products, over `[batch.., queries, keys]`.
        bias: Option<TermId>,
        /// Over [`Attention::result`].
        stores: Vec<Store>,
    },
    /// Accumulator 0 is what a recurrent cell keeps of each step, or its slopes.
    Recurrent {
        /// The geometry.
        sequence: Sequence,
        /// What is computed.
        role: SequenceRole,
        /// What is read, over the shapes of [`Sequence::sources`].
        sources: Vec<TermId>,
        /// Whether each step is a dispatch of its own: then accumulator 0 must be stored.
        stepwise: bool,
        /// Over [`Sequence::result`].
        stores: Vec<Store>,
    },
}

impl Body {
    /// The family's name.
    pub fn family(&self) -> &'static str {
        match self {
            Body::Map { .. } => "map",
            Body::Rows { .. } => "rows",
            Body::Contract { contraction: Contraction::MatMul { .. }, .. } => "matmul",
            Body::Contract { .. } => "conv",
            Body::Window { .. } => "window",
            Body::Scatter { .. } => "scatter",
            Body::Scan { .. } => "scan",
            Body::Merge { .. } => "merge",
            Body::Attention { .. } => "attention",
            Body::Recurrent { .. } => "recurrent",
        }
    }

    /// The domain over which the stores are row-major (of `Rows`: rows and columns together).
    pub fn domain(&self) -> Vec<usize> {
        match self {
            Body::Map { shape, .. } => shape.clone(),
            Body::Rows { rows, cols, .. } => [rows.as_slice(), cols].concat(),
            Body::Contract { contraction, splits, .. } => parted(*splits, contraction.shape()),
            Body::Window { window, role, .. } => window.shapes(*role)[1].to_vec(),
            Body::Scatter { shape, axis, len, .. } => {
                let mut shape = shape.clone();
                shape[*axis] = *len;
                shape
            }
            Body::Scan { recurrence, .. } => recurrence.shape.clone(),
            Body::Merge { merge, .. } => vec![merge.rows, merge.len],
            Body::Recurrent { sequence, role, .. } => sequence.result(*role),
            Body::Attention { attention, role, .. } => attention.result(*role),
        }
    }

    /// The domain over which row stores are row-major.
    pub fn row_domain(&self) -> Vec<usize> {
        match self {
            Body::Rows { rows, .. } => rows.clone(),
            Body::Contract { contraction, splits, .. } => parted(*splits, contraction.rows()),
            _ => vec![],
        }
    }

    /// How many steps it takes, if each is a dispatch of its own.
    pub fn steps(&self) -> Option<usize> {
        match self {
            Body::Recurrent { sequence, role, stepwise: true, .. } => {
                Some(sequence.dispatches(*role))
            }
            _ => None,
        }
    }

    /// Every store with the number of elements it writes.
    pub fn stores(&self) -> Vec<(Store, usize)> {
        let (points, rows) = (numel(&self.domain()), numel(&self.row_domain()));
        match self {
            Body::Map { stores, .. }
            | Body::Window { stores, .. }
            | Body::Scatter { stores, .. }
            | Body::Scan { stores, .. }
            | Body::Merge { stores, .. }
            | Body::Attention { stores, .. }
            | Body::Recurrent { stores, .. } => stores.iter().map(|&s| (s, points)).collect(),
            Body::Rows { row_stores, stores, .. } | Body::Contract { row_stores, stores, .. } => {
                row_stores
                    .iter()
                    .map(|&s| (s, rows))
                    .chain(stores.iter().map(|&s| (s, points)))
                    .collect()
            }
        }
    }

    /// The reductions of a row kernel in passes over the columns: those of a pass don't use each other's
    /// results.
    pub fn passes(&self, expr: &Expr) -> Vec<std::ops::Range<usize>> {
        let Body::Rows { reductions, .. } = self else {
            return vec![];
        };
        let mut passes: Vec<std::ops::Range<usize>> = Vec::new();
        for (number, reduction) in reductions.iter().enumerate() {
            let needed = expr.needed(&[reduction.term]);
            let uses = |from: usize| {
                let mut terms = expr.terms.iter().zip(&needed).filter(|(_, needed)| **needed);
                terms.any(|(term, _)| matches!(term, crate::Term::Accumulator(n) if *n >= from))
            };
            match passes.last_mut() {
                Some(pass) if !uses(pass.start) => pass.end = number + 1,
                _ => passes.push(number..number + 1),
            }
        }
        passes
    }

    /// The terms that the core reads, each with the shape that it is evaluated over.
    pub fn sources(&self) -> Vec<(TermId, Vec<usize>)> {
        match self {
            Body::Map { .. } => vec![],
            Body::Rows { reductions, .. } => {
                reductions.iter().map(|r| (r.term, self.domain())).collect()
            }
            Body::Contract { contraction, left, right, .. } => {
                let [left_shape, right_shape] = contraction.sources();
                vec![(*left, left_shape), (*right, right_shape)]
            }
            Body::Window { window, role, source, index, .. } => {
                let shape = window.shapes(*role)[0].to_vec();
                std::iter::once(*source).chain(*index).map(|term| (term, shape.clone())).collect()
            }
            Body::Scatter { shape, index, source, .. } => {
                vec![(*index, shape.clone()), (*source, shape.clone())]
            }
            Body::Scan { recurrence, source, coefficients, .. } => std::iter::once(source)
                .chain(coefficients)
                .map(|&term| (term, recurrence.shape.clone()))
                .collect(),
            Body::Recurrent { sequence, role, sources, .. } => {
                sources.iter().copied().zip(sequence.sources(*role)).collect()
            }
            Body::Merge { key, place, .. } => {
                vec![(*key, self.domain()), (*place, self.domain())]
            }
            Body::Attention { attention: a, role, sources, bias, .. } => {
                let bias = bias.map(|bias| (bias, a.shape(a.queries, a.keys)));
                sources.iter().copied().zip(a.sources(*role)).chain(bias).collect()
            }
        }
    }

    /// Multiplications and additions of the core (not of the expressions around it).
    pub fn flops(&self) -> u64 {
        match self {
            Body::Contract { contraction, .. } => contraction.flops(),
            Body::Attention { attention, role, .. } => attention.flops(*role),
            Body::Recurrent { sequence, .. } => sequence.flops(),
            _ => 0,
        }
    }
}

impl Kernel {
    /// The terms that the kernel computes.
    pub fn roots(&self) -> Vec<TermId> {
        let mut roots: Vec<TermId> = self.body.sources().iter().map(|(term, _)| *term).collect();
        roots.extend(self.body.stores().iter().map(|(store, _)| store.term));
        roots
    }

    /// The numbers of the buffers that it binds, each once, in order.
    pub fn buffers(&self) -> Vec<usize> {
        let mut buffers: Vec<usize> = self.operands.iter().map(|o| o.buffer).collect();
        buffers.sort_unstable();
        buffers.dedup();
        buffers
    }

    /// Whether an operand is loaded from, and whether it is stored to.
    pub fn access(&self, operand: usize) -> (bool, bool) {
        let needed = self.expr.needed(&self.roots());
        let read = self.expr.terms.iter().zip(&needed).any(|(term, &needed)| {
            needed
                && matches!(term, crate::Term::Load { operand: o, .. }
                    | crate::Term::Gather { operand: o, .. } if *o == operand)
        });
        let written = self.body.stores().iter().any(|(store, _)| store.operand == operand);
        (read, written)
    }

    /// The kernel as text; equal kernels give equal text.
    pub fn dump(&self, buffers: &[crate::BufferSpec]) -> String {
        let mut text = format!("{} {:?} {}\n", self.body.family(), self.body.domain(), self.label);
        match &self.body {
            Body::Rows { cols, layout, .. } => {
                let moved = match layout.is_contiguous() {
                    true => String::new(),
                    false => format!(", elements are stored with strides {:?}", layout.strides),
                };
                let _ = writeln!(text, "  reduce the last {} axes{moved}", cols.len());
            }
            Body::Contract { contraction, left, right, splits, row_stores, .. } => {
                let sums = if row_stores.is_empty() { "" } else { ", accumulator 1 sums rows" };
                let _ = writeln!(
                    text,
                    "  {contraction:?} of t{left}, t{right} in {splits} parts{sums}"
                );
            }
            Body::Window { window, role, source, .. } => {
                let _ = writeln!(text, "  {role:?} {window:?} of t{source}");
            }
            Body::Scatter { shape, axis, index, source, .. } => {
                let _ = writeln!(text, "  add {shape:?} of t{source} at t{index} of axis {axis}");
            }
            Body::Scan { recurrence, source, coefficients, .. } => {
                let _ = writeln!(text, "  {recurrence:?} of t{source} and {coefficients:?}");
            }
            Body::Merge { merge, key, place, .. } => {
                let _ = writeln!(text, "  {merge:?} of t{key} at t{place}");
            }
            Body::Recurrent { sequence, role, sources, stepwise, .. } => {
                let steps = if *stepwise { ", a dispatch for each step" } else { "" };
                let _ = writeln!(text, "  {role:?} {sequence:?} of {sources:?}{steps}");
            }
            Body::Attention { attention, role, sources, bias, .. } => {
                let _ = writeln!(text, "  {role:?} {attention:?} of {sources:?} {bias:?}");
            }
            Body::Map { .. } => {}
        }
        for (number, operand) in self.operands.iter().enumerate() {
            let (read, written) = self.access(number);
            let _ = writeln!(
                text,
                "  #{number}: {}[{} + {}] {} {}{}",
                buffers.get(operand.buffer).map_or("?", |b| b.name.as_str()),
                operand.offset,
                operand.len,
                operand.dtype,
                if read { "r" } else { "" },
                if written { "w" } else { "" },
            );
        }
        text += &self.expr.dump(&self.roots(), "  ");
        if let Body::Rows { reductions, .. } = &self.body {
            for (number, reduction) in reductions.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "  accumulator {number} = {:?} of t{}",
                    reduction.combine, reduction.term
                );
            }
        }
        for (store, len) in self.body.stores() {
            let _ = writeln!(text, "  store #{}[0..{len}] = t{}", store.operand, store.term);
        }
        text
    }
}
