//! Training curves: what was measured along the steps or epochs of a run, as lines.
//!
//! Every panel has its own axes, so that loss and accuracy can stand side by side. Values that are
//! not finite, or beyond any `f32`, are shown as gaps. Panels and series may be empty.

use std::path::Path;

use super::{
    Mask, PictureError,
    axis::Axis,
    canvas::{Align, Canvas, GREY, GRID, INK, PALETTE, SMALL, STRONG, TITLE, shortened},
};

/// The area of one panel, and of the plot within it.
const PANEL: [i32; 2] = [620, 420];
const PLOT: [i32; 2] = [510, 270];
const PLOT_AT: [i32; 2] = [84, 86];
/// Pixels around the plot that lines and dots at its edge may cover.
const BORDER: i32 = 5;
const TITLE_HEIGHT: i32 = 44;
/// Up to this many points, each is marked with a dot.
const DOTS: usize = 40;
/// A name longer than this is cut short in the legend.
const NAME: usize = 24;

/// One line.
#[derive(Clone, Debug)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    /// The points as they were before smoothing, drawn faintly behind.
    raw: Vec<(f64, f64)>,
}

/// A plot with its own axes.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    x: String,
    series: Vec<Series>,
}

impl Panel {
    /// A panel without lines, such as `Panel::new("loss", "step")`; `x` names the horizontal axis.
    pub fn new(title: impl Into<String>, x: impl Into<String>) -> Self {
        Self { title: title.into(), x: x.into(), series: Vec::new() }
    }

    /// Adds a line through `points`, each `(x, y)`, in their order.
    #[must_use]
    pub fn line(mut self, name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        self.series.push(Series { name: name.into(), points, raw: Vec::new() });
        self
    }

    /// Adds a line through the running mean of noisy `points`, with the points themselves faintly
    /// behind it.
    ///
    /// The mean is exponential over about the last `window` points (1 or less for none), corrected
    /// for its start as Adam's moments are.
    #[must_use]
    pub fn smoothed(
        mut self,
        name: impl Into<String>,
        points: Vec<(f64, f64)>,
        window: usize,
    ) -> Self {
        let keep = 1.0 - 1.0 / window.max(1) as f64;
        let (mut mean, mut weight) = (0.0, 0.0);
        let smooth = |&(x, y): &(f64, f64)| {
            if !is_shown((x, y)) {
                return (x, f64::NAN);
            }
            mean = keep * mean + (1.0 - keep) * y;
            weight = keep * weight + (1.0 - keep);
            (x, mean / weight)
        };
        let means = points.iter().map(smooth).collect();
        self.series.push(Series { name: name.into(), points: means, raw: points });
        self
    }

    /// All points that can be shown.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = self.series.iter().flat_map(|series| series.points.iter().chain(&series.raw));
        all.copied().filter(|&point| is_shown(point))
    }
}

/// Writes the panels as a PNG file, two in a row, below a title.
///
/// # Errors
///
/// When there are panels beyond counting or the file cannot be written.
pub fn draw(path: impl AsRef<Path>, title: &str, panels: &[Panel]) -> Result<(), PictureError> {
    let columns = panels.len().clamp(1, 2);
    let rows = panels.len().div_ceil(columns).max(1);
    let [width, height] = PANEL.map(|side| side as usize);
    let mut canvas = Canvas::new(columns * width, rows * height + TITLE_HEIGHT as usize)?;
    let middle = (columns * width / 2) as i32;
    canvas.text([middle, 28], Align::Centre, TITLE, title);
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = ((index % columns) as i32, (index / columns) as i32);
        draw_panel(&mut canvas, [column * PANEL[0], row * PANEL[1] + TITLE_HEIGHT], panel);
    }
    canvas.save(path.as_ref())
}

