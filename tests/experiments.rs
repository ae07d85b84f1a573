//! Experiments as a user without Rust runs them: files, folders of images, tables, and what is written.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use shadegrad::experiment::{Config, Layer, model, optimizer, schedule};
use shadegrad::train::Weights;
use shadegrad::train::data::{drawn, text::generated};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn shadegrad(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shadegrad"));
    command.current_dir(folder).env_remove("SHADEGRAD_DEVICE").args(arguments);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs to the end, and says all of `words`.
fn says(folder: &Path, arguments: &[&str], words: &[&str]) -> String {
    let output = shadegrad(folder, arguments);
    let text = text(&output);
    assert!(output.status.success(), "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    text
}

/// Fails without a backtrace, and says all of `words`.
fn fails(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = shadegrad(folder, arguments);
    let text = text(&output);
    assert!(!output.status.success() && !text.contains("panicked"), "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// Three classes of digits as pictures in folders.
fn pictures(root: &Path, count: usize, seed: u64) {
    let digits = drawn::digits(count, seed);
    for number in 0..digits.len() {
        let name = match digits.labels[number] {
            0 => "zero",
            1 => "one",
            7 => "seven",
            _ => continue,
        };
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let pixels = digits.image(number).to_vec();
        let image = image::GrayImage::from_raw(28, 28, pixels).unwrap();
        image.save(folder.join(format!("{number}.png"))).unwrap();
    }
}

#[test]
fn a_folder_of_images_is_trained_on_stopped_taken_up_evaluated_and_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("digits"), 1500, 1);
    pictures(&root.join("others"), 400, 2);
    let file = "seed = 3\n[data]\nkind = \"images\"\ntrain = \"digits\"\nvalidate = 0.2\nsize = 28\ngrey = true\n\
                [data.augment]\ncrop = 2\nrotate = 10\n[model]\nkind = \"cnn\"\nchannels = [8, 16]\n\
                [optimizer]\nlr = 0.01\n[train]\nepochs = 12\nbatch = 16\nmixed_precision = true\n";
    std::fs::write(root.join("digits.toml"), file).unwrap();
    let train = ["train", "digits.toml", "--device", "cpu"];
    let told = says(
        root,
        &train,
        &[
            "device: cpu",
            "precision: mixed",
            "samples to train on",
            "dispatches",
            "epoch 12",
            "loss scale:",
            "validation:",
        ],
    );
    let accuracy = |text: &str| -> f64 {
        let (_, rest) = text.rsplit_once("accuracy ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(accuracy(&told) > 90.0, "{told}");
    let run = root.join("runs/digits");
    for name in ["model.safetensors", "curves.png", "confusion.png", "log.csv", "checkpoints"] {
        assert!(run.join(name).exists(), "{name}");
    }
    let log = std::fs::read_to_string(run.join("log.csv")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 13, "{log}");
    assert!(
        lines[0].starts_with("epoch,step,loss,accuracy,validation_loss,validation_accuracy"),
        "{log}"
    );
    let events = std::fs::read_dir(&run).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents")
    });
    assert_eq!(events.count(), 1);

    // Nothing is lost by asking again.
    fails(root, &train, &["holds an earlier run", "--resume", "--restart", "--out"]);
    // Another run, of which the last epoch is lost, and done again: the same weights.
    let other = [&train[..], &["--out", "twice"]].concat();
    says(root, &[&other[..], &["--epochs", "12"]].concat(), &["epoch 12"]);
    std::fs::remove_file(
        root.join("twice/checkpoints").join(newest(&root.join("twice/checkpoints"))),
    )
    .unwrap();
    std::fs::remove_file(root.join("twice/model.safetensors")).unwrap();
    says(root, &[&other[..], &["--resume"]].concat(), &["goes on after", "epoch 12"]);
    let weights = |run: &Path| Weights::load(&run.join("model.safetensors")).unwrap();
    assert!(weights(&run) == weights(&root.join("twice")), "the same bits");
    says(root, &[&other[..], &["--restart", "--epochs", "1"]].concat(), &["epoch 1:", "written:"]);

    let told = says(root, &["eval", "runs/digits", "others"], &["loss", "accuracy"]);
    assert!(accuracy(&told) > 85.0, "{told}");
    let seven =
        std::fs::read_dir(root.join("others/seven")).unwrap().next().unwrap().unwrap().path();
    let told =
        says(root, &["predict", "runs/digits", seven.to_str().unwrap(), "--top", "2"], &[" %, "]);
    assert!(told.contains(": seven "), "{told}");
    fails(root, &["eval", "runs/digits", "digits/seven"], &["digits/seven"]);
    fails(root, &["predict", "runs/digits", "none.png"], &["none.png"]);
    fails(root, &["predict", "none", "none.png"], &["none"]);
    fails(root, &["predict", "digits.toml", "none.png"], &["digits.toml", "safetensors"]);
}

#[test]
fn a_folder_is_streamed_to_the_same_weights_and_a_broken_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("digits"), 400, 1);
    pictures(&root.join("others"), 100, 2);
    let file = |stream: bool| {
        format!(
            "[data]\nkind = \"images\"\ntrain = \"digits\"\nsize = 28\nstream = {stream}\n\
             [data.augment]\ncrop = 2\nhue = 0.1\n[model]\nkind = \"mlp\"\nhidden = [16]\n\
             [train]\nepochs = 3\nbatch = 16\n"
        )
    };
    for (name, stream) in [("memory.toml", false), ("files.toml", true)] {
        std::fs::write(root.join(name), file(stream)).unwrap();
        says(root, &["train", name, "--device", "cpu"], &["epoch 3", "validation:"]);
    }
    let weights = |run: &str| {
        let mut weights = Weights::load(&root.join(run).join("model.safetensors")).unwrap();
        weights.notes.remove("config");
        weights
    };
    assert!(weights("runs/memory") == weights("runs/files"), "the same bits");
    let [a, b] = ["memory", "files"].map(|run| {
        let run = format!("runs/{run}");
        says(root, &["eval", &run, "others", "--device", "cpu"], &["matthews corrcoef"])
    });
    assert_eq!(a, b);
    std::fs::write(root.join("digits/one/broken.png"), b"no image").unwrap();
    let again = ["train", "files.toml", "--device", "cpu", "--restart"];
    fails(root, &again, &["broken.png"]);
    std::fs::write(root.join("others/one/broken.png"), b"no image").unwrap();
    fails(root, &["eval", "runs/files", "others", "--device", "cpu"], &["broken.png"]);
    let grey = file(false).replace("size = 28", "size = 28\ngrey = true");
    std::fs::write(root.join("grey.toml"), grey).unwrap();
    std::fs::remove_file(root.join("digits/one/broken.png")).unwrap();
    fails(root, &["train", "grey.toml", "--device", "cpu"], &["hue", "red, green and blue"]);
}

