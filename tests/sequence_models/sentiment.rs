//! Texts that counting words doesn't classify, and an LSTM that does.

use crate::harness;
use crate::regression::{self, Features};
use shadegrad::models::Initializer;
use shadegrad::prelude::*;
use shadegrad::train::data::text::{Sequences, Vocabulary, WordVectors, generated};
use std::io::Write;

#[test]
fn an_lstm_understands_reviews_that_counting_words_does_not() {
    let (train, test) = (generated(8_000, 1), generated(1_000, 2));
    let vocabulary = Vocabulary::build(train.iter(), 1, None);
    let words = vocabulary.len();
    let [train, test] = [train, test].map(|texts| Sequences::encode(&texts, &vocabulary, None));
    for features in [Features::Counts, Features::Presence] {
        let model = regression::train(&train, words, features);
        let (seen, unseen) = (model.accuracy(&train), model.accuracy(&test));
        println!("{features:?}: {:.1} % of seen, {:.1} % of unseen", 100.0 * seen, 100.0 * unseen);
        assert!(unseen > 0.5 && unseen < 0.8, "{unseen}");
    }
    let small = Initializer::Normal { std: 0.1 };
    let model = TextClassifier::new(words, 32, 32, 2)
        .embedding(Embedding::new(words, 32).initializer(small))
        .dropout(0.2);
    let fit = Fit::epochs(4).batch(32).quiet();
    let steps = fit.total_steps(&train);
    let mut trainer =
        Trainer::new(&Device::cpu(Some(2)), model, CrossEntropy, AdamW::new(5e-3)).unwrap();
    trainer = trainer
        .clip_grad_norm(1.0)
        .schedule(WarmUp { steps: 50, then: Cosine { steps, floor: 0.05 } });
    trainer.fit(&train, fit).unwrap();
    let found = trainer.evaluate(&test).unwrap();
    println!("LSTM: {:.1} %", found.scores.accuracy() * 100.0);
    assert!(found.scores.accuracy() >= 0.97, "{}", found.scores.accuracy());
}

#[test]
fn training_on_texts_repeats_its_bits_and_the_adapter_follows() {
    let texts = generated(400, 5);
    let vocabulary = Vocabulary::build(texts.iter(), 1, None);
    let data = Sequences::encode(&texts, &vocabulary, None);
    let losses = |device: &Device| {
        let model = TextClassifier::new(vocabulary.len(), 12, 9, 2).dropout(0.3).word_dropout(0.1);
        let mut trainer =
            Trainer::with_seed(device, model, CrossEntropy, AdamW::new(3e-3), 6).unwrap();
        trainer.fit(&data, Fit::epochs(2).batch(16).steps(30).quiet()).unwrap().losses
    };
    let cpu = losses(&Device::cpu(Some(1)));
    for threads in [2, 8] {
        assert_eq!(cpu, losses(&Device::cpu(Some(threads))), "{threads} threads");
    }
    if let Some(device) = harness::adapter() {
        let there = losses(&device);
        assert_eq!(there, losses(&device));
        for (step, (a, b)) in cpu.iter().zip(&there).enumerate() {
            assert!((a - b).abs() < 1e-4, "step {step}: {a} and {b}");
        }
    }
}

#[test]
fn pretrained_vectors_are_where_their_words_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.txt");
    let mut file = std::fs::File::create(&path).unwrap();
    writeln!(file, "film 0.5 -1 2\nnobody 9 9 9\ngood 1e-1 0 3").unwrap();
    let vocabulary = Vocabulary::build(["a good film", "a film"], 1, None);
    let vectors = WordVectors::glove(&path, 3, &vocabulary).unwrap();
    assert_eq!(vectors.found(), 2);
    let table = vectors.matrix(|_, _| 7.0);
    let embedding = Embedding::from_pretrained(vocabulary.len(), 3, &table).unwrap().padding_idx(0);
    for (device, _) in harness::devices() {
        let graph = Graph::new();
        let ids = vocabulary.encode("good film a unheard");
        let words = embedding.forward(&graph.indices(&[ids.len()], &ids));
        let found = words.eval(&device).unwrap().data;
        let expected = [0.1f32, 0.0, 3.0, 0.5, -1.0, 2.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0];
        assert_eq!(found, expected.map(f64::from));
    }
}

#[test]
fn the_gradient_of_an_embedding_is_a_sum_in_order_without_padding() {
    // Many equal indices, of which one is padding: the same bits each time, in the order of the words.
    let ids: Vec<u32> = (0..5000).map(|i| shadegrad::device::random(3, i) % 7).collect();
    for (device, _) in harness::devices() {
        let embedding = Embedding::new(7, 5).padding_idx(2);
        let parameters = Parameters::new(&embedding, 1).unwrap();
        let run = || {
            let graph = Graph::new();
            let words = embedding.forward(&graph.indices(&[5000], &ids));
            let weights = crate::x(&graph, &[5000, 5], 9);
            let loss = (words * &weights).sum_all();
            let table = parameters.tensors(&graph).concat().remove(0);
            let gradient = graph.gradients(&loss, &[&table]).remove(0);
            let mut loaded = Session::new(&device).compile(&graph, &[&gradient, &weights]).unwrap();
            loaded.run(1).unwrap();
            (loaded.read_array(0).unwrap(), loaded.read_array(1).unwrap())
        };
        let (gradient, weights) = run();
        assert_eq!(gradient, run().0, "the same bits");
        for row in 0..7 {
            for column in 0..5 {
                let mut sum = 0.0f32;
                for (place, _) in ids.iter().enumerate().filter(|(_, id)| **id as usize == row) {
                    sum += if row == 2 { 0.0 } else { weights.at(&[place, column]) as f32 };
                }
                assert_eq!(gradient.at(&[row, column]), f64::from(sum), "{row} {column}");
            }
        }
    }
}
