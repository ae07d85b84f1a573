//! Text, sizes and names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn inked(canvas: &Canvas) -> usize {
    canvas.image.pixels().filter(|pixel| pixel.0 != WHITE).count()
}

#[test]
fn text_is_drawn_and_cut_off_at_the_edges() {
    let mut canvas = Canvas::new(60, 60).unwrap();
    canvas.text([-500, 10], Align::Left, SMALL, "nothing");
    assert_eq!(inked(&canvas), 0);
    canvas.text([58, 1], Align::Centre, TITLE, "é 中 \u{1f980}");
    canvas.text_upwards([20, 40], Align::Centre, SMALL, "up");
    assert!(inked(&canvas) > 20);
    assert_eq!(SMALL.width(""), 0);
}

#[test]
fn an_absurd_size_is_refused() {
    let error = Canvas::new(1 << 20, 1 << 20).err().unwrap();
    assert!(error.to_string().contains("1048576 x 1048576"), "{error}");
    assert!(Canvas::new(usize::MAX, 2).is_err());
    assert!(Canvas::new(0, 0).is_ok());
}

#[test]
fn long_names_are_shortened() {
    assert_eq!(shortened("short", 5), "short");
    assert_eq!(shortened("longer", 5), "lon..");
}
