//! Every setting with every other: which shader variant computes, under which limits, with which checks and
//! optimisations. A tenth of the suite runs under eight combinations in which every two settings meet in
//! every way; `cargo test --release --test settings -- --ignored` runs all of it.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Algorithm, Limits, Variant};
use shadegrad::graph::check::{Settings, suite};
use shadegrad::graph::{Options, check};
use shadegrad::operations::sections;

/// An orthogonal array: in any two columns every pair occurs twice (C. R. Rao, J. R. Stat. Soc. Suppl. 9, 1947).
const ARRAY: [[bool; 7]; 8] = {
    let mut rows = [[false; 7]; 8];
    let mut number = 0;
    while number < 8 {
        let mut column = 1;
        while column < 8 {
            rows[number][column - 1] = (number & column).count_ones() % 2 == 1;
            column += 1;
        }
        number += 1;
    }
    rows
};

fn run(part: impl Fn(usize) -> Option<(usize, usize)>) {
    let (mut failures, mut count) = (Vec::new(), 0);
    for (number, setting) in ARRAY.iter().enumerate() {
        let [checks, webgpu, tiled, grouped, fuse, simplify, split] = *setting;
        let limits = webgpu.then_some(Limits::WEBGPU);
        let variant = Variant {
            checks,
            limits,
            // Without subgroups, as under WebGPU's limits, the others are straight from memory.
            algorithm: Some(if tiled { Algorithm::Tiled } else { Algorithm::Subgroups }),
            grouped: Some(grouped),
            kept: Some(fuse),
            vectors: Some(simplify),
            ..Variant::default()
        };
        let Some(device) = harness::adapter_with(variant) else {
            return;
        };
        let splits = split.then_some(3);
        let options = Options { simplify, fuse, splits, guard: 64, ..Options::default() };
        suite(
            &device,
            &sections(),
            &Settings { options, part: part(number) },
            |checked: check::Checked| {
                count += checked.cases;
                let text = |f: &String| format!("{setting:?} {}: {f}", checked.name);
                failures.extend(checked.failures.iter().map(text));
            },
        );
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 500, "only {count} samples and cases ran");
}

#[test]
fn every_two_settings_meet_in_every_way() {
    for a in 0..7 {
        for b in a + 1..7 {
            for pair in [(false, false), (false, true), (true, false), (true, true)] {
                let count = ARRAY.iter().filter(|row| (row[a], row[b]) == pair).count();
                assert_eq!(count, 2, "settings {a} and {b} as {pair:?}");
            }
        }
    }
}

#[test]
fn a_tenth_of_the_suite_under_all_settings_pairwise() {
    run(|number| Some((number, 10)));
}

#[test]
#[ignore = "takes many minutes: all of the suite under all settings pairwise"]
fn the_whole_suite_under_all_settings_pairwise() {
    run(|_| None);
}
