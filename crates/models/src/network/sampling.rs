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
    ///
    /// A temperature below 1e-20 takes the likeliest; of equal ones the first are among the likeliest.
    #[track_caller]
    pub fn draw(&self, logits: &Tensor, key: &Tensor) -> Tensor {
        let &[_, classes] = logits.shape().as_slice() else {
            return logits.graph().refuse(
                "sampling",
                &[logits],
                "takes logits [batch, vocabulary]",
            );
        };
        let temperature = self.temperature;
        if !(0.0..=f64::from(f32::MAX)).contains(&temperature) || self.top_k == Some(0) {
            let reason = format!(
                "takes a temperature of zero or more and at least one token, not {temperature} and {:?}",
                self.top_k
            );
            return logits.graph().refuse("sampling", &[logits], &reason);
        }
        if temperature < 1e-20 {
            return logits.argmax(1);
        }
        let scaled =
            |scores: &Tensor| (scores - scores.amax(&[1]).unsqueeze(1)) * (1.0 / temperature);
        // Zero is drawn as well: its noise is minus infinity, and it is never taken.
        let noisy = |scores: Tensor| {
            let noise = -(-key.uniform(&scores.shape()).log()).log();
            (scores + noise).argmax(1)
        };
        match self.top_k.filter(|&k| k < classes) {
            None => noisy(scaled(logits)),
            Some(k) => {
                let (scores, places) = logits.topk(k, 1, true);
                places.gather(1, &noisy(scaled(&scores)).unsqueeze(1)).squeeze(1)
            }
        }
    }
}
