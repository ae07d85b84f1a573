//! Operations that are computed as others: long reductions in two levels, convolutions with filters of one element as products, on GPUs
//! products with a vector as sums of rows and convolutions of each channel alone as sums of shifted images.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use harness::{bits, numbers};
use shadegrad::device::{Body, Contraction, DeviceClass, Limits, Term, Variant, random};
use shadegrad::graph::{Array, ConvOptions, Options, Padding};
use shadegrad::prelude::*;

/// The CPU, and the adapter with the shaders of each class of adapters.
fn devices() -> Vec<Device> {
    let classes = [DeviceClass::Software, DeviceClass::Integrated, DeviceClass::Discrete];
    let adapters = classes
        .map(|class| harness::adapter_with(Variant { class: Some(class), ..Variant::default() }));
    std::iter::once(Device::cpu(Some(2))).chain(adapters.into_iter().flatten()).collect()
}

fn run(device: &Device, graph: &Graph, outputs: &[&Tensor]) -> (Vec<Array>, Vec<Body>) {
    let (loaded, found) = harness::run_guarded(device, graph, outputs, Options::default(), 1);
    let kernels = &loaded.compiled().program.kernels;
    (found, kernels.iter().map(|kernel| kernel.body.clone()).collect())
}

/// Extents that can be divided by numbers of all kinds.
const LONG: [(&[usize], &[usize]); 6] = [
    (&[262_150], &[0]),
    (&[3, 100_002], &[1]),
    (&[262_150, 2], &[0]),
    (&[525, 2, 509], &[0, 2]),
    (&[2, 4, 256, 256], &[2, 3]),
    (&[64, 64, 3, 128], &[0, 1, 3]),
];

/// Whole numbers from -8 to 7, whose sums have no rounding in any order.
fn whole(x: &Tensor) -> Tensor {
    (x * 16.0).floor()
}

/// Asserts that a reduction has two levels: rows that are more than the results, and none as long as what is reduced.
fn has_two_levels(kernels: &[Body], [results, terms]: [usize; 2], two: bool) {
    let of_rows = kernels.iter().filter_map(|body| match body {
        Body::Rows { rows, cols, .. } => Some([rows, cols].map(|n| n.iter().product())),
        _ => None,
    });
    let of_rows: Vec<[usize; 2]> = of_rows.collect();
    assert_eq!(of_rows.iter().any(|[rows, _]| *rows > results), two, "{of_rows:?}");
    assert_eq!(of_rows.iter().all(|[_, cols]| *cols <= terms / 4), two, "{of_rows:?}");
}

#[test]
fn long_reductions_have_two_levels() {
    for device in devices() {
        for (shape, axes) in LONG {
            let terms: usize = axes.iter().map(|&axis| shape[axis]).product();
            let count: usize = shape.iter().product();
            let of = [count / terms, terms];
            let long = device.limits().class != DeviceClass::Cpu || terms >= 1 << 18;
            let same = |graph: &Graph, outputs: &[&Tensor]| {
                let (found, kernels) = run(&device, graph, outputs);
                let expected = graph.reference(outputs).unwrap();
                assert!(bits(&found) == bits(&expected), "{shape:?}, {axes:?}, {}", device.info());
                kernels
            };
            let graph = Graph::new();
            let x = graph.variable(&numbers("x", shape, 7));
            let bytes: Vec<u8> =
                (0..count as u32).flat_map(|i| random(3, i).to_le_bytes()).collect();
            let wrapping = graph.variable(&Variable::from_bytes("n", shape, DType::I32, bytes));
            let sums = [whole(&x).sum(axes), wrapping.sum(axes), x.amax(axes), (-&x).amin(axes)];
            has_two_levels(&same(&graph, &sums.each_ref()), of, long);
            // Signs, a few doublings and halvings: products without rounding. The CPU multiplies in f64, which parts would not.
            let graph = Graph::new();
            let x = graph.variable(&numbers("x", shape, 7));
            let extreme = |sign: f64, factor: f64, other: &Tensor| {
                (&x * sign).greater(&x.full_like(0.4998)).select(&x.full_like(factor), other)
            };
            let signs = x.greater(&x.zeros_like()).select(&x.ones_like(), &x.full_like(-1.0));
            let product = extreme(1.0, 2.0, &extreme(-1.0, 0.5, &signs)).prod(axes);
            let two = device.limits().class != DeviceClass::Cpu;
            has_two_levels(&same(&graph, &[&product]), of, two);
        }
    }
}

