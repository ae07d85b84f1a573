//! Documents say what is so: blocks of code that name a file are parts of it.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use std::path::Path;

/// Code without its indentation.
fn plain(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_worked_examples_are_parts_of_the_files_they_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/adding-an-operation.md")).unwrap();
    let mut found = 0;
    for block in page.replace("\r\n", "\n").split("```rust,ignore\n").skip(1) {
        let code = block.split("```").next().unwrap();
        let (first, rest) = code.split_once('\n').unwrap();
        let file = first.strip_prefix("// ").unwrap();
        let source = std::fs::read_to_string(root.join(file)).unwrap().replace("\r\n", "\n");
        assert!(
            plain(&source).contains(plain(rest).trim()),
            "{file} does not have what docs/adding-an-operation.md shows:\n{rest}"
        );
        found += 1;
    }
    assert!(found >= 6, "only {found} blocks");
}
