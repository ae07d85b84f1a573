//! The benchmark: what its training steps cost exactly, and that all it measures can be measured.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::bench::{self, Outcome, Rates, Row, Settings, Step};
use shadegrad::device::{Device, DeviceClass, Limits};
use std::path::Path;
use std::process::{Command, Output};

/// Dispatches of each training step: on the CPU, which has a kernel for the gradient of attention, on software adapters, on small
/// and on large GPUs, where long sums are cut into parts that another dispatch adds, and small kernels share dispatches.
const DISPATCHES: [(&str, [usize; 4]); 6] = [
    ("tiny", [15, 15, 11, 11]),
    ("mlp", [14, 14, 12, 11]),
    ("lenet", [21, 21, 23, 21]),
    ("cifar", [43, 43, 43, 46]),
    ("lstm", [19, 19, 17, 17]),
    ("gpt", [59, 75, 74, 65]),
];

/// Bytes of scratch memory of each, likewise: what is computed again isn't stored, and what shares a dispatch is alive at once.
const SCRATCH: [(&str, [usize; 4]); 6] = [
    ("tiny", [7_888, 7_888, 8_080, 8_080]),
    ("mlp", [2_807_856, 2_807_856, 2_806_916, 2_806_916]),
    ("lenet", [19_548_464, 19_548_464, 19_474_480, 19_548_464]),
    ("cifar", [74_049_840, 74_049_840, 74_049_840, 73_748_272]),
    ("lstm", [14_689_552, 14_689_552, 14_689_552, 14_689_552]),
    ("gpt", [21_362_688, 21_362_688, 21_362_688, 21_886_976]),
];

#[test]
fn training_steps_take_so_many_dispatches_and_hardly_more_memory_than_lives_at_once() {
    for (profile, limits) in Limits::profiles() {
        let device = Device::null(limits.clone());
        let class = match limits.class {
            DeviceClass::Cpu => 0,
            DeviceClass::Software => 1,
            DeviceClass::Integrated => 2,
            DeviceClass::Discrete => 3,
        };
        for (workload, dispatches) in DISPATCHES {
            let (program, _) = bench::program(workload, &device, Step::default()).unwrap().unwrap();
            let report = program.report();
            assert_eq!(report.counts.dispatches, dispatches[class], "{workload} on {profile}");
            let ratio = report.peak_bytes as f64 / report.lower_bound as f64;
            assert!((1.0..1.15).contains(&ratio), "{workload} on {profile}: {ratio}");
            let bytes = SCRATCH.iter().find(|s| s.0 == workload).unwrap().1;
            assert_eq!(report.peak_bytes, bytes[class], "{workload} on {profile}");
        }
    }
}

#[test]
fn kernels_have_dispatches_of_their_own_where_that_is_asked_for() {
    let device = Device::null(Limits::profile("h200").unwrap());
    let dispatches = |apart: bool| {
        let step = Step { apart, ..Step::default() };
        let (program, _) = bench::program("mlp", &device, step).unwrap().unwrap();
        assert_eq!(program.compiled().program.kernels.len(), 14);
        program.report().counts.dispatches
    };
    assert_eq!([dispatches(false), dispatches(true)], [11, 14]);
    // Processes of their own get every setting.
    let step = Step {
        batch: Some(3),
        recompute: Some(2_500_000),
        mixed: true,
        one_dispatch: true,
        apart: true,
    };
    let arguments = ["--batch", "3", "--recompute", "2.5", "--mixed", "--one-dispatch", "--apart"];
    assert_eq!(step.arguments(), arguments);
}

#[test]
fn every_training_step_is_listed() {
    let listed: Vec<&str> = bench::TRAINING.iter().map(|training| training.name).collect();
    assert_eq!(listed, DISPATCHES.map(|(workload, ..)| workload));
}

