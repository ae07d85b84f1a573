//! Buckets against counting.

use super::*;

#[test]
fn every_value_is_in_its_bucket() {
    let values = [-3.4e38, -1.0, -1e-20, 0.0, 1e-20, 0.37, 0.37, 5.0, f32::MAX];
    let histogram = Histogram::of(&values);
    let Histogram { limits, buckets, .. } = &histogram;
    assert!(limits.is_sorted() && limits.len() == buckets.len());
    let counted = |low: f64, high: f64| {
        let within = |value: &&f32| (low..high).contains(&f64::from(**value));
        values.iter().filter(within).count() as f64
    };
    for (ends, &bucket) in limits.windows(2).zip(&buckets[1..]) {
        assert_eq!(bucket, counted(ends[0], ends[1]), "{ends:?}");
    }
    assert_eq!(buckets.iter().sum::<f64>(), 9.0);
}

#[test]
fn only_buckets_around_the_values_remain() {
    let histogram = Histogram::of(&[0.5, 0.52, 0.25]);
    assert_eq!((histogram.min, histogram.max, histogram.count), (0.25, f64::from(0.52_f32), 3.0));
    assert!((histogram.sum - 1.27).abs() < 1e-6 && (histogram.squares - 0.5829).abs() < 1e-6);
    let (first, last) = (histogram.limits[0], histogram.limits[histogram.limits.len() - 1]);
    assert!(first <= 0.25 && first > 0.22, "{first}");
    assert!(last > 0.52 && last < 0.58, "{last}");
    assert_eq!(histogram.buckets[..2], [0.0, 1.0]);
    let zeros = Histogram::of(&[0.0; 4]);
    assert_eq!((zeros.limits, zeros.buckets), (vec![0.0, 1e-12], vec![0.0, 4.0]));
}
