// Functions that WGSL doesn't have, accurate to a few units in the last place of f32.

// exp(x) - 1. Near zero by x (1 + x/2 (1 + x/3 (1 + ..))): at 0.5 the first term left out is 2e-9.
fn expm1(x: f32) -> f32 {
    var sum = 1.0;
    for (var n = 9u; n >= 2u; n -= 1u) { sum = 1.0 + x / f32(n) * sum; }
    return select(exp(x) - 1.0, x * sum, abs(x) < 0.5);
}

// log(1 + x). Near zero by 2 artanh(x / (2 + x)) = 2 (s + s^3/3 + s^5/5 + ..): at 0.5, s is 0.2 and
// the first term left out is 3e-10.
fn log1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    var sum = 1.0 / 13.0;
    for (var n = 11; n >= 1; n -= 2) { sum = 1.0 / f32(n) + z * sum; }
    return select(log(1.0 + x), 2.0 * s * sum, abs(x) < 0.5);
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
    let large = 1.0 - t * exp(-z + fit);
    let far = select(large, -large, x < 0.0);
    return select(select(far, small * 1.1283792, a < 1.0), x, is_nan(x));
}
