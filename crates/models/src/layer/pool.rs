//! Pooling and resizing. Windows have one extent along all axes.

use crate::{Module, Named, Visitor};
use shadegrad_graph::{Interpolation, PoolOptions, Tensor};

macro_rules! pools {
    ($($(#[$doc:meta])* $name:ident<$n:literal> by $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            options: PoolOptions<$n>,
        }

        impl $name {
            /// A window that steps by its own size.
            pub fn new(kernel_size: usize) -> $name {
                $name { options: PoolOptions::new([kernel_size; $n]) }
            }

            /// Step between windows.
            pub fn stride(mut self, stride: usize) -> $name {
                self.options.stride = [stride; $n];
                self
            }

            /// Points around the input, at most half of the window.
            pub fn padding(mut self, padding: usize) -> $name {
                self.options.padding = [padding; $n];
                self
            }

            /// A last window may reach past the end.
            pub fn ceil_mode(mut self) -> $name {
                self.options.ceil_mode = true;
                self
            }
        }

        impl Named for $name {
            fn visit(&self, _: &mut Visitor) {}
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                x.$method(&self.options)
            }
        }
    )*};
}

pools! {
    /// The largest element of each window of signals `[batch, channels, length]`.
    MaxPool1d<1> by max_pool1d;
    /// The largest element of each window of images `[batch, channels, h, w]`.
    MaxPool2d<2> by max_pool2d;
    /// The mean of each window of signals `[batch, channels, length]`; padding counts as zeros.
    AvgPool1d<1> by avg_pool1d;
    /// The mean of each window of images `[batch, channels, h, w]`; padding counts as zeros.
    AvgPool2d<2> by avg_pool2d;
}

macro_rules! adaptive {
    ($($(#[$doc:meta])* $name:ident by $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            size: [usize; 2],
        }

        impl $name {
            /// Images of this height and width.
            pub fn new(size: [usize; 2]) -> $name {
                $name { size }
            }
        }

        impl Named for $name {
            fn visit(&self, _: &mut Visitor) {}
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                x.$method(self.size)
            }
        }
    )*};
}

adaptive! {
    /// The mean of each of as many parts of images as are wanted; `[1, 1]` is global pooling.
    AdaptiveAvgPool2d by adaptive_avg_pool2d;
    /// The largest element of each of as many parts of images as are wanted.
    AdaptiveMaxPool2d by adaptive_max_pool2d;
}

/// Images `[batch, channels, h, w]` enlarged by a whole factor.
#[derive(Clone, Copy, Debug)]
pub struct Upsample {
    factor: usize,
    mode: Interpolation,
}

impl Upsample {
    /// Each pixel repeated.
    pub fn new(scale_factor: usize) -> Upsample {
        Upsample { factor: scale_factor, mode: Interpolation::Nearest }
    }

    /// With another interpolation.
    pub fn mode(mut self, mode: Interpolation) -> Upsample {
        self.mode = mode;
        self
    }
}

impl Named for Upsample {
    fn visit(&self, _: &mut Visitor) {}
}

impl Module for Upsample {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        match x.shape().as_slice() {
            &[_, _, h, w] => x.interpolate(&[h * self.factor, w * self.factor], self.mode),
            _ => x.graph().refuse("upsample", &[x], "takes images [batch, channels, h, w]"),
        }
    }
}