#[test]
fn every_kernel_runs_and_gives_numbers() {
    let device = Device::cpu(Some(2));
    for kernel in bench::KERNELS {
        // Small enough for any machine.
        let (mut program, about) = bench::kernel(kernel.name, &device, 32).unwrap().unwrap();
        assert!(!about.is_empty(), "{}", kernel.name);
        program.run(1).unwrap();
        for output in 0..program.compiled().outputs.len() {
            let values = program.read_array(output).unwrap();
            assert!(!values.data.is_empty(), "{}", kernel.name);
            assert!(values.data.iter().all(|v| v.is_finite()), "{}", kernel.name);
        }
    }
}

const SETTINGS: Settings = Settings {
    seconds: 0.0,
    kernels: true,
    step: Step { batch: Some(2), recompute: None, mixed: false, one_dispatch: false, apart: false },
};

#[test]
fn a_measurement_is_read_back_as_it_was_written() {
    let device = Device::cpu(Some(2));
    let rates = Rates { gflops: 100.0, gbytes: 10.0 };
    let Outcome::Measured(m) = bench::measure("mlp", &device, SETTINGS, rates).unwrap() else {
        panic!("`mlp` is a workload, and short");
    };
    assert!(m.min > 0.0 && m.min <= m.median && m.floor > 0.0 && m.first > 0.0);
    assert_eq!(m.kernels.len(), m.counts.dispatches);
    let lines = bench::json(&m) + "\n";
    let row = Row {
        peer: "shadegrad".into(),
        workload: "mlp".into(),
        median: Some(m.median),
        first: Some(m.first),
        cold: None,
        warm: None,
    };
    assert_eq!(bench::read(&lines).unwrap(), [row]);
    assert!(bench::table(&[*m]).contains("linear 784-512-256-10, batch 2"));
}

#[test]
fn a_replayed_dispatch_costs_the_host_at_most_half_a_microsecond_more_than_a_bare_one() {
    let Some(device) = harness::adapter() else { return };
    let step = Step { batch: Some(2), ..Step::default() };
    let mut measured = Vec::new();
    // Others may use the machine: one quiet moment is enough.
    let close = (0..10).any(|_| {
        let host = bench::host("mlp", &device, 0.2, step).unwrap().unwrap();
        let more = host.replayed.min - host.bare.min;
        measured.push(host);
        more <= 0.5
    });
    let text = bench::hosts(&measured);
    assert!(close, "{text}");
    assert!(text.lines().count() == 1 + measured.len() && text.contains("mlp"), "{text}");
    assert!(measured.iter().all(|host| host.bare.min > 0.0 && host.bare.min <= host.bare.median));
    assert!(bench::host("nothing", &device, 0.0, step).unwrap().is_none());
}

#[test]
fn what_takes_too_long_and_what_does_not_exist_is_not_measured() {
    let device = Device::cpu(Some(2));
    let slow = Rates { gflops: 1e-9, gbytes: 1e-9 };
    let outcome = bench::measure("mlp", &device, SETTINGS, slow).unwrap();
    assert!(matches!(outcome, Outcome::TooLong(seconds) if seconds > bench::LONGEST));
    let outcome = bench::measure("nothing", &device, SETTINGS, slow).unwrap();
    assert!(matches!(outcome, Outcome::Unknown));
}

fn line(peer: &str, workload: &str, ms: f64) -> String {
    format!(
        "{{\"peer\": \"{peer}\", \"workload\": \"{workload}\", \"ms_per_step_median\": {ms}}}\n"
    )
}

#[test]
fn runs_are_compared_workload_by_workload() {
    let ours = bench::read(&(line("ours", "mlp", 4.0) + &line("ours", "gpt", 10.0))).unwrap();
    let failed = "{\"peer\": \"other\", \"workload\": \"gpt\", \"failed\": 1, \"why\": \"\"}\n";
    let theirs = line("other", "mlp", 9.0) + &line("other", "mlp", 6.0) + failed;
    let theirs = bench::read(&(theirs + &line("third", "cifar", 1.0))).unwrap();
    let text = bench::compare(&ours, &theirs);
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ms", "per", "step", "ours", "other", "third"]);
    // The median of nine and six.
    assert_eq!(lines[1], ["mlp", "4.000", "7.500", "(1.88x)", "-"]);
    assert_eq!(lines[2], ["gpt", "10.000", "failed", "-"]);
    assert!(text.contains("only measured for third: cifar"));
}

