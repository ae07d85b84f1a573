//! Images at other sizes, and images cut into windows.

use super::{PoolOptions, Tensor};
use crate::case;
use crate::catalog::{Case, wide};
use crate::ops::{Pool, ScatterAdd};
use shadegrad_device::DType;

/// What lies between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel that a point falls into.
    Nearest,
    /// A mean of the four pixels around a point, weighted by nearness.
    Bilinear {
        /// Whether the centres of the corner pixels are the corners, or their outer edges.
        align_corners: bool,
    },
}

impl Tensor {
    /// Images `[batch, channels, h, w]` at another height and width.
    #[track_caller]
    pub fn interpolate(&self, size: &[usize; 2], mode: Interpolation) -> Tensor {
        let shape = self.shape();
        // Places are computed in 32 bits.
        let fits = |axis: usize| {
            let (n, m) = (shape[axis + 2], size[axis]);
            n > 0 && m > 0 && n.saturating_mul(m) <= u32::MAX as usize
        };
        if !self.is_float("interpolate") {
            return self.clone();
        }
        if shape.len() != 4 || !fits(0) || !fits(1) {
            return self.refuse("interpolate", format!("can't make {size:?} of it"));
        }
        let rows = self.interpolate_axis(2, size[0], mode);
        rows.interpolate_axis(3, size[1], mode)
    }

    #[track_caller]
    fn interpolate_axis(&self, axis: usize, size: usize, mode: Interpolation) -> Tensor {
        let n = self.shape()[axis];
        if size == n {
            return self.clone();
        }
        let place = self.iota(size);
        let align_corners = match mode {
            // In whole numbers, which don't round.
            Interpolation::Nearest => {
                let from = (&place * n as f64) / place.full_like(size as f64);
                return self.index_select(axis, &from);
            }
            Interpolation::Bilinear { align_corners } => align_corners,
        };
        let place = place.to(DType::F32);
        let point = match align_corners {
            true if size == 1 => place.zeros_like(),
            true => place * ((n - 1) as f64 / (size - 1) as f64),
            false => ((place + 0.5) * (n as f64 / size as f64) - 0.5).clamp_min(0.0),
        };
        let low = point.floor().clamp_max((n - 1) as f64);
        let high = (&low + 1.0).clamp_max((n - 1) as f64);
        let mut line = [1; 4];
        line[axis] = size;
        let weight = (&point - &low).reshape(&line);
        let (a, b) = (
            self.index_select(axis, &low.to(DType::U32)),
            self.index_select(axis, &high.to(DType::U32)),
        );
        a * (-&weight + 1.0) + b * weight
    }

    /// The windows of images as columns: `[batch, channels, h, w] -> [batch, channels kh kw, windows]`, PyTorch's
    /// `unfold`. Padding is zeros.
    #[track_caller]
    pub fn unfold(&self, options: &PoolOptions<2>) -> Tensor {
        let Some(pool) = self.windows("unfold", self.shape(), options) else {
            return self.clone();
        };
        let [n, c, ..] = pool.input;
        let ([kh, kw], [oh, ow], [ph, pw]) = (pool.kernel, pool.output, pool.padding);
        let padded = self.pad(2, ph, ph).pad(3, pw, pw);
        let rows = padded.index_select(2, &self.places(&pool, 0));
        let taken = rows.index_select(3, &self.places(&pool, 1));
        let split = taken.reshape(&[n, c, kh, oh, kw, ow]).permute(&[0, 1, 2, 4, 3, 5]);
        split.reshape(&[n, c * kh * kw, oh * ow])
    }

