//! Every sample is somewhere, once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::data::{Images, drawn, table::Values};

const SIZES: [usize; 9] = [2, 3, 5, 7, 10, 31, 97, 128, 1001];

/// Classes of odd sizes: about half, a third and the rest, and one sample of a class of its own.
fn classes(count: usize) -> Vec<u8> {
    (0..count).map(|i| if i == 1 { 9 } else { [0, 0, 0, 1, 1, 4][i * 7 % 6] }).collect()
}

/// Refuses splits that don't have every number once, in order.
fn check(split: &Split, count: usize) {
    assert!(split.train.is_sorted() && split.held.is_sorted());
    let mut all = [&split.train[..], &split.held].concat();
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

fn of_class(numbers: &[usize], classes: &[u8], class: u8) -> usize {
    numbers.iter().filter(|&&number| classes[number] == class).count()
}

#[test]
fn a_share_is_held_back_and_nothing_lost() {
    for count in SIZES {
        for share in [0.1, 0.25, 1.0 / 3.0, 0.5, 0.9] {
            let wanted = (count as f64 * share).round() as usize;
            let Ok(split) = Split::fraction(count, share, 5) else {
                assert!(wanted == 0 || wanted == count, "{count} {share}");
                continue;
            };
            check(&split, count);
            assert_eq!(split.held.len(), wanted, "{count} {share}");
        }
    }
}

#[test]
fn classes_keep_their_shares() {
    for count in SIZES {
        let classes = classes(count);
        for share in [0.2, 0.3, 0.5, 0.77] {
            let Ok(split) = Split::stratified(&classes, share, 1) else { continue };
            check(&split, count);
            assert_eq!(split.held.len(), (count as f64 * share).round() as usize);
            for class in [0, 1, 4, 9] {
                let all = classes.iter().filter(|&&other| other == class).count();
                let held = of_class(&split.held, &classes, class) as f64;
                let off = held - all as f64 * share;
                assert!(off.abs() < 1.0, "{held} of {all} samples of class {class}, {share}");
            }
        }
    }
}

#[test]
fn folds_hold_every_sample_back_once() {
    for count in SIZES {
        for folds in [2, 3, 5, count].into_iter().filter(|folds| *folds <= count) {
            let classes = classes(count);
            let plain = Split::folds(count, folds, 8).unwrap();
            let stratified = Split::stratified_folds(&classes, folds, 8).unwrap();
            for splits in [&plain, &stratified] {
                assert_eq!(splits.len(), folds);
                splits.iter().for_each(|split| check(split, count));
                let mut held: Vec<usize> = splits.iter().flat_map(|s| s.held.clone()).collect();
                held.sort_unstable();
                assert_eq!(held, (0..count).collect::<Vec<_>>());
                let even =
                    |sizes: Vec<usize>| sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
                assert!(even(splits.iter().map(|split| split.held.len()).collect()) <= 1);
            }
            for class in [0, 1, 4, 9] {
                let counts: Vec<usize> =
                    stratified.iter().map(|s| of_class(&s.held, &classes, class)).collect();
                assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }
    }
}

#[test]
fn seeds_decide() {
    let split = |seed| Split::fraction(97, 0.3, seed).unwrap();
    assert_eq!(split(1), split(1));
    assert!(split(1) != split(2));
    let folds = |seed| Split::folds(97, 4, seed).unwrap();
    assert_eq!(folds(1), folds(1));
    assert!(folds(1) != folds(2));
    // Not the first or the last ones, but from everywhere: and the same on every platform.
    assert_eq!(Split::fraction(12, 0.25, 0).unwrap().held, [5, 6, 11]);
    let mean = split(1).held.iter().sum::<usize>() as f64 / 29.0;
    assert!((mean - 48.0).abs() < 15.0, "{mean}");
}

#[test]
fn every_sample_is_as_likely_to_be_held_back() {
    let mut held = [0; 7];
    for seed in 0..2000 {
        Split::fraction(7, 0.4, seed).unwrap().held.iter().for_each(|&number| held[number] += 1);
    }
    // Three of seven, with a deviation of 22.
    assert!(held.iter().all(|count| (757..957).contains(count)), "{held:?}");
}

#[test]
fn senseless_splits_are_refused() {
    for share in [0.0, 1.0, -0.5, 2.0, f64::NAN, f64::INFINITY] {
        let error = Split::fraction(10, share, 0).unwrap_err().to_string();
        assert_eq!(error, format!("the share held back is {share}: it must be between 0 and 1"));
    }
    let error = Split::fraction(3, 0.1, 0).unwrap_err().to_string();
    assert!(error.starts_with("the number of samples held back is 0 of 3: "), "{error}");
    assert!(Split::fraction(0, 0.5, 0).is_err() && Split::fraction(1, 0.5, 0).is_err());
    let error = Split::folds(3, 4, 0).unwrap_err().to_string();
    assert_eq!(error, "the number of folds is 4: it must be from 2 to the number of samples, 3");
    assert!(Split::folds(3, 1, 0).is_err() && Split::folds(0, 2, 0).is_err());
}

#[test]
fn data_sets_are_split_by_it() {
    let digits = drawn::digits(31, 4);
    let split = Split::stratified(&digits.labels, 0.3, 2).unwrap();
    let (train, held): (Images, Images) = split.of(&digits).unwrap();
    assert_eq!((train.len(), held.len()), (22, 9));
    for (images, numbers) in [(&train, &split.train), (&held, &split.held)] {
        for (place, &number) in numbers.iter().enumerate() {
            assert_eq!(images.image(place), digits.image(number));
            assert_eq!(images.labels[place], digits.labels[number]);
        }
    }
    for other in [30, 32] {
        let error = split.of(&Values(vec![0.0; other])).unwrap_err().to_string();
        let expected = "it must be 31, as many as were split";
        assert_eq!(error, format!("the number of samples is {other}: {expected}"));
    }
}
