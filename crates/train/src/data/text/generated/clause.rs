//! Clauses that judge a film or a part of it, plainly ("the plot is dull") or by negating the
//! opposite ("the plot is never funny").

use super::words::{
    DAMNING, DEGREES, FAILING, FILMS, MANY_PARTS, NAMES, NEVER, NOT, PARTS, PLEASING, PRAISING,
};
use crate::data::rng::Rng;

/// What is judged.
pub(super) struct About {
    /// Such as `the plot`.
    pub(super) name: String,
    plural: bool,
    /// The kind of film, if it is the film as a whole.
    film: Option<&'static str>,
}

impl About {
    /// A part of the film.
    pub(super) fn part(rng: &mut Rng) -> Self {
        let which = rng.below(PARTS.len() + MANY_PARTS.len());
        Self::numbered(which)
    }

    /// Two parts of the film that are not the same.
    pub(super) fn two_parts(rng: &mut Rng) -> [Self; 2] {
        let all = PARTS.len() + MANY_PARTS.len();
        let one = rng.below(all);
        let other = (one + 1 + rng.below(all - 1)) % all;
        [Self::numbered(one), Self::numbered(other)]
    }

    fn numbered(which: usize) -> Self {
        let (plural, part) = match which.checked_sub(PARTS.len()) {
            None => (false, PARTS[which]),
            Some(many) => (true, MANY_PARTS[many]),
        };
        Self { name: format!("the {part}"), plural, film: None }
    }

    /// The film as a whole.
    pub(super) fn whole(rng: &mut Rng) -> Self {
        let film = *rng.choose(&FILMS);
        let name = match rng.below(4) {
            0 => format!("{} 's {film}", rng.choose(&NAMES)),
            1 => format!("this {film}"),
            _ => format!("the {film}"),
        };
        Self { name, plural: false, film: Some(film) }
    }

    fn is(&self, rng: &mut Rng) -> &'static str {
        match (self.plural, rng.chance(0.3)) {
            (false, false) => "is",
            (false, true) => "was",
            (true, false) => "are",
            (true, true) => "were",
        }
    }
}

/// A clause that finds `about` good or bad; if `negated`, by denying the opposite.
pub(super) fn judgement(good: bool, negated: bool, about: &About, rng: &mut Rng) -> String {
    let praises = good != negated;
    match (rng.below(10), about.film) {
        (0..3, _) => with_verb(praises, negated, about, rng),
        (3..6, Some(film)) => as_noun(praises, negated, film, rng),
        (3..5, None) => {
            let word = adjective(praises, rng);
            let what = if negated { "nothing" } else { "something" };
            format!("there is {what} {word} about {}", about.name)
        }
        _ => {
            let (is, word) = (about.is(rng), adjective(praises, rng));
            let front = in_front(negated, rng);
            format!("{} {is} {front}{word}", about.name)
        }
    }
}

fn adjective(praises: bool, rng: &mut Rng) -> &'static str {
    let word: &&str = if praises { rng.choose(&PRAISING) } else { rng.choose(&DAMNING) };
    word
}

/// What stands in front of an adjective, with a space behind it if it is anything.
fn in_front(negated: bool, rng: &mut Rng) -> String {
    match (negated, rng.chance(0.4)) {
        (true, _) => format!("{} ", rng.choose(&NOT)),
        (false, true) => format!("{} ", rng.choose(&DEGREES)),
        (false, false) => String::new(),
    }
}

/// "the jokes do not work"
fn with_verb(praises: bool, negated: bool, about: &About, rng: &mut Rng) -> String {
    let [third, base] = *if praises { rng.choose(&PLEASING) } else { rng.choose(&FAILING) };
    let (verb, does) = if about.plural { (base, "do") } else { (third, "does") };
    let name = &about.name;
    match (negated, rng.chance(0.5)) {
        (false, _) => format!("{name} {verb}"),
        (true, false) => format!("{name} {} {verb}", rng.choose(&NEVER)),
        (true, true) => format!("{name} {does} not {base}"),
    }
}

/// "this is hardly a bad film"
fn as_noun(praises: bool, negated: bool, film: &str, rng: &mut Rng) -> String {
    let word = adjective(praises, rng);
    // The only adjective in the lists that is not pronounced as it begins.
    let vowel = word == "honest" || word.starts_with(['a', 'e', 'i', 'o', 'u']);
    let a = if vowel { "an" } else { "a" };
    if rng.chance(0.4) {
        let not = if negated { "has not made" } else { "has made" };
        format!("{} {not} {a} {word} {film}", rng.choose(&NAMES))
    } else {
        let is = rng.choose(&["this is", "it is", "it was"]);
        let not = if negated {
            rng.choose(&["not ", "hardly ", "anything but ", "by no means "])
        } else {
            ""
        };
        format!("{is} {not}{a} {word} {film}")
    }
}

/// A judgement within a sentence that denies or affirms it, which may deny twice. If `denied`, the
/// adjective says the opposite of the whole.
pub(super) fn reported(good: bool, denied: bool, about: &About, rng: &mut Rng) -> String {
    let (name, is) = (&about.name, about.is(rng));
    let word = adjective(good != denied, rng);
    match (denied, rng.below(5)) {
        (true, 0) => format!("nobody can say that {name} {is} {word}"),
        (true, 1) => format!("it would be wrong to call {name} {word}"),
        (true, 2) => format!("it is not true that {name} {is} {word}"),
        (true, 3) => format!("i would not say that {name} {is} {word}"),
        (true, _) => format!("it would not be right to call {name} {word}"),
        (false, 0) => format!("nobody can say that {name} {is} not {word}"),
        (false, 1) => format!("it would not be wrong to call {name} {word}"),
        (false, 2) => format!("it is not true that {name} {is} not {word}"),
        (false, 3) => format!("nobody can deny that {name} {is} {word}"),
        (false, _) => format!("it would be right to call {name} {word}"),
    }
}
