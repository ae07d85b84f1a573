//! A number for each word, counted from a data set. Two numbers are no word's: 0 is padding and 1
//! stands for every word that is not known.

use std::{cmp::Reverse, collections::HashMap};

use super::{DataError, TextFault, fault::excerpt, tokenize};

/// The words of a data set and their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The word of each number.
    words: Vec<String>,
    /// The number of each word.
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// The number of padding, which is written `<pad>`.
    pub const PADDING: u32 = 0;
    /// The number of words that are not known, written `<unk>`.
    pub const UNKNOWN: u32 = 1;

    /// The words that `texts` hold at least `min_count` times, the most frequent first and those
    /// of the same count in alphabetical order. With `max_size`, only as many as make
    /// [`len`](Self::len), padding and the unknown word included, no larger than that.
    pub fn build<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        min_count: usize,
        max_size: Option<usize>,
    ) -> Self {
        let mut counts = HashMap::<String, usize>::new();
        for token in texts.into_iter().flat_map(tokenize) {
            *counts.entry(token).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, n)| *n >= min_count).collect();
        counts.sort_unstable_by(|(a, m), (b, n)| (Reverse(m), a).cmp(&(Reverse(n), b)));
        let mut vocabulary = Self::empty();
        let room = max_size.map_or(counts.len(), |size| size.saturating_sub(vocabulary.len()));
        for (word, _) in counts.into_iter().take(room) {
            // Each word was counted once, so none can be refused here.
            let _ = vocabulary.add(word);
        }
        vocabulary
    }

    /// Padding and the unknown word alone.
    fn empty() -> Self {
        let words = ["<pad>", "<unk>"].map(str::to_owned).to_vec();
        let ids = words.iter().cloned().zip([Self::PADDING, Self::UNKNOWN]).collect();
        Self { words, ids }
    }

    /// Gives a word the next number.
    fn add(&mut self, word: String) -> Result<(), TextFault> {
        if word.is_empty() || word.contains(char::is_whitespace) {
            return Err(TextFault::NotAWord { found: excerpt(&word) });
        }
        if let Some(&id) = self.ids.get(&word) {
            return Err(TextFault::Duplicate { word, id });
        }
        self.ids.insert(word.clone(), self.words.len() as u32);
        self.words.push(word);
        Ok(())
    }

    /// How many numbers there are, padding and the unknown word included: one more than the
    /// largest of them.
    #[expect(clippy::len_without_is_empty, reason = "the two numbers of no word are always there")]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The number of a token, [`UNKNOWN`](Self::UNKNOWN) if it has none.
    pub fn id(&self, word: &str) -> u32 {
        self.get(word).unwrap_or(Self::UNKNOWN)
    }

    /// The number of a token, if it has one.
    pub fn get(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }

    /// The token of a number that is below [`len`](Self::len).
    pub fn word(&self, id: u32) -> Option<&str> {
        self.words.get(id as usize).map(String::as_str)
    }

    /// The numbers of the [tokens](tokenize) of a text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        tokenize(text).iter().map(|token| self.id(token)).collect()
    }

    /// The tokens of some numbers, parted by spaces. Padding is left out, and numbers that are not
    /// below [`len`](Self::len) are written as unknown words.
    pub fn decode(&self, ids: &[u32]) -> String {
        let real = ids.iter().filter(|&&id| id != Self::PADDING);
        real.map(|&id| self.word(id).unwrap_or("<unk>")).collect::<Vec<_>>().join(" ")
    }

    /// The share of the tokens of some texts that have a number, from 0 to 1; 1 if there are no
    /// tokens.
    pub fn coverage<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> f64 {
        let (mut known, mut all) = (0_u64, 0_u64);
        for token in texts.into_iter().flat_map(tokenize) {
            known += u64::from(self.get(&token).is_some());
            all += 1;
        }
        if all == 0 { 1.0 } else { known as f64 / all as f64 }
    }

    /// The words, one on each line, each line ended: line `n`, counted from one, holds number
    /// `n + 1`, because padding and the unknown word are left out.
    pub fn to_text(&self) -> String {
        self.words.iter().skip(2).flat_map(|word| [word, "\n"]).collect()
    }

    /// The vocabulary that [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    ///
    /// [`DataError::Vocabulary`] at the first line that is empty, has white space in it or holds a
    /// word that has a number already.
    pub fn from_text(text: &str) -> Result<Self, DataError> {
        let mut vocabulary = Self::empty();
        for (line, word) in text.split_terminator('\n').enumerate() {
            let added = vocabulary.add(word.to_owned());
            added.map_err(|reason| DataError::Vocabulary { line: line + 1, reason })?;
        }
        Ok(vocabulary)
    }
}

#[cfg(test)]
mod tests;
