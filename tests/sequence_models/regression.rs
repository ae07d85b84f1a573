//! Logistic regression on bags of words: the most that can be had from which words there are.
//! Without regularisation, by plain stochastic gradient descent.

use shadegrad::train::data::text::Sequences;

const EPOCHS: usize = 200;

/// What is known of a word in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Features {
    /// How often it occurs.
    Counts,
    /// Whether it occurs.
    Presence,
}

/// A weight for each word, and a bias behind them.
pub(crate) struct Regression {
    weights: Vec<f32>,
    bias: f32,
    features: Features,
}

/// Trains on sequences of a vocabulary of `words` numbers.
pub(crate) fn train(data: &Sequences, words: usize, features: Features) -> Regression {
    let mut model = Regression { weights: vec![0.0; words], bias: 0.0, features };
    let bags: Vec<Vec<u32>> = data.tokens.iter().map(|tokens| model.bag(tokens)).collect();
    for epoch in 0..EPOCHS {
        let rate = 0.2 / (1.0 + epoch as f32 / 4.0);
        for (bag, &label) in bags.iter().zip(&data.labels) {
            let probability = 1.0 / (1.0 + (-model.logit(bag)).exp());
            let step = rate * (f32::from(label) - probability);
            model.bias += step;
            for &word in bag {
                model.weights[word as usize] += step;
            }
        }
    }
    model
}

impl Regression {
    /// The share of sequences that are classified rightly.
    pub(crate) fn accuracy(&self, data: &Sequences) -> f64 {
        let right = data
            .tokens
            .iter()
            .zip(&data.labels)
            .filter(|(tokens, label)| (self.logit(&self.bag(tokens)) > 0.0) == (**label == 1));
        right.count() as f64 / data.len() as f64
    }

    fn bag(&self, tokens: &[u32]) -> Vec<u32> {
        let mut bag = tokens.to_vec();
        if matches!(self.features, Features::Presence) {
            bag.sort_unstable();
            bag.dedup();
        }
        bag
    }

    fn logit(&self, bag: &[u32]) -> f32 {
        self.bias + bag.iter().map(|&word| self.weights[word as usize]).sum::<f32>()
    }
}
