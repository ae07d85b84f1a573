//! References that are written once and run in f64 and in f32, so that they say as well how far f32 takes them.

use std::ops::{Add, Div, Mul, Neg, Sub};

pub(crate) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    fn of(x: f64) -> Self;
    fn f64(self) -> f64;
    fn root(self) -> Self;
}

impl Real for f32 {
    fn of(x: f64) -> f32 {
        x as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
    }
    fn root(self) -> f32 {
        self.sqrt()
    }
}

impl Real for f64 {
    fn of(x: f64) -> f64 {
        x
    }
    fn f64(self) -> f64 {
        self
    }
    fn root(self) -> f64 {
        self.sqrt()
    }
}

pub(crate) fn larger<R: Real>(a: R, b: R) -> R {
    if a < b { b } else { a }
}

pub(crate) fn length<R: Real>(x: &[R]) -> R {
    x.iter().fold(R::of(0.0), |sum, &v| sum + v * v).root()
}

/// Compares what a device has after each step with a reference. Allowed is eight times as far as the same reference in
/// f32 is from it in f64, or four units in the last place of the largest element: the rule of the published vectors.
pub(crate) fn compare(what: &str, got: &[&[f64]], exact: &[Vec<f64>], rounded: &[Vec<f64>]) {
    let (flat, rounded) = (exact.concat(), rounded.concat());
    let error = flat.iter().zip(&rounded).map(|(e, r)| (e - r).abs()).fold(0.0, f64::max);
    let size = flat.iter().map(|e| e.abs()).fold(0.0, f64::max);
    let allowed = (8.0 * error).max(4.0 * f64::from(f32::EPSILON) * size);
    assert_eq!(got.len(), exact.len(), "{what}: steps");
    for (step, (got, exact)) in got.iter().zip(exact).enumerate() {
        assert_eq!(got.len(), exact.len(), "{what}: numbers");
        for (g, e) in got.iter().zip(exact) {
            let near = (g - e).abs() <= allowed;
            assert!(near, "{what}, after step {}: {g}, not {e}, {allowed:e} allowed", step + 1);
        }
    }
}
