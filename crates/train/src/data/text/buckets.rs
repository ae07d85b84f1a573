//! Buckets: sequences of like length, padded to the same. Which lengths make the least padding is
//! found by dynamic programming.

use std::collections::BTreeMap;

use super::{Sequences, Vocabulary};

/// How many lengths are chosen at most: each is a recording of its own to compile.
const MOST: usize = 6;

/// Sequences that are padded to the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The length they are padded to.
    pub len: usize,
    /// Which sequences these are, by their index, ascending.
    pub samples: Vec<usize>,
}

impl Bucket {
    /// The tokens of the bucket's sequences, `[samples, len]` in row-major order, with padding
    /// behind each.
    ///
    /// `sequences` are those the bucket was made of. Of others, what does not fit is cut and what
    /// is not there is padding.
    pub fn padded(&self, sequences: &Sequences) -> Vec<u32> {
        let mut padded = Vec::new();
        for (row, &sample) in self.samples.iter().enumerate() {
            let tokens = sequences.tokens.get(sample).into_iter().flatten();
            padded.extend(tokens.take(self.len));
            padded.resize((row + 1) * self.len, Vocabulary::PADDING);
        }
        padded
    }

    /// The classes of the bucket's sequences, one each; those that are not there are left out.
    pub fn labels(&self, sequences: &Sequences) -> Vec<u8> {
        self.samples.iter().filter_map(|&sample| sequences.labels.get(sample).copied()).collect()
    }
}

/// At most [`MOST`] lengths of buckets for sequences of these sizes, ascending, the last being the
/// largest size: the choice with the least padding, and the fewest lengths among such.
///
/// Sorted and distinct, sizes `s_1 < ... < s_m` occur `c_1, ..., c_m` times. Some bucket must end
/// at `s_m`, and one that ends at no size at all could be shorter. Let `P(k, j)` be the least
/// number of cells, tokens and padding, of `k` buckets that hold the first `j` sizes and end at
/// `s_j`. The last of them begins behind some `i < j`, so
///
/// `P(k, j) = min over i of P(k - 1, i) + s_j (c_(i+1) + ... + c_j)`, with `P(0, 0) = 0`.
///
/// The number of tokens is the same whatever is chosen, so the fewest cells have the least
/// padding. It takes `6 m^2 / 2` steps, and `m` sizes need `m^2 / 2` tokens to occur at all.
pub(super) fn lengths(sizes: &[usize]) -> Vec<usize> {
    let mut counts = BTreeMap::<usize, u64>::new();
    for &size in sizes {
        *counts.entry(size.max(1)).or_default() += 1;
    }
    // With nothing in front: entry j is s_j, and how many samples are no longer.
    let mut distinct = vec![(0_usize, 0_u64)];
    let mut upto = 0;
    for (size, count) in counts {
        upto += count;
        distinct.push((size, upto));
    }

    // `cells[j]` is P(k, j) for the k at hand; `from[k - 1][j]` is the i it was reached from.
    let mut cells: Vec<Option<u64>> = vec![None; distinct.len()];
    cells[0] = Some(0);
    let mut from: Vec<Vec<usize>> = Vec::new();
    let mut best: Option<(u64, usize)> = None;
    for k in 1..=MOST {
        let (next, reached) = one_more(&distinct, &cells);
        from.push(reached);
        cells = next;
        if let Some(&Some(total)) = cells.last()
            && best.is_none_or(|(least, _)| total < least)
        {
            best = Some((total, k));
        }
    }

    let mut lengths = Vec::new();
    let mut end = distinct.len() - 1;
    for reached in from.iter().take(best.map_or(0, |(_, k)| k)).rev() {
        lengths.push(distinct[end].0);
        end = reached[end];
    }
    lengths.reverse();
    lengths
}

/// From the fewest cells of some number of buckets to those of one more, and where each begins.
fn one_more(distinct: &[(usize, u64)], cells: &[Option<u64>]) -> (Vec<Option<u64>>, Vec<usize>) {
    let mut next = vec![None; distinct.len()];
    let mut reached = vec![0; distinct.len()];
    for (j, &(size, upto)) in distinct.iter().enumerate() {
        let starts = distinct.iter().zip(cells).take(j).enumerate();
        let least = starts.filter_map(|(i, (&(_, before), cells))| {
            Some(((*cells)? + size as u64 * (upto - before), i))
        });
        if let Some((total, i)) = least.min() {
            next[j] = Some(total);
            reached[j] = i;
        }
    }
    (next, reached)
}

/// Puts each sequence of these sizes into the shortest bucket it fits.
pub(super) fn group(sizes: &[usize], mut lengths: Vec<usize>, least: usize) -> Vec<Bucket> {
    // What is longer than every bucket gets one of its own.
    let longest = sizes.iter().max().copied().unwrap_or(0);
    if lengths.iter().all(|&len| len < longest) {
        lengths.push(longest);
    }
    lengths.sort_unstable();
    lengths.dedup();
    // A bucket of no length could hold only what has no tokens, and nothing could be done with it.
    lengths.retain(|&len| len > 0);
    if lengths.is_empty() {
        lengths.push(1);
    }
    let mut buckets: Vec<Bucket> =
        lengths.into_iter().map(|len| Bucket { len, samples: Vec::new() }).collect();
    for (sample, &size) in sizes.iter().enumerate() {
        let place = buckets.partition_point(|bucket| bucket.len < size);
        if let Some(bucket) = buckets.get_mut(place) {
            bucket.samples.push(sample);
        }
    }
    merge(buckets, least.max(1))
}

/// Lets buckets of fewer than `least` samples join the next, and the last the one before.
fn merge(buckets: Vec<Bucket>, least: usize) -> Vec<Bucket> {
    let mut merged: Vec<Bucket> = Vec::new();
    let mut waiting = Vec::new();
    let mut end = 0;
    for mut bucket in buckets.into_iter().filter(|bucket| !bucket.samples.is_empty()) {
        waiting.append(&mut bucket.samples);
        end = bucket.len;
        if waiting.len() >= least {
            merged.push(Bucket { len: end, samples: std::mem::take(&mut waiting) });
        }
    }
    if !waiting.is_empty() {
        match merged.last_mut() {
            Some(last) => {
                last.len = end;
                last.samples.append(&mut waiting);
            }
            None => merged.push(Bucket { len: end, samples: waiting }),
        }
    }
    for bucket in &mut merged {
        bucket.samples.sort_unstable();
    }
    merged
}

#[cfg(test)]
mod tests;
