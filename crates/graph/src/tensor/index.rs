//! Indexing by tensors. Indices are `U32`; one outside of its axis gives NaN when reading (zero for
//! integers), and goes nowhere when adding: it is a value, so it can't be refused when recording.

use super::{Axis, Tensor};
use crate::case;
use crate::catalog::{Case, index, wide};
use crate::ops::{Gather, ScatterAdd};
use shadegrad_device::DType;

impl Tensor {
    /// `out[i][j][k] = self[i][index[i][j][k]][k]`, along the middle axis for example. Indices are no larger
    /// than this tensor but along the axis.
    #[track_caller]
    pub fn gather(&self, axis: impl Axis, index: &Tensor) -> Tensor {
        match self.axis("gather", axis) {
            Some(axis) => self.record(Gather { axis }, &[self, index]),
            None => self.clone(),
        }
    }

    /// The coordinates of an axis that a list of indices names.
    #[track_caller]
    pub fn index_select(&self, axis: impl Axis, index: &Tensor) -> Tensor {
        let (Some(axis), &[count]) = (self.axis("index_select", axis), index.shape().as_slice())
        else {
            return self.refuse_with("index_select", &[index], "takes a list of indices");
        };
        let mut shape = self.shape();
        shape[axis] = count;
        let mut line = vec![1; shape.len()];
        line[axis] = count;
        self.gather(axis, &index.reshape(&line).expand(&shape))
    }

    /// This tensor with every element of `source` added where its index says along an axis: `out[i][index[i][j]]
    /// += source[i][j]`. Indices are no larger than `source`, nor than this tensor but along the axis.
    #[track_caller]
    pub fn scatter_add(&self, axis: impl Axis, index: &Tensor, source: &Tensor) -> Tensor {
        match self.scattered("scatter_add", axis, index, source) {
            Some(sums) => self + sums,
            None => self.clone(),
        }
    }

    /// This tensor with the elements of `source` put where their indices say along an axis. Indices of one
    /// line are all different; where two are equal, their elements are added.
    #[track_caller]
    pub fn scatter(&self, axis: impl Axis, index: &Tensor, source: &Tensor) -> Tensor {
        let ones = source.ones_like();
        let placed = self.scattered("scatter", axis, index, source);
        match (placed, self.scattered("scatter", axis, index, &ones)) {
            (Some(sums), Some(hits)) => hits.to(DType::Bool).select(&sums, self),
            _ => self.clone(),
        }
    }

    /// Zeros of this shape with the elements of `source` added where their indices say.
    #[track_caller]
    fn scattered(
        &self,
        operation: &str,
        axis: impl Axis,
        index: &Tensor,
        source: &Tensor,
    ) -> Option<Tensor> {
        let axis = self.axis(operation, axis)?;
        let (own, given, taken) = (self.shape(), source.shape(), index.shape());
        let fits = own.len() == taken.len()
            && given.len() == taken.len()
            && (0..own.len()).all(|a| taken[a] <= given[a] && (a == axis || taken[a] <= own[a]));
        if !fits || index.dtype() != DType::U32 {
            let reason = format!(
                "takes u32 indices no larger than the source, nor than the tensor but along axis {axis}"
            );
            self.refuse_with(operation, &[index, source], reason);
            return None;
        }
        let mut part = source.clone();
        for (a, &len) in taken.iter().enumerate() {
            part = if len < given[a] { part.narrow(a, 0, len) } else { part };
        }
        let mut sums = part.record(ScatterAdd { axis, len: own[axis] }, &[&part, index]);
        for (a, &len) in own.iter().enumerate().filter(|(a, _)| *a != axis) {
            sums = sums.pad(a, 0, len - taken[a]);
        }
        Some(sums)
    }

    /// This tensor with the slices of `source` along an axis added where a list of indices says.
    #[track_caller]
    pub fn index_add(&self, axis: impl Axis, index: &Tensor, source: &Tensor) -> Tensor {
        let Some(axis) = self.axis("index_add", axis) else {
            return self.clone();
        };
        let shape = source.shape();
        if index.shape().len() != 1 || shape.get(axis) != Some(&index.ty().numel()) {
            let reason = format!("takes one index for each slice of axis {axis}");
            return self.refuse_with("index_add", &[index, source], reason);
        }
        let mut line = vec![1; shape.len()];
        line[axis] = shape[axis];
        self.scatter_add(axis, &index.reshape(&line).expand(&shape), source)
    }

    /// The rows of this table `[rows, width]` that indices name: `[..] -> [.., width]`. The row `padding` gets
    /// no gradient.
    #[track_caller]
    pub fn embedding(&self, index: &Tensor, padding: Option<usize>) -> Tensor {
        let table = self.shape();
        let &[rows, width] = table.as_slice() else {
            return self.refuse_with("embedding", &[index], "takes a table [rows, width]");
        };
        if padding.is_some_and(|row| row >= rows) || index.dtype() != DType::U32 {
            let reason = format!("takes u32 indices and a padding row below {rows}");
            return self.refuse_with("embedding", &[index], reason);
        }
        let shape = [index.shape().as_slice(), &[width]].concat();
        let taken = self.index_select(0, &index.flatten(0)).reshape(&shape);
        match padding {
            None => taken,
            Some(row) => {
                let padded = index.equal(&index.full_like(row as f64)).unsqueeze(-1);
                padded.select(&taken.detach(), &taken)
            }
        }
    }

    /// One at each index along a new last axis, zeros elsewhere: `[..] -> [.., classes]`, `U32`. An index that
    /// is no class gives zeros.
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Tensor {
        if self.dtype() != DType::U32 {
            return self.refuse("one_hot", "takes u32 indices");
        }
        let class = self.iota(classes);
        self.unsqueeze(-1).equal(&class).to(DType::U32)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("gather", [wide(&[4, 6, 3]), index(&[2, 7, 3], 6)], |_, x| {
            vec![x[0].gather(1, &x[1]), x[0].exp().gather(-2, &x[1])]
        }),
        case!("index_select", [wide(&[4, 6]), index(&[9], 6)], |_, x| x[0].index_select(-1, &x[1])),
        case!("scatter_add", [wide(&[4, 6]), index(&[3, 8], 6), wide(&[4, 9])], |_, x| {
            x[0].scatter_add(1, &x[1], &x[2])
        }),
        case!("scatter", [wide(&[4, 6]), wide(&[3, 3])], |g, x| {
            x[0].scatter(1, &g.indices(&[3, 3], &[5, 0, 2, 1, 3, 4, 0, 1, 2]), &x[1])
        }),
        case!("index_add", [wide(&[4, 6]), index(&[5], 6), wide(&[4, 5])], |_, x| {
            x[0].index_add(1, &x[1], &x[2])
        }),
        case!("embedding", [wide(&[7, 5]), index(&[3, 4], 7)], |_, x| x[0].embedding(&x[1], None)),
        case!("one_hot", [index(&[3, 4], 7)], |_, x| x[0].one_hot(6)).flat("indices are integers"),
    ]
}
