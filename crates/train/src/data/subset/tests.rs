//! Samples are picked with all that belongs to them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const PICKED: [usize; 4] = [2, 0, 2, 1];

/// Picks, and refuses numbers that are not there.
fn pick<D: Subset + std::fmt::Debug>(data: &D) -> D {
    assert_eq!(data.samples(), 3);
    let error = data.subset(&[0, 3, 1]).unwrap_err().to_string();
    assert_eq!(error, "there is no sample 3: there are 3, counted from 0");
    assert_eq!(data.subset(&[]).unwrap().samples(), 0);
    let picked = data.subset(&PICKED).unwrap();
    assert_eq!(picked.samples(), 4);
    picked
}

fn strings<const N: usize>(strings: [&str; N]) -> Vec<String> {
    strings.map(str::to_owned).to_vec()
}

#[test]
fn images_keep_their_pixels_and_labels() {
    let images = Images::new((0..18).collect(), vec![5, 6, 7], [2, 1, 3], 8).unwrap();
    let picked = pick(&images);
    assert_eq!((picked.shape(), picked.classes), ([2, 1, 3], 8));
    assert_eq!(picked.labels, [7, 5, 7, 6]);
    for (place, &number) in PICKED.iter().enumerate() {
        assert_eq!(picked.image(place), images.image(number));
    }
    let none = Images::new(vec![], vec![0; 3], [1, 0, 4], 1).unwrap();
    assert_eq!(pick(&none).len(), 4);
}

#[test]
fn texts_and_sequences_keep_their_labels() {
    let texts = Texts::new(strings(["a", "b", "c"]), vec![0, 1, 1], strings(["x", "y"])).unwrap();
    let picked = pick(&texts);
    assert_eq!((picked.texts.concat(), picked.labels), ("cacb".to_owned(), vec![1, 0, 1, 1]));
    assert_eq!(picked.classes, ["x", "y"]);

    let tokens = vec![vec![1], vec![2, 3], vec![]];
    let sequences = Sequences { tokens, labels: vec![0, 1, 2], classes: 3, cut: 1 };
    let picked = pick(&sequences);
    assert_eq!(picked.tokens, [vec![], vec![1], vec![], vec![2, 3]]);
    assert_eq!((picked.labels, picked.classes, picked.cut), (vec![2, 0, 2, 1], 3, 0));
}

#[test]
fn tables_keep_their_rows() {
    let features: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let classes = Classes { labels: vec![1, 0, 1], names: strings(["n", "y"]) };
    let table = Table::new(features.clone(), strings(["a", "b"]), classes).unwrap();
    let picked = pick(&table);
    assert_eq!(picked.features, [4.0, 5.0, 0.0, 1.0, 4.0, 5.0, 2.0, 3.0]);
    assert_eq!(picked.targets.labels, [1, 1, 1, 0]);
    let values = Table::new(features, strings(["a", "b"]), Values(vec![7.0, 8.0, 9.0])).unwrap();
    assert_eq!(pick(&values).targets.0, [9.0, 7.0, 9.0, 8.0]);
}
