//! The WGSL of every kernel family, with named holes that the device crate fills.
//!
//! The contract of holes and bindings is in `shaders/README.md`.

/// NaN, infinity and constants made of bits: part of every kernel.
pub const BITS: &str = include_str!("../bits.wgsl");
/// Functions that WGSL doesn't have: see [`library`].
const SPECIAL: &str = include_str!("../special.wgsl");
/// Counter-based random numbers and permutations: see [`library`].
const RANDOM: &str = include_str!("../random.wgsl");
/// Which dispatch of several a shader is in: part of kernels that take several.
pub const PART: &str = include_str!("../part.wgsl");
/// Of all other kernels.
pub const WHOLE: &str = "fn first_line() -> u32 { return 0u; }\n";
/// The entry point of families that don't have their own.
pub const ENTRY: &str = include_str!("../entry.wgsl");
/// Whole programs of such kernels.
pub const PROGRAM: &str = include_str!("../program.wgsl");
/// Pointwise kernels.
pub const MAP: &str = include_str!("../map.wgsl");
/// Pointwise kernels over many points.
pub const MAP_MANY: &str = include_str!("../map_many.wgsl");
/// Row kernels, one invocation for each row.
pub const ROWS_SINGLE: &str = include_str!("../rows_single.wgsl");
/// Row kernels, one workgroup for one row or a few.
pub const ROWS_GROUP: &str = include_str!("../rows_group.wgsl");
/// Contractions straight from memory.
pub const CONTRACT_DIRECT: &str = include_str!("../contract_direct.wgsl");
/// Contractions straight from memory, with what a subgroup loads for all of its invocations.
pub const CONTRACT_SUBGROUP: &str = include_str!("../contract_subgroup.wgsl");
/// Contractions through workgroup memory.
pub const CONTRACT_TILED: &str = include_str!("../contract_tiled.wgsl");
/// Contractions in cooperative matrices.
pub const CONTRACT_COOPERATIVE: &str = include_str!("../contract_cooperative.wgsl");
/// What stands for cooperative matrices in tests.
pub const COOPERATIVE_EMULATED: &str = include_str!("../cooperative_emulated.wgsl");
/// Pooling, forward.
pub const WINDOW: &str = include_str!("../window.wgsl");
/// Pooling, backward.
pub const WINDOW_GRADIENT: &str = include_str!("../window_gradient.wgsl");
/// Scatter-add, one invocation for each element.
pub const SCATTER: &str = include_str!("../scatter.wgsl");
/// Scatter-add of whole slices, one workgroup for a few.
pub const SCATTER_GROUP: &str = include_str!("../scatter_group.wgsl");
/// Recurrences along an axis, one invocation for each line.
pub const SCAN_LINE: &str = include_str!("../scan_line.wgsl");
/// Recurrences whose points see their neighbours, one workgroup for each line.
pub const SCAN_GROUP: &str = include_str!("../scan_group.wgsl");
/// One pass of a merge sort.
pub const MERGE: &str = include_str!("../merge.wgsl");
/// Attention without a matrix of scores.
pub const ATTENTION: &str = include_str!("../attention.wgsl");
/// What an invocation does with a query and its keys: part of both.
pub const ATTENTION_KEYS: &str = include_str!("../attention_keys.wgsl");
/// The same, several invocations for each query.
pub const ATTENTION_GROUP: &str = include_str!("../attention_group.wgsl");

/// A recurrent cell over sequences.
pub const RECURRENT: &str = include_str!("../recurrent.wgsl");
/// One step of it.
pub const RECURRENT_STEP: &str = include_str!("../recurrent_step.wgsl");
/// The gradient of a recurrent cell over sequences.
pub const RECURRENT_GRADIENT: &str = include_str!("../recurrent_gradient.wgsl");
/// One step of it.
pub const RECURRENT_GRADIENT_STEP: &str = include_str!("../recurrent_gradient_step.wgsl");

