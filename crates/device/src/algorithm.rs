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
}

impl Algorithm {
    /// What computes a contraction under some limits: the algorithm that is forced if the device can do it, else the one
    /// that pays.
    pub fn of(contraction: &Contraction, limits: &Limits, forced: Option<Algorithm>) -> Algorithm {
        if let Some(forced) = forced.filter(|forced| forced.fits(limits)) {
            return forced;
        }
        let [_, m, n, k] = contraction.matrix();
        // Software adapters load for one invocation after the other and pay for every barrier.
        let software = limits.class == DeviceClass::Software;
        let pays = |algorithm: &Algorithm| match algorithm {
            Algorithm::Tiled => !software && m.min(n) > 16 && k >= 16,
            Algorithm::Subgroups => software,
            Algorithm::Direct => true,
        };
        [Algorithm::Tiled, Algorithm::Subgroups]
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
        }
    }
}
