// Recurrences in which a point sees only its own past: one invocation for each line goes through the
// steps in order, so that no memory is shared and nothing waited for.
{{declarations}}
{{sources}}
{{keep}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{lines}}u) { return; }
    let o = i / {{inner}}u;
    let e = i % {{inner}}u;
    var past = {{nothing}};
    for (var j = 0u; j < {{steps}}u; j += 1u) {
        let added = source(o, j, e);
        {{step}}
        past = state;
        keep(o, j, e, state);
    }
}
