//! How people write the ten digits: each in a few ways, as pen strokes in the unit square (x to
//! the right, y downwards), in the letters SVG paths use.

use Step::{C, L, M};

/// A point.
pub(crate) type Point = (f32, f32);

/// One movement of the pen.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// Lift the pen, and begin a stroke here.
    M(f32, f32),
    /// A straight line to here.
    L(f32, f32),
    /// A cubic Bézier curve: two control points, then its end.
    C(f32, f32, f32, f32, f32, f32),
}

/// A digit written in one way.
pub(crate) type Glyph = &'static [Step];

/// Straight pieces a curve is drawn with: fine enough for strokes a few pixels wide.
const PIECES: usize = 10;

/// The ways to write `digit`.
pub(crate) fn variants(digit: u8) -> &'static [Glyph] {
    DIGITS[usize::from(digit)]
}

const DIGITS: [&[Glyph]; 10] = [
    &[
        // A closed oval.
        &[
            M(0.5, 0.05),
            C(0.76, 0.05, 0.86, 0.28, 0.86, 0.5),
            C(0.86, 0.75, 0.72, 0.95, 0.5, 0.95),
            C(0.28, 0.95, 0.14, 0.75, 0.14, 0.5),
            C(0.14, 0.25, 0.26, 0.05, 0.5, 0.05),
        ],
        // Begun and ended at the top, not quite meeting.
        &[
            M(0.58, 0.06),
            C(0.3, 0.03, 0.15, 0.3, 0.16, 0.58),
            C(0.17, 0.83, 0.32, 0.97, 0.5, 0.95),
            C(0.75, 0.92, 0.87, 0.65, 0.83, 0.4),
            C(0.8, 0.2, 0.65, 0.04, 0.42, 0.1),
        ],
    ],
    &[
        // A bare line.
        &[M(0.5, 0.05), L(0.5, 0.95)],
        // With an upstroke.
        &[M(0.3, 0.28), L(0.54, 0.05), L(0.54, 0.95)],
        // With an upstroke and a foot.
        &[M(0.3, 0.25), L(0.52, 0.05), L(0.52, 0.95), M(0.26, 0.95), L(0.78, 0.95)],
    ],
    &[
        // With a straight foot.
        &[
            M(0.18, 0.28),
            C(0.2, -0.03, 0.82, -0.03, 0.8, 0.3),
            C(0.79, 0.52, 0.45, 0.72, 0.15, 0.94),
            L(0.86, 0.94),
        ],
        // With a loop in the foot.
        &[
            M(0.2, 0.2),
            C(0.35, 0.0, 0.78, -0.02, 0.77, 0.28),
            C(0.76, 0.55, 0.45, 0.9, 0.25, 0.93),
            C(0.08, 0.95, 0.1, 0.74, 0.28, 0.76),
            C(0.5, 0.8, 0.6, 0.97, 0.88, 0.88),
        ],
    ],
    &[
        // Round.
        &[
            M(0.2, 0.14),
            C(0.45, -0.04, 0.8, 0.06, 0.78, 0.27),
            C(0.77, 0.42, 0.6, 0.48, 0.42, 0.48),
            C(0.66, 0.48, 0.86, 0.57, 0.84, 0.73),
            C(0.81, 0.98, 0.4, 1.03, 0.15, 0.85),
        ],
        // With a flat top.
        &[
            M(0.2, 0.06),
            L(0.78, 0.06),
            L(0.45, 0.42),
            C(0.72, 0.4, 0.86, 0.54, 0.84, 0.7),
            C(0.81, 0.98, 0.38, 1.02, 0.15, 0.86),
        ],
    ],
    &[
        // Open: a corner, and a line through it.
        &[M(0.28, 0.06), L(0.16, 0.56), L(0.86, 0.54), M(0.7, 0.08), L(0.62, 0.95)],
        // Closed, in one stroke.
        &[M(0.66, 0.95), L(0.66, 0.05), L(0.12, 0.66), L(0.9, 0.66)],
        // Open, with a curved corner.
        &[
            M(0.22, 0.08),
            C(0.16, 0.3, 0.1, 0.56, 0.3, 0.56),
            C(0.5, 0.56, 0.66, 0.5, 0.76, 0.36),
            M(0.78, 0.05),
            L(0.7, 0.95),
        ],
    ],
    &[
        // In one stroke, from the right.
        &[
            M(0.8, 0.06),
            L(0.28, 0.06),
            L(0.22, 0.45),
            C(0.45, 0.32, 0.84, 0.38, 0.83, 0.66),
            C(0.82, 0.97, 0.38, 1.03, 0.14, 0.85),
        ],
        // The hat last, and slanted.
        &[
            M(0.3, 0.1),
            L(0.26, 0.42),
            C(0.5, 0.4, 0.78, 0.48, 0.77, 0.7),
            C(0.76, 0.95, 0.4, 1.0, 0.17, 0.9),
            M(0.3, 0.1),
            L(0.84, 0.04),
        ],
    ],
    &[
        // With a curved back.
        &[
            M(0.7, 0.05),
            C(0.38, 0.16, 0.18, 0.45, 0.18, 0.7),
            C(0.18, 0.88, 0.34, 0.95, 0.5, 0.95),
            C(0.7, 0.95, 0.82, 0.84, 0.82, 0.7),
            C(0.82, 0.54, 0.68, 0.46, 0.5, 0.46),
            C(0.35, 0.46, 0.2, 0.56, 0.18, 0.7),
        ],
        // Straight, with a small loop.
        &[
            M(0.45, 0.04),
            C(0.3, 0.3, 0.2, 0.55, 0.22, 0.75),
            C(0.26, 0.98, 0.7, 1.0, 0.74, 0.76),
            C(0.76, 0.58, 0.4, 0.55, 0.24, 0.8),
        ],
    ],
    &[
        // Plain.
        &[M(0.15, 0.07), L(0.84, 0.07), C(0.66, 0.35, 0.5, 0.6, 0.42, 0.95)],
        // With a bar.
        &[M(0.15, 0.07), L(0.84, 0.07), L(0.4, 0.95), M(0.34, 0.5), L(0.8, 0.48)],
        // With a serif.
        &[M(0.16, 0.22), L(0.18, 0.07), L(0.82, 0.08), C(0.7, 0.3, 0.56, 0.6, 0.54, 0.95)],
    ],
    &[
        // Two ovals.
        &[
            M(0.5, 0.47),
            C(0.16, 0.45, 0.17, 0.05, 0.5, 0.05),
            C(0.83, 0.05, 0.84, 0.45, 0.5, 0.47),
            C(0.06, 0.49, 0.06, 0.95, 0.5, 0.95),
            C(0.94, 0.95, 0.94, 0.49, 0.5, 0.47),
        ],
        // An S and the way back.
        &[
            M(0.76, 0.16),
            C(0.6, 0.0, 0.24, 0.02, 0.24, 0.24),
            C(0.24, 0.48, 0.8, 0.5, 0.8, 0.74),
            C(0.8, 1.02, 0.2, 1.02, 0.2, 0.74),
            C(0.2, 0.5, 0.7, 0.42, 0.76, 0.16),
        ],
    ],
    &[
        // With a straight tail.
        &[
            M(0.78, 0.3),
            C(0.78, 0.14, 0.66, 0.05, 0.5, 0.05),
            C(0.32, 0.05, 0.2, 0.16, 0.2, 0.3),
            C(0.2, 0.45, 0.33, 0.54, 0.5, 0.54),
            C(0.66, 0.54, 0.78, 0.44, 0.78, 0.3),
            L(0.7, 0.95),
        ],
        // With a curled tail.
        &[
            M(0.77, 0.28),
            C(0.74, 0.0, 0.24, -0.02, 0.22, 0.29),
            C(0.21, 0.58, 0.72, 0.6, 0.77, 0.28),
            C(0.85, 0.7, 0.74, 1.02, 0.24, 0.9),
        ],
    ],
];

