//! That drawn digits are the same everywhere, and neither too easy nor too hard.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sha2::{Digest, Sha256};

use super::*;

#[test]
fn the_same_bytes_on_every_platform() {
    let images = digits(200, 7);
    let digest: String =
        Sha256::digest(&images.pixels).iter().take(8).map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, "ca27b29729031150");
    assert_eq!(digits(30, 7), images.clone().first(30));
    assert_ne!(digits(200, 8).pixels, images.pixels);
}

#[test]
fn classes_are_balanced_and_every_digit_visible() {
    let images = digits(205, 3);
    assert_eq!((images.len(), images.shape(), images.classes), (205, [1, 28, 28], 10));
    for class in 0..10 {
        let count = images.labels.iter().filter(|&&label| label == class).count();
        assert!((20..=21).contains(&count), "{count} of {class}");
    }
    for i in 0..images.len() {
        let inked = images.image(i).iter().filter(|&&pixel| pixel > 70).count();
        assert!((15..300).contains(&inked), "{inked} inked pixels in image {i}");
    }
    assert!(digits(0, 0).is_empty());
}

/// Softmax regression by plain stochastic gradient descent: its accuracy on `test`.
fn linear_accuracy(train: &Images, test: &Images, epochs: usize) -> f64 {
    let scaled = |images: &Images| -> Vec<f32> {
        images.pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect()
    };
    let mut weights = [[0.0_f32; SIDE * SIDE]; CLASSES];
    let mut biases = [0.0_f32; CLASSES];
    let logits = |weights: &[[f32; SIDE * SIDE]; CLASSES], biases: &[f32; CLASSES], x: &[f32]| {
        let mut z = *biases;
        for (z, w) in z.iter_mut().zip(weights) {
            *z += w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
        }
        z
    };
    let pixels = scaled(train);
    for epoch in 0..epochs {
        let rate = 0.02 / (1.0 + epoch as f32 / 3.0);
        for (x, &label) in pixels.chunks(SIDE * SIDE).zip(&train.labels) {
            let z = logits(&weights, &biases, x);
            let top = z.iter().fold(f32::MIN, |a, &b| a.max(b));
            let e = z.map(|z| (z - top).exp());
            let sum: f32 = e.iter().sum();
            for class in 0..CLASSES {
                let target = f32::from(u8::from(usize::from(label) == class));
                let step = rate * (e[class] / sum - target);
                biases[class] -= step;
                for (w, x) in weights[class].iter_mut().zip(x) {
                    *w -= step * x;
                }
            }
        }
    }
    let pixels = scaled(test);
    let right = pixels.chunks(SIDE * SIDE).zip(&test.labels).filter(|(x, label)| {
        let z = logits(&weights, &biases, x);
        let best = (0..CLASSES).max_by(|&a, &b| z[a].total_cmp(&z[b]));
        best == Some(usize::from(**label))
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn a_linear_classifier_is_not_enough() {
    // Without optimisation the full size would take a minute.
    let (count, epochs) = if cfg!(debug_assertions) { (3_000, 3) } else { (12_000, 15) };
    let accuracy = linear_accuracy(&digits(count, 1), &digits(2_000, 2), epochs);
    println!("linear: {:.1} %", 100.0 * accuracy);
    assert!(accuracy > 0.5 && accuracy < 0.92, "{accuracy}");
}
