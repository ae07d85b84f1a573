//! Long lines and lines in which hardly anything is left: sorting, sums over thousands, attention that sees
//! nothing, label sequences that can't be produced.

use crate::{Build, agree, harness, run, x};
use shadegrad::device::random;
use shadegrad::graph::Options;
use shadegrad::models::ctc_loss;
use shadegrad::prelude::*;
use std::cmp::Ordering;

/// Keys of which many are equal and some are NaN.
fn keys(len: usize) -> Vec<f32> {
    let key = |i: u32| match random(5, i) % 23 {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => -0.0,
        other => other as f32 - 11.0,
    };
    (0..len as u32).map(key).collect()
}

/// Where each element comes from in order: NaN last either way, equal ones (zeros of both signs too) as they were.
fn places(keys: &[f32], descending: bool) -> Vec<u32> {
    let mut places: Vec<u32> = (0..keys.len() as u32).collect();
    places.sort_by(|&a, &b| {
        let (a, b) = (keys[a as usize], keys[b as usize]);
        match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ if descending => b.partial_cmp(&a).unwrap(),
            _ => a.partial_cmp(&b).unwrap(),
        }
    });
    places
}

#[test]
fn long_lines_are_sorted_stably_with_nan_last() {
    for (device, _) in harness::devices() {
        for len in [1, 2, 3, 31, 1000, 4097] {
            let g = Graph::new();
            let keys = keys(len);
            let t = g.tensor(&[len], &keys);
            let ((up, from), (down, down_from)) = (t.sort(0, false), t.sort(0, true));
            // Every second column of a matrix, so that lines are far from contiguous.
            let apart = t.unsqueeze(1).expand(&[len, 3]).argsort(0, false).narrow(1, 1, 1);
            let outputs = [from, down_from, apart, up, down];
            let found = run(&device, &g, &outputs, &Options::default()).unwrap();
            for (number, descending) in [false, true, false].into_iter().enumerate() {
                let expected: Vec<f64> =
                    places(&keys, descending).into_iter().map(f64::from).collect();
                let right = found[number].data == expected;
                assert!(right, "{len} keys, descending {descending}, on {}", device.info());
                let Some(values) = found.get(number + 3) else {
                    continue;
                };
                for (got, from) in values.data.iter().zip(&expected) {
                    let key = f64::from(keys[*from as usize]);
                    assert!(*got == key || got.is_nan() && key.is_nan(), "{got} is not {key}");
                }
            }
        }
    }
}

#[test]
fn whole_numbers_of_every_size_are_sorted() {
    for (device, _) in harness::devices() {
        let words: Vec<u32> =
            (0..513).map(|i| random(7, i) >> (i % 32)).chain([0, u32::MAX]).collect();
        let g = Graph::new();
        let t = g.indices(&[words.len()], &words);
        // The same bits with a sign.
        let signed = &t.to(DType::I32);
        let found =
            run(&device, &g, &[t.sort(0, false).0, signed.sort(0, true).0], &Options::default());
        let found = found.unwrap();
        let mut expected = words.clone();
        expected.sort_unstable();
        assert!(found[0].data.iter().copied().eq(expected.iter().map(|&w| f64::from(w))));
        let mut expected: Vec<i32> = words.iter().map(|&w| w as i32).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        assert!(found[1].data.iter().copied().eq(expected.iter().map(|&w| f64::from(w))));
    }
}

#[test]
fn sums_over_thousands_of_elements() {
    let build: Build<'_> = &|g| {
        let (line, columns) = (x(g, &[5000], 1), x(g, &[1025, 3], 2));
        let sums = line.cumsum(0);
        vec![
            g.gradients(&(&sums * x(g, &[5000], 3)).sum_all(), &[&line]).remove(0),
            sums,
            columns.cumsum(0),
            (columns * 0.01 + 1.0).cumprod(0),
        ]
    };
    agree(&[("thousands", build)]);
    // Exact: whole numbers below 2^24.
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let sums = g.iota(5000).to(DType::F32).cumsum(0).eval(&device).unwrap();
        assert!(sums.data.iter().enumerate().all(|(i, &sum)| sum == (i * (i + 1) / 2) as f64));
    }
}

#[test]
fn a_query_that_sees_no_key_gives_zeros() {
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let (q, k, v) = (x(&g, &[2, 3, 4], 1), x(&g, &[2, 5, 4], 2), x(&g, &[2, 5, 3], 3));
        // The second query of the first batch sees nothing, the third one key.
        let seen: Vec<bool> = (0..30).map(|i| !(5..15).contains(&i) || i == 12).collect();
        let mask = Some(g.mask(&[2, 3, 5], &seen));
        let options = AttentionOptions { mask, ..AttentionOptions::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &options);
        let flows = g.gradients(&y.sum_all(), &[&q, &k, &v]);
        let outputs = [vec![y, v], flows].concat();
        let found = run(&device, &g, &outputs, &Options::default()).unwrap();
        let (y, v) = (&found[0].data, &found[1].data);
        assert_eq!(y[3..6], [0.0; 3], "on {}", device.info());
        for (got, expected) in y[6..9].iter().zip(&v[6..9]) {
            assert!((got - expected).abs() < 1e-5, "the third query sees the third key alone");
        }
        assert!(y[..3].iter().chain(&y[9..]).all(|v| *v != 0.0));
        let finite = found[2..].iter().flat_map(|a| &a.data).all(|v| v.is_finite());
        assert!(finite, "gradients of masked keys on {}: {found:?}", device.info());
        assert_eq!(found[2].data[4..8], [0.0; 4], "what sees nothing has no slope");
    }
    // No keys at all.
    let build: Build<'_> = &|g| {
        let (q, k, v) = (x(g, &[2, 3, 4], 1), x(g, &[2, 0, 4], 2), x(g, &[2, 0, 3], 3));
        let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default());
        vec![g.gradients(&(&y + 1.0).square().sum_all(), &[&q]).remove(0), y]
    };
    agree(&[("no keys", build)]);
}

