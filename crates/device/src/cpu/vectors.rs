//! Which of the machine's vectors kernels use.

use pulp::Arch;
use std::cell::Cell;

/// The vectors of a CPU's kernels, on which bits depend: sums of more than 256 products are rounded elsewhere with the widest (of sixteen
/// floats) than with others, and where there are no vectors a product is rounded before it is added, in products of matrices as in
/// exponentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vectors {
    /// The widest that the machine has, found out when the device is opened.
    #[default]
    Widest,
    /// AVX2 with fused products and sums: eight floats. Without it, as [`Vectors::Widest`].
    Avx2,
    /// None.
    None,
}

impl Vectors {
    /// What a device's description says of it.
    pub(super) fn about(self) -> &'static str {
        match self {
            Vectors::Widest => "",
            Vectors::Avx2 => ", vectors of eight floats at most",
            Vectors::None => ", no vectors",
        }
    }

    fn arch(self) -> Arch {
        match self {
            Vectors::Widest => Arch::new(),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Vectors::Avx2 => pulp::x86::V3::try_new().map_or_else(Arch::new, Arch::V3),
            #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
            Vectors::Avx2 => Arch::new(),
            Vectors::None => Arch::Scalar,
        }
    }

    /// Makes them those of this thread.
    pub(super) fn enter(self) {
        ARCH.set(self.arch());
    }
}

thread_local! {
    static ARCH: Cell<Arch> = Cell::new(Arch::new());
}

/// The vectors of the thread, which belongs to a device.
pub(super) fn arch() -> Arch {
    ARCH.get()
}
