//! Every stage of a small training step as text, compared with what is kept in `tests/golden`.
//! `UPDATE=1 cargo test --test dumps` writes what the compiler says now.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use shadegrad::device::{Limits, Variant, render, render_shared};
use shadegrad::graph::{Options, compile};
use shadegrad::models::mse_loss;
use shadegrad::prelude::*;
use std::path::Path;

#[test]
fn the_stages_of_a_small_step_are_as_kept() {
    let linear = Linear::new(3, 2);
    let parameters = Parameters::new(&linear, 0).unwrap();
    let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
    let graph = Graph::training(&seed, &step);
    let x = graph.variable(&Variable::new("x", &[4, 3], DType::F32, Init::Full(1.0)));
    let y = linear.forward(&x).relu();
    let loss = mse_loss(&y, &y.full_like(0.5), Reduction::Mean);
    Updater::new(&parameters, Sgd::new(0.1).momentum(0.9)).record(&graph, &parameters, &loss);
    graph.assign(&step, &(graph.step() + 1.0));
    let compiled =
        compile(&graph.nodes(&[&loss]).unwrap(), &Limits::WEBGPU, &Options::default()).unwrap();
    let mut files = compiled.dump.clone();
    for (number, group) in compiled.program.groups().into_iter().enumerate() {
        let (limits, variant) = (Limits::WEBGPU, Variant::default());
        let rendered = match &compiled.program.kernels[group] {
            [kernel] => render(kernel, &limits, &variant).unwrap(),
            kernels => render_shared(kernels, &limits, &variant).unwrap().unwrap(),
        };
        files.push((format!("dispatch-{number}.wgsl"), rendered.source));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/step");
    for (name, text) in &files {
        let path = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        assert_eq!(&kept, text, "{name} has changed; UPDATE=1 keeps the new one");
    }
    let kept = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(kept, files.len(), "there are files in {} that nothing writes", folder.display());
}
