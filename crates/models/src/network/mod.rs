//! Whole models.

mod classifier;
mod language;
mod sampling;

pub use classifier::TextClassifier;
pub use language::{CausalLm, CausalLmOptions};
pub use sampling::Sampling;

use crate::{Conv2d, Linear, Module, Named, Visitor, named};
use shadegrad_graph::{PoolOptions, Tensor};

/// A multi-layer perceptron with relu between layers: `[batch, ..] -> [batch, last]`.
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Layers between the given widths: `Mlp::new(&[784, 128, 10])` has two.
    pub fn new(widths: &[usize]) -> Mlp {
        Mlp { layers: widths.windows(2).map(|w| Linear::new(w[0], w[1])).collect() }
    }
}

impl Named for Mlp {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("layers", &self.layers);
    }
}

impl Module for Mlp {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = x.flatten(1);
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x);
            if number + 1 < self.layers.len() {
                x = x.relu();
            }
        }
        x
    }
}

/// A small convolutional network in the manner of LeNet (LeCun et al., Proc. IEEE 86(11), 1998),
/// with 3x3 filters and relu: `[batch, channels, h, w] -> [batch, classes]`, `h` and `w` multiples
/// of four.
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

named!(Cnn { conv1, conv2, fc1, fc2 });

impl Cnn {
    /// A network for images of a shape `[channels, h, w]`.
    pub fn new([channels, h, w]: [usize; 3], classes: usize) -> Cnn {
        Cnn {
            conv1: Conv2d::new(channels, 32, 3).padding(1),
            conv2: Conv2d::new(32, 64, 3).padding(1),
            fc1: Linear::new(64 * (h / 4) * (w / 4), 128),
            fc2: Linear::new(128, classes),
        }
    }
}

impl Module for Cnn {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(&PoolOptions::new([2, 2]));
        let x = self.conv2.forward(&x).relu().max_pool2d(&PoolOptions::new([2, 2]));
        self.fc2.forward(&self.fc1.forward(&x.flatten(1)).relu())
    }
}
