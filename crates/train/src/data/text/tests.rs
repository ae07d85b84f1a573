//! That texts and labels are checked against each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn texts_and_labels_fit_together() {
    let classes = strings(&["bad", "good"]);
    let texts = Texts::new(strings(&["a", "b", "c"]), vec![0, 1, 1], classes.clone()).unwrap();
    assert_eq!((texts.len(), texts.is_empty()), (3, false));
    assert_eq!(texts.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    let two = texts.clone().first(2);
    assert_eq!((two.texts, two.labels), (strings(&["a", "b"]), vec![0, 1]));
    assert_eq!(texts.clone().first(9), texts);
    assert!(texts.first(0).is_empty());

    let error = Texts::new(strings(&["a"]), vec![0, 1], classes.clone()).unwrap_err();
    assert_eq!(error.to_string(), "1 texts, but 2 labels");
    let error = Texts::new(strings(&["a", "b"]), vec![0, 2], classes).unwrap_err();
    let expected = "labels: label 2 at index 1 is not below the number of classes, 2";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn classes_can_be_told_apart() {
    let error = Texts::new(vec![], vec![], strings(&["a", "b", "a"])).unwrap_err();
    assert_eq!(error.to_string(), r#"classes ["a", "b", "a"]: two have the same name"#);
    let many =
        |count: usize| Texts::new(vec![], vec![], (0..count).map(|i| i.to_string()).collect());
    assert!(many(256).is_ok());
    assert!(many(257).unwrap_err().to_string().ends_with("more than 256 of them"));
}
