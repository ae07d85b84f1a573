//! The characters of a text as tokens.

use crate::DataError;
use std::collections::{BTreeSet, HashMap};

/// A vocabulary of characters, in their order in Unicode; it has no padding, and knows no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Characters {
    characters: Vec<char>,
    ids: HashMap<char, u32>,
}

impl Characters {
    /// The characters of a text.
    pub fn new(text: &str) -> Characters {
        let characters: Vec<char> = text.chars().collect::<BTreeSet<char>>().into_iter().collect();
        let ids = characters.iter().copied().zip(0..).collect();
        Characters { characters, ids }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.characters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// A token for each character.
    ///
    /// # Errors
    /// [`DataError::Character`] for the first one that the text didn't have.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let id = |(at, character): (usize, char)| {
            let unknown = || DataError::Character { character, place: at };
            self.ids.get(&character).copied().ok_or_else(unknown)
        };
        text.chars().enumerate().map(id).collect()
    }

    /// The characters of tokens; a token that is none is the replacement character.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let character = |&token: &u32| {
            let found = self.characters.get(token as usize).copied();
            found.unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        tokens.iter().map(character).collect()
    }

    /// All characters in order, from which [`Characters::new`] makes the same vocabulary.
    pub fn to_text(&self) -> String {
        self.characters.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn characters_come_back() {
        let characters = Characters::new("ein Übel\n");
        assert_eq!(characters.len(), 8);
        let tokens = characters.encode("bei\n Ül").unwrap();
        assert_eq!(characters.decode(&tokens), "bei\n Ül");
        assert_eq!(Characters::new(&characters.to_text()), characters);
        assert_eq!(characters.decode(&[99]), "\u{fffd}");
    }

    #[test]
    fn others_are_refused_by_name() {
        let error = Characters::new("abc").encode("abxc").unwrap_err();
        assert_eq!(error.to_string(), "character 2 is 'x', which the vocabulary doesn't have");
        assert!(Characters::new("").is_empty());
    }
}