#[test]
fn long_reductions_of_halves_and_of_what_is_not_a_number() {
    for device in devices() {
        let graph = Graph::new();
        let x = graph.variable(&numbers("x", &[262_150], 7));
        let place = x.along(0);
        let hidden = place.equal(&place.full_like(262_149.0)).select(&x.full_like(f64::NAN), &x);
        let mut outputs = vec![hidden.amax(&[0]), hidden.amin(&[0])];
        if device.limits().f16 {
            outputs.push(whole(&x).to(DType::F16).sum(&[0]));
        }
        let outputs: Vec<&Tensor> = outputs.iter().collect();
        let (found, _) = run(&device, &graph, &outputs);
        assert!(found[..2].iter().all(|one| one.data[0].is_nan()), "on {}", device.info());
        let expected = graph.reference(&outputs).unwrap();
        assert_eq!(bits(&found[2..]), bits(&expected[2..]), "on {}", device.info());
    }
}

#[test]
fn long_reductions_of_nothing_give_nothing() {
    for device in devices() {
        let graph = Graph::new();
        let x = graph.variable(&numbers("x", &[0, 1 << 19], 7));
        let (found, _) = run(&device, &graph, &[&x.sum(&[1])]);
        assert_eq!(found[0].ty.shape, [0], "on {}", device.info());
    }
}

#[test]
fn short_reductions_and_those_with_many_results_have_one_level() {
    for limits in [Limits::CPU, Limits::profile("h200").unwrap()] {
        let device = Device::null(limits);
        for shape in [[1, 65_535], [9, 65_536]] {
            let graph = Graph::new();
            let x = graph.variable(&numbers("x", &shape, 7));
            let sum = x.sum(&[1]);
            let loaded = Session::new(&device).compile(&graph, &[&sum]).unwrap();
            assert_eq!(loaded.report().counts.dispatches, 1, "{shape:?}");
        }
    }
}

#[test]
fn what_is_put_together_is_reduced_without_being_stored() {
    for limits in [Limits::CPU, Limits::profile("h200").unwrap()] {
        let device = Device::null(limits);
        let graph = Graph::new();
        let [x, y] = [1, 2].map(|n| graph.variable(&numbers("x", &[n * 300_001], n as u32)));
        let sum = (graph.concat(&[&x, &y], 0) * 2.0).sum(&[0]);
        // Nor is what is computed, and what can't be divided stays one row.
        let [x, y, z] = [262_150, 262_150, 262_147]
            .map(|len| graph.variable(&numbers("x", &[len], len as u32)));
        let (most, whole) = ((&x + &y).amax(&[0]), (&z * &z).sum(&[0]));
        for (output, dispatches) in [(sum, 1), (most, 2), (whole, 1)] {
            let loaded = Session::new(&device).compile(&graph, &[&output]).unwrap();
            assert_eq!(loaded.report().counts.dispatches, dispatches);
        }
    }
}

/// Images by filters of one element with what follows: the result, and the gradients by both.
fn pointwise(graph: &Graph, [height, width]: [usize; 2], inside: bool) -> Vec<Tensor> {
    let x = graph.variable(&numbers("x", &[3, 20, height, width], 1));
    let w = graph.variable(&numbers("w", &[36, 20, 1, 1], 2));
    let bias = graph.variable(&numbers("bias", &[36], 3));
    let slope = graph.variable(&numbers("slope", &[3, 36, height, width], 4));
    let y = match inside {
        true => x.conv2d(&w, Some(&bias), &ConvOptions::default()),
        // The same inside of filters of nine.
        false => {
            let padding = Padding::Zeros([1, 1]);
            let options = ConvOptions { padding, ..ConvOptions::default() };
            x.conv2d(&w.pad(2, 1, 1).pad(3, 1, 1), Some(&bias), &options)
        }
    }
    .relu();
    let mut outputs = graph.gradients(&(&y * &slope).sum_all(), &[&x, &w, &bias]);
    outputs.push(y);
    outputs
}

