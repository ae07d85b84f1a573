//! The programs as a user runs them: what they print, what they write, and how they fail.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::train::data::{drawn, text::generated};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
    let runs = [
        (
            "mnist_cnn",
            vec!["--mixed-precision"],
            "loss scale: 65536; updates left out because of an overflow: 0",
        ),
        ("mnist_mlp", vec!["--hidden", "16,16"], "memory:"),
    ];
    for (name, more, said) in runs {
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
        for word in [
            "device: cpu",
            "parameters",
            "dispatches",
            "memory:",
            "epoch 2:",
            "test accuracy:",
            said,
        ] {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        for file in [&format!("{name}.safetensors"), "curves.png", "confusion.png", "mistakes.png"]
        {
            assert!(std::fs::metadata(out.join(file)).unwrap().len() > 500, "{file}");
        }
    }
}

#[test]
#[cfg(unix)]
fn a_run_that_is_interrupted_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = example("mnist_mlp");
        command.args(["--device", "cpu", "--drawn", "--hidden", "8", "--batch", "50"]);
        command.args(more).arg("--out").arg(folder.path());
        command
    };
    fails(&mut run(&["--resume"]), &["no run was stopped", "mnist_mlp-checkpoints"]);
    let child = run(&["--epochs", "100000"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    let place = folder.path().join("mnist_mlp-checkpoints");
    // Epochs end in checkpoints.
    let begun = || std::fs::read_dir(&place).is_ok_and(|mut files| files.next().is_some());
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(
        Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success()
    );
    let output = child.wait_with_output().unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    let (_, rest) = told.rsplit_once("stopped after ").unwrap();
    let steps = rest.split(' ').next().unwrap();
    fails(&mut run(&["--epochs", "1"]), &["a run that was stopped", "--resume"]);
    let output = run(&["--epochs", "1", "--resume"]).output().unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains(&format!("goes on after {steps} steps")), "{told}");
    assert!(told.contains("test accuracy:") && !place.exists(), "{told}");
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
fn shaders_are_chosen_by_measuring_where_that_is_asked_for() {
    if harness::adapter().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (cache, out) = (folder.path().join("cache"), folder.path().join("out"));
    let data = mnist(&folder.path().join("data"), |_, bytes| Some(bytes));
    std::fs::write(folder.path().join("t.csv"), "a,kind\n1,x\n2,y\n3,x\n4,y\n5,x\n6,y\n").unwrap();
    let file = "autotune = true\ndevice = \"software\"\n[data]\nkind = \"table\"\ntrain = \"t.csv\"\n\
                target = \"kind\"\n[model]\nkind = \"mlp\"\nhidden = [4]\n[train]\nepochs = 1\nbatch = 4\n";
    std::fs::write(folder.path().join("t.toml"), file).unwrap();
    let mut mlp = example("mnist_mlp");
    mlp.args(["--autotune", "--device", "software", "--steps", "1", "--batch", "2", "--data"]);
    mlp.arg(data).arg("--out").arg(out);
    let mut table = shadegrad();
    table.args(["train", "t.toml"]).current_dir(folder.path());
    for command in [&mut mlp, &mut table] {
        let output = command.env("SHADEGRAD_CACHE", &cache).output().unwrap();
        let text = text(&output);
        assert!(output.status.success() && text.contains("autotuner: shapes measured: "), "{text}");
        assert!(!text.contains("shapes measured: 0"), "{text}");
    }
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
    fails(
        shadegrad().args(["bench", "--matmul-precision", "low"]),
        &["no precision of products `low`: there are highest, high, medium"],
    );
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
        .args(["bench", "mlp", "--device", "cpu", "--seconds", "0.1", "--kernels"])
        .args(["--matmul-precision", "medium", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("GFLOP/s") && text.contains("kernels of mlp"), "{text}");
    assert!(text.contains("cpu: products have the highest precision, since it has no"), "{text}");
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    // Forward and two gradients of three layers, but for the gradient of the input.
    let products = 784 * 512 * 2 + (512 * 256 + 256 * 10) * 3;
    assert_eq!(line["flop"], 2 * 128 * products);
    assert!(line["ms_per_step_median"].as_f64().unwrap() > 0.0);
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

/// Files of labelled texts.
fn reviews(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    for (part, count, seed) in [("train", 120, 1), ("dev", 70, 2), ("test", 70, 3)] {
        let texts = generated(count, seed);
        let line = |(text, label): (&str, &u8)| format!("{text}\t{label}\n");
        let lines: String = texts.iter().zip(&texts.labels).map(line).collect();
        std::fs::write(folder.join(format!("{part}.tsv")), lines).unwrap();
    }
    folder.to_path_buf()
}

fn sentiment(data: &Path, out: &Path) -> Command {
    let mut command = example("lstm_sentiment");
    command
        .args(["--device", "cpu", "--epochs", "1", "--width", "8", "--hidden", "6", "--data"])
        .arg(data)
        .arg("--out")
        .arg(out);
    command
}

#[test]
fn the_sentiment_program_trains_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let data = reviews(&folder.path().join("data"));
    let output =
        sentiment(&data, &out).args(["--predict", "Not a BAD film, heard."]).output().unwrap();
    let first = text(&output);
    assert!(output.status.success(), "{first}");
    for word in
        ["120 texts to train on", "dispatches", "epoch 1:", "test accuracy:", "(film)", "(heard)"]
    {
        assert!(first.contains(word), "`{word}` is not in: {first}");
    }
    for file in ["lstm_sentiment.safetensors", "lstm_sentiment.png", "lstm_confusion.png"] {
        assert!(std::fs::metadata(out.join(file)).unwrap().len() > 500, "{file}");
    }
    // What was written answers as what was trained, and to several questions.
    let mut asked = example("lstm_sentiment")
        .args(["--device", "cpu", "--interactive", "--weights"])
        .arg(out.join("lstm_sentiment.safetensors"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(b"Not a BAD film, heard.\n\nunheardof\n").unwrap();
    let second = text(&asked.wait_with_output().unwrap());
    let verdict = first.lines().last().unwrap();
    assert!(verdict.contains("with a probability of") && second.contains(verdict), "{second}");
    assert!(second.contains("(unheardof)"), "{second}");
}

#[test]
fn a_folder_for_each_class_is_read_like_aclimdb() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for part in ["train", "test"] {
        let texts = generated(100, 4);
        for (number, (text, &label)) in texts.iter().zip(&texts.labels).enumerate() {
            let class = data.join(part).join(if label == 1 { "pos" } else { "neg" });
            std::fs::create_dir_all(&class).unwrap();
            std::fs::write(class.join(format!("{number}_7.txt")), text).unwrap();
        }
    }
    let output = sentiment(&data, folder.path()).args(["--predict", "dull"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("90 texts to train on, 10 to validate on, 100 to test on"), "{text}");
    assert!(text.contains("pos, with") || text.contains("neg, with"), "{text}");
    let third = data.join("train/neutral");
    std::fs::create_dir_all(&third).unwrap();
    std::fs::write(third.join("0_5.txt"), "so so").unwrap();
    fails(
        &mut sentiment(&data, folder.path()),
        &["the test texts are neg, pos", "training texts neg, neutral, pos"],
    );
    std::fs::remove_dir_all(third).unwrap();
    std::fs::write(data.join("train/pos/0_x.txt"), [0x66, 0xff]).unwrap();
    fails(&mut sentiment(&data, folder.path()), &["0_x.txt", "UTF-8"]);
}

#[test]
fn bad_texts_are_named_by_file_and_line_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = reviews(&folder.path().join("data"));
    let train = data.join("train.tsv");
    let good = std::fs::read(&train).unwrap();
    let with = |line: &[u8]| std::fs::write(&train, [b"good\t1\n", line, b"\n", &good].concat());
    for (line, words) in [
        (&b"b\xff\t1"[..], ["train.tsv", "line 2", "UTF-8"]),
        (b"", ["train.tsv", "line 2", "no text"]),
        (b"no tab", ["train.tsv", "line 2", "tab"]),
        (b"fine\t2", ["train.tsv", "line 2", "\"2\""]),
    ] {
        with(line).unwrap();
        fails(&mut sentiment(&data, folder.path()), &words);
        let output = sentiment(&data, folder.path()).arg("--skip-bad").output().unwrap();
        let text = text(&output);
        assert!(output.status.success() && text.contains("skipped 1 line"), "{text}");
    }
    std::fs::write(&train, good).unwrap();
    let vectors = folder.path().join("vectors.txt");
    std::fs::write(&vectors, "the 1 2 3 4 5 6 7 8\nfilm 1 2 3\n").unwrap();
    let glove = |more: &[&str]| {
        let mut command = sentiment(&data, folder.path());
        command.arg("--glove").arg(&vectors).args(more);
        command
    };
    fails(&mut glove(&[]), &["vectors.txt", "line 2", "3", "8"]);
    let text = text(&glove(&["--skip-bad"]).output().unwrap());
    assert!(text.contains("1 of ") && text.contains("skipped 1 line"), "{text}");
    fails(sentiment(&data, folder.path()).args(["--max-len", "0"]), &["--max-len is 0"]);
    fails(sentiment(&data, folder.path()).args(["--min-count", "999"]), &["no word occurs 999"]);
    fails(&mut sentiment(&folder.path().join("nowhere"), folder.path()), &["nowhere"]);
    fails(example("lstm_sentiment").arg("--weights").arg(&train), &["--predict or --interactive"]);
    fails(
        example("lstm_sentiment").args(["--predict", "x", "--weights"]).arg(&train),
        &["train.tsv", "safetensors"],
    );
}

#[test]
fn the_character_program_learns_and_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.txt");
    std::fs::write(&path, "to be or not to be, that is the question. ".repeat(40)).unwrap();
    let run = |more: &[&str]| {
        let mut command = example("char_transformer");
        command.args(["--device", "cpu", "--steps", "20", "--every", "10", "--length", "15"]);
        command.args(["--context", "8", "--layers", "1", "--width", "8"]);
        command.args(["--prompt", "to", "--out"]).arg(folder.path()).args(more);
        command
    };
    let output = run(&["--heads", "2", "--data"]).arg(folder.path()).output().unwrap();
    let first = text(&output);
    assert!(output.status.success(), "{first}");
    for word in ["1680 characters", "step 10:", "step 20:", "validation loss:", "\nto"] {
        assert!(first.contains(word), "`{word}` is not in: {first}");
    }
    let samples = std::fs::read_to_string(folder.path().join("samples.txt")).unwrap();
    assert!(samples.lines().any(|line| line.starts_with("to") && line.len() == 17), "{samples}");
    assert!(folder.path().join("char_transformer.png").exists());
    let weights = folder.path().join("char_transformer.safetensors");
    let write = |more: &[&str]| {
        let mut command = example("char_transformer");
        command
            .args(["--device", "cpu", "--length", "9"])
            .args(more)
            .arg("--weights")
            .arg(&weights);
        command
    };
    let unasked = text(&write(&[]).output().unwrap());
    assert!(unasked.lines().last().is_some_and(|line| line.len() == 10), "{unasked}");
    let output = write(&["--prompt", "that", "--temperature", "0"]).output().unwrap();
    let second = text(&output);
    assert!(output.status.success() && second.contains("\nthat"), "{second}");
    fails(&mut write(&["--prompt", "Z"]), &["--prompt", "'Z'"]);
    fails(&mut write(&["--prompt", ""]), &["--prompt is empty"]);
    fails(run(&["--heads", "3", "--data"]).arg(&path), &["width of 8", "3 heads"]);
    std::fs::write(&path, b"\xff\xfe").unwrap();
    fails(run(&["--data"]).arg(&path), &["input.txt", "UTF-8"]);
    std::fs::write(&path, "short").unwrap();
    fails(run(&["--data"]).arg(&path), &["5 characters are too few"]);
}