#[test]
fn steps_are_measured_in_mixed_precision_where_the_device_can() {
    let device = Device::cpu(Some(2));
    let rates = Rates { gflops: 100.0, gbytes: 10.0 };
    let step = Step { mixed: true, ..SETTINGS.step };
    let settings = Settings { step, ..SETTINGS };
    let Outcome::Measured(m) = bench::measure("mlp", &device, settings, rates).unwrap() else {
        panic!("`mlp` is a workload, and short");
    };
    let (plain, _) = bench::program("mlp", &device, SETTINGS.step).unwrap().unwrap();
    assert!(m.counts.dispatches > plain.report().counts.dispatches, "nothing is scaled");
    let error = bench::program("mlp", &Device::null(Limits::WEBGPU), step).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("16-bit"), "{error}");
}

#[test]
fn lines_that_are_no_measurements_are_refused_with_their_number() {
    let good = line("a", "mlp", 1.0);
    assert!(bench::read(&(good.clone() + "{oops")).unwrap_err().starts_with("line 2: "));
    assert_eq!(bench::read(&(good + "\n{}\n")).unwrap_err(), "line 3: `peer` is missing");
}

fn shadegrad() -> Command {
    Command::new(env!("CARGO_BIN_EXE_shadegrad"))
}

fn ran(arguments: &[&str]) -> Output {
    shadegrad().args(arguments).output().unwrap()
}

