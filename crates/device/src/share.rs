//! Dispatches that kernels share: small ones that don't depend on each other.
//!
//! A small kernel leaves most of a GPU idle, and the next one waits for its last workgroup. The gradients of a layer's input and
//! weight need each other as little as the sums of several cut contractions do, so they share a dispatch: workgroups up to some
//! number are of the first kernel, the next ones of the second, and so on. Whether kernels can do so, and whether it pays, follows
//! from them and [`Limits`], so that the null device counts the dispatches of adapters.

use crate::algorithm::direct_tile;
use crate::team::Team;
use crate::whole::SIZE;
use crate::{Algorithm, Body, DType, Kernel, Limits, Tile};

/// The workgroups of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workgroups {
    /// How many there are.
    pub(crate) count: usize,
    /// Invocations of each.
    pub(crate) size: usize,
    /// Bytes of memory that these share. If there are none, larger workgroups can stand for several.
    pub(crate) bytes: usize,
    /// Whether invocations exchange values in subgroups, so that they have to be numbered by these.
    pub(crate) by_subgroup: bool,
}

impl Workgroups {
    /// How many of them a workgroup of another size stands for; `None` if it can't.
    pub(crate) fn within(&self, size: usize) -> Option<usize> {
        let fits = size == self.size || self.bytes == 0 && size.is_multiple_of(self.size);
        fits.then(|| size / self.size)
    }
}

impl Kernel {
    /// The workgroups of a kernel that can share a dispatch with others: of a contraction or of rows, in one dispatch by itself.
    fn shareable(&self, limits: &Limits) -> Option<Workgroups> {
        if self.parts(limits) > 1 {
            return None;
        }
        match &self.body {
            Body::Contract { contraction, splits, .. } => {
                match Algorithm::of(contraction, limits, None) {
                    Algorithm::Tiled => {
                        let tile = Tile::of(contraction, *splits, limits, None);
                        Some(tile.workgroups(contraction, *splits))
                    }
                    Algorithm::Direct => {
                        let count = contraction.tiles(direct_tile(contraction), *splits);
                        Some(Workgroups { count, size: SIZE, bytes: 0, by_subgroup: false })
                    }
                    Algorithm::Subgroups | Algorithm::Cooperative => None,
                }
            }
            Body::Rows { .. } => Team::of(self, limits, None)?.workgroups(self),
            _ => None,
        }
    }
}

/// Invocations for each workgroup that keeps the largest devices of a class busy: together, kernels of one dispatch have no
/// more. It is about half of what such devices take at once, so that none of them waits for another.
const INVOCATIONS: usize = 1024;

/// Whether kernels that don't depend on each other can share a dispatch on devices of some limits, and are so small that it pays.
pub fn can_share(kernels: &[&Kernel], limits: &Limits) -> bool {
    // Elsewhere a dispatch costs less than what a longer shader takes to compile.
    if !limits.class.is_gpu() {
        return false;
    }
    let all = kernels.iter().map(|kernel| kernel.shareable(limits));
    let Some(all) = all.collect::<Option<Vec<Workgroups>>>() else { return false };
    let sum = |of: fn(&Workgroups) -> usize| all.iter().map(of).sum::<usize>();
    let size = all.iter().map(|workgroups| workgroups.size).max().unwrap_or(0);
    all.iter().all(|workgroups| workgroups.within(size).is_some())
        && sum(|workgroups| workgroups.count * workgroups.size)
            <= limits.class.full_groups() * INVOCATIONS
        && sum(|workgroups| workgroups.bytes) <= limits.workgroup_bytes
        && kernels.iter().map(|kernel| kernel.span(limits)).sum::<f64>() <= 1.0
        && one_shader_binds(kernels, limits)
}

/// Whether one shader can bind the buffers of all kernels.
pub(crate) fn one_shader_binds(kernels: &[&Kernel], limits: &Limits) -> bool {
    let mut bound: Vec<usize> = kernels.iter().flat_map(|kernel| kernel.buffers()).collect();
    bound.sort_unstable();
    bound.dedup();
    bound.len() <= limits.bindings && stores_halves_apart(kernels)
}

/// Whether buffers that halves are stored to hold nothing else: only then any invocation can store any of them.
fn stores_halves_apart(kernels: &[&Kernel]) -> bool {
    let operands = || kernels.iter().flat_map(|kernel| &kernel.operands);
    let stored = |kernel: &&Kernel| {
        let stores = kernel.body.stores();
        stores.into_iter().map(|(s, _)| kernel.operands[s.operand].clone()).collect::<Vec<_>>()
    };
    let mut halves = kernels.iter().flat_map(stored).filter(|target| target.dtype == DType::F16);
    halves.all(|half| operands().filter(|o| o.buffer == half.buffer).all(|o| o.dtype == DType::F16))
}
