// Scatter-add without atomics: one invocation for each element of the result goes through all
// indices in order and adds what is meant for it.
{{declarations}}
{{sources}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{points}}u) { return; }
    let o = i / {{slab}}u;
    let v = i % {{slab}}u / {{inner}}u;
    let e = i % {{inner}}u;
    var value = 0.0;
    for (var j = 0u; j < {{count}}u; j += 1u) {
        if (index(o, j, e) == v) { value += source(o, j, e); }
    }
{{body}}
}