#[test]
#[cfg(unix)]
fn control_c_stops_with_a_checkpoint_from_which_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("digits"), 600, 1);
    let file = "[data]\nkind = \"images\"\ntrain = \"digits\"\nsize = 28\ngrey = true\n\
                [model]\nkind = \"mlp\"\n[train]\nepochs = 100000\nbatch = 16\ncheckpoint_steps = 100000000\n";
    std::fs::write(root.join("long.toml"), file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shadegrad"));
    command.current_dir(root).args(["train", "long.toml", "--device", "cpu"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The log begins with the first epoch.
    let log = root.join("runs/long/log.csv");
    while std::fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    let output = child.wait_with_output().unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("--resume goes on") && told.contains("again to end at once"), "{told}");
    let (_, rest) = told.rsplit_once("stopped after ").unwrap();
    let steps: usize = rest.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(newest(&root.join("runs/long/checkpoints")), format!("step-{steps:08}.safetensors"));
    let resume = ["train", "long.toml", "--device", "cpu", "--resume", "--epochs", "1"];
    says(root, &resume, &[&format!("goes on after {steps} steps")]);
}

fn newest(folder: &Path) -> String {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|e| e.unwrap().file_name().to_string_lossy().to_string()).max().unwrap()
}

#[test]
fn tables_are_classified_and_regressed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let rows = |first: u32| -> String {
        let row = |i: u32| {
            let (a, b) = (i * 7 % 100, i * 13 % 60);
            let kind = ["red", "green", "blue"][(i % 3) as usize];
            let class = if a + b > 75 { "high" } else { "low" };
            format!(
                "{i},{a},{b},{kind},{class},{}\n",
                f64::from(2 * a) - f64::from(b) + f64::from(i % 3) * 10.0
            )
        };
        "id,a,b,kind,class,value\n".to_string() + &(first..first + 600).map(row).collect::<String>()
    };
    std::fs::write(root.join("t.csv"), rows(0)).unwrap();
    std::fs::write(root.join("more.csv"), rows(1000)).unwrap();
    let file = |target: &str, omit: &str, regression: bool| {
        format!(
            "[data]\nkind = \"table\"\ntrain = \"t.csv\"\ntarget = \"{target}\"\nomit = [\"id\", \"{omit}\"]\n\
             regression = {regression}\nvalidate = \"more.csv\"\n[model]\nkind = \"mlp\"\nhidden = [32]\n\
             [optimizer]\nlr = 0.02\n[train]\nepochs = 40\nbatch = 32\n"
        )
    };
    std::fs::write(root.join("class.toml"), file("class", "value", false)).unwrap();
    std::fs::write(root.join("value.toml"), file("value", "class", true)).unwrap();
    let told = says(root, &["train", "class.toml", "--device", "cpu"], &["validation: loss"]);
    let after = |text: &str, word: &str| -> f64 {
        let (_, rest) = text.rsplit_once(word).unwrap();
        rest.trim_start().split([' ', ',', '\n']).next().unwrap().parse().unwrap()
    };
    assert!(after(&told, "accuracy ") > 95.0, "{told}");
    let told = says(
        root,
        &["train", "value.toml", "--device", "cpu"],
        &["r2 score", "mean absolute error"],
    );
    assert!(after(&told, "r2 score ") > 0.95, "{told}");
    let told = says(root, &["eval", "runs/value", "more.csv"], &["r2 score"]);
    assert!(after(&told, "r2 score ") > 0.95, "{told}");
    // Without the target's column.
    std::fs::write(root.join("new.csv"), "id,a,b,kind\n1,90,50,red\n2,3,4,blue\n").unwrap();
    let told = says(
        root,
        &["predict", "runs/class", "new.csv", "--top", "1"],
        &["new.csv 1: high", "new.csv 2: low"],
    );
    assert_eq!(told.lines().count(), 2, "{told}");
    let told = says(root, &["predict", "runs/value", "new.csv"], &["new.csv 1: "]);
    let first = after(told.lines().next().unwrap(), "1: ");
    assert!((first - 130.0).abs() < 30.0, "{told}");
    fails(root, &["predict", "runs/class", "t.toml"], &["t.toml"]);
    std::fs::write(root.join("new.csv"), "id,a,b,kind\n1,90,50,violet\n").unwrap();
    fails(root, &["predict", "runs/class", "new.csv"], &["new.csv", "violet"]);
}

