//! Multi-head attention.

use crate::{Initializer, Linear, Module, Named, Parameter, Visitor};
use shadegrad_device::DType;
use shadegrad_graph::{AttentionOptions, Graph, Init, Tensor, Variable};

/// The axis of heads in `[batch, heads, length, width / heads]`.
const HEADS: usize = 1;

/// Attention of several heads over sequences `[batch, length, width]` (Vaswani et al., arXiv 1706.03762). Parameters have
/// PyTorch's names and shapes: `in_proj_weight [3 width, width]` of queries, keys and values, `in_proj_bias`,
/// `out_proj.weight`, `out_proj.bias`.
pub struct MultiheadAttention {
    width: usize,
    heads: usize,
    dropout: f64,
    rotary: Option<f64>,
    in_proj_weight: Parameter,
    in_proj_bias: Option<Parameter>,
    out_proj: Linear,
}

/// The keys and values that attention has seen: what generating token by token needs of those before.
pub struct KeyValueCache {
    keys: Variable,
    values: Variable,
}

impl KeyValueCache {
    /// Where they lie.
    pub fn variables(&self) -> [&Variable; 2] {
        [&self.keys, &self.values]
    }
}

impl MultiheadAttention {
    /// Attention of a width, of which each head takes its share, with biases, initialised as in PyTorch.
    pub fn new(embed_dim: usize, num_heads: usize) -> MultiheadAttention {
        let init = Initializer::XavierUniform { fan_in: embed_dim, fan_out: 3 * embed_dim };
        let out = Initializer::default_for(embed_dim);
        MultiheadAttention {
            width: embed_dim,
            heads: num_heads,
            dropout: 0.0,
            rotary: None,
            in_proj_weight: Parameter::new(&[3 * embed_dim, embed_dim], init),
            in_proj_bias: Some(Parameter::new(&[3 * embed_dim], Initializer::Zeros)),
            out_proj: Linear::new(embed_dim, embed_dim).initializer(out),
        }
    }

    /// Without biases.
    pub fn no_bias(mut self) -> MultiheadAttention {
        self.in_proj_bias = None;
        self.out_proj = self.out_proj.no_bias();
        self
    }

    /// Dropout of the weights that values get. Weights are then stored in training, as they else never are.
    pub fn dropout(mut self, p: f64) -> MultiheadAttention {
        self.dropout = p;
        self
    }

    /// Turns queries and keys by their places (RoPE: Su et al., arXiv 2104.09864), pairs of features being half a
    /// head apart; the slowest pair turns by almost `1 / base` a place. 10 000 is usual.
    pub fn rotary(mut self, base: f64) -> MultiheadAttention {
        self.rotary = Some(base);
        self
    }

    /// With weights initialised another way, those of the output projection apart.
    pub fn initializer(mut self, weights: Initializer, output: Initializer) -> MultiheadAttention {
        self.in_proj_weight = Parameter::new(self.in_proj_weight.shape(), weights);
        self.out_proj = self.out_proj.initializer(output);
        self
    }

    /// Queries `[batch, m, width]` look at keys and values `[batch, n, width]`; a mask in the options broadcasts to
    /// `[batch, heads, m, n]`.
    #[track_caller]
    pub fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> Tensor {
        let Some([q, k, v]) = self.heads_of([query, key, value]) else {
            return self.refuse(query);
        };
        let (q, k) = (self.turned(&q, None), self.turned(&k, None));
        let seen = match self.dropout > 0.0 && query.graph().is_training() {
            false => q.scaled_dot_product_attention(&k, &v, options),
            true => weights(&q, &k, options).dropout(self.dropout).matmul(&v),
        };
        self.joined(&seen)
    }

