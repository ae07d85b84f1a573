//! Weights against their definition, and drawn numbers by their frequencies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::data::{Subset, drawn};

#[test]
fn classes_weigh_the_same_together() {
    let labels = [0, 0, 0, 0, 2, 2, 3];
    let weights = class_weights(&labels, 5).unwrap();
    assert_eq!(weights, [7.0 / 12.0, 0.0, 7.0 / 6.0, 7.0 / 3.0, 0.0]);
    let sum: f64 = labels.iter().map(|&label| weights[usize::from(label)]).sum();
    assert!((sum / 7.0 - 1.0).abs() < 1e-12);
    assert_eq!(class_weights(&[], 2).unwrap(), [0.0, 0.0]);
    assert!(matches!(class_weights(&labels, 3), Err(DataError::Label { index: 6, .. })));
}

#[test]
fn samples_come_by_their_weight() {
    let weights = [0.0, 1.0, 0.0, 2.5, 0.5, 0.0];
    let order = weighted_order(&weights, 40_000, 9).unwrap();
    for (number, weight) in weights.iter().enumerate() {
        let share = order.iter().filter(|&&other| other == number).count() as f64 / 40_000.0;
        // Four deviations.
        assert!((share - weight / 4.0).abs() < 0.01, "{number}: {share}");
        assert!(*weight > 0.0 || share == 0.0);
    }
    assert_eq!(weighted_order(&weights, 101, 9).unwrap(), order[..101]);
    assert!(weighted_order(&weights, 101, 10).unwrap() != order[..101]);
    assert!(weighted_order(&weights, 0, 9).unwrap().is_empty());
    assert_eq!(weighted_order(&[3.0], 5, 0).unwrap(), [0; 5]);
}

#[test]
fn rare_classes_become_as_frequent() {
    let digits = drawn::digits(330, 4);
    let rare: Vec<usize> = (0..330).filter(|&i| digits.labels[i] != 3 || i % 11 == 0).collect();
    let few = digits.subset(&rare).unwrap();
    let weights = class_weights(&few.labels, few.classes).unwrap();
    let each: Vec<f64> = few.labels.iter().map(|&label| weights[usize::from(label)]).collect();
    let even = few.subset(&weighted_order(&each, 5000, 1).unwrap()).unwrap();
    for class in 0..10 {
        let count = even.labels.iter().filter(|&&label| label == class).count();
        assert!((400..600).contains(&count), "{count} of class {class}");
    }
}

#[test]
fn senseless_weights_are_refused() {
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        let error = weighted_order(&[1.0, wrong], 3, 0).unwrap_err().to_string();
        assert!(error.starts_with("the weight of a sample is "), "{error}");
    }
    for none in [&[][..], &[0.0, 0.0], &[f64::MAX, f64::MAX]] {
        let error = weighted_order(none, 3, 0).unwrap_err().to_string();
        assert!(error.starts_with("the sum of all weights is "), "{error}");
    }
}
