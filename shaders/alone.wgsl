// Where a workgroup's invocations share nothing, a family is a function of the workgroup's number and theirs, and this is
// what calls it.
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    kernel((group.y + first_line()) * {{line}}u + group.x, lane);
}
