//! Tensors from nothing, and tensors like others.

use super::Tensor;
use crate::catalog::{Case, wide};
use crate::ops::{Detach, Full, Iota};
use crate::{Graph, Init, Variable, case};
use shadegrad_device::{DType, Literal};

impl Graph {
    /// A constant, of any shape.
    #[track_caller]
    pub fn full(&self, shape: &[usize], dtype: DType, value: f64) -> Tensor {
        let literal = Literal::of(dtype, value);
        self.push(Full { shape: shape.to_vec(), literal }.into(), &[])
    }

    /// Zeros, `F32`.
    #[track_caller]
    pub fn zeros(&self, shape: &[usize]) -> Tensor {
        self.full(shape, DType::F32, 0.0)
    }

    /// Ones, `F32`.
    #[track_caller]
    pub fn ones(&self, shape: &[usize]) -> Tensor {
        self.full(shape, DType::F32, 1.0)
    }

    /// `start, start + step, ..` before `end`, `F32`.
    #[track_caller]
    pub fn arange(&self, start: f64, end: f64, step: f64) -> Tensor {
        let count = ((end - start) / step).ceil();
        // Beyond 2^24 not every number is an f32.
        if step == 0.0 || !(0.0..=16_777_216.0).contains(&count) {
            let reason = format!("{start} to {end} by {step} are no 0 to 2^24 numbers");
            self.fail("arange", &[], reason);
            return self.zeros(&[0]);
        }
        self.iota(count as usize).to(DType::F32) * step + start
    }

    /// `steps` numbers from `start` to `end`, both included, equally far apart, `F32`.
    #[track_caller]
    pub fn linspace(&self, start: f64, end: f64, steps: usize) -> Tensor {
        let place = self.iota(steps).to(DType::F32);
        if steps < 2 {
            return place + start;
        }
        // From the nearer end, so that both ends are exact.
        let step = (end - start) / (steps as f64 - 1.0);
        let up = &place * step + start;
        let down = (-&place + (steps as f64 - 1.0)) * -step + end;
        place.less(&place.full_like(steps as f64 / 2.0)).select(&up, &down)
    }

    /// Ones on the diagonal of `[rows, cols]`, zeros elsewhere, `F32`.
    #[track_caller]
    pub fn eye(&self, rows: usize, cols: usize) -> Tensor {
        let row = self.iota(rows).unsqueeze(1);
        row.equal(&self.iota(cols).unsqueeze(0)).to(DType::F32)
    }

    /// `0, 1, ..` as `U32`.
    #[track_caller]
    pub fn iota(&self, len: usize) -> Tensor {
        self.push(Iota { len }.into(), &[])
    }

    /// A tensor with the given elements, row-major, `F32`.
    #[track_caller]
    pub fn tensor(&self, shape: &[usize], data: &[f32]) -> Tensor {
        self.data(shape, DType::F32, bytemuck::cast_slice(data))
    }

    /// A tensor of indices or labels with the given elements, row-major, `U32`.
    #[track_caller]
    pub fn indices(&self, shape: &[usize], data: &[u32]) -> Tensor {
        self.data(shape, DType::U32, bytemuck::cast_slice(data))
    }

    /// A tensor of truth values with the given elements, row-major, `Bool`.
    #[track_caller]
    pub fn mask(&self, shape: &[usize], data: &[bool]) -> Tensor {
        let words: Vec<u32> = data.iter().map(|&b| u32::from(b)).collect();
        self.data(shape, DType::Bool, bytemuck::cast_slice(&words))
    }

    #[track_caller]
    fn data(&self, shape: &[usize], dtype: DType, bytes: &[u8]) -> Tensor {
        let (count, len) = (shape.iter().product::<usize>(), bytes.len() / dtype.bytes());
        if count != len {
            self.fail("tensor", &[], format!("{len} elements for shape {shape:?}"));
        }
        self.variable(&Variable::new("data", &[len], dtype, Init::Bytes(bytes.into())))
            .reshape(shape)
    }
}

impl Tensor {
    /// A constant of this shape and element type.
    #[track_caller]
    pub fn full_like(&self, value: f64) -> Tensor {
        let ty = self.ty();
        self.graph().full(&ty.shape, ty.dtype.loaded(), value)
    }

    /// Zeros of this shape and element type.
    #[track_caller]
    pub fn zeros_like(&self) -> Tensor {
        self.full_like(0.0)
    }

    /// Ones of this shape and element type.
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        self.full_like(1.0)
    }

    /// `0, 1, ..` as `U32`, in this tensor's graph.
    #[track_caller]
    pub(crate) fn iota(&self, len: usize) -> Tensor {
        self.graph().iota(len)
    }

    /// The coordinate along an axis of every element; `U32`.
    #[track_caller]
    pub fn along(&self, axis: impl super::Axis) -> Tensor {
        let Some(axis) = self.axis("along", axis) else {
            return self.to(DType::U32);
        };
        let shape = self.shape();
        let mut line = vec![1; shape.len()];
        line[axis] = shape[axis];
        self.iota(shape[axis]).reshape(&line).expand(&shape)
    }

    /// The same value, through which no gradient flows.
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        self.record(Detach, &[self])
    }
}

pub(crate) fn cases() -> Vec<Case> {
    const MADE: &str = "it is made from nothing";
    vec![
        case!("full", [], |g, _| g.full(&[3, 1], DType::I32, -7.0)).flat(MADE),
        case!("zeros", [], |g, _| g.zeros(&[2, 3])).flat(MADE),
        case!("ones", [], |g, _| g.ones(&[])).flat(MADE),
        case!("arange", [], |g, _| {
            vec![g.arange(-1.0, 2.0, 0.7), g.arange(5.0, 0.0, -2.0), g.arange(1.0, 1.0, 1.0)]
        })
        .flat(MADE),
        case!("linspace", [], |g, _| vec![g.linspace(-1.0, 2.0, 65), g.linspace(3.0, 9.0, 1)])
            .flat(MADE),
        case!("eye", [], |g, _| g.eye(3, 5)).flat(MADE),
        case!("iota", [], |g, _| g.iota(65)).flat(MADE),
        case!("tensor", [], |g, _| g.tensor(&[2, 2], &[1.0, -0.0, 2.5, 4.0])).flat(MADE),
        case!("indices", [], |g, _| g.indices(&[3], &[0, 4_000_000_000, 7])).flat(MADE),
        case!("mask", [], |g, _| g.mask(&[3], &[true, false, true])).flat(MADE),
        case!("full_like", [wide(&[3])], |_, x| x[0].full_like(2.5)).flat(MADE),
        case!("zeros_like", [wide(&[3])], |_, x| x[0].zeros_like()).flat(MADE),
        case!("ones_like", [wide(&[3])], |_, x| x[0].ones_like()).flat(MADE),
        case!("along", [wide(&[3, 65])], |_, x| x[0].along(-1)).flat("coordinates are integers"),
        case!("detach", [wide(&[65])], |_, x| x[0].detach()).flat("that is what it is for"),
    ]
}
