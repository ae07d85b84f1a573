// One pass of a merge sort: one invocation finds the element that comes to its place, by a binary search
// for how many elements of the first of two sorted runs come before it (the merge path: O. Green,
// R. McColl and D. A. Bader, ICS 2012).
{{declarations}}
{{sources}}
// Whether `a` has to come before `b` when it stands behind it. NaN comes last.
fn before(a: {{type}}, b: {{type}}) -> bool { return {{before}}; }
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{points}}u) { return; }
    let r = i / {{len}}u;
    let c = i % {{len}}u;
    let start = c / {{pair}}u * {{pair}}u;
    let middle = min(start + {{width}}u, {{len}}u);
    let end = min(start + {{pair}}u, {{len}}u);
    let first = middle - start;
    let second = end - middle;
    let rank = c - start;
    // How many of the first run are among the first `rank` of both.
    var low = max(rank, second) - second;
    var high = min(rank, first);
    while (low < high) {
        let taken = (low + high) / 2u;
        if (before(sorted(r, middle + rank - 1u - taken), sorted(r, start + taken))) {
            high = taken;
        } else {
            low = taken + 1u;
        }
    }
    let a = start + low;
    let b = middle + rank - low;
    var chosen = a;
    if (a >= middle) {
        chosen = b;
    } else if (b < end) {
        if (before(sorted(r, b), sorted(r, a))) { chosen = b; }
    }
    let value = place(r, chosen);
{{body}}
}
