//! Products and convolutions in cooperative matrices, which software adapters don't have: plain WGSL stands for them, and all
//! else of the shader is what GPUs run. What is computed, how precisely, that a device that gets it wrong is found out, and
//! what chooses it.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use harness::in_memory;
use shadegrad::device::{
    Algorithm, Body, Contraction, DType, Device, Limits, MatmulPrecision, Matrices, Variant,
    random, render,
};
use shadegrad::graph::{ConvOptions, Graph, Options, Padding, Tensor, Variable};
use std::sync::OnceLock;

/// As NVIDIA's.
const SIXTEEN: Matrices = Matrices { side: 16, lanes: 32 };
/// As Apple's.
const EIGHT: Matrices = Matrices { side: 8, lanes: 32 };

const EPS: f64 = f32::EPSILON as f64;

fn variant(matrices: Matrices, precision: MatmulPrecision) -> Variant {
    Variant {
        algorithm: Some(Algorithm::Cooperative),
        emulated: Some(matrices),
        precision,
        ..Variant::default()
    }
}

/// Every kind of matrix with every precision below the highest; nothing without an adapter.
fn variants() -> &'static [(Device, Variant)] {
    // Each has its trial when it is opened.
    static OPENED: OnceLock<Vec<(Device, Variant)>> = OnceLock::new();
    OPENED.get_or_init(open_all)
}

fn open_all() -> Vec<(Device, Variant)> {
    let mut opened = vec![];
    for matrices in [SIXTEEN, EIGHT] {
        for precision in [MatmulPrecision::Medium, MatmulPrecision::High] {
            let variant = variant(matrices, precision);
            if let Some(device) = harness::adapter_with(variant.clone()) {
                assert_eq!(device.refused(), None);
                assert_eq!(device.matmul_precision(), precision);
                opened.push((device, variant));
            }
        }
    }
    opened
}

/// A variable of numbers between -1 and 1 that no half makes subnormal.
fn numbers(graph: &Graph, name: &str, shape: &[usize], seed: u32) -> Tensor {
    let count: usize = shape.iter().product();
    let number = |i: u32| {
        let drawn = random(seed, i);
        let sign = if drawn & 1 == 0 { 1.0f32 } else { -1.0 };
        sign * (1.0 + 15.0 * (drawn >> 8) as f32 / 16_777_216.0) / 16.0
    };
    let bytes: Vec<u8> = (0..count as u32).flat_map(|i| number(i).to_le_bytes()).collect();
    graph.variable(&Variable::from_bytes(name, shape, DType::F32, bytes))
}

/// What is computed, the length of its sums, and whether it is a sum of products.
struct Output {
    tensor: Tensor,
    terms: usize,
    products: bool,
}

/// Computes on a device and by the reference, and compares: allowed is the rounding of both operands of each product, and
/// of each term's addition, as parts of what `record` computes of magnitudes when it is told to. Gives the root of the mean
/// square of the errors of products as parts of the magnitudes, and how many kernels have sums of rows.
fn errors(
    (device, variant): &(Device, Variant),
    splits: Option<usize>,
    record: &dyn Fn(&Graph, bool) -> Vec<Output>,
) -> (f64, usize) {
    let interpret = |magnitudes: bool| {
        let graph = Graph::new();
        let outputs = record(&graph, magnitudes);
        let tensors: Vec<&Tensor> = outputs.iter().map(|output| &output.tensor).collect();
        graph.reference(&tensors).unwrap()
    };
    let (expected, magnitudes) = (interpret(false), interpret(true));
    let graph = Graph::new();
    let outputs = record(&graph, false);
    let tensors: Vec<&Tensor> = outputs.iter().map(|output| &output.tensor).collect();
    let options = Options { splits, ..Options::default() };
    let (loaded, found) = harness::run_guarded(device, &graph, &tensors, options, 1);
    let mut with_rows = 0;
    for kernel in &loaded.compiled().program.kernels {
        if let Body::Contract { row_stores, .. } = &kernel.body {
            let source = render(kernel, device.limits(), variant).unwrap().source;
            assert!(source.contains("put_sums("), "{} is computed otherwise", kernel.label);
            // Software adapters would unroll them for minutes.
            assert!(source.contains(" + zero(); "), "loops of {} are unrolled", kernel.label);
            with_rows += usize::from(!row_stores.is_empty());
        }
    }
    let (mut squares, mut count) = (0.0, 0);
    for (number, (output, found)) in outputs.iter().zip(&found).enumerate() {
        let rounding =
            if output.products { f64::from(device.matmul_precision().rounding()) } else { 0.0 };
        // What is around the products is rounded a few times more.
        let allowed = rounding + (output.terms + 8) as f64 * EPS;
        let elements = found.data.iter().zip(&expected[number].data).zip(&magnitudes[number].data);
        for ((found, expected), magnitude) in elements {
            let error = (found - expected).abs();
            assert!(
                error <= allowed * magnitude,
                "output {number} on {}: {found} for {expected}, off by {} where {allowed} is allowed",
                device.info(),
                error / magnitude
            );
            if output.products {
                squares += (error / magnitude).powi(2);
                count += 1;
            }
        }
    }
    ((squares / f64::from(count)).sqrt(), with_rows)
}