/// The strokes of a glyph as polylines.
pub(crate) fn trace(glyph: Glyph) -> Vec<Vec<Point>> {
    let mut strokes: Vec<Vec<Point>> = Vec::new();
    let mut pen = (0.0, 0.0);
    for &step in glyph {
        let end = match step {
            M(x, y) | L(x, y) | C(_, _, _, _, x, y) => (x, y),
        };
        if matches!(step, M(..)) {
            strokes.push(Vec::new());
        }
        if let Some(stroke) = strokes.last_mut() {
            match step {
                M(..) => stroke.push(end),
                // Lines are cut up too: the pose bends them.
                L(x, y) => {
                    let third = |a: f32, b: f32, t: f32| a + (b - a) * t / 3.0;
                    let near = (third(pen.0, x, 1.0), third(pen.1, y, 1.0));
                    let far = (third(pen.0, x, 2.0), third(pen.1, y, 2.0));
                    stroke.extend(curve([pen, near, far, end]));
                }
                C(ax, ay, bx, by, ..) => stroke.extend(curve([pen, (ax, ay), (bx, by), end])),
            }
        }
        pen = end;
    }
    strokes
}

/// Points along a cubic Bézier curve, its first one left out.
fn curve([a, b, c, d]: [Point; 4]) -> impl Iterator<Item = Point> {
    (1..=PIECES).map(move |i| {
        let t = i as f32 / PIECES as f32;
        let s = 1.0 - t;
        let [wa, wb, wc, wd] = [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t];
        (wa * a.0 + wb * b.0 + wc * c.0 + wd * d.0, wa * a.1 + wb * b.1 + wc * c.1 + wd * d.1)
    })
}
