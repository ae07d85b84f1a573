// Functions that WGSL doesn't have, or has with too little accuracy to train and compare by: within a
// few units in the last place of f32 on every device. A shader gets those that it calls.

fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }

// exp(x) by the power of two nearest to it and a polynomial of the rest, from the Cephes library's
// single-precision functions (S. L. Moshier, netlib.org/cephes), whose documentation gives the errors; so are
// the other fits of this file unless they say otherwise. Drivers may be off by 3 + 2 |x| units.
fn exponential(x: f32) -> f32 {
    let bounded = clamp(x, -104.0, 89.0);
    let n = round(bounded * 1.44269504);
    let r = (bounded - n * 0.693359375) + n * 2.12194440e-4;
    return select(scaled(small_exponential(r), i32(n)), x, is_nan(x));
}
fn small_exponential(r: f32) -> f32 {
    let fit = ((((1.9875691500e-4 * r + 1.3981999507e-3) * r + 8.3334519073e-3) * r + 4.1665795894e-2) * r + 1.6666665459e-1) * r + 5.0000001201e-1;
    return fit * r * r + r + 1.0;
}
// x times two to the power n, in two factors: either alone is a number where the product still is one.
fn scaled(x: f32, n: i32) -> f32 {
    let half = n / 2;
    return x * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(n - half + 127) << 23u);
}
fn exponential2(x: f32) -> f32 {
    let bounded = clamp(x, -150.0, 129.0);
    let n = round(bounded);
    return select(scaled(small_exponential((bounded - n) * 0.69314718), i32(n)), x, is_nan(x));
}
// The exponent e and the mantissa less one, between sqrt(1/2) - 1 and sqrt(2) - 1.
fn mantissa(x: f32) -> vec2<f32> {
    let tiny = x < 1.17549435e-38;
    let bits = bitcast<u32>(select(x, x * 16777216.0, tiny));
    var e = f32(i32(bits >> 23u) - 126) - select(0.0, 24.0, tiny);
    var m = bitcast<f32>((bits & 0x7fffffu) | 0x3f000000u);
    if (m < 0.70710678) {
        e -= 1.0;
        m += m;
    }
    return vec2<f32>(m - 1.0, e);
}
// log(1 + m) - m, for a mantissa less one.
fn small_logarithm(m: f32) -> f32 {
    let z = m * m;
    let fit = (((((((7.0376836292e-2 * m - 1.1514610310e-1) * m + 1.1676998740e-1) * m - 1.2420140846e-1) * m + 1.4249322787e-1) * m - 1.6668057665e-1) * m + 2.0000714765e-1) * m - 2.4999993993e-1) * m + 3.3333331174e-1;
    return fit * m * z - 0.5 * z;
}
// What logarithms have at zero, below it, at infinity and for NaN; else the value.
fn logarithm_edges(x: f32, value: f32) -> f32 {
    let infinity = bitcast<f32>(0x7f800000u + zero());
    let above = select(value, x, bitcast<u32>(x) == 0x7f800000u || is_nan(x));
    let below = select(-infinity, bitcast<f32>(0x7fc00000u + zero()), x < 0.0);
    return select(above, below, x <= 0.0);
}
fn logarithm(x: f32) -> f32 {
    let m = mantissa(x);
    let small = small_logarithm(m.x) - m.y * 2.12194440e-4;
    return logarithm_edges(x, (m.x + small) + m.y * 0.693359375);
}
fn logarithm2(x: f32) -> f32 {
    let m = mantissa(x);
    // The constant less one, so that the larger part isn't rounded.
    let small = small_logarithm(m.x);
    return logarithm_edges(x, ((m.x * 0.44269504 + small * 1.44269504) + m.x) + m.y);
}

// exp(x) - 1. Near zero by x (1 + x/2 (1 + x/3 (1 + ..))): at 0.5 the first term left out is 2e-9.
fn expm1(x: f32) -> f32 {
    var sum = 1.0;
    for (var n = 9u; n >= 2u; n -= 1u) { sum = 1.0 + x / f32(n) * sum; }
    return select(exponential(x) - 1.0, x * sum, abs(x) < 0.5);
}

// log(1 + x). Near zero by 2 artanh(x / (2 + x)) = 2 (s + s^3/3 + s^5/5 + ..): at 0.5, s is 0.2 and
// the first term left out is 3e-10.
fn log1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    var sum = 1.0 / 13.0;
    for (var n = 11; n >= 1; n -= 2) { sum = 1.0 / f32(n) + z * sum; }
    return select(logarithm(1.0 + x), 2.0 * s * sum, abs(x) < 0.5);
}

