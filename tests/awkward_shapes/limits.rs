//! What a device's limits make of large programs.

use crate::{Build, compared, fits, harness, only, run, x};
use shadegrad::device::{Limits, Variant};
use shadegrad::graph::{GraphError, Options};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;

fn one(device: &Device, tensor: &Tensor) -> Vec<f64> {
    tensor.eval(device).unwrap().data
}

#[test]
fn more_than_65535_workgroups() {
    let adapter = |grouped: bool| {
        harness::adapter_with(Variant { grouped: Some(grouped), ..Variant::default() })
    };
    let (Some(single), Some(shared)) = (adapter(false), adapter(true)) else { return };
    let g = Graph::new();
    // 64 points for each workgroup, so 65 538 of them on a software adapter.
    let count = 65_537 * 64 + 5;
    let place = g.iota(count) * 3.0 + 7.0;
    let expected = (0..count).map(|i| (3 * i + 7) as f64);
    assert!(one(&single, &place).into_iter().eq(expected), "a map over two axes of workgroups");
    // A workgroup for each row of 128.
    let rows = 65_535 + 4;
    let sums = g.iota(rows * 128).reshape(&[rows, 128]).sum(&[1]);
    let expected = (0..rows).map(|row| (128 * 128 * row + 127 * 64) as f64);
    assert!(one(&shared, &sums).into_iter().eq(expected), "rows over two axes of workgroups");
}

/// One kernel of each family, over several workgroups, the last of which is cut off.
const FAMILIES: &[(&str, Build<'_>)] = &[
    ("map", &|g| vec![x(g, &[13, 61], 1).exp()]),
    ("rows", &|g| vec![x(g, &[309, 5], 1).sum(&[1]), x(g, &[11, 1000], 2).logsumexp(&[1])]),
    ("product", &|g| vec![x(g, &[3, 90, 17], 1).matmul(&x(g, &[3, 17, 150], 2))]),
    ("convolution", &|g| {
        let (image, filter) = (x(g, &[3, 2, 19, 23], 1), x(g, &[5, 2, 3, 3], 2));
        let y = image.conv2d(&filter, None, &ConvOptions::default());
        let mut all = g.gradients(&(&y * &y).sum_all(), &[&image, &filter]);
        all.push(y);
        all
    }),
    ("window", &|g| {
        let image = x(g, &[5, 3, 17, 13], 1);
        let y = image.max_pool2d(&PoolOptions::new([2, 3]));
        vec![g.gradients(&y.sum_all(), &[&image]).remove(0), y]
    }),
    ("scatter", &|g| {
        let index = (g.iota(41) * 7.0).remainder(&g.iota(41).full_like(19.0)).unsqueeze(0);
        let index = index.expand(&[37, 41]);
        vec![g.zeros(&[37, 19]).scatter_add(1, &index, &x(g, &[37, 41], 1))]
    }),
    ("scan", &|g| vec![x(g, &[45, 31, 7], 1).cumsum(1), x(g, &[700], 2).cumsum(0)]),
    ("merge", &|g| vec![x(g, &[53, 30], 1).sort(1, false).0]),
    ("attention", &|g| {
        let [q, k, v] = [1, 2, 3].map(|seed| x(g, &[6, 40, 5], seed));
        vec![q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default())]
    }),
    ("gather", &|g| {
        vec![x(g, &[29, 31], 1).index_select(0, &(g.iota(29) / g.iota(29).full_like(2.0)))]
    }),
    ("halves", &|g| vec![x(g, &[31, 33], 1).to(DType::F16)]),
];

#[test]
fn every_kind_of_kernel_folds_its_grid() {
    // Prime, so that the last line of workgroups is cut off; and a single line.
    for (groups, grouped) in [(3, true), (7, false), (1, true)] {
        let limits = Some(only(|limits| limits.groups = groups));
        let variant = Variant { limits, grouped: Some(grouped), ..Variant::default() };
        let Some(device) = harness::adapter_with(variant) else {
            return;
        };
        assert_eq!(device.limits().groups, groups);
        for (name, build) in FAMILIES {
            let options = Options { guard: 64, ..Options::default() };
            compared(&device, false, build, &options)
                .unwrap_or_else(|e| panic!("{name} in lines of {groups} workgroups: {e}"));
        }
    }
}