#[test]
fn texts_are_told_apart_by_words_that_the_run_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // Generated reviews hold commas; as a table they are quoted.
    let table = |count: usize, seed: u64, label: bool| -> String {
        let reviews = generated(count, seed);
        let row = |(number, (text, &class)): (usize, (&str, &u8))| match label {
            true => format!("{number},\"{text}\",{}\n", reviews.classes[usize::from(class)]),
            false => format!("{number},\"{text}\"\n"),
        };
        let rows = reviews.iter().zip(&reviews.labels).enumerate().map(row);
        let head = if label { "id,review,mood\n" } else { "id,review\n" };
        head.to_string() + &rows.collect::<String>()
    };
    std::fs::write(root.join("reviews.csv"), table(2400, 1, true)).unwrap();
    std::fs::write(root.join("more.tsv"), table(300, 2, true).replace(',', "\t")).unwrap();
    std::fs::write(root.join("more.csv"), table(300, 2, true)).unwrap();
    std::fs::write(root.join("new.csv"), table(300, 2, false)).unwrap();
    let file = "seed = 1\n[data]\nkind = \"text\"\ntrain = \"reviews.csv\"\ntext = \"review\"\ntarget = \"mood\"\n\
                [model]\nkind = \"lstm\"\nwidth = 24\nhidden = 16\ndropout = 0.2\nword_dropout = 0\n\
                [optimizer]\nlr = 0.01\n[train]\nepochs = 8\nbatch = 32\nclip_grad_norm = 1\n";
    std::fs::write(root.join("moods.toml"), file).unwrap();
    let accuracy = |text: &str| -> f64 {
        let (_, rest) = text.rsplit_once("accuracy ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let told = says(
        root,
        &["train", "moods.toml", "--device", "cpu"],
        &["2160 samples to train on, 240", "vocabulary: ", "epoch 8", "matthews corrcoef"],
    );
    // Words alone tell 62 % of them apart.
    assert!(accuracy(&told) > 80.0, "{told}");
    assert!(root.join("runs/moods/confusion.png").exists());
    let told = says(root, &["eval", "runs/moods", "more.csv", "--device", "cpu"], &["loss"]);
    let expected = accuracy(&told);
    assert!(expected > 80.0, "{told}");
    // What is predicted without labels is as often right as what is evaluated, in the order of the rows.
    let told = says(root, &["predict", "runs/moods", "new.csv", "--top", "1"], &["new.csv 300:"]);
    let reviews = generated(300, 2);
    let right = told.lines().zip(&reviews.labels).enumerate().filter(|(number, (line, class))| {
        let class = &reviews.classes[usize::from(**class)];
        line.starts_with(&format!("new.csv {}: {class} ", number + 1))
    });
    assert!((right.count() as f64 / 3.0 - expected).abs() < 0.01, "{told}");
    // The vocabulary is that of the run: the table that it was made of is gone, and unknown words are no failure.
    std::fs::remove_file(root.join("reviews.csv")).unwrap();
    std::fs::write(root.join("odd.tsv"), "review\nzyx wvu\nthe plot is never dull\n").unwrap();
    let told = says(root, &["predict", "runs/moods", "odd.tsv"], &["odd.tsv 1: ", "odd.tsv 2: "]);
    assert_eq!(told.lines().count(), 2, "{told}");
    fails(root, &["predict", "runs/moods", "none.csv"], &["none.csv"]);
    std::fs::write(root.join("odd.tsv"), "review\tmood\nfine\tgreat\n").unwrap();
    fails(root, &["eval", "runs/moods", "odd.tsv"], &["odd.tsv", "line 2", "great", "positive"]);
    std::fs::write(root.join("odd.tsv"), "text\nfine\n").unwrap();
    fails(root, &["predict", "runs/moods", "odd.tsv"], &["odd.tsv", "review", "text"]);

    std::fs::write(root.join("few.csv"), table(100, 1, true)).unwrap();
    let data =
        "[data]\nkind = \"text\"\ntrain = \"few.csv\"\ntext = \"review\"\ntarget = \"mood\"\n";
    let wrong = [
        (data.replace("\"mood\"", "\"moods\""), vec!["few.csv", "moods", "mood"]),
        (data.replace("\"review\"", "\"mood\""), vec!["column of texts", "another"]),
        (data.replace("text = \"review\"\n", ""), vec!["bad.toml", "text"]),
        (format!("{data}min_count = 9999\n"), vec!["min_count", "9999"]),
        (format!("{data}max_len = 0\n"), vec!["max_len is 0"]),
        (format!("{data}[model]\nkind = \"cnn\"\n"), vec!["texts", "lstm", "Cnn"]),
        (format!("{data}[model]\nkind = \"lstm\"\nhidden = 0\n"), vec!["hidden", "at least 1"]),
        (format!("{data}[train]\nmixup = 0.2\n"), vec!["mixup", "texts"]),
    ];
    for (text, words) in wrong {
        std::fs::write(root.join("bad.toml"), &text).unwrap();
        fails(root, &["train", "bad.toml", "--device", "cpu", "--restart"], &words);
    }
    pictures(&root.join("digits"), 100, 1);
    let images = "[data]\nkind = \"images\"\ntrain = \"digits\"\n[model]\nkind = \"lstm\"\n";
    std::fs::write(root.join("bad.toml"), images).unwrap();
    fails(root, &["train", "bad.toml", "--device", "cpu", "--restart"], &["lstm", "takes texts"]);
    // Without a word on the model it is one of texts.
    std::fs::write(root.join("auto.toml"), format!("{data}[train]\nepochs = 1\nbatch = 16\n"))
        .unwrap();
    says(root, &["train", "auto.toml", "--device", "cpu"], &["validation: loss"]);
}

