//! Activations as layers, for [`crate::Sequential`]. In hand-written models the tensor methods do.

use crate::{Module, Named, Visitor};
use shadegrad_graph::Tensor;

macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident => |$x:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Named for $name {
            fn visit(&self, _: &mut Visitor) {}
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, $x: &Tensor) -> Tensor {
                $body
            }
        }
    )*};
}

activations! {
    /// `max(x, 0)`
    Relu => |x| x.relu();
    /// `1 / (1 + exp(-x))`
    Sigmoid => |x| x.sigmoid();
    /// Hyperbolic tangent.
    Tanh => |x| x.tanh();
    /// `x sigmoid(x)`
    Silu => |x| x.silu();
    /// The tanh form of the Gaussian error linear unit.
    Gelu => |x| x.gelu_tanh();
    /// `log(1 + exp(x))`
    Softplus => |x| x.softplus();
}

/// `x` for positive `x`, else a constant times `x`.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// Slope for negative `x`.
    pub negative_slope: f64,
}

impl Default for LeakyRelu {
    fn default() -> Self {
        LeakyRelu { negative_slope: 0.01 }
    }
}

impl Named for LeakyRelu {
    fn visit(&self, _: &mut Visitor) {}
}

impl Module for LeakyRelu {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        x.leaky_relu(self.negative_slope)
    }
}

/// `x` for positive `x`, else `alpha (exp(x) - 1)`.
#[derive(Clone, Copy, Debug)]
pub struct Elu {
    /// What it approaches, negated, for very negative `x`.
    pub alpha: f64,
}

impl Default for Elu {
    fn default() -> Self {
        Elu { alpha: 1.0 }
    }
}

impl Named for Elu {
    fn visit(&self, _: &mut Visitor) {}
}

impl Module for Elu {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        x.elu(self.alpha)
    }
}
