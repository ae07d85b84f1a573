//! Pooling of signals `[batch, channels, length]` and images `[batch, channels, h, w]`.

use super::Tensor;
use crate::case;
use crate::catalog::{Case, distinct, positive, wide};
use crate::ops::{MaxPool2d, MaxPool2dIndex, Pool, SumPool2d};
use shadegrad_device::DType;

/// How a window moves over `N` axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions<const N: usize> {
    /// Extents of the window.
    pub kernel: [usize; N],
    /// Step between windows.
    pub stride: [usize; N],
    /// Points around the input that take no part, at most half of the window.
    pub padding: [usize; N],
    /// Step between the elements of a window; means take 1.
    pub dilation: [usize; N],
    /// Whether a last window may reach past the end, as long as it begins before it.
    pub ceil_mode: bool,
    /// Whether padding counts as zeros in means.
    pub count_include_pad: bool,
}

impl<const N: usize> PoolOptions<N> {
    /// A window that steps by its own size, without padding: PyTorch's defaults.
    pub fn new(kernel: [usize; N]) -> PoolOptions<N> {
        PoolOptions {
            kernel,
            stride: kernel,
            padding: [0; N],
            dilation: [1; N],
            ceil_mode: false,
            count_include_pad: true,
        }
    }
}

impl PoolOptions<1> {
    /// The same over images of one row.
    fn over_rows(&self) -> PoolOptions<2> {
        PoolOptions {
            kernel: [1, self.kernel[0]],
            stride: [1, self.stride[0]],
            padding: [0, self.padding[0]],
            dilation: [1, self.dilation[0]],
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
        }
    }
}

impl Tensor {
    /// The geometry of a pooling; `None`, with the mistake kept, if it doesn't fit.
    #[track_caller]
    fn pool(&self, operation: &str, options: &PoolOptions<2>) -> Option<Pool> {
        if !self.is_float(operation) {
            return None;
        }
        let Ok(input) = <[usize; 4]>::try_from(self.shape()) else {
            self.refuse(operation, "takes images [batch, channels, h, w]");
            return None;
        };
        let PoolOptions { kernel, stride, padding, dilation, ceil_mode, .. } = *options;
        match Pool::new(input, kernel, stride, padding, dilation, ceil_mode) {
            Ok(pool) => Some(pool),
            Err(reason) => {
                self.refuse(operation, reason);
                None
            }
        }
    }

    /// Signals as images of one row; `None`, with the mistake kept, if they aren't signals.
    #[track_caller]
    fn rows(&self, operation: &str) -> Option<Tensor> {
        if self.shape().len() != 3 {
            self.refuse(operation, "takes signals [batch, channels, length]");
            return None;
        }
        Some(self.unsqueeze(2))
    }

    /// The largest element of each window of signals.
    #[track_caller]
    pub fn max_pool1d(&self, options: &PoolOptions<1>) -> Tensor {
        match self.rows("max_pool1d") {
            Some(x) => x.max_pool2d(&options.over_rows()).squeeze(2),
            None => self.clone(),
        }
    }

    /// The largest element of each window of images; of equal ones the first gets the gradient.
    #[track_caller]
    pub fn max_pool2d(&self, options: &PoolOptions<2>) -> Tensor {
        match self.pool("max_pool2d", options) {
            Some(pool) => self.record(MaxPool2d(pool), &[self]),
            None => self.clone(),
        }
    }

    /// The largest element of each window of images, and where in its plane it is (`row * width + column`), as
    /// `U32`.
    #[track_caller]
    pub fn max_pool2d_with_indices(&self, options: &PoolOptions<2>) -> (Tensor, Tensor) {
        match self.pool("max_pool2d", options) {
            Some(pool) => {
                (self.record(MaxPool2d(pool), &[self]), self.record(MaxPool2dIndex(pool), &[self]))
            }
            None => (self.clone(), self.clone()),
        }
    }

    /// The mean of each window of signals.
    #[track_caller]
    pub fn avg_pool1d(&self, options: &PoolOptions<1>) -> Tensor {
        match self.rows("avg_pool1d") {
            Some(x) => x.avg_pool2d(&options.over_rows()).squeeze(2),
            None => self.clone(),
        }
    }

