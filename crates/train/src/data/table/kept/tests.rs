//! Columns as text, sound and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::data::table::{Preparation, tests::rows};

const TABLE: &str =
    "\"size, in\nmetres\",colour,class\n0.1,\"a \"\"b\"\"\",x\n0.7,,y\n1e-300,c,\"y, z\"\n";

#[test]
fn what_is_kept_is_read_with_every_digit() {
    let rows = rows(TABLE);
    let kept = Preparation::classify("class").missing_mark("NA").fill_missing().fit(&rows).unwrap();
    let text = kept.to_text();
    let read = Columns::from_text(&text).unwrap();
    assert_eq!(read, kept);
    assert_eq!(read.classification(&rows).unwrap(), kept.classification(&rows).unwrap());
    let kept = Preparation::regress(0).missing_mark("?").omit("colour").fit(&rows).unwrap();
    assert_eq!(Columns::from_text(&kept.to_text()).unwrap(), kept);
}

#[test]
fn the_text_can_be_read_by_people() {
    let rows = rows("n,c,y\n1,u,2\n4,v,3\n");
    let kept = Preparation::regress("y").missing_mark("NA").fit(&rows).unwrap();
    let expected =
        "shadegrad columns,1\nmissing,refuse,,NA\nvalue,y\nnumber,n,2.5,1.5\ncategory,c,u,v\n";
    assert_eq!(kept.to_text(), expected);
}

#[test]
fn text_that_was_not_written_is_refused_with_its_row() {
    let start = "shadegrad columns,1\nmissing,refuse,\nclass,y,a,b\n";
    let refused =
        |more: &str| Columns::from_text(&format!("{start}{more}")).unwrap_err().to_string();
    let error = Columns::from_text("").unwrap_err().to_string();
    assert_eq!(error, "kept columns, row 1: expected `shadegrad columns,1`, found nothing");
    let error = Columns::from_text("shadegrad columns,2\n").unwrap_err().to_string();
    assert!(error.ends_with("found `shadegrad columns,2`"), "{error}");
    let error = Columns::from_text("shadegrad columns,1\nmissing,guess\n").unwrap_err().to_string();
    assert!(error.starts_with("kept columns, row 2: expected `missing,fill`"), "{error}");
    for target in ["class,y", "value,y,1", "value", "class,y,a,a", ""] {
        let text = format!("shadegrad columns,1\nmissing,refuse,\n{target}\nnumber,n,0,1\n");
        let error = Columns::from_text(&text).unwrap_err().to_string();
        assert!(error.starts_with("kept columns, row 3: "), "{error}");
    }
    assert!(refused("").ends_with("found nothing"), "{}", refused(""));
    for column in [
        "number,n",
        "number,n,0",
        "number,n,0,1,2",
        "number,n,0,0",
        "number,n,0,-1",
        "number,n,inf,1",
        "number,n,0,nan",
        "number,n,a,1",
        "category,c",
        "category,c,u,u",
        "number,y,0,1",
        "other,c,u",
    ] {
        let error = refused(&format!("{column}\n"));
        assert!(error.starts_with("kept columns, row 4: "), "{error}");
        assert!(error.ends_with(&format!("found `{column}`")), "{error}");
    }
    let error = refused("number,n,0,1\nnumber,n,0,1\n");
    assert!(error.starts_with("kept columns, row 5: expected columns of different"), "{error}");
    // Any part of it either is one, with fewer columns, or is refused.
    let whole = format!("{start}number,n,0.25,1.5\ncategory,c,u,v\n");
    for len in 0..whole.len() {
        if let Ok(columns) = Columns::from_text(&whole[..len]) {
            assert!(len > start.len() && columns.names().len() <= 3);
        }
    }
    let many: Vec<String> = (0..257).map(|i| i.to_string()).collect();
    let text = format!("shadegrad columns,1\nmissing,refuse,\nclass,y,{}\n", many.join(","));
    assert!(Columns::from_text(&text).unwrap_err().to_string().contains("at most 256"));
}
