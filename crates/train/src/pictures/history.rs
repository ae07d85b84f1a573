//! The curves of a fit: its loss and its first metrics.

use super::{PictureError, curves};
use crate::{History, Scores};
use std::path::Path;

/// Metrics that have a panel, at most.
const METRICS: usize = 2;

/// Writes the loss and the first metrics of a fit as a PNG file: of every step, smoothed, and of every validation.
///
/// # Errors
///
/// As [`curves::draw`].
pub fn draw(path: impl AsRef<Path>, title: &str, history: &History) -> Result<(), PictureError> {
    let steps = |values: &[f32]| -> Vec<(f64, f64)> {
        values.iter().enumerate().map(|(at, &v)| ((at + 1) as f64, f64::from(v))).collect()
    };
    let validations = |value: &dyn Fn(&Scores) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |(at, scores): &(usize, Scores)| Some((*at as f64, value(scores)?));
        history.validations.iter().filter_map(point).collect()
    };
    let smooth = (history.losses.len() / 100).max(1);
    let mut panels = vec![
        curves::Panel::new("Loss", "step")
            .smoothed("train", steps(&history.losses), smooth)
            .line("validation", validations(&|scores| Some(scores.loss))),
    ];
    let validated = history.validations.first().map(|(_, scores)| &scores.metrics);
    let validated = validated.into_iter().flatten().map(|(name, _)| name);
    let mut names: Vec<&String> = validated.collect();
    names.extend(history.metrics.keys().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    for name in names.into_iter().take(METRICS) {
        let mut words = name.replace('_', " ");
        if let Some(first) = words.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        panels.push(
            curves::Panel::new(words, "step")
                .smoothed("train", steps(history.metric(name)), smooth)
                .line("validation", validations(&|scores| scores.get(name))),
        );
    }
    curves::draw(path, title, &panels)
}