    /// The mean of each window of images.
    #[track_caller]
    pub fn avg_pool2d(&self, options: &PoolOptions<2>) -> Tensor {
        if options.dilation != [1, 1] {
            return self
                .refuse("avg_pool2d", format!("takes dilation 1, not {:?}", options.dilation));
        }
        let Some(pool) = self.pool("avg_pool2d", options) else {
            return self.clone();
        };
        let sums = self.record(SumPool2d(pool), &[self]);
        let whole = options.padding == [0, 0] || options.count_include_pad;
        if whole && !options.ceil_mode {
            return sums * (1.0 / (pool.kernel[0] * pool.kernel[1]) as f64);
        }
        // What counts of each window, rows times columns.
        let counted = |axis: usize| {
            let (n, pad) = (pool.input[axis + 2] as f64, pool.padding[axis] as f64);
            let place = self.iota(pool.output[axis]).to(DType::F32);
            let start = place * pool.stride[axis] as f64 - pad;
            let end = (&start + pool.kernel[axis] as f64).clamp_max(n + pad);
            match options.count_include_pad {
                true => end - start,
                false => end.clamp_max(n) - start.clamp_min(0.0),
            }
        };
        sums / (counted(0).unsqueeze(1) * counted(1))
    }

    /// The `p`-norm of each window of signals.
    #[track_caller]
    pub fn lp_pool1d(&self, p: f64, options: &PoolOptions<1>) -> Tensor {
        match self.rows("lp_pool1d") {
            Some(x) => x.lp_pool2d(p, &options.over_rows()).squeeze(2),
            None => self.clone(),
        }
    }

    /// The `p`-norm of each window of images: `(sum |x|^p)^(1/p)`. The slope at zero is zero.
    #[track_caller]
    pub fn lp_pool2d(&self, p: f64, options: &PoolOptions<2>) -> Tensor {
        if p.is_nan() || p <= 0.0 || p.is_infinite() {
            return self.refuse("lp_pool2d", format!("there is no {p}-norm of a window"));
        }
        match self.pool("lp_pool2d", options) {
            Some(pool) => {
                let powers = self.abs().powf(p);
                powers.record(SumPool2d(pool), &[&powers]).root(p)
            }
            None => self.clone(),
        }
    }

    /// The mean of each of `output` equal parts of signals; where they aren't equal, parts overlap.
    #[track_caller]
    pub fn adaptive_avg_pool1d(&self, output: [usize; 1]) -> Tensor {
        match self.rows("adaptive_avg_pool1d") {
            Some(x) => x.adaptive_avg_pool2d([1, output[0]]).squeeze(2),
            None => self.clone(),
        }
    }

    /// The mean of each of `output` equal parts of images; where they aren't equal, parts overlap. `[1, 1]` is
    /// global pooling.
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Tensor {
        let shape = self.shape();
        // Both axes at once: sums of sums would be two kernels.
        if output == [1, 1] && shape.len() == 4 && shape[2] * shape[3] > 0 {
            return self.mean(&[2, 3]).reshape(&[shape[0], shape[1], 1, 1]);
        }
        self.adaptive("adaptive_avg_pool2d", output, 0.0, |parts, counts, axis| {
            parts.sum(&[axis]) / counts
        })
    }

    /// The largest element of each of `output` equal parts of signals; where they aren't equal, parts overlap.
    #[track_caller]
    pub fn adaptive_max_pool1d(&self, output: [usize; 1]) -> Tensor {
        match self.rows("adaptive_max_pool1d") {
            Some(x) => x.adaptive_max_pool2d([1, output[0]]).squeeze(2),
            None => self.clone(),
        }
    }

    /// The largest element of each of `output` equal parts of images; where they aren't equal, parts overlap.
    #[track_caller]
    pub fn adaptive_max_pool2d(&self, output: [usize; 2]) -> Tensor {
        let nothing = f64::NEG_INFINITY;
        self.adaptive("adaptive_max_pool2d", output, nothing, |parts, _, axis| parts.amax(&[axis]))
    }

