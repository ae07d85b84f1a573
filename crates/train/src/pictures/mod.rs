//! Pictures of a training run, written as PNG files: [`curves`] of what it reports ([`history`] draws those of a fit), the
//! [`confusion`] matrix of a classifier, a [`sheet`] of images with captions.
//!
//! Text is set in a font compiled into the program, so pictures look the same on machines without
//! fonts or a display. It covers the letters of western Europe; others show as `?`. An existing
//! file is overwritten; a folder that does not exist is an error that names it.

pub mod confusion;
pub mod curves;
pub mod history;
pub mod sheet;

mod axis;
mod canvas;
mod error;
mod pen;

pub use error::PictureError;
pub(crate) use pen::Mask;
