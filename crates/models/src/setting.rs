//! Settings that make no sense, and how they are found.

use std::fmt;

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{what}` is {value}: it must be {expected}")]
pub struct Setting {
    /// The setting.
    pub what: String,
    /// What it is.
    pub value: String,
    /// What it can be.
    pub expected: String,
}

impl Setting {
    /// A setting with its value and what is possible.
    pub fn new(what: &str, value: impl fmt::Display, expected: impl fmt::Display) -> Setting {
        let (value, expected) = (value.to_string(), expected.to_string());
        Setting { what: what.to_string(), value, expected }
    }
}

/// The error of a condition that doesn't hold. NaN fails every comparison, so it is refused too.
pub(crate) fn require(
    holds: bool,
    what: &str,
    value: impl fmt::Display,
    expected: &str,
) -> Result<(), Setting> {
    if holds { Ok(()) } else { Err(Setting::new(what, value, expected)) }
}

/// A finite number that isn't negative.
pub(crate) fn not_negative(what: &str, value: f64) -> Result<(), Setting> {
    require(value >= 0.0 && value.is_finite(), what, value, "finite and at least 0")
}

/// A finite number above zero.
pub(crate) fn positive(what: &str, value: f64) -> Result<(), Setting> {
    require(value > 0.0 && value.is_finite(), what, value, "finite and above 0")
}

/// A share below one, such as the decay of a moving average.
pub(crate) fn share(what: &str, value: f64) -> Result<(), Setting> {
    require((0.0..1.0).contains(&value), what, value, "at least 0 and less than 1")
}

/// The decays of two moving averages.
pub(crate) fn shares(what: &str, (first, second): (f64, f64)) -> Result<(), Setting> {
    share(&format!("{what}.0"), first)?;
    share(&format!("{what}.1"), second)
}

/// A number of steps that isn't zero.
pub(crate) fn steps(what: &str, value: usize) -> Result<(), Setting> {
    require(value > 0, what, value, "at least 1")
}