/// More variables than the eight buffers that WebGPU guarantees.
const MANY: &[(&str, Build<'_>)] = &[
    ("a sum of 12 variables", &|g| {
        vec![(2..=12).fold(x(g, &[5, 7], 1), |sum, seed| sum + x(g, &[5, 7], seed))]
    }),
    ("a sum of 12 single words", &|g| {
        vec![(2..=12).fold(x(g, &[], 1), |sum, seed| sum + x(g, &[], seed).tanh())]
    }),
    ("a product of sums over 12 variables", &|g| {
        let sum =
            |from| (from..from + 6).fold(x(g, &[6, 6], from), |s, seed| s + x(g, &[6, 6], seed));
        vec![sum(1).matmul(&sum(7)).sum(&[0])]
    }),
    ("12 variables one after the other", &|g| {
        let parts: Vec<Tensor> = (1..=12).map(|seed| x(g, &[3, seed as usize], seed)).collect();
        vec![g.concat(&parts.iter().collect::<Vec<_>>(), 1)]
    }),
    ("a stack of 20 variables, summed", &|g| {
        let parts: Vec<Tensor> = (1..=20).map(|seed| x(g, &[3, 5], seed)).collect();
        let stack = g.stack(&parts.iter().collect::<Vec<_>>(), 1);
        vec![stack.sum(&[1]), stack.amax(&[0, 2]), stack]
    }),
    ("a chain of choices", &|g| {
        let choose = |before: Tensor, seed: u64| {
            let (a, b) = (x(g, &[40], seed), x(g, &[40], seed + 100));
            a.less(&b).select(&(&before + &a), &b)
        };
        vec![(2..=12).fold(x(g, &[40], 1), choose)]
    }),
    ("gradients by 12 variables", &|g| {
        let parts: Vec<Tensor> = (1..=12).map(|seed| x(g, &[4, 3], seed)).collect();
        let product = parts.iter().skip(1).fold(parts[0].clone(), |all, part| all * part.tanh());
        g.gradients(&product.sum_all(), &parts.iter().collect::<Vec<_>>())
    }),
    ("packed variables", &|g| {
        let parts: Vec<Tensor> = (1..=12).map(|seed| x(g, &[seed as usize], seed)).collect();
        vec![g.pack(&parts.iter().collect::<Vec<_>>()) * 2.0]
    }),
];

#[test]
fn more_variables_than_a_kernel_can_bind() {
    let eight = || only(|limits| limits.bindings = 8);
    for (name, build) in MANY {
        fits(&eight(), build).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let variant = Variant { limits: Some(eight()), ..Variant::default() };
    let Some(device) = harness::adapter_with(variant) else {
        return;
    };
    assert_eq!(device.limits().bindings, 8);
    for (name, build) in MANY {
        compared(&device, false, build, &Options::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn more_buffers_of_scratch_memory_than_a_kernel_can_bind() {
    // Cumulative sums have kernels of their own, and no two of their results fit one buffer.
    let build: Build<'_> = &|g| {
        let part = |seed| x(g, &[200], seed).cumsum(0);
        vec![(2..=12).fold(part(1), |sum, seed| sum + part(seed))]
    };
    fits(&only(|limits| (limits.bindings, limits.binding_bytes) = (8, 1300)), build).unwrap();
}

#[test]
fn assignments_to_more_variables_than_a_kernel_can_bind() {
    let limits = || only(|limits| limits.bindings = 8);
    let variant = Variant { limits: Some(limits()), ..Variant::default() };
    let mut devices = vec![Device::null(limits())];
    devices.extend(harness::adapter_with(variant));
    for device in devices {
        let g = Graph::new();
        let variables: Vec<Variable> = (0..12)
            .map(|n| Variable::new("v", &[3], DType::F32, Init::Full(f64::from(n))))
            .collect();
        for (n, v) in variables.iter().enumerate() {
            // Its own contents and its neighbour's.
            let sum = g.variable(v) + g.variable(&variables[(n + 1) % 12]);
            g.assign(v, &sum);
        }
        let mut session = Session::new(&device);
        session.compile(&g, &[]).unwrap().run(1).unwrap();
        if device.info().name.starts_with("null") {
            continue;
        }
        for (n, v) in variables.iter().enumerate() {
            let expected = (n + (n + 1) % 12) as f64;
            assert_eq!(session.read_array(v).unwrap().data, [expected; 3], "variable {n}");
        }
    }
}

#[test]
fn tensors_that_are_too_large_are_refused_before_anything_runs() {
    let limits = || only(|limits| limits.binding_bytes = 4096);
    let variant = Variant { limits: Some(limits()), ..Variant::default() };
    let mut devices = vec![Device::null(limits())];
    devices.extend(harness::adapter_with(variant));
    for device in devices {
        let refused = |graph: &Graph, output: &Tensor, words: &[&str]| {
            let outputs = std::slice::from_ref(output);
            let error = run(&device, graph, outputs, &Options::default()).unwrap_err().to_string();
            for word in words.iter().chain(&["4096", "bytes"]) {
                assert!(error.contains(word), "`{word}` is not in: {error}");
            }
        };
        let g = Graph::new();
        let pixels = Variable::new("pixels", &[1025], DType::F32, Init::Full(1.0));
        refused(&g, &g.variable(&pixels).sum_all(), &["`pixels`", "4100"]);
        let g = Graph::new();
        let product = x(&g, &[40, 1], 1).matmul(&x(&g, &[1, 40], 2));
        refused(&g, &product, &["matmul f32[40, 40]", "limits.rs", "6400"]);
        assert_eq!(device.counters().dispatches, 0, "something ran on {}", device.info());
    }
    // Those that fit one by one are spread over several buffers.
    let build: Build<'_> = &|g| (1..=6).map(|seed| x(g, &[900], seed).cumsum(0)).collect();
    fits(&limits(), build).unwrap();
    let variant = Variant { limits: Some(limits()), ..Variant::default() };
    if let Some(device) = harness::adapter_with(variant) {
        compared(&device, false, build, &Options::default()).unwrap();
    }
}

#[test]
fn sharded_parameters_train_as_whole_ones() {
    let data = drawn::digits(24, 3);
    let train = |limits: Option<Limits>| -> Option<(usize, Vec<u32>)> {
        let device = harness::adapter_with(Variant { limits, ..Variant::default() })?;
        let mlp = Mlp::new(&[784, 16, 16, 10]);
        let mut trainer = Trainer::new(&device, mlp, CrossEntropy, Adam::new(1e-2)).unwrap();
        let history = trainer.fit(&data, Fit::epochs(1).batch(8).quiet()).unwrap();
        let losses = history.losses.iter().map(|loss| loss.to_bits()).collect();
        Some((trainer.parameters().shards().len(), losses))
    };
    // The first weight takes 50 176 bytes.
    let Some((shards, losses)) = train(Some(only(|limits| limits.binding_bytes = 50_500))) else {
        return;
    };
    assert_eq!(shards, 2);
    assert_eq!(train(None), Some((1, losses)));
}

#[test]
fn an_impossible_tensor_is_an_error_of_its_line() {
    let g = Graph::new();
    let y = g.zeros(&[1 << 40, 1 << 40]);
    let error = run(&Device::cpu(Some(1)), &g, &[y], &Options::default()).unwrap_err();
    assert!(matches!(error, GraphError::Operation { .. }), "{error}");
    assert!(error.to_string().contains("limits.rs"), "{error}");
}
