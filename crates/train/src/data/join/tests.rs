//! What follows what, and what doesn't go together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::{Dataset, data::Subset};

fn told<T: std::fmt::Debug>(result: Result<T, DataError>) -> String {
    result.unwrap_err().to_string()
}

fn strings<const N: usize>(strings: [&str; N]) -> Vec<String> {
    strings.map(str::to_owned).to_vec()
}

#[test]
fn images_follow_each_other() {
    let images = |first: u8, labels: &[u8]| {
        let pixels = (0..labels.len() * 6).map(|i| first + i as u8).collect();
        Images::new(pixels, labels.to_vec(), [1, 2, 3], 5).unwrap()
    };
    let (a, b) = (images(0, &[4, 0, 1]), images(100, &[2]));
    let both = a.join(&b).unwrap();
    assert_eq!(
        (both.labels.as_slice(), both.shape(), both.classes),
        (&[4, 0, 1, 2][..], [1, 2, 3], 5)
    );
    assert_eq!((both.image(2), both.image(3)), (a.image(2), b.image(0)));
    assert_eq!((both.parts(2, None).len(), both.sizes(2)), (1, vec![4]));
    // And apart again.
    assert_eq!(both.subset(&[3]).unwrap(), b);
    let none = images(0, &[]);
    assert_eq!((none.join(&a).unwrap(), a.join(&none).unwrap()), (a.clone(), a.clone()));

    let turned = Images { height: 3, width: 2, ..b.clone() };
    let expected = "data sets of different shapes: [1, 2, 3] and [1, 3, 2]";
    assert_eq!(told(a.join(&turned)), expected);
    let more = Images { classes: 6, ..b };
    assert_eq!(told(a.join(&more)), "data sets of different numbers of classes: 5 and 6");
}

#[test]
fn texts_and_sequences_follow_each_other() {
    let texts = |text: &str, classes| Texts::new(strings([text]), vec![1], classes).unwrap();
    let both = texts("a", strings(["n", "y"])).join(&texts("b", strings(["n", "y"]))).unwrap();
    assert_eq!((both.texts, both.labels), (strings(["a", "b"]), vec![1, 1]));
    let error = told(texts("a", strings(["n", "y"])).join(&texts("b", strings(["y", "n"]))));
    assert_eq!(error, "data sets of different classes: [\"n\", \"y\"] and [\"y\", \"n\"]");

    let sequences = |token, classes| Sequences {
        tokens: vec![vec![token; token as usize]],
        labels: vec![token as u8 - 1],
        classes,
        cut: token as usize,
    };
    let both = sequences(1, 3).join(&sequences(3, 3)).unwrap();
    assert_eq!((both.tokens, both.labels, both.cut), (vec![vec![1], vec![3; 3]], vec![0, 2], 4));
    assert!(sequences(1, 3).join(&sequences(3, 4)).is_err());
}

#[test]
fn tables_follow_each_other() {
    let table = |feature: f32, columns, names| {
        let targets = Classes { labels: vec![0], names };
        Table::new(vec![feature, -feature], columns, targets).unwrap()
    };
    let (columns, names) = (strings(["a", "b"]), strings(["x"]));
    let first = table(1.0, columns.clone(), names.clone());
    let both = first.join(&table(2.0, columns.clone(), names.clone())).unwrap();
    assert_eq!((both.features, both.targets.labels), (vec![1.0, -1.0, 2.0, -2.0], vec![0, 0]));
    let error = told(first.join(&table(2.0, strings(["b", "a"]), names)));
    assert_eq!(error, "data sets of different columns: [\"a\", \"b\"] and [\"b\", \"a\"]");
    assert!(first.join(&table(2.0, columns.clone(), strings(["y"]))).is_err());
    let values = |value| Table::new(vec![value; 2], columns.clone(), Values(vec![value])).unwrap();
    assert_eq!(values(1.0).join(&values(2.0)).unwrap().targets.0, [1.0, 2.0]);
}