#[test]
fn names_of_classes_may_hold_anything() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let row = |number: usize| match number % 2 {
        0 => "good fine nice,\"very\ngood\"\n",
        _ => "bad awful poor,\"not, \"\"good\"\"\"\n",
    };
    let table = (0..40).map(row).collect::<String>();
    std::fs::write(root.join("moods.csv"), "review,mood\n".to_string() + &table).unwrap();
    let file = "[data]\nkind = \"text\"\ntrain = \"moods.csv\"\ntext = \"review\"\ntarget = \"mood\"\n\
                [model]\nkind = \"lstm\"\nwidth = 4\nhidden = 4\n[train]\nepochs = 1\nbatch = 4\n";
    std::fs::write(root.join("moods.toml"), file).unwrap();
    says(root, &["train", "moods.toml", "--device", "cpu"], &["written:"]);
    let told = ["very\ngood", "not, \"good\""];
    says(root, &["predict", "runs/moods", "moods.csv", "--device", "cpu"], &told);
}

#[test]
fn what_a_run_that_fails_has_learnt_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("digits"), 600, 1);
    // The rate is ten times as large in each epoch as in the one before, until nothing is finite any more.
    let file = |gamma: f64, lr: f64| {
        format!(
            "[data]\nkind = \"images\"\ntrain = \"digits\"\nsize = 28\ngrey = true\n[model]\nkind = \"mlp\"\nhidden = [16]\n\
             [optimizer]\nname = \"sgd\"\nlr = {lr:e}\n[schedule]\nname = \"exponential\"\ngamma = {gamma}\n\
             [train]\nepochs = 60\nbatch = 16\n"
        )
    };
    std::fs::write(root.join("late.toml"), file(10.0, 1e-3)).unwrap();
    let train = ["train", "late.toml", "--device", "cpu"];
    let words =
        ["the loss is", "training failed after", "model.safetensors with the weights of epoch"];
    fails(root, &train, &words);
    let run = root.join("runs/late");
    for name in ["model.safetensors", "curves.png", "log.csv"] {
        assert!(run.join(name).exists(), "{name}");
    }
    let log = std::fs::read_to_string(run.join("log.csv")).unwrap();
    assert!(log.lines().count() >= 2, "{log}");
    let told = says(root, &["eval", "runs/late", "digits", "--device", "cpu"], &["accuracy"]);
    let (_, rest) = told.rsplit_once("accuracy ").unwrap();
    let accuracy: f64 = rest.split(' ').next().unwrap().parse().unwrap();
    assert!(accuracy > 60.0, "those of the best epoch: {told}");
    // Before the first validation there are no best weights.
    std::fs::write(root.join("early.toml"), file(1.0, 1e38)).unwrap();
    fails(
        root,
        &["train", "early.toml", "--device", "cpu"],
        &["training failed after", "curves.png"],
    );
    assert!(root.join("runs/early/curves.png").exists());
    assert!(!root.join("runs/early/model.safetensors").exists());
}

