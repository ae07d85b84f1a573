//! Vectors of words that were trained elsewhere, in the text format of GloVe (Pennington, Socher
//! and Manning, "GloVe: Global vectors for word representation", 2014): on each line a word and
//! its numbers, parted by single spaces, without a header.
//!
//! Such files have millions of rows: they are read line by line, and only the rows of words that
//! the vocabulary holds are kept. Every row is checked all the same, so that a damaged file, or one
//! of another width, does not pass for one in which a few words are missing.

use std::path::Path;

use super::{DataError, Reading, Report, TextFault, Vocabulary, fault::excerpt, lines};

/// Vectors for some of the words of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct WordVectors {
    /// The vector of each number of the vocabulary, if the file has one.
    rows: Vec<Option<Vec<f32>>>,
    width: usize,
}

impl WordVectors {
    /// Reads vectors of `width` elements for the words of `vocabulary`.
    ///
    /// Words are compared exactly, so cased files serve a (lower-cased) vocabulary less well. The
    /// last `width` fields of a line are the numbers, so that a word may hold spaces, as a few in
    /// the files of 840 billion tokens do. A word that comes twice keeps its first vector. A row
    /// of the word `<unk>` is the vector of unknown words; padding never has one.
    ///
    /// # Errors
    ///
    /// * [`DataError::Io`] when the file can't be read,
    /// * [`DataError::Line`] at the first line that is not UTF-8, has another number of numbers, or
    ///   has something else where a (finite) number should be,
    /// * [`DataError::Nothing`] when the file has no lines.
    pub fn glove(
        path: impl AsRef<Path>,
        width: usize,
        vocabulary: &Vocabulary,
    ) -> Result<Self, DataError> {
        let (vectors, _) = Self::glove_with(path, width, vocabulary, &Reading::default())?;
        Ok(vectors)
    }

    /// As [`glove`](Self::glove); with [`skip_bad`](Reading::skip_bad), lines that can't be used
    /// are skipped and counted.
    ///
    /// # Errors
    ///
    /// As [`glove`](Self::glove); [`DataError::Nothing`] also when no line is left.
    pub fn glove_with(
        path: impl AsRef<Path>,
        width: usize,
        vocabulary: &Vocabulary,
        reading: &Reading,
    ) -> Result<(Self, Report), DataError> {
        let path = path.as_ref();
        let mut rows: Vec<Option<Vec<f32>>> = vec![None; vocabulary.len()];
        let mut row = Vec::new();
        let report = lines::each(path, reading, |line| {
            let word = parse(line, width, &mut row)?;
            let id = vocabulary.get(word).filter(|&id| id != Vocabulary::PADDING);
            if let Some(place @ None) = id.and_then(|id| rows.get_mut(id as usize)) {
                *place = Some(row.clone());
            }
            Ok(())
        })?;
        // It also means that some row did have the width, so that it is a sane one.
        if report.used == 0 {
            return Err(DataError::Nothing { path: path.to_owned(), report });
        }
        Ok((Self { rows, width }, report))
    }

    /// The vector of a number of the vocabulary, `[width]`, if the file has one.
    pub fn row(&self, id: u32) -> Option<&[f32]> {
        self.rows.get(id as usize)?.as_deref()
    }

    /// How many elements a vector has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many words have a vector.
    pub fn found(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// All vectors, `[vocabulary, width]` in row-major order. `init` makes the elements of words
    /// without one, from the number of the word and the column; padding is all zeros.
    pub fn matrix(&self, mut init: impl FnMut(u32, usize) -> f32) -> Vec<f32> {
        let mut matrix = Vec::new();
        for (row, id) in self.rows.iter().zip(0..) {
            match row {
                Some(row) => matrix.extend_from_slice(row),
                None if id == Vocabulary::PADDING => matrix.resize(self.width, 0.0),
                None => matrix.extend((0..self.width).map(|column| init(id, column))),
            }
        }
        matrix
    }
}

/// The word of a line; its numbers are left in `row`.
fn parse<'a>(line: &'a str, width: usize, row: &mut Vec<f32>) -> Result<&'a str, TextFault> {
    // From the right: the numbers, and what is left is the word.
    row.clear();
    let mut word = line;
    for column in (1..=width).rev() {
        let Some((before, field)) = word.rsplit_once(' ') else {
            return Err(TextFault::Width { expected: width, found: row.len() });
        };
        let Some(value) = number(field) else {
            // A row that is too short for all its numbers shows at its word already.
            let found = line.matches(' ').count();
            return Err(match found < width {
                true => TextFault::Width { expected: width, found },
                false => TextFault::Number { column, found: excerpt(field) },
            });
        };
        row.push(value);
        word = before;
    }
    row.reverse();
    // What ends in further numbers is no word with spaces in it, but too long a row.
    let further = word.split(' ').skip(1).collect::<Vec<_>>();
    let further = further.iter().rev().take_while(|field| number(field).is_some()).count();
    if further > 0 {
        return Err(TextFault::Width { expected: width, found: width + further });
    }
    if word.is_empty() {
        return Err(TextFault::NotAWord { found: excerpt(word) });
    }
    Ok(word)
}

/// The finite number a field is.
fn number(field: &str) -> Option<f32> {
    field.parse().ok().filter(|value: &f32| value.is_finite())
}

#[cfg(test)]
mod tests;
