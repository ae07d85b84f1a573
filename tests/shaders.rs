//! Every kernel as a shader: valid, and translatable for Vulkan, Metal and DX12, under the limits
//! of several devices.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use naga::back::{hlsl, msl, spv};
use naga::valid::{
    Capabilities, FunctionInfo, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags,
    Validator,
};
use shadegrad::bench;
use shadegrad::device::{
    Algorithm, Device, DeviceClass, Kernel, Limits, MatmulPrecision, Matrices, Tile, Variant,
    render, render_shared, render_whole,
};
use shadegrad::graph::ops::Op;
use shadegrad::graph::{Graph, Options, Tensor, check, compile};
use shadegrad::prelude::*;
use shadegrad::train::{Resident, data::drawn};
use std::collections::BTreeSet;

/// The kernels of every operation's samples and of a whole training step.
fn kernels(limits: &Limits, splits: Option<usize>) -> Vec<Kernel> {
    let graph = Graph::new();
    let mut outputs: Vec<Tensor> =
        Op::samples().iter().map(|s| check::record(&graph, s, 1).0).collect();
    // Contractions that are large enough for several blocks of rows in a subgroup.
    for rows in [268, 1028] {
        let matrix = |shape: &[usize]| {
            graph.variable(&Variable::new("matrix", shape, DType::F32, Init::Full(1.0)))
        };
        outputs.push(matrix(&[rows, 1024]).matmul(&matrix(&[1024, 512])));
    }
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

/// To SPIR-V and MSL, which it returns.
fn translate(module: &naga::Module, info: &ModuleInfo) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    spv::write_vec(module, info, &spv::Options::default(), None).map_err(|e| text(&e))?;
    let lang_version = (2, 4);
    let msl_options =
        msl::Options { fake_missing_bindings: true, lang_version, ..Default::default() };
    let (msl, _) = msl::write_string(module, info, &msl_options, &msl::PipelineOptions::default())
        .map_err(|e| text(&e))?;
    Ok(msl)
}

fn translate_to_hlsl(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut out = String::new();
    let shader_model = hlsl::ShaderModel::V6_0;
    let hlsl_options =
        hlsl::Options { fake_missing_bindings: true, shader_model, ..Default::default() };
    hlsl::Writer::new(&mut out, &hlsl_options, &hlsl::PipelineOptions::default())
        .write(module, info, None)
        .map_err(|e| text(&e))?;
    Ok(())
}

/// A shader as naga reads it, and what it finds.
fn validated(
    source: &str,
    capabilities: Capabilities,
) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| format!("{e:?}"))?;
    Ok((module, info))
}

/// Whether a block stores a part of a vector that other invocations see: some devices load all of it, change the part and
/// store all of it, over what others store meanwhile.
fn stores_parts(block: &naga::Block, module: &naga::Module, info: &FunctionInfo) -> bool {
    let inside = |block: &naga::Block| stores_parts(block, module, info);
    block.iter().any(|statement| match statement {
        naga::Statement::Block(block) => inside(block),
        naga::Statement::If { accept, reject, .. } => inside(accept) || inside(reject),
        naga::Statement::Switch { cases, .. } => cases.iter().any(|case| inside(&case.body)),
        naga::Statement::Loop { body, continuing, .. } => inside(body) || inside(continuing),
        naga::Statement::Store { pointer, .. } => matches!(
            info[*pointer].ty.inner_with(&module.types),
            naga::TypeInner::ValuePointer {
                size: None,
                space: naga::AddressSpace::WorkGroup | naga::AddressSpace::Storage { .. },
                ..
            }
        ),
        _ => false,
    })
}

/// What a shader is known by once it has been checked.
struct Checked {
    /// Invocations of a workgroup.
    invocations: usize,
    /// Bytes of their memory.
    workgroup_bytes: usize,
    /// Whether parts of vectors are stored that other invocations see.
    stores_parts: bool,
}

/// The loops of a shader, but for those of functions that all shaders have, and how many of them begin at what compilers don't know.
fn rolled(source: &str) -> [usize; 2] {
    let own = source.split("fn zero(").next().unwrap();
    let rolled = [" + zero(); ", " + group.z; "].map(|end| own.matches(end).count());
    [rolled.iter().sum(), own.matches("for (var ").count()]
}

/// Checks that a shader is valid and can be translated.
fn check_shader(source: &str, name: &str) -> Checked {
    let fail =
        |what: &str, reason: String| -> ! { panic!("{what} of `{name}`: {reason}\n{source}") };
    assert!(source.contains(") {\n    opaque_zero = group.z;\n"), "{name}: a zero that is known");
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16;
    let (module, info) = validated(source, capabilities).unwrap_or_else(|e| fail("validation", e));
    translate(&module, &info).unwrap_or_else(|e| fail("translation", e));
    translate_to_hlsl(&module, &info).unwrap_or_else(|e| fail("translation", e));
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let main = (&module.entry_points[0].function, info.get_entry_point(0));
    let mut all = functions.chain([main]);
    Checked {
        invocations: module.entry_points[0].workgroup_size.iter().product::<u32>() as usize,
        workgroup_bytes: workgroup_bytes_of(&module),
        stores_parts: all.any(|(function, info)| stores_parts(&function.body, &module, info)),
    }
}

