// Pointwise kernels: one invocation computes one point of the domain.
// No invocation sees another's points, so there is no memory to share and nothing to wait for.
{{declarations}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{points}}u) { return; }
{{body}}
}
