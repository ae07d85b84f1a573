//! A trial of an adapter's cooperative matrices, which drivers are known to get wrong: products and convolutions that the
//! adapter computes with them, beside the same on the host.
//!
//! Whole numbers with sums that floats hold leave nothing to round but themselves, which the host does alike, so one wrong
//! bit is seen; fractions show that sums are as precise as they should be. It takes a device of its own and a few pipelines,
//! where a precision below the highest is asked for.
//!
//! And a trial of subgroups: which invocations share one, what they are numbered and that they meet again after a loop that some leave
//! earlier is true of all drivers, but no interface promises it. Rows that are summed show it.

use super::Variant;
use crate::{
    Algorithm, Body, BufferSpec, Combine, Contraction, Conv, ConvRole, DType, Device, DeviceClass,
    DeviceError, Expr, Kernel, MatmulPrecision, Operand, Program, Reduction, Store, Term, View,
    numel, random,
};

/// What an operand is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// With a sign: of more bits than a half has on the left, or on the right, and of three on the other side.
    Whole {
        /// Whether those on the left are the long ones.
        left: bool,
    },
    /// Between -1 and 1, not close to zero.
    Fractions,
    /// Ones, and in the first place what no half holds.
    Huge,
}

impl Numbers {
    fn fill(self, left: bool, len: usize, precision: MatmulPrecision) -> Vec<f32> {
        // A half holds eleven bits; what it leaves of thirteen, another one holds.
        let long = self == Numbers::Whole { left };
        let bits = match (long, precision) {
            (true, MatmulPrecision::Medium) => 12,
            (true, _) => 13,
            (false, _) => 3,
        };
        let number = |i: usize| {
            let drawn = random(u32::from(left), i as u32);
            let sign = if drawn & 1 == 0 { 1.0 } else { -1.0 };
            match self {
                Numbers::Whole { .. } => sign * (drawn >> (32 - bits)) as f32,
                Numbers::Fractions => {
                    sign * (1.0 + 15.0 * (drawn >> 8) as f32 / 16_777_216.0) / 16.0
                }
                Numbers::Huge if left && i == 0 => 1e6,
                Numbers::Huge => 1.0,
            }
        };
        (0..len).map(number).collect()
    }

    /// How far from the host's a sum of so many products may be. Of fractions, each product is off by the rounding of both
    /// operands (docs/numerics.md), and each addition by one of a float's.
    fn allowed(self, k: usize, precision: MatmulPrecision) -> f32 {
        let k = k as f32;
        match self {
            Numbers::Whole { .. } => 0.0,
            _ => k * (precision.rounding() + 2.0 * (k + 1.0) * f32::EPSILON),
        }
    }
}

/// Opens an adapter for a trial, if less than the highest precision is asked for and it has cooperative matrices, which then
/// compute whatever their size. The device is not used again: a trial that fails may take it along.
///
/// # Errors
/// If the adapter doesn't open; within, what is wrong, as text.
pub(crate) fn run(name: &str, variant: &Variant) -> Result<Result<(), String>, DeviceError> {
    if variant.precision == MatmulPrecision::Highest {
        return Ok(Ok(()));
    }
    let (algorithm, vectors) = (Some(Algorithm::Cooperative), Some(true));
    let variant = Variant { algorithm, vectors, ..variant.clone() };
    let opened = super::open(name, variant)?.map(Device::of);
    let tried = opened.filter(|device| device.matmul_precision() != MatmulPrecision::Highest);
    Ok(tried.map_or(Ok(()), |device| agree(&device)))
}

/// Whether a device and the host compute the same.
fn agree(device: &Device) -> Result<(), String> {
    let host = Device::cpu(None);
    let matmul = |batch: usize, m: usize, n: usize, k: usize| Contraction::MatMul {
        batch: vec![batch],
        m,
        n,
        k,
    };
    let conv = Conv {
        batch: 1,
        in_channels: 10,
        out_channels: 66,
        groups: 1,
        input: [13, 11],
        kernel: [3, 3],
        output: [7, 11],
        stride: [2, 1],
        padding: [1, 2],
        dilation: [1, 2],
    };
    let conv = |role| (Contraction::Conv(conv, role), [false; 2]);
    let mut trials = vec![(matmul(1, 67, 70, 101), [false; 2])];
    // Software adapters, where matrices are emulated in tests, compile each for ten seconds.
    if device.limits().class != DeviceClass::Software {
        trials.extend([
            (matmul(2, 65, 33, 70), [true; 2]),
            // Enough large tiles to keep a large GPU busy.
            (matmul(32, 129, 130, 33), [false, true]),
            // In vectors, along the sums and along the sides.
            (matmul(32, 132, 136, 36), [false; 2]),
            (matmul(32, 136, 132, 68), [true; 2]),
            (matmul(1, 68, 72, 36), [false; 2]),
            conv(ConvRole::Forward),
            conv(ConvRole::InputGradient),
            conv(ConvRole::WeightGradient),
        ]);
    }
    let precision = device.matmul_precision();
    for (contraction, turned) in trials {
        let whole = [true, false].map(|left| Numbers::Whole { left });
        for numbers in whole.into_iter().chain([Numbers::Fractions, Numbers::Huge]) {
            let program = program(&contraction, turned);
            let sources = contraction.sources().map(|shape| numel(&shape));
            let fill = |side: usize| numbers.fill(side == 0, sources[side], precision);
            let operands = [fill(0), fill(1)];
            let compute = |device: &Device, operands: &[Vec<f32>; 2]| {
                let [left, right] = operands;
                compute(device, &program, &[left, right]).map_err(|error| error.to_string())
            };
            let found = compute(device, &operands)?;
            let expected = match (numbers, precision) {
                (Numbers::Whole { .. }, MatmulPrecision::Medium) => compute(
                    &host,
                    &operands.map(|numbers| numbers.into_iter().map(nearest).collect()),
                )?,
                _ => compute(&host, &operands)?,
            };
            let allowed = numbers.allowed(contraction.matrix()[3], precision);
            let agrees = |(found, expected): (&f32, &f32)| match numbers {
                // What becomes infinite must be seen by who looks at losses.
                Numbers::Huge => expected.abs() < 1e5 || !found.is_finite(),
                _ => (found - expected).abs() <= allowed,
            };
            let mut pairs = found.iter().zip(&expected);
            if let Some((found, expected)) = pairs.find(|&pair| !agrees(pair)) {
                let [groups, m, n, k] = contraction.matrix();
                return Err(format!(
                    "cooperative matrices gave {found} for {expected} in {groups} products of {m}x{k} and {k}x{n}"
                ));
            }
        }
    }
    Ok(())
}

