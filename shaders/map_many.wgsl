// Pointwise kernels over many points: one invocation computes {{each}} of them and stores none before, so that all that it loads
// is on its way together.
{{declarations}}
struct Values {
{{fields}}
}
fn values(i: u32) -> Values {
{{compute}}
    return Values({{names}});
}
fn put(i: u32, values: Values) {
    if (i >= {{points}}u) { return; }
{{store}}
}
fn kernel(group: u32, lane: u32) {
    let first = group * {{span}}u + lane;
    if (first >= {{points}}u) { return; }
{{all}}
}