    /// Cuts both axes into parts, one after the other, and reduces each part: `reduce(parts, counts, axis)` drops
    /// the axis along which the elements of a part lie, and isn't changed by elements that are `nothing`.
    #[track_caller]
    fn adaptive(
        &self,
        operation: &str,
        output: [usize; 2],
        nothing: f64,
        reduce: impl Fn(&Tensor, &Tensor, usize) -> Tensor,
    ) -> Tensor {
        let shape = self.shape();
        if !self.is_float(operation) {
            return self.clone();
        }
        if shape.len() != 4 || output.contains(&0) || shape[2] * shape[3] == 0 {
            return self.refuse(operation, format!("can't make {output:?} of it"));
        }
        let mut x = self.clone();
        for (axis, parts) in [(2, output[0]), (3, output[1])] {
            let (shape, n) = (x.shape(), x.shape()[axis]);
            if n % parts == 0 {
                let mut cut = shape.clone();
                cut[axis] = parts;
                cut.insert(axis + 1, n / parts);
                let counts = self.graph().full(&[], DType::F32, (n / parts) as f64);
                x = reduce(&x.reshape(&cut), &counts, axis + 1);
                continue;
            }
            // Part i begins at floor(i n / parts) and ends before ceil((i + 1) n / parts).
            let most = n.div_ceil(parts) + 1;
            let part = x.iota(parts);
            let start = (&part * n as f64) / part.full_like(parts as f64);
            let end = (&part * n as f64 + (n + parts - 1) as f64) / part.full_like(parts as f64);
            let place = start.unsqueeze(1) + x.iota(most);
            let inside = place.less(&end.unsqueeze(1));
            let last = place.full_like((n - 1) as f64);
            let taken = x.index_select(axis, &place.minimum(&last).flatten(0));
            let mut cut = shape.clone();
            cut[axis] = parts;
            cut.insert(axis + 1, most);
            let mut mask = vec![1; cut.len()];
            (mask[axis], mask[axis + 1]) = (parts, most);
            let filled = taken.reshape(&cut).masked_fill(&inside.reshape(&mask).not(), nothing);
            let mut line = vec![1; shape.len()];
            line[axis] = parts;
            let counts = (end - start).to(DType::F32).reshape(&line);
            x = reduce(&filled, &counts, axis + 1);
        }
        x
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let images = || distinct(&[2, 3, 7, 6]);
    vec![
        case!("max_pool1d", [distinct(&[2, 3, 11])], |_, x| {
            x[0].max_pool1d(&PoolOptions { stride: [2], padding: [1], ..PoolOptions::new([3]) })
        }),
        case!("max_pool2d", [images()], |_, x| {
            let plain = PoolOptions { stride: [2, 1], padding: [1, 0], ..PoolOptions::new([3, 2]) };
            let wide = PoolOptions { dilation: [2, 2], ceil_mode: true, ..plain };
            vec![x[0].max_pool2d(&plain), x[0].max_pool2d(&wide)]
        }),
        case!("max_pool2d_with_indices", [images()], |_, x| {
            x[0].max_pool2d_with_indices(&PoolOptions::new([2, 3])).0
        }),
        case!("avg_pool1d", [wide(&[2, 3, 11])], |_, x| {
            x[0].avg_pool1d(&PoolOptions { stride: [2], padding: [1], ..PoolOptions::new([3]) })
        }),
        case!("avg_pool2d", [images()], |_, x| {
            let plain = PoolOptions { stride: [2, 1], padding: [1, 0], ..PoolOptions::new([3, 2]) };
            let ceil = PoolOptions { ceil_mode: true, stride: [2, 2], ..plain };
            let without = PoolOptions { count_include_pad: false, ..ceil };
            vec![x[0].avg_pool2d(&plain), x[0].avg_pool2d(&ceil), x[0].avg_pool2d(&without)]
        }),
        case!("lp_pool1d", [positive(&[2, 3, 11])], |_, x| x[0]
            .lp_pool1d(2.0, &PoolOptions::new([3]))),
        case!("lp_pool2d", [positive(&[2, 3, 7, 6])], |_, x| {
            x[0].lp_pool2d(2.5, &PoolOptions::new([2, 3]))
        }),
        case!("adaptive_avg_pool1d", [wide(&[2, 3, 11])], |_, x| x[0].adaptive_avg_pool1d([4])),
        case!("adaptive_avg_pool2d", [images()], |_, x| {
            vec![x[0].adaptive_avg_pool2d([3, 4]), x[0].adaptive_avg_pool2d([1, 1])]
        }),
        case!("adaptive_max_pool1d", [distinct(&[2, 3, 11])], |_, x| {
            x[0].adaptive_max_pool1d([4])
        }),
        case!("adaptive_max_pool2d", [images()], |_, x| {
            vec![x[0].adaptive_max_pool2d([7, 2]), x[0].adaptive_max_pool2d([2, 9])]
        }),
    ]
}
