//! A sheet of images with captions, such as the test images a classifier got wrong.
//!
//! Images are `[channels, height, width]` bytes with 1 (grey) or 3 (red, green, blue) channels,
//! all of one shape, and are enlarged by a whole factor so that their pixels stay pixels.

use std::path::Path;

use super::{
    PictureError,
    canvas::{Align, Canvas, GREY, GRID, SMALL, TITLE, shortened},
};

/// How wide images are shown, at least, if they are small.
const SHOWN: usize = 84;
/// Space around an image, and the height of a caption.
const GAP: usize = 16;
const CAPTION: usize = 24;
const TITLE_HEIGHT: usize = 56;
/// A caption longer than this is cut short.
const LONGEST: usize = 24;

/// An image and what to write below it, such as `7 not 1`.
#[derive(Clone, Debug)]
pub struct Tile<'a> {
    /// The pixels, `[channels, height, width]`.
    pub pixels: &'a [u8],
    /// The caption; what is longer than 24 characters is cut short.
    pub caption: String,
}

/// Writes the tiles as a PNG file, row by row, below a title; without tiles, a sheet that says
/// "none".
///
/// `shape` is `[channels, height, width]` of every tile. It is `columns` wide, or about square if
/// that is 0.
///
/// # Errors
///
/// [`PictureError::Tile`] when the pixels of a tile do not match the shape or it has neither 1 nor
/// 3 channels, and when there are tiles beyond counting or the file cannot be written.
pub fn draw(
    path: impl AsRef<Path>,
    title: &str,
    shape: [usize; 3],
    tiles: &[Tile<'_>],
    columns: usize,
) -> Result<(), PictureError> {
    let needed = shape.iter().try_fold(1_usize, |n, &side| n.checked_mul(side));
    let sound = |tile: &Tile<'_>| needed == Some(tile.pixels.len()) && [1, 3].contains(&shape[0]);
    if let Some(index) = tiles.iter().position(|tile| !sound(tile)) {
        return Err(PictureError::Tile { index, shape, found: tiles[index].pixels.len() });
    }
    let columns = match columns {
        0 => (tiles.len() as f64).sqrt().ceil() as usize,
        columns => columns.min(tiles.len()),
    };
    let columns = columns.max(1);
    let rows = tiles.len().div_ceil(columns);

    let scale = if tiles.is_empty() { 1 } else { (SHOWN / shape[2].max(1)).max(1) };
    let [height, width] =
        if tiles.is_empty() { [0, 0] } else { [shape[1] * scale, shape[2] * scale] };
    let captions: Vec<String> = tiles.iter().map(|t| shortened(&t.caption, LONGEST)).collect();
    let widest = captions.iter().map(|caption| SMALL.width(caption)).max().unwrap_or(0);
    let cell = [width.max(widest) + GAP, height + CAPTION + GAP];
    let sheet_width = (columns * cell[0] + GAP).max(TITLE.width(title) + 2 * GAP);
    let sheet_height = TITLE_HEIGHT + if tiles.is_empty() { 60 } else { rows * cell[1] };
    let mut canvas = Canvas::new(sheet_width, sheet_height)?;

    let middle = (sheet_width / 2) as i32;
    canvas.text([middle, 28], Align::Centre, TITLE, title);
    if tiles.is_empty() {
        let at = [middle, TITLE_HEIGHT as i32 + 20];
        canvas.text(at, Align::Centre, SMALL.coloured(GREY), "none");
    }
    // The rows are centred below a title that is wider.
    let left = (sheet_width - columns * cell[0]) / 2;
    for (index, (tile, caption)) in tiles.iter().zip(&captions).enumerate() {
        let centre = left + index % columns * cell[0] + cell[0] / 2;
        let top = TITLE_HEIGHT + index / columns * cell[1];
        let at = [(centre - width / 2) as i32, top as i32];
        draw_image(&mut canvas, at, shape, tile.pixels, scale);
        let below = (top + height + CAPTION / 2 + 2) as i32;
        canvas.text([centre as i32, below], Align::Centre, SMALL, caption);
    }
    canvas.save(path.as_ref())
}

fn draw_image(
    canvas: &mut Canvas,
    [left, top]: [i32; 2],
    [channels, height, width]: [usize; 3],
    pixels: &[u8],
    scale: usize,
) {
    let size = [width, height].map(|side| (side * scale) as i32);
    // A frame, for images that are white at their edges.
    canvas.fill([left - 1, top - 1], size.map(|side| side + 2), GRID);
    for y in 0..height {
        for x in 0..width {
            let at = y * width + x;
            let colour = std::array::from_fn(|i| pixels[i.min(channels - 1) * height * width + at]);
            let corner = [left + (x * scale) as i32, top + (y * scale) as i32];
            canvas.fill(corner, [scale as i32; 2], colour);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn drawn(shape: [usize; 3], tiles: &[Tile<'_>], columns: usize) -> image::RgbImage {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.png");
        draw(&path, "wrong", shape, tiles, columns).unwrap();
        image::open(&path).unwrap().to_rgb8()
    }

    fn tiles(pixels: &[u8], count: usize) -> Vec<Tile<'_>> {
        vec![Tile { pixels, caption: "7 not 1".into() }; count]
    }

    #[test]
    fn grey_and_coloured_images_are_enlarged() {
        let grey = drawn([1, 2, 2], &tiles(&[1, 2, 3, 4], 1), 0);
        let count = |colour: [u8; 3]| grey.pixels().filter(|pixel| pixel.0 == colour).count();
        assert_eq!((count([1; 3]), count([4; 3])), (42 * 42, 42 * 42));
        let coloured = drawn([3, 1, 1], &tiles(&[9, 8, 7], 1), 0);
        assert_eq!(coloured.pixels().filter(|pixel| pixel.0 == [9, 8, 7]).count(), 84 * 84);
    }

    #[test]
    fn rows_fill_from_the_left() {
        let (wide, square) =
            (drawn([1, 1, 1], &tiles(&[0], 7), 7), drawn([1, 1, 1], &tiles(&[0], 7), 0));
        assert!(wide.width() > square.width() && wide.height() < square.height());
    }

    #[test]
    fn an_empty_sheet_says_so() {
        let none = drawn([1, 28, 28], &[], 8);
        assert!(none.pixels().any(|pixel| pixel.0 == GREY));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let refused = |shape, pixels: &[u8]| {
            let tiles = [&tiles(&[0; 4], 1)[..], &tiles(pixels, 1)].concat();
            draw("/unused", "", shape, &tiles, 0).unwrap_err().to_string()
        };
        let error = refused([1, 2, 2], &[0; 5]);
        assert_eq!(error, "tile 1: 5 bytes are no image of [1, 2, 2], with 1 or 3 channels");
        assert!(refused([2, 1, 2], &[0; 4]).starts_with("tile 0"));
        let error = draw("/no/such/folder/s.png", "", [1, 1, 1], &[], 0).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder/s.png: "), "{error}");
    }
}
