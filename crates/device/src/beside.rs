//! Kernels beside each other: small ones that don't depend on each other, as one dispatch.
//!
//! A small kernel leaves most of a GPU idle, and the next one waits for its last workgroup. The gradients of a layer's input and weight need each
//! other as little as the sums of several cut contractions do, so they share a dispatch: workgroups up to some number
//! are of the first kernel, the next ones of the second, and so on. Whether kernels can do so, and whether it pays, follows from
//! them and [`Limits`], so that the null device counts the dispatches of adapters.

use crate::team::Team;
use crate::whole::SIZE;
use crate::{Algorithm, Body, DType, DeviceClass, Kernel, Limits, Tile};

/// The workgroups of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workgroups {
    /// How many there are.
    pub(crate) count: usize,
    /// Invocations of each.
    pub(crate) size: usize,
    /// Bytes of memory that these share. If there are none, larger workgroups can stand for several.
    pub(crate) bytes: usize,
}

impl Workgroups {
    /// How many of them a workgroup of another size stands for; `None` if it can't.
    pub(crate) fn within(&self, size: usize) -> Option<usize> {
        let fits = size == self.size || self.bytes == 0 && size.is_multiple_of(self.size);
        fits.then(|| size / self.size)
    }
}

impl Kernel {
    /// The workgroups of a kernel that may share a dispatch with others: of a contraction or of rows, one dispatch by itself, and so few
    /// that the largest devices of the class have room for others.
    fn small(&self, limits: &Limits) -> Option<Workgroups> {
        if self.parts(limits) > 1 {
            return None;
        }
        let workgroups = match &self.body {
            Body::Contract { contraction, splits, .. } => {
                let [groups, m, n, _] = contraction.matrix();
                let (rows, cols, size, bytes) = match Algorithm::of(contraction, limits, None) {
                    Algorithm::Tiled => {
                        let tile = Tile::of(contraction, *splits, limits, None);
                        (tile.rows, tile.cols, tile.invocations(), tile.vectors() * 16)
                    }
                    Algorithm::Direct => (32, 32, SIZE, 0),
                    Algorithm::Subgroups | Algorithm::Cooperative => return None,
                };
                let count = groups * splits * m.div_ceil(rows) * n.div_ceil(cols);
                Workgroups { count, size, bytes }
            }
            Body::Rows { .. } => Team::of(self, limits, None)?.workgroups(self)?,
            _ => return None,
        };
        (workgroups.count <= 2 * limits.class.full_groups()).then_some(workgroups)
    }
}

/// Whether kernels that don't depend on each other share a dispatch on devices of some limits.
pub fn beside(kernels: &[&Kernel], limits: &Limits) -> bool {
    if !matches!(limits.class, DeviceClass::Discrete | DeviceClass::Integrated) {
        return false;
    }
    let small: Option<Vec<Workgroups>> =
        kernels.iter().map(|kernel| kernel.small(limits)).collect();
    let Some(small) = small else { return false };
    let size = small.iter().map(|workgroups| workgroups.size).max().unwrap_or(0);
    let mut bound: Vec<usize> = kernels.iter().flat_map(|kernel| kernel.buffers()).collect();
    bound.sort_unstable();
    bound.dedup();
    small.iter().all(|workgroups| workgroups.within(size).is_some())
        && small.iter().map(|workgroups| workgroups.bytes).sum::<usize>() <= limits.workgroup_bytes
        && kernels.iter().map(|kernel| kernel.span(limits)).sum::<f64>() <= 1.0
        && bound.len() <= limits.bindings
        && stores_halves_apart(kernels)
}

/// Whether buffers that halves are stored to hold nothing else: only then any invocation can store any of them.
pub(crate) fn stores_halves_apart(kernels: &[&Kernel]) -> bool {
    let operands = || kernels.iter().flat_map(|kernel| &kernel.operands);
    let stored = |kernel: &&Kernel| {
        let stores = kernel.body.stores();
        stores.into_iter().map(|(s, _)| kernel.operands[s.operand].clone()).collect::<Vec<_>>()
    };
    let mut halves = kernels.iter().flat_map(stored).filter(|target| target.dtype == DType::F16);
    halves.all(|half| operands().filter(|o| o.buffer == half.buffer).all(|o| o.dtype == DType::F16))
}
