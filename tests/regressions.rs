//! What was wrong once, each with the reason it was.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{
    Body, BufferSpec, Custom, Device, DeviceError, Expr, Kernel, Limits, Operand, Program,
    Recurrence, Store, Term, View,
};
use shadegrad::graph::ops::{CustomOperation, Gradient};
use shadegrad::graph::{ConvOptions, Options, check, compile};
use shadegrad::models::{
    Initializer, Reduction, binary_cross_entropy_with_logits, cross_entropy, gaussian_nll_loss,
    kl_div, multi_margin_loss,
};
use shadegrad::prelude::*;

/// Compares a value on every device with what it must be, NaN with NaN.
fn is(build: impl Fn(&Graph) -> Tensor, expected: &[f64]) {
    for (device, _) in harness::devices() {
        let got = build(&Graph::new()).eval(&device).unwrap().data;
        let same = |g: f64, e: f64| {
            g == e || (g - e).abs() <= 1e-5 * (1.0 + e.abs()) || g.is_nan() && e.is_nan()
        };
        let all =
            got.len() == expected.len() && got.iter().zip(expected).all(|(&g, &e)| same(g, e));
        assert!(all, "on {}: {got:?} not {expected:?}", device.info());
    }
}

/// A mistake must be an error with these words, and no panic.
fn refused(build: impl Fn(&Graph) -> Tensor, words: &[&str]) {
    let graph = Graph::new();
    let value = build(&graph);
    let error = value.eval(&Device::cpu(Some(1))).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn x(g: &Graph, shape: &[usize]) -> Tensor {
    g.variable(&Variable::new(
        "x",
        shape,
        DType::F32,
        Init::Uniform { low: -1.0, high: 1.0, seed: 3 },
    ))
}

#[test]
fn slopes_at_kinks() {
    // softplus was made of relu and abs, whose slopes at zero don't add up to a half.
    let slope = |f: fn(&Tensor) -> Tensor| {
        move |g: &Graph| {
            let x = g.tensor(&[3], &[-1.0, 0.0, 1.0]);
            g.gradients(&f(&x).sum_all(), &[&x]).remove(0)
        }
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    is(slope(Tensor::softplus), &[sigmoid(-1.0), 0.5, sigmoid(1.0)]);
    is(slope(Tensor::abs), &[-1.0, 0.0, 1.0]);
    is(slope(Tensor::relu), &[0.0, 0.0, 1.0]);
}

#[test]
fn a_parameter_that_depends_on_another_passes_its_gradient_on() {
    let both = |g: &Graph| {
        let w = g.tensor(&[1], &[3.0]);
        let h = &w * 2.0;
        let loss = (&h * &h).sum_all() + w.sum_all();
        g.gradients(&loss, &[&w, &h])
    };
    is(|g| both(g).remove(0), &[25.0]);
    is(|g| both(g).remove(1), &[12.0]);
}

#[test]
fn whole_powers_of_negative_numbers() {
    let power = |p: f64| move |g: &Graph| g.tensor(&[3], &[-2.0, 0.5, 1.0]).powf(p);
    is(power(-2.0), &[0.25, 4.0, 1.0]);
    is(power(0.0), &[1.0; 3]);
    is(power(17.0), &[(-2f64).powi(17), 0.5f64.powi(17), 1.0]);
    is(|g| g.tensor(&[1], &[2.0]).powf(0.5), &[2f64.sqrt()]);
}

#[test]
fn a_padded_gather_is_zero_outside() {
    is(
        |g| {
            let index = g.variable(&Variable::from_bytes(
                "i",
                &[3],
                DType::U32,
                [2u32, 3, 4].map(u32::to_le_bytes).concat(),
            ));
            let taken =
                g.tensor(&[3], &[10.0, 20.0, 30.0]).gather(0, &(index.full_like(4.0) - &index));
            taken.pad(0, 0, 1) * g.tensor(&[4], &[1.0, 2.0, 3.0, 4.0])
        },
        &[30.0, 40.0, 30.0, 0.0],
    );
}

#[test]
fn sums_over_nothing_are_zero() {
    is(|g| x(g, &[0, 3]).sum(&[0]) + g.tensor(&[3], &[1.0, 2.0, 3.0]), &[1.0, 2.0, 3.0]);
}

#[test]
fn signed_division_by_negative_numbers() {
    let of = |f: fn(&Tensor, &Tensor) -> Tensor| {
        move |g: &Graph| {
            let a = g.tensor(&[5], &[7.0, -7.0, 7.0, -7.0, 7.0]).to(DType::I32);
            let b = g.tensor(&[5], &[-2.0, 2.0, 3.0, -3.0, 0.0]).to(DType::I32);
            f(&a, &b).to(DType::F32)
        }
    };
    is(of(|a, b| a / b), &[-3.0, -3.0, 2.0, 2.0, 0.0]);
    is(of(Tensor::remainder), &[-1.0, 1.0, 1.0, -1.0, 0.0]);
}

#[test]
fn nan_is_not_swallowed() {
    let nan = |g: &Graph| g.tensor(&[1, 1, 1, 4], &[1.0, f32::NAN, 2.0, -1.0]);
    is(|g| nan(g).relu(), &[1.0, f64::NAN, 2.0, 0.0]);
    is(|g| nan(g).tanh().narrow(3, 1, 1), &[f64::NAN]);
    is(|g| nan(g).amax(&[3]), &[f64::NAN]);
    is(|g| nan(g).amin(&[3]), &[f64::NAN]);
    is(|g| nan(g).argmax(3).to(DType::F32).reshape(&[1]), &[1.0]);
    is(|g| g.full(&[1, 3], DType::F32, f64::NEG_INFINITY).amax(&[1]), &[f64::NEG_INFINITY]);
    is(|g| nan(g).max_pool2d(&PoolOptions::new([1, 2])), &[f64::NAN, 2.0]);
}

#[test]
fn bytes_can_be_read_moved_and_gathered() {
    let bytes = |g: &Graph| {
        g.variable(&Variable::from_bytes("b", &[2, 3], DType::U8, vec![1, 2, 3, 4, 5, 250]))
    };
    is(bytes, &[1.0, 2.0, 3.0, 4.0, 5.0, 250.0]);
    is(|g| bytes(g).transpose(0, 1).flatten(0), &[1.0, 4.0, 2.0, 5.0, 3.0, 250.0]);
    is(|g| bytes(g).pad(0, 1, 0).index_select(0, &g.full(&[1], DType::U32, 1.0)), &[1.0, 2.0, 3.0]);
    let b = Variable::from_bytes("b", &[4], DType::U8, vec![0; 4]);
    let g = Graph::new();
    g.assign(&b, &g.full(&[4], DType::U32, 1.0));
    assert!(g.error().unwrap().to_string().contains("read-only"));
    let g = Graph::new();
    g.variable_part(&b, 1, &[2]);
    assert!(g.error().unwrap().to_string().contains("don't begin at a word"));
}

#[test]
fn long_chains_of_shared_values_compile() {
    // Each value uses the one before twice: without sharing that is 2^60 terms.
    let chain = |start: fn(&Graph) -> Tensor| {
        move |g: &Graph| {
            let mut t = start(g);
            for _ in 0..60 {
                t = (&t * &t) * 0.5;
            }
            t
        }
    };
    is(chain(|g| g.step().to(DType::F32)), &[0.0]);
    is(
        |g| chain(|g| g.tensor(&[2], &[0.5, 2.0]))(g).reshape(&[2, 1]).expand(&[2, 2]).sum(&[0]),
        &[2.0, 2.0],
    );
}

#[test]
fn sums_of_large_integers_wrap_folded_or_not() {
    is(|g| g.full(&[2], DType::U32, 3e9).sum(&[0]), &[1_705_032_704.0]);
}

#[test]
fn mistakes_are_errors_with_the_place_they_were_made() {
    refused(
        |g| x(g, &[5]).matmul(&x(g, &[3, 4])),
        &["matmul", "5 columns don't meet 3 rows", "regressions.rs"],
    );
    refused(|g| x(g, &[5]).matmul(&x(g, &[4])), &["matmul"]);
    refused(|g| g.concat(&[&x(g, &[2, 3]), &x(g, &[1, 3])], 1), &["concat", "axis 1"]);
    refused(|g| g.concat(&[&x(g, &[2])], 3), &["concat"]);
    refused(|g| g.concat(&[], 0), &["concat"]);
    refused(|g| x(g, &[2]).along(4).to(DType::F32), &["no axis 4"]);
    refused(|g| x(g, &[]).argmax(0).to(DType::F32), &["argmax", "no axis 0 in rank 0"]);
    refused(|g| x(g, &[2]).unsqueeze(5), &["no place for an axis 5"]);
    refused(
        |g| cross_entropy(&x(g, &[4]), &g.full(&[4], DType::U32, 0.0)),
        &["cross_entropy", "classes"],
    );
    refused(
        |g| x(g, &[0, 3]).index_select(0, &g.full(&[2], DType::U32, 0.0)),
        &["nothing to gather"],
    );
    // What has no fixed shape is refused by name, with the reason.
    let bool = |g: &Graph| g.mask(&[2], &[true, false]);
    refused(|g| x(g, &[2]).nonzero(), &["nonzero", "depends on data"]);
    refused(|g| x(g, &[2]).unique(), &["unique", "depends on data"]);
    refused(|g| x(g, &[2]).masked_select(&bool(g)), &["masked_select", "depends on data"]);
    // A wrong shape on the way to the loss must not panic while differentiating.
    refused(
        |g| {
            let (w, y) = (x(g, &[2, 3]), x(g, &[2, 3]).sum(&[0, 1, 2]));
            g.gradients(&(&y + w.sum_all()), &[&w]).remove(0)
        },
        &["sum", "no axis 2 in rank 2"],
    );
    refused(
        |g| {
            let other = Graph::new();
            g.gradients(&x(g, &[]), &[&x(&other, &[])]).pop().unwrap_or_else(|| x(g, &[]))
        },
        &["another graph"],
    );
    // An empty slice has a gradient: zero.
    is(
        |g| {
            let w = g.tensor(&[3], &[1.0, 2.0, 3.0]);
            let loss = w.slice(0, 2, -2, 0).sum_all() + w.sum_all();
            g.gradients(&loss, &[&w]).remove(0)
        },
        &[1.0; 3],
    );
}

#[test]
fn single_elements_fuse_like_others() {
    let g = Graph::new();
    let loss = x(&g, &[1, 10]).log_softmax(1);
    let program =
        compile(&g.nodes(&[&loss]).unwrap(), &Limits::WEBGPU, &Options::default()).unwrap().program;
    assert_eq!(program.kernels.len(), 1);
}

#[test]
fn many_merged_reductions_fit_workgroup_memory() {
    let Some(device) = harness::adapter_with(shadegrad::device::Variant {
        limits: Some(Limits::WEBGPU),
        grouped: Some(true),
        ..Default::default()
    }) else {
        return;
    };
    let mlp = Mlp::new(&[32; 19]);
    let parameters = Parameters::new(&mlp, 0).unwrap();
    let g = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
    let loss = mlp.forward(&x(&g, &[128, 32])).sum_all();
    Updater::new(&parameters, Sgd::new(0.1)).record(&g, &parameters, &loss);
    Session::new(&device).compile(&g, &[]).unwrap().run(1).unwrap();
}

#[test]
fn groups_keep_the_initialiser() {
    let conv = Conv2d::new(4, 4, 3).initializer(Initializer::Ones).groups(2);
    let parameters = Parameters::new(&conv, 0).unwrap();
    let data =
        Session::new(&Device::cpu(Some(1))).read_array(&parameters.shards()[0]).unwrap().data;
    assert_eq!(data.iter().sum::<f64>(), (4 * 2 * 9) as f64, "ones, and biases of zero");
}

#[test]
fn buffers_of_other_devices_and_crooked_ranges_are_refused() {
    let (one, other) = (Device::cpu(Some(1)), Device::cpu(Some(1)));
    let buffer = one.create("b", 16).unwrap();
    assert!(matches!(other.read(&buffer, 0, 4), Err(DeviceError::Foreign { .. })));
    assert!(matches!(one.write(&buffer, 2, &[0; 4]), Err(DeviceError::Alignment { .. })));
    assert!(matches!(one.write(&buffer, 0, &[0; 3]), Err(DeviceError::Alignment { .. })));
    assert!(matches!(one.read(&buffer, 12, 8), Err(DeviceError::Range { .. })));
    let spec = |name: &str| BufferSpec { name: name.into(), bytes: 16, external: true };
    let program = Program { buffers: vec![spec("a"), spec("b")], ..Program::default() };
    for given in [vec![], vec![buffer.clone(), buffer.clone()]] {
        assert!(matches!(one.load(&program, &given), Err(DeviceError::Externals { .. })));
    }
    let foreign = [buffer, other.create("c", 16).unwrap()];
    assert!(matches!(one.load(&program, &foreign), Err(DeviceError::Foreign { .. })));
}

#[test]
fn programs_that_would_leave_their_memory_are_refused() {
    let program = |view: View, domain: usize, len: usize| {
        let mut expr = Expr::default();
        let term = expr.push(Term::Load { operand: 0, view }, DType::F32);
        let operand = |buffer, len| Operand { buffer, offset: 0, len, dtype: DType::F32 };
        let spec = |name: &str, bytes| BufferSpec { name: name.into(), bytes, external: false };
        Program {
            buffers: vec![spec("in", 4000), spec("out", 4000)],
            kernels: vec![
                Kernel {
                    label: "fill".into(),
                    operands: vec![operand(0, 1000)],
                    expr: {
                        let mut expr = Expr::default();
                        expr.literal(shadegrad::device::Literal::f32(1.0));
                        expr
                    },
                    body: Body::Map {
                        shape: vec![1000],
                        stores: vec![Store { operand: 0, term: 0 }],
                    },
                },
                Kernel {
                    label: "copy".into(),
                    operands: vec![operand(0, 1000), operand(1, len)],
                    expr,
                    body: Body::Map {
                        shape: vec![domain],
                        stores: vec![Store { operand: 1, term }],
                    },
                },
            ],
            ..Program::default()
        }
    };
    let device = Device::null(Limits::WEBGPU);
    assert!(device.load(&program(View::contiguous(&[1000]), 1000, 1000), &[]).is_ok());
    for (wrong, what) in [
        (program(View::contiguous(&[2]), 1000, 1000), "a view of another domain"),
        (program(View::contiguous(&[1001]), 1001, 1000), "a store past the operand"),
        (program(View::contiguous(&[1000]), 1000, 1001), "an operand past the buffer"),
    ] {
        let error = device.load(&wrong, &[]).err().unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(matches!(error, DeviceError::Program { .. }), "{what}: {error}");
    }
    let large = Program {
        buffers: vec![BufferSpec { name: "large".into(), bytes: 1 << 30, external: false }],
        ..Program::default()
    };
    let error = device.load(&large, &[]).err().unwrap().to_string();
    assert!(
        error.contains("`large` needs 1073741824 bytes") && error.contains("134217728"),
        "{error}"
    );
}

/// An operation of one's own that should be the cube.
macro_rules! cube {
    ($wgsl:literal, $evaluate:expr, $slope:expr) => {{
        static OPERATION: CustomOperation = CustomOperation {
            function: Custom {
                name: "cube",
                arity: 1,
                wgsl: $wgsl,
                evaluate: $evaluate,
                reference: |x| x[0] * x[0] * x[0],
            },
            gradient: |b| Gradient::Of(vec![Some(b.upstream * (b.inputs[0].square() * $slope))]),
            domains: &[(-2.0, 2.0)],
            weight: 2,
        };
        &OPERATION
    }};
}

#[test]
fn an_operation_of_ones_own_is_held_to_what_it_says() {
    let right = cube!("return x * x * x;", |x| x[0] * x[0] * x[0], 3.0);
    let slope = cube!("return x * x * x;", |x| x[0] * x[0] * x[0], 3.03);
    let host = cube!("return x * x * x;", |x| x[0] * x[0], 3.0);
    let shader = cube!("return x * x * 1.001 * x;", |x| x[0] * x[0] * x[0], 3.0);
    let broken = cube!("return x +;", |x| x[0] * x[0] * x[0], 3.0);
    let cpu = Device::cpu(Some(2));
    check::custom(&cpu, right).unwrap();
    assert!(check::custom(&cpu, slope).unwrap_err().contains("gradient"));
    assert!(check::custom(&cpu, host).unwrap_err().contains("cube"));
    if let Some(adapter) = harness::adapter() {
        check::custom(&adapter, right).unwrap();
        assert!(check::custom(&adapter, shader).unwrap_err().contains("element"));
        // Text that is no WGSL is an error that names the operation and what the compiler says.
        let error = check::custom(&adapter, broken).unwrap_err();
        assert!(error.contains("cube") && error.contains("refused"), "{error}");
    }
}

#[test]
fn halves_pass_gradients_on_and_round_to_nearest() {
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let x = g.tensor(&[3], &[1.0 + 1.0 / 4096.0, 70_000.0, 3e-8]);
        let y = x.to(DType::F16).to(DType::F32);
        let slope = &g.gradients(&(&y * 2.0).sum_all(), &[&x])[0];
        assert_eq!(y.eval(&device).unwrap().data, [1.0, f64::INFINITY, 2f64.powi(-24)]);
        assert_eq!(slope.eval(&device).unwrap().data, [2.0, 2.0, 2.0]);
    }
}

#[test]
fn remainders_are_exact_at_every_distance() {
    let of = |f: fn(&Tensor, &Tensor) -> Tensor, a: f32, b: f32| {
        move |g: &Graph| f(&g.tensor(&[1], &[a]), &g.tensor(&[1], &[b]))
    };
    // A quotient in 32 bits is too coarse for these.
    for (a, b) in [(1e10f32, 3.0f32), (-3e30, 7.5), (5.0, f32::INFINITY), (16_777_217.0, 0.1)] {
        let exact = f64::from(a) % f64::from(b);
        let floored =
            if exact != 0.0 && (exact < 0.0) != (b < 0.0) { exact + f64::from(b) } else { exact };
        is(of(Tensor::fmod, a, b), &[f64::from(exact as f32)]);
        is(of(Tensor::remainder, a, b), &[f64::from(floored as f32)]);
    }
    let smallest = |b: f32| {
        move |g: &Graph| {
            let a = g.full(&[1], DType::I32, f64::from(i32::MIN));
            a.remainder(&g.tensor(&[1], &[b]).to(DType::I32)).to(DType::F32)
        }
    };
    is(smallest(-1.0), &[0.0]);
    is(smallest(3.0), &[1.0]);
}

#[test]
fn infinities_in_scans_and_masks() {
    const INF: f32 = f32::INFINITY;
    let line = |data: [f32; 3]| {
        move |g: &Graph| {
            let x = g.tensor(&[3], &data);
            let recurrence = Recurrence { shape: vec![3], axis: 0, offsets: vec![0], log: true };
            x.recurrence(recurrence, &[&x.zeros_like()])
        }
    };
    let inf = f64::INFINITY;
    is(line([-INF, -INF, 0.0]), &[-inf, -inf, 0.0]);
    is(line([0.0, INF, 0.0]), &[0.0, inf, inf]);
    is(line([f32::NAN, 0.0, 0.0]), &[f64::NAN; 3]);
    // What a masked key holds takes no part; where all are masked the result is zero.
    let attend = |mask: [f32; 2], second: f32| {
        move |g: &Graph| {
            let query = g.tensor(&[1, 1], &[1.0]);
            let key = g.tensor(&[2, 1], &[1.0, second]);
            let value = g.tensor(&[2, 1], &[3.0, 5.0]);
            let options = AttentionOptions {
                mask: Some(g.tensor(&[1, 2], &mask)),
                ..AttentionOptions::default()
            };
            query.scaled_dot_product_attention(&key, &value, &options)
        }
    };
    is(attend([0.0, -INF], INF), &[3.0]);
    is(attend([0.0, -INF], f32::NAN), &[3.0]);
    is(attend([-INF, -INF], 1.0), &[0.0]);
    is(attend([0.0, 0.0], f32::NAN), &[f64::NAN]);
    // Nor does its value in the slopes of queries and keys.
    let slope = |of: usize| {
        move |g: &Graph| {
            let query = g.tensor(&[1, 1], &[1.0]);
            let key = g.tensor(&[3, 1], &[1.0, 2.0, 1.0]);
            let value = g.tensor(&[3, 1], &[3.0, 5.0, f32::NAN]);
            let mask = Some(g.tensor(&[1, 3], &[0.0, 1.0 - 2.0, -INF]));
            let options = AttentionOptions { mask, ..AttentionOptions::default() };
            let result = query.scaled_dot_product_attention(&key, &value, &options);
            g.gradients(&result.sum_all(), &[&query, &key])[of].clone()
        }
    };
    // Both keys weigh a half: their values are one above and one below the mean.
    is(slope(0), &[0.5]);
    is(slope(1), &[-0.5, 0.5, 0.0]);
}

#[test]
fn a_variable_gathered_from_itself_is_read_before_it_is_written() {
    for (device, _) in harness::devices() {
        let data: Vec<u8> = (0..300).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let variable = Variable::from_bytes("v", &[300], DType::F32, data);
        let g = Graph::new();
        let v = g.variable(&variable);
        let back: Vec<u32> = (0..300).rev().collect();
        g.assign(&variable, &v.gather(0, &g.indices(&[300], &back)));
        let mut session = Session::new(&device);
        session.compile(&g, &[]).unwrap().run(1).unwrap();
        let expected: Vec<f64> = (0..300).rev().map(f64::from).collect();
        assert_eq!(session.read_array(&variable).unwrap().data, expected, "{}", device.info());
    }
}

#[test]
fn more_single_words_than_a_kernel_binds() {
    let g = Graph::new();
    let words: Vec<Variable> =
        (0..40).map(|i| Variable::new("w", &[1], DType::F32, Init::Full(f64::from(i)))).collect();
    let sum = words.iter().map(|w| g.variable(w)).reduce(|a, b| a + b).unwrap();
    let row = x(&g, &[5]).zeros_like() + x(&g, &[5]) * 0.0 + &sum;
    let nodes = g.nodes(&[&row]).unwrap();
    let compiled = compile(&nodes, &Limits::WEBGPU, &Options::default()).unwrap();
    Session::new(&Device::null(Limits::WEBGPU)).load(compiled).unwrap();
    assert_eq!(row.eval(&Device::cpu(Some(1))).unwrap().data, [780.0; 5]);
}

#[test]
fn after_a_mistake_there_are_as_many_tensors_as_asked() {
    let g = Graph::new();
    let t = x(&g, &[4]);
    assert_eq!(t.split(&[1, 2], 0).len(), 2);
    assert_eq!(t.split(&[usize::MAX, 5], 0).len(), 2);
    assert_eq!(t.chunk(3, 7).len(), 3);
    assert_eq!(g.gradients(&t, &[&t, &x(&Graph::new(), &[1])]).len(), 2);
    assert!(g.error().unwrap().to_string().contains("split"));
}

#[test]
fn integers_are_refused_where_floats_are_meant() {
    let ints = |g: &Graph, shape: &[usize]| g.full(shape, DType::I32, 1.0);
    let pool = PoolOptions::new([2, 2]);
    type Named<'a> = (&'a str, &'a dyn Fn(&Tensor) -> Tensor);
    let images: [Named; 12] = [
        ("matmul", &|t| t.matmul(t)),
        ("max_pool2d", &|t| t.max_pool2d(&pool)),
        ("avg_pool2d", &|t| t.avg_pool2d(&pool)),
        ("adaptive_avg_pool2d", &|t| t.adaptive_avg_pool2d([3, 3])),
        ("adaptive_max_pool2d", &|t| t.adaptive_max_pool2d([3, 3])),
        ("interpolate", &|t| t.interpolate(&[3, 9], Interpolation::Nearest)),
        ("fold", &|t| t.squeeze(0).fold([3, 3], &pool)),
        ("batch_norm", &|t| t.batch_norm_train(None, None, 1e-5).0),
        ("group_norm", &|t| t.group_norm(2, None, None, 1e-5)),
        ("instance_norm", &|t| t.instance_norm(None, None, 1e-5)),
        ("einsum", &|t| t.graph().einsum("abcd,abcd->ab", &[t, t])),
        ("mean", &|t| t.mean(&[0]).keepdim(&[0])),
    ];
    for (name, of) in images {
        refused(|g| of(&ints(g, &[1, 4, 4, 4])), &[name, "works on floats", "regressions.rs"]);
    }
}

#[test]
fn extents_that_cannot_be_counted_are_refused() {
    const HUGE: usize = usize::MAX / 2;
    let options = PoolOptions { padding: [HUGE, 0], ..PoolOptions::new([2, 2]) };
    let dilated = PoolOptions { dilation: [HUGE, HUGE], ..PoolOptions::new([3, 3]) };
    let image = |g: &Graph| x(g, &[1, 1, 4, 4]);
    refused(|g| x(g, &[4]).pad(0, usize::MAX, 1), &["pad"]);
    refused(|g| x(g, &[4]).pad_with(&[(isize::MIN, 0)], PadMode::Constant(0.0)), &["pad"]);
    refused(|g| x(g, &[4]).pad_with(&[(isize::MAX, isize::MAX)], PadMode::Replicate), &["pad"]);
    refused(|g| x(g, &[4]).slice(0, 1, isize::MIN, 3), &["slice"]);
    refused(|g| x(g, &[4]).slice(0, HUGE, isize::MAX, HUGE), &["slice"]);
    refused(|g| image(g).max_pool2d(&options), &["max_pool2d"]);
    refused(|g| image(g).max_pool2d(&dilated), &["max_pool2d"]);
    refused(|g| image(g).unfold(&options), &["unfold"]);
    for padding in [Padding::Zeros([HUGE, HUGE]), Padding::Same] {
        let options = ConvOptions { padding, dilation: [HUGE, HUGE], ..ConvOptions::default() };
        refused(|g| image(g).conv2d(&x(g, &[1, 1, 3, 3]), None, &options), &["conv2d"]);
        refused(
            |g| image(g).conv_transpose2d(&x(g, &[1, 1, 3, 3]), None, &options, [0, 0]),
            &["conv_transpose2d"],
        );
    }
    refused(
        |g| x(g, &[1, 1, 4]).conv1d(&x(g, &[1, 1, 9]), None, &ConvOptions::default()),
        &["conv1d", "leave no output", "regressions.rs"],
    );
}

#[test]
fn step_functions_have_a_slope_of_zero() {
    let slope = |f: fn(&Tensor) -> Tensor| {
        move |g: &Graph| {
            let x = g.tensor(&[2], &[-1.5, 2.5]);
            g.gradients(&f(&x).sum_all(), &[&x]).remove(0)
        }
    };
    is(slope(Tensor::floor), &[0.0; 2]);
    is(slope(Tensor::sign), &[0.0; 2]);
    // What depends only through an index doesn't depend.
    refused(
        |g| {
            let x = x(g, &[4]);
            g.gradients(&x.argmax(0).to(DType::F32).sum_all(), &[&x]).remove(0)
        },
        &["does not depend"],
    );
}

#[test]
fn softmax_over_nothing_is_nothing() {
    is(|g| x(g, &[3, 0]).softmax(1), &[]);
    is(|g| x(g, &[3, 0]).log_softmax(1), &[]);
    is(|g| x(g, &[2, 0]).logsumexp(&[1]), &[f64::NEG_INFINITY; 2]);
}

#[test]
fn two_operations_of_one_name_are_told_apart() {
    let one = cube!("return x * x * x;", |x| x[0] * x[0] * x[0], 3.0);
    let other = cube!("return x * x;", |x| x[0] * x[0], 3.0);
    refused(
        |g| Tensor::custom(one, &[&x(g, &[2])]) + Tensor::custom(other, &[&x(g, &[2])]),
        &["cube", "another operation of this name", "regressions.rs"],
    );
}

#[test]
fn losses_keep_their_shape_and_their_slope() {
    // A variance below eps counts as eps, but its slope is kept, as in PyTorch.
    is(
        |g| {
            let (x, var) = (g.tensor(&[1], &[0.0]), g.tensor(&[1], &[0.25]));
            let loss = gaussian_nll_loss(&x, &x.ones_like(), &var, 0.5, Reduction::Sum);
            g.gradients(&loss, &[&var]).remove(0)
        },
        &[(1.0 / 0.5 - 1.0 / 0.25) / 2.0],
    );
    refused(
        |g| {
            let (x, weight) = (x(g, &[3]), x(g, &[2, 3]));
            binary_cross_entropy_with_logits(&x, &x, Some(&weight), Reduction::None)
        },
        &["binary_cross_entropy_with_logits", "pos_weight", "regressions.rs"],
    );
}

#[test]
fn what_counts_for_nothing_may_be_anything() {
    // beta 0 drops the first, as in BLAS; a target of 0 drops the logarithm.
    is(
        |g| {
            let (nan, one) = (g.full(&[1, 1], DType::F32, f64::NAN), g.tensor(&[1, 1], &[2.0]));
            nan.addmm(&one, &one, 0.0, 1.0)
        },
        &[4.0],
    );
    is(
        |g| {
            let logs = g.tensor(&[2], &[f32::NEG_INFINITY, 0.0]);
            kl_div(&logs, &g.tensor(&[2], &[0.0, 1.0]), Reduction::Sum)
        },
        &[0.0],
    );
    is(|g| multi_margin_loss(&x(g, &[1, 3]), &g.indices(&[1], &[3]), Reduction::Sum), &[f64::NAN]);
}

#[test]
fn kernels_that_make_no_sense_are_refused() {
    let scatter = |axis: usize, index: DType| {
        let mut expr = Expr::default();
        let view = View::contiguous(&[4]);
        let index = expr.push(Term::Load { operand: 0, view: view.clone() }, index);
        let source = expr.push(Term::Load { operand: 1, view }, DType::F32);
        let term = expr.push(Term::Accumulator(0), DType::F32);
        let operand = |buffer| Operand { buffer, offset: 0, len: 4, dtype: DType::F32 };
        let spec = |name: &str| BufferSpec { name: name.into(), bytes: 16, external: true };
        let stores = vec![Store { operand: 2, term }];
        Program {
            buffers: vec![spec("index"), spec("source"), spec("out")],
            kernels: vec![Kernel {
                label: "scatter".into(),
                operands: (0..3).map(operand).collect(),
                expr,
                body: Body::Scatter { shape: vec![4], axis, len: 4, index, source, stores },
            }],
            ..Program::default()
        }
    };
    for wrong in [scatter(3, DType::U32), scatter(0, DType::F32)] {
        let error = wrong.verify(&Limits::WEBGPU, "a device").unwrap_err();
        assert!(matches!(error, DeviceError::Program { .. }), "{error}");
    }
}

#[test]
fn what_is_added_nowhere_has_a_slope_of_zero() {
    is(
        |g| {
            let source = g.tensor(&[3], &[1.0, 2.0, 3.0]);
            let sums = g.zeros(&[2]).scatter_add(0, &g.indices(&[3], &[1, 9, 0]), &source);
            g.gradients(&(&sums * &sums).sum_all(), &[&source]).remove(0)
        },
        &[2.0, 0.0, 6.0],
    );
}

#[test]
fn slices_are_scattered_by_small_workgroups_in_several_rounds() {
    // 32 invocations look at 1024 indices at a time, and hold 32 of the 70 columns.
    let limits = Limits { invocations: 32, ..Limits::WEBGPU };
    let variant = shadegrad::device::Variant {
        limits: Some(limits),
        grouped: Some(true),
        ..shadegrad::device::Variant::default()
    };
    let Some(device) = harness::adapter_with(variant) else {
        return;
    };
    let (count, rows, width) = (3001u32, 7u32, 70);
    let ids: Vec<u32> = (0..count).map(|i| shadegrad::device::random(5, i) % (rows + 2)).collect();
    let graph = Graph::new();
    let index = graph.indices(&[count as usize], &ids);
    let source = (graph.iota(count as usize * width) * 7.0).to(DType::F32);
    let source = (source.reshape(&[count as usize, width]) * 1e-3).sin();
    let sums = graph.zeros(&[rows as usize, width]).index_add(0, &index, &source);
    let mut loaded = Session::new(&device).compile(&graph, &[&sums, &source]).unwrap();
    loaded.run(1).unwrap();
    let (sums, source) = (loaded.read_array(0).unwrap(), loaded.read_array(1).unwrap());
    for row in 0..rows as usize {
        for column in 0..width {
            let mut expected = 0.0f32;
            for (place, _) in ids.iter().enumerate().filter(|(_, id)| **id as usize == row) {
                expected += source.at(&[place, column]) as f32;
            }
            assert_eq!(sums.at(&[row, column]), f64::from(expected), "row {row}, column {column}");
        }
    }
}

#[test]
fn weights_of_more_than_a_task_for_each_channel_have_a_gradient() {
    // A task of no channels, and a division by it.
    let (channels, outputs) = (2048, 17);
    let graph = Graph::new();
    let x = graph.variable(&harness::numbers("x", &[1, channels, 4, 4], 1));
    let w = graph.variable(&harness::numbers("w", &[outputs, channels, 3, 3], 2));
    let dy = graph.variable(&harness::numbers("dy", &[1, outputs, 2, 2], 3));
    let loss = (x.conv2d(&w, None, &ConvOptions::default()) * &dy).sum_all();
    let slope = graph.gradients(&loss, &[&w]).remove(0);
    let (device, read) = (Device::cpu(Some(2)), [&slope, &x, &dy]);
    let (_, found) = harness::run_guarded(&device, &graph, &read, Options::default(), 1);
    let [slope, x, dy] = &found[..] else { panic!("three outputs") };
    for output in 0..outputs {
        for channel in 0..channels {
            for [ky, kx] in [[0, 0], [1, 2], [2, 1]] {
                let places = [[0, 0], [0, 1], [1, 0], [1, 1]];
                let term = |[r, c]: [usize; 2]| {
                    x.at(&[0, channel, r + ky, c + kx]) * dy.at(&[0, output, r, c])
                };
                let sum: f64 = places.into_iter().map(term).sum();
                let found = slope.at(&[output, channel, ky, kx]);
                assert!((found - sum).abs() < 1e-5, "{output}, {channel}: {found}, not {sum}");
            }
        }
    }
}
