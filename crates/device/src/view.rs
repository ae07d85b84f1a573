//! Views: which element of an operand belongs to each point of an iteration domain.
//!
//! A view is an affine map (one stride for each axis, one offset) with, for each axis, the range
//! of coordinates that exist; outside it the element reads as zero. Movement operations are
//! methods that make one view from another, so that moving data costs no kernel. A view refuses
//! what it can't express: [`View::reshape`] returns `None` and the caller stores the value first.

/// A strided, masked window on an operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The domain: its extent along each axis.
    pub shape: Vec<usize>,
    /// Elements to move for one step along each axis.
    pub strides: Vec<isize>,
    /// The element at the origin of the domain.
    pub offset: isize,
    /// For each axis the half-open range of coordinates that hold data.
    pub valid: Vec<(usize, usize)>,
}

/// Elements in a shape.
pub fn numel(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides of a shape.
pub fn contiguous_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}

impl View {
    /// The row-major view of a whole operand.
    pub fn contiguous(shape: &[usize]) -> View {
        View {
            shape: shape.to_vec(),
            strides: contiguous_strides(shape),
            offset: 0,
            valid: shape.iter().map(|&n| (0, n)).collect(),
        }
    }

    /// Whether point number `i` reads element number `i`, everywhere.
    pub fn is_contiguous(&self) -> bool {
        self.offset == 0 && !self.is_masked() && self.collapsed().is_line()
    }

    /// This view with all points outside the data. A point alone gets an axis, on which it can be.
    pub fn hidden(&self) -> View {
        let mut view = self.clone();
        if view.shape.is_empty() {
            (view.shape, view.strides, view.valid) = (vec![1], vec![0], vec![(0, 1)]);
        }
        view.valid[0] = (0, 0);
        view
    }

    /// Whether some points lie outside the data.
    pub fn is_masked(&self) -> bool {
        self.valid.iter().zip(&self.shape).any(|(&(low, high), &n)| low > 0 || high < n)
    }

    fn is_line(&self) -> bool {
        match self.shape.len() {
            0 => true,
            1 => self.shape[0] == 1 || self.strides[0] == 1,
            _ => false,
        }
    }

    /// The smallest and largest element that a point inside the data reads; `None` if no point is.
    pub fn extent(&self) -> Option<(isize, isize)> {
        let (mut low, mut high) = (self.offset, self.offset);
        for (&(first, end), &stride) in self.valid.iter().zip(&self.strides) {
            if first >= end {
                return None;
            }
            let (a, b) = (first as isize * stride, (end as isize - 1) * stride);
            low += a.min(b);
            high += a.max(b);
        }
        Some((low, high))
    }

    /// Axes in another order; `order[i]` is the old axis that becomes axis `i`.
    pub fn permute(&self, order: &[usize]) -> View {
        View {
            shape: order.iter().map(|&axis| self.shape[axis]).collect(),
            strides: order.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
            valid: order.iter().map(|&axis| self.valid[axis]).collect(),
        }
    }

    /// Axes of extent one repeated to the extents of `shape` (of the same rank).
    pub fn expand(&self, shape: &[usize]) -> View {
        let mut view = self.clone();
        for (axis, &extent) in shape.iter().enumerate() {
            if self.shape[axis] != extent {
                view.strides[axis] = 0;
                let exists = self.valid[axis].0 < self.valid[axis].1;
                view.valid[axis] = if exists { (0, extent) } else { (0, 0) };
            }
        }
        view.shape = shape.to_vec();
        view
    }

    /// Every `step`-th point from `start` along an axis, `len` of them; a negative step walks back.
    pub fn slice(&self, axis: usize, start: usize, step: isize, len: usize) -> View {
        let mut view = self.clone();
        let (low, high) = self.valid[axis];
        let exists = |i: usize| {
            let at = start as isize + i as isize * step;
            at >= low as isize && at < high as isize
        };
        let first = (0..len).find(|&i| exists(i)).unwrap_or(0);
        let last = (first..len).take_while(|&i| exists(i)).count();
        view.offset += start as isize * self.strides[axis];
        view.strides[axis] *= step;
        view.shape[axis] = len;
        view.valid[axis] = (first, first + last);
        view
    }

