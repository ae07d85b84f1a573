//! Neural networks trained in compute shaders, on any GPU, and on the CPU where there is none.
//!
//! A whole training step (forward, loss, backward, clipping, optimizer, schedule) is recorded once,
//! compiled once into a list of kernels and replayed from device memory. This crate re-exports the
//! others; `docs/architecture.md` follows one step through them.

pub use shadegrad_device as device;
pub use shadegrad_graph as graph;
