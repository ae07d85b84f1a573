//! Checkpoints: what resumes has the bits of what never ended, whatever ended it, and no failure loses what was there.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Device, random};
use shadegrad::models::GradScaler;
use shadegrad::prelude::*;
use shadegrad::train::augment::RandomCrop;
use shadegrad::train::data::drawn;
use shadegrad::train::data::text::Sequences;
use shadegrad::train::{Checkpoints, Control, Ended, History, TrainError, Transforms};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn cnn() -> Sequential {
    Sequential::new()
        .add(Conv2d::new(1, 4, 3).padding(1))
        .add(BatchNorm2d::new(4))
        .add(Relu)
        .add(MaxPool2d::new(4))
        .add(Flatten)
        .add(Dropout::new(0.3))
        .add(Linear::new(4 * 7 * 7, 10))
}

fn trainer(device: &Device, seed: u64) -> Trainer<Sequential> {
    let schedule = WarmUp { steps: 20, then: Cosine { steps: 200, floor: 0.1 } };
    Trainer::with_seed(device, cnn(), CrossEntropy, AdamW::new(3e-3), seed)
        .unwrap()
        .schedule(schedule)
        .clip_grad_norm(1.0)
}

/// Everything that a program of the trainer binds, as bytes: weights, statistics, moments, counters.
fn bits<M: Module>(trainer: &mut Trainer<M>) -> Vec<Vec<u8>> {
    let shards = trainer.parameters().shards().to_vec();
    let buffers: Vec<_> =
        trainer.parameters().buffers().map(|(_, buffer)| buffer.variable().clone()).collect();
    let moments: Vec<_> = trainer.updater().state().into_iter().map(|m| m.variable).collect();
    let all = shards.into_iter().chain(buffers).chain(moments);
    all.map(|variable| trainer.session().read(&variable).unwrap()).collect()
}

/// A history without what depends on the clock.
fn timeless(mut history: History) -> History {
    history.epochs.iter_mut().for_each(|epoch| epoch.samples_per_second = 0.0);
    history
}

#[test]
fn two_hundred_steps_are_seventy_seven_an_end_and_the_rest() {
    two_hundred_steps(trainer);
}

#[test]
fn two_hundred_steps_in_mixed_precision_as_well() {
    // A scale that changes on the way: it is too much at first, and grows.
    let scaler = || GradScaler::new().init_scale(2f64.powi(24)).growth_interval(20);
    two_hundred_steps(|device, seed| trainer(device, seed).mixed_precision_with(scaler()));
}

#[test]
fn a_scaled_run_goes_on_scaled_and_no_other_does() {
    let device = Device::cpu(Some(2));
    let data = drawn::digits(90, 4);
    let folder = tempfile::tempdir().unwrap();
    let scaler = || GradScaler::new().init_scale(2f64.powi(34));
    let scaled = || trainer(&device, 5).mixed_precision_with(scaler());
    let write = |mut trainer: Trainer<Sequential>, name: &str| {
        let mut course = trainer.start(&data, 32).unwrap();
        let mut history = History::default();
        trainer.advance(&mut course, 20, &mut history).unwrap();
        let path = folder.path().join(name);
        trainer.save_checkpoint(&path, &course, &history).unwrap();
        (path, trainer.loss_scale().unwrap())
    };
    let (path, scale) = write(scaled(), "scaled.safetensors");
    assert!(scale.is_some_and(|(_, skipped)| skipped > 0), "{scale:?}");
    let error = trainer(&device, 5).resume(&path).unwrap_err().to_string();
    assert!(error.contains("scaler."), "{error}");
    let mut second = scaled();
    second.resume(&path).unwrap();
    assert_eq!(second.loss_scale().unwrap(), scale);
    let (path, none) = write(trainer(&device, 5), "plain.safetensors");
    assert_eq!(none, None);
    let error = scaled().resume(&path).unwrap_err().to_string();
    assert!(error.contains("scaler.scale"), "{error}");
}

