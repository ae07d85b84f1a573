//! Encoded texts: what is left of a data set once a vocabulary has made numbers of its words.

use super::{Bucket, Texts, Vocabulary, buckets};

/// Texts as the numbers of their tokens, with one label each.
///
/// [`Sequences::encode`] leaves no text without tokens; fields that are filled otherwise are taken
/// as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// The numbers of each text's tokens.
    pub tokens: Vec<Vec<u32>>,
    /// One class per text, each below [`classes`](Self::classes).
    pub labels: Vec<u8>,
    /// How many classes the labels tell apart.
    pub classes: usize,
    /// How many texts were longer than allowed, and lost their end.
    pub cut: usize,
}

impl Sequences {
    /// Encodes texts. Of each, the first `max_len` tokens are kept (one at least). A text without
    /// any token becomes one unknown word, so that every sequence has a last element.
    pub fn encode(texts: &Texts, vocabulary: &Vocabulary, max_len: Option<usize>) -> Self {
        let (labels, classes) = (texts.labels.clone(), texts.classes.len());
        Self { labels, classes, ..Self::unlabelled(texts.iter(), vocabulary, max_len) }
    }

    /// The same of texts whose classes are not known, to predict them: without labels.
    pub fn unlabelled<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        vocabulary: &Vocabulary,
        max_len: Option<usize>,
    ) -> Self {
        let longest = max_len.map_or(usize::MAX, |len| len.max(1));
        let mut cut = 0;
        let encoded = texts.into_iter().map(|text| {
            let mut ids = vocabulary.encode(text);
            cut += usize::from(ids.len() > longest);
            ids.truncate(longest);
            if ids.is_empty() {
                ids.push(Vocabulary::UNKNOWN);
            }
            ids
        });
        let tokens = encoded.collect();
        Self { tokens, labels: vec![], classes: 0, cut }
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Groups the sequences by length, so that those that are trained on together need little
    /// padding: each goes to the shortest bucket it fits. Buckets come in ascending length, none
    /// is empty, and each holds its samples in ascending order.
    ///
    /// `lengths` are the lengths of the buckets, in any order; sequences longer than all of them
    /// get a bucket of their own, as long as the longest. Without `lengths`, at most six are chosen
    /// such that the padding in total is the least possible.
    ///
    /// Buckets with fewer than `least` samples join the next longer one, and the last bucket joins
    /// the one before, which takes its length. Only a single bucket can hold fewer in the end.
    pub fn buckets(&self, lengths: Option<&[usize]>, least: usize) -> Vec<Bucket> {
        let sizes: Vec<usize> = self.tokens.iter().map(Vec::len).collect();
        let lengths = match lengths {
            Some(lengths) => lengths.to_vec(),
            None => buckets::lengths(&sizes),
        };
        buckets::group(&sizes, lengths, least)
    }

    /// The buckets that training in batches uses, each with a program of its own: of the lengths with the least padding,
    /// with at least 64 sequences and a batch each.
    pub fn training_buckets(&self, batch: usize) -> Vec<Bucket> {
        self.buckets(None, batch.max(64))
    }
}

#[cfg(test)]
mod tests;
