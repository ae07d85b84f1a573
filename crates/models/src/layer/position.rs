//! Where in a sequence a token stands.

use super::attention::rates;
use crate::{Initializer, Named, Parameter, Visitor};
use shadegrad_graph::Tensor;

/// Sines and cosines of places, added to vectors `[batch, length, width]` (Vaswani et al., arXiv 1706.03762, 3.5): feature
/// `2 i` is `sin(place / 10000^(2 i / width))`, the one after it the cosine.
#[derive(Clone, Copy, Debug)]
pub struct SinusoidalPositions;

impl SinusoidalPositions {
    /// The vectors of places `[length]`, `F32`: `[length, width]`.
    #[track_caller]
    pub fn of(&self, places: &Tensor, width: usize) -> Tensor {
        let half = width.div_ceil(2);
        let rates = rates(places.graph(), half, 10_000_f64.powf((2 * half) as f64 / width as f64));
        let angle = places.unsqueeze(1) * rates;
        let pairs = places.graph().stack(&[&angle.sin(), &angle.cos()], 2);
        pairs.flatten(1).narrow(1, 0, width)
    }
}

/// A learned vector for each place, added to vectors `[batch, length, width]`; the weight is `[context, width]`.
pub struct LearnedPositions {
    weight: Parameter,
}

impl LearnedPositions {
    /// Vectors for places below `context`, normal with a standard deviation of 0.02.
    pub fn new(context: usize, width: usize) -> LearnedPositions {
        let init = Initializer::Normal { std: 0.02 };
        LearnedPositions { weight: Parameter::new(&[context, width], init) }
    }

    /// The vectors of places `[length]`, `U32`: `[length, width]`.
    #[track_caller]
    pub fn of(&self, places: &Tensor) -> Tensor {
        self.weight.tensor(places.graph()).embedding(places, None)
    }

    /// The vectors of the first places: no indices, and a gradient that is a sum.
    #[track_caller]
    pub fn first(&self, like: &Tensor, length: usize) -> Tensor {
        let weight = self.weight.tensor(like.graph());
        let context = self.weight.shape()[0];
        if length > context {
            let reason = format!("a sequence of {length} where there are {context} places");
            return like.graph().refuse("learned positions", &[like], &reason);
        }
        weight.narrow(0, 0, length)
    }
}

impl Named for LearnedPositions {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
    }
}

/// How a model knows where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// A learned vector for each place.
    Learned,
    /// Sines and cosines.
    Sinusoidal,
    /// Queries and keys turn with their places: [`crate::MultiheadAttention::rotary`].
    Rotary,
}
