//! Rows that lie beside each other in memory, sixteen or more, as the columns of a matrix do; and images that don't fit a tile.

use crate::{Build, agree, agree_on, harness, x};
use shadegrad::device::Variant;
use shadegrad::prelude::*;

/// The shapes of what is reduced over all axes but the last: one, two, and four times as many rows as are taken together, elements that fill
/// no block, none at all, and numbers of rows that nothing divides.
const SHAPES: [&[usize]; 8] =
    [&[37, 16], &[9, 48], &[5, 3, 64], &[300, 96], &[2, 256], &[1, 32], &[0, 2, 64], &[7, 17]];

fn leading(shape: &[usize]) -> Vec<usize> {
    (0..shape.len() - 1).collect()
}

/// All devices, and the adapter with workgroups that share rows.
fn devices() -> Vec<(Device, bool)> {
    let variant = Variant { grouped: Some(true), ..Variant::default() };
    let shared = harness::adapter_with(variant).map(|device| (device, false));
    harness::devices().into_iter().chain(shared).collect()
}

#[test]
fn columns_are_summed_whatever_is_around_them() {
    let devices = devices();
    for shape in SHAPES {
        let last = shape[shape.len() - 1];
        let sums: Build<'_> = &|g| {
            let (t, weight) = (x(g, shape, 1), x(g, &[last], 2));
            let axes = leading(shape);
            let scaled = (&t * &weight).exp();
            vec![
                t.sum(&axes),
                t.sum(&axes) + &weight,
                scaled.sum(&axes).relu(),
                (&t * &t).sum(&axes),
            ]
        };
        let stored: Build<'_> = &|g| {
            let t = x(g, shape, 1);
            let axes = leading(shape);
            // The elements are stored beside their sums.
            let y = (&t * 2.0).tanh();
            let sum = y.sum(&axes);
            vec![y, sum]
        };
        let passes: Build<'_> = &|g| {
            let t = x(g, shape, 1);
            let axes = leading(shape);
            let count = shape[..shape.len() - 1].iter().product::<usize>().max(1) as f64;
            let kept: Vec<usize> = axes.iter().map(|_| 1).chain([last]).collect();
            let mean = (t.sum(&axes) / count).reshape(&kept);
            let off = &t - &mean;
            let variance = ((&off * &off).sum(&axes) / count).reshape(&kept);
            vec![&off / (variance + 1e-3).sqrt()]
        };
        let masked: Build<'_> = &|g| {
            let t = x(g, shape, 1);
            let axes = leading(shape);
            let padded = t.pad(0, 2, 1).pad(shape.len() - 1, 8, 8);
            vec![padded.sum(&axes), t.pad(0, 1, 3).exp().sum(&axes)]
        };
        let name = |what: &str| format!("{what} of {shape:?}");
        agree_on(
            &devices,
            &[
                (&name("sums"), sums),
                (&name("sums with elements"), stored),
                (&name("two passes"), passes),
                (&name("masks"), masked),
            ],
        );
    }
}

#[test]
fn long_columns_are_summed_by_large_workgroups() {
    // Workgroups of 1024 for 8, 16 and 32 columns, and a few that are left.
    let sums: [Build<'_>; 3] = [
        &|g| vec![x(g, &[1025, 70], 1).sum(&[0]), x(g, &[1025, 70], 2).amax(&[0])],
        &|g| vec![x(g, &[1030, 1030], 1).sum(&[0])],
        &|g| vec![x(g, &[1024, 2049], 1).sum(&[0])],
    ];
    let shared = devices().split_off(harness::devices().len());
    agree_on(&shared, &sums.map(|sum| ("long columns", sum)));
}

#[test]
fn columns_are_found_by_indices_and_coordinates() {
    let gathered: Build<'_> = &|g| {
        let (table, t) = (x(g, &[5, 32], 1), x(g, &[40, 32], 2));
        let places = g.arange(0.0, 40.0, 1.0);
        let index = (&places / 8.0).floor().to(DType::U32);
        let places = places.reshape(&[40, 1]);
        vec![table.embedding(&index, None).sum(&[0]), (&t * &places).sum(&[0])]
    };
    let permuted: Build<'_> = &|g| {
        let t = x(g, &[4, 32, 6], 1).permute(&[2, 0, 1]);
        vec![t.sum(&[0, 1]), t.sum(&[0]), t.exp().sum(&[1])]
    };
    agree(&[("gathers and coordinates", gathered), ("permuted", permuted)]);
}

#[test]
fn images_that_are_cut_into_tiles_of_lines() {
    // Ten lines of 22 columns have as many points as eleven of 20: a tile of the planes isn't the image.
    let convolution: Build<'_> = &|g| {
        let (image, weight) = (x(g, &[1, 480, 11, 20], 1), x(g, &[2, 480, 3, 3], 2));
        let options = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        let y = (image * 0.1).conv2d(&(weight * 0.1), None, &options);
        vec![y]
    };
    let gradient: Build<'_> = &|g| {
        let (image, weight) = (x(g, &[1, 2, 11, 20], 1), x(g, &[480, 2, 3, 3], 2));
        let options = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        let y = image.conv2d(&(weight * 0.1), None, &options);
        let up = x(g, &y.shape(), 3) * 0.1;
        g.gradients(&(y * up).sum_all(), &[&image])
    };
    agree(&[("forward", convolution), ("input gradient", gradient)]);
}
