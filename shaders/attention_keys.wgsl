    // The query is loaded once, and what is added to the sum of values stays with the invocation.
    var q: array<f32, {{width}}>;
    for (var d = 0u; d < {{width}}u; d += 1u) { q[d] = query(g, m, d) * {{scale}}; }
    var sums: array<f32, {{held_sums}}>;
    for (var d = 0u; d < {{held_sums}}u; d += 1u) { sums[d] = 0.0; }
    var most = {{nothing}};
    var total = 0.0;
    for (var n = {{first}}; n < {{keys}}u; n += {{stride}}u) {
        {{masked}}
        var score = 0.0;
        for (var d = 0u; d < {{width}}u; d += 1u) { score += q[d] * key(g, n, d); }
        {{bias}}
        let largest = max_nan(most, score);
        let shrink = exponential(most - largest);
        let weight = exponential(score - largest);
        most = largest;
        total = total * shrink + weight;
        for (var d = 0u; d < {{features}}u; d += 1u) {
            sums[d] = sums[d] * shrink + weight * value(g, n, d);
        }
    }
