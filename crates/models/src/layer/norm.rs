//! Normalisation layers.

use crate::{Buffer, Initializer, Module, Named, Parameter, Visitor};
use shadegrad_graph::Tensor;

/// A weight that begins at one and a bias that begins at zero, of one shape.
struct Affine {
    weight: Parameter,
    bias: Parameter,
}

impl Affine {
    fn new(shape: &[usize]) -> Affine {
        Affine {
            weight: Parameter::new(shape, Initializer::Ones),
            bias: Parameter::new(shape, Initializer::Zeros),
        }
    }

    fn visit(affine: &Option<Affine>, visitor: &mut Visitor) {
        if let Some(affine) = affine {
            visitor.parameter("weight", &affine.weight);
            visitor.parameter("bias", &affine.bias);
        }
    }

    fn tensors(affine: &Option<Affine>, x: &Tensor) -> (Option<Tensor>, Option<Tensor>) {
        let tensor = |parameter: &Parameter| parameter.tensor(x.graph());
        let affine = affine.as_ref();
        (affine.map(|a| tensor(&a.weight)), affine.map(|a| tensor(&a.bias)))
    }
}

macro_rules! batch_norms {
    ($($(#[$doc:meta])* $name:ident of ranks $ranks:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// In training each channel is normalised by the batch, and running mean and variance follow it by
        /// `momentum`; otherwise the running ones are used. A layer that is used twice in a step follows its last use.
        pub struct $name {
            affine: Option<Affine>,
            running_mean: Buffer,
            running_var: Buffer,
            channels: usize,
            eps: f64,
            momentum: f64,
        }

        impl $name {
            /// A layer with weight and bias, eps 1e-5 and momentum 0.1.
            pub fn new(num_features: usize) -> $name {
                $name {
                    affine: Some(Affine::new(&[num_features])),
                    running_mean: Buffer::new(&[num_features], 0.0),
                    running_var: Buffer::new(&[num_features], 1.0),
                    channels: num_features,
                    eps: 1e-5,
                    momentum: 0.1,
                }
            }

            /// What is added to variances.
            pub fn eps(mut self, eps: f64) -> $name {
                self.eps = eps;
                self
            }

            /// The share of the batch in the new running statistics.
            pub fn momentum(mut self, momentum: f64) -> $name {
                self.momentum = momentum;
                self
            }

            /// Without weight and bias.
            pub fn no_affine(mut self) -> $name {
                self.affine = None;
                self
            }

            /// The running mean and variance.
            pub fn running(&self) -> (&Buffer, &Buffer) {
                (&self.running_mean, &self.running_var)
            }
        }

        impl Named for $name {
            fn visit(&self, visitor: &mut Visitor) {
                Affine::visit(&self.affine, visitor);
                visitor.buffer("running_mean", &self.running_mean);
                visitor.buffer("running_var", &self.running_var);
            }
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                let (graph, shape) = (x.graph(), x.shape());
                let fits = $ranks.contains(&shape.len()) && shape[1] == self.channels;
                if !fits {
                    let (ranks, channels) = ($ranks, self.channels);
                    let reason = format!("takes ranks {ranks:?} with {channels} channels");
                    return graph.refuse("batch_norm", &[x], &reason);
                }
                let (weight, bias) = Affine::tensors(&self.affine, x);
                let (mean, var) = (self.running_mean.tensor(graph), self.running_var.tensor(graph));
                if !graph.is_training() {
                    return x.batch_norm(&mean, &var, weight.as_ref(), bias.as_ref(), self.eps);
                }
                let (y, batch_mean, batch_var) =
                    x.batch_norm_train(weight.as_ref(), bias.as_ref(), self.eps);
                let momentum = mean.full_like(self.momentum);
                self.running_mean.assign(&mean.lerp(&batch_mean.detach(), &momentum));
                self.running_var.assign(&var.lerp(&batch_var.detach(), &momentum));
                y
            }
        }
    )*};
}

batch_norms! {
    /// Batch normalisation of `[batch, channels]` or `[batch, channels, length]` (Ioffe and Szegedy, arXiv
    /// 1502.03167).
    BatchNorm1d of ranks 2..=3usize;
    /// Batch normalisation of images `[batch, channels, h, w]` (Ioffe and Szegedy, arXiv 1502.03167).
    BatchNorm2d of ranks 4..=4usize;
    /// Batch normalisation of volumes `[batch, channels, d, h, w]` (Ioffe and Szegedy, arXiv 1502.03167).
    BatchNorm3d of ranks 5..=5usize;
}