#[test]
fn whole_programs_are_valid_and_translate() {
    for (name, limits) in Limits::profiles().into_iter().filter(|(name, _)| *name != "cpu") {
        // As many buffers as GPUs bind, which WebGPU doesn't promise.
        let limits = Limits { bindings: 32, ..limits };
        let variant = Variant::default();
        let options = Options { one_dispatch: true, ..Options::default() };
        let mut count = 0;
        for sample in Op::samples() {
            let graph = Graph::new();
            let (output, _) = check::record(&graph, &sample, 1);
            let nodes = graph.nodes(&[&output]).unwrap();
            let program = compile(&nodes, &limits, &options).unwrap().program;
            let Some(whole) = program.whole(&limits) else { continue };
            let source = render_whole(&program, whole, &limits, &variant).unwrap().source;
            let checked = check_shader(&source, &format!("{:?} for {name}", sample.op));
            assert_eq!(checked.invocations, if name == "lavapipe" { 64 } else { 256 });
            count += 1;
        }
        assert!(count > 200, "only {count} samples can be one dispatch on {name}");
        let device = Device::null(limits.clone());
        let data = Resident::new(&drawn::digits(64, 0));
        let model = Sequential::new().add(Flatten).add(Dropout::new(0.5)).add(Linear::new(784, 10));
        let trainer = Trainer::new(&device, model, CrossEntropy, Adam::new(1e-3)).unwrap();
        let mut trainer = trainer.one_dispatch();
        let program = trainer.compile(&data, 8).unwrap().compiled().program.clone();
        let whole = program.whole(&limits).unwrap();
        let source = render_whole(&program, whole, &limits, &variant).unwrap().source;
        check_shader(&source, name);
        let [rolled, loops] = rolled(&source);
        // But for the one over steps, whose number isn't known.
        assert_eq!(rolled, if name == "lavapipe" { loops - 1 } else { 0 }, "{source}");
        let barriers = source.matches("storageBarrier();").count();
        assert_eq!(barriers, program.kernels.len(), "a barrier behind each kernel");
    }
}

