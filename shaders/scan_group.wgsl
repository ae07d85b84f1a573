// Recurrences in which a point sees its neighbours' past: one workgroup for each line goes through the
// steps together. The states of two steps take turns in workgroup memory, so that one barrier a step is
// enough: whoever writes step j + 1 has passed the barrier behind the reads of step j - 1.
{{declarations}}
{{sources}}
{{keep}}
var<workgroup> states: array<array<f32, {{inner}}>, 2>;
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let o = (group.y + first_line()) * {{line}}u + group.x;
    if (o >= {{lines}}u) { return; }
    for (var j = 0u; j < {{steps}}u; j += 1u) {
        let old = (j + 1u) & 1u;
        for (var e = lane; e < {{inner}}u; e += {{size}}u) {
            let added = source(o, j, e);
            {{step}}
            states[j & 1u][e] = state;
            keep(o, j, e, state);
        }
        workgroupBarrier();
    }
}
