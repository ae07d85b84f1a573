//! Layers.

mod attention;
mod convolution;
mod linear;
mod norm;
mod pool;
mod position;
mod recurrent;
mod transformer;

pub use attention::{KeyValueCache, MultiheadAttention};
pub use convolution::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, Convolution};
pub use linear::{Embedding, Linear};
pub use norm::{
    BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, InstanceNorm1d, InstanceNorm2d, LayerNorm,
    RMSNorm,
};
pub use pool::{
    AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, Upsample,
};
pub use position::{LearnedPositions, Positions, SinusoidalPositions};
pub use recurrent::{
    Gru, GruCell, Lstm, LstmCell, Recurrent, RecurrentCell, RecurrentResult, Rnn, RnnCell, RnnRelu,
    RnnReluCell,
};
pub use transformer::{
    TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
};

use crate::{Module, Named, Visitor};
use shadegrad_graph::Tensor;

/// All axes but the first joined: `[batch, ..] -> [batch, features]`.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl Named for Flatten {
    fn visit(&self, _: &mut Visitor) {}
}

impl Module for Flatten {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        x.flatten(1)
    }
}

/// In training each element is zero with probability `p`, and the others are scaled by
/// `1 / (1 - p)`; else nothing happens (Srivastava et al., JMLR 15, 2014).
///
/// The mask is made from the step's random key wherever it is needed and never stored.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    p: f64,
}

impl Dropout {
    /// Dropout with probability `p` in `[0, 1]`.
    pub fn new(p: f64) -> Dropout {
        Dropout { p }
    }
}

impl Named for Dropout {
    fn visit(&self, _: &mut Visitor) {}
}

impl Module for Dropout {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        x.dropout(self.p)
    }
}

/// [`Dropout`] of whole channels of `[batch, channels, ..]` (Tompson et al., arXiv 1411.4280).
#[derive(Clone, Copy, Debug)]
pub struct Dropout2d {
    p: f64,
}

impl Dropout2d {
    /// Dropout with probability `p` in `[0, 1]`.
    pub fn new(p: f64) -> Dropout2d {
        Dropout2d { p }
    }
}

impl Named for Dropout2d {
    fn visit(&self, _: &mut Visitor) {}
}

impl Module for Dropout2d {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        x.dropout2d(self.p)
    }
}
