// Row kernels, one workgroup for {{block}} rows: {{lanes}} invocations for each stride over its columns, then fold their
// partial results as a tree in workgroup memory. The order depends on their number alone.
{{declarations}}
{{shared}}
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = {{own}};
    let row = ((group.y + first_line()) * {{line}}u + group.x) * {{block}}u + {{row}};
    // Past the last one, it is computed again and not stored.
    let real = row < {{rows}}u;
    let r = min(row, {{rows}}u - 1u);
{{body}}
}
