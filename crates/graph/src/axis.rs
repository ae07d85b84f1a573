//! Axes as users write them.

/// The number of an axis; negative ones count from the last. Every whole number that a program may have at
/// hand will do.
pub trait Axis: Copy {
    /// The number, with its sign.
    fn number(self) -> isize;
}

impl Axis for usize {
    fn number(self) -> isize {
        // A number too large for the sign is no axis either.
        isize::try_from(self).unwrap_or(isize::MAX)
    }
}

impl Axis for isize {
    fn number(self) -> isize {
        self
    }
}

impl Axis for i32 {
    fn number(self) -> isize {
        self as isize
    }
}
