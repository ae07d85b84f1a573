//! The rule, part by part, and that raw and tokenised text agree.

use super::*;

#[track_caller]
fn check(text: &str, expected: &str) {
    let tokens = tokenize(text);
    assert_eq!(tokens.join(" "), expected);
    // Tokens hold no space, and give themselves again.
    assert_eq!(tokenize(&tokens.join(" ")), tokens);
    assert!(tokens.iter().all(|token| !token.is_empty() && !token.contains(char::is_whitespace)));
}

#[test]
fn words_are_runs_of_letters_and_digits_in_lower_case() {
    check("A stirring,funny Film!", "a stirring , funny film !");
    check("heart-warming 2,500 (sic)...", "heart - warming 2 , 500 ( sic ) . . .");
    check(
        "\tcaf\u{c9} \u{41c}\u{418}\u{420}\u{a0}\u{6620}\u{753b}\r\n",
        "caf\u{e9} \u{43c}\u{438}\u{440} \u{6620}\u{753b}",
    );
    check("", "");
    check(" \n\t", "");
    check("\u{1f642}\u{1f642}", "\u{1f642} \u{1f642}");
}

#[test]
fn contractions_are_split_as_in_the_penn_treebank() {
    check("don't DIDN'T can't won't", "do n't did n't ca n't wo n't");
    check("it's she'll we're I've he'd I'm", "it 's she 'll we 're i 've he 'd i 'm");
    check("do n't it 's ca n't", "do n't it 's ca n't");
    check("n't 's 'll", "n't 's 'll");
    check("isn\u{2019}t it\u{2019}s", "is n't it 's");
    check("wouldn't've", "would n't 've");
    // What only looks like one.
    check(
        "the irwins' '70s o'hara 'em rock'n'roll",
        "the irwins ' ' 70s o ' hara ' em rock ' n ' roll",
    );
    check("n'the 'second 'dd isn'", "n ' the ' second ' dd isn '");
    check("'", "'");
}

#[test]
fn quotation_marks_agree() {
    check("`` waterboy ! ''", "\" waterboy ! \"");
    check("\"waterboy!\"", "\" waterboy ! \"");
    check("\u{201c}waterboy\u{201d} \u{2018}x\u{2019}", "\" waterboy \" ' x '");
    check("` eh '", "` eh '");
}

#[test]
fn line_breaks_of_html_are_spaces() {
    check("good.<br /><br />Bad<br>ugly<BR/>end", "good . bad ugly end");
    check("<br /", "< br /");
    check("a < b <bride>", "a < b < bride >");
}
