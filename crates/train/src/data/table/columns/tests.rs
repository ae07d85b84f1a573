//! What is found in columns, and what rows become by it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::data::table::{Preparation, tests::rows};

/// An error without the path before it.
fn told<T: std::fmt::Debug>(result: Result<T, DataError>) -> String {
    let error = result.unwrap_err().to_string();
    let (_, told) = error.split_once("table.csv").unwrap_or(("", &error));
    told.to_owned()
}

const HOUSES: &str = "rooms,town,price\n2,Bonn,100.5\n4,Ulm,-3\n9,Bonn,7e2\n";

#[test]
fn numbers_are_standardised_and_categories_are_features_of_their_own() {
    let rows = rows(HOUSES);
    let columns = Preparation::regress("price").fit(&rows).unwrap();
    assert_eq!(columns.names(), ["rooms", "town=Bonn", "town=Ulm"]);
    assert!(columns.classes().is_empty());
    let table = columns.regression(&rows).unwrap();
    assert_eq!(table.targets.0, [100.5, -3.0, 700.0]);
    // The mean is 5, the deviation the root of (9 + 1 + 16) / 3.
    let scaled = |number: f64| ((number - 5.0) / (26.0_f64 / 3.0).sqrt()) as f32;
    let expected =
        [[scaled(2.0), 1.0, 0.0], [scaled(4.0), 0.0, 1.0], [scaled(9.0), 1.0, 0.0]].concat();
    assert_eq!(table.features, expected);
    let error = told(columns.classification(&rows));
    assert_eq!(error, ": the columns were fitted for a regression, not for classification");
}

#[test]
fn other_rows_are_measured_by_those_that_were_fitted() {
    let columns = Preparation::regress(2).fit(&rows(HOUSES)).unwrap();
    // In another order, with a column that was not there, and without the target.
    let features = columns.features(&rows("sea,town,rooms\nyes,Ulm,5\nno,Bonn,31\n")).unwrap();
    let far = (26.0 / (26.0_f64 / 3.0).sqrt()) as f32;
    assert_eq!(features, [0.0, 0.0, 1.0, far, 1.0, 0.0]);

    let error = told(columns.features(&rows("town,room\nUlm,5\n")));
    assert_eq!(error, ": no column \"rooms\": there are \"town\", \"room\"");
    let error = told(columns.features(&rows("town,rooms\nUlm,5\nBern,4\n")));
    assert_eq!(error, ", line 3: column \"town\" is \"Bern\": known are \"Bonn\", \"Ulm\"");
    for wrong in ["five", "inf", "nan", "1,5", "1e999"] {
        let error = told(columns.features(&rows(&format!("town,rooms\nUlm,\"{wrong}\"\n"))));
        let expected = format!("column \"rooms\" is {wrong:?}, expected a finite number");
        assert_eq!(error, format!(", line 2: {expected}"));
    }
    let error = told(columns.features(&rows("town,rooms\nUlm,1e300\n")));
    assert_eq!(error, ", line 2: the numbers of column \"rooms\" are too large to be standardised");
    let error = told(columns.regression(&rows("town,rooms,price\nUlm,3,\n")));
    assert_eq!(error, ", line 2: column \"price\" has no value (\"\")");
    let error = told(columns.regression(&rows("town,rooms,price\nUlm,3,cheap\n")));
    assert_eq!(error, ", line 2: column \"price\" is \"cheap\", expected a finite number");
}

#[test]
fn classes_are_numbered_by_name_or_by_size() {
    let rows = rows("x,code,digit,word\n1,7,10,b\n2,8,9,a\n3,7,9,b\n");
    let table = |target: &str| {
        Preparation::classify(target).fit(&rows).unwrap().classification(&rows).unwrap()
    };
    let words = table("word");
    assert_eq!(
        (words.targets.labels, words.targets.names.join(" ")),
        (vec![1, 0, 1], "a b".into())
    );
    let digits = table("digit");
    let names = digits.targets.names.join(" ");
    assert_eq!((digits.targets.labels, names), (vec![1, 0, 0], "9 10".into()));

    let columns = Preparation::classify("word").categorical("code").omit(2).fit(&rows).unwrap();
    assert_eq!(columns.names(), ["x", "code=7", "code=8"]);
    let other = super::super::tests::rows("x,code,word\n1,7,c\n");
    let error = told(columns.classification(&other));
    assert_eq!(error, ", line 2: column \"word\" is \"c\": known are \"a\", \"b\"");
}

#[test]
fn missing_values_are_refused_or_filled() {
    let rows = rows("n,c,y\n1,u,0\n,v,1\n5,?,0\n");
    assert_eq!(
        told(Preparation::classify("y").fit(&rows)),
        ", line 3: column \"n\" has no value (\"\")"
    );
    let marked = Preparation::classify("y").omit("n").missing_mark("?");
    assert_eq!(told(marked.fit(&rows)), ", line 4: column \"c\" has no value (\"?\")");

    let columns = Preparation::classify("y").missing_mark("?").fill_missing().fit(&rows).unwrap();
    assert_eq!(columns.names(), ["n", "c=u", "c=v", "c is missing"]);
    let table = columns.classification(&rows).unwrap();
    let expected = [[-1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]];
    assert_eq!(table.features, expected.concat());
    // Never in the target, and not in a column without any value.
    let filling = |target: &str| Preparation::classify(target).missing_mark("?").fill_missing();
    assert_eq!(told(filling("c").fit(&rows)), ", line 4: column \"c\" has no value (\"?\")");
    let none = super::super::tests::rows("n,c,y\n?,u,0\n,v,1\n");
    assert_eq!(told(filling("y").fit(&none)), ": column \"n\" has no values: leave it out");
}

#[test]
fn columns_that_are_neither_are_refused() {
    let mixed = rows("n,y\n1,0\n2,1\nNA,0\n");
    let error = told(Preparation::classify("y").fit(&mixed));
    assert!(error.starts_with(", line 4: column \"n\" is \"NA\", but has numbers"), "{error}");
    assert!(Preparation::classify("y").categorical("n").fit(&mixed).is_ok());

    let mut many = "name,y\n".to_owned();
    (0..257).for_each(|i| many += &format!("n{i},{}\n", i % 2));
    let error = told(Preparation::classify("y").fit(&rows(&many)));
    assert!(error.starts_with(": column \"name\" has 257 categories, over 256"), "{error}");
    let columns = Preparation::classify("y").categorical("name").fit(&rows(&many)).unwrap();
    assert_eq!(columns.names().len(), 257);
    let error = told(Preparation::classify("name").fit(&rows(&many)));
    assert!(error.starts_with(": target \"name\" has 257 classes, over 256"), "{error}");

    let error = told(Preparation::classify("y").omit("n").fit(&mixed));
    assert_eq!(error, ": no column is left to learn from");
    let error = told(Preparation::classify("y").omit("z").fit(&mixed));
    assert!(error.contains("no column \"z\""), "{error}");
    let error = told(Preparation::classify("y").fit(&rows("n,y\n1e308,0\n-1e308,1\n1.7e308,0\n")));
    assert_eq!(error, ": the numbers of column \"n\" are too large to be standardised");
}

#[test]
fn equal_numbers_do_not_deviate() {
    let rows = rows("n,y\n0.1,0\n0.1,1\n0.1,0\n");
    let columns = Preparation::classify("y").fit(&rows).unwrap();
    let features = columns.features(&rows).unwrap();
    assert!(features.iter().all(|feature| feature.abs() < 1e-12), "{features:?}");
}