/// A batch of products, whose operands may be stored transposed, and the left one computed, with a bias and an activation
/// behind it, and the sums of the left one's rows.
fn products(
    [batch, m, n, k]: [usize; 4],
    [left, right, computed, stored]: [bool; 4],
) -> impl Fn(&Graph, bool) -> Vec<Output> {
    move |graph, magnitudes| {
        let matrix = |name: &str, rows: usize, cols: usize, turned: bool, seed: u32| {
            let shape = if turned { [batch, cols, rows] } else { [batch, rows, cols] };
            let stored = numbers(graph, name, &shape, seed);
            if turned { stored.permute(&[0, 2, 1]) } else { stored }
        };
        let (a, b) = (matrix("a", m, k, left, 1), matrix("b", k, n, right, 2));
        let a = if computed { a.exp() } else { a };
        let a = if stored { in_memory(&a) } else { a };
        let bias = numbers(graph, "bias", &[n], 3);
        let [product, sums] = match magnitudes {
            true => [a.abs().matmul(&b.abs()) + bias.abs(), a.abs().sum(&[2])],
            false => [(a.matmul(&b) + bias).relu(), a.sum(&[2])],
        };
        vec![
            Output { tensor: product, terms: k, products: true },
            Output { tensor: sums, terms: k, products: false },
        ]
    }
}

#[test]
fn products_are_as_precise_as_their_operands() {
    let mut with_rows = 0;
    // Two halves of 16x16, and one of 8x8.
    for (turn, opened) in [1, 2].into_iter().filter_map(|kind| variants().get(kind)).enumerate() {
        for (number, sizes) in [[1, 65, 130, 70], [2, 7, 3, 33], [1, 1, 200, 5], [3, 64, 64, 32]]
            .into_iter()
            .enumerate()
        {
            // Software adapters compile sums of rows for half a minute.
            if turn == 1 && number % 3 != 0 {
                continue;
            }
            let form = (number + 2 * turn) % 4;
            let form = [form & 1 == 1, form & 2 == 2, (form + number) % 3 == 0, turn == 1];
            let splits = (number % 2 == 0).then_some(3);
            with_rows += errors(opened, splits, &products(sizes, form)).1;
        }
    }
    assert!(
        with_rows == 2 || harness::adapter().is_none(),
        "{with_rows} kernels with sums of rows"
    );
}

#[test]
fn padded_operands_are_products_with_zeros() {
    let record = |graph: &Graph, magnitudes: bool| {
        let a = numbers(graph, "a", &[40, 50], 4).pad(0, 9, 5).pad(1, 3, 11);
        let b = numbers(graph, "b", &[64, 30], 5);
        let (a, b) = if magnitudes { (a.abs(), b.abs()) } else { (a, b) };
        vec![Output { tensor: a.matmul(&b), terms: 64, products: true }]
    };
    for opened in variants().iter().take(1) {
        errors(opened, None, &record);
    }
}

/// A convolution of images of some channels, and the gradients of its input, its weight and its bias.
fn convolution(
    [channels, out, size]: [usize; 3],
    kernel: usize,
    options: ConvOptions<2>,
    stored: bool,
) -> impl Fn(&Graph, bool) -> Vec<Output> {
    move |graph, magnitudes| {
        let groups = options.groups;
        let of = |tensor: Tensor| if magnitudes { tensor.abs() } else { tensor };
        let x = of(numbers(graph, "x", &[2, channels, size, size + 1], 6));
        let w = of(numbers(graph, "w", &[out, channels / groups, kernel, kernel], 7));
        let bias = of(numbers(graph, "bias", &[out], 8));
        let y = x.conv2d(&w, Some(&bias), &options);
        let slope = of(numbers(graph, "slope", &y.shape(), 9));
        let slope = if stored { in_memory(&slope) } else { slope };
        let gradients = graph.gradients(&(&y * &slope).sum_all(), &[&x, &w, &bias]);
        let pixels = y.shape()[0] * y.shape()[2] * y.shape()[3];
        let window = kernel * kernel;
        let terms = [out / groups * window, pixels, pixels];
        let gradients = gradients.into_iter().zip(terms).zip([true, true, false]);
        let mut outputs =
            vec![Output { tensor: y, terms: channels / groups * window, products: true }];
        outputs.extend(gradients.map(|((tensor, terms), products)| Output {
            tensor,
            terms,
            products,
        }));
        outputs
    }
}