    /// Windows as columns added into images of `output_size`: `[batch, channels kh kw, windows] -> [batch,
    /// channels, h, w]`, PyTorch's `fold`, the gradient of [`Tensor::unfold`].
    #[track_caller]
    pub fn fold(&self, output_size: [usize; 2], options: &PoolOptions<2>) -> Tensor {
        let shape = self.shape();
        if !self.is_float("fold") {
            return self.clone();
        }
        let [kh, kw] = options.kernel;
        let (&[n, columns, count], true) = (shape.as_slice(), kh * kw > 0) else {
            return self.refuse("fold", "takes [batch, channels kh kw, windows]");
        };
        let image = vec![n, columns / (kh * kw), output_size[0], output_size[1]];
        let Some(pool) = self.windows("fold", image, options) else {
            return self.clone();
        };
        let ([oh, ow], c) = (pool.output, pool.input[1]);
        if columns % (kh * kw) != 0 || count != oh * ow {
            let reason = format!("{output_size:?} has {oh} x {ow} windows of {kh} x {kw}");
            return self.refuse("fold", reason);
        }
        let split = self.reshape(&[n, c, kh, kw, oh, ow]).permute(&[0, 1, 2, 4, 3, 5]);
        let flat = split.reshape(&[n, c, kh * oh, kw * ow]);
        let add = |x: &Tensor, axis: usize| {
            let mut line = [1; 4];
            line[axis] = x.shape()[axis];
            let index = self.places(&pool, axis - 2).reshape(&line).expand(&x.shape());
            let len = output_size[axis - 2] + 2 * pool.padding[axis - 2];
            let sums = x.record(ScatterAdd { axis, len }, &[x, &index]);
            sums.narrow(axis, pool.padding[axis - 2], output_size[axis - 2])
        };
        add(&add(&flat, 3), 2)
    }

    /// The geometry of windows over images; padding isn't bounded by the window.
    #[track_caller]
    fn windows(
        &self,
        operation: &str,
        image: Vec<usize>,
        options: &PoolOptions<2>,
    ) -> Option<Pool> {
        let PoolOptions { kernel, stride, padding, dilation, ceil_mode, .. } = *options;
        if ceil_mode {
            self.refuse(operation, "has no ceil_mode");
            return None;
        }
        let Ok(input) = <[usize; 4]>::try_from(image) else {
            self.refuse(operation, "takes images [batch, channels, h, w]");
            return None;
        };
        let mut grown = input;
        for axis in 0..2 {
            let whole = padding[axis].checked_mul(2).and_then(|p| p.checked_add(input[axis + 2]));
            let Some(whole) = whole else {
                self.refuse(operation, format!("padding {padding:?} is more than can be counted"));
                return None;
            };
            grown[axis + 2] = whole;
        }
        match Pool::new(grown, kernel, stride, [0, 0], dilation, false) {
            Ok(pool) => Some(Pool { input, padding, ..pool }),
            Err(reason) => {
                self.refuse(operation, reason);
                None
            }
        }
    }

    /// For each element of a window and each window, the padded coordinate along an axis.
    fn places(&self, pool: &Pool, axis: usize) -> Tensor {
        let (count, windows) = (pool.kernel[axis], pool.output[axis]);
        let element = self.iota(count).unsqueeze(1) * pool.dilation[axis] as f64;
        let window = self.iota(windows) * pool.stride[axis] as f64;
        (element + window).reshape(&[count * windows])
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("interpolate", [wide(&[2, 2, 3, 4])], |_, x| {
            let bilinear = |align_corners| Interpolation::Bilinear { align_corners };
            vec![
                x[0].interpolate(&[6, 7], Interpolation::Nearest),
                x[0].interpolate(&[7, 3], bilinear(false)),
                x[0].interpolate(&[2, 9], bilinear(true)),
            ]
        }),
        case!("unfold", [wide(&[2, 2, 7, 8])], |_, x| {
            let (stride, padding) = ([1, 2], [1, 0]);
            let options =
                PoolOptions { stride, padding, dilation: [2, 3], ..PoolOptions::new([2, 2]) };
            x[0].unfold(&options)
        }),
        case!("fold", [wide(&[2, 8, 21])], |_, x| {
            let (stride, padding) = ([1, 2], [1, 0]);
            let options =
                PoolOptions { stride, padding, dilation: [2, 3], ..PoolOptions::new([2, 2]) };
            x[0].fold([7, 8], &options)
        }),
    ]
}
