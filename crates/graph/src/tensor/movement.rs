//! Movement: other ways to look at the same elements. None of it costs a kernel unless the result is read
//! in a way that strides can't express.

use super::{Axis, Tensor};
use crate::catalog::{Case, distinct, index, wide};
use crate::ops::{Expand, Pack, Pad, Permute, Reshape, Slice};
use crate::{Graph, Type, case};
use shadegrad_device::{DType, numel};

/// What lies outside of a tensor that is padded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// A number.
    Constant(f64),
    /// The tensor mirrored at its outermost elements, which aren't repeated.
    Reflect,
    /// The outermost elements.
    Replicate,
    /// The tensor over again.
    Circular,
}

/// The largest extent whose coordinates fit the 32 bits that shaders compute in.
const EXTENT: usize = i32::MAX as usize;

impl Tensor {
    /// The same elements in another shape, row-major.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Tensor {
        if self.shape() == shape {
            return self.clone();
        }
        self.record(Reshape(shape.to_vec()), &[self])
    }

    /// All axes from one on joined: `[a, b, c] -> [a, b c]` from axis 1.
    #[track_caller]
    pub fn flatten(&self, start: usize) -> Tensor {
        let shape = self.shape();
        let start = start.min(shape.len());
        self.reshape(&[&shape[..start], &[numel(&shape[start..])]].concat())
    }

    /// A new axis of extent one, at this place in the result.
    #[track_caller]
    pub fn unsqueeze(&self, axis: impl Axis) -> Tensor {
        let mut shape = self.shape();
        let (number, rank) = (axis.number(), shape.len() as isize + 1);
        let at = if number < 0 { number + rank } else { number };
        if at < 0 || at >= rank {
            return self.refuse("unsqueeze", format!("no place for an axis {number}"));
        }
        shape.insert(at as usize, 1);
        self.reshape(&shape)
    }

    /// Without an axis, if its extent is one; else nothing changes.
    #[track_caller]
    pub fn squeeze(&self, axis: impl Axis) -> Tensor {
        let mut shape = self.shape();
        match self.axis("squeeze", axis) {
            Some(axis) if shape[axis] == 1 => {
                shape.remove(axis);
                self.reshape(&shape)
            }
            _ => self.clone(),
        }
    }

    /// The axes that a reduction over `axes` has dropped, put back with extent one.
    #[track_caller]
    pub fn keepdim(&self, axes: &[impl Axis]) -> Tensor {
        let mut shape = self.shape();
        let rank = (shape.len() + axes.len()) as isize;
        let mut found: Vec<isize> = axes
            .iter()
            .map(|axis| axis.number() + if axis.number() < 0 { rank } else { 0 })
            .collect();
        found.sort_unstable();
        let twice = found.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || found.iter().any(|&axis| axis < 0 || axis >= rank) {
            return self.refuse("keepdim", format!("{found:?} are not axes of rank {rank}"));
        }
        found.iter().for_each(|&axis| shape.insert(axis as usize, 1));
        self.reshape(&shape)
    }

    /// Axes in another order: axis `i` of the result is axis `order[i]`.
    #[track_caller]
    pub fn permute(&self, order: &[impl Axis]) -> Tensor {
        let mut axes = Vec::with_capacity(order.len());
        for &axis in order {
            let number = axis.number();
            let rank = self.shape().len() as isize;
            let at = if number < 0 { number + rank } else { number };
            // An axis that isn't there is refused with all the others.
            axes.push(usize::try_from(at).unwrap_or(usize::MAX));
        }
        self.record(Permute(axes), &[self])
    }

    /// Two axes exchanged.
    #[track_caller]
    pub fn transpose(&self, a: impl Axis, b: impl Axis) -> Tensor {
        let (Some(a), Some(b)) = (self.axis("transpose", a), self.axis("transpose", b)) else {
            return self.clone();
        };
        let mut order: Vec<usize> = (0..self.shape().len()).collect();
        order.swap(a, b);
        self.permute(&order)
    }

    /// Axes of extent one repeated, and new leading axes, to a shape that this one broadcasts to.
    #[track_caller]
    pub fn expand(&self, shape: &[usize]) -> Tensor {
        let own = self.shape();
        if own == shape {
            return self.clone();
        }
        let missing = shape.len().saturating_sub(own.len());
        let aligned = self.reshape(&[vec![1; missing], own].concat());
        aligned.record(Expand(shape.to_vec()), &[&aligned])
    }

    /// `len` coordinates of an axis from `start` on.
    #[track_caller]
    pub fn narrow(&self, axis: impl Axis, start: usize, len: usize) -> Tensor {
        self.slice(axis, start, 1, len)
    }

    /// `len` coordinates of an axis from `start` on, `step` apart; a negative step walks back.
    #[track_caller]
    pub fn slice(&self, axis: impl Axis, start: usize, step: isize, len: usize) -> Tensor {
        match self.axis("slice", axis) {
            Some(axis) => self.record(Slice { axis, start, step, len }, &[self]),
            None => self.clone(),
        }
    }

    /// An axis backwards.
    #[track_caller]
    pub fn flip(&self, axis: impl Axis) -> Tensor {
        let Some(axis) = self.axis("flip", axis) else {
            return self.clone();
        };
        match self.shape()[axis] {
            0 => self.clone(),
            len => self.slice(axis, len - 1, -1, len),
        }
    }

    /// An axis moved on by a number of places; what leaves at the end comes in at the beginning.
    #[track_caller]
    pub fn roll(&self, shift: isize, axis: impl Axis) -> Tensor {
        let Some(axis) = self.axis("roll", axis) else {
            return self.clone();
        };
        let len = self.shape()[axis];
        let shift = if len == 0 { 0 } else { shift.rem_euclid(len as isize) as usize };
        if shift == 0 {
            return self.clone();
        }
        let (head, tail) =
            (self.narrow(axis, 0, len - shift), self.narrow(axis, len - shift, shift));
        self.graph().concat(&[&tail, &head], axis)
    }

    /// Zeros before and after along an axis.
    #[track_caller]
    pub fn pad(&self, axis: impl Axis, before: usize, after: usize) -> Tensor {
        match self.axis("pad", axis) {
            Some(_) if before == 0 && after == 0 => self.clone(),
            Some(axis) => self.record(Pad { axis, before, after }, &[self]),
            None => self.clone(),
        }
    }

    /// Elements before and after, one pair for each axis from the last one on; a negative number takes
    /// elements away.
    #[track_caller]
    pub fn pad_with(&self, pairs: &[(isize, isize)], mode: PadMode) -> Tensor {
        let rank = self.shape().len();
        if pairs.len() > rank {
            return self.refuse("pad", format!("{} pairs for rank {rank}", pairs.len()));
        }
        let mut padded = self.clone();
        for (number, &(before, after)) in pairs.iter().enumerate() {
            padded = padded.pad_axis(rank - 1 - number, before, after, mode);
        }
        padded
    }

    #[track_caller]
    fn pad_axis(&self, axis: usize, before: isize, after: isize, mode: PadMode) -> Tensor {
        let crop = |side: isize| side.min(0).unsigned_abs();
        let len = self.shape()[axis];
        let Some(kept) = len.checked_sub(crop(before).saturating_add(crop(after))) else {
            let reason =
                format!("({before}, {after}) takes more than the {len} elements of axis {axis}");
            return self.refuse("pad", reason);
        };
        let inner = if kept == len { self.clone() } else { self.narrow(axis, crop(before), kept) };
        let (before, after) = (before.max(0) as usize, after.max(0) as usize);
        if before == 0 && after == 0 {
            return inner;
        }
        let most = match mode {
            PadMode::Reflect => kept.saturating_sub(1),
            PadMode::Circular => kept,
            PadMode::Replicate if kept == 0 => 0,
            _ => usize::MAX,
        };
        if before > most || after > most {
            let reason = format!("{mode:?} of axis {axis} reaches {most}, not ({before}, {after})");
            return self.refuse("pad", reason);
        }
        if kept.checked_add(before).and_then(|n| n.checked_add(after)).is_none_or(|n| n > EXTENT) {
            let reason = format!("({before}, {after}) around {kept} are more than {EXTENT}");
            return self.refuse("pad", reason);
        }
        if let PadMode::Constant(value) = mode {
            let zeros = inner.pad(axis, before, after);
            if value == 0.0 {
                return zeros;
            }
            let place = zeros.along(axis);
            let low = place.greater_equal(&place.full_like(before as f64));
            let high = place.less(&place.full_like((before + kept) as f64));
            return low.and(&high).select(&zeros, &zeros.full_like(value));
        }
        let place = inner.iota(before + kept + after).to(DType::I32) - before as f64;
        let last = kept as f64 - 1.0;
        let from = match mode {
            PadMode::Reflect => -(-place.abs() + last).abs() + last,
            PadMode::Circular => place.remainder(&place.full_like(kept as f64)),
            _ => place.clamp(0.0, last),
        };
        inner.index_select(axis, &from.to(DType::U32))
    }

    /// Parts of the given sizes, which add up to the axis.
    #[track_caller]
    pub fn split(&self, sizes: &[usize], axis: impl Axis) -> Vec<Tensor> {
        let Some(axis) = self.axis("split", axis) else {
            return vec![self.clone(); sizes.len()];
        };
        let len = self.shape()[axis];
        if sizes.iter().try_fold(0usize, |all, &n| all.checked_add(n)) != Some(len) {
            self.refuse("split", format!("{sizes:?} don't add up to the {len} of axis {axis}"));
            return vec![self.clone(); sizes.len()];
        }
        let mut start = 0;
        let part = |&size: &usize| {
            start += size;
            self.narrow(axis, start - size, size)
        };
        sizes.iter().map(part).collect()
    }

    /// A number of parts, equal but for the last, which may be smaller.
    #[track_caller]
    pub fn chunk(&self, chunks: usize, axis: impl Axis) -> Vec<Tensor> {
        let Some(axis) = self.axis("chunk", axis) else {
            return vec![self.clone(); chunks];
        };
        if chunks == 0 {
            self.refuse("chunk", "there is no way to make 0 parts");
            return vec![];
        }
        let len = self.shape()[axis];
        let size = len.div_ceil(chunks).max(1);
        let sizes: Vec<usize> =
            (0..len.div_ceil(size).max(1)).map(|i| size.min(len - i * size)).collect();
        self.split(&sizes, axis)
    }

    /// The tensor over and over, this often along each axis; more numbers than axes make new leading axes.
    #[track_caller]
    pub fn repeat(&self, repeats: &[usize]) -> Tensor {
        let own = self.shape();
        let Some(missing) = repeats.len().checked_sub(own.len()) else {
            return self.refuse("repeat", format!("{repeats:?} for {} axes", own.len()));
        };
        let own = [vec![1; missing], own].concat();
        let (mut single, mut many) = (vec![], vec![]);
        for (&times, &n) in repeats.iter().zip(&own) {
            single.extend([1, n]);
            many.extend([times, n]);
        }
        let shape: Vec<usize> = repeats.iter().zip(&own).map(|(&times, &n)| times * n).collect();
        self.reshape(&single).expand(&many).reshape(&shape)
    }

    /// The tensor over and over, this often along each of its last axes.
    #[track_caller]
    pub fn tile(&self, dims: &[usize]) -> Tensor {
        let missing = self.shape().len().saturating_sub(dims.len());
        self.repeat(&[&vec![1; missing], dims].concat())
    }

    /// The lower triangle of the last two axes, zeros elsewhere; `diagonal` moves its edge to the right.
    #[track_caller]
    pub fn tril(&self, diagonal: isize) -> Tensor {
        self.triangle("tril", diagonal, false)
    }

    /// The upper triangle of the last two axes, zeros elsewhere; `diagonal` moves its edge to the right.
    #[track_caller]
    pub fn triu(&self, diagonal: isize) -> Tensor {
        self.triangle("triu", diagonal, true)
    }

    #[track_caller]
    fn triangle(&self, name: &str, diagonal: isize, upper: bool) -> Tensor {
        let rank = self.shape().len();
        if rank < 2 {
            return self.refuse(name, "takes matrices");
        }
        // Beyond the matrix, one diagonal is like another.
        let most = self.shape()[rank - 2..].iter().sum::<usize>() as isize;
        let row = self.along(rank - 2).to(DType::I32) + diagonal.clamp(-most, most) as f64;
        let column = self.along(rank - 1).to(DType::I32);
        let kept = if upper { column.greater_equal(&row) } else { column.less_equal(&row) };
        kept.select(self, &self.full_like(0.0))
    }

    /// The diagonal of the last two axes, or one right of it (left, if negative).
    #[track_caller]
    pub fn diagonal(&self, offset: isize) -> Tensor {
        let shape = self.shape();
        let Some((&[rows, cols], batch)) = shape.split_last_chunk::<2>().map(|(b, m)| (m, b))
        else {
            return self.refuse("diagonal", "takes matrices");
        };
        let (down, right) = (offset.min(0).unsigned_abs(), offset.max(0) as usize);
        let len = rows.saturating_sub(down).min(cols.saturating_sub(right));
        let flat = self.reshape(&[batch, &[rows * cols]].concat());
        flat.slice(batch.len(), down * cols + right, cols as isize + 1, len)
    }

    /// A matrix with a vector on its diagonal (moved right by `offset`), or the diagonal of a matrix.
    #[track_caller]
    pub fn diag(&self, offset: isize) -> Tensor {
        let shape = self.shape();
        let &[len] = shape.as_slice() else {
            return self.diagonal(offset);
        };
        let size = len + offset.unsigned_abs();
        let padded = self.pad(0, 0, size - len);
        let line = if offset < 0 { padded.unsqueeze(0) } else { padded.unsqueeze(1) };
        let square = line.expand(&[size, size]);
        let column = square.along(1).to(DType::I32) - offset as f64;
        square.along(0).to(DType::I32).equal(&column).select(&square, &square.full_like(0.0))
    }

    /// Blocks of channels spread over pixels: `[n, c r², h, w] -> [n, c, h r, w r]` (Shi et al., arXiv
    /// 1609.05158).
    #[track_caller]
    pub fn pixel_shuffle(&self, upscale: usize) -> Tensor {
        let (shape, r) = (self.shape(), upscale);
        match shape.as_slice() {
            &[n, c, h, w] if r > 0 && c % (r * r) == 0 => {
                let c = c / (r * r);
                let split = self.reshape(&[n, c, r, r, h, w]).permute(&[0, 1, 4, 2, 5, 3]);
                split.reshape(&[n, c, h * r, w * r])
            }
            _ => self.refuse("pixel_shuffle", format!("takes [n, c {r}², h, w]")),
        }
    }

    /// The inverse of [`Tensor::pixel_shuffle`]: `[n, c, h r, w r] -> [n, c r², h, w]`.
    #[track_caller]
    pub fn pixel_unshuffle(&self, downscale: usize) -> Tensor {
        let (shape, r) = (self.shape(), downscale);
        match shape.as_slice() {
            &[n, c, h, w] if r > 0 && h % r == 0 && w % r == 0 => {
                let (h, w) = (h / r, w / r);
                let split = self.reshape(&[n, c, h, r, w, r]).permute(&[0, 1, 3, 5, 2, 4]);
                split.reshape(&[n, c * r * r, h, w])
            }
            _ => self.refuse("pixel_unshuffle", format!("takes [n, c, h {r}, w {r}]")),
        }
    }
}

