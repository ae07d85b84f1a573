//! Metrics against slow formulas over lists of numbers, on every device, cut into batches in every way.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{DType, Device, random};
use shadegrad::graph::{Array, Graph, Session, check};
use shadegrad::models::{
    Accuracy, Auroc, Average, ConfusionMatrix, F1Score, MeanAbsoluteError, MeanSquaredError,
    Metric, Mse, Perplexity, Precision, R2Score, Recall, TopK,
};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;

const CLASSES: usize = 5;

/// Scores in quarters, so that there are ties, and a class for each.
fn scored(count: usize, classes: usize) -> (Vec<f64>, Vec<u32>) {
    let score = |i: usize| f64::from(random(1, i as u32) % 17) / 4.0 - 2.0;
    let target =
        |i: u32| if random(5, i).is_multiple_of(7) { 0 } else { random(2, i) % classes as u32 };
    ((0..count * classes).map(score).collect(), (0..count as u32).map(target).collect())
}

/// A metric of batches of these sizes.
fn on(
    device: &Device,
    metric: &dyn Metric,
    x: &[f64],
    y: &Array,
    width: usize,
    cuts: &[usize],
) -> f64 {
    metric.value(&sums(device, metric, x, y, width, cuts))
}

/// What a metric adds up over batches of these sizes. Every batch is one longer, and its last target doesn't count.
fn sums(
    device: &Device,
    metric: &dyn Metric,
    x: &[f64],
    y: &Array,
    width: usize,
    cuts: &[usize],
) -> Vec<f64> {
    let mut all = vec![0.0; metric.sizes().iter().sum()];
    let mut start = 0;
    for &size in cuts {
        let part = size + 1;
        let row = |at: usize| if at < size { start + at } else { 0 };
        let x: Vec<f64> = (0..part).flat_map(|at| x[row(at) * width..][..width].to_vec()).collect();
        let of: Vec<f64> = (0..part).map(|at| y.data[row(at)]).collect();
        let graph = Graph::new();
        let shape: &[usize] = if width == 1 { &[part] } else { &[part, width] };
        let input = |name, shape: &[usize], dtype, data| {
            graph.variable(&check::variable(name, &Array::new(shape, dtype, data)))
        };
        let output = input("x", shape, DType::F32, x);
        let target = input("y", &[part], y.ty.dtype, of);
        let weight = (0..part).map(|at| f64::from(u8::from(at < size))).collect();
        let sums = metric.sums(&output, &target, &input("w", &[part], DType::F32, weight));
        let mut session = Session::new(device);
        let mut program = session.compile(&graph, &sums.iter().collect::<Vec<_>>()).unwrap();
        program.run(1).unwrap();
        let mut own = vec![];
        for (number, size) in metric.sizes().into_iter().enumerate() {
            let found = program.read_array(number).unwrap();
            assert_eq!(found.data.len(), size, "{}", metric.name());
            own.extend(found.data);
        }
        all.iter_mut().zip(metric.added(&own)).for_each(|(all, own)| *all += own);
        start += size;
    }
    all
}

fn close(name: &str, got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{name}: {got} not {expected}");
}

