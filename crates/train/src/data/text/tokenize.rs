//! From a text to its words. The rule is made so that raw text and text that was tokenised as the
//! Penn Treebank is agree: tokens joined by spaces give the same tokens again.

/// What English contracts to, behind an apostrophe.
const CONTRACTED: [&str; 6] = ["s", "d", "m", "ll", "re", "ve"];

/// The tokens of a text, in order.
///
/// The text is lower-cased first, and typographic apostrophes and quotation marks are taken for
/// `'` and `"`. Then, from the left:
///
/// 1. White space parts tokens and is dropped, and so are the line breaks of HTML: `<br>`, `<br/>`
///    and `<br />`.
/// 2. A run of letters and digits (of any script) is a token, with one exception: if it ends in
///    `n` and `'t` follows, then the token `n't` begins at that `n`. So `don't` gives `do n't`,
///    `can't` gives `ca n't`, and `n't` is a token where it stands alone.
/// 3. An apostrophe with `s`, `d`, `m`, `ll`, `re` or `ve` behind it is one token, whatever stands
///    before: `it's` gives `it 's`.
/// 4. Two apostrophes or two backquotes, the quotation marks of the Penn Treebank, are the token
///    `"`.
/// 5. Any other character is a token of its own: `2,500` gives `2 , 500`, and `o'hara` gives
///    `o ' hara`.
///
/// Contracted parts, in 2 and 3, end where neither letter nor digit follows.
pub fn tokenize(text: &str) -> Vec<String> {
    let text: String = text
        .to_lowercase()
        .chars()
        .map(|c| match c {
            '\u{2018}' | '\u{2019}' => '\'',
            '\u{201c}' | '\u{201d}' => '"',
            other => other,
        })
        .collect();
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = if let Some(after) = after_break(rest) {
            after
        } else if let Some(after) = rest.strip_prefix("''").or_else(|| rest.strip_prefix("``")) {
            tokens.push("\"".to_owned());
            after
        } else {
            let (token, after) = rest.split_at(token_len(rest, first));
            tokens.push(token.to_owned());
            after
        };
        rest = rest.trim_start();
    }
    tokens
}

/// What follows a line break of HTML.
fn after_break(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("<br")?.trim_start();
    inside.strip_prefix('/').unwrap_or(inside).strip_prefix('>')
}

/// The bytes of the token that `text` begins with, its first character being `first`.
fn token_len(text: &str, first: char) -> usize {
    if let Some(after) = text.strip_prefix('\'') {
        let contracted = CONTRACTED
            .iter()
            .find(|part| word_len(after) == part.len() && after.starts_with(**part));
        return 1 + contracted.map_or(0, |part| part.len());
    }
    let word = word_len(text);
    let (before, after) = text.split_at(word);
    let negated = before.ends_with('n')
        && after.strip_prefix('\'').is_some_and(|t| t.starts_with('t') && word_len(t) == 1);
    match word {
        0 => first.len_utf8(),
        1 if negated => "n't".len(),
        _ if negated => word - 1,
        _ => word,
    }
}

/// The bytes of the run of letters and digits that `text` begins with.
fn word_len(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len())
}

#[cfg(test)]
mod tests;