    /// `before` and `after` points without data added along an axis.
    pub fn pad(&self, axis: usize, before: usize, after: usize) -> View {
        let mut view = self.clone();
        view.offset -= before as isize * self.strides[axis];
        view.shape[axis] += before + after;
        let (low, high) = self.valid[axis];
        view.valid[axis] = (low + before, high + before);
        view
    }

    /// The same points in the same order under another shape, where strides can express it.
    pub fn reshape(&self, shape: &[usize]) -> Option<View> {
        debug_assert_eq!(numel(shape), numel(&self.shape), "reshape keeps the number of points");
        if shape == self.shape {
            return Some(self.clone());
        }
        if numel(shape) == 0 {
            return Some(View { offset: self.offset, ..View::contiguous(shape) });
        }
        let mut view =
            View { shape: shape.to_vec(), strides: vec![], offset: self.offset, valid: vec![] };
        let (mut old, mut new) = (0, 0);
        while old < self.shape.len() || new < shape.len() {
            // One group: the fewest old and new axes with as many points.
            let (old_start, new_start) = (old, new);
            let (mut old_points, mut new_points) = (1, 1);
            while old_points != new_points || (old == old_start && new == new_start) {
                if old < self.shape.len() && (old_points <= new_points || new == shape.len()) {
                    old_points *= self.shape[old];
                    old += 1;
                } else {
                    new_points *= shape[new];
                    new += 1;
                }
            }
            // Extents of one may belong to either neighbour; they join the group before them.
            while old < self.shape.len() && self.shape[old] == 1 {
                old += 1;
            }
            while new < shape.len() && shape[new] == 1 {
                new += 1;
            }
            self.reshape_group(old_start..old, &shape[new_start..new], &mut view)?;
        }
        Some(view)
    }

    fn reshape_group(
        &self,
        old: std::ops::Range<usize>,
        new: &[usize],
        view: &mut View,
    ) -> Option<()> {
        let wide: Vec<usize> = old.clone().filter(|&axis| self.shape[axis] != 1).collect();
        let hidden = old
            .clone()
            .any(|axis| self.shape[axis] == 1 && self.valid[axis].0 >= self.valid[axis].1);
        if hidden {
            return None;
        }
        // Data may be missing at the ends of the first axis alone, in whole steps of the first new one.
        let full = wide.iter().skip(1).all(|&axis| self.valid[axis] == (0, self.shape[axis]));
        let merged = wide
            .windows(2)
            .all(|w| self.strides[w[0]] == self.strides[w[1]] * self.shape[w[1]] as isize);
        if !full || !merged {
            return None;
        }
        let inner =
            |axes: &[usize]| axes.iter().skip_while(|&&n| n == 1).skip(1).product::<usize>();
        let extents: Vec<usize> = wide.iter().map(|&axis| self.shape[axis]).collect();
        let (low, high) = wide.first().map_or((0, 1), |&axis| self.valid[axis]);
        let ends = [low, high].map(|end| end * inner(&extents));
        if ends.iter().any(|end| !end.is_multiple_of(inner(new))) {
            return None;
        }
        let step = wide.last().map_or(0, |&axis| self.strides[axis]);
        let mut ends = Some((ends[0] / inner(new), ends[1] / inner(new)));
        for (stride, &n) in contiguous_strides(new).iter().zip(new) {
            view.strides.push(if n == 1 { 0 } else { stride * step });
            view.valid.push(if n == 1 { (0, 1) } else { ends.take().unwrap_or((0, n)) });
        }
        Some(())
    }

    /// The same map from point number to element with as few axes as possible.
    pub fn collapsed(&self) -> View {
        self.join(&collapse(&self.shape, &[self]))
    }

    /// This view over the domain that `collapse` joined: `joined` are its groups of axes.
    pub fn join(&self, joined: &[std::ops::Range<usize>]) -> View {
        let mut view = View { shape: vec![], strides: vec![], offset: self.offset, valid: vec![] };
        for axes in joined {
            let points: usize = self.shape[axes.clone()].iter().product();
            let wide = axes.clone().rfind(|&axis| self.shape[axis] != 1);
            let masked = axes.clone().find(|&axis| self.valid[axis] != (0, self.shape[axis]));
            view.shape.push(points);
            view.strides.push(wide.map_or(0, |axis| self.strides[axis]));
            view.valid.push(masked.map_or((0, points), |axis| self.valid[axis]));
        }
        view
    }
}