#[test]
fn metrics_of_classes_agree_with_counting() {
    const COUNT: usize = 131;
    let (x, y) = scored(COUNT, CLASSES);
    let row = |i: usize| &x[i * CLASSES..][..CLASSES];
    // Classes by falling score, the first of equals first.
    let ranked = |i: usize| {
        let mut order: Vec<usize> = (0..CLASSES).collect();
        order.sort_by(|&a, &b| row(i)[b].total_cmp(&row(i)[a]).then(a.cmp(&b)));
        order
    };
    let said: Vec<usize> = (0..COUNT).map(|i| ranked(i)[0]).collect();
    let share = |right: &dyn Fn(usize) -> bool| {
        (0..COUNT).filter(|&i| right(i)).count() as f64 / COUNT as f64
    };
    let count = |of: &dyn Fn(usize) -> bool| (0..COUNT).filter(|&i| of(i)).count() as f64;
    let is = |i: usize| y[i] as usize;
    let counts = |c: usize| {
        [count(&|i| said[i] == c && is(i) == c), count(&|i| said[i] == c), count(&|i| is(i) == c)]
    };
    let entropy = |i: usize| {
        let total: f64 = row(i).iter().map(|s| s.exp()).sum();
        total.ln() - row(i)[is(i)]
    };
    let of_class = |what: usize, c: usize| {
        let [hit, said, is] = counts(c);
        [hit / said, hit / is, 2.0 * hit / (said + is)][what]
    };
    let classes = || 0..CLASSES;
    let total = |at: usize| classes().map(|c| counts(c)[at]).sum::<f64>();
    let averages = |what: usize| {
        let mean = classes().map(|c| of_class(what, c)).sum::<f64>() / CLASSES as f64;
        let weighted =
            classes().map(|c| of_class(what, c) * counts(c)[2]).sum::<f64>() / COUNT as f64;
        // With one class for each target, all three are the accuracy.
        let micro = total(0) / total(1);
        [
            (Average::Macro, mean),
            (Average::Weighted, weighted),
            (Average::Micro, micro),
            (Average::Class(2), of_class(what, 2)),
        ]
    };
    let mut expected: Vec<(Box<dyn Metric>, f64)> = vec![
        (Box::new(Accuracy), share(&|i| said[i] == is(i))),
        (Box::new(TopK(1)), share(&|i| said[i] == is(i))),
        (Box::new(TopK(3)), share(&|i| ranked(i)[..3].contains(&is(i)))),
        (Box::new(TopK(5)), 1.0),
        (Box::new(Perplexity), ((0..COUNT).map(entropy).sum::<f64>() / COUNT as f64).exp()),
    ];
    for number in 0..4 {
        let (average, _) = averages(0)[number];
        expected.push((Box::new(Precision::new(CLASSES).average(average)), averages(0)[number].1));
        expected.push((Box::new(Recall::new(CLASSES).average(average)), averages(1)[number].1));
        expected.push((Box::new(F1Score::new(CLASSES).average(average)), averages(2)[number].1));
    }
    let y = Array::new(&[COUNT], DType::U32, y.iter().map(|&c| f64::from(c)).collect());
    for (device, _) in harness::devices() {
        for (metric, expected) in &expected {
            for cuts in [vec![COUNT], vec![64, 63, 3, 1]] {
                // Counts are exact; the entropy is a sum of f32 of about 2.
                let got = on(&device, &**metric, &x, &y, CLASSES, &cuts);
                close(
                    &metric.name(),
                    got,
                    *expected,
                    if metric.name() == "perplexity" { 1e-5 } else { 1e-12 },
                );
            }
        }
    }
}

/// How often each class was said to be which, counted one by one; the first of equal scores is said.
fn counted(x: &[f64], y: &[f64], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes * classes];
    for (scores, &target) in x.chunks(classes).zip(y) {
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let said = scores.iter().position(|&score| score == most).unwrap();
        if (target as usize) < classes {
            counts[target as usize * classes + said] += 1.0;
        }
    }
    counts
}

#[test]
fn confusion_matrices_are_counted_on_the_device() {
    for (classes, count) in [(2, 1), (2, 63), (3, 65), (CLASSES, 131), (11, 257)] {
        let (x, mut y) = scored(count, classes);
        // Some targets are no class; of one a multiple would pass for the first class if words wrapped around.
        y.iter_mut().skip(3).step_by(10).for_each(|class| *class = classes as u32);
        y.iter_mut().skip(8).step_by(10).for_each(|class| *class = u32::MAX / classes as u32 + 1);
        let y = Array::new(&[count], DType::U32, y.iter().map(|&c| f64::from(c)).collect());
        let expected = counted(&x, &y.data, classes);
        for (device, _) in harness::devices() {
            let cuts = [vec![count], vec![count / 2, 0, count - count / 2]];
            for cuts in cuts {
                let found = sums(&device, &ConfusionMatrix::new(classes), &x, &y, classes, &cuts);
                assert_eq!(found, expected, "{classes} classes on {}", device.info());
            }
        }
    }
    // Beyond what half precision and 16-bit counters hold, and a class of every ten thousand.
    let count = 70_001;
    let x: Vec<f64> = (0..count).flat_map(|i| [0.0, f64::from(u8::from(i % 3 == 0))]).collect();
    let y = (0..count).map(|i| f64::from(u8::from(i % 10_000 == 0))).collect();
    let y = Array::new(&[count], DType::U32, y);
    let expected = counted(&x, &y.data, 2);
    assert!(expected[0] > 40_000.0 && expected[3] == 3.0, "{expected:?}");
    for (device, _) in harness::devices() {
        let found = sums(&device, &ConfusionMatrix::new(2), &x, &y, 2, &[count]);
        assert_eq!(found, expected, "{}", device.info());
    }
}

