//! How parameters begin.

use shadegrad_graph::Init;

/// A distribution of initial values. Numbers depend on the seed and the parameter's name only, so
/// they are the same on every device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// One number everywhere.
    Constant {
        /// The number.
        value: f64,
    },
    /// Uniform in `[-bound, bound)`.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// He et al., arXiv 1502.01852, uniform: `bound = sqrt(6 / fan_in)`, for layers before a relu.
    KaimingUniform {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// The same, normal: `std = sqrt(2 / fan_in)`.
    KaimingNormal {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// Glorot and Bengio, AISTATS 2010, uniform: `bound = sqrt(6 / (fan_in + fan_out))`.
    XavierUniform {
        /// Inputs of one output.
        fan_in: usize,
        /// Outputs of one input.
        fan_out: usize,
    },
    /// The same, normal: `std = sqrt(2 / (fan_in + fan_out))`.
    XavierNormal {
        /// Inputs of one output.
        fan_in: usize,
        /// Outputs of one input.
        fan_out: usize,
    },
}

impl Initializer {
    /// PyTorch's default for the weights and biases of linear layers and convolutions: uniform,
    /// `bound = 1 / sqrt(fan_in)`.
    pub fn default_for(fan_in: usize) -> Initializer {
        Initializer::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    }

    /// The contents of a variable.
    pub fn init(self, seed: u64) -> Init {
        let uniform = |bound: f64| Init::Uniform { low: -bound, high: bound, seed };
        let normal = |std: f64| Init::Normal { mean: 0.0, std, seed };
        let root = |numerator: f64, fan: usize| (numerator / fan.max(1) as f64).sqrt();
        match self {
            Initializer::Zeros => Init::Full(0.0),
            Initializer::Ones => Init::Full(1.0),
            Initializer::Constant { value } => Init::Full(value),
            Initializer::Uniform { bound } => uniform(bound),
            Initializer::Normal { std } => normal(std),
            Initializer::KaimingUniform { fan_in } => uniform(root(6.0, fan_in)),
            Initializer::KaimingNormal { fan_in } => normal(root(2.0, fan_in)),
            Initializer::XavierUniform { fan_in, fan_out } => uniform(root(6.0, fan_in + fan_out)),
            Initializer::XavierNormal { fan_in, fan_out } => normal(root(2.0, fan_in + fan_out)),
        }
    }
}
