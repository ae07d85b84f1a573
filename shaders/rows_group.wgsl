// Row kernels, one workgroup for {{block}} rows: {{lanes}} invocations for each stride over its columns, then fold their
// partial results as a tree, in workgroup memory and then in subgroups. The order depends on their number alone.
{{declarations}}
{{shared}}
{{statements}}
    let own = {{own}};
    let row = t * {{block}}u + {{row}};
    // Past the last one, it is computed again and not stored.
    let real = row < {{rows}}u;
    let r = min(row, {{rows}}u - 1u);
{{body}}
