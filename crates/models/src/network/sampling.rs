//! Drawing the next token from logits.

use shadegrad_graph::Tensor;

/// How a token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by: below one the likely becomes likelier; at zero the likeliest is taken.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn (Fan et al., arXiv 1805.04833); all if none is given.
    pub top_k: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: None }
    }
}

impl Sampling {
    /// A token for each row of logits `[batch, vocabulary]`: `[batch]`, `U32`. It is drawn by adding Gumbel noise under
    /// a key, a `U32` scalar, and taking the largest (Maddison et al., arXiv 1411.0030, section 2).
    #[track_caller]
    pub fn draw(&self, logits: &Tensor, key: &Tensor) -> Tensor {
        if self.temperature <= 0.0 {
            return logits.argmax(1);
        }
        let mut scores = logits * (1.0 / self.temperature);
        let classes = logits.shape().get(1).copied().unwrap_or_default();
        if let Some(k) = self.top_k.filter(|&k| k < classes) {
            let least = scores.topk(k.max(1), 1, true).0.narrow(1, k.max(1) - 1, 1);
            scores = scores.masked_fill(&scores.less(&least), f64::NEG_INFINITY);
        }
        // Zero is drawn as well: its noise is minus infinity, and it is never taken.
        let noise = -(-key.uniform(&logits.shape()).log()).log();
        (scores + noise).argmax(1)
    }
}
