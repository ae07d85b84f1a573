//! Activations as layers, for [`crate::Sequential`]. In hand-written models the tensor methods do.

use crate::{Initializer, Module, Named, Parameter, Visitor};
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
    /// Gaussian error linear unit.
    Gelu => |x| x.gelu();
    /// The tanh form of the Gaussian error linear unit.
    GeluTanh => |x| x.gelu_tanh();
    /// `log(1 + exp(x))`
    Softplus => |x| x.softplus();
    /// `x / (1 + |x|)`
    Softsign => |x| x.softsign();
    /// `x tanh(softplus(x))`
    Mish => |x| x.mish();
    /// Scaled exponential linear unit.
    Selu => |x| x.selu();
    /// `min(max(x, 0), 6)`
    Relu6 => |x| x.relu6();
    /// `min(max(x / 6 + 1/2, 0), 1)`
    Hardsigmoid => |x| x.hardsigmoid();
    /// `x hardsigmoid(x)`
    Hardswish => |x| x.hardswish();
}

/// `x` for positive `x`, else a learned weight times `x`: one for all, or one for each channel (axis 1).
pub struct PRelu {
    weight: Parameter,
}

impl PRelu {
    /// One weight, or one for each of this many channels, beginning at 0.25.
    pub fn new(num_parameters: usize) -> PRelu {
        PRelu { weight: Parameter::new(&[num_parameters], Initializer::Constant { value: 0.25 }) }
    }
}

impl Named for PRelu {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
    }
}

impl Module for PRelu {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        x.prelu(&self.weight.tensor(x.graph()))
    }
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
