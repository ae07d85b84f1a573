//! Row kernels on adapters: whether results are folded in subgroups or through a workgroup's memory, and elements kept between passes or
//! computed again, rows have the same bits, and the CPU's values.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use harness::{assert_close, bits, numbers};
use shadegrad::device::{Body, Device, DeviceClass, Limits, Variant, random, render};
use shadegrad::graph::{Array, Options};
use shadegrad::prelude::*;

/// What is reduced along one axis, in one kernel each: in one pass and in several, with and without elements that are stored, of floats
/// and integers, and of elements that are masked.
fn record(graph: &Graph, shape: [usize; 2], axis: usize, number: usize) -> Vec<Tensor> {
    let x = graph.variable(&numbers("x", &shape, 1)) * 8.0;
    let y = graph.variable(&numbers("y", &shape, 2));
    let each = |rows: &Tensor| rows.unsqueeze(axis);
    let along = axis as isize;
    match number {
        0 => vec![x.softmax(along), x.amax(&[axis])],
        1 => {
            let off = &x - each(&x.mean(&[axis]));
            let norm = &off / (each(&(&off * &off).mean(&[axis])) + 1e-3).sqrt();
            vec![&y - &norm * each(&(&y * &norm).mean(&[axis])), norm]
        }
        2 => {
            let padded = x.pad(axis, 1, 2);
            vec![(&padded - each(&padded.amax(&[axis]))).exp().sum(&[axis])]
        }
        3 => vec![x.log_softmax(along).amin(&[axis]), (&y * 0.01 + 1.0).prod(&[axis])],
        4 => vec![x.argmax(along), (&y * 0.0).amin(&[axis])],
        _ => {
            let count = (shape[0] * shape[1]) as u32;
            let words: Vec<u8> = (0..count).flat_map(|i| random(3, i).to_le_bytes()).collect();
            let whole = graph.variable(&Variable::from_bytes("n", &shape, DType::I32, words));
            vec![whole.sum(&[axis]), whole.amin(&[axis])]
        }
    }
}

/// How many such kernels there are.
const KERNELS: usize = 6;

/// Rows, columns and the axis of these: fewer than there are invocations, a few more, several for each, too many to keep.
const SHAPES: [([usize; 2], usize); 7] = [
    ([5, 17], 1),
    ([70, 100], 1),
    ([9, 257], 1),
    ([5, 1024], 1),
    ([3, 4099], 1),
    ([17, 5], 0),
    ([257, 70], 0),
];

/// What is computed, and the shaders.
fn run(device: &Device, variant: &Variant, shape: [usize; 2], axis: usize) -> (Vec<Array>, String) {
    let (mut arrays, mut sources) = (vec![], String::new());
    for number in 0..KERNELS {
        let graph = Graph::new();
        let outputs = record(&graph, shape, axis, number);
        let outputs: Vec<&Tensor> = outputs.iter().collect();
        let (loaded, found) = harness::run_guarded(device, &graph, &outputs, Options::default(), 1);
        arrays.extend(found);
        for kernel in &loaded.compiled().program.kernels {
            if matches!(kernel.body, Body::Rows { .. }) {
                sources += &render(kernel, device.limits(), variant).unwrap().source;
            }
        }
    }
    (arrays, sources)
}

/// Whether shaders fold in subgroups, and keep elements.
fn has(source: &str) -> [bool; 2] {
    ["subgroupShuffleXor(", "    var k"].map(|text| source.contains(text))
}

/// An adapter whose rows are folded in one way, with whether that is in subgroups and whether elements are kept.
struct Way {
    device: Device,
    variant: Variant,
    expected: [bool; 2],
}

impl Way {
    /// With subgroups as the adapter has them, of which so many are known to be one, or for which memory stands.
    fn all() -> Vec<Way> {
        let least = |least_subgroup: usize| {
            let all = Limits::profile("h200").unwrap();
            Some(Limits { least_subgroup, invocations: 256, ..all })
        };
        let real = [(None, true), (least(4), false), (least(0), true), (least(0), false)];
        let real = real.map(|(limits, kept)| (limits, None, kept));
        let exchanged = [16, 128].map(|size| (None, Some(size), size == 128));
        let open = |(limits, exchanged, kept)| {
            let (kept, grouped) = (Some(kept), Some(true));
            let variant = Variant { limits, exchanged, kept, grouped, ..Variant::default() };
            let device = harness::adapter_with(variant.clone())?;
            let of_subgroups = device.limits().least_subgroup > 0 && exchanged.is_none();
            Some(Way { device, variant, expected: [of_subgroups, kept == Some(true)] })
        };
        real.into_iter().chain(exchanged).filter_map(open).collect()
    }
}

