//! A classifier of texts: embedding, LSTM, linear.

use crate::{Dropout, Embedding, Linear, Lstm, Module, named};
use shadegrad_device::DType;
use shadegrad_graph::Tensor;

/// The index of padding behind a text.
const PADDING: usize = 0;

/// Classifies texts with an LSTM (Hochreiter and Schmidhuber, 1997) in both directions, whose outputs are pooled
/// over the words by their maximum (Conneau et al., arXiv 1705.02364): tokens `[batch, time]`, `U32`, to logits
/// `[batch, classes]`. Token 0 is padding, and changes nothing wherever it stands.
pub struct TextClassifier {
    embedding: Embedding,
    lstm: Lstm,
    fc: Linear,
    dropout: Dropout,
    words: f64,
}

named!(TextClassifier { embedding, lstm, fc });

impl TextClassifier {
    /// A classifier of texts in a vocabulary, with word vectors of a width and so many units in each direction.
    pub fn new(vocabulary: usize, width: usize, hidden: usize, classes: usize) -> TextClassifier {
        TextClassifier {
            embedding: Embedding::new(vocabulary, width).padding_idx(PADDING),
            lstm: Lstm::new(width, hidden).bidirectional().batch_first(),
            fc: Linear::new(2 * hidden, classes),
            dropout: Dropout::new(0.0),
            words: 0.0,
        }
    }

    /// Dropout of word vectors' elements and of what is pooled.
    pub fn dropout(mut self, p: f64) -> TextClassifier {
        self.dropout = Dropout::new(p);
        self
    }

    /// In training, each word is missing with probability `p` (Iyyer et al., ACL 2015).
    pub fn word_dropout(mut self, p: f64) -> TextClassifier {
        self.words = p;
        self
    }

    /// With another table of word vectors, as from pretrained ones; their width must be that of the model.
    pub fn embedding(mut self, embedding: Embedding) -> TextClassifier {
        self.embedding = embedding.padding_idx(PADDING);
        self
    }
}

impl Module for TextClassifier {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        if x.shape().len() != 2 || x.dtype() != DType::U32 {
            return x.graph().refuse("text classifier", &[x], "takes tokens [batch, time], u32");
        }
        let counts = x.not_equal(&x.full_like(PADDING as f64));
        let words = self.embedding.forward(x);
        let present = x.ones_like().to(DType::F32).dropout(self.words).unsqueeze(2);
        let words = self.dropout.forward(&(words * present));
        let output = self.lstm.run_masked(&words, None, Some(&counts)).output;
        let pooled = output.masked_fill(&counts.not().unsqueeze(2), f64::NEG_INFINITY).amax(&[1]);
        // Of a text without a word nothing is left but the last layer's bias.
        let pooled = pooled.masked_fill(&counts.any(&[1]).not().unsqueeze(1), 0.0);
        self.fc.forward(&self.dropout.forward(&pooled))
    }
}
