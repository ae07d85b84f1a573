// The gradient of a recurrent cell over sequences: one workgroup for each goes back through all steps. A step
// first finds the slopes by its gates, which all units then need to find those by the states before it.
{{declarations}}
{{sources}}
{{keep}}
{{past}}
var<workgroup> slopes: array<f32, {{gates_hidden}}>;
var<workgroup> by_h: array<f32, {{hidden}}>;
{{by_c}}
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let b = (group.y + first_line()) * {{line}}u + group.x;
    if (b >= {{batch}}u) { return; }
    for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
        by_h[u] = 0.0;
        {{begin}}
    }
    for (var back = {{time}}u; back > 0u; back -= 1u) {
        let step = back - 1u;
        let t = {{order}};
        {{mask}}
        for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
            let slope = by_h[u] + upstream(t, b, 0u, u);
            let dh = slope * share;
            var direct = slope * (1.0 - share);
            {{behind}}
            {{cell}}
            {{after}}
            by_h[u] = direct;
        }
        workgroupBarrier();
        for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
            var sum = by_h[u];
            for (var k = 0u; k < {{hidden}}u; k += 1u) {
                {{multiply}}
            }
            by_h[u] = sum;
            keep(t, b, {{by_state}}u, u, sum);
        }
        workgroupBarrier();
    }
}