#[test]
fn a_step_is_told_before_it_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("digits"), 200, 1);
    let file = |stream: bool| {
        format!(
            "[data]\nkind = \"images\"\ntrain = \"digits\"\nsize = 28\ngrey = true\nstream = {stream}\n\
             [model]\nkind = \"mlp\"\nhidden = [32]\n[train]\nbatch = 16\n"
        )
    };
    std::fs::write(root.join("a.toml"), file(false)).unwrap();
    std::fs::write(root.join("b.toml"), file(true)).unwrap();
    let dump = |more: &[&str]| {
        let arguments = [&["dump", "a.toml", "--out", "text"][..], more].concat();
        let told = says(root, &arguments, &["kernel", "dispatches", "scratch memory", "together"]);
        let program = std::fs::read_to_string(root.join("text/4-program.txt")).unwrap();
        (told, program)
    };
    let (told, program) = dump(&[]);
    // One line for each kernel of the program, between the heading and the sums.
    let kernels = told.lines().skip_while(|line| !line.contains("kB read")).skip(1);
    let kernels: Vec<&str> = kernels.take_while(|line| !line.ends_with("together")).collect();
    let joined = kernels.iter().filter(|line| line.contains("  + ")).count();
    assert!(joined > 0, "{told}");
    let count = |word: &str| -> usize {
        let before = told.rsplit_once(word).unwrap().0;
        before.rsplit([' ', '\n']).next().unwrap().parse().unwrap()
    };
    assert_eq!(kernels.len() - joined, count(" dispatches"), "{told}");
    assert!(program.contains("[16, 32]"), "a batch of 16 has 32 hidden numbers");
    // Two layers and their gradients, but for that of the input; products are counted twice, as additions too.
    let sum = told.lines().find(|line| line.ends_with("together")).unwrap();
    let flop: f64 = sum.split_whitespace().nth(2).unwrap().parse().unwrap();
    let expected = 2.0 * 16.0 * f64::from(784 * 32 * 2 + 32 * 3 * 3) * 1e-6;
    assert!((flop - expected).abs() < 2e-3, "{sum}: not {expected}");
    let (_, other) = dump(&["--batch", "8"]);
    assert!(other.contains("[8, 32]") && !other.contains("[16, 32]"));
    // Nothing was trained or written elsewhere, and the bytes of a data set that is streamed are a window's.
    assert!(!root.join("runs").exists());
    let bytes = |told: &str| -> usize {
        let before = told.rsplit_once(" bytes of parameters").unwrap().0;
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let streamed = says(root, &["dump", "b.toml", "--out", "text"], &["dispatches"]);
    assert!(bytes(&streamed) > bytes(&told), "16 steps of 16 images are more than all there are");
    fails(root, &["dump", "none.toml"], &["none.toml"]);
    std::fs::write(root.join("bad.toml"), file(false).replace("hidden", "hiden")).unwrap();
    fails(root, &["dump", "bad.toml"], &["bad.toml", "hiden"]);
    fails(root, &["dump", "a.toml", "--batch", "9999"], &["batch", "9999"]);
    fails(root, &["dump", "--batch", "0"], &["batch", "0"]);
    says(root, &["dump", "--out", "cnn"], &["kernel", "together"]);
}

