//! Layers.

use crate::{Initializer, Module, Named, Parameter, Visitor};
use shadegrad_graph::Tensor;

/// `y = x Wᵀ + b`, `[.., in] -> [.., out]`; the weight is `[out, in]`.
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Linear {
    /// A layer from `in_features` to `out_features`, with bias, initialised as in PyTorch.
    pub fn new(in_features: usize, out_features: usize) -> Linear {
        let init = Initializer::default_for(in_features);
        Linear {
            weight: Parameter::new(&[out_features, in_features], init),
            bias: Some(Parameter::new(&[out_features], init)),
        }
    }

    /// Without a bias.
    pub fn no_bias(mut self) -> Linear {
        self.bias = None;
        self
    }

    /// With weights initialised another way; the bias begins at zero.
    pub fn initializer(self, initializer: Initializer) -> Linear {
        Linear {
            weight: Parameter::new(self.weight.shape(), initializer),
            bias: self.bias.map(|bias| Parameter::new(bias.shape(), Initializer::Zeros)),
        }
    }
}

impl Named for Linear {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }
}

impl Module for Linear {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.matmul(&self.weight.tensor(x.graph()).transpose(0, 1));
        match &self.bias {
            Some(bias) => y + bias.tensor(x.graph()),
            None => y,
        }
    }
}

/// Convolution of images `[batch, in, h, w] -> [batch, out, oh, ow]`; the weight is
/// `[out, in / groups, kh, kw]`.
pub struct Conv2d {
    weight: Parameter,
    bias: Option<Parameter>,
    initializer: Option<Initializer>,
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

impl Conv2d {
    /// A layer with a square filter, stride 1, no padding, with bias, initialised as in PyTorch.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> Conv2d {
        let weight = [out_channels, in_channels, kernel_size, kernel_size];
        let init = Initializer::default_for(weight[1..].iter().product());
        Conv2d {
            weight: Parameter::new(&weight, init),
            bias: Some(Parameter::new(&weight[..1], init)),
            initializer: None,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }

    /// The layer with new parameters for a weight of another shape or initialiser.
    fn rebuilt(self, weight: &[usize], initializer: Option<Initializer>) -> Conv2d {
        let default = Initializer::default_for(weight[1..].iter().product());
        let bias = initializer.map_or(default, |_| Initializer::Zeros);
        Conv2d {
            weight: Parameter::new(weight, initializer.unwrap_or(default)),
            bias: self.bias.as_ref().map(|_| Parameter::new(&weight[..1], bias)),
            initializer,
            ..self
        }
    }

    /// Step between outputs.
    pub fn stride(mut self, stride: usize) -> Conv2d {
        self.stride = [stride, stride];
        self
    }

    /// Zeros around the input.
    pub fn padding(mut self, padding: usize) -> Conv2d {
        self.padding = [padding, padding];
        self
    }

    /// Step between filter elements.
    pub fn dilation(mut self, dilation: usize) -> Conv2d {
        self.dilation = [dilation, dilation];
        self
    }

    /// Channels in groups that don't see each other. A number that doesn't divide the channels is
    /// reported when the model is recorded.
    pub fn groups(self, groups: usize) -> Conv2d {
        let shape = self.weight.shape();
        let per_group = (shape[1] * self.groups / groups.max(1)).max(1);
        let weight = [shape[0], per_group, shape[2], shape[3]];
        let initializer = self.initializer;
        Conv2d { groups, ..self.rebuilt(&weight, initializer) }
    }

    /// Without a bias.
    pub fn no_bias(mut self) -> Conv2d {
        self.bias = None;
        self
    }

    /// With weights initialised another way; the bias begins at zero.
    pub fn initializer(self, initializer: Initializer) -> Conv2d {
        let weight = self.weight.shape().to_vec();
        self.rebuilt(&weight, Some(initializer))
    }
}

impl Named for Conv2d {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }
}

impl Module for Conv2d {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let weight = self.weight.tensor(x.graph());
        let y = x.conv2d(&weight, self.stride, self.padding, self.dilation, self.groups);
        match &self.bias {
            Some(bias) => y + bias.tensor(x.graph()).reshape(&[1, bias.shape()[0], 1, 1]),
            None => y,
        }
    }
}

macro_rules! pools {
    ($($(#[$doc:meta])* $name:ident $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            kernel: usize,
            stride: usize,
            padding: usize,
        }

        impl $name {
            /// A square window that steps by its own size.
            pub fn new(kernel_size: usize) -> $name {
                $name { kernel: kernel_size, stride: kernel_size, padding: 0 }
            }

            /// Step between windows.
            pub fn stride(mut self, stride: usize) -> $name {
                self.stride = stride;
                self
            }

            /// Points around the input, at most half of the window.
            pub fn padding(mut self, padding: usize) -> $name {
                self.padding = padding;
                self
            }
        }

        impl Named for $name {
            fn visit(&self, _: &mut Visitor) {}
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                x.$method([self.kernel; 2], [self.stride; 2], [self.padding; 2])
            }
        }
    )*};
}

pools! {
    /// The largest element of each window of images `[batch, channels, h, w]`.
    MaxPool2d max_pool2d;
    /// The mean of each window of images `[batch, channels, h, w]`; padding counts as zeros.
    AvgPool2d avg_pool2d;
}

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
    /// Dropout with probability `p` in `[0, 1)`.
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
        if !x.graph().is_training() || self.p <= 0.0 {
            return x.clone();
        }
        let drawn = x.graph().random_key().uniform(&x.shape());
        let kept = x * (1.0 / (1.0 - self.p));
        drawn.less(&drawn.like(self.p)).select(&x.like(0.0), &kept)
    }
}