fn two_hundred_steps(trainer: impl Fn(&Device, u64) -> Trainer<Sequential>) {
    for (device, _) in harness::devices() {
        // 3 parts of a pass in each batch: 90 samples in batches of 32.
        let data = drawn::digits(90, 4);
        let mut straight = trainer(&device, 5);
        let mut course = straight.start(&data, 32).unwrap();
        let mut history = History::default();
        straight.advance(&mut course, 200, &mut history).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let mut first = trainer(&device, 5);
        let mut course = first.start(&data, 32).unwrap();
        let mut begun = History::default();
        first.advance(&mut course, 77, &mut begun).unwrap();
        first.save_checkpoint(&path, &course, &begun).unwrap();
        // What the first does after that is lost.
        first.advance(&mut course, 9, &mut begun).unwrap();
        drop(first);

        // Another seed: the checkpoint's counts.
        let mut second = trainer(&device, 99);
        let resumed = second.resume(&path).unwrap();
        assert_eq!((resumed.step, second.steps_done()), (77, 77));
        let mut course = second.start(&data, 32).unwrap();
        let mut rest = History::default();
        second.advance(&mut course, 123, &mut rest).unwrap();
        assert_eq!(history.losses[77..], rest.losses, "on {}", device.info());
        assert!(bits(&mut straight) == bits(&mut second), "on {}", device.info());
    }
}

