// Row kernels, one invocation for each row: for short rows, and for software adapters, where a
// barrier costs more than the whole row.
{{declarations}}
@compute @workgroup_size({{size}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let r = (id.y + first_line()) * {{line}}u + id.x;
    if (r >= {{rows}}u) { return; }
{{body}}
}
