//! A causal language model.

use crate::{
    Dropout, Embedding, Initializer, KeyValueCache, LayerNorm, LearnedPositions, Module, Named,
    Positions, SinusoidalPositions, TransformerEncoder, TransformerEncoderLayer, Visitor,
};
use shadegrad_device::DType;
use shadegrad_graph::{AttentionOptions, Tensor};

/// The sizes of a [`CausalLm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CausalLmOptions {
    /// Different tokens.
    pub vocabulary: usize,
    /// Most tokens that are seen at once.
    pub context: usize,
    /// Numbers of a token's vector.
    pub width: usize,
    /// Heads of each block, which divide the width.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// How places are known.
    pub positions: Positions,
    /// Dropout everywhere.
    pub dropout: f64,
}

/// A transformer that continues texts (Radford et al., 2019: GPT-2): pre-norm blocks with GELU and feed-forward layers of four
/// times the width. Its output layer is the table of its tokens' vectors, transposed (Press and Wolf, arXiv 1608.05859).
pub struct CausalLm {
    options: CausalLmOptions,
    tokens: Embedding,
    positions: Option<LearnedPositions>,
    blocks: TransformerEncoder,
    dropout: Dropout,
}

impl CausalLm {
    /// A model of some sizes, initialised as GPT-2 is.
    pub fn new(options: CausalLmOptions) -> CausalLm {
        let CausalLmOptions { vocabulary, context, width, heads, layers, positions, dropout } =
            options;
        let normal = Initializer::Normal { std: 0.02 };
        let residual = Initializer::Normal { std: 0.02 / (2.0 * layers as f64).sqrt() };
        let block = || {
            let block = TransformerEncoderLayer::new(width, heads)
                .dim_feedforward(4 * width)
                .dropout(dropout)
                .gelu()
                .norm_first()
                .initializer(normal, residual);
            if positions == Positions::Rotary { block.rotary(10_000.0) } else { block }
        };
        CausalLm {
            options,
            tokens: Embedding::new(vocabulary, width).initializer(normal),
            positions: (positions == Positions::Learned)
                .then(|| LearnedPositions::new(context, width)),
            blocks: TransformerEncoder::new(layers, block).norm(LayerNorm::new(&[width])),
            dropout: Dropout::new(dropout),
        }
    }

    /// The sizes.
    pub fn options(&self) -> &CausalLmOptions {
        &self.options
    }

    /// An empty cache for each block.
    pub fn caches(&self, batch: usize) -> Vec<KeyValueCache> {
        self.blocks.caches(batch, self.options.context)
    }

    /// Logits of what follows one more token `[batch]`, `U32`, at a place, a `U32` scalar below the context, given
    /// those before in the caches: `[batch, vocabulary]`.
    #[track_caller]
    pub fn next(&self, token: &Tensor, caches: &[KeyValueCache], place: &Tensor) -> Tensor {
        if token.shape().len() != 1 {
            return self.refuse(token, "takes tokens [batch]");
        }
        let tokens = token.unsqueeze(1);
        if let Some(refused) = self.refused(&tokens) {
            return refused;
        }
        let words = self.tokens.forward(&tokens);
        let x = self.placed(&words, Some(place));
        self.logits(&self.blocks.run_next(&x, caches, place))
    }

    #[track_caller]
    fn refuse(&self, x: &Tensor, reason: &str) -> Tensor {
        x.graph().refuse("language model", &[x], reason)
    }

    /// What comes of tokens, or sizes, that don't fit.
    #[track_caller]
    fn refused(&self, x: &Tensor) -> Option<Tensor> {
        let CausalLmOptions { vocabulary, context, width, heads, .. } = self.options;
        if x.shape().len() != 2 || x.dtype() != DType::U32 {
            return Some(self.refuse(x, "takes tokens [batch, length], u32"));
        }
        if [vocabulary, context, width, heads].contains(&0) {
            let reason = format!(
                "a vocabulary of {vocabulary}, a context of {context}, a width of {width} and {heads} heads: all must be at least 1"
            );
            return Some(self.refuse(x, &reason));
        }
        None
    }

    /// Tokens' vectors `[batch, length, width]` that know their places: the first ones, or one in particular.
    #[track_caller]
    fn placed(&self, words: &Tensor, place: Option<&Tensor>) -> Tensor {
        let length = words.shape()[1];
        let one = place.map(|place| place.reshape(&[1]));
        match (self.options.positions, &self.positions) {
            (Positions::Learned, Some(table)) => match one {
                Some(place) => words + table.of(&place),
                None => words + table.first(words, length),
            },
            (Positions::Sinusoidal, _) => {
                let places = one.unwrap_or_else(|| words.graph().iota(length));
                // So that words, which begin small, aren't lost among sines of size one.
                words * (self.options.width as f64).sqrt()
                    + SinusoidalPositions.of(&places.to(DType::F32), self.options.width)
            }
            _ => words.clone(),
        }
    }

    /// Logits of `[batch, length, width]`, a row for each token.
    #[track_caller]
    fn logits(&self, x: &Tensor) -> Tensor {
        let shape = x.shape();
        let rows = x.reshape(&[shape[0] * shape[1], shape[2]]);
        rows.linear(&self.tokens.weight(x.graph()), None)
    }
}

impl Named for CausalLm {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("tokens", &self.tokens);
        if let Some(positions) = &self.positions {
            visitor.child("positions", positions);
        }
        visitor.child("blocks", &self.blocks);
    }
}

/// Tokens `[batch, length]`, `U32`, to logits of what follows each: `[batch length, vocabulary]`, a row for each token, as
/// cross entropy takes them.
impl Module for CausalLm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(refused) = self.refused(x) {
            return refused;
        }
        let words = self.placed(&self.tokens.forward(x), None);
        let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
        self.logits(&self.blocks.run(&self.dropout.forward(&words), &options))
    }
}
