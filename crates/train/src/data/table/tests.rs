//! From a file to a table, and from a table to a model that has learnt it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use shadegrad_device::Device;
use shadegrad_models::{AdamW, CrossEntropy, Linear};

use super::*;
use crate::{
    Dataset, Fit, Trainer,
    data::{Split, rng::Rng},
};

/// Rows of a file with this text.
pub(super) fn rows(text: &str) -> Rows {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.csv");
    std::fs::write(&path, text).unwrap();
    Delimited::commas().read(path).unwrap()
}

#[test]
fn tables_must_add_up() {
    let classes = |labels: &[u8]| Classes {
        labels: labels.to_vec(),
        names: ["no", "yes"].map(str::to_owned).to_vec(),
    };
    let columns = || ["a", "b", "c"].map(str::to_owned).to_vec();
    let table = Table::new(vec![0.5; 6], columns(), classes(&[1, 0])).unwrap();
    assert_eq!((table.len(), table.width(), table.is_empty()), (2, 3, false));
    let error = Table::new(vec![0.5; 7], columns(), classes(&[1, 0])).unwrap_err();
    assert_eq!(error.to_string(), "2 rows of 3 columns do not take 7 numbers");
    let error = Table::new(vec![0.5; 6], columns(), classes(&[1, 2])).unwrap_err();
    assert!(matches!(error, DataError::Label { index: 1, label: 2, .. }), "{error}");
    assert!(matches!(
        Table::new(vec![0.5; 5], columns(), Values(vec![0.0; 2])),
        Err(DataError::Features { .. })
    ));
}

#[test]
fn the_trainer_is_given_each_row_with_its_class() {
    let features: Vec<f32> = (0..7 * 3).map(|i| i as f32 * 0.5 - 2.0).collect();
    let names = ["x", "y", "z"].map(str::to_owned).to_vec();
    let targets = Classes { labels: vec![2, 0, 1, 1, 0, 2, 1], names: names.clone() };
    let table = Table::new(features, names, targets).unwrap();
    assert_eq!((Dataset::len(&table), table.sizes(4)), (7, vec![7]));
    assert!(Dataset::statistics(&table).is_none());
    let part = &table.parts(4, None)[0];
    assert_eq!(part.numbers, [0, 1, 2, 3, 4, 5, 6]);
    let graph = shadegrad_graph::Graph::new();
    let index = graph.indices(&[4], &[6, 0, 3, 3]);
    let (x, y) = part.samples.take(&graph, &index);
    let device = Device::cpu(None);
    assert_eq!(x.shape(), [4, 3]);
    let rows: Vec<f64> = [6, 0, 3, 3]
        .iter()
        .flat_map(|row| (0..3).map(move |i| (row * 3 + i) as f64 * 0.5 - 2.0))
        .collect();
    assert_eq!(x.eval(&device).unwrap().data, rows);
    assert_eq!(y.eval(&device).unwrap().data, [1.0, 2.0, 1.0, 1.0]);
}

/// 211 rows of which colour and size decide the class together, in units that differ by a factor of a million.
fn fruit() -> String {
    let mut text = "weight,colour,number,fruit\n".to_owned();
    for i in 0..211_usize {
        let (colour, heavy) = (["red", "green"][i % 2], (i / 2) % 2);
        let weight = 1e6 * (1.0 + heavy as f64) + (i * 7919 % 1000) as f64 * 300.0;
        let fruit = [["cherry", "apple"], ["grape", "melon"]][i % 2][heavy];
        text += &format!("{weight},{colour},{i},{fruit}\n");
    }
    text
}

#[test]
fn a_linear_classifier_learns_a_table() {
    let rows = rows(&fruit());
    let split = Split::stratified(&rows.column("fruit").unwrap(), 0.25, 3).unwrap();
    let (train, test) = split.of(&rows).unwrap();
    let columns = Preparation::classify("fruit").omit("number").fit(&train).unwrap();
    assert_eq!(columns.names(), ["weight", "colour=green", "colour=red"]);
    assert_eq!(columns.classes(), ["apple", "cherry", "grape", "melon"]);
    let (train, test) =
        (columns.classification(&train).unwrap(), columns.classification(&test).unwrap());
    let device = Device::cpu(None);
    let mut trainer =
        Trainer::new(&device, Linear::new(3, 4), CrossEntropy, AdamW::new(0.05)).unwrap();
    trainer.fit(&train, Fit::epochs(40).batch(16)).unwrap();
    let right = trainer.evaluate(&test).unwrap();
    assert!(right.scores.accuracy() > 0.97, "{} of {}", right.scores.accuracy(), test.len());
}

#[test]
fn whatever_a_file_holds_is_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.csv");
    let sound = b"n,\"c, d\",y\n1.5,\"a \"\"b\"\"\",u\n-2e3,,v\n\n7,\xc3\xa4,u\r\n0.1,\"x\ny\",v\n";
    let (mut read, mut fitted) = (0, 0);
    for seed in 0..3000 {
        let mut rng = Rng::new(seed, 0);
        let mut bytes = sound.to_vec();
        for _ in 0..rng.below(4) + 1 {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] = *rng.choose(b"\",\n\r 1e\xff\0;\xc3"),
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, *rng.choose(b"\",\n\r 1e\xff\0;\xc3")),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let Ok(rows) = Delimited::commas().read(&path) else { continue };
        read += 1;
        let last = rows.names().len() - 1;
        assert!(rows.records.iter().all(|record| record.fields.len() == last + 1));
        // A carriage return alone ends a row, but no line.
        assert!(rows.records.is_sorted_by_key(|record| record.line));
        let Ok(columns) = Preparation::classify(last).fill_missing().fit(&rows) else { continue };
        fitted += 1;
        let table = columns.classification(&rows).unwrap();
        assert_eq!(table.len(), rows.len());
        assert!(table.features.iter().all(|feature| feature.is_finite()));
        assert_eq!(Columns::from_text(&columns.to_text()).unwrap(), columns);
    }
    assert!(read > 500 && fitted > 200, "{read} read, {fitted} fitted");
}