#[test]
fn a_confusion_matrix_comes_down_to_matthews_coefficient() {
    // scikit-learn 1.5's `matthews_corrcoef` of its documentation: [+1, +1, +1, -1] said to be [+1, -1, +1, +1].
    let two = ConfusionMatrix::new(2);
    close("of the page", two.value(&[0.0, 1.0, 1.0, 2.0]), -1.0 / 3.0, 1e-15);
    // Of two classes it is the correlation of two numbers, zero and one.
    let counts: [f64; 4] = [50.0, 3.0, 7.0, 11.0];
    let [tn, fp, fn_, tp] = counts;
    let expected = (tp * tn - fp * fn_) / ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
    close("of two", two.value(&counts), expected, 1e-15);
    let three = ConfusionMatrix::new(3);
    assert_eq!(three.value(&[5.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 9.0]), 1.0);
    // All is said to be of one class; nothing counts.
    assert_eq!(three.value(&[5.0, 0.0, 0.0, 2.0, 0.0, 0.0, 9.0, 0.0, 0.0]), 0.0);
    assert!(three.value(&[0.0; 9]).is_nan());
    assert!(three.higher_is_better());
}

#[test]
fn the_area_under_the_curve_is_how_often_a_yes_is_above_a_no() {
    const COUNT: usize = 257;
    let (x, y) = scored(COUNT, 2);
    let of = |class: u32| {
        (0..COUNT).filter(|&i| y[i] == class).map(|i| x[2 * i + 1] - x[2 * i]).collect::<Vec<f64>>()
    };
    let (no, yes) = (of(0), of(1));
    let won = |yes: &f64| {
        no.iter()
            .map(|no| {
                if yes > no {
                    1.0
                } else if yes == no {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    let expected = yes.iter().map(won).sum::<f64>() / (no.len() * yes.len()) as f64;
    let y = Array::new(&[COUNT], DType::U32, y.iter().map(|&c| f64::from(c)).collect());
    for (device, _) in harness::devices() {
        for cuts in [vec![COUNT], vec![200, 57]] {
            let got = on(&device, &Auroc::new(), &x, &y, 2, &cuts);
            // Differences are multiples of a quarter from -4 to 4: their probabilities lie in bins of their own.
            close("auroc", got, expected, 1e-12);
        }
        assert!(on(&device, &Auroc::new().bins(1), &x, &y, 2, &[COUNT]) == 0.5, "one bin: all tie");
    }
}

#[test]
fn metrics_of_numbers_agree_with_their_formulas() {
    const COUNT: usize = 129;
    let x: Vec<f64> = (0..COUNT).map(|i| f64::from(random(1, i as u32) % 64) / 16.0).collect();
    let y: Vec<f64> =
        (0..COUNT).map(|i| x[i] + f64::from(random(2, i as u32) % 32) / 8.0 - 1.5).collect();
    let mean = |of: &dyn Fn(usize) -> f64| (0..COUNT).map(of).sum::<f64>() / COUNT as f64;
    let middle = mean(&|i| y[i]);
    let mse = mean(&|i| (x[i] - y[i]).powi(2));
    let expected: [(&dyn Metric, f64); 3] = [
        (&MeanSquaredError, mse),
        (&MeanAbsoluteError, mean(&|i| (x[i] - y[i]).abs())),
        (&R2Score, 1.0 - mse / mean(&|i| (y[i] - middle).powi(2))),
    ];
    let y = Array::new(&[COUNT], DType::F32, y);
    for (device, _) in harness::devices() {
        for (metric, expected) in expected {
            for cuts in [vec![COUNT], vec![100, 29]] {
                // Sums of a hundred f32 below 64.
                close(&metric.name(), on(&device, metric, &x, &y, 1, &cuts), expected, 1e-5);
            }
        }
    }
}

#[test]
fn determination_is_exact_where_the_mean_is_large() {
    const COUNT: usize = 400;
    let noise = |seed, i: usize| f64::from(random(seed, i as u32) % 257) / 64.0 - 2.0;
    for middle in [1000.0, 100_000.0] {
        let y: Vec<f64> = (0..COUNT).map(|i| middle + noise(1, i)).collect();
        let x: Vec<f64> = (0..COUNT).map(|i| y[i] + noise(2, i) / 2.0).collect();
        let sum = |of: &dyn Fn(usize) -> f64| (0..COUNT).map(of).sum::<f64>();
        let mean = sum(&|i| y[i]) / COUNT as f64;
        let expected = 1.0 - sum(&|i| (x[i] - y[i]).powi(2)) / sum(&|i| (y[i] - mean).powi(2));
        let y = Array::new(&[COUNT], DType::F32, y);
        for (device, _) in harness::devices() {
            let got = on(&device, &R2Score, &x, &y, 1, &[150, 150, 100]);
            // Numbers near 100 000 are whole 128ths in f32, and the mean of a batch is off by a few.
            close("r2_score", got, expected, 2e-3);
        }
    }
}

#[test]
fn what_a_metric_cannot_be_of_is_refused_and_what_is_no_number_is_not_right() {
    let graph = Graph::new();
    let scores = graph.full(&[2, 3], DType::F32, f64::NAN);
    let (target, weight) = (graph.full(&[2], DType::U32, 1.0), graph.full(&[2], DType::F32, 1.0));
    let right = &TopK(2).sums(&scores, &target, &weight)[0];
    assert_eq!(right.eval(&Device::cpu(Some(1))).unwrap().data, [0.0]);
    for metric in [F1Score::new(5), F1Score::new(3).average(Average::Class(3))] {
        let graph = Graph::new();
        let scores = graph.full(&[2, 3], DType::F32, 1.0);
        let (target, weight) =
            (graph.full(&[2], DType::U32, 1.0), graph.full(&[2], DType::F32, 1.0));
        let _ = metric.sums(&scores, &target, &weight);
        let error = graph.error().unwrap().to_string();
        assert!(error.contains("f1_score") && error.contains("classes"), "{error}");
    }
    let refused = |scores: [usize; 2], classes: usize, words: &[&str]| {
        let graph = Graph::new();
        let count = [scores[0]];
        let scores = graph.full(&scores, DType::F32, 1.0);
        let (target, weight) =
            (graph.full(&count, DType::U32, 1.0), graph.full(&count, DType::F32, 1.0));
        let _ = ConfusionMatrix::new(classes).sums(&scores, &target, &weight);
        let error = graph.error().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused([2, 4], 3, &["confusion_matrix", "of 3 classes"]);
    refused([(1 << 24) + 1, 3], 3, &["confusion_matrix", "16777216", "16777217"]);
    refused([2, 40_000], 40_000, &["confusion_matrix", "at most 32768 classes"]);
}

#[test]
fn a_trainer_reports_the_metrics_it_is_given() {
    let (data, held) = (drawn::digits(300, 1), drawn::digits(131, 2));
    for (device, _) in harness::devices() {
        let model = Sequential::new().add(Flatten).add(Linear::new(784, 10));
        let mut trainer = Trainer::new(&device, model, CrossEntropy, Adam::new(1e-3))
            .unwrap()
            .metric(TopK(2))
            .metric(F1Score::new(10))
            .metric(ConfusionMatrix::new(10))
            .metric(Perplexity);
        let fit =
            Fit::epochs(2).batch(50).validate(&held).monitor("perplexity").keep_best().quiet();
        let history = trainer.fit(&data, fit).unwrap();
        let epoch = &history.epochs[1];
        // What is told from a few numbers is followed in training.
        let names = |scores: &shadegrad::train::Scores| {
            scores.metrics.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&epoch.train), ["accuracy", "top_2_accuracy", "perplexity"]);
        let scores = epoch.validation.as_ref().unwrap();
        let all = ["accuracy", "top_2_accuracy", "f1_score", "matthews_corrcoef", "perplexity"];
        assert_eq!(names(scores), all);
        let found = trainer.evaluate(&held).unwrap();
        let right_of = |counts: &[u64]| counts.iter().step_by(11).sum::<u64>() as f64;
        let right =
            found.predictions.iter().zip(&held.labels).filter(|(p, l)| **p == u32::from(**l));
        assert_eq!(found.scores.accuracy(), right.count() as f64 / 131.0);
        assert!(found.scores.get("top_2_accuracy").unwrap() > found.scores.accuracy());
        // 131 targets are a batch of 128 and one of three, of which the last is repeated.
        let mut counts = vec![0; 100];
        for (&label, &said) in held.labels.iter().zip(&found.predictions) {
            counts[usize::from(label) * 10 + said as usize] += 1;
        }
        assert_eq!(found.confusion_matrix().unwrap(), counts);
        assert_eq!(found.sums["accuracy"], [right_of(&counts), 131.0]);
        close("perplexity", found.scores.get("perplexity").unwrap(), found.scores.loss.exp(), 1e-4);
        // An epoch's metric is that of its steps together.
        let steps = &history.metric("accuracy")[6..];
        let mean = steps.iter().map(|&a| f64::from(a)).sum::<f64>() / 6.0;
        close("accuracy", epoch.train.accuracy(), mean, 1e-6);
        assert_eq!(history.best, Some(2));
    }
    // A loss of numbers has other metrics, and no classes.
    let trainer = Trainer::new(
        &Device::cpu(Some(1)),
        Sequential::new().add(Linear::new(3, 1)),
        Mse,
        Adam::new(1e-3),
    );
    let error =
        trainer.unwrap().fit(&data, Fit::epochs(1).monitor("accuracy").validate(&held).quiet());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("r2_score") && error.contains("mean_absolute_error"), "{error}");
}