    /// [`MultiheadAttention::attend`] without dropout, and the weights in the mean over the heads, `[batch, m, n]`.
    #[track_caller]
    pub fn attend_with_weights(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> (Tensor, Tensor) {
        let Some([q, k, v]) = self.heads_of([query, key, value]) else {
            let refused = self.refuse(query);
            return (refused.clone(), refused);
        };
        let (q, k) = (self.turned(&q, None), self.turned(&k, None));
        let weights = weights(&q, &k, options);
        (self.joined(&weights.matmul(&v)), weights.mean(&[HEADS]))
    }

    /// An empty cache for sequences of up to `context` tokens.
    pub fn cache(&self, batch: usize, context: usize) -> KeyValueCache {
        let shape = [batch, self.heads, context, self.width / self.heads.max(1)];
        let empty = |name| Variable::new(name, &shape, DType::F32, Init::Full(0.0));
        KeyValueCache { keys: empty("keys"), values: empty("values") }
    }

    /// Self-attention of one more token `[batch, 1, width]` at a place, a `U32` scalar: it looks at itself and at
    /// those that the cache holds before that place, and joins them.
    #[track_caller]
    pub fn attend_next(&self, x: &Tensor, cache: &KeyValueCache, place: &Tensor) -> Tensor {
        let Some([q, k, v]) = self.heads_of([x, x, x]) else {
            return self.refuse(x);
        };
        let graph = x.graph();
        let context = cache.keys.ty().shape[2];
        let (q, k) = (self.turned(&q, Some(place)), self.turned(&k, Some(place)));
        let here = graph.iota(context).equal(place).unsqueeze(1);
        let keep = |variable: &Variable, new: &Tensor| {
            let all = here.select(new, &graph.variable(variable));
            graph.assign(variable, &all);
            all
        };
        let (k, v) = (keep(&cache.keys, &k), keep(&cache.values, &v));
        let mask = Some(graph.iota(context).less_equal(place).unsqueeze(0));
        let options = AttentionOptions { mask, ..AttentionOptions::default() };
        self.joined(&q.scaled_dot_product_attention(&k, &v, &options))
    }

    #[track_caller]
    fn refuse(&self, x: &Tensor) -> Tensor {
        let (width, heads) = (self.width, self.heads);
        let even = if self.rotary.is_some() { ", of an even width each" } else { "" };
        let reason = format!(
            "takes sequences [batch, length, {width}], and {heads} heads that divide the width{even}"
        );
        x.graph().refuse("multi-head attention", &[x], &reason)
    }

    /// Queries, keys and values, `[batch, heads, length, width / heads]`; what has the same source, by one product.
    #[track_caller]
    fn heads_of(&self, sources: [&Tensor; 3]) -> Option<[Tensor; 3]> {
        let (width, heads) = (self.width, self.heads);
        let whole = heads > 0
            && width.is_multiple_of(heads)
            && (self.rotary.is_none() || (width / heads).is_multiple_of(2));
        let fits = |x: &&Tensor| x.shape().len() == 3 && x.shape()[2] == width;
        if !whole || !sources.iter().all(fits) {
            return None;
        }
        let graph = sources[0].graph();
        let weight = self.in_proj_weight.tensor(graph);
        let bias = self.in_proj_bias.as_ref().map(|bias| bias.tensor(graph));
        let project = |x: &Tensor, first: usize, count: usize| {
            let part = |t: &Tensor| t.narrow(0, first * width, count * width);
            x.linear(&part(&weight), bias.as_ref().map(part).as_ref())
        };
        let split = |y: &Tensor, number: usize| {
            let y = y.narrow(2, number * width, width);
            let (batch, length) = (y.shape()[0], y.shape()[1]);
            y.reshape(&[batch, length, heads, width / heads]).transpose(1, 2)
        };
        let [query, key, value] = sources;
        if query.value() == key.value() && key.value() == value.value() {
            let all = project(query, 0, 3);
            return Some([0, 1, 2].map(|number| split(&all, number)));
        }
        let q = split(&project(query, 0, 1), 0);
        if key.value() == value.value() {
            let both = project(key, 1, 2);
            return Some([q, split(&both, 0), split(&both, 1)]);
        }
        Some([q, split(&project(key, 1, 1), 0), split(&project(value, 2, 1), 0)])
    }

    /// The heads of `[batch, heads, length, width / heads]` side by side again, and projected.
    #[track_caller]
    fn joined(&self, heads: &Tensor) -> Tensor {
        let shape = heads.shape();
        let wide = heads.transpose(1, 2).reshape(&[shape[0], shape[2], self.width]);
        self.out_proj.forward(&wide)
    }

    /// Queries or keys turned by their places: those of a sequence from its beginning, or of one token.
    #[track_caller]
    fn turned(&self, x: &Tensor, place: Option<&Tensor>) -> Tensor {
        let Some(base) = self.rotary else {
            return x.clone();
        };
        let graph = x.graph();
        let (length, half) = (x.shape()[2], x.shape()[3] / 2);
        let places = match place {
            Some(place) => place.to(DType::F32).reshape(&[1, 1]),
            None => graph.iota(length).to(DType::F32).unsqueeze(1),
        };
        let angle = places * rates(graph, half, base);
        let (cos, sin) = (angle.cos(), angle.sin());
        let (a, b) = (x.narrow(3, 0, half), x.narrow(3, half, half));
        graph.concat(&[&(&a * &cos - &b * &sin), &(&a * &sin + &b * &cos)], 3)
    }
}

/// How far each of `count` pairs of features turns from one place to the next: `base^(-i / count)`.
pub(super) fn rates(graph: &Graph, count: usize, base: f64) -> Tensor {
    let powers: Vec<f32> =
        (0..count).map(|i| base.powf(-(i as f64) / count as f64) as f32).collect();
    graph.tensor(&[count], &powers)
}

/// What share of each value a query gets, `[batch, heads, m, n]`.
#[track_caller]
fn weights(q: &Tensor, k: &Tensor, options: &AttentionOptions) -> Tensor {
    let scale = options.scale.unwrap_or(1.0 / (q.shape()[3] as f64).sqrt());
    let mut scores = q.matmul(&k.transpose(2, 3)) * scale;
    if let Some(mask) = &options.mask {
        scores = match mask.dtype() {
            DType::Bool => scores.masked_fill(&mask.not(), f64::NEG_INFINITY),
            _ => scores + mask,
        };
    }
    if options.causal {
        let ahead = scores.along(2).less(&scores.along(3));
        scores = scores.masked_fill(&ahead, f64::NEG_INFINITY);
    }
    // A query that sees no key gives zeros, as in the fused form, and no slopes: its scores become numbers first.
    let blind = scores.amax(&[3]).unsqueeze(3).equal(&scores.full_like(f64::NEG_INFINITY));
    scores.masked_fill(&blind, 0.0).softmax(3).masked_fill(&blind, 0.0)
}

impl Named for MultiheadAttention {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("in_proj_weight", &self.in_proj_weight);
        if let Some(bias) = &self.in_proj_bias {
            visitor.parameter("in_proj_bias", bias);
        }
        visitor.child("out_proj", &self.out_proj);
    }
}