#[test]
fn sentences_of_several_lengths_resume_in_the_middle_of_an_epoch() {
    let device = Device::cpu(Some(2));
    // Three parts of one length each.
    let length = |n: u32| [3, 7, 12][n as usize % 3];
    let tokens: Vec<Vec<u32>> =
        (0..150).map(|n| (0..length(n)).map(|i| 2 + random(n, i) % 38).collect()).collect();
    let labels = tokens.iter().map(|words| u8::from(words[0] > 20)).collect();
    let data = Sequences { tokens, labels, classes: 2, cut: 0 };
    let new = || {
        let model = TextClassifier::new(40, 8, 8, 2);
        Trainer::with_seed(&device, model, CrossEntropy, Adam::new(1e-2), 2).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let fit = || Fit::epochs(6).batch(16).quiet();
    let mut straight = new();
    let whole = straight.fit(&data, fit()).unwrap();
    // An error in the middle of an epoch, then another process.
    let checkpoints = || Checkpoints::new(folder.path()).every_steps(5);
    let ended = new().fit(&data, fit().checkpoints(checkpoints()).callback(Killer(23)));
    assert!(matches!(ended, Err(TrainError::Callback(_))), "{ended:?}");
    let mut second = new();
    let resumed = second.resume(folder.path()).unwrap();
    assert_eq!(resumed.step % 5, 0);
    assert!(resumed.step >= 15 && resumed.damaged.is_empty(), "{resumed:?}");
    let history = second.fit(&data, fit()).unwrap();
    assert_eq!(timeless(history), timeless(whole));
    assert!(bits(&mut straight) == bits(&mut second));
}

/// Ends training by an error once so many steps are seen.
struct Killer(usize);

impl shadegrad::train::Callback for Killer {
    fn steps(&mut self, _: usize, history: &History) -> shadegrad::train::Answer {
        match history.losses.len() >= self.0 {
            true => Err("killed".into()),
            false => Ok(Control::Continue),
        }
    }
}

#[test]
fn a_stop_writes_a_checkpoint_from_which_the_same_follows() {
    let device = Device::cpu(Some(2));
    let (data, held) = (drawn::digits(200, 1), drawn::digits(50, 2));
    let fit = || Fit::epochs(5).batch(32).validate(&held).validate_every(4).keep_best().quiet();
    let mut straight = trainer(&device, 1);
    let whole = straight.fit(&data, fit()).unwrap();
    assert_eq!(whole.epochs.len(), 5);
    let mut at: Vec<usize> = whole.validations.iter().map(|(at, _)| *at).collect();
    at.dedup();
    assert_eq!(at, [4, 7, 8, 12, 13, 16, 19, 20, 24, 25, 28, 32]);

    let folder = tempfile::tempdir().unwrap();
    // Asked from the first step on: every run does a few steps and stops.
    let asked = Arc::new(AtomicBool::new(true));
    let mut runs = 0;
    let (last, mut trained) = loop {
        let mut next = trainer(&device, 1);
        if runs > 0 {
            next.resume(folder.path()).unwrap();
        }
        let checkpoints = Checkpoints::new(folder.path()).every_steps(1000).keep_last(1);
        let fit = fit().checkpoints(checkpoints).stop_when(asked.clone());
        let history = next.fit(&data, fit).unwrap();
        runs += 1;
        assert!(runs < 100);
        match &history.ended {
            Ended::Asked(Some(path)) => assert!(path.exists()),
            other => {
                assert_eq!(*other, Ended::Done);
                break (history, next);
            }
        }
        assert_eq!(files(folder.path()).len(), 1, "one is kept");
        if history.epochs.len() == 5 {
            // The stop came with the end.
            let mut end = trainer(&device, 1);
            end.resume(folder.path()).unwrap();
            let fit = Fit::epochs(5).batch(32).validate(&held).validate_every(4).keep_best();
            break (end.fit(&data, fit.quiet()).unwrap(), end);
        }
    };
    assert!(runs > 5, "{runs} runs");
    assert_eq!(timeless(last), timeless(whole));
    assert!(bits(&mut straight)[..3] == bits(&mut trained)[..3], "the best weights");
}

fn files(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().to_string()
    };
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn the_last_and_the_best_are_kept_and_damaged_ones_are_passed_over() {
    let device = Device::cpu(Some(2));
    let (data, held) = (drawn::digits(96, 1), drawn::digits(40, 2));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("made/by/it");
    let checkpoints = Checkpoints::new(&place).keep_last(3).keep_best();
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(".part-left-by-a-kill"), "half").unwrap();
    let fit = Fit::epochs(5).batch(32).validate(&held).monitor("loss").quiet();
    let mut first = trainer(&device, 1);
    let history = first.fit(&data, fit.checkpoints(checkpoints)).unwrap();
    let names = ["best", "step-00000009", "step-00000012", "step-00000015"];
    assert_eq!(files(&place), names.map(|name| format!("{name}.safetensors")));
    // The best by loss, as it was validated.
    let losses: Vec<f64> =
        history.epochs.iter().map(|e| e.validation.as_ref().unwrap().loss).collect();
    let best = losses.iter().copied().fold(f64::MAX, f64::min);
    let mut other = trainer(&device, 7);
    // Weights alone: what images are normalised by is a note among them.
    other.load(place.join("best.safetensors")).unwrap();
    assert_eq!(other.evaluate(&held).unwrap().scores.loss, best);
    // A checkpoint is a file of weights, too.
    other.load(place.join("step-00000015.safetensors")).unwrap();
    assert_eq!(other.evaluate(&held).unwrap().scores.loss, losses[4]);

    let newest = place.join("step-00000015.safetensors");
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    let resumed = trainer(&device, 1).resume(&place).unwrap();
    assert_eq!((resumed.step, resumed.damaged.len()), (12, 1));
    assert!(resumed.damaged[0].to_string().contains("step-00000015"), "{:?}", resumed.damaged);

    let refused = |path: &Path, parts: &[&str]| {
        let mut trainer = trainer(&device, 1);
        let before = bits(&mut trainer);
        let error = trainer.resume(path).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(before == bits(&mut trainer), "nothing is changed");
    };
    refused(&place.join("best.safetensors"), &["best.safetensors", "weights only", "`load`"]);
    refused(&place.join("none.safetensors"), &["none.safetensors"]);
    refused(folder.path(), &["no whole checkpoint"]);
    let mut metric = trainer(&device, 1).metric(shadegrad::models::TopK(3));
    let error = metric.resume(&place).unwrap_err().to_string();
    assert!(error.contains("`accuracy`, not `accuracy,top_3_accuracy`"), "{error}");
    let model = Sequential::new().add(Flatten).add(Linear::new(784, 10));
    let mut model = Trainer::new(&device, model, CrossEntropy, AdamW::new(1e-3)).unwrap();
    let error = model.resume(&place).unwrap_err().to_string();
    assert!(error.contains("exp_avg"), "{error}");
    for (batch, count, part) in [(16, 96, "batch size is 16"), (32, 64, "[96], as when")] {
        let mut next = trainer(&device, 1);
        next.resume(&place).unwrap();
        let fit = Fit::epochs(9).batch(batch).quiet();
        let error = next.fit(&drawn::digits(count, 1), fit).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn training_stops_early_where_nothing_gets_better() {
    let device = Device::cpu(Some(1));
    let (data, held) = (drawn::digits(64, 1), drawn::digits(40, 2));
    let mut still = Trainer::new(&device, cnn(), CrossEntropy, Sgd::new(0.0)).unwrap();
    let fit = |patience| Fit::epochs(9).batch(32).validate(&held).early_stopping(patience).quiet();
    // The running statistics move, so the loss does; the class that is said most, too. Training loss can't be monitored.
    let history = still.fit(&data, fit(3).monitor("accuracy")).unwrap();
    let scores = history.epochs.iter().map(|e| e.validation.as_ref().unwrap().accuracy());
    let scores: Vec<f64> = scores.collect();
    let best = scores.iter().copied().fold(0.0, f64::max);
    let at = scores.iter().position(|&score| score == best).unwrap();
    assert_eq!((history.ended, scores.len()), (Ended::Early, at + 4), "{scores:?}");

    let error = |fit: Fit<'_>| {
        let mut trainer = trainer(&device, 1);
        trainer.fit(&data, fit).unwrap_err().to_string()
    };
    let refused = error(fit(3).monitor("f1"));
    assert!(refused.contains("`f1`") && refused.contains("`loss`"), "{refused}");
    let refused = error(Fit::epochs(1).batch(32).early_stopping(2).quiet());
    assert!(refused.contains("early_stopping") && refused.contains("validate"), "{refused}");
}

/// A trainer with everything that remembers.
fn rich(device: &Device) -> Trainer<Sequential> {
    let plateau = || ReduceLROnPlateau::new().patience(1).factor(0.5).threshold(0.5);
    let schedule = SequentialLR::new(plateau(), 9, plateau().every(4));
    Trainer::with_seed(device, cnn(), CrossEntropy, NAdam::new(1e-2), 5)
        .unwrap()
        .schedule(schedule)
        .clip_grad_norm(1.0)
        .accumulate(2)
        .ema(0.9)
        .group(Group::prefix("0").lr_multiplier(0.5))
        .metric(shadegrad::models::TopK(2))
        .mixup(0.4)
}

#[test]
fn accumulated_gradients_averages_and_plateaus_resume() {
    for (device, _) in harness::devices() {
        let data = drawn::digits(90, 4).augmented(Transforms::new().add(RandomCrop { padding: 2 }));
        let held = drawn::digits(40, 2);
        let fit = || Fit::epochs(6).batch(16).validate(&held).quiet();
        let mut straight = rich(&device);
        let whole = straight.fit(&data, fit()).unwrap();
        // What the schedule has come to: it was told of validations.
        let factor = straight.updater().state().into_iter().find(|m| m.name == "schedule.4.factor");
        let factor = straight.session().read_array(&factor.unwrap().variable).unwrap().data[0];
        assert!(factor < 1.0, "{factor}");
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = || Checkpoints::new(folder.path()).every_steps(7).keep_last(9);
        rich(&device).fit(&data, fit().checkpoints(checkpoints())).unwrap();
        for step in [7, 21] {
            let mut second = rich(&device);
            second.resume(folder.path().join(format!("step-{step:08}.safetensors"))).unwrap();
            let history = second.fit(&data, fit()).unwrap();
            assert_eq!(timeless(history), timeless(whole.clone()), "from step {step}");
            assert!(bits(&mut straight) == bits(&mut second), "on {}", device.info());
        }
        // Another optimizer has no place for what this one remembers, nor this one without its averages.
        let path = folder.path().join("step-00000007.safetensors");
        let other = Trainer::new(&device, cnn(), CrossEntropy, Sgd::new(0.1)).unwrap();
        let error = other.metric(shadegrad::models::TopK(2)).resume(&path).unwrap_err().to_string();
        assert!(error.contains("no state of this trainer's optimizer"), "{error}");
    }
}

#[test]
fn a_run_that_a_number_of_steps_cut_short_goes_on_and_one_that_stopped_early_does_not() {
    let device = Device::cpu(Some(2));
    let (data, held) = (drawn::digits(90, 4), drawn::digits(40, 2));
    let fit = || Fit::epochs(5).batch(16).validate(&held).quiet();
    let mut straight = trainer(&device, 1);
    let whole = straight.fit(&data, fit()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let part = fit().steps(14).checkpoints(Checkpoints::new(folder.path()));
    assert_eq!(trainer(&device, 1).fit(&data, part).unwrap().losses.len(), 14);
    let mut second = trainer(&device, 1);
    assert_eq!(second.resume(folder.path()).unwrap().step, 14);
    // The wrong batch is refused and changes nothing.
    assert!(second.fit(&data, Fit::epochs(5).batch(8).quiet()).is_err());
    let history = second.fit(&data, fit()).unwrap();
    assert_eq!(history.losses, whole.losses);
    assert!(bits(&mut straight) == bits(&mut second));

    let folder = tempfile::tempdir().unwrap();
    let patient = || fit().monitor("loss").early_stopping(1).keep_best();
    let still = || Trainer::new(&device, cnn(), CrossEntropy, Sgd::new(0.0)).unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let mut first = still();
    let ended = first.fit(&data, patient().checkpoints(checkpoints)).unwrap();
    if ended.ended == Ended::Early {
        let mut second = still();
        second.resume(folder.path()).unwrap();
        let history = second.fit(&data, patient()).unwrap();
        assert_eq!(timeless(history), timeless(ended));
        assert_eq!(second.weights().unwrap(), first.weights().unwrap());
    }
}

#[test]
fn no_run_writes_over_another_and_nothing_poisoned_is_written() {
    let device = Device::cpu(Some(1));
    let data = drawn::digits(64, 1);
    let folder = tempfile::tempdir().unwrap();
    let fit = || {
        let checkpoints = Checkpoints::new(folder.path()).every_steps(1).keep_last(1);
        Fit::epochs(2).batch(16).quiet().checkpoints(checkpoints)
    };
    trainer(&device, 1).fit(&data, fit()).unwrap();
    let before = files(folder.path());
    let error = trainer(&device, 2).fit(&data, fit()).unwrap_err().to_string();
    assert!(error.contains("step-00000008") && error.contains("further"), "{error}");
    assert_eq!(files(folder.path()), before);
    // An update that is too large: the checkpoint before it stays.
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path()).every_steps(1).keep_last(1);
    let schedule = WarmUp { steps: 1, then: ExponentialLR::new(1e20) };
    let mut wild = Trainer::new(&device, cnn(), CrossEntropy, Sgd::new(1e-3)).unwrap();
    wild = wild.schedule(schedule);
    let fit = Fit::epochs(9).batch(16).quiet().checkpoints(checkpoints);
    let error = wild.fit(&data, fit).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    let mut resumed = Trainer::new(&device, cnn(), CrossEntropy, Sgd::new(1e-3)).unwrap();
    resumed.resume(folder.path()).unwrap();
    let weights = resumed.weights().unwrap();
    assert!(weights.tensors.values().all(|(_, data)| data.iter().all(|v| v.is_finite())));
}

#[test]
fn hostile_checkpoints_are_refused() {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView};
    let device = Device::cpu(Some(1));
    let data = drawn::digits(64, 1);
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path()).every_steps(3).keep_last(1);
    let fit = Fit::epochs(2).batch(16).quiet().checkpoints(checkpoints);
    trainer(&device, 1).fit(&data, fit).unwrap();
    let path = folder.path().join(newest(folder.path()));
    let whole = std::fs::read(&path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&whole).unwrap();
    let notes = metadata.metadata().clone();
    let parsed = SafeTensors::deserialize(&whole).unwrap();
    let huge = u64::MAX.to_le_bytes();
    for (name, shape, bytes) in [
        ("shadegrad/step", vec![0], vec![]),
        ("shadegrad/step", vec![1], 4u64.to_le_bytes().to_vec()),
        ("shadegrad/epoch_start", vec![1], huge.to_vec()),
        ("shadegrad/place", vec![4], [huge; 4].concat()),
        ("shadegrad/turns", vec![1], huge.to_vec()),
        ("shadegrad/done", vec![1], huge.to_vec()),
    ] {
        let mut views: Vec<(&str, TensorView<'_>)> = parsed.iter().collect();
        views.retain(|(other, _)| *other != name);
        views.push((name, TensorView::new(Dtype::U64, shape, &bytes).unwrap()));
        std::fs::write(&path, safetensors::serialize(views, notes.clone()).unwrap()).unwrap();
        let mut trainer = trainer(&device, 1);
        let error = trainer.resume(&path).unwrap_err().to_string();
        assert!(error.contains("step-0"), "{name}: {error}");
        assert_eq!(trainer.steps_done(), 0);
    }
}