/// The functions of `special.wgsl` and `random.wgsl` that a shader calls, and those that they call
/// themselves. Compilers spend time on what isn't called, too.
pub fn library(shader: &str) -> String {
    let functions: Vec<&str> = [SPECIAL, RANDOM].into_iter().flat_map(functions).collect();
    let mut taken = vec![false; functions.len()];
    let mut text = String::new();
    loop {
        let called =
            |at: usize| calls(shader, name(functions[at])) || calls(&text, name(functions[at]));
        let Some(next) = (0..functions.len()).find(|&at| !taken[at] && called(at)) else {
            return text;
        };
        taken[next] = true;
        text += functions[next];
        text.push('\n');
    }
}

/// The functions of a file, each from `fn` to its closing brace at the start of a line (or at the end of
/// the only line).
fn functions(file: &str) -> Vec<&str> {
    let starts = file.match_indices("\nfn ").map(|(at, _)| at + 1);
    let end = |start: usize| {
        let first = file[start..].find('\n').map_or(file.len(), |at| start + at);
        match file[start..first].ends_with('}') {
            true => first,
            false => file[start..].find("\n}").map_or(file.len(), |at| start + at + 2),
        }
    };
    starts.map(|start| &file[start..end(start)]).collect()
}

fn name(function: &str) -> &str {
    function.trim_start_matches("fn ").split('(').next().unwrap_or_default()
}

/// Whether a text calls a function.
fn calls(text: &str, name: &str) -> bool {
    uses(text, name).any(|at| !text[..at].ends_with("fn "))
}

/// Where a text calls or declares a function: its name and a parenthesis, not as the end of a longer name.
fn uses(text: &str, name: &str) -> impl Iterator<Item = usize> {
    named(text, name, &["("])
}

/// Where a text has a name before one of some texts.
fn named(text: &str, name: &str, before: &[&str]) -> impl Iterator<Item = usize> {
    text.match_indices(name).map(|(at, _)| at).filter(move |&at| {
        let last = text[..at].chars().next_back();
        let whole = last.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        whole && before.iter().any(|next| text[at + name.len()..].starts_with(next))
    })
}

/// A shader's functions, and statements that call them, with a number in the names of its functions and of its variables in workgroup
/// memory, so that shaders of several kernels can be joined.
pub fn numbered(functions: &str, statements: &str, number: usize) -> (String, String) {
    let variables = functions.split("var<workgroup> ").skip(1);
    let variables: Vec<&str> = variables.filter_map(|text| text.split(':').next()).collect();
    let names: Vec<&str> = self::functions(functions).into_iter().map(name).collect();
    let renamed = |text: &str| {
        let called = names.iter().flat_map(|name| uses(text, name).map(|at| at + name.len()));
        let used = variables
            .iter()
            .flat_map(|name| named(text, name, &["[", ":"]).map(|at| at + name.len()));
        let mut ends: Vec<usize> = called.chain(used).collect();
        ends.sort_unstable();
        let mut renamed = String::with_capacity(text.len() + 4 * ends.len());
        let mut done = 0;
        for end in ends {
            renamed += &text[done..end];
            renamed += &format!("_{number}");
            done = end;
        }
        renamed + &text[done..]
    };
    (renamed(functions), renamed(statements))
}

/// Statements whose loops compilers don't unroll, since `zero`, which they can't foresee, is added to what loops begin at.
///
/// # Errors
/// A loop that isn't written `for (var name = start; `, as text.
pub fn rolled(text: &str, zero: &str) -> Result<String, String> {
    let mut loops = text.split("for (var ");
    let mut rolled = loops.next().unwrap_or_default().to_string();
    for after in loops {
        let begin =
            after.split_once(';').and_then(|(begin, rest)| Some((begin.split_once(" = ")?, rest)));
        let ((name, start), rest) =
            begin.ok_or_else(|| format!("a loop without a start: `{after}`"))?;
        rolled += &format!("for (var {name} = ({start}) + {zero};{rest}");
    }
    Ok(rolled)
}

