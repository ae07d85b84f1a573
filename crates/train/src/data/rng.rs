//! Random numbers that depend on a seed, a stream and a counter only: SplitMix64 (Steele, Lea and
//! Flood, "Fast splittable pseudorandom number generators", 2014) with the stream mixed into its
//! start. Not for anything secret. Digits are drawn, reviews are written and
//! samples are picked with it.

/// The odd number closest to 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream of random numbers.
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    /// Stream number `stream` of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(mix(seed).wrapping_add(stream.wrapping_mul(GOLDEN))) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// From 0 to below 1, in steps of 2^-24.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Between `low` and `high`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// A whole number below `bound`, which is less than 2^32.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (((self.next() >> 32) * bound as u64) >> 32) as usize
    }

    /// Whether it happens, with this probability.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// One of some choices, each as likely as the next.
    pub(crate) fn choose<'a, T, const N: usize>(&mut self, choices: &'a [T; N]) -> &'a T {
        const { assert!(N > 0, "nothing to choose from") };
        &choices[self.below(N)]
    }

    /// From 0 to below 1, in steps of 2^-53: fine enough to pick one of millions.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The numbers below `N` in a random order.
    pub(crate) fn shuffled<const N: usize>(&mut self) -> [u8; N] {
        let mut numbers = std::array::from_fn(|i| i as u8);
        self.shuffle(&mut numbers);
        numbers
    }

    /// Puts things into a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_its_published_numbers() {
        // The first outputs for the state 1234567, as given by the reference implementation.
        let mut rng = Rng { state: 1_234_567 };
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn streams_differ_and_numbers_stay_in_range() {
        let mut streams = [Rng::new(1, 1), Rng::new(1, 2), Rng::new(2, 1)];
        let firsts = streams.each_mut().map(Rng::next);
        assert!(firsts[0] != firsts[1] && firsts[0] != firsts[2] && firsts[1] != firsts[2]);
        let mut sum = 0.0;
        for _ in 0..1000 {
            let value = streams[0].between(-2.0, 4.0);
            assert!((-2.0..4.0).contains(&value) && streams[1].below(3) < 3);
            sum += value;
        }
        assert!((sum / 1000.0 - 1.0).abs() < 0.3, "mean {}", sum / 1000.0);
        let mut shuffled = streams[2].shuffled::<10>();
        shuffled.sort_unstable();
        assert_eq!(shuffled, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