#[test]
fn first_steps_are_measured_cold_and_warm_and_pipelines_are_found() {
    let mut devices = vec!["cpu"];
    devices.extend(harness::adapter().map(|_| "software"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starts.json");
    for device in devices {
        let output = shadegrad()
            .args(["bench", "embedding-gradient", "--starts", "--seconds", "0", "--json"])
            .arg(&path)
            .args(["--device", device])
            // Nothing may be left behind.
            .env("TMPDIR", folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let row = bench::read(&std::fs::read_to_string(&path).unwrap()).unwrap().remove(0);
        let (cold, warm) = (row.cold.unwrap(), row.warm.unwrap());
        assert!(cold > 0.0 && warm > 0.0, "{text}");
        assert!(
            text.contains(&format!("{cold:.1}")) && text.contains(&format!("{warm:.1}")),
            "{text}"
        );
        let line: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let kept = line["pipeline_bytes"].as_u64().unwrap();
        assert_eq!(kept > 0, device != "cpu", "{kept} bytes of pipelines on {device}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "caches are left");
    }
}

#[test]
fn shaders_are_chosen_by_measuring_once_for_all_runs() {
    if harness::adapter().is_none() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let bench = || {
        let output = shadegrad()
            .args(["bench", "embedding-gradient", "--seconds", "0", "--device", "software"])
            .arg("--autotune")
            .env("SHADEGRAD_CACHE", cache.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // The product by which floors are known.
    let first = bench();
    assert!(first.contains("autotuner: matmul [] of 512x512 and 512x512, nn"), "{first}");
    assert!(first.contains("autotuner: shapes measured: 1 in "), "{first}");
    let second = bench();
    assert!(second.contains("autotuner: shapes measured: 0 in 0.0 s"), "{second}");
    assert!(second.contains("kernels of known shapes: 1, left out: 0"), "{second}");
}

#[cfg(unix)]
#[test]
fn other_programs_run_in_turn_and_the_medians_of_all_rounds_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (lines, count) = (path("lines.json"), path("count"));
    // Takes one millisecond the first time, two the second, and so on.
    let counting = format!(
        "echo x >> {count}; echo started; echo '{{\"peer\": \"counting\", \"workload\": \"{{}}\", \"ms_per_step_median\": '$(wc -l < {count})'}}'"
    );
    let output = ran(&[
        "bench",
        "embedding-gradient",
        "--device",
        "cpu",
        "--seconds",
        "0",
        "--beside",
        &counting,
        "--beside",
        "echo broken {} >&2; exit 3",
        "--rounds",
        "3",
        "--json",
        &lines,
    ]);
    let [text, told] =
        [&output.stdout, &output.stderr].map(|t| String::from_utf8_lossy(t).into_owned());
    assert!(output.status.success(), "{told}");
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header[..5], ["ms", "per", "step", "shadegrad", "counting"], "{text}");
    assert!(text.contains(" 2.000 (") && text.contains("failed"), "{text}");
    assert!(told.contains("exit status: 3: broken embedding-gradient"), "{told}");
    let lines = std::fs::read_to_string(&lines).unwrap();
    let of = |peer: &str| lines.lines().filter(|line| line.contains(peer)).count();
    assert_eq!([of("\"shadegrad\""), of("\"counting\"")], [3, 3], "{lines}");
    refused(&["bench", "mlp", "--beside", "true"], &["`true` has no {}"]);
    refused(&["bench", "mlp", "--beside", "true {}", "--host"], &["--beside", "--host"]);
    refused(&["bench", "mlp", "--beside", "true {}", "--rounds", "0"], &["--rounds is at least 1"]);
}

#[test]
fn first_steps_are_compared_where_they_were_measured() {
    let first = |peer: &str, cold: f64| {
        format!(
            "{{\"peer\": \"{peer}\", \"workload\": \"mlp\", \"ms_per_step_median\": 1, \"first_step_cold_ms\": {cold}}}\n"
        )
    };
    let rows = |text: String| bench::read(&text).unwrap();
    let text = bench::compare(&rows(first("ours", 20.0)), &rows(first("other", 50.0)));
    assert!(text.contains("first step, cold") && text.contains("50.000 (2.50x)"), "{text}");
    assert!(!text.contains("first step, warm"), "{text}");
}

fn refused(arguments: &[&str], words: &[&str]) {
    let output = ran(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn the_program_compares_with_a_file_and_refuses_what_it_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (new, old) = (path("new.json"), path("old.json"));
    std::fs::write(&old, line("before", "embedding-gradient", 1000.0)).unwrap();
    let arguments = ["bench", "embedding-gradient", "--device", "cpu", "--seconds", "0"];
    let output = ran(&[arguments.as_slice(), &["--json", &new, "--compare", &old]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("before"), "{text}");
    assert!(Path::new(&new).exists());
    let output = ran(&["bench", "--from", &new, "--compare", &old]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1000.000 ("));

    let broken = path("broken.json");
    std::fs::write(&broken, "nothing").unwrap();
    refused(&["bench", "--from", &broken, "--compare", &old], &["broken.json, line 1"]);
    refused(&["bench", "--from", "missing.json", "--compare", &old], &["missing.json"]);
    refused(&["bench", "nothing"], &["no workload `nothing`", "lenet", "softmax"]);
    refused(&["bench", "--batch", "0"], &["--batch is at least 1"]);
    refused(&["bench", "mlp", "--host", "--device", "cpu"], &["--host", "cpu", "is none"]);
    let trace = path("trace.json");
    let arguments = ["bench", "lenet", "--device", "cpu", "--seconds", "0", "--trace", &trace];
    assert!(ran(&arguments).status.success());
    refused(
        &["bench", "--overhead", "--device", "null:webgpu"],
        &["null:webgpu", "one that computes", "shadegrad devices"],
    );
    let events: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&trace).unwrap()).unwrap();
    let events = events["traceEvents"].as_array().unwrap();
    assert_eq!(events.len(), 21, "a kernel for each dispatch");
    let end =
        |event: &serde_json::Value| event["ts"].as_f64().unwrap() + event["dur"].as_f64().unwrap();
    assert!(events.windows(2).all(|pair| end(&pair[0]) <= pair[1]["ts"].as_f64().unwrap() + 1e-6));
    let output = ran(&["bench", "--overhead", "--device", "cpu", "--seconds", "0"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("streamed by threads"), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with(" %")).count(), 5, "{text}");
}
