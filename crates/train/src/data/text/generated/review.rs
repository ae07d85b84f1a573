//! Reviews: one or two judgements, how they are joined, and remarks that judge nothing. What
//! decides is the judgement of the main clause, or the one that follows `but`.

use super::{
    clause::{About, judgement, reported},
    words::{CLOSINGS, OPENINGS},
};
use crate::data::rng::Rng;

/// Words below which a remark is put in front (each of them makes up for what is missing), and from
/// which none is added.
const SHORT: usize = 6;
const LONG: usize = 13;

/// How often a judgement is negated where all agree. Well below one half, so that counting words
/// is worth something.
const NEGATED: f32 = 0.15;
/// How often it is where two judgements differ; counting is worth nothing there in any case.
const NEGATED_CONTRAST: f32 = 0.35;

/// A review that finds the film good, or bad.
pub(super) fn review(good: bool, rng: &mut Rng) -> String {
    let text = match rng.below(20) {
        0..6 => single(good, rng),
        6..10 => agreeing(good, rng),
        10..18 => contrast(good, rng),
        _ => rescue(good, rng),
    };
    remark(text, rng)
}

/// One judgement.
fn single(good: bool, rng: &mut Rng) -> String {
    let about = if rng.chance(0.5) { About::part(rng) } else { About::whole(rng) };
    let (negated, denied) = (rng.chance(NEGATED), rng.chance(0.5));
    if rng.chance(0.3) {
        reported(good, denied, &about, rng)
    } else {
        judgement(good, negated, &about, rng)
    }
}

/// Two judgements of two parts that say the same.
fn agreeing(good: bool, rng: &mut Rng) -> String {
    let [one, other] = About::two_parts(rng).map(|about| {
        let negated = rng.chance(NEGATED);
        judgement(good, negated, &about, rng)
    });
    let joint = rng.choose(&[" and ", " , and ", " ; ", " , "]);
    format!("{one}{joint}{other}")
}

/// Two judgements that differ.
fn contrast(good: bool, rng: &mut Rng) -> String {
    let [conceded, decisive] =
        if rng.chance(0.5) { [About::part(rng), About::whole(rng)] } else { About::two_parts(rng) };
    let negated = [rng.chance(NEGATED_CONTRAST), rng.chance(NEGATED_CONTRAST)];
    let conceded = judgement(!good, negated[0], &conceded, rng);
    let decisive = judgement(good, negated[1], &decisive, rng);
    joined(rng.below(FORMS), &conceded, &decisive)
}

/// How many ways there are to join two judgements that differ.
pub(super) const FORMS: usize = 8;

/// Two judgements that differ, of which the second decides.
pub(super) fn joined(form: usize, conceded: &str, decisive: &str) -> String {
    match form {
        0 | 1 => format!("{conceded} , but {decisive}"),
        2 => format!("{conceded} , yet {decisive}"),
        3 => format!("{conceded} ; even so , {decisive}"),
        4 => format!("although {conceded} , {decisive}"),
        5 => format!("{decisive} , although {conceded}"),
        6 => format!("even if {conceded} , {decisive}"),
        _ => format!("{decisive} , even though {conceded}"),
    }
}

/// One part that makes up for another or spoils it, or does not.
fn rescue(good: bool, rng: &mut Rng) -> String {
    let [first, second] = About::two_parts(rng);
    // What is bad is saved or is not, what is good is ruined or is not.
    let (starts_good, happens) = if rng.chance(0.5) { (good, false) } else { (!good, true) };
    let start = judgement(starts_good, rng.chance(NEGATED_CONTRAST), &first, rng);
    let verb = if starts_good { "ruined" } else { "saved" };
    let joint = if happens { ", but" } else { ", and" };
    let never = if happens { "" } else { rng.choose(&["never ", "hardly ", "in no way "]) };
    format!("{start} {joint} {} {never}{verb} the whole thing", second.name)
}

/// A remark in front of or behind a review that has room for one.
fn remark(mut text: String, rng: &mut Rng) -> String {
    let words = text.split(' ').count();
    if words < LONG && (words < SHORT || rng.chance(0.5)) {
        if words < SHORT || rng.chance(0.6) {
            text = format!("{} , {text}", rng.choose(&OPENINGS));
        } else {
            text = format!("{text} {}", rng.choose(&CLOSINGS));
        }
    }
    text
}