/// Columns of the rows that are summed in a trial of subgroups: a row for a part of a workgroup and one for all of it, of which invocations
/// have different numbers of elements.
const COLUMNS: [usize; 2] = [100, 1000];

/// Whether rows that a device folds in subgroups have the right sums. True where it doesn't fold them so, false where it can't compute
/// them at all.
pub(crate) fn folds(device: &Device, variant: &Variant) -> bool {
    let limits = device.limits();
    let grouped = variant.grouped.unwrap_or(limits.class.is_gpu());
    if !grouped || limits.least_subgroup < 2 || variant.exchanged.is_some() {
        return true;
    }
    const ROWS: usize = 9;
    COLUMNS.into_iter().all(|columns| {
        let numbers: Vec<f32> =
            (0..ROWS * columns).map(|i| (random(5, i as u32) >> 24) as f32).collect();
        let mut expr = Expr::default();
        let view = View::contiguous(&[ROWS, columns]);
        let term = expr.push(Term::Load { operand: 0, view }, DType::F32);
        let sum = expr.push(Term::Accumulator(0), DType::F32);
        let body = Body::Rows {
            rows: vec![ROWS],
            cols: vec![columns],
            layout: View::contiguous(&[ROWS, columns]),
            reductions: vec![Reduction { combine: Combine::Sum, term }],
            row_stores: vec![Store { operand: 1, term: sum }],
            stores: vec![],
        };
        let buffers = [("rows", numbers.len()), ("sums", ROWS)];
        let program = alone("trial of subgroups", expr, body, &buffers);
        let expected = numbers.chunks(columns).map(|row| row.iter().sum::<f32>());
        compute(device, &program, &[&numbers]).is_ok_and(|found| found.into_iter().eq(expected))
    })
}

/// The nearest half.
fn nearest(number: f32) -> f32 {
    half::f16::from_f32(number).to_f32()
}

/// One contraction of two buffers of floats, each of which may be stored transposed.
fn program(contraction: &Contraction, turned: [bool; 2]) -> Program {
    let mut expr = Expr::default();
    let mut lens = vec![];
    let mut sources = [0; 2];
    for (operand, shape) in contraction.sources().into_iter().enumerate() {
        lens.push(numel(&shape));
        let last = shape.len() - 1;
        let mut order: Vec<usize> = (0..=last).collect();
        let view = match turned[operand] {
            false => View::contiguous(&shape),
            true => {
                order.swap(last - 1, last);
                let stored: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
                View::contiguous(&stored).permute(&order)
            }
        };
        sources[operand] = expr.push(Term::Load { operand, view }, DType::F32);
    }
    lens.push(numel(&contraction.shape()));
    let sum = expr.push(Term::Accumulator(0), DType::F32);
    let body = Body::Contract {
        contraction: contraction.clone(),
        left: sources[0],
        right: sources[1],
        splits: 1,
        row_stores: vec![],
        stores: vec![Store { operand: 2, term: sum }],
    };
    let buffers = [("left", lens[0]), ("right", lens[1]), ("products", lens[2])];
    alone("trial of cooperative matrices", expr, body, &buffers)
}

/// A kernel alone, whose operands are buffers of so many floats each.
fn alone(label: &str, expr: Expr, body: Body, buffers: &[(&str, usize)]) -> Program {
    let operand = |(buffer, &(_, len)): (usize, &(&str, usize))| Operand {
        buffer,
        offset: 0,
        len,
        dtype: DType::F32,
    };
    let operands = buffers.iter().enumerate().map(operand).collect();
    let buffer = |&(name, len): &(&str, usize)| BufferSpec {
        name: name.to_string(),
        bytes: len * 4,
        external: true,
    };
    let kernel = Kernel { label: label.to_string(), operands, expr, body };
    let buffers = buffers.iter().map(buffer).collect();
    Program { buffers, kernels: vec![kernel], ..Program::default() }
}

/// Runs such a program; what it leaves in the last buffer.
fn compute(
    device: &Device,
    program: &Program,
    operands: &[&[f32]],
) -> Result<Vec<f32>, DeviceError> {
    let mut buffers = vec![];
    for (number, spec) in program.buffers.iter().enumerate() {
        let buffer = device.create(&spec.name, spec.bytes)?;
        if let Some(numbers) = operands.get(number) {
            device.write(&buffer, 0, bytemuck::cast_slice(numbers))?;
        }
        buffers.push(buffer);
    }
    device.load(program, &buffers)?.run(1)?;
    let last = buffers.len() - 1;
    let bytes = device.read(&buffers[last], 0, program.buffers[last].bytes)?;
    Ok(bytes
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect())
}
