//! Texts from a language model, token by token on the device.

use crate::{TrainError, Trainer};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Init, Loaded, Variable};
use shadegrad_models::{CausalLm, KeyValueCache, Sampling};

/// Continues texts with a [`CausalLm`]. Each token is one run of one program: the model sees the token and the keys
/// and values of those before, and the next one is drawn and kept on the device, so that the host only waits at the end.
pub struct Generator {
    program: Loaded,
    context: usize,
    vocabulary: usize,
    /// The token whose turn it is.
    token: Variable,
    /// Its place.
    place: Variable,
    /// Tokens that are given, and how many they are.
    prompt: Variable,
    given: Variable,
    /// What followed each place.
    drawn: Variable,
    caches: Vec<KeyValueCache>,
}

impl Trainer<CausalLm> {
    /// A generator of texts with the model as it is whenever it is used.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    #[track_caller]
    pub fn generator(&mut self, sampling: Sampling, seed: u64) -> Result<Generator, TrainError> {
        let (context, vocabulary) =
            (self.model().options().context, self.model().options().vocabulary);
        let list = |name| Variable::new(name, &[context], DType::U32, Init::Full(0.0));
        let (prompt, drawn) = (list("prompt"), list("drawn"));
        let word = |name| Variable::word(name, 0);
        let (place, given, count) = (word("place"), word("given"), word("count"));
        let token = Variable::new("token", &[1], DType::U32, Init::Full(0.0));

        let graph = Graph::new();
        let at = graph.variable(&place);
        let counted = graph.variable(&count);
        let seed = graph.full(&[], DType::U32, f64::from(seed as u32 ^ (seed >> 32) as u32));
        let caches = self.model().caches(1);
        let logits = self.model().next(&graph.variable(&token), &caches, &at);
        let free = sampling.draw(&logits, &seed.random(&counted));
        let after = &at + 1.0;
        let last = after.minimum(&after.full_like(context.saturating_sub(1) as f64));
        let fixed = graph.variable(&prompt).index_select(0, &last.reshape(&[1]));
        let next = after.less(&graph.variable(&given)).select(&fixed, &free);
        let here = graph.iota(context).equal(&at);
        graph.assign(&drawn, &here.select(&next, &graph.variable(&drawn)));
        graph.assign(&token, &next);
        graph.assign(&place, &after);
        graph.assign(&count, &(&counted + 1.0));
        let program = self.session().compile(&graph, &[])?;
        Ok(Generator { program, context, vocabulary, token, place, prompt, given, drawn, caches })
    }
}

impl Generator {
    /// The `count` tokens that follow a prompt of at least one token. When the context is full, the model goes on
    /// from the last tokens of the text: about half of what it can see, or more where less is to come.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for an empty prompt, tokens outside of the vocabulary, or another trainer than the one
    /// that the generator is of, [`TrainError::Graph`].
    pub fn generate(
        &mut self,
        trainer: &mut Trainer<CausalLm>,
        prompt: &[u32],
        count: usize,
    ) -> Result<Vec<u32>, TrainError> {
        if prompt.is_empty() {
            return Err(TrainError::setting("the number of tokens to continue", 0, "at least 1"));
        }
        if let Some(&token) = prompt.iter().find(|&&token| token as usize >= self.vocabulary) {
            let expected = format!("below {}", self.vocabulary);
            return Err(TrainError::setting("a token to continue", token as usize, &expected));
        }
        if !trainer.session().holds(&self.place) {
            let expected = "the one that the generator is of";
            return Err(TrainError::Setting {
                what: "the trainer",
                value: "another one".to_string(),
                expected: expected.to_string(),
            });
        }
        for variable in self.caches.iter().flat_map(KeyValueCache::variables) {
            // Masked values count as zero times what they are, which has to be a number.
            trainer.session().write(variable, &vec![0; variable.ty().bytes()])?;
        }
        let mut text = prompt.to_vec();
        while text.len() < prompt.len() + count {
            let left = prompt.len() + count - text.len();
            // The last token's successor needs no place of its own.
            let most = self.context + 1 - left.min(self.context.div_ceil(2));
            let seen = text[text.len() - most.min(text.len())..].to_vec();
            let steps = (seen.len() - 1 + left).min(self.context);
            let session = trainer.session();
            let mut padded = seen.clone();
            padded.resize(self.context, 0);
            session.write(&self.prompt, bytemuck::cast_slice(&padded))?;
            session.write(&self.given, &(seen.len() as u32).to_le_bytes())?;
            session.write(&self.token, &seen[0].to_le_bytes())?;
            session.write(&self.place, &0u32.to_le_bytes())?;
            self.program.run(steps)?;
            let drawn: Vec<u32> = bytemuck::pod_collect_to_vec(&session.read(&self.drawn)?);
            text.extend(&drawn[seen.len() - 1..steps]);
        }
        Ok(text.split_off(prompt.len()))
    }
}
