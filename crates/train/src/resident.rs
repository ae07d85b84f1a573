//! Images on the device: bytes stay bytes, and a kernel gathers, shuffles and normalises the next batch.

use crate::{Dataset, Images, Part, Samples, Statistics, Transforms};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Tensor, Type, Variable};

/// A data set of images as variables.
pub struct Resident {
    images: Variable,
    labels: Variable,
    count: usize,
    row: Row,
}

/// What a row of a variable becomes.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) ty: Type,
    pub(crate) statistics: Option<Statistics>,
    pub(crate) transforms: Transforms,
}

impl Row {
    /// Rows as floats, or as the words that they are and that nothing normalises, `[batch, ..]`.
    #[track_caller]
    pub(crate) fn normalised(&self, rows: &Tensor) -> Tensor {
        let shape = [&rows.shape()[..1], &self.ty.shape].concat();
        let changed = match rows.graph().is_training() && !self.transforms.is_empty() {
            true => {
                let pixels = (rows.to(DType::F32) * (1.0 / 255.0)).reshape(&shape);
                self.transforms.apply(pixels) * 255.0
            }
            false => rows.clone(),
        };
        let rows = &changed;
        let rows = match (self.ty.dtype, self.statistics) {
            // Words such as tokens are no amounts.
            (DType::U32, _) => rows.clone(),
            (_, Some(Statistics { mean, deviation })) => {
                rows.to(DType::F32) * (1.0 / deviation) - mean / deviation
            }
            _ => rows.to(DType::F32),
        };
        rows.reshape(&shape)
    }
}

impl Resident {
    /// A data set to be put on the device. Pixels are normalised to zero mean and unit deviation
    /// over the whole set.
    pub fn new(data: &Images) -> Resident {
        Resident::normalised(data, pixel_statistics(data))
    }

    /// Images that training changes at random.
    pub fn transformed(mut self, transforms: Transforms) -> Resident {
        self.row.transforms = transforms;
        self
    }

    /// A data set with pixels normalised by this mean and deviation, in units of a byte.
    pub fn normalised(data: &Images, statistics: Statistics) -> Resident {
        let features = data.image_len();
        let bytes =
            |name, shape: &[usize], data: &[u8]| Variable::from_bytes(name, shape, DType::U8, data);
        Resident {
            images: bytes("images", &[data.len(), features], &data.pixels),
            labels: bytes("labels", &[data.len()], &data.labels),
            count: data.len(),
            row: Row {
                ty: Type::new(&data.shape(), DType::U8),
                statistics: Some(statistics),
                transforms: Transforms::new(),
            },
        }
    }
}

/// Mean and deviation over all pixels, in units of a byte.
fn pixel_statistics(data: &Images) -> Statistics {
    let count = data.pixels.len();
    let sum: f64 = data.pixels.iter().map(|&p| f64::from(p)).sum();
    let squares: f64 = data.pixels.iter().map(|&p| f64::from(p) * f64::from(p)).sum();
    Statistics::of(sum, squares, count)
}

impl Samples for Resident {
    fn len(&self) -> usize {
        self.count
    }

    /// Images `[batch, channels, h, w]` and labels `[batch]`, `U32`.
    #[track_caller]
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        let x = self.row.normalised(&graph.variable(&self.images).index_select(0, index));
        (x, graph.variable(&self.labels).index_select(0, index))
    }
}

/// Images that training changes at random.
pub struct Augmented {
    images: Images,
    transforms: Transforms,
}

impl Images {
    /// The same, changed at random while training.
    pub fn augmented(self, transforms: Transforms) -> Augmented {
        Augmented { images: self, transforms }
    }
}

impl Dataset for Augmented {
    fn sizes(&self, batch: usize) -> Vec<usize> {
        self.images.sizes(batch)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.images.statistics()
    }

    fn parts(&self, _: usize, statistics: Option<Statistics>) -> Vec<Part> {
        let statistics = statistics.unwrap_or_else(|| pixel_statistics(&self.images));
        let samples = Resident::normalised(&self.images, statistics);
        let samples = Box::new(samples.transformed(self.transforms.clone()));
        vec![Part { samples, numbers: (0..self.images.labels.len()).collect() }]
    }
}

/// Images are one part, and normalised over all pixels.
impl Dataset for Images {
    fn sizes(&self, _: usize) -> Vec<usize> {
        vec![self.labels.len()]
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(pixel_statistics(self))
    }

    fn parts(&self, _: usize, statistics: Option<Statistics>) -> Vec<Part> {
        let statistics = statistics.unwrap_or_else(|| pixel_statistics(self));
        let samples = Box::new(Resident::normalised(self, statistics));
        vec![Part { samples, numbers: (0..self.labels.len()).collect() }]
    }
}
