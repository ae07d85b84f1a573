//! Tensors to programs: record, differentiate, simplify, fuse, plan memory, load, run, read back.
//!
//! A [`Graph`] records operations on [`Tensor`]s; [`Graph::gradients`] differentiates into the same
//! graph; [`compile`] turns a recording into a program for a device; a [`Session`] owns the
//! variables and runs programs. The graph never sees a shader or a graphics interface.

mod array;
mod axis;
pub mod catalog;
pub mod check;
mod compile;
mod diagnose;
mod differentiate;
mod dump;
mod error;
mod expand;
mod fuse;
mod graph;
mod halve;
mod lower;
pub mod ops;
mod plan;
mod reference;
mod rerun;
mod schedule;
mod session;
mod share;
mod simplify;
mod tensor;
mod types;
mod variable;

pub use array::Array;
pub use axis::Axis;
pub use compile::{Compiled, Options, Output, Report, compile};
pub use diagnose::{NotFinite, Source};
pub use error::GraphError;
pub use graph::{Graph, Node, Nodes, Value};
pub use reference::Contents;
pub use session::{Loaded, Session};
pub use simplify::{Simplified, simplify};
pub use tensor::{
    AttentionOptions, ConvOptions, Interpolation, PadMode, Padding, PoolOptions, RecurrentOptions,
    RecurrentOutput, RecurrentWeights, Tensor,
};
pub use types::{Type, broadcast};
pub use variable::{Init, Variable};