#[test]
fn kernels_that_share_a_dispatch_are_valid_and_translate() {
    let mut count = 0;
    for (name, limits) in Limits::profiles() {
        for training in bench::TRAINING {
            for mixed in [false, true].into_iter().filter(|mixed| !mixed || limits.f16) {
                let step = bench::Step { mixed, ..bench::Step::default() };
                let device = Device::null(limits.clone());
                let (loaded, _) = bench::program(training.name, &device, step).unwrap().unwrap();
                let program = &loaded.compiled().program;
                for (group, _) in program.shared() {
                    let kernels = &program.kernels[group.clone()];
                    let rendered = render_shared(kernels, &limits, &Variant::default()).unwrap();
                    let rendered = rendered.expect("what is counted is possible");
                    let about = format!("{group:?} of {} for {name}", training.name);
                    let checked = check_shader(&rendered.source, &about);
                    assert!(checked.invocations <= limits.invocations, "{about}");
                    assert!(checked.workgroup_bytes <= limits.workgroup_bytes, "{about}");
                    assert!(!checked.stores_parts, "{about}\n{}", rendered.source);
                    assert!(rendered.bindings.len() <= limits.bindings, "{about}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 50, "only {count} dispatches are shared");
}

#[test]
fn every_kernel_is_valid_and_translates() {
    let mut seen = BTreeSet::new();
    let mut families = BTreeSet::new();
    let parts = ("webgpu in parts", Limits { dispatch_operations: 1, ..Limits::WEBGPU });
    let profiles = Limits::profiles().into_iter().chain([parts]);
    for (name, limits) in profiles.filter(|(name, _)| *name != "cpu") {
        let tiles = Tile::ALL.map(|tile| (Some(Algorithm::Tiled), Some(true), Some(3), Some(tile)));
        let others = [
            (None, None, None, None),
            (Some(Algorithm::Subgroups), Some(false), None, None),
            (Some(Algorithm::Direct), Some(false), None, None),
        ];
        for (algorithm, grouped, splits, tile) in others.into_iter().chain(tiles) {
            let vectors = algorithm.map(|algorithm| algorithm == Algorithm::Subgroups);
            let kept = grouped;
            let variant = Variant { algorithm, grouped, kept, vectors, tile, ..Variant::default() };
            for kernel in kernels(&limits, splits) {
                families.insert(kernel.body.family());
                let rendered = render(&kernel, &limits, &variant).unwrap();
                if !seen.insert(rendered.source.clone()) {
                    continue;
                }
                let about = format!("{} for {name}", kernel.label);
                // Software adapters get loops that their compiler can't unroll, others those that theirs may.
                let [rolled, loops] = rolled(&rendered.source);
                let expected = if name == "lavapipe" { loops } else { 0 };
                assert_eq!(rolled, expected, "{about}\n{}", rendered.source);
                let checked = check_shader(&rendered.source, &about);
                assert!(checked.invocations <= limits.invocations);
                assert!(checked.workgroup_bytes <= limits.workgroup_bytes, "{about}");
                // Vulkan stores them alone, and only there software adapters are.
                let software = name == "lavapipe" || algorithm == Some(Algorithm::Subgroups);
                assert!(!checked.stores_parts || software, "{about}\n{}", rendered.source);
                assert!(rendered.groups.iter().all(|&g| (g as usize) <= limits.groups));
            }
        }
    }
    assert_eq!(families.len(), 10, "{families:?}");
    assert!(seen.iter().any(|source| source.contains("subgroupBroadcast")), "no shared loads");
    assert!(seen.iter().any(|source| source.contains("subgroupShuffleXor")), "no folds");
    assert!(seen.iter().any(|source| source.contains("    var k")), "nothing kept");
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
    let groups = |grouped: bool, limits: &Limits| {
        let variant = Variant { grouped: Some(grouped), ..Variant::default() };
        render(&program.kernels[0], limits, &variant).unwrap().groups
    };
    // 256 points for each workgroup, or four times as many.
    let limits = Limits { groups: 10_000, ..Limits::WEBGPU };
    assert_eq!(groups(false, &limits), [10_000, 2, 1]);
    assert_eq!(groups(true, &limits), [4097, 1, 1]);
    assert_eq!(
        groups(false, &Limits { class: DeviceClass::Software, ..Limits::WEBGPU }),
        [65_535, 2, 1]
    );
}

#[test]
fn cooperative_matrices_are_valid_and_translate() {
    let mut seen = BTreeSet::new();
    let algorithm = Some(Algorithm::Cooperative);
    let variant = Variant { algorithm, ..Variant::default() };
    let capabilities = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    for (side, workgroup_bytes) in [(16, 48 << 10), (8, 32 << 10)] {
        for precision in [MatmulPrecision::Medium, MatmulPrecision::High] {
            let matrices = Some(Matrices { side, lanes: 32 });
            let limits = Limits { matrices, workgroup_bytes, ..Limits::profile("h200").unwrap() }
                .with_precision(precision);
            let graph = Graph::new();
            let many = |name: &str| {
                let shape = [128, 128, 40];
                graph.variable(&Variable::new(name, &shape, DType::F32, Init::Full(1.0)))
            };
            let large = many("a").matmul(&many("b").permute(&[0, 2, 1]));
            let nodes = graph.nodes(&[&large]).unwrap();
            let large = compile(&nodes, &limits, &Options::default()).unwrap().program.kernels;
            let all = kernels(&limits, None).into_iter().chain(kernels(&limits, Some(3)));
            for kernel in all.chain(large) {
                if !matches!(kernel.body.family(), "matmul" | "conv") {
                    continue;
                }
                let source = render(&kernel, &limits, &variant).unwrap().source;
                let fail = |reason: String| -> ! {
                    panic!("`{}` for {side}, {precision}: {reason}\n{source}", kernel.label)
                };
                let (module, info) = validated(&source, capabilities).unwrap_or_else(|e| fail(e));
                let msl = translate(&module, &info).unwrap_or_else(|e| fail(e));
                assert!(msl.contains("simdgroup_multiply_accumulate"), "{source}");
                let invocations: u32 = module.entry_points[0].workgroup_size.iter().product();
                assert!(invocations as usize <= limits.invocations);
                let bytes = workgroup_bytes_of(&module);
                assert!(bytes <= workgroup_bytes, "{bytes} bytes\n{source}");
                // Drivers crash where a shader has both.
                assert!(!source.contains("@builtin(subgroup"), "{source}");
                seen.insert(source);
            }
        }
    }
    for part in [
        "array<vec4<f16>, ",
        "array<f16, ",
        "coopLoadT<coop_mat16x16<f16, A>>",
        "coopLoad<coop_mat16x16<f16, A>>",
        "coopLoadT<coop_mat8x8<f16, B>>",
        "coopLoad<coop_mat8x8<f16, B>>",
        "fn keep_row(",
    ] {
        assert!(seen.iter().any(|source| source.contains(part)), "no {part}");
    }
    assert!(seen.len() > 100, "only {} shaders", seen.len());
}

/// Bytes of a module's variables in workgroup memory.
fn workgroup_bytes_of(module: &naga::Module) -> usize {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let shared = |variable: &naga::GlobalVariable| variable.space == naga::AddressSpace::WorkGroup;
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    variables.filter(|v| shared(v)).map(|v| layouter[v.ty].size as usize).sum()
}
