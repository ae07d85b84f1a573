//! The programs as a user runs them: what they print, what they write, and how they fail.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::train::data::drawn;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An example, which `cargo test` builds beside the tests.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap().parent().unwrap().join("examples");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is built by `cargo test --workspace`", path.display());
    let mut command = Command::new(path);
    command.env_remove("SHADEGRAD_DEVICE").env_remove("RUST_BACKTRACE");
    command
}

fn shadegrad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shadegrad"));
    command.env_remove("SHADEGRAD_DEVICE");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs to a failure: exit code 1 or 2, no backtrace, and all of `words` in what is printed.
fn fails(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let text = text(&output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {text}", output.status);
    assert!(!text.contains("backtrace") && !text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// The four files, with changes.
fn mnist(folder: &Path, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    for (part, count) in [("train", 40u32), ("t10k", 20)] {
        let digits = drawn::digits(count as usize, 1);
        let words =
            |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
        let files = [
            (
                format!("{part}-images-idx3-ubyte"),
                [words(&[0x803, count, 28, 28]), digits.pixels].concat(),
            ),
            (format!("{part}-labels-idx1-ubyte"), [words(&[0x801, count]), digits.labels].concat()),
        ];
        for (name, bytes) in files {
            if let Some(bytes) = change(&name, bytes) {
                std::fs::write(folder.join(name), bytes).unwrap();
            }
        }
    }
    folder.to_path_buf()
}

#[test]
fn the_main_job_trains_and_writes_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let data = mnist(&folder.path().join("data"), |_, bytes| Some(bytes));
    for (name, more) in [("mnist_cnn", vec![]), ("mnist_mlp", vec!["--hidden", "16,16"])] {
        let out = folder.path().join(name);
        let output = example(name)
            .args([
                "--device", "cpu", "--epochs", "2", "--batch", "8", "--seed", "3", "--lr", "0.01",
            ])
            .args(more)
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        for word in
            ["device: cpu", "parameters", "dispatches", "memory:", "epoch 2:", "test accuracy:"]
        {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        for file in [&format!("{name}.safetensors"), "curves.png", "confusion.png", "mistakes.png"]
        {
            assert!(std::fs::metadata(out.join(file)).unwrap().len() > 500, "{file}");
        }
    }
}

#[test]
fn without_data_and_network_it_says_so_and_draws_digits() {
    let folder = tempfile::tempdir().unwrap();
    let output = example("mnist_cnn")
        .args(["--device", "cpu", "--steps", "2", "--epochs", "1"])
        .arg("--out")
        .arg(folder.path())
        .env("SHADEGRAD_CACHE", folder.path().join("cache"))
        // A proxy that refuses: as good as no network.
        .env("http_proxy", "http://127.0.0.1:9")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("digits drawn by the program, NOT MNIST"), "{text}");
}

#[test]
fn compiled_pipelines_are_kept_on_disk() {
    if harness::adapter().is_none_or(|device| !device.info().name.starts_with("vulkan")) {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let output = shadegrad()
        .args(["bench", "matmul", "--device", "software", "--seconds", "0.1"])
        .env("SHADEGRAD_CACHE", cache.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let kept: u64 = std::fs::read_dir(cache.path())
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept > 0, "nothing is kept in {}", cache.path().display());
}

#[test]
fn bad_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |data: PathBuf, words: &[&str]| {
        fails(
            example("mnist_cnn")
                .args(["--device", "cpu", "--data"])
                .arg(data)
                .arg("--out")
                .arg(at("out")),
            words,
        );
    };
    run(at("nowhere"), &["nowhere"]);
    let missing =
        mnist(&at("missing"), |name, bytes| (name != "t10k-labels-idx1-ubyte").then_some(bytes));
    run(missing, &["t10k-labels"]);
    let edit = |name: &'static str, edit: fn(&mut Vec<u8>)| {
        move |file: &str, mut bytes: Vec<u8>| {
            if file == name {
                edit(&mut bytes);
            }
            Some(bytes)
        }
    };
    let short = mnist(&at("short"), edit("train-images-idx3-ubyte", |b| b.truncate(1000)));
    run(short, &["train-images-idx3-ubyte", "1000"]);
    let magic = mnist(&at("magic"), edit("train-images-idx3-ubyte", |b| b[0] = 7));
    run(magic, &["train-images-idx3-ubyte", "magic"]);
    let label = mnist(&at("label"), edit("train-labels-idx1-ubyte", |b| b[12] = 10));
    run(label, &["train-labels-idx1-ubyte", "label 10", "index 4"]);
    let count = mnist(
        &at("count"),
        edit("train-labels-idx1-ubyte", |b| {
            b[7] -= 1;
            b.pop();
        }),
    );
    run(count, &["40", "39"]);
}

#[test]
fn bad_options_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = || {
        let mut command = example("mnist_cnn");
        command.arg("--drawn").arg("--out").arg(folder.path().join("out"));
        command
    };
    fails(drawn().args(["--device", "voodoo"]), &["unknown device `voodoo`", "cpu"]);
    fails(drawn().env("SHADEGRAD_DEVICE", "voodoo2"), &["unknown device `voodoo2`"]);
    fails(drawn().args(["--device", "cpu", "--batch", "0"]), &["the batch size is 0"]);
    fails(
        drawn().args(["--device", "cpu", "--batch", "20000"]),
        &["the batch size is 20000", "12000"],
    );
    fails(drawn().args(["--epochs", "many"]), &["many"]);
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let mut unwritable = example("mnist_cnn");
    fails(
        unwritable.args(["--drawn", "--device", "cpu", "--out"]).arg(file.join("out")),
        &["file"],
    );
    fails(
        shadegrad().args(["bench", "nonsense", "--device", "cpu"]),
        &["no workload `nonsense`", "lenet"],
    );
    fails(shadegrad().args(["bench", "--device", "voodoo"]), &["unknown device `voodoo`"]);
}

#[test]
fn help_and_devices_help() {
    let help = text(&example("mnist_cnn").arg("--help").output().unwrap());
    for word in ["--data", "--device", "--epochs", "--batch", "--lr", "--seed", "--out", "Example"]
    {
        assert!(help.contains(word), "`{word}` is not in: {help}");
    }
    let devices = text(&shadegrad().arg("devices").output().unwrap());
    assert!(devices.contains("cpu: the host's processor"), "{devices}");
    let chosen =
        text(&shadegrad().arg("devices").env("SHADEGRAD_DEVICE", "null:h200").output().unwrap());
    assert!(chosen.contains("chosen by default: null:h200"), "{chosen}");
}

#[test]
fn the_benchmark_prints_a_table_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("bench.json");
    let output = shadegrad()
        .args(["bench", "mlp", "--device", "cpu", "--seconds", "0.1", "--kernels", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("GFLOP/s") && text.contains("kernels of mlp"), "{text}");
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    // Forward and two gradients of three layers, but for the gradient of the input.
    let products = 784 * 512 * 2 + (512 * 256 + 256 * 10) * 3;
    assert_eq!(line["flop"], 2 * 128 * products);
    assert!(line["median_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_self_test_runs_the_suite_and_says_how_close_it_came() {
    let output =
        shadegrad().args(["selftest", "--device", "cpu", "--one-in", "9"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for word in
        ["the host's processor", "operation", "gradient", "conv2d", "samples and cases", "0 failed"]
    {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    fails(shadegrad().args(["selftest", "--one-in", "0"]), &["--one-in"]);
    let output = shadegrad().arg("operations").output().unwrap();
    assert!(self::text(&output).contains("| `scaled_dot_product_attention` |"));
}
