//! Tokens on the device: labelled sequences padded to one length, and windows of one long text.

use crate::data::text::{Bucket, Sequences};
use crate::{Dataset, Part, Samples, Statistics};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Tensor, Variable};

/// Sequences of one length with a label each.
pub struct Padded {
    tokens: Variable,
    labels: Variable,
    count: usize,
}

impl Padded {
    /// `tokens` are row-major `[samples, len]`, with padding behind the shorter ones.
    pub fn new(tokens: &[u32], len: usize, labels: &[u8]) -> Padded {
        let count = labels.len();
        let bytes: &[u8] = bytemuck::cast_slice(tokens);
        Padded {
            tokens: Variable::from_bytes("tokens", &[count, len], DType::U32, bytes),
            labels: Variable::from_bytes("labels", &[count], DType::U8, labels),
            count,
        }
    }
}

impl Samples for Padded {
    fn len(&self) -> usize {
        self.count
    }

    /// Tokens `[batch, len]` and labels `[batch]`, `U32`.
    #[track_caller]
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        let of = |variable| graph.variable(variable).index_select(0, index);
        (of(&self.tokens), of(&self.labels))
    }
}

/// Texts as numbers are a part for each [`Bucket`](crate::data::text::Bucket) of like length.
impl Dataset for Sequences {
    fn sizes(&self, batch: usize) -> Vec<usize> {
        self.training_buckets(batch).iter().map(|bucket| bucket.samples.len()).collect()
    }

    fn parts(&self, batch: usize, _: Option<Statistics>) -> Vec<Part> {
        let part = |bucket: Bucket| {
            let samples = Padded::new(&bucket.padded(self), bucket.len, &bucket.labels(self));
            Part { samples: Box::new(samples), numbers: bucket.samples }
        };
        self.training_buckets(batch).into_iter().map(part).collect()
    }
}

/// Windows of a text, each to be continued token by token: the data set of a language model.
#[derive(Clone, Debug)]
pub struct Windows {
    tokens: Vec<u32>,
    context: usize,
    stride: usize,
}

impl Windows {
    /// Windows of `context` tokens that begin at every token, so that training sees each token at every place.
    pub fn new(tokens: &[u32], context: usize) -> Windows {
        Windows { tokens: tokens.to_vec(), context, stride: 1 }
    }

    /// The windows side by side, so that an evaluation predicts each token once, but for the first and what is
    /// too short for a window in the end.
    pub fn apart(mut self) -> Windows {
        self.stride = self.context;
        self
    }

    /// How many windows there are; of no tokens, none.
    fn count(&self) -> usize {
        match self.tokens.len().checked_sub(self.context + 1) {
            Some(last) if self.context > 0 => last / self.stride + 1,
            _ => 0,
        }
    }
}

impl Dataset for Windows {
    fn sizes(&self, _: usize) -> Vec<usize> {
        vec![self.count()]
    }

    fn parts(&self, _: usize, _: Option<Statistics>) -> Vec<Part> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.tokens);
        let samples = Text {
            tokens: Variable::from_bytes("text", &[self.tokens.len()], DType::U32, bytes),
            windows: self.count(),
            context: self.context,
            stride: self.stride,
        };
        vec![Part { samples: Box::new(samples), numbers: (0..self.count()).collect() }]
    }
}

/// A text on the device.
struct Text {
    tokens: Variable,
    windows: usize,
    context: usize,
    stride: usize,
}

impl Samples for Text {
    fn len(&self) -> usize {
        self.windows
    }

    /// Tokens `[batch, context]`, and those that follow each, `[batch context]`, `U32`.
    #[track_caller]
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        let context = self.context;
        let start = (index * self.stride as f64).unsqueeze(1);
        let places = start + graph.iota(context);
        let text = graph.variable(&self.tokens);
        let follow = |ahead: f64| text.index_select(0, &(&places + ahead).flatten(0));
        (follow(0.0).reshape(&places.shape()), follow(1.0))
    }
}
