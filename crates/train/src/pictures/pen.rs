//! An anti-aliased pen: how much of each pixel a line covers.
//!
//! A mask keeps the largest coverage of all that was drawn on it, so that the joints of a line are
//! no darker than the rest. It assumes finite coordinates and ignores what lies outside of it.
//! Only the four operations and square roots are used: the same masks on every platform.

/// A point in pixels: x to the right, y downwards; pixel 0 reaches from 0 to 1.
type Point = (f32, f32);

/// The coverage of each pixel, from 0 to 1.
pub(crate) struct Mask {
    width: usize,
    coverage: Vec<f32>,
}

impl Mask {
    /// A mask on which nothing is drawn yet.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, coverage: vec![0.0; width * height] }
    }

    /// The coverage of each pixel, row by row.
    pub(crate) fn coverage(&self) -> &[f32] {
        &self.coverage
    }

    /// A line through all points with round ends and joints; a single point is a dot.
    pub(crate) fn polyline(&mut self, points: &[Point], radius: f32) {
        if let &[dot] = points {
            self.segment(dot, dot, radius);
        }
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], radius);
        }
    }

    fn segment(&mut self, a: Point, b: Point, radius: f32) {
        let height = self.coverage.len() / self.width.max(1);
        // Casts to whole numbers saturate, so what is outside becomes an empty range.
        let range = |a: f32, b: f32, end: usize| {
            let reach = radius + 1.0;
            (a.min(b) - reach).max(0.0) as usize..((a.max(b) + reach).max(0.0) as usize).min(end)
        };
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length2 = dx * dx + dy * dy;
        for y in range(a.1, b.1, height) {
            for x in range(a.0, b.0, self.width) {
                let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
                let t = if length2 > 0.0 { (px * dx + py * dy) / length2 } else { 0.0 };
                let t = t.clamp(0.0, 1.0);
                let (ex, ey) = (px - t * dx, py - t * dy);
                let covered = radius + 0.5 - (ex * ex + ey * ey).sqrt();
                let pixel = &mut self.coverage[y * self.width + x];
                *pixel = pixel.max(covered.min(1.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_covers_what_it_crosses() {
        let mut mask = Mask::new(6, 4);
        mask.polyline(&[(1.0, 1.5), (5.0, 1.5)], 0.5);
        let row = |y: usize| mask.coverage()[y * 6..][..6].to_vec();
        assert_eq!(row(1)[1..5], [1.0; 4]);
        assert_eq!(row(2), [0.0; 6]);
        assert!(row(1)[0] > 0.0 && row(1)[0] < 1.0);
    }

    #[test]
    fn points_outside_are_ignored_and_dots_drawn() {
        let mut mask = Mask::new(3, 3);
        mask.polyline(&[(-50.0, -50.0), (-9.0, 900.0)], 1.0);
        mask.polyline(&[], 1.0);
        assert_eq!(mask.coverage(), [0.0; 9]);
        mask.polyline(&[(1.5, 1.5)], 1.0);
        assert_eq!(mask.coverage()[4], 1.0);
        Mask::new(0, 0).polyline(&[(1.5, 1.5)], 1.0);
    }
}
