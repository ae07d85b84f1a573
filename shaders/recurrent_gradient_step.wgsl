// One step back of a recurrent cell, for sequences of more units than a workgroup holds. The slopes by a step's states
// need those by all of its gates, so each dispatch first completes what the last one has stored: where the slope by the
// states belongs, it has left what doesn't go through the recurrent weight. One more dispatch completes the first step.
{{declarations}}
{{sources}}
{{keep}}
{{found}}
{{past}}
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(global_invocation_id) id: vec3<u32>) {
    opaque_zero = group.z;
    let point = (id.y + first_line()) * {{line}}u + id.x;
    if (point >= {{points}}u) { return; }
    let b = point / {{hidden}}u;
    let u = point % {{hidden}}u;
    var by_h = 0.0;
    {{zero}}
    let back = step_number();
    if (back > 0u) {
        let step = {{time}}u - back;
        let t = {{order}};
        by_h = found(t, b, {{by_state}}u, u);
        for (var k = 0u; k < {{hidden}}u; k += 1u) {
            {{multiply}}
        }
        keep(t, b, {{by_state}}u, u, by_h);
        {{later}}
    }
    if (back == {{time}}u) { return; }
    let step = {{time}}u - 1u - back;
    let t = {{order}};
    {{mask}}
    let slope = by_h + upstream(t, b, 0u, u);
    let dh = slope * share;
    var direct = slope * (1.0 - share);
    {{cell}}
    keep(t, b, {{by_state}}u, u, direct);
}