fn draw_panel(canvas: &mut Canvas, [left, top]: [i32; 2], panel: &Panel) {
    let whole = panel.points().all(|(x, _)| x.fract() == 0.0);
    let x = Axis::tight(panel.points().map(|(x, _)| x), 8.0, whole);
    let y = Axis::rounded(panel.points().map(|(_, y)| y), 5.0);
    let at = [left + PLOT_AT[0], top + PLOT_AT[1]];
    let bottom = at[1] + PLOT[1];

    canvas.text([at[0], top + 18], Align::Left, STRONG, &panel.title);
    draw_legend(canvas, [at[0], top + 46], panel);
    for (tick, label) in y.ticks() {
        let tick_y = bottom - (y.place(tick) * f64::from(PLOT[1])).round() as i32;
        canvas.fill([at[0], tick_y], [PLOT[0], 1], GRID);
        canvas.text([at[0] - 10, tick_y], Align::Right, SMALL.coloured(GREY), &label);
    }
    for (tick, label) in x.ticks() {
        let tick_x = at[0] + (x.place(tick) * f64::from(PLOT[0])).round() as i32;
        canvas.fill([tick_x, bottom], [1, 6], INK);
        canvas.text([tick_x, bottom + 18], Align::Centre, SMALL.coloured(GREY), &label);
    }
    canvas.fill([at[0], bottom], [PLOT[0] + 1, 1], INK);
    canvas.text([at[0] + PLOT[0] / 2, bottom + 44], Align::Centre, SMALL, &panel.x);
    if panel.points().next().is_none() {
        let middle = [at[0] + PLOT[0] / 2, at[1] + PLOT[1] / 2];
        canvas.text(middle, Align::Centre, SMALL.coloured(GREY), "no data");
    }

    let pixel = |(px, py): (f64, f64)| {
        let (x, y) = (x.place(px) * f64::from(PLOT[0]), y.place(py) * f64::from(PLOT[1]));
        // Half a pixel further is the middle of the pixel that a tick is drawn on.
        ((x + f64::from(BORDER)) as f32 + 0.5, (f64::from(PLOT[1] + BORDER) - y) as f32 + 0.5)
    };
    for (series, colour) in panel.series.iter().zip(PALETTE.iter().cycle()) {
        for (points, radius, alpha) in [(&series.raw, 0.6, 0.3), (&series.points, 1.1, 1.0)] {
            let size = PLOT.map(|side| (side + 1 + 2 * BORDER) as usize);
            let mut mask = Mask::new(size[0], size[1]);
            for run in points.split(|&point| !is_shown(point)) {
                let run: Vec<_> = run.iter().copied().map(pixel).collect();
                mask.polyline(&run, radius);
                for dot in run.iter().filter(|_| points.len() <= DOTS && alpha == 1.0) {
                    mask.polyline(&[*dot], 2.6);
                }
                // A point between two gaps has no line to be seen by.
                if let &[lone] = &run[..] {
                    mask.polyline(&[lone], radius.max(1.6));
                }
            }
            canvas.stamp([at[0] - BORDER, at[1] - BORDER], size[0], &mask, *colour, alpha);
        }
    }
}

fn draw_legend(canvas: &mut Canvas, [left, y]: [i32; 2], panel: &Panel) {
    let mut x = left;
    for (series, colour) in panel.series.iter().zip(PALETTE.iter().cycle()) {
        let name = shortened(&series.name, NAME);
        let width = 28 + SMALL.width(&name) as i32;
        // What does not fit is left out, but not silently.
        if x + width > left + PLOT[0] {
            canvas.text([x, y], Align::Left, SMALL.coloured(GREY), "..");
            return;
        }
        canvas.fill([x, y - 1], [20, 3], *colour);
        canvas.text([x + 28, y], Align::Left, SMALL, &name);
        x += width + 24;
    }
}

/// Whether a point has a place on a finite axis. Anything an `f32` can hold has.
fn is_shown((x, y): (f64, f64)) -> bool {
    x.abs() <= f64::from(f32::MAX) && y.abs() <= f64::from(f32::MAX)
}

#[cfg(test)]
mod tests;