impl Graph {
    /// Tensors laid one after the other in memory, as one axis.
    #[track_caller]
    pub fn pack(&self, tensors: &[&Tensor]) -> Tensor {
        match tensors {
            [] => self.full(&[0], DType::F32, 0.0),
            [first, ..] => first.record(Pack, tensors),
        }
    }

    /// Tensors one after the other along an axis; other extents and element types are equal.
    #[track_caller]
    pub fn concat(&self, tensors: &[&Tensor], axis: impl Axis) -> Tensor {
        let types: Vec<Type> = tensors.iter().map(|t| t.ty()).collect();
        let Some(first) = tensors.first() else {
            self.fail("concat", &[], "takes at least one tensor".to_string());
            return self.full(&[], DType::F32, 0.0);
        };
        let Some(axis) = first.axis("concat", axis) else {
            return (*first).clone();
        };
        let mut expected = types[0].clone();
        let alike = types.iter().all(|ty| {
            let same = |at: usize| at == axis || ty.shape[at] == expected.shape[at];
            ty.dtype == expected.dtype
                && ty.shape.len() == expected.shape.len()
                && (0..ty.shape.len()).all(same)
        });
        if !alike {
            let reason = format!("takes tensors that are equal but for axis {axis}");
            self.fail("concat", &types, reason);
            return (*first).clone();
        }
        expected.shape[axis] = types.iter().map(|ty| ty.shape[axis]).sum();
        let mut start = 0;
        let mut result: Option<Tensor> = None;
        for (tensor, ty) in tensors.iter().zip(&types) {
            let own = ty.shape[axis];
            let padded = tensor.pad(axis, start, expected.shape[axis] - start - own);
            result = Some(match result {
                None => padded,
                Some(before) => {
                    // A choice and not a sum, so that NaN and infinity stay where they are.
                    let place = padded.along(axis);
                    place.less(&place.full_like(start as f64)).select(&before, &padded)
                }
            });
            start += own;
        }
        result.unwrap_or_else(|| (*first).clone())
    }

