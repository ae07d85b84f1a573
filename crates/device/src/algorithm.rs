//! How a contraction is computed on an adapter: which of several shaders with one meaning.

use crate::{Contraction, DeviceClass, Limits};

/// How a contraction is computed on an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Each invocation holds a small tile by itself, straight from memory.
    Direct,
    /// The invocations of a subgroup load for each other.
    Subgroups,
    /// The invocations of a workgroup load for each other, through its memory.
    Tiled,
    /// Subgroups multiply cooperative matrices of halves, less precisely.
    Cooperative,
}

impl Algorithm {
    /// What computes a contraction under some limits: the algorithm that is forced if the device can do it, else the one
    /// that pays. Cooperative matrices do from 64 rows and columns, sums of 32 and 2^24 operations on, where a precision below
    /// the highest was asked for.
    pub fn of(contraction: &Contraction, limits: &Limits, forced: Option<Algorithm>) -> Algorithm {
        if let Some(forced) = forced.filter(|forced| forced.fits(limits)) {
            return forced;
        }
        let [_, m, n, k] = contraction.matrix();
        // Software adapters load for one invocation after the other and pay for every barrier.
        let software = limits.class == DeviceClass::Software;
        let pays = |algorithm: &Algorithm| match algorithm {
            Algorithm::Cooperative => {
                m.min(n) >= 64 && k >= 32 && contraction.flops() >= COOPERATIVE
            }
            Algorithm::Tiled => !software && m.min(n) > 16 && k >= 16,
            Algorithm::Subgroups => software,
            Algorithm::Direct => true,
        };
        [Algorithm::Cooperative, Algorithm::Tiled, Algorithm::Subgroups]
            .into_iter()
            .find(|algorithm| algorithm.fits(limits) && pays(algorithm))
            .unwrap_or(Algorithm::Direct)
    }

    /// Whether a device can do it.
    fn fits(self, limits: &Limits) -> bool {
        let lanes = limits.subgroup;
        match self {
            Algorithm::Direct => true,
            Algorithm::Subgroups => {
                limits.invocations >= 64
                    && lanes > 0
                    && 64_usize.is_multiple_of(lanes)
                    && lanes.is_multiple_of(8)
            }
            Algorithm::Tiled => limits.invocations >= 256 && limits.workgroup_bytes >= 16 * 65 * 8,
            Algorithm::Cooperative => CooperativeTile::SMALL.fits(limits),
        }
    }
}

/// Multiplications and additions from which on cooperative matrices pay.
const COOPERATIVE: u64 = 1 << 24;

/// What a workgroup computes of a product in cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CooperativeTile {
    /// Rows of results.
    pub(crate) rows: usize,
    /// Columns of results.
    pub(crate) cols: usize,
    /// Subgroups below each other, and beside each other, which share the results evenly.
    pub(crate) subgroups: [usize; 2],
}

impl CooperativeTile {
    /// Steps of the sum that lie in workgroup memory at once.
    pub(crate) const STEPS: usize = 32;
    /// Halves behind each line in workgroup memory, so that lines begin in different banks: 16 bytes, what loads of matrices
    /// have to be aligned to.
    pub(crate) const PADDING: usize = 8;
    /// What a device has to have the memory for: 29 KB with two halves, 15 KB with one.
    pub(crate) const SMALL: CooperativeTile =
        CooperativeTile { rows: 64, cols: 64, subgroups: [2, 2] };
    /// What loads less for each result.
    #[cfg(feature = "wgpu")]
    pub(crate) const LARGE: CooperativeTile =
        CooperativeTile { rows: 128, cols: 128, subgroups: [2, 4] };

    /// Whether a device that computes in cooperative matrices has the invocations and the workgroup memory: for both sources
    /// in halves, and for the sums of a matrix of each subgroup, once for each half of an operand.
    pub(crate) fn fits(&self, limits: &Limits) -> bool {
        let (Some(matrices), Some(halves)) = (limits.matrices, limits.precision.halves()) else {
            return false;
        };
        let subgroups = self.subgroups.iter().product::<usize>();
        let sources = (self.rows + self.cols) * (Self::STEPS + Self::PADDING) * 2;
        let sums = subgroups * matrices.side * matrices.side * 4;
        // Tiles are shared evenly, and sums of rows by all invocations fit where those of matrices do.
        (8..=64).contains(&matrices.lanes)
            && matrices.lanes.is_power_of_two()
            && limits.workgroup_bytes >= halves * (sources + sums)
            && limits.invocations >= subgroups * matrices.lanes
    }
}