#[test]
fn filters_of_one_element_are_products() {
    // Large enough, of one pixel, and of a few that would fill a small part of a tile.
    for (image, expected) in [([7, 5], 2), ([1, 1], 2), ([4, 4], 0)] {
        for device in devices() {
            let [(found, kernels), (others, nine)] = [true, false].map(|inside| {
                let graph = Graph::new();
                let outputs = pointwise(&graph, image, inside);
                run(&device, &graph, &outputs.iter().collect::<Vec<_>>())
            });
            harness::assert_close(&found, &others);
            let products = |kernels: &[Body]| {
                let product = |body: &&Body| {
                    matches!(body, Body::Contract { contraction: Contraction::MatMul { .. }, .. })
                };
                kernels.iter().filter(product).count()
            };
            // The weight's gradient sums over images, too, which a product of matrices does not.
            let counts = [products(&kernels), products(&nine)];
            assert_eq!(counts, [expected, 0], "{image:?} on {}", device.info());
            // What follows, and the gradient of the bias, are in the same kernels.
            assert!(kernels.len() <= 4, "{} kernels on {}", kernels.len(), device.info());
        }
    }
}

#[test]
fn gradients_through_strides_leave_out_what_meets_nothing() {
    // Strides that filters are longer and shorter than, that don't divide the image, along one axis only, in groups, that are filled
    // by the filters, and more than are taken apart.
    let cases: [([[usize; 2]; 4], usize); 7] = [
        ([[8, 8], [3, 3], [2, 2], [1, 1]], 1),
        ([[13, 9], [5, 4], [2, 2], [2, 0]], 1),
        ([[11, 10], [1, 1], [2, 2], [0, 0]], 1),
        ([[9, 12], [2, 3], [3, 1], [1, 1]], 2),
        ([[7, 15], [3, 7], [1, 4], [0, 3]], 4),
        ([[6, 8], [2, 2], [2, 2], [0, 0]], 1),
        ([[7, 7], [3, 3], [3, 3], [1, 1]], 1),
    ];
    // The last of all classes has the tiles of GPUs, the first shaders for the host's cores.
    let all = devices();
    for device in all.iter().filter(|d| d.limits().class != DeviceClass::Integrated) {
        for ([input, kernel, stride, padding], groups) in cases {
            let graph = Graph::new();
            let x = graph.variable(&numbers("x", &[2, 4, input[0], input[1]], 1));
            let w = graph.variable(&numbers("w", &[8, 4 / groups, kernel[0], kernel[1]], 2));
            let padding = Padding::Zeros(padding);
            let options = ConvOptions { stride, padding, groups, ..ConvOptions::default() };
            let y = x.conv2d(&w, None, &options);
            let slope = graph.variable(&numbers("slope", &y.shape(), 3));
            let outputs = graph.gradients(&(&y * &slope).sum_all(), &[&x]);
            let outputs: Vec<&Tensor> = outputs.iter().collect();
            let (found, kernels) = run(device, &graph, &outputs);
            harness::assert_close(&found, &graph.reference(&outputs).unwrap());
            let strides = kernels.iter().filter_map(|body| match body {
                Body::Contract { contraction: Contraction::Conv(conv, _), .. } => Some(conv.stride),
                Body::Contract { .. } => Some([1, 1]),
                _ => None,
            });
            let whole = device.limits().class == DeviceClass::Cpu || stride == [3, 3];
            // One for each place in a stride that an element of the filter meets.
            let met = |axis: usize| stride[axis].min(kernel[axis]);
            let expected = if whole { vec![stride] } else { vec![[1, 1]; met(0) * met(1)] };
            assert_eq!(strides.collect::<Vec<_>>(), expected, "on {}", device.info());
        }
    }
}

/// How many contractions there are.
fn contractions(kernels: &[Body]) -> usize {
    kernels.iter().filter(|body| matches!(body, Body::Contract { .. })).count()
}

