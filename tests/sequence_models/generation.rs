//! Language models: generating with a cache, sampling, positions.

use crate::harness;
use shadegrad::device::random;
use shadegrad::graph::Array;
use shadegrad::models::{CausalLm, CausalLmOptions, Positions, Sampling};
use shadegrad::prelude::*;
use shadegrad::train::data::text::Characters;
use shadegrad::train::{TrainError, Windows};

fn model(positions: Positions) -> CausalLm {
    CausalLm::new(CausalLmOptions {
        vocabulary: 11,
        context: 9,
        width: 12,
        heads: 3,
        layers: 2,
        positions,
        dropout: 0.0,
    })
}

fn trainer(device: &Device, positions: Positions) -> Trainer<CausalLm> {
    Trainer::with_seed(device, model(positions), CrossEntropy, Adam::new(1e-2), 4).unwrap()
}

/// The token that follows: every third plus one, or whatever the seed says.
fn text(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i / 3 + random(2, i / 7) % 2) % 11).collect()
}

#[test]
fn the_cache_changes_no_continuation() {
    for (device, on_host) in harness::devices() {
        for positions in [Positions::Learned, Positions::Sinusoidal, Positions::Rotary] {
            // Each length is a program, and compilers of shaders take their time.
            if !on_host && positions != Positions::Rotary {
                continue;
            }
            let mut trainer = trainer(&device, positions);
            let data = text(200);
            let fit = Fit::epochs(1).batch(8).steps(10).quiet();
            trainer.fit(&Windows::new(&data, 9), fit).unwrap();
            let mut generator =
                trainer.generator(Sampling { temperature: 0.0, top_k: None }, 0).unwrap();
            let prompt = [3, 1, 4];
            // Nine tokens fit the context; after that, the model goes on from the last five, and more where less is
            // to come.
            let got = generator.generate(&mut trainer, &prompt, 16).unwrap();
            let mut expected = prompt.to_vec();
            let mut start = 0;
            for left in (1..=16usize).rev() {
                if expected.len() - start > 9 {
                    start = expected.len() - (10 - left.min(5));
                }
                let seen = &expected[start..];
                let ids = seen.iter().map(|&id| f64::from(id)).collect();
                let tokens = Array::new(&[1, seen.len()], DType::U32, ids);
                let logits = trainer.predict(&tokens).unwrap().data;
                let row = &logits[logits.len() - 11..];
                let best = (0..11).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                expected.push(best as u32);
            }
            assert_eq!(got, expected[3..], "{positions:?} on {}", device.info());
        }
    }
}

#[test]
fn equal_seeds_write_equal_texts_and_others_do_not() {
    for (device, _) in harness::devices() {
        let mut trainer = trainer(&device, Positions::Rotary);
        let mut write = |seed| {
            let mut generator = trainer.generator(Sampling::default(), seed).unwrap();
            generator.generate(&mut trainer, &[1], 30).unwrap()
        };
        assert_eq!(write(1), write(1));
        assert_ne!(write(1), write(2));
        assert!(write(3).iter().all(|&token| token < 11));
    }
}

#[test]
fn prompts_are_checked_and_may_be_longer_than_the_context() {
    let device = Device::cpu(Some(1));
    let mut trainer = trainer(&device, Positions::Learned);
    let mut generator = trainer.generator(Sampling::default(), 0).unwrap();
    let refused = generator.generate(&mut trainer, &[], 3).unwrap_err();
    assert!(matches!(refused, TrainError::Setting { .. }), "{refused}");
    let refused = generator.generate(&mut trainer, &[4, 11], 3).unwrap_err().to_string();
    assert!(refused.contains("11") && refused.contains("below 11"), "{refused}");
    let mut other = self::trainer(&device, Positions::Learned);
    let refused = generator.generate(&mut other, &[4], 3).unwrap_err().to_string();
    assert!(refused.contains("the trainer is another one"), "{refused}");
    // Of a longer prompt the end counts, all of the context that there is for one token.
    let mut greedy = trainer.generator(Sampling { temperature: 0.0, top_k: None }, 0).unwrap();
    let long = text(40);
    let one = greedy.generate(&mut trainer, &long, 1).unwrap();
    assert_eq!(one, greedy.generate(&mut trainer, &long[31..], 1).unwrap());
    let twelve = greedy.generate(&mut trainer, &long, 12).unwrap();
    assert_eq!(twelve, greedy.generate(&mut trainer, &long[35..], 12).unwrap());
    assert!(generator.generate(&mut trainer, &[5], 0).unwrap().is_empty());
}

