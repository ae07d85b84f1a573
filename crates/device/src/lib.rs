//! Devices that run programs of kernels.
//!
//! A [`Program`] is plain data: buffers, kernels, order. A [`Device`] loads it once and replays it
//! any number of times. Three backends do: *wgpu* (renders each kernel to WGSL and dispatches it
//! through Vulkan, Metal or DX12), *cpu* (runs it on the host's threads) and *null* (checks and
//! counts it, and needs no hardware).
//!
//! A device promises that kernels take effect in order, that equal programs on equal buffers give
//! equal bits, and that what can't be run is an error. It knows no tensors and no gradients.

mod algorithm;
mod autotune;
mod cache;
mod cpu;
mod device;
mod dtype;
mod error;
mod expr;
#[cfg(feature = "wgpu")]
mod gpu;
mod intrinsic;
mod kernel;
mod limits;
mod null;
mod part;
mod precision;
mod program;
mod recurrent;
mod share;
mod special;
mod team;
mod view;
mod whole;

pub use algorithm::{Algorithm, Tile};
pub use autotune::{Autotune, Tuned, Tuning};
pub use cache::cache_dir;
pub use cpu::Vectors;
pub use device::{Buffer, Counters, Device, DeviceInfo, Executable, Pending, Timing};
pub use dtype::{DType, Literal};
pub use error::DeviceError;
pub use expr::{Expr, Term, TermId};
#[cfg(feature = "wgpu")]
pub use gpu::{Rendered, Variant, render, render_shared, render_whole};
pub use intrinsic::{Custom, Intrinsic, random, shuffle};
pub use kernel::{
    Attention, AttentionRole, Body, Combine, Contraction, Conv, ConvRole, Kernel, Merge, Operand,
    Recurrence, Reduction, Store, Window, WindowRole, lines,
};
pub use limits::{DeviceClass, Limits};
pub use precision::{MatmulPrecision, Matrices};
pub use program::{BufferSpec, Counts, Program};
pub use recurrent::{Cell, Sequence, SequenceRole};
pub use share::can_share;
pub use view::{View, collapse, contiguous_strides, numel};
pub use whole::Whole;
