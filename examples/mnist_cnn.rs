//! Trains a small convolutional network on MNIST.

mod mnist;
mod program;

use clap::Parser;
use shadegrad::prelude::*;

/// Train a small convolutional network on handwritten digits, on the best device there is
#[derive(Parser)]
#[command(
    name = "mnist_cnn",
    after_help = "Example: mnist_cnn --data mnist/ --epochs 5 --out out/"
)]
struct Arguments {
    #[command(flatten)]
    options: mnist::Options,
}

fn main() -> std::process::ExitCode {
    let options = Arguments::parse().options;
    program::finish(mnist::run("mnist_cnn", &options, |shape| Cnn::new(shape, 10)))
}
