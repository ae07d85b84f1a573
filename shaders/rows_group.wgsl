// Row kernels, one workgroup for each row: invocations stride over the columns, then fold their
// partial results as a tree in workgroup memory. The order depends on the workgroup size alone.
{{declarations}}
{{shared}}
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r = (group.y + first_line()) * {{line}}u + group.x;
    if (r >= {{rows}}u) { return; }
{{body}}
}
