//! How a contraction is computed on an adapter: which of several shaders with one meaning.

use crate::share::Workgroups;
use crate::whole::SIZE;
use crate::{Contraction, DeviceClass, Limits};
use std::fmt;

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
    /// that pays. Cooperative matrices do from 64 tiles of 64x64, sums of 32 and 2^27 operations on, where a precision below the
    /// highest was asked for.
    pub fn of(contraction: &Contraction, limits: &Limits, forced: Option<Algorithm>) -> Algorithm {
        if let Some(forced) = forced.filter(|forced| forced.fits(limits)) {
            return forced;
        }
        let [groups, m, n, k] = contraction.matrix();
        // Software adapters load for one invocation after the other and pay for every barrier.
        let software = limits.class == DeviceClass::Software;
        let pays = |algorithm: &Algorithm| match algorithm {
            Algorithm::Cooperative => {
                let tiles = groups * (m / 64) * (n / 64);
                tiles >= 64 && k >= 32 && contraction.flops() >= COOPERATIVE
            }
            Algorithm::Tiled => !software && (k >= 32 || m.min(n) > 16 && k >= 16),
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
            // The last tile is the smallest in all respects, and every class may fall back to it.
            Algorithm::Tiled => Tile::LEAST.fits(limits),
            Algorithm::Cooperative => CooperativeTile::SMALL.fits(limits),
        }
    }
}

/// Rows and columns of results that a workgroup of [`SIZE`] computes straight from memory, four each way in each invocation: squares, which
/// load least, unless another shape saves more than a fifth of the workgroups, as where there are few rows.
pub(crate) fn direct_tile(contraction: &Contraction) -> [usize; 2] {
    let tiles = [8, 4, 16, 2, 32, 1, 64].map(|across| [SIZE / across * 4, across * 4]);
    let count = |tile: &[usize; 2]| contraction.tiles(*tile, 1);
    let least = tiles.iter().map(count).min().unwrap_or(0);
    let [square, ..] = tiles;
    tiles.into_iter().find(|tile| count(tile) * 4 <= least * 5).unwrap_or(square)
}

/// What a workgroup computes of a contraction through its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of results.
    pub rows: usize,
    /// Columns of results.
    pub cols: usize,
    /// Steps of the sum that lie in workgroup memory at once.
    pub steps: usize,
    /// Rows and columns of results that an invocation holds, multiples of four.
    pub each: [usize; 2],
    /// Parts of the steps that as many groups of invocations add up, to have more of them at work where tiles are few.
    pub slices: usize,
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tile { rows, cols, steps, each: [high, wide], slices } = self;
        write!(f, "{rows}x{cols} of {high}x{wide} each, {steps} steps in {slices} slices")
    }
}

impl Tile {
    /// All tiles, from the one that loads least for each result to the one of which there are most.
    pub const ALL: [Tile; 7] = [
        Tile { rows: 128, cols: 128, steps: 16, each: [8, 8], slices: 1 },
        Tile { rows: 64, cols: 128, steps: 16, each: [8, 8], slices: 2 },
        Tile { rows: 64, cols: 64, steps: 16, each: [4, 4], slices: 2 },
        Tile { rows: 64, cols: 64, steps: 16, each: [4, 4], slices: 1 },
        Tile { rows: 32, cols: 32, steps: 32, each: [4, 4], slices: 2 },
        Tile { rows: 16, cols: 32, steps: 64, each: [4, 4], slices: 8 },
        Tile::LEAST,
    ];
    /// The first of them that needs few registers, as smaller GPUs have them.
    const FEW_REGISTERS: usize = 3;
    /// The one with the shortest code and the least memory and invocations.
    const LEAST: Tile = Tile { rows: 32, cols: 32, steps: 8, each: [4, 4], slices: 2 };

    /// The tile for a contraction whose sums are cut into parts: the one that is forced if the device can do it, else the first that
    /// results fill and of which there are enough to keep a device of the class busy, the smallest if there is none.
    pub fn of(
        contraction: &Contraction,
        splits: usize,
        limits: &Limits,
        forced: Option<Tile>,
    ) -> Tile {
        if let Some(forced) = forced.filter(|tile| tile.fits(limits)) {
            return forced;
        }
        let [groups, m, n, _] = contraction.matrix();
        let tiles = match limits.class {
            DeviceClass::Discrete => &Tile::ALL[..],
            DeviceClass::Integrated => &Tile::ALL[Tile::FEW_REGISTERS..],
            DeviceClass::Software | DeviceClass::Cpu => &[],
        };
        let fitting =
            || tiles.iter().copied().filter(|tile| tile != &Tile::LEAST && tile.fits(limits));
        let pays = |tile: &Tile| {
            let (down, across) = (m.div_ceil(tile.rows), n.div_ceil(tile.cols));
            // Small tiles have little to do, so a device takes two at a time.
            let full = limits.class.full_groups() * if tile.rows <= 32 { 2 } else { 1 };
            let computed = down * tile.rows * across * tile.cols;
            groups * splits * down * across >= full && m * n * 4 >= computed * 3
        };
        fitting().find(pays).or(fitting().next_back()).unwrap_or(Tile::LEAST)
    }

    /// Invocations that compute it.
    pub fn invocations(&self) -> usize {
        self.own() * self.slices
    }

    /// Invocations that share one part of the steps.
    pub(crate) fn own(&self) -> usize {
        (self.rows / self.each[0]) * (self.cols / self.each[1])
    }

    /// Vectors of four floats between a step and the next of a source with so many rows or columns: one more than they are, so
    /// that steps begin in different banks.
    pub(crate) fn pitch(side: usize) -> usize {
        side / 4 + 1
    }

    /// Vectors of four floats in workgroup memory.
    pub(crate) fn vectors(&self) -> usize {
        self.steps * (Tile::pitch(self.rows) + Tile::pitch(self.cols))
    }

    /// Bytes of workgroup memory.
    fn bytes(&self) -> usize {
        self.vectors() * 16
    }

    /// The workgroups that compute a contraction whose sums are cut into parts.
    pub(crate) fn workgroups(&self, contraction: &Contraction, splits: usize) -> Workgroups {
        let count = contraction.tiles([self.rows, self.cols], splits);
        let (size, bytes) = (self.invocations(), self.bytes());
        Workgroups { count, size, bytes, by_subgroup: false }
    }

    /// Whether a device has the invocations and the workgroup memory.
    pub fn fits(&self, limits: &Limits) -> bool {
        limits.invocations >= self.invocations() && limits.workgroup_bytes >= self.bytes()
    }
}

/// Multiplications and additions from which on cooperative matrices pay.
const COOPERATIVE: u64 = 1 << 27;

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
    /// What a device has to have the memory for: 28 KiB with two halves, 14 KiB with one.
    pub(crate) const SMALL: CooperativeTile =
        CooperativeTile { rows: 64, cols: 64, subgroups: [2, 2] };
    /// What loads less for each result: of operands in so many halves, whose sums a subgroup has to hold in registers.
    #[cfg(feature = "wgpu")]
    pub(crate) const fn large(halves: usize) -> CooperativeTile {
        CooperativeTile { rows: 128, cols: 128, subgroups: [2, 2 * halves] }
    }

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