#[test]
fn on_gpus_channels_of_their_own_are_sums_of_shifted_images() {
    // Filters that are wider than high, that stick out of the image or see nothing of its edge, strides and distances between elements that
    // don't divide the image, and more elements than are written out.
    let cases: [([[usize; 2]; 5], bool); 7] = [
        ([[9, 7], [3, 3], [1, 1], [1, 1], [1, 1]], true),
        ([[8, 9], [3, 5], [1, 1], [0, 2], [1, 1]], true),
        ([[11, 8], [2, 3], [1, 1], [3, 4], [2, 1]], true),
        ([[8, 8], [3, 3], [2, 2], [1, 1], [1, 1]], true),
        ([[13, 10], [3, 2], [3, 2], [2, 0], [1, 1]], true),
        ([[6, 12], [1, 4], [1, 4], [0, 1], [1, 2]], true),
        ([[9, 9], [7, 8], [1, 1], [3, 3], [1, 1]], false),
    ];
    for device in devices() {
        for ([input, kernel, stride, padding, dilation], few) in cases {
            let graph = Graph::new();
            let x = graph.variable(&numbers("x", &[3, 5, input[0], input[1]], 1));
            let w = graph.variable(&numbers("w", &[5, 1, kernel[0], kernel[1]], 2));
            let padding = Padding::Zeros(padding);
            let options = ConvOptions { stride, padding, dilation, groups: 5 };
            let y = x.conv2d(&w, None, &options);
            let slope = graph.variable(&numbers("slope", &y.shape(), 3));
            let mut outputs = graph.gradients(&(&y * &slope).sum_all(), &[&x, &w]);
            outputs.push(y.relu());
            let outputs: Vec<&Tensor> = outputs.iter().collect();
            let (found, kernels) = run(&device, &graph, &outputs);
            harness::assert_close(&found, &graph.reference(&outputs).unwrap());
            let about = format!("{input:?} by {kernel:?} on {}", device.info());
            // A gradient of the input through strides and distances at once stays one.
            let whole = stride != [1, 1] && dilation != [1, 1] || stride[0] * stride[1] > 4;
            let expected = if few { usize::from(whole) } else { 3 };
            match device.limits().class.is_gpu() {
                true => assert_eq!(contractions(&kernels), expected, "{about}"),
                false => assert!(contractions(&kernels) >= 3, "{about}"),
            }
        }
    }
}

#[test]
fn on_gpus_products_with_a_vector_are_sums_of_rows() {
    // A row, a column, a number and an outer product, in batches, and sums that are long.
    let cases = [
        [1, 1, 70, 37],
        [1, 45, 1, 300],
        [4, 1, 9, 33],
        [3, 20, 30, 1],
        [1, 1, 1, 5],
        [1, 1, 2, 80_000],
    ];
    for device in devices() {
        for ([batch, m, n, k], turned) in cases.into_iter().zip([false, true].into_iter().cycle()) {
            let graph = Graph::new();
            let a = graph.variable(&numbers("a", &[batch, m, k], 1));
            let stored = if turned { [batch, n, k] } else { [batch, k, n] };
            let b = graph.variable(&numbers("b", &stored, 2));
            let right = if turned { b.transpose(-1, -2) } else { b.clone() };
            let bias = graph.variable(&numbers("bias", &[n], 3));
            let y = (a.matmul(&right) + &bias).relu();
            let slope = graph.variable(&numbers("slope", &[batch, m, n], 4));
            let mut outputs = graph.gradients(&(&y * &slope).sum_all(), &[&a, &b, &bias]);
            outputs.push(y);
            let outputs: Vec<&Tensor> = outputs.iter().collect();
            let (found, kernels) = run(&device, &graph, &outputs);
            harness::assert_close(&found, &graph.reference(&outputs).unwrap());
            let about = format!("{batch} of {m}x{k} and {k}x{n} on {}", device.info());
            // Long sums of a few are cut into parts as products.
            let expected = match device.limits().class.is_gpu() {
                true => usize::from(k == 80_000),
                false => 3,
            };
            assert_eq!(contractions(&kernels), expected, "{about}");
        }
    }
}