    /// Tensors of one shape along a new axis, at this place in the result.
    #[track_caller]
    pub fn stack(&self, tensors: &[&Tensor], axis: impl Axis) -> Tensor {
        let Some(first) = tensors.first() else {
            self.fail("stack", &[], "takes at least one tensor".to_string());
            return self.full(&[], DType::F32, 0.0);
        };
        if tensors.iter().any(|t| t.ty() != first.ty()) {
            let types: Vec<Type> = tensors.iter().map(|t| t.ty()).collect();
            self.fail("stack", &types, "takes tensors of one shape and type".to_string());
            return (*first).clone();
        }
        let parts: Vec<Tensor> = tensors.iter().map(|t| t.unsqueeze(axis)).collect();
        self.concat(&parts.iter().collect::<Vec<_>>(), axis)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("reshape", [wide(&[2, 3, 4])], |_, x| x[0].reshape(&[4, 6])),
        case!("flatten", [wide(&[2, 3, 4])], |_, x| x[0].flatten(1)),
        case!("unsqueeze", [wide(&[3])], |_, x| vec![x[0].unsqueeze(0), x[0].unsqueeze(-1)]),
        case!("squeeze", [wide(&[3, 1, 2])], |_, x| vec![x[0].squeeze(1), x[0].squeeze(0)]),
        case!("keepdim", [wide(&[3, 4, 2])], |_, x| &x[0] - x[0].mean(&[0, -1]).keepdim(&[0, -1])),
        case!("permute", [wide(&[2, 3, 1, 5])], |_, x| x[0].permute(&[3, 0, 2, 1])),
        case!("transpose", [wide(&[2, 3, 65])], |_, x| x[0].transpose(0, -1)),
        case!("expand", [wide(&[3, 1])], |_, x| x[0].expand(&[2, 3, 5])),
        case!("narrow", [wide(&[4, 7])], |_, x| x[0].narrow(1, 2, 3)),
        case!("slice", [wide(&[4, 7])], |_, x| x[0].slice(1, 6, -3, 3).slice(0, 1, 2, 2)),
        case!("flip", [wide(&[3, 65])], |_, x| x[0].flip(1)),
        case!("roll", [wide(&[3, 7])], |_, x| vec![x[0].roll(2, 1), x[0].exp().roll(-1, 0)]),
        case!("pad", [wide(&[3, 4])], |_, x| x[0].pad(0, 1, 2).exp()),
        case!("pad_with", [wide(&[2, 5])], |_, x| vec![
            x[0].pad_with(&[(2, -1), (0, 1)], PadMode::Constant(1.5)),
            x[0].pad_with(&[(3, 4), (1, 0)], PadMode::Reflect),
            x[0].exp().pad_with(&[(0, 3), (2, 2)], PadMode::Replicate),
            x[0].pad_with(&[(5, 4), (1, 2)], PadMode::Circular),
        ]),
        case!("split", [wide(&[4, 7])], |_, x| x[0].split(&[2, 0, 5], 1)),
        case!("chunk", [wide(&[7, 2])], |_, x| x[0].chunk(3, 0)),
        case!("repeat", [wide(&[2, 3])], |_, x| x[0].repeat(&[2, 1, 3])),
        case!("tile", [wide(&[2, 3])], |_, x| vec![x[0].tile(&[2]), x[0].tile(&[3, 1, 2])]),
        case!("tril", [wide(&[2, 4, 5])], |_, x| vec![x[0].tril(0), x[0].tril(-2), x[0].tril(1)]),
        case!("triu", [wide(&[2, 4, 5])], |_, x| vec![x[0].triu(0), x[0].triu(-2), x[0].triu(1)]),
        case!("diagonal", [wide(&[2, 4, 5])], |_, x| {
            vec![x[0].diagonal(0), x[0].exp().diagonal(2), x[0].diagonal(-1)]
        }),
        case!("diag", [wide(&[3]), wide(&[4, 4])], |_, x| {
            vec![x[0].diag(0), x[0].diag(2), x[0].diag(-1), x[1].diag(1)]
        }),
        case!("pixel_shuffle", [wide(&[2, 8, 3, 2])], |_, x| x[0].pixel_shuffle(2)),
        case!("pixel_unshuffle", [wide(&[2, 2, 4, 6])], |_, x| x[0].pixel_unshuffle(2)),
        case!("pack", [wide(&[2, 3]), wide(&[5])], |g, x| g.pack(&[&x[0].exp(), &x[1], &x[0]])),
        case!("concat", [wide(&[3, 2]), wide(&[3, 1])], |g, x| {
            g.concat(&[&x[0], &x[1].exp(), &x[0]], -1)
        }),
        case!("stack", [wide(&[3, 2]), distinct(&[3, 2])], |g, x| {
            vec![g.stack(&[&x[0], &x[1].exp()], 0), g.stack(&[&x[0], &x[1]], -1)]
        }),
        case!("concat", [index(&[5], 9), index(&[2], 9)], |g, x| g.concat(&[&x[0], &x[1]], 0))
            .flat("integers have no slope"),
    ]
}
