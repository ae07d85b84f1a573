//! Convolutions of signals, images and volumes, and their transposes. Filters have one extent along all axes.

use crate::{Initializer, Module, Named, Parameter, Visitor};
use shadegrad_graph::{ConvOptions, Padding, Tensor};

macro_rules! convolutions {
    ($($(#[$doc:meta])* $name:ident<$n:literal> by $method:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name {
            weight: Parameter,
            bias: Option<Parameter>,
            channels: [usize; 2],
            kernel: usize,
            initializer: Option<Initializer>,
            options: ConvOptions<$n>,
        }

        impl $name {
            /// A layer with stride 1, no padding, with bias, initialised as in PyTorch.
            pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> $name {
                let (channels, kernel) = ([in_channels, out_channels], kernel_size);
                let (weight, bias) = (Parameter::new(&[], Initializer::Zeros), None);
                let options = ConvOptions::default();
                let layer = $name { weight, bias, channels, kernel, initializer: None, options };
                layer.built(true)
            }

            /// The layer with new parameters, for its channels, groups and initialiser.
            fn built(self, bias: bool) -> $name {
                // Groups that don't divide the channels are reported when the model is recorded.
                let per_group = (self.channels[0] / self.options.groups.max(1)).max(1);
                let mut shape = vec![self.channels[1], per_group];
                shape.extend([self.kernel; $n]);
                let default = Initializer::default_for(shape[1..].iter().product());
                let zeros = self.initializer.map_or(default, |_| Initializer::Zeros);
                $name {
                    weight: Parameter::new(&shape, self.initializer.unwrap_or(default)),
                    bias: bias.then(|| Parameter::new(&shape[..1], zeros)),
                    ..self
                }
            }

            /// Step between outputs.
            pub fn stride(mut self, stride: usize) -> $name {
                self.options.stride = [stride; $n];
                self
            }

            /// Zeros around the input.
            pub fn padding(mut self, padding: usize) -> $name {
                self.options.padding = Padding::Zeros([padding; $n]);
                self
            }

            /// As many zeros around the input as keep its extents; for stride 1.
            pub fn padding_same(mut self) -> $name {
                self.options.padding = Padding::Same;
                self
            }

            /// Step between filter elements.
            pub fn dilation(mut self, dilation: usize) -> $name {
                self.options.dilation = [dilation; $n];
                self
            }

            /// Channels in groups that don't see each other.
            pub fn groups(mut self, groups: usize) -> $name {
                self.options.groups = groups;
                let bias = self.bias.is_some();
                self.built(bias)
            }

            /// Without a bias.
            pub fn no_bias(mut self) -> $name {
                self.bias = None;
                self
            }

            /// With weights initialised another way; the bias begins at zero.
            pub fn initializer(mut self, initializer: Initializer) -> $name {
                self.initializer = Some(initializer);
                let bias = self.bias.is_some();
                self.built(bias)
            }
        }

        impl Named for $name {
            fn visit(&self, visitor: &mut Visitor) {
                visitor.parameter("weight", &self.weight);
                if let Some(bias) = &self.bias {
                    visitor.parameter("bias", bias);
                }
            }
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                let bias = self.bias.as_ref().map(|bias| bias.tensor(x.graph()));
                x.$method(&self.weight.tensor(x.graph()), bias.as_ref(), &self.options)
            }
        }
    )*};
}

convolutions! {
    /// Convolution of signals `[batch, in, length] -> [batch, out, length']`; the weight is
    /// `[out, in / groups, k]`.
    Conv1d<1> by conv1d;
    /// Convolution of images `[batch, in, h, w] -> [batch, out, oh, ow]`; the weight is
    /// `[out, in / groups, k, k]`.
    Conv2d<2> by conv2d;
    /// Convolution of volumes `[batch, in, d, h, w] -> [batch, out, od, oh, ow]`; the weight is
    /// `[out, in / groups, k, k, k]`.
    Conv3d<3> by conv3d;
}

macro_rules! transposes {
    ($($(#[$doc:meta])* $name:ident<$n:literal> by $method:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name {
            weight: Parameter,
            bias: Option<Parameter>,
            channels: [usize; 2],
            kernel: usize,
            options: ConvOptions<$n>,
            output_padding: usize,
        }

        impl $name {
            /// A layer with stride 1, no padding, with bias, initialised as in PyTorch.
            pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> $name {
                let (channels, kernel) = ([in_channels, out_channels], kernel_size);
                let (weight, bias) = (Parameter::new(&[], Initializer::Zeros), None);
                let options = ConvOptions::default();
                let layer = $name { weight, bias, channels, kernel, options, output_padding: 0 };
                layer.built(true)
            }

            /// The layer with new parameters, for its channels and groups.
            fn built(self, bias: bool) -> $name {
                let per_group = (self.channels[1] / self.options.groups.max(1)).max(1);
                let mut shape = vec![self.channels[0], per_group];
                shape.extend([self.kernel; $n]);
                let init = Initializer::default_for(shape[1..].iter().product());
                $name {
                    weight: Parameter::new(&shape, init),
                    bias: bias.then(|| Parameter::new(&self.channels[1..], init)),
                    ..self
                }
            }

            /// Distance that inputs are spread to.
            pub fn stride(mut self, stride: usize) -> $name {
                self.options.stride = [stride; $n];
                self
            }

            /// Points taken away around the output.
            pub fn padding(mut self, padding: usize) -> $name {
                self.options.padding = Padding::Zeros([padding; $n]);
                self
            }

            /// Points added at the end of the output, fewer than the stride.
            pub fn output_padding(mut self, output_padding: usize) -> $name {
                self.output_padding = output_padding;
                self
            }

            /// Step between filter elements.
            pub fn dilation(mut self, dilation: usize) -> $name {
                self.options.dilation = [dilation; $n];
                self
            }

            /// Channels in groups that don't see each other.
            pub fn groups(mut self, groups: usize) -> $name {
                self.options.groups = groups;
                let bias = self.bias.is_some();
                self.built(bias)
            }

            /// Without a bias.
            pub fn no_bias(mut self) -> $name {
                self.bias = None;
                self
            }
        }

        impl Named for $name {
            fn visit(&self, visitor: &mut Visitor) {
                visitor.parameter("weight", &self.weight);
                if let Some(bias) = &self.bias {
                    visitor.parameter("bias", bias);
                }
            }
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                let weight = self.weight.tensor(x.graph());
                let bias = self.bias.as_ref().map(|bias| bias.tensor(x.graph()));
                x.$method(&weight, bias.as_ref(), &self.options, [self.output_padding; $n])
            }
        }
    )*};
}

transposes! {
    /// Transposed convolution of signals `[batch, in, length] -> [batch, out, length']`; the weight is
    /// `[in, out / groups, k]`.
    ConvTranspose1d<1> by conv_transpose1d;
    /// Transposed convolution of images `[batch, in, h, w] -> [batch, out, oh, ow]`; the weight is
    /// `[in, out / groups, k, k]`.
    ConvTranspose2d<2> by conv_transpose2d;
}