#[test]
fn convolutions_and_their_gradients_are_as_precise_as_their_operands() {
    let padded = |n: usize| Padding::Zeros([n, n]);
    let cases = [
        ([3, 70, 9], 3, ConvOptions { padding: padded(1), ..ConvOptions::default() }, None),
        (
            [8, 6, 11],
            3,
            ConvOptions { stride: [2, 1], dilation: [1, 2], ..ConvOptions::default() },
            Some(2),
        ),
        (
            [6, 4, 8],
            2,
            ConvOptions { groups: 2, padding: padded(1), ..ConvOptions::default() },
            None,
        ),
    ];
    // Software adapters compile each for ten seconds: every case with another kind of matrices and precision.
    for (number, (opened, case)) in variants().iter().zip(cases).enumerate() {
        let (sizes, kernel, options, splits) = case;
        let record = convolution(sizes, kernel, options, number == 1);
        let (_, with_rows) = errors(opened, splits, &record);
        let beside = usize::from(number == 1);
        assert_eq!(with_rows, beside, "the gradient of the bias is beside the weight's");
    }
}

#[test]
fn two_halves_are_five_hundred_times_as_precise_as_one() {
    let record = products([1, 64, 64, 96], [false; 4]);
    let opened = variants();
    let found: Vec<f64> = opened.iter().map(|opened| errors(opened, None, &record).0).collect();
    for pair in found.chunks(2) {
        assert!(pair[0] > 500.0 * pair[1], "{pair:?}");
    }
}

#[test]
fn devices_that_are_wrong_are_found_out() {
    use MatmulPrecision::{High, Medium};
    let faults = [
        // Twice what it should be.
        (Medium, "(*sums)[held] = sum;", "(*sums)[held] = 2.0 * sum;"),
        // Rounded towards zero.
        (
            Medium,
            "let high = value;",
            "let high = bitcast<f32>(bitcast<u32>(value) & 0xffffe000u);",
        ),
        // Infinity that is lost.
        (Medium, "let high = value;", "let high = clamp(value, -65504.0, 65504.0);"),
        // Columns for rows.
        (Medium, "at / 16u * ", "at % 16u * "),
        // A product less, of either kind.
        (High, "multiply_add(left0_1, right0_0, &s0_0_1, member);", ""),
        (High, "multiply_add(left0_0, right0_1, &s0_0_1, member);", ""),
        // The first half for the second one.
        (High, "multiply_add(left0_1, right0_0,", "multiply_add(left0_0, right0_0,"),
        // A second half that counts too little.
        (High, "(value - high) * 2048.0", "(value - high) * 1024.0"),
    ];
    for (precision, text, fault) in faults {
        let planted = Some((text, fault));
        let variant = Variant { planted, algorithm: None, ..variant(SIXTEEN, precision) };
        let Some(device) = harness::adapter_with(variant) else { return };
        assert_eq!(device.matmul_precision(), MatmulPrecision::Highest, "{fault}");
        let reason = device.refused().unwrap_or_default();
        assert!(reason.starts_with("cooperative matrices gave "), "{fault}: {reason}");
    }
}

#[test]
fn what_a_driver_refuses_is_not_used() {
    let planted = Some(("var<workgroup> tile_sum", "var<workgroup> tile_total"));
    let variant = Variant { planted, ..variant(EIGHT, MatmulPrecision::High) };
    let Some(device) = harness::adapter_with(variant) else { return };
    assert_eq!(device.matmul_precision(), MatmulPrecision::Highest);
    assert!(device.refused().unwrap_or_default().contains("tile_sum"), "{:?}", device.refused());
}

#[test]
fn devices_without_cooperative_matrices_say_so() {
    for name in ["cpu", "null:webgpu", "software"] {
        let Ok(device) = Device::open_with_precision(name, MatmulPrecision::Medium) else {
            continue;
        };
        assert_eq!(device.matmul_precision(), MatmulPrecision::Highest);
        assert!(device.refused().unwrap_or_default().contains("cooperative matrices"));
        assert_eq!(Device::open(name).unwrap().refused(), None);
    }
    let device = Device::open_with_precision("null:h200", MatmulPrecision::High).unwrap();
    assert_eq!((device.matmul_precision(), device.refused()), (MatmulPrecision::High, None));
    assert_eq!(device.info().name, "null:h200");
}

#[test]
fn products_are_cooperative_where_it_pays() {
    let of = |precision, [m, n, k]: [usize; 3]| {
        let contraction = Contraction::MatMul { batch: vec![], m, n, k };
        let limits = Limits::profile("h200").unwrap().with_precision(precision);
        Algorithm::of(&contraction, &limits, None)
    };
    for precision in [MatmulPrecision::Medium, MatmulPrecision::High] {
        assert_eq!(of(precision, [64, 4096, 256]), Algorithm::Cooperative);
        assert_eq!(of(precision, [63, 4096, 512]), Algorithm::Tiled);
        assert_eq!(of(precision, [4096, 4096, 31]), Algorithm::Tiled);
        assert_eq!(of(precision, [64, 4096, 255]), Algorithm::Tiled);
    }
    assert_eq!(of(MatmulPrecision::Highest, [4096; 3]), Algorithm::Tiled);
}

#[test]
fn a_precision_has_the_name_that_it_prints() {
    for precision in [MatmulPrecision::Highest, MatmulPrecision::High, MatmulPrecision::Medium] {
        assert_eq!(precision.to_string().parse(), Ok(precision));
    }
    let error = "low".parse::<MatmulPrecision>().unwrap_err();
    assert!(error.contains("highest, high, medium"), "{error}");
}
