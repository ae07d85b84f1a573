//! Curves of all kinds, regular and odd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// The colours of a picture that is drawn and read back.
fn drawn(panels: &[Panel]) -> image::RgbImage {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("curves.png");
    draw(&path, "a run", panels).unwrap();
    image::open(&path).unwrap().to_rgb8()
}

fn count(picture: &image::RgbImage, colour: [u8; 3]) -> usize {
    picture.pixels().filter(|pixel| pixel.0 == colour).count()
}

#[test]
fn lines_have_their_colours() {
    let line = |scale: f64| (0..100).map(|i| (f64::from(i), scale * f64::from(i))).collect();
    let panel = Panel::new("loss", "step").line("one", line(1.0)).smoothed("two", line(2.0), 10);
    let picture = drawn(&[panel.clone(), panel]);
    assert_eq!(picture.dimensions(), (1240, 464));
    assert!(count(&picture, PALETTE[0]) > 500 && count(&picture, PALETTE[1]) > 500);
}

#[test]
fn odd_series_are_drawn() {
    let panel = |points| Panel::new("loss", "epoch").line("series", points);
    let legend = count(&drawn(&[panel(vec![])]), PALETTE[0]);
    let nothing = vec![(0.0, f64::NAN), (f64::INFINITY, 1.0)];
    assert_eq!(count(&drawn(&[panel(nothing)]), PALETTE[0]), legend);
    // One point, a constant, a gap, and extremes: each leaves its mark.
    let marked = [
        vec![(1.0, 0.3)],
        vec![(1.0, 0.5), (2.0, 0.5), (3.0, 0.5)],
        vec![(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0)],
        vec![(1.0, -3e38), (2.0, 3e38), (3.0, 1e-40)],
        vec![(0.0, 0.0), (0.0, 0.0)],
    ];
    for points in marked {
        assert!(count(&drawn(&[panel(points.clone())]), PALETTE[0]) > legend + 8, "{points:?}");
    }
    drawn(&[]);
    drawn(&[Panel::new("", "")]);
}

#[test]
fn legends_of_any_length_fit() {
    let name = "a name that nobody would ever want to read";
    let panel = (0..9).fold(Panel::new("t", "x"), |panel, _| panel.line(name, vec![(0.0, 1.0)]));
    drawn(&[panel]);
}

#[test]
fn smoothing_is_a_corrected_mean() {
    let points = vec![(0.0, 2.0), (1.0, f64::NAN), (2.0, 2.0), (3.0, 6.0)];
    let series = &Panel::new("t", "x").smoothed("s", points, 2).series[0];
    assert_eq!((series.points[0].1, series.points[2].1), (2.0, 2.0));
    assert!(series.points[1].1.is_nan());
    // Weights of 1/8, 1/4 and 1/2, divided by their sum.
    assert_eq!(series.points[3].1, (2.0 / 8.0 + 2.0 / 4.0 + 6.0 / 2.0) / (7.0 / 8.0));
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let error = draw("/no/such/folder/curves.png", "", &[]).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/folder/curves.png: "), "{error}");
}