#[test]
fn rows_have_the_same_bits_however_they_are_folded_and_kept() {
    let ways = Way::all();
    let (mut subgroups, mut keeping) = (0, 0);
    for (shape, axis) in SHAPES {
        let mut first: Option<Vec<u64>> = None;
        let cpu = run(&Device::cpu(Some(2)), &Variant::default(), shape, axis).0;
        for Way { device, variant, expected } in &ways {
            let (found, source) = run(device, variant, shape, axis);
            let about = format!("{shape:?} along {axis}, {variant:?}");
            assert_close(&found, &cpu);
            let first = first.get_or_insert_with(|| bits(&found));
            // Compilers of GPUs take products and sums together where they like.
            let exact = device.info().class == DeviceClass::Software;
            assert!(!exact || *first == bits(&found), "{about}");
            let [folds, keeps] = has(&source);
            // Rows beside each other share no subgroup of eight, and long ones are too much for registers.
            let near = axis == 1 || device.limits().least_subgroup >= 16;
            let expected = [expected[0] && near, expected[1] && shape[axis] < 4099];
            assert_eq!([folds, keeps], expected, "{about}\n{source}");
            let stands = variant.exchanged.is_some();
            assert_eq!(source.contains("[lane ^ "), stands, "{about}\n{source}");
            subgroups += usize::from(folds);
            keeping += usize::from(keeps);
        }
    }
    assert!(ways.is_empty() || keeping > 15, "{keeping} kept");
    assert!(subgroups > 0 || ways.iter().all(|way| !way.expected[0]));
}

#[test]
fn what_is_no_number_is_seen_wherever_it_is() {
    for Way { device, variant, .. } in Way::all() {
        for columns in [20, 300] {
            let graph = Graph::new();
            let x = graph.variable(&numbers("x", &[40, columns], 1));
            // In each row somewhere else.
            let values =
                (0..40 * columns).map(|at| match at % columns == at / columns * 37 % columns {
                    true => f32::NAN,
                    false => 1.0,
                });
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            let hidden = Variable::from_bytes("hidden", &[40, columns], DType::F32, bytes);
            let hidden = graph.variable(&hidden);
            let outputs = [hidden.amax(&[1]), hidden.amin(&[1]), hidden.sum(&[1]), x.amax(&[1])];
            let outputs: Vec<&Tensor> = outputs.iter().collect();
            let found = harness::run_guarded(&device, &graph, &outputs, Options::default(), 1).1;
            let about = format!("{columns} columns, {variant:?}");
            assert!(found[..3].iter().all(|one| one.data.iter().all(|v| v.is_nan())), "{about}");
            assert!(found[3].data.iter().all(|v| v.is_finite()), "{about}");
        }
    }
}

#[test]
fn subgroups_that_are_not_what_they_should_be_are_left_alone() {
    let open = |planted| {
        let variant = Variant { grouped: Some(true), planted, ..Variant::default() };
        Some((harness::adapter_with(variant.clone())?, variant))
    };
    let (Some(sound), Some(faulty)) = (
        open(None),
        // Invocations that are numbered otherwise than they share subgroups.
        open(Some(("subgroup * width + place", "subgroup + place * 32u"))),
    ) else {
        return;
    };
    let subgroups = sound.0.limits().least_subgroup;
    assert_eq!(faulty.0.limits().least_subgroup, 0);
    let [(found, source), (expected, _)] =
        [&faulty, &sound].map(|(device, variant)| run(device, variant, [9, 257], 1));
    assert!(!has(&source)[0] && bits(&found) == bits(&expected), "{subgroups} in subgroups");
}

#[test]
fn short_rows_of_one_invocation_are_kept() {
    let variant = |kept| Variant { grouped: Some(false), kept: Some(kept), ..Variant::default() };
    let open = |kept| Some((harness::adapter_with(variant(kept))?, variant(kept)));
    let (Some(kept), Some(again)) = (open(true), open(false)) else { return };
    for columns in [2, 3, 10, 16] {
        let shape = [67, columns];
        let (found, source) = run(&kept.0, &kept.1, shape, 1);
        assert_eq!(has(&source), [false, true], "{source}");
        let (expected, source) = run(&again.0, &again.1, shape, 1);
        assert_eq!(has(&source), [false, false], "{source}");
        assert_close(&found, &run(&Device::cpu(Some(2)), &kept.1, shape, 1).0);
        let exact = kept.0.info().class == DeviceClass::Software;
        assert!(!exact || bits(&found) == bits(&expected), "{columns} columns");
    }
}

#[test]
fn gpus_keep_rows_and_fold_them_in_subgroups() {
    let shader = |profile: &str, columns: usize| {
        let limits = Limits::profile(profile).unwrap();
        let graph = Graph::new();
        let softmax = graph.variable(&numbers("x", &[64, columns], 1)).softmax(-1);
        let nodes = graph.nodes(&[&softmax]).unwrap();
        let program =
            shadegrad::graph::compile(&nodes, &limits, &Options::default()).unwrap().program;
        render(&program.kernels[0], &limits, &Variant::default()).unwrap().source
    };
    // Two results of 256 invocations each: a read of eight, five steps in subgroups of 32, and a barrier before the array serves again.
    let source = shader("h200", 1024);
    let count = |text: &str| source.matches(text).count();
    assert_eq!(has(&source), [true, true], "{source}");
    assert_eq!([count("workgroupBarrier"), count("subgroupShuffleXor")], [3, 10], "{source}");
    // A row is loaded once, four elements by each invocation, and its exponentials are kept.
    assert_eq!([count("b0["), count("= exponential(")], [4, 4], "{source}");
    // Rows of a subgroup have no barrier, and what is too much for registers is loaded again.
    assert!(!shader("h200", 100).contains("workgroupBarrier"));
    assert_eq!(has(&shader("h200", 8192)), [true, false]);
    assert_eq!(has(&shader("webgpu", 1024)), [false, true]);
    assert_eq!(has(&shader("lavapipe", 1024)), [false, false]);
}
