//! The compiled training step as exact numbers: dispatches, bytes, and that replaying it creates
//! nothing.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Device, DeviceClass, Limits};
use shadegrad::graph::{Loaded, Report};
use shadegrad::prelude::*;
use shadegrad::train::{Resident, data::drawn};

fn cnn_step(device: &Device, batch: usize) -> (Trainer<Cnn>, Loaded) {
    let data = Resident::new(&drawn::digits(256, 3));
    let cnn = Cnn::new([1, 28, 28], 10);
    let mut trainer = Trainer::new(device, cnn, CrossEntropy, Adam::new(1e-3)).unwrap();
    let step = trainer.compile(&data, batch).unwrap();
    (trainer, step)
}

fn report(profile: &str) -> Report {
    let device = Device::open(&format!("null:{profile}")).unwrap();
    cnn_step(&device, 64).1.report().clone()
}

#[test]
fn the_cnn_step_is_21_dispatches_and_its_memory_is_near_the_bound() {
    // GPUs cut long sums into parts, a kernel more for each, and some small kernels share a dispatch.
    let [cpu, small, large] = [(21, 19_548_464), (23, 19_474_480), (21, 19_548_464)];
    for (profile, (dispatches, peak)) in
        [("cpu", cpu), ("lavapipe", cpu), ("webgpu", small), ("h200", large)]
    {
        let report = report(profile);
        assert_eq!(report.counts.dispatches, dispatches, "on {profile}");
        assert_eq!(report.peak_bytes, peak, "on {profile}");
        assert_eq!(report.lower_bound, 19_474_472, "on {profile}");
    }
}

#[test]
fn a_product_of_the_step_is_counted_exactly() {
    // Two operations for each multiplication with its addition, forward and twice backward, but
    // for the input gradient of the first layer.
    let conv1 = 2 * 64 * 32 * 28 * 28 * 9;
    let conv2 = 2 * 64 * 64 * 14 * 14 * 288;
    let linear = 2 * 64 * (3136 * 128 + 128 * 10);
    assert_eq!(report("cpu").counts.flops, 2 * conv1 + 3 * conv2 + 3 * linear);
}

#[test]
fn the_null_device_and_the_adapter_count_the_same() {
    let Some(device) = harness::adapter() else {
        return;
    };
    let null = Device::null(device.limits().clone());
    let (mut trainer, mut step) = cnn_step(&device, 4);
    let (mut null_trainer, mut null_step) = cnn_step(&null, 4);
    let before = (device.counters(), null.counters());
    step.run(3).unwrap();
    null_step.run(3).unwrap();
    trainer.session().device().synchronize().unwrap();
    null_trainer.session().device().synchronize().unwrap();
    let after = (device.counters(), null.counters());
    let dispatched = after.0.dispatches - before.0.dispatches;
    assert_eq!(dispatched, after.1.dispatches - before.1.dispatches);
    assert_eq!(dispatched, 3 * step.report().counts.dispatches as u64);
    assert_eq!(before.0.buffers, before.1.buffers, "both create the same buffers");
}

#[test]
fn a_replayed_step_creates_nothing_and_writes_nothing() {
    for (device, _) in harness::devices() {
        let (mut trainer, mut step) = cnn_step(&device, 4);
        step.run(2).unwrap();
        trainer.session().device().synchronize().unwrap();
        let before = device.counters();
        step.run(3).unwrap();
        trainer.session().device().synchronize().unwrap();
        let after = device.counters();
        let unchanged = |c: shadegrad::device::Counters| {
            (c.buffers, c.bind_groups, c.pipelines, c.writes, c.reads)
        };
        assert_eq!(unchanged(after), unchanged(before), "on {}", device.info());
        assert!(after.dispatches > before.dispatches);
    }
}

#[test]
fn kernels_that_bind_alike_share_a_bind_group() {
    let Some(device) = harness::adapter() else { return };
    let (_, step) = cnn_step(&device, 4);
    let (groups, dispatches) = (device.counters().bind_groups, step.report().counts.dispatches);
    assert!(groups as usize <= dispatches / 2, "{groups} bind groups for {dispatches} dispatches");
}

#[test]
fn a_bare_loop_over_the_list_computes_what_replaying_does() {
    let Some(device) = harness::adapter() else { return };
    let (mut trainer, mut step) = cnn_step(&device, 4);
    let (mut bare_trainer, mut bare) = cnn_step(&device, 4);
    step.run(2).unwrap();
    assert!(bare.run_bare().unwrap() && bare.run_bare().unwrap());
    let variables = step.compiled().variables.iter().zip(&bare.compiled().variables);
    for (variable, same) in variables {
        let bits = trainer.session().read(variable).unwrap();
        assert!(bits == bare_trainer.session().read(same).unwrap(), "{}", variable.name());
    }
    let (_, mut none) = cnn_step(&Device::null(Limits::WEBGPU), 4);
    assert!(!none.run_bare().unwrap(), "there is nothing to be bare on the null device");
}

#[test]
fn losses_that_come_back_late_create_nothing_after_the_first() {
    for (device, _) in harness::devices() {
        let data = drawn::digits(64, 5);
        let mlp = Mlp::new(&[784, 16, 10]);
        let mut trainer = Trainer::new(&device, mlp, CrossEntropy, Adam::new(1e-3)).unwrap();
        trainer.fit(&data, Fit::epochs(1).batch(8).quiet()).unwrap();
        let before = device.counters().buffers;
        let again = trainer.fit(&data, Fit::epochs(6).batch(8).quiet()).unwrap();
        assert_eq!(again.losses.len(), 48);
        // A second fit uploads its data and makes its own scratch memory: three buffers.
        assert!(
            device.counters().buffers - before <= 4,
            "{} buffers",
            device.counters().buffers - before
        );
    }
}

#[test]
fn profiles_differ_in_class() {
    let classes: Vec<DeviceClass> = Limits::profiles().iter().map(|(_, l)| l.class).collect();
    assert_eq!(classes.len(), 4);
    assert!(Limits::profile("webgpu").unwrap().bindings == 8);
    assert!(Limits::profile("nonsense").is_none());
}

#[test]
fn the_same_recording_compiles_to_the_same_text() {
    let device = Device::null(Limits::WEBGPU);
    let texts: Vec<String> = (0..2)
        .map(|_| {
            cnn_step(&device, 8).1.compiled().dump.iter().map(|(_, text)| text.clone()).collect()
        })
        .collect();
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn equal_kernels_compile_once_and_can_be_timed() {
    let Some(device) = harness::adapter() else { return };
    let (_, mut first) = cnn_step(&device, 4);
    let compiled = device.counters().pipelines;
    assert!(compiled > 0);
    let (_, _second) = cnn_step(&device, 4);
    assert_eq!(device.counters().pipelines, compiled, "the same step again compiles nothing");
    let times = first.profile().unwrap();
    assert_eq!(times.len(), first.report().counts.dispatches);
    assert!(times.iter().all(|t| !t.label.is_empty() && t.milliseconds >= 0.0));
    assert!(times.iter().any(|t| t.milliseconds > 0.0), "{times:?}");
}
