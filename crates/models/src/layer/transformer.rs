//! Blocks of transformers (Vaswani et al., arXiv 1706.03762), with PyTorch's names and defaults.

use crate::{
    Initializer, KeyValueCache, LayerNorm, Linear, Module, MultiheadAttention, Named, Visitor,
    named,
};
use shadegrad_graph::{AttentionOptions, Tensor};

/// What lies between the two linear layers of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Relu,
    Gelu,
}

/// What encoder and decoder blocks share: two linear layers, and whether normalisation comes before or after.
struct FeedForward {
    linear1: Linear,
    linear2: Linear,
    activation: Activation,
    norm_first: bool,
    dropout: f64,
}

impl FeedForward {
    fn new(width: usize, hidden: usize) -> FeedForward {
        FeedForward {
            linear1: Linear::new(width, hidden),
            linear2: Linear::new(hidden, width),
            activation: Activation::Relu,
            norm_first: false,
            dropout: 0.1,
        }
    }

    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.linear1.forward(x);
        let hidden = match self.activation {
            Activation::Relu => hidden.relu(),
            Activation::Gelu => hidden.gelu(),
        };
        self.linear2.forward(&hidden.dropout(self.dropout))
    }

    /// `x` and what a part of the block makes of it, normalised before or after.
    #[track_caller]
    fn residual(&self, x: &Tensor, norm: &LayerNorm, part: impl Fn(&Tensor) -> Tensor) -> Tensor {
        match self.norm_first {
            true => x + part(&norm.forward(x)).dropout(self.dropout),
            false => norm.forward(&(x + part(x).dropout(self.dropout))),
        }
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("linear1", &self.linear1);
        visitor.child("linear2", &self.linear2);
    }
}

macro_rules! blocks {
    ($($block:ident { $($attention:ident),* })*) => {$(
        impl $block {
            /// The width between the two linear layers; 2048 if none is given.
            pub fn dim_feedforward(mut self, hidden: usize) -> Self {
                self.feed = FeedForward {
                    linear1: Linear::new(self.width, hidden),
                    linear2: Linear::new(hidden, self.width),
                    ..self.feed
                };
                self
            }

            /// Dropout of attention's weights, between the linear layers, and of what each part adds; 0.1 if none is
            /// given.
            pub fn dropout(mut self, p: f64) -> Self {
                self.feed.dropout = p;
                $(self.$attention = self.$attention.dropout(p);)*
                self
            }

            /// With the exact GELU instead of relu.
            pub fn gelu(mut self) -> Self {
                self.feed.activation = Activation::Gelu;
                self
            }

            /// Normalises before each part, not after it (pre-norm: Xiong et al., arXiv 2002.04745).
            pub fn norm_first(mut self) -> Self {
                self.feed.norm_first = true;
                self
            }

            /// With weights of linear layers initialised another way, those of the layers whose outputs are added up
            /// apart; biases begin at zero. To be called behind [`Self::dim_feedforward`].
            pub fn initializer(mut self, weights: Initializer, residual: Initializer) -> Self {
                $(self.$attention = self.$attention.initializer(weights, residual);)*
                self.feed.linear1 = self.feed.linear1.initializer(weights);
                self.feed.linear2 = self.feed.linear2.initializer(residual);
                self
            }
        }
    )*};
}

blocks! {
    TransformerEncoderLayer { self_attn }
    TransformerDecoderLayer { self_attn, multihead_attn }
}

/// Self-attention and two linear layers, each added to what it is made of: `[batch, length, width]` to the same. With a
/// causal mask this is the block of a language model.
pub struct TransformerEncoderLayer {
    width: usize,
    self_attn: MultiheadAttention,
    feed: FeedForward,
    norm1: LayerNorm,
    norm2: LayerNorm,
}

impl TransformerEncoderLayer {
    /// A block of a width with a number of heads.
    pub fn new(d_model: usize, nhead: usize) -> TransformerEncoderLayer {
        TransformerEncoderLayer {
            width: d_model,
            self_attn: MultiheadAttention::new(d_model, nhead).dropout(0.1),
            feed: FeedForward::new(d_model, 2048),
            norm1: LayerNorm::new(&[d_model]),
            norm2: LayerNorm::new(&[d_model]),
        }
    }

    /// Queries and keys turn with their places: [`MultiheadAttention::rotary`].
    pub fn rotary(mut self, base: f64) -> TransformerEncoderLayer {
        self.self_attn = self.self_attn.rotary(base);
        self
    }

    /// The block, with a mask or causal.
    #[track_caller]
    pub fn run(&self, x: &Tensor, options: &AttentionOptions) -> Tensor {
        self.block(x, |x| self.self_attn.attend(x, x, x, options))
    }

    /// An empty cache for sequences of up to `context` tokens.
    pub fn cache(&self, batch: usize, context: usize) -> KeyValueCache {
        self.self_attn.cache(batch, context)
    }

    /// The causal block for one more token: [`MultiheadAttention::attend_next`].
    #[track_caller]
    pub fn run_next(&self, x: &Tensor, cache: &KeyValueCache, place: &Tensor) -> Tensor {
        self.block(x, |x| self.self_attn.attend_next(x, cache, place))
    }

