//! Convolutions of signals, images and volumes, and their transposes. Filters have one extent along all axes.

use crate::{Initializer, Module, Named, Parameter, Visitor};
use shadegrad_graph::{ConvOptions, Padding, Tensor};

/// Convolution of signals `[batch, in, length] -> [batch, out, length']`; the weight is `[out, in / groups, k]`.
pub type Conv1d = Convolution<1, false>;
/// Convolution of images `[batch, in, h, w] -> [batch, out, oh, ow]`; the weight is `[out, in / groups, k, k]`.
pub type Conv2d = Convolution<2, false>;
/// Convolution of volumes `[batch, in, d, h, w] -> [batch, out, od, oh, ow]`; the weight is
/// `[out, in / groups, k, k, k]`.
pub type Conv3d = Convolution<3, false>;
/// Transposed convolution of signals `[batch, in, length] -> [batch, out, length']`; the weight is
/// `[in, out / groups, k]`.
pub type ConvTranspose1d = Convolution<1, true>;
/// Transposed convolution of images `[batch, in, h, w] -> [batch, out, oh, ow]`; the weight is
/// `[in, out / groups, k, k]`.
pub type ConvTranspose2d = Convolution<2, true>;

/// A convolution over `N` axes, or its transpose; see [`Conv2d`] and [`ConvTranspose2d`].
pub struct Convolution<const N: usize, const TRANSPOSED: bool> {
    weight: Parameter,
    bias: Option<Parameter>,
    /// Channels of input and output.
    channels: [usize; 2],
    kernel: usize,
    initializer: Option<Initializer>,
    options: ConvOptions<N>,
    output_padding: usize,
}

impl<const N: usize, const TRANSPOSED: bool> Convolution<N, TRANSPOSED> {
    /// A layer with stride 1, no padding, with bias, initialised as in PyTorch.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        let layer = Convolution {
            weight: Parameter::new(&[], Initializer::Zeros),
            bias: None,
            channels: [in_channels, out_channels],
            kernel: kernel_size,
            initializer: None,
            options: ConvOptions::default(),
            output_padding: 0,
        };
        layer.built(true)
    }

    /// The layer with new parameters, for its channels, groups and initialiser.
    fn built(self, bias: bool) -> Self {
        let [input, output] = self.channels;
        let (first, second) = if TRANSPOSED { (input, output) } else { (output, input) };
        // Groups that don't divide the channels are reported when the model is recorded.
        let mut shape = vec![first, (second / self.options.groups.max(1)).max(1)];
        shape.extend([self.kernel; N]);
        let default = Initializer::default_for(shape[1..].iter().product());
        let zeros = self.initializer.map_or(default, |_| Initializer::Zeros);
        Convolution {
            weight: Parameter::new(&shape, self.initializer.unwrap_or(default)),
            bias: bias.then(|| Parameter::new(&[output], zeros)),
            ..self
        }
    }

    fn rebuilt(self) -> Self {
        let bias = self.bias.is_some();
        self.built(bias)
    }

    /// Step between outputs; of a transpose the distance that inputs are spread to.
    pub fn stride(mut self, stride: usize) -> Self {
        self.options.stride = [stride; N];
        self
    }

    /// Zeros around the input; of a transpose the points taken away around the output.
    pub fn padding(mut self, padding: usize) -> Self {
        self.options.padding = Padding::Zeros([padding; N]);
        self
    }

    /// Step between filter elements.
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.options.dilation = [dilation; N];
        self
    }

    /// Channels in groups that don't see each other.
    pub fn groups(mut self, groups: usize) -> Self {
        self.options.groups = groups;
        self.rebuilt()
    }

    /// Without a bias.
    pub fn no_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// With weights initialised another way; the bias begins at zero.
    pub fn initializer(mut self, initializer: Initializer) -> Self {
        self.initializer = Some(initializer);
        self.rebuilt()
    }

    fn parameters(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let bias = self.bias.as_ref().map(|bias| bias.tensor(x.graph()));
        (self.weight.tensor(x.graph()), bias)
    }
}

impl<const N: usize> Convolution<N, false> {
    /// As many zeros around the input as keep its extents; for stride 1.
    pub fn padding_same(mut self) -> Self {
        self.options.padding = Padding::Same;
        self
    }
}

impl<const N: usize> Convolution<N, true> {
    /// Points added at the end of the output, fewer than the stride.
    pub fn output_padding(mut self, output_padding: usize) -> Self {
        self.output_padding = output_padding;
        self
    }
}

impl<const N: usize, const TRANSPOSED: bool> Named for Convolution<N, TRANSPOSED> {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }
}

macro_rules! forward {
    ($($layer:ty: |$this:ident, $x:ident, $weight:ident, $bias:ident| $y:expr;)*) => {$(
        impl Module for $layer {
            #[track_caller]
            fn forward(&self, $x: &Tensor) -> Tensor {
                let ($this, ($weight, $bias)) = (self, self.parameters($x));
                let ($weight, $bias) = (&$weight, $bias.as_ref());
                $y
            }
        }
    )*};
}

forward! {
    Conv1d: |l, x, w, b| x.conv1d(w, b, &l.options);
    Conv2d: |l, x, w, b| x.conv2d(w, b, &l.options);
    Conv3d: |l, x, w, b| x.conv3d(w, b, &l.options);
    ConvTranspose1d: |l, x, w, b| x.conv_transpose1d(w, b, &l.options, [l.output_padding]);
    ConvTranspose2d: |l, x, w, b| x.conv_transpose2d(w, b, &l.options, [l.output_padding; 2]);
}
