// Row kernels, one invocation for each row: for short rows, and for software adapters, where a
// barrier costs more than the whole row.
{{declarations}}
fn kernel(group: u32, lane: u32) {
    let r = group * {{size}}u + lane;
    if (r >= {{rows}}u) { return; }
{{body}}
}
