//! Data sets on the device: bytes stay bytes, and a kernel gathers, shuffles and normalises the
//! next batch.

use crate::Images;
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Tensor, Variable};

/// A data set of images as variables.
pub struct Resident {
    images: Variable,
    labels: Variable,
    count: usize,
    shape: [usize; 3],
    normalise: (f64, f64),
}

/// In which order samples are visited.
pub enum Order<'a> {
    /// Every sample once in each pass, in another order each time, under a seed. The position goes
    /// on from one pass to the next, so a batch may hold the end of one and the start of another:
    /// no sample is dropped or seen twice.
    Shuffled {
        /// A `U32` scalar.
        seed: &'a Tensor,
    },
    /// In order; past the end the last sample is repeated.
    Sequential,
}

impl Resident {
    /// A data set to be put on the device. Pixels are normalised to zero mean and unit deviation
    /// over the whole set; use [`Resident::like`] for the set that is tested on.
    pub fn new(data: &Images) -> Resident {
        let count = data.pixels.len().max(1) as f64;
        let sum: f64 = data.pixels.iter().map(|&p| f64::from(p)).sum();
        let squares: f64 = data.pixels.iter().map(|&p| f64::from(p) * f64::from(p)).sum();
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        Resident::build(data, (mean, if deviation > 0.0 { deviation } else { 1.0 }))
    }

    /// Another data set, normalised as this one is.
    pub fn like(&self, data: &Images) -> Resident {
        Resident::build(data, self.normalise)
    }

    /// A data set with pixels normalised by this mean and deviation, in units of a byte.
    pub fn build(data: &Images, normalise: (f64, f64)) -> Resident {
        let features = data.image_len();
        let bytes =
            |name, shape: &[usize], data: &[u8]| Variable::from_bytes(name, shape, DType::U8, data);
        Resident {
            images: bytes("images", &[data.len(), features], &data.pixels),
            labels: bytes("labels", &[data.len()], &data.labels),
            count: data.len(),
            shape: data.shape(),
            normalise,
        }
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Mean and deviation of pixels, in units of a byte.
    pub fn normalise(&self) -> (f64, f64) {
        self.normalise
    }

    /// Bytes of device memory.
    pub fn bytes(&self) -> usize {
        self.images.ty().bytes() + self.labels.ty().bytes()
    }

    /// A batch: images `[batch, channels, h, w]` and labels `[batch]`, `U32`. `position` is the
    /// number of samples visited before, a `U32` scalar.
    #[track_caller]
    pub fn batch(
        &self,
        graph: &Graph,
        position: &Tensor,
        order: &Order<'_>,
        batch: usize,
    ) -> (Tensor, Tensor) {
        let places = position + graph.iota(batch);
        let count = places.full_like(self.count as f64);
        let index = match order {
            Order::Shuffled { seed } => {
                let pass = &places / &count;
                let offset = &places - &pass * &count;
                offset.shuffle(&count, &seed.random(&pass))
            }
            Order::Sequential => {
                places.minimum(&places.full_like(self.count.saturating_sub(1) as f64))
            }
        };
        let (mean, deviation) = self.normalise;
        let pixels = graph.variable(&self.images).index_select(0, &index).to(DType::F32);
        let [channels, h, w] = self.shape;
        let x = (pixels * (1.0 / deviation) - mean / deviation).reshape(&[batch, channels, h, w]);
        (x, graph.variable(&self.labels).index_select(0, &index))
    }
}