// The error function. Below one by its Maclaurin series, above by a Chebyshev fit of
// erfc(x) exp(x^2) in t = 1 / (1 + x/2), to 1.2e-7 of erfc (W. H. Press et al., Numerical Recipes in C,
// 2nd edition, section 6.2).
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    // Sum of (-1)^n x^(2n+1) / (n! (2n+1)), n to 10: at 1 the first term left out is 1e-9.
    var power = x;
    var small = 0.0;
    for (var n = 0; n < 11; n += 1) {
        small += power / f32(2 * n + 1);
        power *= -z / f32(n + 1);
    }
    let t = 1.0 / (1.0 + 0.5 * a);
    var fit = 0.17087277;
    fit = -0.82215223 + t * fit;
    fit = 1.48851587 + t * fit;
    fit = -1.13520398 + t * fit;
    fit = 0.27886807 + t * fit;
    fit = -0.18628806 + t * fit;
    fit = 0.09678418 + t * fit;
    fit = 0.37409196 + t * fit;
    fit = 1.00002368 + t * fit;
    fit = -1.26551223 + t * fit;
    let large = 1.0 - t * exponential(-z + fit);
    let far = select(large, -large, x < 0.0);
    return select(select(far, small * 1.1283792, a < 1.0), x, is_nan(x));
}

// What of the standard normal distribution lies below x, and its density.
fn normal_cdf(x: f32) -> f32 {
    return 0.5 + 0.5 * erf(x * 0.70710677);
}

fn normal_density(x: f32) -> f32 {
    return exponential(-0.5 * x * x) * 0.3989423;
}

// x less the nearest multiple of pi/2, and the multiple. The constant is taken off in three parts of few
// bits, so that each product is exact below 8192; beyond, the multiple is computed by the driver.
fn quarter_turns(x: f32) -> vec2<f32> {
    let k = round(x * 0.63661977);
    let r = ((x - k * 1.5703125) - k * 4.8375129699707031e-4) - k * 7.5497899548918821e-8;
    return vec2<f32>(r, k);
}
fn small_sine(x: f32) -> f32 {
    let z = x * x;
    return ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x;
}
fn small_cosine(x: f32) -> f32 {
    let z = x * x;
    return ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
}
// The sine of x + turns * pi/2.
fn turned_sine(x: f32, turns: i32) -> f32 {
    let q = quarter_turns(x);
    let k = (i32(q.y) + turns) & 3;
    let value = select(small_sine(q.x), small_cosine(q.x), (k & 1) == 1);
    return select(value, -value, k >= 2);
}
fn sine(x: f32) -> f32 { return select(sin(x), turned_sine(x, 0), abs(x) < 8192.0); }
fn cosine(x: f32) -> f32 { return select(cos(x), turned_sine(x, 1), abs(x) < 8192.0); }
fn tangent(x: f32) -> f32 { return sine(x) / cosine(x); }

