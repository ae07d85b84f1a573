//! The confusion matrix of a classifier: how often each true class was taken for which.
//!
//! Right answers are shades of blue and mistakes shades of orange, each by its share of the true
//! class; mistakes are shaded more strongly, because a few per cent are what one looks for.
//! Many classes get small cells, without numbers.

use std::path::Path;

use super::{
    PictureError,
    canvas::{
        Align, Canvas, Colour, GREY, GRID, INK, PALETTE, SMALL, STRONG, TITLE, WHITE, mix,
        shortened,
    },
};

/// With more classes than this, cells are too many for numbers.
const NUMBERED: usize = 30;
/// A class name longer than this is cut short.
const NAME: usize = 16;

/// Writes a confusion matrix as a PNG file.
///
/// `counts` is `[classes, classes]` in row-major order, a row per true class and a column per
/// predicted class, as [`Evaluation::confusion_matrix`](crate::Evaluation::confusion_matrix) gives it; `names` has the
/// name of each class.
///
/// # Errors
///
/// [`PictureError::Counts`] when `counts` is not that square, and when there are classes beyond
/// counting or the file cannot be written.
pub fn draw(
    path: impl AsRef<Path>,
    title: &str,
    counts: &[u64],
    names: &[impl AsRef<str>],
) -> Result<(), PictureError> {
    let classes = names.len();
    if classes.checked_mul(classes) != Some(counts.len()) {
        return Err(PictureError::Counts { classes, found: counts.len() });
    }
    let names: Vec<String> = names.iter().map(|name| shortened(name.as_ref(), NAME)).collect();
    let layout = Layout::new(counts, &names, title);
    let mut canvas = Canvas::new(layout.width, layout.height)?;
    layout.draw(&mut canvas, title, counts, &names);
    canvas.save(path.as_ref())
}

/// Where things are, in pixels.
struct Layout {
    classes: usize,
    cell: i32,
    /// The corner of the first cell.
    at: [i32; 2],
    width: usize,
    height: usize,
    /// Whether the names of columns run upwards, for want of room.
    upright: bool,
    /// Every how many classes there is room for a name.
    every: usize,
}

impl Layout {
    fn new(counts: &[u64], names: &[String], title: &str) -> Self {
        let classes = names.len();
        let longest = names.iter().map(|name| SMALL.width(name)).max().unwrap_or(0);
        let largest = counts.iter().max().copied().unwrap_or(0).to_string();
        let cell = match classes {
            0..=NUMBERED => (SMALL.width(&largest) + 14).max(46),
            31..=120 => 12,
            _ => 4,
        };
        let upright = longest + 6 > cell || classes > NUMBERED;
        let at = [60 + longest as i32 + 12, 100];
        let side = classes * cell;
        let below = 56 + if upright { longest } else { 16 };
        let width = (at[0] as usize + side + 110).max(TITLE.width(title) + 40);
        Self {
            classes,
            cell: cell as i32,
            at,
            width,
            height: at[1] as usize + side + below,
            upright,
            every: 18_usize.div_ceil(cell),
        }
    }

    fn draw(&self, canvas: &mut Canvas, title: &str, counts: &[u64], names: &[String]) {
        let [left, top] = self.at;
        let side = self.classes as i32 * self.cell;
        let right = sum(counts.iter().step_by(self.classes + 1));
        let total = sum(counts);
        canvas.text([left, 28], Align::Left, TITLE, title);
        let summary = format!("{right} of {total} right{}", percent(right, total));
        canvas.text([left, 56], Align::Left, SMALL.coloured(GREY), &summary);
        canvas.text_upwards([24, top + side / 2], Align::Centre, STRONG, "true class");
        let bottom = self.height as i32 - 22;
        canvas.text([left + side / 2, bottom], Align::Centre, STRONG, "predicted class");
        canvas.text([left + side + 12, top - 14], Align::Left, SMALL.coloured(GREY), "recall");

        canvas.fill([left - 1, top - 1], [side + 1; 2], GRID);
        for (row, name) in names.iter().enumerate() {
            let line = &counts[row * self.classes..][..self.classes];
            let line_sum = sum(line);
            let middle = row as i32 * self.cell + self.cell / 2;
            for (column, &count) in line.iter().enumerate() {
                self.draw_cell(canvas, [row, column], count, line_sum);
            }
            if row % self.every != 0 {
                continue;
            }
            canvas.text([left - 10, top + middle], Align::Right, SMALL, name);
            let recall = percent(line[row], line_sum);
            let recall = recall.trim_start_matches(", ");
            let at = [left + side + 12, top + middle];
            canvas.text(at, Align::Left, SMALL.coloured(GREY), recall);
            if self.upright {
                let at = [left + middle, top + side + 10];
                canvas.text_upwards(at, Align::Right, SMALL, name);
            } else {
                canvas.text([left + middle, top + side + 16], Align::Centre, SMALL, name);
            }
        }
    }

    fn draw_cell(&self, canvas: &mut Canvas, [row, column]: [usize; 2], count: u64, sum: u64) {
        let x = self.at[0] + column as i32 * self.cell;
        let y = self.at[1] + row as i32 * self.cell;
        let share = count as f32 / sum.max(1) as f32;
        let colour: Colour = match row == column {
            true => mix(WHITE, PALETTE[0], share),
            false => mix(WHITE, PALETTE[1], share.powf(0.4)),
        };
        // A line between cells, unless it would be most of the cell.
        let gap = i32::from(self.cell > 8);
        canvas.fill([x, y], [self.cell; 2], GRID);
        canvas.fill([x, y], [self.cell - gap; 2], colour);
        if self.classes <= NUMBERED {
            let ink = match (count, luminance(colour) < 0.55) {
                (0, _) => [190; 3],
                (_, true) => WHITE,
                (_, false) => INK,
            };
            let middle = [x + self.cell / 2, y + self.cell / 2];
            canvas.text(middle, Align::Centre, SMALL.coloured(ink), &count.to_string());
        }
    }
}

/// A sum that sticks at its limit rather than overflow.
fn sum<'a>(counts: impl IntoIterator<Item = &'a u64>) -> u64 {
    counts.into_iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// `", 97.5 %"`, or nothing of nothing.
fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => String::new(),
        _ => format!(", {:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// How light a colour is, from 0 to 1 (the weights of ITU-R BT.601).
fn luminance([red, green, blue]: Colour) -> f32 {
    (0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)) / 255.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn size(counts: &[u64], names: &[String]) -> (u32, u32) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("confusion.png");
        draw(&path, "test", counts, names).unwrap();
        image::open(&path).unwrap().to_rgb8().dimensions()
    }

    #[test]
    fn matrices_of_all_sizes_are_drawn() {
        for classes in [0, 1, 2, 10, 31, 150] {
            let names: Vec<String> = (0..classes).map(|i| format!("class {i}")).collect();
            let counts: Vec<u64> = (0..classes * classes).map(|i| (i % 7) as u64).collect();
            let (width, height) = size(&counts, &names);
            assert!(width > 100 && height > 100, "{classes}: {width} x {height}");
        }
        size(&[u64::MAX, u64::MAX, 0, 1], &["a".into(), "b".into()]);
    }

    #[test]
    fn counts_must_be_square() {
        let error = draw("/unused", "", &[1, 2, 3], &["a", "b"]).unwrap_err().to_string();
        assert_eq!(error, "a confusion matrix of 2 classes takes 4 counts, found 3");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let error = draw("/no/such/folder/c.png", "", &[1], &["a"]).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder/c.png: "), "{error}");
    }
}