    #[track_caller]
    fn block(&self, x: &Tensor, attend: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let x = self.feed.residual(x, &self.norm1, attend);
        self.feed.residual(&x, &self.norm2, |x| self.feed.forward(x))
    }
}

impl Named for TransformerEncoderLayer {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("self_attn", &self.self_attn);
        self.feed.visit(visitor);
        visitor.child("norm1", &self.norm1);
        visitor.child("norm2", &self.norm2);
    }
}

impl Module for TransformerEncoderLayer {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.run(x, &AttentionOptions::default())
    }
}

/// Self-attention, attention to an encoder's output, and two linear layers, each added to what it is made of.
pub struct TransformerDecoderLayer {
    width: usize,
    self_attn: MultiheadAttention,
    multihead_attn: MultiheadAttention,
    feed: FeedForward,
    norm1: LayerNorm,
    norm2: LayerNorm,
    norm3: LayerNorm,
}

impl TransformerDecoderLayer {
    /// A block of a width with a number of heads.
    pub fn new(d_model: usize, nhead: usize) -> TransformerDecoderLayer {
        let attention = || MultiheadAttention::new(d_model, nhead).dropout(0.1);
        let norm = || LayerNorm::new(&[d_model]);
        TransformerDecoderLayer {
            width: d_model,
            self_attn: attention(),
            multihead_attn: attention(),
            feed: FeedForward::new(d_model, 2048),
            norm1: norm(),
            norm2: norm(),
            norm3: norm(),
        }
    }

    /// The block: `x [batch, m, width]` looks at itself, and at `memory [batch, n, width]`.
    #[track_caller]
    pub fn run(
        &self,
        x: &Tensor,
        memory: &Tensor,
        own: &AttentionOptions,
        cross: &AttentionOptions,
    ) -> Tensor {
        let feed = &self.feed;
        let x = feed.residual(x, &self.norm1, |x| self.self_attn.attend(x, x, x, own));
        let look = |x: &Tensor| self.multihead_attn.attend(x, memory, memory, cross);
        let x = feed.residual(&x, &self.norm2, look);
        feed.residual(&x, &self.norm3, |x| feed.forward(x))
    }
}

impl Named for TransformerDecoderLayer {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("self_attn", &self.self_attn);
        visitor.child("multihead_attn", &self.multihead_attn);
        self.feed.visit(visitor);
        visitor.child("norm1", &self.norm1);
        visitor.child("norm2", &self.norm2);
        visitor.child("norm3", &self.norm3);
    }
}

/// Encoder blocks one after the other, and perhaps a normalisation behind them.
pub struct TransformerEncoder {
    layers: Vec<TransformerEncoderLayer>,
    norm: Option<LayerNorm>,
}

impl TransformerEncoder {
    /// `num_layers` blocks, each made by a call.
    pub fn new(num_layers: usize, layer: impl Fn() -> TransformerEncoderLayer) -> Self {
        TransformerEncoder { layers: (0..num_layers).map(|_| layer()).collect(), norm: None }
    }

    /// With a normalisation behind the blocks.
    pub fn norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }

    /// The blocks, with a mask or causal.
    #[track_caller]
    pub fn run(&self, x: &Tensor, options: &AttentionOptions) -> Tensor {
        let x = self.layers.iter().fold(x.clone(), |x, layer| layer.run(&x, options));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(&x))
    }

    /// An empty cache for each block.
    pub fn caches(&self, batch: usize, context: usize) -> Vec<KeyValueCache> {
        self.layers.iter().map(|layer| layer.cache(batch, context)).collect()
    }

    /// The causal blocks for one more token `[batch, 1, width]` at a place.
    #[track_caller]
    pub fn run_next(&self, x: &Tensor, caches: &[KeyValueCache], place: &Tensor) -> Tensor {
        let pairs = self.layers.iter().zip(caches);
        let x = pairs.fold(x.clone(), |x, (layer, cache)| layer.run_next(&x, cache, place));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(&x))
    }
}

impl Named for TransformerEncoder {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("layers", &self.layers);
        if let Some(norm) = &self.norm {
            visitor.child("norm", norm);
        }
    }
}

/// The blocks without a mask.
impl Module for TransformerEncoder {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.run(x, &AttentionOptions::default())
    }
}

/// Decoder blocks one after the other.
pub struct TransformerDecoder {
    layers: Vec<TransformerDecoderLayer>,
}

named!(TransformerDecoder { layers });

impl TransformerDecoder {
    /// `num_layers` blocks, each made by a call.
    pub fn new(num_layers: usize, layer: impl Fn() -> TransformerDecoderLayer) -> Self {
        TransformerDecoder { layers: (0..num_layers).map(|_| layer()).collect() }
    }

    /// The blocks, each looking at `memory`.
    #[track_caller]
    pub fn run(
        &self,
        x: &Tensor,
        memory: &Tensor,
        own: &AttentionOptions,
        cross: &AttentionOptions,
    ) -> Tensor {
        self.layers.iter().fold(x.clone(), |x, layer| layer.run(&x, memory, own, cross))
    }
}
