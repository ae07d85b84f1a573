//! Images sampled at points: how they are rotated, sheared, moved and bent.

use super::{Interpolation, Tensor};
use crate::Graph;
use crate::case;
use crate::catalog::{Case, wide};
use shadegrad_device::DType;

impl Tensor {
    /// Images `[batch, channels, h, w]` at the points of a grid `[batch, oh, ow, 2]`: across and down, -1 to 1 from one edge of the
    /// image to the other (with `align_corners`, from the centre of one corner pixel to the other's). Outside is zero. The
    /// gradient is of images and points, as PyTorch's `grid_sample`.
    #[track_caller]
    pub fn grid_sample(&self, grid: &Tensor, mode: Interpolation) -> Tensor {
        let (shape, points) = (self.shape(), grid.shape());
        let (&[batch, channels, h, w], &[grids, oh, ow, 2]) = (shape.as_slice(), points.as_slice())
        else {
            let reason = "takes images [batch, channels, h, w] and points [batch, oh, ow, 2]";
            return self.refuse_with("grid_sample", &[grid], reason);
        };
        if !self.is_float("grid_sample") || !grid.is_float("grid_sample") {
            return self.clone();
        }
        if batch != grids || h == 0 || w == 0 || h.saturating_mul(w) > u32::MAX as usize {
            let reason = format!("can't sample {batch} images of {h} x {w} at {grids} grids");
            return self.refuse_with("grid_sample", &[grid], reason);
        }
        let place = |axis: usize, size: usize| {
            let point = grid.narrow(3, axis, 1).reshape(&[batch, 1, oh * ow]);
            match mode {
                Interpolation::Bilinear { align_corners: true } => {
                    (point + 1.0) * ((size as f64 - 1.0) / 2.0)
                }
                _ => (point + 1.0) * (size as f64 / 2.0) - 0.5,
            }
        };
        let (x, y) = (place(0, w), place(1, h));
        let pixels = self.reshape(&[batch, channels, h * w]);
        // Pixels at whole coordinates, zero outside.
        let at = |x: &Tensor, y: &Tensor| {
            let within = |v: &Tensor, size: usize| {
                v.greater_equal(&v.zeros_like()).and(&v.less(&v.full_like(size as f64)))
            };
            let number = |v: &Tensor, size: usize| v.clamp(0.0, size as f64 - 1.0).to(DType::U32);
            let index = number(y, h) * w as f64 + number(x, w);
            let spread = [batch, channels, oh * ow];
            let pixel = pixels.gather(2, &index.expand(&spread));
            let inside = within(x, w).and(&within(y, h)).expand(&spread);
            inside.select(&pixel, &pixel.zeros_like())
        };
        let sampled = match mode {
            Interpolation::Nearest => at(&x.round(), &y.round()),
            Interpolation::Bilinear { .. } => {
                let (left, top) = (x.floor(), y.floor());
                let (right, bottom) = (&left + 1.0, &top + 1.0);
                let (across, down) = (&x - &left, &y - &top);
                let upper = at(&left, &top) * (-&across + 1.0) + at(&right, &top) * &across;
                let lower = at(&left, &bottom) * (-&across + 1.0) + at(&right, &bottom) * &across;
                upper * (-&down + 1.0) + lower * down
            }
        };
        sampled.reshape(&[batch, channels, oh, ow])
    }
}

impl Graph {
    /// The points that an affine map gives, for [`Tensor::grid_sample`]: `[batch, h, w, 2]` from `theta`, `[batch, 2, 3]`, which
    /// maps each pixel of the result, across and down in -1 to 1, to a point of the image. PyTorch's `affine_grid`.
    #[track_caller]
    pub fn affine_grid(&self, theta: &Tensor, size: [usize; 2], align_corners: bool) -> Tensor {
        let &[batch, 2, 3] = theta.shape().as_slice() else {
            return theta.refuse("affine_grid", "takes maps [batch, 2, 3]");
        };
        if !theta.is_float("affine_grid") {
            return theta.clone();
        }
        let [h, w] = size;
        let line = |size: usize| {
            let number = self.iota(size).to(DType::F32);
            match align_corners {
                true if size == 1 => number,
                true => number * (2.0 / (size as f64 - 1.0)) - 1.0,
                false => (number * 2.0 + 1.0) * (1.0 / size.max(1) as f64) - 1.0,
            }
        };
        let x = line(w).reshape(&[1, 1, w, 1]);
        let y = line(h).reshape(&[1, h, 1, 1]);
        let of = |column: usize| theta.narrow(2, column, 1).reshape(&[batch, 1, 1, 2]);
        let points = of(0) * x + of(1) * y + of(2);
        points.expand(&[batch, h, w, 2])
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // Points stay within the pixels that they begin in: their slopes jump between them.
        case!("grid_sample", [wide(&[2, 3, 4, 5]), wide(&[2, 3, 4, 2])], |_, x| {
            let near = |pixels: f64| x[1].tanh() * (0.4 / pixels);
            let spread = x[1].iota(48).reshape(&[2, 3, 4, 2]).to(DType::F32);
            // From -1.7 to 1.7 in steps of a pixel, its middle first; some lie outside.
            let step = |size: f64, shift: f64| {
                let cell = spread.remainder(&spread.full_like(7.0)) - 3.0;
                cell * (2.0 / size) + shift / size + near(size)
            };
            let bilinear = |align_corners| Interpolation::Bilinear { align_corners };
            vec![
                x[0].grid_sample(&step(20.0, 10.0), bilinear(false)),
                x[0].narrow(2, 0, 3).narrow(3, 0, 3).grid_sample(&step(2.0, 1.0), bilinear(true)),
                x[0].grid_sample(&step(20.0, 10.3), Interpolation::Nearest),
            ]
        }),
        case!("affine_grid", [wide(&[3, 2, 3])], |g, x| {
            vec![g.affine_grid(&x[0], [3, 4], false), g.affine_grid(&x[0], [4, 1], true)]
        }),
    ]
}
