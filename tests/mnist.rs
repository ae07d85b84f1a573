//! The main job on real data, for a machine that has it: minutes each, so they run when asked for:
//! `SHADEGRAD_MNIST=DIR cargo test --release --test mnist -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::Device;
use shadegrad::prelude::*;
use shadegrad::train::Resident;

const BATCH: usize = 64;

fn data() -> (Images, Images) {
    let folder =
        std::env::var("SHADEGRAD_MNIST").expect("SHADEGRAD_MNIST names the folder with MNIST");
    (Mnist::train(&folder).unwrap(), Mnist::test(&folder).unwrap())
}

fn trainer(device: &Device) -> Trainer<Cnn> {
    Trainer::new(device, Cnn::new([1, 28, 28], 10), CrossEntropy, Adam::new(1e-3)).unwrap()
}

fn losses(device: &Device, data: &Images, steps: usize) -> Vec<f64> {
    let fit = Fit::epochs(1).batch(BATCH).steps(steps).quiet();
    trainer(device).fit(data, fit).unwrap().losses.into_iter().map(f64::from).collect()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
#[ignore = "minutes, and needs MNIST and an adapter"]
fn the_adapter_follows_the_cpu_as_closely_as_the_cpu_follows_f64() {
    let (train, _) = data();
    let cpu = losses(&Device::cpu(None), &train, 200);
    let twenty = trainer(&Device::cpu(None));
    let nodes = twenty.record(&Resident::new(&train), BATCH).nodes(&[]).unwrap();
    let ring = nodes.variables.values().find(|v| v.name() == "ring").unwrap().id();
    let mut contents = nodes.initial();
    (0..20).for_each(|_| _ = nodes.interpret(&mut contents));
    let exact = contents[&ring].data[..20].to_vec();
    let own = apart(&cpu[..20], &exact);
    println!("first 20 losses: f32 on the CPU and f64 differ by at most {own:.3e}");
    for step in 0..20 {
        println!("  step {step}: {:.7} in f32, {:.7} in f64", cpu[step], exact[step]);
    }
    let device = harness::adapter().expect("an adapter");
    let adapter = losses(&device, &train, 200);
    let between = apart(&cpu[..20], &adapter[..20]);
    println!("first 20 losses: CPU and {} differ by at most {between:.3e}", device.info());
    assert!(between <= 10.0 * own, "{between} is more than ten times {own}");
    let mean = |losses: &[f64]| losses[150..200].iter().sum::<f64>() / 50.0;
    let (a, b) = (mean(&cpu), mean(&adapter));
    println!("mean loss of steps 150 to 200: {a:.5} on the CPU, {b:.5} there");
    assert!((a / b - 1.0).abs() <= 0.05, "{a} and {b}");
}

#[test]
#[ignore = "minutes, and needs MNIST"]
fn the_cnn_reaches_99_percent() {
    let (train, test) = data();
    let mut found: Vec<f64> = (0..3)
        .map(|seed| {
            let cnn = Cnn::new([1, 28, 28], 10);
            let adam = Adam::new(1e-3);
            let mut trainer =
                Trainer::with_seed(&Device::cpu(None), cnn, CrossEntropy, adam, seed).unwrap();
            trainer.fit(&train, Fit::epochs(5).batch(BATCH).quiet()).unwrap();
            let accuracy = trainer.evaluate(&test).unwrap().scores.accuracy();
            println!("seed {seed}: {:.2} %", accuracy * 100.0);
            accuracy
        })
        .collect();
    found.sort_by(f64::total_cmp);
    assert!(found[1] >= 0.99, "{found:?}");
}