#[test]
fn files_that_make_no_sense_are_refused_by_line_and_word() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("digits"), 100, 1);
    let data = "[data]\nkind = \"images\"\ntrain = \"digits\"\nsize = 28\n";
    let wrong = [
        ("[train]\nepochs = 1\n".to_string(), vec!["bad.toml", "data"]),
        (format!("{data}color = 3\n"), vec!["bad.toml", "color"]),
        (format!("{data}[train]\nepoch = 3\n"), vec!["line 6", "epoch", "epochs"]),
        ("[data]\nkind = \"pictures\"\n".to_string(), vec!["pictures", "images", "mnist", "table"]),
        ("[data]\nkind = \"images\"\ntrain = \"nowhere\"\n".to_string(), vec!["nowhere"]),
        (format!("{data}[optimizer]\nname = \"adams\"\n"), vec!["adams", "adamw", "sgd"]),
        (format!("{data}[optimizer]\nmomentum = 0.9\n"), vec!["adamw", "momentum"]),
        (
            format!("{data}[schedule]\nname = \"cosine\"\ngamma = 0.9\n"),
            vec!["cosine", "gamma", "floor"],
        ),
        (format!("{data}[optimizer]\nlr = -1\n[train]\nbatch = 8\n"), vec!["lr", "-1"]),
        (format!("{data}[train]\nbatch = 5000\n"), vec!["batch", "5000"]),
        (format!("{data}[train]\nbatch = 8\nmonitor = \"f1\"\n"), vec!["f1", "accuracy"]),
        (
            format!(
                "{data}[model]\nkind = \"layers\"\nlayers = [\"flatten\", {{ conv2d = {{ out = 3 }} }}]\n"
            ),
            vec!["layer 2", "Conv2d", "[2352]"],
        ),
        (
            format!(
                "{data}[model]\nkind = \"layers\"\nlayers = [{{ max_pool = {{ size = 40 }} }}]\n"
            ),
            vec!["layer 1", "MaxPool", "[3, 28, 28]"],
        ),
    ];
    for (text, words) in wrong {
        std::fs::write(root.join("bad.toml"), &text).unwrap();
        fails(root, &["train", "bad.toml", "--device", "cpu", "--restart"], &words);
    }
    fails(root, &["train", "none.toml"], &["none.toml"]);
    std::fs::write(root.join("good.toml"), data).unwrap();
    fails(root, &["train", "good.toml", "--resume", "--out", "empty"], &["no checkpoint"]);
    let told = says(root, &["completions", "bash"], &["shadegrad", "--restart"]);
    assert!(told.lines().count() > 50);
}