/// Groups of neighbouring axes of a domain that all `views` cross as one line.
pub fn collapse(shape: &[usize], views: &[&View]) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    // The last axis of the current group that is wider than one point.
    let mut wide: Option<usize> = None;
    for axis in 0..shape.len() {
        let joins = match (groups.last(), wide) {
            (None, _) => false,
            (Some(_), None) => {
                views.iter().all(|view| view.valid[axis - 1] == (0, shape[axis - 1]))
            }
            (Some(group), Some(outer)) => views.iter().all(|view| {
                let full = group.clone().all(|a| view.valid[a] == (0, shape[a]))
                    && view.valid[axis] == (0, shape[axis]);
                let line = shape[axis] == 1
                    || view.strides[outer] == view.strides[axis] * shape[axis] as isize;
                full && line
            }),
        };
        match (joins, groups.last_mut()) {
            (true, Some(group)) => group.end = axis + 1,
            _ => {
                groups.push(axis..axis + 1);
                wide = None;
            }
        }
        if shape[axis] != 1 {
            wide = Some(axis);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each point reads, by definition.
    fn elements(view: &View) -> Vec<Option<isize>> {
        (0..numel(&view.shape))
            .map(|point| {
                let mut rest = point;
                let mut at = view.offset;
                let mut exists = true;
                for axis in (0..view.shape.len()).rev() {
                    let c = rest % view.shape[axis];
                    rest /= view.shape[axis];
                    at += c as isize * view.strides[axis];
                    exists &= c >= view.valid[axis].0 && c < view.valid[axis].1;
                }
                exists.then_some(at)
            })
            .collect()
    }

    #[test]
    fn reshape_keeps_every_point_or_refuses() {
        let base = View::contiguous(&[2, 3, 4]);
        let cases = [
            base.clone(),
            base.permute(&[1, 0, 2]),
            base.permute(&[2, 1, 0]),
            base.pad(0, 1, 1),
            base.slice(2, 3, -1, 4),
            base.pad(0, 1, 0).slice(0, 0, 1, 2),
            base.slice(0, 0, 1, 1).pad(0, 0, 1),
            View::contiguous(&[6, 4]).pad(0, 4, 2),
            View::contiguous(&[2, 1, 4]).expand(&[2, 3, 4]),
        ];
        let shapes: [&[usize]; 10] = [
            &[24],
            &[6, 4],
            &[2, 12],
            &[1, 2, 3, 1, 4],
            &[3, 8],
            &[4, 3, 2],
            &[4, 12],
            &[48],
            &[6, 2, 4],
            &[5, 1, 12],
        ];
        let mut expressed = 0;
        for view in &cases {
            assert_eq!(elements(view), elements(&view.collapsed()), "{view:?}");
            for shape in shapes {
                if numel(shape) == numel(&view.shape)
                    && let Some(moved) = view.reshape(shape)
                {
                    expressed += 1;
                    assert_eq!(elements(view), elements(&moved), "{view:?} as {shape:?}");
                }
            }
        }
        // Those that cross no permuted, flipped or repeated axis, nor the edge of the data inside of an axis.
        assert_eq!(expressed, 24);
        let padded = View::contiguous(&[6, 4]).pad(0, 4, 2);
        assert_eq!(padded.reshape(&[6, 2, 4]).map(|view| view.valid[0]), Some((2, 5)));
        assert_eq!(padded.reshape(&[4, 12]), None, "the data begins inside of a line of twelve");
    }

    #[test]
    fn slices_of_padded_views_keep_the_mask() {
        let view = View::contiguous(&[4]).pad(0, 2, 3).slice(0, 1, 3, 3);
        assert_eq!(elements(&view), [None, Some(2), None]);
        let back = View::contiguous(&[4]).pad(0, 2, 0).slice(0, 5, -2, 3);
        assert_eq!(elements(&back), [Some(3), Some(1), None]);
    }
}
