//! Data sets, and the samples they put on the device.
//!
//! A compiled step has static shapes, so a data set comes in parts of one shape each: images are one part,
//! sentences are one for each of a few lengths. Every part is a program of its own; all share the parameters.

use crate::Streamed;
use shadegrad_device::{random, shuffle};
use shadegrad_graph::{Graph, Tensor};

/// What a trainer can be given.
pub trait Dataset {
    /// How many samples each part has; none has less than `batch` where that can be helped.
    fn sizes(&self, batch: usize) -> Vec<usize>;

    /// The parts on the device, of these sizes, together with every sample once. `statistics` are those of the
    /// data that was trained on, where inputs are normalised; `None` while training.
    fn parts(&self, batch: usize, statistics: Option<Statistics>) -> Vec<Part>;

    /// Mean and deviation of the inputs, if they are normalised.
    fn statistics(&self) -> Option<Statistics> {
        None
    }

    /// How many samples there are.
    fn len(&self) -> usize {
        self.sizes(1).iter().sum()
    }

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Mean and deviation of inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, not zero.
    pub deviation: f64,
}

impl Statistics {
    /// Inputs stay as they are.
    pub const NONE: Statistics = Statistics { mean: 0.0, deviation: 1.0 };

    /// Those of so many numbers, from their sum and that of their squares; without any deviation it is taken for one.
    pub(crate) fn of(sum: f64, squares: f64, count: usize) -> Statistics {
        let count = count.max(1) as f64;
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        Statistics { mean, deviation: if deviation > 0.0 { deviation } else { 1.0 } }
    }
}

/// Samples of a data set that share a shape.
pub struct Part {
    /// The samples on the device.
    pub samples: Box<dyn Samples>,
    /// Their numbers in the data set, in the order of the samples.
    pub numbers: Vec<usize>,
}

/// Samples of one shape that lie on the device.
pub trait Samples {
    /// How many.
    fn len(&self) -> usize;

    /// Inputs and targets of some samples, whose numbers are `index`, `[batch]`, `U32`. Targets are classes,
    /// `U32`, or floats, as many for each sample.
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor);

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples as streamed ones, if they don't lie on the device: `take` is of a window then.
    fn streamed(&self) -> Option<&Streamed> {
        None
    }
}

/// In which order samples are visited.
pub enum Order<'a> {
    /// Every sample once in each pass, in another order each time, under a seed. The position goes
    /// on from one pass to the next, so a batch may hold the end of one and the start of another:
    /// no sample is dropped or seen twice.
    Shuffled {
        /// A `U32` scalar.
        seed: &'a Tensor,
        /// Passes before position zero, a `U32` scalar: what their orders were doesn't come again.
        before: &'a Tensor,
    },
    /// In order; past the end the last sample is repeated.
    Sequential,
}

impl Order<'_> {
    /// The number of the sample at a place of [`Order::Shuffled`], as the device computes it.
    pub(crate) fn shuffled(seed: u32, before: u32, place: u32, count: usize) -> u32 {
        let count = count.max(1) as u32;
        let (pass, offset) = (place / count, place % count);
        shuffle(offset, count, random(seed, pass.wrapping_add(before)))
    }

    /// The numbers of the next `batch` of `count` samples, `[batch]`, `U32`. `position` is the number of
    /// samples visited before, a `U32` scalar.
    #[track_caller]
    pub fn index(&self, position: &Tensor, count: usize, batch: usize) -> Tensor {
        let places = position + position.graph().iota(batch);
        let all = places.full_like(count as f64);
        match self {
            Order::Shuffled { seed, before } => {
                let pass = &places / &all;
                let offset = &places - &pass * &all;
                offset.shuffle(&all, &seed.random(&(&pass + *before)))
            }
            Order::Sequential => places.minimum(&places.full_like(count.saturating_sub(1) as f64)),
        }
    }
}