fn newest(folder: &Path) -> String {
    files(folder).pop().unwrap()
}

/// The program that is killed: trains in the folder that the environment names, from the newest checkpoint on.
#[test]
#[ignore = "a program that other tests start"]
fn child() {
    let Some(folder) = std::env::var_os("SHADEGRAD_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let (data, mut trainer) = (drawn::digits(90, 4), trainer(&Device::cpu(Some(1)), 5));
    if !files(folder).iter().all(|name| name.starts_with(".part-")) {
        trainer.resume(folder).unwrap();
    }
    let mut checkpoints = Checkpoints::new(folder).every_steps(3);
    if std::env::var_os("SHADEGRAD_TEST_GO_ON").is_some() {
        checkpoints = checkpoints.go_on_without();
    }
    let epochs = std::env::var("SHADEGRAD_TEST_EPOCHS").unwrap().parse().unwrap();
    let fit = Fit::epochs(epochs).batch(32).checkpoints(checkpoints).quiet();
    match trainer.fit(&data, fit) {
        Ok(history) => println!("failures: {:?}", history.failures),
        Err(error) => panic!("{error}"),
    }
}

fn start(folder: &Path, epochs: usize, shell: &str) -> Command {
    let mut command = Command::new("sh");
    let program = std::env::current_exe().unwrap();
    command.arg("-c").arg(format!("{shell} exec \"$0\" \"$@\"")).arg(program);
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    command.env("SHADEGRAD_TEST_FOLDER", folder).env("SHADEGRAD_TEST_EPOCHS", epochs.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
#[cfg(unix)]
fn a_kill_at_any_moment_leaves_a_whole_checkpoint() {
    const EPOCHS: usize = 2000;
    let folder = tempfile::tempdir().unwrap();
    let (mut steps, mut seen) = (0, 0);
    for number in 0..100u32 {
        let mut child = start(folder.path(), EPOCHS, "").spawn().unwrap();
        // From before the first step to dozens of checkpoints later.
        std::thread::sleep(Duration::from_millis(u64::from(20 + random(7, number) % 180)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "run {number} was to be killed");
        let text = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(!text.contains("panicked"), "run {number}: {text}");
        let mut trainer = trainer(&Device::cpu(Some(1)), 5);
        if let Ok(resumed) = trainer.resume(folder.path()) {
            assert!(resumed.damaged.is_empty(), "run {number}: {:?}", resumed.damaged);
            assert!(resumed.step >= steps, "run {number} is back at step {}", resumed.step);
            (steps, seen) = (resumed.step, seen + 1);
        }
    }
    assert!(seen > 50 && steps > 50, "{seen} of the runs left a checkpoint, of {steps} steps");
    // The interrupted run is where one that was never interrupted is.
    let data = drawn::digits(90, 4);
    let mut straight = trainer(&Device::cpu(Some(1)), 5);
    let mut course = straight.start(&data, 32).unwrap();
    straight.advance(&mut course, steps, &mut History::default()).unwrap();
    let mut resumed = trainer(&Device::cpu(Some(1)), 5);
    resumed.resume(folder.path()).unwrap();
    assert!(bits(&mut straight) == bits(&mut resumed), "after {steps} steps");
}

#[test]
#[cfg(unix)]
fn a_full_disk_leaves_the_old_checkpoint_and_ends_training_or_not_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(folder.path(), 3, "").output().unwrap();
    assert!(first.status.success(), "{first:?}");
    let before = files(folder.path());
    assert_eq!(before.len(), 2);
    let contents = || {
        files(folder.path())
            .iter()
            .map(|n| std::fs::read(folder.path().join(n)).unwrap())
            .collect::<Vec<_>>()
    };
    let kept = contents();
    // No file may grow beyond 4 KiB, as on a disk with no more room.
    let full = "trap '' XFSZ; ulimit -f 8;";
    let stopped = start(folder.path(), 6, full).output().unwrap();
    let text = String::from_utf8_lossy(&stopped.stderr);
    assert!(!stopped.status.success() && text.contains("step-0000001"), "{text}");
    assert_eq!((files(folder.path()), contents()), (before.clone(), kept.clone()));

    let mut went_on = start(folder.path(), 6, full);
    let went_on = went_on.env("SHADEGRAD_TEST_GO_ON", "1").output().unwrap();
    let text = String::from_utf8_lossy(&went_on.stdout);
    assert!(went_on.status.success(), "{went_on:?}");
    assert!(text.contains("failures: [(12, "), "{text}");
    assert_eq!((files(folder.path()), contents()), (before, kept));
}
