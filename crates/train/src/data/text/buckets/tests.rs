//! That lengths are the best there are, and that no sequence is lost.

use super::*;
use crate::data::rng::Rng;

fn shape(sizes: &[usize], lengths: &[usize], least: usize) -> Vec<(usize, Vec<usize>)> {
    let buckets = group(sizes, lengths.to_vec(), least);
    buckets.into_iter().map(|bucket| (bucket.len, bucket.samples)).collect()
}

/// Cells of padding with these lengths.
fn padding(sizes: &[usize], lengths: &[usize]) -> usize {
    let fits = |size: usize| lengths.iter().copied().filter(|&len| len >= size).min();
    sizes.iter().map(|&size| fits(size).map_or(usize::MAX / 1000, |len| len - size)).sum()
}

/// The least padding of any choice of at most [`MOST`] lengths.
fn least_padding(sizes: &[usize]) -> usize {
    let mut distinct = sizes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let choices = (0_u32..1 << distinct.len()).filter(|set| set.count_ones() as usize <= MOST);
    let paddings = choices.map(|set| {
        let chosen: Vec<usize> =
            (0..distinct.len()).filter(|i| set >> i & 1 == 1).map(|i| distinct[i]).collect();
        padding(sizes, &chosen)
    });
    paddings.min().unwrap_or(0)
}

#[test]
fn lengths_make_the_least_padding() {
    assert_eq!(lengths(&[3, 1, 2, 3]), [1, 2, 3]);
    assert_eq!(lengths(&[7; 5]), [7]);
    assert_eq!(lengths(&[]), [0; 0]);
    assert_eq!(lengths(&[0, 0]), [1]);
    // Six clusters: the longest of each.
    let clusters: Vec<usize> = (1..=6).flat_map(|c| [10 * c - 1, 10 * c, 10 * c]).collect();
    assert_eq!(lengths(&clusters), [10, 20, 30, 40, 50, 60]);
    for stream in 0..40 {
        let mut rng = Rng::new(5, stream);
        let sizes: Vec<usize> = (0..60).map(|_| 1 + rng.below(3) * rng.below(7)).collect();
        let chosen = lengths(&sizes);
        assert!(chosen.len() <= MOST && chosen.is_sorted(), "{chosen:?}");
        assert_eq!(chosen.last(), sizes.iter().max());
        assert_eq!(padding(&sizes, &chosen), least_padding(&sizes), "{sizes:?}: {chosen:?}");
    }
}

#[test]
fn each_goes_to_the_shortest_it_fits() {
    let sizes = [5, 1, 3, 2, 5, 9];
    let expected = [(2, vec![1, 3]), (5, vec![0, 2, 4]), (9, vec![5])];
    assert_eq!(shape(&sizes, &[2, 5, 9], 1), expected);
    // In any order, twice, with lengths for nothing, and with one for what is too long.
    assert_eq!(shape(&sizes, &[5, 0, 2, 5, 3000], 1)[..2], expected[..2]);
    assert_eq!(shape(&sizes, &[5, 0, 2, 5, 3000], 1)[2], (3000, vec![5]));
    assert_eq!(shape(&sizes, &[2, 5], 1), expected);
    assert_eq!(shape(&sizes, &[], 1), [(9, vec![0, 1, 2, 3, 4, 5])]);
    assert_eq!(shape(&[], &[4], 1), []);
    assert_eq!(shape(&[0, 0], &[], 0), [(1, vec![0, 1])]);
}

#[test]
fn small_buckets_join_a_longer_one() {
    let sizes = [5, 1, 3, 2, 5, 9];
    assert_eq!(shape(&sizes, &[2, 5, 9], 2), [(2, vec![1, 3]), (9, vec![0, 2, 4, 5])]);
    assert_eq!(shape(&sizes, &[2, 5, 9], 3), [(9, vec![0, 1, 2, 3, 4, 5])]);
    assert_eq!(shape(&sizes, &[1, 2, 5, 9], 2)[0], (2, vec![1, 3]));
    assert_eq!(shape(&sizes, &[2, 5, 9], 100), [(9, vec![0, 1, 2, 3, 4, 5])]);
}

#[test]
fn every_sequence_is_in_one_bucket_that_it_fits() {
    for stream in 0..100 {
        let mut rng = Rng::new(6, stream);
        let count = rng.below(80);
        let sizes: Vec<usize> = (0..count).map(|_| 1 + rng.below(50)).collect();
        let tokens = sizes.iter().map(|&size| vec![7; size]).collect();
        let sequences = Sequences { tokens, labels: vec![0; count], classes: 1, cut: 0 };
        let given: Vec<usize> = (0..rng.below(5)).map(|_| rng.below(60)).collect();
        let least = rng.below(30);
        for lengths in [None, Some(given.as_slice())] {
            let buckets = sequences.buckets(lengths, least);
            let mut seen: Vec<usize> = Vec::new();
            for bucket in &buckets {
                assert!(bucket.samples.is_sorted() && !bucket.samples.is_empty());
                assert!(bucket.samples.iter().all(|&sample| sizes[sample] <= bucket.len));
                assert!(bucket.samples.len() >= least || buckets.len() == 1);
                let padded = bucket.padded(&sequences);
                assert_eq!(padded.len(), bucket.samples.len() * bucket.len);
                for (row, &sample) in padded.chunks(bucket.len).zip(&bucket.samples) {
                    let (tokens, padding) = row.split_at(sizes[sample]);
                    assert!(tokens.iter().all(|&t| t == 7) && padding.iter().all(|&t| t == 0));
                }
                seen.extend(&bucket.samples);
            }
            assert!(buckets.is_sorted_by(|a, b| a.len < b.len));
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }
}
