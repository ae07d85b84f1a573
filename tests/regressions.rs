//! What was wrong once, each with the reason it was.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{
    Body, BufferSpec, Custom, Device, DeviceError, Expr, Kernel, Limits, Operand, Program, Store,
    Term, View,
};
use shadegrad::graph::ops::{CustomOperation, Gradient};
use shadegrad::graph::{Options, check, compile};
use shadegrad::models::{Initializer, cross_entropy};
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
    let program = Program { buffers: vec![spec("a"), spec("b")], kernels: vec![] };
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
        kernels: vec![],
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
