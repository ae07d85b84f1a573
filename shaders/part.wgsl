// Which of a kernel's dispatches this is, where it takes several: one for each part of its workgroups, in each of its
// steps. A part is whole lines of the grid, so where its first line lies is all that shaders have to add.
@group(0) @binding({{numbers}}) var<uniform> number: vec4<u32>;
fn step_number() -> u32 { return number.x / {{parts}}u; }
fn first_line() -> u32 { return number.x % {{parts}}u * {{lines}}u; }
