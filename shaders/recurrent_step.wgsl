// One step of a recurrent cell, for sequences of more units than a workgroup holds: one invocation for each unit of
// each sequence, one dispatch for each step, which finds the states before it where the last one has stored them.
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
    let step = step_number();
    let t = {{order}};
    {{mask}}
    {{zero}}
    for (var k = 0u; k < {{hidden}}u; k += 1u) {
        let h = past(step, b, 0u, k);
        {{multiply}}
    }
    {{before}}
    {{cell}}
}
