//! Functions of floats without branches, tables or calls, so that loops over them use whole vectors. The fits are
//! those of the Cephes library (S. Moshier, single precision), but for one of erf; `shaders/special.wgsl` is for adapters.

/// Adding it rounds to a whole number, which is then in the low bits: 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;

/// `a b + c`; `FUSED` multiplies and adds in one instruction, for machines that have it: others
/// would call a function for each.
#[inline(always)]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `c[0] x^n + c[1] x^(n - 1) + .. + c[n]`.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[0];
    for c in &c[1..] {
        sum = mul_add::<FUSED>(sum, x, *c);
    }
    sum
}

/// Work whose loops use the machine's vectors. A type of its own for each, because the code of a closure would be compiled
/// apart, for the least machine.
pub(crate) trait Vectorized {
    type Output;

    /// Does the work. To be inlined always; `FUSED` where products with sums are one instruction.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Does work with the widest vectors that the machine has.
pub(crate) fn vectorized<W: Vectorized>(arch: pulp::Arch, work: W) -> W::Output {
    arch.dispatch(Wide(work))
}

struct Wide<W>(W);

impl<W: Vectorized> pulp::WithSimd for Wide<W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> W::Output {
        let machine =
            cfg!(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64"));
        match !S::IS_SCALAR && machine {
            true => self.0.run::<true>(),
            false => self.0.run::<false>(),
        }
    }
}

/// Two to the power of a whole number from -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// A number near one and a whole `n` so that `e^x` is the number times two to the power of `n`, for `x` from -104 to 89.
#[inline(always)]
fn exp_parts<const FUSED: bool>(x: f32) -> (f32, i32) {
    let shifted = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FUSED>(n, 2.121_944_4e-4, mul_add::<FUSED>(n, -0.693_359_4, x));
    let fit = polynomial::<FUSED, 6>(
        r,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5],
    );
    let value = mul_add::<FUSED>(fit * r, r, r) + 1.0;
    (value, (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

/// `e^x` for `x` from -87 to 88, where it is neither too small nor too large for a float.
#[inline(always)]
fn exp_within<const FUSED: bool>(x: f32) -> f32 {
    let (value, n) = exp_parts::<FUSED>(x);
    value * power_of_two(n)
}

/// `e^x`, within two units in the last place.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    let bounded = if x > 89.0 { 89.0 } else { x };
    let bounded = if bounded < -104.0 { -104.0 } else { bounded };
    let (value, n) = exp_parts::<FUSED>(bounded);
    // In two factors: either alone is a number where the product still is one.
    let half = n >> 1;
    let value = value * power_of_two(half) * power_of_two(n - half);
    if x.is_nan() { x } else { value }
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let fit = [-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8];
    let small = mul_add::<FUSED>(polynomial::<FUSED, 5>(z, fit) * z, x, x);
    let top = if a > 10.0 { 10.0 } else { a };
    let large = 1.0 - 2.0 / (exp_within::<FUSED>(2.0 * top) + 1.0);
    let value = if a < 0.625 { small } else { large };
    if x.is_nan() { x } else { value.copysign(x) }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

/// The error function.
#[inline(always)]
pub(crate) fn erf<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let fit = [
        7.853_861_4e-5,
        -8.010_193_6e-4,
        5.188_327_7e-3,
        -2.685_381_1e-2,
        0.112_835_85,
        -0.376_126_26,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    let small = x * polynomial::<FUSED, 7>(z, fit);
    // From one on, `1 - e^-r` with a polynomial for `r = -ln erfc(a)`: least squares at Chebyshev points, weighted until the largest
    // error of the whole is least, which is 2e-11 before its coefficients are rounded. Past four all of it is one in a float.
    let fit = [
        2.168_675_7e-5,
        -4.413_352_3e-4,
        4.204_556e-3,
        -2.520_824e-2,
        0.108_418_55,
        0.633_219_9,
        1.129_578_4,
        -1.880_368e-4,
    ];
    let r = polynomial::<FUSED, 8>(if a < 4.0 { a } else { 4.0 }, fit);
    let large = (1.0 - exp_within::<FUSED>(-r)).copysign(x);
    let value = if a < 1.0 { small } else { large };
    if x.is_nan() { x } else { value }
}

/// What of the standard normal distribution lies below `x`.
#[inline(always)]
pub(crate) fn normal_cdf<const FUSED: bool>(x: f32) -> f32 {
    0.5 + 0.5 * erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// The density of the standard normal distribution.
#[inline(always)]
pub(crate) fn normal_density<const FUSED: bool>(x: f32) -> f32 {
    // One over the root of two pi.
    exp::<FUSED>(-0.5 * x * x) * 0.398_942_3
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn ln<const FUSED: bool>(x: f32) -> f32 {
    // A number too small to have all of its bits gets them by a factor of 2^23.
    let tiny = x < f32::MIN_POSITIVE;
    let bits = (if tiny { x * 8_388_608.0 } else { x }).to_bits();
    // The mantissa between sqrt(1/2) and sqrt(2), by moving the boundary of exponents there.
    let moved = bits.wrapping_add(0x3f80_0000 - 0x3f35_04f3);
    let e = ((moved >> 23) as i32 - 127 - if tiny { 23 } else { 0 }) as f32;
    let m = f32::from_bits((moved & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let z = m * m;
    let fit = [
        7.037_683_6e-2,
        -0.115_146_1,
        0.116_769_99,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_57,
        0.200_007_14,
        -0.249_999_94,
        0.333_333_3,
    ];
    let fit = polynomial::<FUSED, 9>(m, fit);
    let value = (fit * m * z - 2.121_944_4e-4 * e) - 0.5 * z + m + 0.693_359_4 * e;
    let edge = if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    let value = if x > 0.0 { value } else { edge };
    if x == f32::INFINITY { x } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error in units of 2^-23 of the value, over floats of all sizes, and that special values come out.
    fn worst(f: impl Fn(f32) -> f32, g: impl Fn(f64) -> f64) -> f64 {
        let mut worst: f64 = 0.0;
        for bits in (0..=u32::MAX).step_by(9973) {
            let x = f32::from_bits(bits);
            let (got, want) = (f64::from(f(x)), g(f64::from(x)));
            // What rounds to zero or infinity, or is NaN.
            let rounded = want as f32;
            if rounded.is_subnormal() || got == f64::from(rounded) || got.is_nan() && want.is_nan()
            {
                continue;
            }
            worst = worst.max((got - want).abs() / want.abs() * f64::from(1 << 23));
        }
        worst
    }

    #[test]
    fn functions_are_right_to_two_units_everywhere() {
        right::<true>();
        right::<false>();
    }

    fn right<const FUSED: bool>() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (name, worst) in [
            ("exp", worst(exp::<FUSED>, f64::exp)),
            ("ln", worst(ln::<FUSED>, f64::ln)),
            ("tanh", worst(tanh::<FUSED>, f64::tanh)),
            ("sigmoid", worst(sigmoid::<FUSED>, logistic)),
            ("erf", worst(erf::<FUSED>, libm::erf)),
        ] {
            assert!(worst < 2.0, "{name}: {worst}");
        }
        // Far below zero what is left of the distribution is a difference.
        let below = |x: f64| 0.5 + 0.5 * libm::erf(x * std::f64::consts::FRAC_1_SQRT_2);
        for x in (-512..512).map(|n| n as f32 / 64.0) {
            let off = (f64::from(normal_cdf::<FUSED>(x)) - below(f64::from(x))).abs();
            assert!(off <= 2f64.powi(-23), "what lies below {x} is off by {off}");
            let density = (-0.5 * f64::from(x).powi(2)).exp() * 0.398_942_280_401_432_7;
            let off = (f64::from(normal_density::<FUSED>(x)) - density).abs();
            assert!(off <= 2f64.powi(-22) * density, "the density at {x} is off by {off}");
        }
        for f in [exp::<FUSED>, ln::<FUSED>, tanh::<FUSED>, sigmoid::<FUSED>, erf::<FUSED>] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!(
            [exp::<FUSED>(f32::INFINITY), exp::<FUSED>(f32::NEG_INFINITY), exp::<FUSED>(0.0)],
            [f32::INFINITY, 0.0, 1.0]
        );
        assert_eq!(
            [ln::<FUSED>(f32::INFINITY), ln::<FUSED>(0.0), ln::<FUSED>(1.0)],
            [f32::INFINITY, f32::NEG_INFINITY, 0.0]
        );
        assert!(ln::<FUSED>(-1.0).is_nan());
        assert_eq!(
            [tanh::<FUSED>(f32::INFINITY), tanh::<FUSED>(-90.0), erf::<FUSED>(f32::NEG_INFINITY)],
            [1.0, -1.0, -1.0]
        );
        assert_eq!(tanh::<FUSED>(-0.0).to_bits(), (-0.0f32).to_bits(), "zero keeps its sign");
    }
}