/// Layer normalisation of the last axes (Ba et al., arXiv 1607.06450).
pub struct LayerNorm {
    shape: Vec<usize>,
    affine: Option<Affine>,
    eps: f64,
}

impl LayerNorm {
    /// A layer for last axes of a shape, with weight and bias, eps 1e-5.
    pub fn new(normalized_shape: &[usize]) -> LayerNorm {
        let affine = Some(Affine::new(normalized_shape));
        LayerNorm { shape: normalized_shape.to_vec(), affine, eps: 1e-5 }
    }

    /// What is added to variances.
    pub fn eps(mut self, eps: f64) -> LayerNorm {
        self.eps = eps;
        self
    }

    /// Without weight and bias.
    pub fn no_affine(mut self) -> LayerNorm {
        self.affine = None;
        self
    }
}

impl Named for LayerNorm {
    fn visit(&self, visitor: &mut Visitor) {
        Affine::visit(&self.affine, visitor);
    }
}

impl Module for LayerNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = Affine::tensors(&self.affine, x);
        x.layer_norm(&self.shape, weight.as_ref(), bias.as_ref(), self.eps)
    }
}

/// RMS normalisation of the last axes (Zhang and Sennrich, arXiv 1910.07467).
pub struct RMSNorm {
    weight: Parameter,
    eps: f64,
}

impl RMSNorm {
    /// A layer for last axes of a shape, with a weight; eps is that of f32, as in PyTorch.
    pub fn new(normalized_shape: &[usize]) -> RMSNorm {
        let weight = Parameter::new(normalized_shape, Initializer::Ones);
        RMSNorm { weight, eps: f64::from(f32::EPSILON) }
    }

    /// What is added to mean squares.
    pub fn eps(mut self, eps: f64) -> RMSNorm {
        self.eps = eps;
        self
    }
}

impl Named for RMSNorm {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
    }
}

impl Module for RMSNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let weight = self.weight.tensor(x.graph());
        x.rms_norm(self.weight.shape(), Some(&weight), self.eps)
    }
}

/// Group normalisation of `[batch, channels, ..]` (Wu and He, arXiv 1803.08494).
pub struct GroupNorm {
    groups: usize,
    affine: Option<Affine>,
    eps: f64,
}

impl GroupNorm {
    /// A layer of groups of channels, with weight and bias, eps 1e-5.
    pub fn new(num_groups: usize, num_channels: usize) -> GroupNorm {
        let affine = Some(Affine::new(&[num_channels]));
        GroupNorm { groups: num_groups, affine, eps: 1e-5 }
    }

    /// What is added to variances.
    pub fn eps(mut self, eps: f64) -> GroupNorm {
        self.eps = eps;
        self
    }

    /// Without weight and bias.
    pub fn no_affine(mut self) -> GroupNorm {
        self.affine = None;
        self
    }
}

impl Named for GroupNorm {
    fn visit(&self, visitor: &mut Visitor) {
        Affine::visit(&self.affine, visitor);
    }
}

impl Module for GroupNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = Affine::tensors(&self.affine, x);
        x.group_norm(self.groups, weight.as_ref(), bias.as_ref(), self.eps)
    }
}

macro_rules! instance_norms {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name {
            affine: Option<Affine>,
            eps: f64,
        }

        impl $name {
            /// A layer without weight and bias, as in PyTorch, eps 1e-5.
            pub fn new() -> $name {
                $name { affine: None, eps: 1e-5 }
            }

            /// With a weight and a bias for each of this many channels.
            pub fn affine(mut self, num_features: usize) -> $name {
                self.affine = Some(Affine::new(&[num_features]));
                self
            }

            /// What is added to variances.
            pub fn eps(mut self, eps: f64) -> $name {
                self.eps = eps;
                self
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::new()
            }
        }

        impl Named for $name {
            fn visit(&self, visitor: &mut Visitor) {
                Affine::visit(&self.affine, visitor);
            }
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                let (weight, bias) = Affine::tensors(&self.affine, x);
                x.instance_norm(weight.as_ref(), bias.as_ref(), self.eps)
            }
        }
    )*};
}

instance_norms! {
    /// Instance normalisation of signals `[batch, channels, length]` (Ulyanov et al., arXiv 1607.08022).
    InstanceNorm1d;
    /// Instance normalisation of images `[batch, channels, h, w]` (Ulyanov et al., arXiv 1607.08022).
    InstanceNorm2d;
}
