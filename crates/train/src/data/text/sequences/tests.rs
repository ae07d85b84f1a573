//! Encoding, cutting and the buckets of a data set.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn texts(texts: &[&str]) -> Texts {
    let classes = vec!["0".into(), "1".into()];
    let labels = (0..texts.len()).map(|i| (i % 2) as u8).collect();
    Texts::new(texts.iter().map(|&text| text.to_owned()).collect(), labels, classes).unwrap()
}

#[test]
fn texts_are_encoded_and_long_ones_cut() {
    let texts = texts(&["a b c d", "c", "x b", "<br />"]);
    let vocabulary = Vocabulary::from_text("a\nb\nc\nd\n").unwrap();
    let whole = Sequences::encode(&texts, &vocabulary, None);
    assert_eq!(whole.tokens, [vec![2, 3, 4, 5], vec![4], vec![1, 3], vec![1]]);
    assert_eq!((whole.labels.as_slice(), whole.classes, whole.cut), (&[0, 1, 0, 1][..], 2, 0));
    assert_eq!((whole.len(), whole.longest(), whole.is_empty()), (4, 4, false));

    let cut = Sequences::encode(&texts, &vocabulary, Some(2));
    assert_eq!(cut.tokens, [vec![2, 3], vec![4], vec![1, 3], vec![1]]);
    assert_eq!((cut.cut, cut.longest()), (1, 2));
    let least = Sequences::encode(&texts, &vocabulary, Some(0));
    assert_eq!((least.tokens, least.cut), (vec![vec![2], vec![4], vec![1], vec![1]], 2));
}

#[test]
fn buckets_are_padded_behind() {
    let texts = texts(&["a b c", "c", "b a", "a"]);
    let vocabulary = Vocabulary::from_text("a\nb\nc\n").unwrap();
    let sequences = Sequences::encode(&texts, &vocabulary, None);
    let buckets = sequences.buckets(Some(&[2, 4]), 1);
    let two = Bucket { len: 2, samples: vec![1, 2, 3] };
    let four = Bucket { len: 4, samples: vec![0] };
    assert_eq!(buckets, [two.clone(), four.clone()]);
    assert_eq!(two.padded(&sequences), [4, 0, 3, 2, 2, 0]);
    assert_eq!(four.padded(&sequences), [2, 3, 4, 0]);
    assert_eq!((two.labels(&sequences), four.labels(&sequences)), (vec![1, 0, 1], vec![0]));
    // Buckets of other sequences neither panic nor lose their shape.
    let other = Bucket { len: 2, samples: vec![0, 9] };
    assert_eq!(other.padded(&sequences), [2, 3, 0, 0]);
    assert_eq!(other.labels(&sequences), [0]);
}
