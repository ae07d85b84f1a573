//! Trains a multi-layer perceptron on MNIST.

mod mnist;
mod program;

use clap::Parser;
use shadegrad::prelude::*;

/// Train a multi-layer perceptron on handwritten digits, on the best device there is
#[derive(Parser)]
#[command(name = "mnist_mlp", after_help = "Example: mnist_mlp --hidden 128 --batch 32 --epochs 5")]
struct Arguments {
    #[command(flatten)]
    options: mnist::Options,
    /// Widths of the hidden layers; none for a linear classifier
    #[arg(long, value_delimiter = ',', default_value = "128", num_args = 0..)]
    hidden: Vec<usize>,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let widths =
        |[c, h, w]: [usize; 3]| [&[c * h * w], arguments.hidden.as_slice(), &[10]].concat();
    program::finish(mnist::run("mnist_mlp", &arguments.options, |shape| Mlp::new(&widths(shape))))
}
