//! An axis: the range it shows, ticks at round numbers, and their labels.
//!
//! Steps are 1, 2 or 5 times a power of ten (Heckbert, "Nice numbers for graph labels", Graphics
//! Gems, 1990).

/// A range with ticks.
#[derive(Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis that begins and ends at the outermost of `values`. `whole` asks for whole ticks.
    pub(crate) fn tight(values: impl Iterator<Item = f64>, ticks: f64, whole: bool) -> Self {
        let (low, high) = range(values);
        let step = nice_step((high - low) / ticks);
        Self { low, high, step: if whole { step.max(1.0) } else { step } }
    }

    /// An axis from tick to tick that covers all of `values`.
    pub(crate) fn rounded(values: impl Iterator<Item = f64>, ticks: f64) -> Self {
        let (low, high) = range(values);
        let step = nice_step((high - low) / ticks);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// Where `value` lies: 0 at the low end, 1 at the high end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The ticks, and what to write beside them.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let slack = 1e-6;
        let first = (self.low / self.step - slack).ceil();
        let last = (self.high / self.step + slack).floor();
        let count = (last - first).max(0.0) as usize;
        (0..=count)
            .map(|i| (first + i as f64) * self.step)
            .map(|tick| (tick, label(tick, self.step, self.low.abs().max(self.high.abs()))))
            .collect()
    }
}

/// The outermost of the values, moved apart if they are one.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    // Also apart if rounding could no longer tell ticks from each other, or a step would underflow.
    let least = (low.abs().max(high.abs()) * 1e-9).max(1e-290);
    if high - low > least {
        return (low, high);
    }
    let apart = if low.abs() < 1e-280 { 1.0 } else { low.abs() * 0.1 };
    (low - apart, high + apart)
}

/// The smallest of 1, 2 and 5 times a power of ten that is no less than `step`, or nearly.
fn nice_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| step <= digit * power * 1.001);
    digit.unwrap_or(10.0) * power
}

/// A tick in as few characters as tell it from its neighbours.
fn label(tick: f64, step: f64, largest: f64) -> String {
    if (tick / step).abs() < 0.5 {
        return "0".to_owned();
    }
    let digits = |unit: f64| (-(step / unit).log10().floor()).max(0.0) as usize;
    if largest >= 1e9 || step < 1e-5 {
        let power = 10_f64.powf(largest.log10().floor());
        return format!("{tick:.*e}", digits(power));
    }
    let (unit, letter) = match largest {
        1e7.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{:.*}{letter}", digits(unit), tick / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    fn rounded(values: &[f64]) -> Vec<String> {
        labels(&Axis::rounded(values.iter().copied(), 5.0))
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(rounded(&[0.013, 2.3]), ["0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert_eq!(rounded(&[0.91, 0.987]), ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]);
        assert_eq!(rounded(&[-3.0, 4.0]), ["-4", "-2", "0", "2", "4"]);
        assert_eq!(
            rounded(&[0.0, 2.1e-6]),
            ["0", "5.0e-7", "1.0e-6", "1.5e-6", "2.0e-6", "2.5e-6"]
        );
        assert_eq!(rounded(&[0.0, 8e12]), ["0", "2e12", "4e12", "6e12", "8e12"]);
    }

    #[test]
    fn tight_axes_keep_their_ends() {
        let axis = Axis::tight([1.0, 5.0].into_iter(), 8.0, true);
        assert_eq!(labels(&axis), ["1", "2", "3", "4", "5"]);
        assert_eq!((axis.place(1.0), axis.place(5.0)), (0.0, 1.0));
        let steps = Axis::tight([0.0, 46_875.0].into_iter(), 5.0, true);
        assert_eq!(labels(&steps), ["0", "10k", "20k", "30k", "40k"]);
    }

    #[test]
    fn odd_ranges_still_make_an_axis() {
        assert_eq!(rounded(&[]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        for values in [&[0.5][..], &[0.0], &[-1e-30], &[1e30, -1e30], &[1.0, 1.0 + 1e-13]] {
            let axis = Axis::rounded(values.iter().copied(), 5.0);
            let ticks = axis.ticks();
            assert!((2..20).contains(&ticks.len()), "{values:?}: {ticks:?}");
            assert!((0.0..=1.0).contains(&axis.place(values[0])), "{values:?}: {axis:?}");
        }
    }
}