fn small_arcsine(x: f32) -> f32 {
    let z = x * x;
    return ((((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z + 1.6666752422e-1) * z * x + x;
}
// Above one half by asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)).
fn arcsine(x: f32) -> f32 {
    let a = abs(x);
    let far = 1.5707964 - 2.0 * small_arcsine(sqrt(0.5 * (1.0 - a)));
    let value = select(small_arcsine(a), far, a > 0.5);
    return select(select(value, -value, x < 0.0), bitcast<f32>(0x7fc00000u + zero()), !(a <= 1.0));
}
fn arccosine(x: f32) -> f32 {
    let a = abs(x);
    let near_one = 2.0 * small_arcsine(sqrt(0.5 * (1.0 - a)));
    let far = select(near_one, 3.1415927 - near_one, x < 0.0);
    let value = select(1.5707964 - small_arcsine(x), far, a > 0.5);
    return select(value, bitcast<f32>(0x7fc00000u + zero()), !(a <= 1.0));
}

fn small_arctangent(x: f32) -> f32 {
    let z = x * x;
    return (((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1) * z * x + x;
}
// By atan(x) = pi/2 - atan(1/x) above tan(3 pi/8), and pi/4 + atan((x - 1) / (x + 1)) above tan(pi/8).
fn arctangent(x: f32) -> f32 {
    let a = abs(x);
    let middle = 0.78539816 + small_arctangent((a - 1.0) / (a + 1.0));
    let far = 1.5707964 - small_arctangent(1.0 / a);
    let value = select(select(small_arctangent(a), middle, a > 0.41421357), far, a > 2.4142137);
    return select(select(value, -value, x < 0.0), x, is_nan(x));
}
// The angle of (x, y): of the smaller over the larger, unfolded by quadrant.
fn angle(y: f32, x: f32) -> f32 {
    let a = abs(x);
    let b = abs(y);
    let equal = select(0.0, 1.0, a == b && a > 0.0);
    let slope = select(min(a, b) / max(a, b), equal, a == b);
    let narrow = arctangent(slope);
    let upper = select(narrow, 1.5707964 - narrow, b > a);
    let left = select(upper, 3.1415927 - upper, x < 0.0 || bitcast<u32>(x) == 0x80000000u);
    let value = select(left, -left, y < 0.0 || bitcast<u32>(y) == 0x80000000u);
    return select(value, x + y, is_nan(x) || is_nan(y));
}

fn hyperbolic_sine(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    let small = ((2.03721912945e-4 * z + 8.33028376239e-3) * z + 1.66667160211e-1) * z * x + x;
    // In two halves, so that the exponential stays finite as long as the result does.
    let half = exponential(0.5 * a);
    let large = 0.5 * half * half - 0.5 / half / half;
    return select(select(select(large, -large, x < 0.0), small, a < 1.0), x, is_nan(x));
}
fn hyperbolic_cosine(x: f32) -> f32 {
    let half = exponential(0.5 * abs(x));
    return select(0.5 * half * half + 0.5 / half / half, x, is_nan(x));
}
// Some drivers build tanh from exp, which overflows; past 10 it is 1 in f32 anyway.
fn hyperbolic_tangent(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    let small = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z - 3.33332819422e-1) * z * x + x;
    let large = 1.0 - 2.0 / (exponential(2.0 * min(a, 10.0)) + 1.0);
    return select(select(select(large, -large, x < 0.0), small, a < 0.625), x, is_nan(x));
}

// x to the power y, with the signs of whole powers of negative numbers. What is rounded in the exponent
// multiplies the result, so large exponents cost accuracy: see docs/numerics.md.
fn power(x: f32, y: f32) -> f32 {
    let infinity = bitcast<f32>(0x7f800000u + zero());
    let value = exponential2(y * logarithm2(abs(x)));
    let whole = y == floor(y);
    let odd = whole && abs(y) < 16777216.0 && (i32(y) & 1) == 1;
    let size = select(value, select(0.0, infinity, y < 0.0), x == 0.0);
    // By bits, because zero has a sign, too.
    let signed = select(size, -size, odd && (bitcast<u32>(x) >> 31u) == 1u);
    let regular = select(signed, bitcast<f32>(0x7fc00000u + zero()), x < 0.0 && !whole);
    let result = select(regular, x + y, is_nan(x) || is_nan(y));
    return select(result, 1.0, y == 0.0 || x == 1.0 || (x == -1.0 && is_inf(y)));
}

// Floats to integers: towards zero, at most the bounds of the type, NaN to zero.
fn to_i32(x: f32) -> i32 {
    let bounded = select(i32(clamp(x, -2147483648.0, 2147483520.0)), 2147483647i, x >= 2147483648.0);
    return select(bounded, 0i, is_nan(x));
}
fn to_u32(x: f32) -> u32 {
    let bounded = select(u32(clamp(x, 0.0, 4294967040.0)), 4294967295u, x >= 4294967296.0);
    return select(bounded, 0u, is_nan(x));
}

// x - trunc(x / y) y, exactly: whole multiples of y are taken off from the largest power of two on, each of
// which is a number below twice what is left (as a division on paper).
fn truncated_rest(x: f32, y: f32) -> f32 {
    let none = y == 0.0 || is_inf(x) || is_nan(x) || is_nan(y);
    if (none) { return bitcast<f32>(0x7fc00000u + zero()); }
    var rest = abs(x);
    let by = abs(y);
    if (rest < by) { return x; }
    let top = (bitcast<u32>(rest) >> 23u) - (bitcast<u32>(by) >> 23u);
    // A divisor below the normal numbers is scaled by no exponent: it counts as the smallest.
    if (bitcast<u32>(by) < 0x00800000u) { return 0.0; }
    for (var shift = top + 1u; shift > 0u; shift -= 1u) {
        let multiple = bitcast<f32>(bitcast<u32>(by) + ((shift - 1u) << 23u));
        if (rest >= multiple) { rest -= multiple; }
    }
    return select(rest, -rest, x < 0.0);
}
fn floored_rest(x: f32, y: f32) -> f32 {
    let rest = truncated_rest(x, y);
    return select(rest, rest + y, rest != 0.0 && (rest < 0.0) != (y < 0.0));
}

// Half precision, by bits: rounding to nearest, halves to even, is the same on every device, and needs
// no device that has the type.
fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let a = bits & 0x7fffffffu;
    if (a > 0x7f800000u) { return sign | 0x7e00u; }
    // From halfway between the largest half and the next power of two on.
    if (a >= 0x477ff000u) { return sign | 0x7c00u; }
    if (a < 0x38800000u) {
        // Below the smallest normal half: multiples of 2^-24.
        let shift = min(126u - (a >> 23u), 31u);
        let mantissa = (a & 0x7fffffu) | 0x800000u;
        let kept = mantissa >> shift;
        let rest = mantissa & ((1u << shift) - 1u);
        let middle = 1u << (shift - 1u);
        let up = rest > middle || (rest == middle && (kept & 1u) == 1u);
        return sign | (kept + select(0u, 1u, up));
    }
    let moved = a - 0x38000000u;
    return sign | ((moved + 0xfffu + ((moved >> 13u) & 1u)) >> 13u);
}
fn half_value(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let exponent = (bits >> 10u) & 31u;
    let mantissa = bits & 0x3ffu;
    if (exponent == 0u) {
        let tiny = f32(mantissa) * 5.9604644775390625e-8;
        return select(tiny, -tiny, sign != 0u);
    }
    if (exponent == 31u) { return bitcast<f32>(sign | 0x7f800000u | (mantissa << 13u)); }
    return bitcast<f32>(sign | ((exponent + 112u) << 23u) | (mantissa << 13u));
}
fn half(x: f32) -> f32 { return half_value(half_bits(x)); }
