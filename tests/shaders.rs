//! Every kernel as a shader: valid, and translatable for Vulkan, Metal and DX12, under the limits
//! of several devices.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use naga::back::{hlsl, msl, spv};
use naga::valid::{
    Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator,
};
use shadegrad::device::{Device, Kernel, Limits, Variant, render, render_whole};
use shadegrad::graph::ops::Op;
use shadegrad::graph::{Graph, Options, Tensor, check, compile};
use shadegrad::prelude::*;
use shadegrad::train::{Resident, data::drawn};
use std::collections::BTreeSet;

/// The kernels of every operation's samples and of a whole training step.
fn kernels(limits: &Limits, splits: Option<usize>) -> Vec<Kernel> {
    let graph = Graph::new();
    let outputs: Vec<Tensor> =
        Op::samples().iter().map(|s| check::record(&graph, s, 1).0).collect();
    let nodes = graph.nodes(&outputs.iter().collect::<Vec<_>>()).unwrap();
    let options = Options { splits, ..Options::default() };
    let mut kernels = compile(&nodes, limits, &options).unwrap().program.kernels;
    let device = Device::null(limits.clone());
    let data = Resident::new(&drawn::digits(64, 0));
    for mixed in [false, true] {
        let model = Sequential::new()
            .add(Conv2d::new(1, 4, 3).padding(1))
            .add(Relu)
            .add(MaxPool2d::new(2))
            .add(AvgPool2d::new(2))
            .add(Flatten)
            .add(Dropout::new(0.5))
            .add(Linear::new(4 * 7 * 7, 10));
        let trainer = Trainer::new(&device, model, CrossEntropy, AdamW::new(1e-3)).unwrap();
        let trainer = trainer.clip_grad_norm(1.0);
        let mut trainer = if mixed { trainer.mixed_precision() } else { trainer };
        kernels.extend(trainer.compile(&data, 8).unwrap().compiled().program.kernels.clone());
    }
    kernels
}

fn translate(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    spv::write_vec(module, info, &spv::Options::default(), None).map_err(|e| text(&e))?;
    let lang_version = (2, 4);
    let msl_options =
        msl::Options { fake_missing_bindings: true, lang_version, ..Default::default() };
    msl::write_string(module, info, &msl_options, &msl::PipelineOptions::default())
        .map_err(|e| text(&e))?;
    let mut out = String::new();
    let shader_model = hlsl::ShaderModel::V6_0;
    let hlsl_options =
        hlsl::Options { fake_missing_bindings: true, shader_model, ..Default::default() };
    hlsl::Writer::new(&mut out, &hlsl_options, &hlsl::PipelineOptions::default())
        .write(module, info, None)
        .map_err(|e| text(&e))?;
    Ok(())
}

/// Checks that a shader is valid and can be translated, and gives the size of its workgroups.
fn check_shader(source: &str, name: &str) -> usize {
    let fail =
        |what: &str, reason: String| -> ! { panic!("{what} of `{name}`: {reason}\n{source}") };
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|e| fail("parsing", e.emit_to_string(source)));
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| fail("validation", format!("{e:?}")));
    translate(&module, &info).unwrap_or_else(|e| fail("translation", e));
    module.entry_points[0].workgroup_size.iter().product::<u32>() as usize
}

#[test]
fn whole_programs_are_valid_and_translate() {
    for (name, limits) in Limits::profiles().into_iter().filter(|(name, _)| *name != "cpu") {
        // As many buffers as GPUs bind, which WebGPU doesn't promise.
        let limits = Limits { bindings: 32, ..limits };
        let variant = Variant { whole: Some(true), ..Variant::default() };
        let mut count = 0;
        for sample in Op::samples() {
            let graph = Graph::new();
            let (output, _) = check::record(&graph, &sample, 1);
            let nodes = graph.nodes(&[&output]).unwrap();
            let program = compile(&nodes, &limits, &Options::default()).unwrap().program;
            let Some(whole) = variant.whole(&program, &limits) else { continue };
            let source = render_whole(&program, whole, &limits, &variant).unwrap().source;
            let size = check_shader(&source, &format!("{:?} for {name}", sample.op));
            assert_eq!(size, if name == "lavapipe" { 64 } else { 256 });
            count += 1;
        }
        assert!(count > 200, "only {count} samples can be one dispatch on {name}");
        let device = Device::null(limits.clone());
        let data = Resident::new(&drawn::digits(64, 0));
        let model = Sequential::new().add(Flatten).add(Dropout::new(0.5)).add(Linear::new(784, 10));
        let mut trainer = Trainer::new(&device, model, CrossEntropy, Adam::new(1e-3)).unwrap();
        let program = trainer.compile(&data, 8).unwrap().compiled().program.clone();
        let whole = variant.whole(&program, &limits).unwrap();
        let source = render_whole(&program, whole, &limits, &variant).unwrap().source;
        check_shader(&source, name);
        let barriers = source.matches("storageBarrier();").count();
        assert_eq!(barriers, program.kernels.len(), "a barrier behind each kernel");
    }
}

#[test]
fn every_kernel_is_valid_and_translates() {
    let mut seen = BTreeSet::new();
    let mut families = BTreeSet::new();
    let parts = ("webgpu in parts", Limits { dispatch_operations: 1, ..Limits::WEBGPU });
    let profiles = Limits::profiles().into_iter().chain([parts]);
    for (name, limits) in profiles.filter(|(name, _)| *name != "cpu") {
        for (tiled, grouped, splits) in [
            (None, None, None),
            (Some(true), Some(true), Some(3)),
            (Some(false), Some(false), None),
        ] {
            let vectors = tiled.map(|tiled| !tiled);
            let variant = Variant { tiled, grouped, vectors, ..Variant::default() };
            for kernel in kernels(&limits, splits) {
                families.insert(kernel.body.family());
                let rendered = render(&kernel, &limits, &variant).unwrap();
                if !seen.insert(rendered.source.clone()) {
                    continue;
                }
                let size = check_shader(&rendered.source, &format!("{} for {name}", kernel.label));
                assert!(size <= limits.invocations);
                assert!(rendered.groups.iter().all(|&g| (g as usize) <= limits.groups));
            }
        }
    }
    assert_eq!(families.len(), 10, "{families:?}");
    assert!(seen.iter().any(|source| source.contains("subgroupBroadcast")), "no shared loads");
    assert!(seen.iter().any(|source| source.starts_with("enable f16;")), "no stored halves");
    assert!(seen.iter().any(|source| source.contains("left4(")), "no vectors");
    assert!(seen.iter().any(|source| source.contains("number.x % 4u")), "nothing in four parts");
    assert!(seen.len() > 300, "only {} shaders", seen.len());
}

#[test]
fn large_grids_are_folded() {
    let graph = Graph::new();
    let x = graph.variable(&Variable::new("x", &[65_536 * 64 + 1], DType::F32, Init::Full(1.0)));
    let nodes = graph.nodes(&[&(&x + 1.0)]).unwrap();
    let program = compile(&nodes, &Limits::WEBGPU, &Options::default()).unwrap().program;
    let rendered = render(&program.kernels[0], &Limits::WEBGPU, &Variant::default()).unwrap();
    assert_eq!(rendered.groups, [65_535, 2, 1]);
}