/// How often each token is drawn from one row of logits.
fn frequencies(device: &Device, sampling: Sampling, logits: &[f32], draws: usize) -> Vec<f64> {
    let graph = Graph::new();
    let row = graph.tensor(&[1, logits.len()], logits).expand(&[draws, logits.len()]);
    let key = graph.full(&[], DType::U32, 77.0);
    let drawn = sampling.draw(&row, &key).eval(device).unwrap().data;
    let share =
        |token: usize| drawn.iter().filter(|&&d| d == token as f64).count() as f64 / draws as f64;
    (0..logits.len()).map(share).collect()
}

#[test]
fn tokens_are_drawn_as_often_as_their_probabilities_say() {
    let logits = [1.0f32, 0.0, 2.5, -1.0, 0.7];
    let softmax = |scale: f64, least: f64| {
        let power =
            |&l: &f32| if f64::from(l) < least { 0.0 } else { (f64::from(l) * scale).exp() };
        let sum: f64 = logits.iter().map(power).sum();
        logits.iter().map(|l| power(l) / sum).collect::<Vec<f64>>()
    };
    let draws = 20_000;
    for (device, _) in harness::devices() {
        for (temperature, top_k, expected) in [
            (1.0, None, softmax(1.0, f64::MIN)),
            (2.0, None, softmax(0.5, f64::MIN)),
            (0.5, Some(2), softmax(2.0, 1.0)),
            (1.0, Some(3), softmax(1.0, 0.69)),
            (1.0, Some(99), softmax(1.0, f64::MIN)),
            (1.0, Some(1), vec![0.0, 0.0, 1.0, 0.0, 0.0]),
            (0.0, None, vec![0.0, 0.0, 1.0, 0.0, 0.0]),
        ] {
            let found = frequencies(&device, Sampling { temperature, top_k }, &logits, draws);
            for (token, (f, e)) in found.iter().zip(&expected).enumerate() {
                // Five standard deviations of a share.
                let allowed = 5.0 * (e * (1.0 - e) / draws as f64).sqrt();
                assert!(
                    (f - e).abs() <= allowed,
                    "token {token} at {temperature}, {top_k:?}: {f} not {e} on {}",
                    device.info()
                );
            }
        }
    }
}

#[test]
fn of_equal_tokens_the_first_are_among_the_likeliest() {
    for (device, _) in harness::devices() {
        let sampling = |top_k| Sampling { temperature: 1.0, top_k: Some(top_k) };
        let one = frequencies(&device, sampling(1), &[1.0, 1.0, 1.0, 0.0], 100);
        assert_eq!(one, [1.0, 0.0, 0.0, 0.0]);
        let two = frequencies(&device, sampling(2), &[0.0, 1.0, 1.0, 1.0], 400);
        assert!(two[0] == 0.0 && two[1] > 0.3 && two[2] > 0.3 && two[3] == 0.0, "{two:?}");
        let cold = Sampling { temperature: 1e-19, top_k: None };
        assert_eq!(frequencies(&device, cold, &[0.0, 2.0, 1.0], 100), [0.0, 1.0, 0.0]);
    }
    for (temperature, top_k) in
        [(-1.0, None), (f64::NAN, None), (f64::INFINITY, None), (1.0, Some(0))]
    {
        let graph = Graph::new();
        let key = graph.full(&[], DType::U32, 7.0);
        Sampling { temperature, top_k }.draw(&graph.zeros(&[2, 3]), &key);
        let text = graph.error().unwrap().to_string();
        assert!(text.contains("sampling") && text.contains("generation.rs"), "{text}");
    }
}