/// Of each kernel for a large GPU that computes what is recorded, its family and how much it loads.
fn loads(record: &dyn Fn(&Graph) -> Vec<Tensor>) -> Vec<(&'static str, usize)> {
    let device = Device::null(Limits::profile("h200").unwrap());
    let graph = Graph::new();
    let outputs = record(&graph);
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let loaded = Session::new(&device).compile(&graph, &outputs).unwrap();
    let load = |term: &&Term| matches!(term, Term::Load { .. });
    let kernels = loaded.compiled().program.kernels.iter();
    kernels.map(|k| (k.body.family(), k.expr.terms.iter().filter(load).count())).collect()
}

#[test]
fn what_is_shifted_is_computed_once() {
    let of = |before: &dyn Fn(&Tensor) -> Tensor| {
        loads(&|graph| {
            let x = before(&graph.variable(&numbers("x", &[8, 16, 12, 12], 1)));
            let w = graph.variable(&numbers("w", &[16, 1, 3, 3], 2));
            vec![x.conv2d(&w, None, &ConvOptions { groups: 16, ..ConvOptions::default() })]
        })
    };
    // A step and what is as cheap are computed at each place, exponentials once.
    assert_eq!(of(&|x| x.relu()), [("map", 18)]);
    assert_eq!(of(&|x| x.exp()), [("map", 1), ("map", 18)]);
    // What follows from an image and the mean and deviation of its channels is not computed nine times.
    let norm = |x: &Tensor| {
        let channels = |sums: Tensor| sums.reshape(&[16, 1, 1]);
        let off = x - channels(x.mean(&[0, 2, 3]));
        &off / (channels((&off * &off).mean(&[0, 2, 3])) + 1e-5).sqrt()
    };
    assert_eq!(of(&|x| norm(x).gelu()), [("rows", 1), ("map", 18)]);
}

#[test]
fn sums_of_shifted_images_take_few_kernels() {
    let gradients = |stride: usize| {
        loads(&|graph| {
            let x = graph.variable(&numbers("x", &[8, 16, 12, 12], 1));
            let w = graph.variable(&numbers("w", &[16, 1, 3, 3], 2));
            let (stride, padding) = ([stride; 2], Padding::Zeros([1, 1]));
            let options = ConvOptions { stride, padding, groups: 16, ..ConvOptions::default() };
            let y = x.conv2d(&w, None, &options);
            let slope = graph.variable(&numbers("slope", &y.shape(), 3));
            graph.gradients(&(y * slope).sum_all(), &[&x, &w])
        })
    };
    // Both gradients, of the weight for each image and element of the filter; the sums of all images; and these side by side.
    assert_eq!(gradients(1), [("rows", 27), ("rows", 9), ("map", 9)]);
    // Through strides the input's has four parts, which are put together.
    assert_eq!(gradients(2), [("rows", 22), ("map", 4), ("map", 1), ("rows", 9), ("map", 9)]);
}

#[test]
fn a_vector_is_computed_once_for_all_rows() {
    let product = |activation: fn(&Tensor) -> Tensor| {
        loads(&|graph| {
            let h = activation(&graph.variable(&numbers("h", &[1, 300], 1)));
            vec![h.matmul(&graph.variable(&numbers("w", &[300, 200], 2)))]
        })
    };
    assert_eq!(product(|h| h.relu()), [("rows", 2)]);
    assert_eq!(product(|h| h.gelu()), [("map", 1), ("rows", 2)]);
}

#[test]
fn what_may_wait_as_halves_is_rounded_alike_on_all_devices() {
    let families = |halves: bool| {
        let of = loads(&|graph| {
            let x = graph.variable(&numbers("x", &[8, 16, 12, 12], 1));
            let w = graph.variable(&numbers("w", &[16, 1, 3, 3], 2));
            let v = graph.variable(&numbers("v", &[144, 1], 3));
            let record = || {
                let y = x.conv2d(&w, None, &ConvOptions { groups: 16, ..ConvOptions::default() });
                vec![y, x.reshape(&[128, 144]).matmul(&v)]
            };
            if halves { graph.autocast(record) } else { record() }
        });
        of.into_iter().map(|(family, _)| family).collect::<Vec<_>>()
    };
    assert_eq!(families(false), ["map", "rows"]);
    // Sums of rows would never be halves, and products are.
    assert_eq!(families(true), ["conv", "matmul"]);
}