/// Fills the holes `{{name}}` of a template.
///
/// # Errors
/// The name of a hole that has no value, or of a value that has no hole.
pub fn fill(template: &str, holes: &[(&str, String)]) -> Result<String, String> {
    let mut text = String::with_capacity(template.len() * 2);
    let mut used = vec![false; holes.len()];
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a hole doesn't close")?;
        let at = holes.iter().position(|(hole, _)| *hole == name);
        let at = at.ok_or_else(|| format!("no value for hole `{name}`"))?;
        used[at] = true;
        text.push_str(before);
        text.push_str(&holes[at].1);
        rest = after;
    }
    text.push_str(rest);
    match used.iter().position(|used| !used) {
        Some(at) => Err(format!("no hole for value `{}`", holes[at].0)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{fill, library, numbered, rolled};

    #[test]
    fn holes_and_values_must_match() {
        let value = |name| vec![(name, "1".to_string())];
        assert_eq!(fill("a {{x}} b {{x}}", &value("x")).as_deref(), Ok("a 1 b 1"));
        assert_eq!(fill("{{y}}", &value("x")), Err("no value for hole `y`".to_string()));
        assert_eq!(fill("", &value("x")), Err("no hole for value `x`".to_string()));
        assert_eq!(fill("{{x", &value("x")), Err("a hole doesn't close".to_string()));
    }

    #[test]
    fn functions_are_numbered_where_they_are_declared_and_called() {
        let text = "\nfn key(r: u32) -> u32 { return b[r]; }\nfn keys() {\n    let key = key(1u) + a_key(2u);\n}\n";
        let expected = "\nfn key_7(r: u32) -> u32 { return b[r]; }\nfn keys_7() {\n    let key = key_7(1u) + a_key(2u);\n}\n";
        assert_eq!(numbered(text, "", 7).0, expected);
        let text =
            "\nvar<workgroup> w: array<f32, 4>;\nfn sum() -> f32 { return w[0] + new[1]; }\n";
        let (functions, statements) = numbered(text, "w[lane] = sum();", 7);
        assert_eq!(statements, "w_7[lane] = sum_7();");
        assert!(functions.contains("var<workgroup> w_7:"), "{functions}");
        assert!(functions.contains("return w_7[0] + new[1];"), "{functions}");
    }

    #[test]
    fn loops_that_are_rolled_begin_at_what_compilers_cannot_know() {
        let text = "for (var j = 0u; j < 4u; j += 1u) { for (var k = a & b; k < j; k += 1u) {} }";
        let expected = "for (var j = (0u) + z; j < 4u; j += 1u) { for (var k = (a & b) + z; k < j; k += 1u) {} }";
        assert_eq!(rolled(text, "z").as_deref(), Ok(expected));
        assert_eq!(rolled("let x = 1;", "z").as_deref(), Ok("let x = 1;"));
        assert!(rolled("for (var j: u32; j < 4u; j += 1u) { k = 1u; }", "z").is_err());
    }

    #[test]
    fn a_shader_gets_the_functions_that_it_calls() {
        let names = |shader: &str| -> Vec<String> {
            library(shader)
                .lines()
                .filter_map(|l| l.strip_prefix("fn "))
                .map(|l| l.split('(').next().unwrap_or("").to_string())
                .collect()
        };
        assert!(names("let x = exp(1.0) + my_erf(x);").is_empty());
        assert_eq!(names("let x = atan(1.0) + arctangent(x);"), ["arctangent", "small_arctangent"]);
        assert_eq!(names("x = half(y);"), ["half", "half_bits", "half_value"]);
        assert_eq!(names("shuffle(a, b, c)"), ["shuffle", "random_bits", "pcg"]);
    }
}
