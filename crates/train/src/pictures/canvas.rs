//! What all pictures are drawn on: a white RGB image with rectangles, anti-aliased lines and text.
//!
//! Whatever lies outside is cut off. The only thing refused is a picture of absurd size.

use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{Mask, PictureError};

/// Red, green and blue.
pub(crate) type Colour = [u8; 3];

pub(crate) const WHITE: Colour = [255, 255, 255];
pub(crate) const INK: Colour = [38, 38, 38];
pub(crate) const GREY: Colour = [110, 110, 110];
pub(crate) const GRID: Colour = [228, 228, 228];

/// The colours of Okabe and Ito ("Color universal design", 2008), which people with any of the
/// common kinds of colour blindness can tell apart; yellow, too light for lines, is left out.
pub(crate) const PALETTE: [Colour; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [64, 64, 64],
];

/// 256 MiB of pixels are not a picture any more.
const PIXEL_LIMIT: usize = 1 << 26;

/// Which point of a text is put where it is asked for; vertically it is always the middle.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    weight: FontWeight,
    height: RasterHeight,
    colour: Colour,
}

/// Text beside marks.
pub(crate) const SMALL: Style =
    Style { weight: FontWeight::Regular, height: RasterHeight::Size16, colour: INK };
/// Titles within a picture.
pub(crate) const STRONG: Style = Style { weight: FontWeight::Bold, ..SMALL };
/// The title of a picture.
pub(crate) const TITLE: Style = Style { height: RasterHeight::Size20, ..STRONG };

impl Style {
    pub(crate) fn coloured(self, colour: Colour) -> Self {
        Self { colour, ..self }
    }

    /// How many pixels `text` is wide.
    pub(crate) fn width(self, text: &str) -> usize {
        text.chars().count() * get_raster_width(self.weight, self.height)
    }
}

/// `text`, shortened to at most `limit` characters.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(2)).chain("..".chars()).collect()
}

/// A picture in the making.
pub(crate) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize) -> Result<Self, PictureError> {
        if width.checked_mul(height).is_none_or(|pixels| pixels > PIXEL_LIMIT) {
            return Err(PictureError::TooLarge { width, height, limit: PIXEL_LIMIT });
        }
        // An image without pixels cannot be written.
        let (width, height) = (width.max(1) as u32, height.max(1) as u32);
        Ok(Self { image: RgbImage::from_pixel(width, height, Rgb(WHITE)) })
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), PictureError> {
        self.image
            .save_with_format(path, ImageFormat::Png)
            .map_err(|source| PictureError::Write { path: path.to_owned(), source })
    }

    /// Mixes `colour` into a pixel; an `alpha` of 1 replaces it.
    pub(crate) fn blend(&mut self, x: i32, y: i32, colour: Colour, alpha: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
            return;
        };
        if let Some(pixel) = self.image.get_pixel_mut_checked(x, y) {
            *pixel = Rgb(mix(pixel.0, colour, alpha));
        }
    }

    pub(crate) fn fill(&mut self, [x, y]: [i32; 2], [width, height]: [i32; 2], colour: Colour) {
        for y in y..y + height {
            for x in x..x + width {
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    /// The lines drawn on a mask, whose corner is put at `[x, y]`.
    pub(crate) fn stamp(
        &mut self,
        [x, y]: [i32; 2],
        width: usize,
        mask: &Mask,
        colour: Colour,
        alpha: f32,
    ) {
        for (i, &covered) in mask.coverage().iter().enumerate().filter(|(_, c)| **c > 0.0) {
            let (dx, dy) = ((i % width) as i32, (i / width) as i32);
            self.blend(x + dx, y + dy, colour, alpha * covered);
        }
    }

    pub(crate) fn text(&mut self, [x, y]: [i32; 2], align: Align, style: Style, text: &str) {
        let left = x - shift(align, style, text);
        let top = y - style.height.val() as i32 / 2;
        each_pixel(style, text, |dx, dy, alpha| {
            self.blend(left + dx, top + dy, style.colour, alpha);
        });
    }

    /// Text that runs upwards, centred on `[x, y]`.
    pub(crate) fn text_upwards(
        &mut self,
        [x, y]: [i32; 2],
        align: Align,
        style: Style,
        text: &str,
    ) {
        let bottom = y + shift(align, style, text);
        let left = x - style.height.val() as i32 / 2;
        each_pixel(style, text, |dx, dy, alpha| {
            self.blend(left + dy, bottom - dx, style.colour, alpha);
        });
    }
}

/// `under` with a share of `over`.
pub(crate) fn mix(under: Colour, over: Colour, share: f32) -> Colour {
    let share = share.clamp(0.0, 1.0);
    std::array::from_fn(|i| {
        let (under, over) = (f32::from(under[i]), f32::from(over[i]));
        (under + share * (over - under)).round() as u8
    })
}

/// How far before the point asked for a text begins.
fn shift(align: Align, style: Style, text: &str) -> i32 {
    let width = style.width(text) as i32;
    match align {
        Align::Left => 0,
        Align::Centre => width / 2,
        Align::Right => width,
    }
}

/// Calls `set(x, y, alpha)` for the pixels of a text that begins at 0, 0.
fn each_pixel(style: Style, text: &str, mut set: impl FnMut(i32, i32, f32)) {
    let mut left = 0;
    for letter in text.chars() {
        let raster = |letter| get_raster(letter, style.weight, style.height);
        let Some(glyph) = raster(letter).or_else(|| raster('?')) else {
            continue;
        };
        for (y, row) in glyph.rows().enumerate() {
            for (x, &alpha) in row.iter().enumerate().filter(|(_, alpha)| **alpha > 0) {
                set(left + x as i32, y as i32, f32::from(alpha) / 255.0);
            }
        }
        left += glyph.width() as i32;
    }
}

#[cfg(test)]
mod tests;