#[test]
fn language_models_refuse_what_they_do_not_take() {
    let refused = |run: &dyn Fn(&Graph) -> Tensor| {
        let graph = Graph::new();
        run(&graph);
        graph.error().unwrap().to_string()
    };
    let text = refused(&|g| model(Positions::Learned).forward(&g.zeros(&[1, 3])));
    assert!(text.contains("tokens [batch, length], u32"), "{text}");
    let text = refused(&|g| model(Positions::Rotary).forward(&g.iota(4)));
    assert!(text.contains("tokens [batch, length], u32"), "{text}");
    let text = refused(&|g| model(Positions::Learned).forward(&g.iota(10).unsqueeze(0)));
    assert!(text.contains("a sequence of 10 where there are 9 places"), "{text}");
    let empty = CausalLmOptions { vocabulary: 0, ..*model(Positions::Rotary).options() };
    let text = refused(&|g| CausalLm::new(empty).forward(&g.iota(4).unsqueeze(0)));
    assert!(text.contains("a vocabulary of 0"), "{text}");
}

#[test]
fn a_small_model_learns_a_text_by_heart() {
    let written = "the quick brown fox jumps over the lazy dog. ".repeat(8);
    let characters = Characters::new(&written);
    let tokens = characters.encode(&written).unwrap();
    let device = Device::cpu(Some(2));
    let options = CausalLmOptions {
        vocabulary: characters.len(),
        context: 16,
        width: 32,
        heads: 2,
        layers: 2,
        positions: Positions::Rotary,
        dropout: 0.0,
    };
    let adam = AdamW::new(3e-3);
    let mut trainer = Trainer::new(&device, CausalLm::new(options), CrossEntropy, adam).unwrap();
    let windows = Windows::new(&tokens, 16);
    trainer.fit(&windows, Fit::epochs(9).batch(16).steps(150).quiet()).unwrap();
    let found = trainer.evaluate(&Windows::new(&tokens, 16).apart()).unwrap();
    assert!(found.scores.loss < 0.3, "{}", found.scores.loss);
    let sampling = Sampling { temperature: 0.0, top_k: None };
    let mut generator = trainer.generator(sampling, 0).unwrap();
    let prompt = characters.encode("the quick b").unwrap();
    let more = generator.generate(&mut trainer, &prompt, 20).unwrap();
    assert_eq!(characters.decode(&more), "rown fox jumps over ");
}

#[test]
fn windows_cover_a_text() {
    let device = Device::cpu(Some(1));
    let tokens: Vec<u32> = (0..20).collect();
    for (windows, expected) in [
        (Windows::new(&tokens, 4), (0..16).collect::<Vec<u32>>()),
        (Windows::new(&tokens, 4).apart(), vec![0, 4, 8, 12]),
        (Windows::new(&tokens, 19), vec![0]),
    ] {
        assert_eq!(windows.len(), expected.len());
        let part = windows.parts(16, None).remove(0);
        let graph = Graph::new();
        let (x, y) = part.samples.take(&graph, &graph.iota(expected.len()));
        let (x, y) = (x.eval(&device).unwrap(), y.eval(&device).unwrap());
        let context = x.ty.shape[1];
        for (row, &start) in expected.iter().enumerate() {
            for t in 0..context {
                assert_eq!(x.at(&[row, t]), f64::from(start) + t as f64);
                assert_eq!(y.data[row * context + t], f64::from(start) + t as f64 + 1.0);
            }
        }
    }
    assert!(Windows::new(&tokens, 20).is_empty() && Windows::new(&[], 4).is_empty());
}
