//! The pose of a digit: how large, slanted, turned, bent and where. The affine part stands for the
//! writer's habit, the elastic part for the hand (Simard, Steinkraus and Platt, "Best practices
//! for convolutional neural networks applied to visual document analysis", 2003).

use super::glyphs::Point;
use crate::data::rng::Rng;

/// Control points of the elastic field along each side.
const GRID: usize = 4;
/// How far, in units of the digit's box, a control point may move.
const BEND: f32 = 0.44;
/// Pixels a digit may be off the middle.
const SHIFT: f32 = 1.5;
/// Pixels that stay free at every border.
const MARGIN: f32 = 2.0;

/// A random transformation of the unit square.
pub(crate) struct Pose {
    /// Displacements of the control points of the elastic field.
    field: [[Point; GRID]; GRID],
    /// The matrix to pixels, relative to the centre.
    matrix: [f32; 4],
    /// How far from the middle the digit lands, in pixels.
    shift: Point,
}

impl Pose {
    /// A pose as a person might write, and a little beyond.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut field = [[(0.0, 0.0); GRID]; GRID];
        for point in field.iter_mut().flatten() {
            *point = (rng.between(-BEND, BEND), rng.between(-BEND, BEND));
        }
        let height = rng.between(14.5, 22.0);
        let width = height * rng.between(0.5, 0.95);
        // A turn by up to 24 degrees, from the tangent of half its angle: no sine is needed.
        let t = rng.between(-0.21, 0.21);
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let slant = rng.between(-0.35, 0.35) * height;
        let matrix =
            [width * cos, slant * cos - height * sin, width * sin, slant * sin + height * cos];
        let shift = (rng.between(-SHIFT, SHIFT), rng.between(-SHIFT, SHIFT));
        Self { field, matrix, shift }
    }

    /// Moves strokes from the unit square to pixels of a square of `side`.
    pub(crate) fn apply(&self, strokes: &mut [Vec<Point>], side: f32) {
        let [xx, xy, yx, yy] = self.matrix;
        let (mut low, mut high) = ((side, side), (-side, -side));
        for point in strokes.iter_mut().flatten() {
            let (dx, dy) = self.bend(*point);
            let (x, y) = (point.0 + dx - 0.5, point.1 + dy - 0.5);
            *point = (xx * x + xy * y, yx * x + yy * y);
            low = (low.0.min(point.0), low.1.min(point.1));
            high = (high.0.max(point.0), high.1.max(point.1));
        }
        let dx = offset(low.0, high.0, side, self.shift.0);
        let dy = offset(low.1, high.1, side, self.shift.1);
        for point in strokes.iter_mut().flatten() {
            *point = (point.0 + dx, point.1 + dy);
        }
    }

    /// The displacement at a point: the control points, blended by a uniform cubic B-spline.
    fn bend(&self, (x, y): Point) -> Point {
        let (wx, wy) = (weights(x), weights(y));
        let mut sum = (0.0, 0.0);
        for (row, wy) in self.field.iter().zip(wy) {
            for (point, wx) in row.iter().zip(wx) {
                sum = (sum.0 + wx * wy * point.0, sum.1 + wx * wy * point.1);
            }
        }
        sum
    }
}

/// The weights of the four control points of a uniform cubic B-spline.
fn weights(t: f32) -> [f32; 4] {
    let s = 1.0 - t;
    let (t2, t3) = (t * t, t * t * t);
    [
        s * s * s / 6.0,
        (3.0 * t3 - 6.0 * t2 + 4.0) / 6.0,
        (-3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0) / 6.0,
        t3 / 6.0,
    ]
}

/// What to add so that `low..high` lies in the middle of `side`, up to `shift` pixels off, but
/// within the margins where there is room for that.
fn offset(low: f32, high: f32, side: f32, shift: f32) -> f32 {
    let room = ((side - (high - low)) / 2.0 - MARGIN).max(0.0);
    (side - low - high) / 2.0 + shift.clamp(-room, room)
}