/// Losses of label sequences by the probability of every path: slow, and nobody else's code.
fn by_paths(log_probs: &[Vec<f64>], labels: &[usize]) -> f64 {
    let classes = log_probs[0].len();
    let mut total = 0.0;
    for path in 0..classes.pow(log_probs.len() as u32) {
        let at = |time: usize| path / classes.pow(time as u32) % classes;
        let mut said: Vec<usize> = (0..log_probs.len()).map(at).collect();
        let weight: f64 = said.iter().zip(log_probs).map(|(&class, p)| p[class]).sum();
        said.dedup();
        said.retain(|&class| class != 0);
        total += if said == labels { weight.exp() } else { 0.0 };
    }
    -f64::ln(total)
}

#[test]
fn label_sequences_that_are_empty_or_impossible() {
    // Labels, and how long the input is.
    let cases: [(&[usize], usize); 7] = [
        (&[1, 2], 4),
        (&[], 4),
        (&[], 1),
        // Equal labels need a blank between them: five steps, not four.
        (&[1, 1, 1], 4),
        (&[2, 2], 3),
        (&[1, 2, 1], 2),
        (&[2], 1),
    ];
    let (time, batch, classes, most) = (4, cases.len(), 3, 3);
    let mut words = vec![];
    for (labels, _) in cases {
        words.extend(labels.iter().map(|&label| label as u32));
        words.resize(words.len() + most - labels.len(), 1);
    }
    let lengths: Vec<u32> = cases.iter().map(|(labels, _)| labels.len() as u32).collect();
    let times: Vec<u32> = cases.iter().map(|&(_, time)| time as u32).collect();
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let logits = x(&g, &[time, batch, classes], 1);
        let log_probs = logits.log_softmax(2);
        let each = ctc_loss(
            &log_probs,
            &g.indices(&[batch, most], &words),
            &g.indices(&[batch], &times),
            &g.indices(&[batch], &lengths),
            0,
            Reduction::None,
        );
        let slope = g.gradients(&each.sum_all(), &[&logits]).remove(0);
        let found = run(&device, &g, &[each, log_probs, slope], &Options::default()).unwrap();
        for (n, (labels, time)) in cases.into_iter().enumerate() {
            let row = |t: usize| (0..classes).map(|c| found[1].at(&[t, n, c])).collect();
            let rows: Vec<Vec<f64>> = (0..time).map(row).collect();
            let (got, expected) = (found[0].data[n], by_paths(&rows, labels));
            let right = got == expected || (got - expected).abs() < 1e-4;
            assert!(right, "{labels:?} in {time} steps is {got}, not {expected}");
            assert_eq!(expected.is_infinite(), n == 3 || n == 5, "{labels:?} in {time} steps");
            // Of logits that were never reached, zero; of each step that was, zero in all. An infinite loss has
            // no slope, and what is next to it has its own.
            for t in (0..4).filter(|_| expected.is_finite()) {
                let slopes: Vec<f64> = (0..classes).map(|c| found[2].at(&[t, n, c])).collect();
                let reached = slopes.iter().any(|slope| *slope != 0.0);
                let sum = slopes.iter().sum::<f64>();
                assert!(
                    reached == (t < time) && sum.abs() < 1e-5,
                    "{labels:?}, step {t}: {slopes:?}"
                );
            }
        }
    }
}

/// Many more scores than are held at once: queries in blocks, and blocks of few matrices in tasks whose sums are added.
#[test]
fn slopes_of_long_attention() {
    for (batch, queries, keys) in
        [(1, 150, 140), (1, 3, 9000), (16, 119, 140), (3, 40, 1), (2, 3, 0)]
    {
        let slopes: Build<'_> = &|g| {
            let of = |rows, cols, seed| x(g, &[batch, rows, cols], seed);
            let (q, k, v) = (of(queries, 5, 1), of(keys, 5, 2), of(keys, 3, 3));
            let attend = |causal| {
                let options = AttentionOptions { causal, ..AttentionOptions::default() };
                let y = q.scaled_dot_product_attention(&k, &v, &options);
                g.gradients(&(y * of(queries, 3, 4)).sum_all(), &[&q, &k, &v])
            };
            // A mask of its own for each of the batch, and keys that all of it shares.
            let mask = Some(x(g, &[batch, queries, keys], 5));
            let options = AttentionOptions { mask, ..AttentionOptions::default() };
            let shared = x(g, &[keys, 5], 2);
            let y = q.scaled_dot_product_attention(&shared, &v, &options);
            let masked = g.gradients(&(y * of(queries, 3, 4)).sum_all(), &[&q, &shared, &v]);
            [attend(false), attend(true), masked].concat()
        };
        agree(&[(&format!("{batch} of {queries} queries and {keys} keys"), slopes)]);
    }
}