#[test]
fn every_name_that_the_page_lists_is_known_and_no_other() {
    let page = include_str!("../docs/training.md");
    let config = |text: &str| Config::parse(&format!("[data]\nkind = \"mnist\"\n{text}"));
    let names = [
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "asgd",
        "lamb",
        "lion",
        "muon",
        "nadam",
        "radam",
        "rmsprop",
        "rprop",
        "sgd",
    ];
    for name in names {
        assert!(page.contains(name), "{name}");
        let config = config(&format!("[optimizer]\nname = \"{name}\"\n")).unwrap();
        optimizer(&config.optimizer).unwrap();
    }
    for name in ["constant", "cosine", "exponential", "linear", "one-cycle", "step"] {
        assert!(page.contains(name), "{name}");
        let config = config(&format!("[schedule]\nname = \"{name}\"\n")).unwrap();
        schedule(&config.schedule, 100, 10).unwrap();
    }
    let layers = "[model]\nkind = \"layers\"\nlayers = [{ conv2d = { out = 4, kernel = 3, stride = 1, padding = 1 } }, \"batch_norm\", \"relu\", \
                  { max_pool = { size = 2 } }, { avg_pool = { size = 2 } }, \"gelu\", \"global_avg_pool\", \"flatten\", { linear = { out = 8 } }, \
                  \"silu\", \"batch_norm\", \"tanh\", { dropout = { p = 0.5 } }, \"sigmoid\"]\n";
    let config = config(layers).unwrap();
    let shadegrad::experiment::Model::Layers { layers } = &config.model else { panic!("layers") };
    assert_eq!(layers.len(), 14);
    assert!(matches!(layers[0], Layer::Conv2d { out: 4, .. }));
    let made = model(&config.model, &[1, 28, 28], 10).unwrap();
    let parameters = shadegrad::models::Parameters::new(&made, 0).unwrap();
    // 3x3x4 + 4, 4 + 4, 4x8 + 8, 8 + 8, 8x10 + 10.
    assert_eq!(parameters.count(), 40 + 8 + 40 + 16 + 90);
}
