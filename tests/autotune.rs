//! The autotuner: what it chooses computes the same, costs what was asked for, is kept, and changes nothing that outlives a step.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use harness::{assert_close, bits, numbers};
use shadegrad::device::{Autotune, Body, Device, DeviceClass, Kernel, Tuning, Variant};
use shadegrad::graph::{Array, ConvOptions, Options};
use shadegrad::prelude::*;
use std::path::Path;
use std::time::Duration;

fn settings(folder: &Path) -> Autotune {
    Autotune { budget: Duration::from_secs(600), folder: Some(folder.to_path_buf()) }
}

/// What two products of one shape, one of another and a convolution give.
fn computed(device: &Device) -> Vec<Array> {
    let graph = Graph::new();
    let variable = |name: &str, shape: &[usize], seed| graph.variable(&numbers(name, shape, seed));
    let [a, b] = [variable("a", &[70, 36], 1), variable("b", &[36, 44], 2)];
    let (image, filter) =
        (variable("image", &[2, 3, 9, 10], 3), variable("filter", &[5, 3, 3, 3], 4));
    let product = a.matmul(&b);
    let computed = a.exp().matmul(&b.relu());
    let square = harness::in_memory(&product).permute(&[1, 0]).matmul(&computed);
    let again = a.matmul(&variable("c", &[36, 44], 5));
    let outputs =
        [&product, &square, &again, &image.conv2d(&filter, None, &ConvOptions::default())];
    // Those that share a dispatch aren't measured.
    let options = Options { share: false, ..Options::default() };
    let mut loaded = Session::new(device).compile_with(&graph, &outputs, &options).unwrap();
    loaded.run(1).unwrap();
    (0..outputs.len()).map(|output| loaded.read_array(output).unwrap()).collect()
}

#[test]
fn each_shape_is_measured_once_and_what_is_chosen_computes_the_same() {
    let expected = computed(&Device::cpu(Some(2)));
    // As software adapters and as large GPUs choose.
    for class in [None, Some(DeviceClass::Discrete)] {
        let folder = tempfile::tempdir().unwrap();
        let open = || harness::adapter_with(Variant { class, ..Variant::default() });
        let Some(device) = open() else { return };
        assert_close(&computed(&device), &expected);
        assert_eq!(
            device.tuning(),
            Tuning::default(),
            "nothing is measured unless it is asked for"
        );

        device.autotune(settings(folder.path()));
        assert_close(&computed(&device), &expected);
        let first = device.tuning();
        let mut shapes: Vec<&str> = first.measured.iter().map(|tuned| &*tuned.shape).collect();
        shapes.sort_unstable();
        assert_eq!(
            shapes,
            [
                "conv2d of [2, 3, 9, 10] and [5, 3, 3, 3], stride [1, 1], padding [0, 0], dilation [1, 1], groups 1, parts 1",
                "matmul [] of 44x70 and 70x44, tn, in fours, parts 1",
                "matmul [] of 70x36 and 36x44, nn, in fours, parts 1",
                "matmul [] of 70x36 and 36x44, nn, parts 1",
            ]
        );
        assert_eq!((first.known, first.left_out), (1, 0), "the second product of its shape");
        computed(&device);
        assert_eq!(device.tuning(), Tuning { known: 6, ..first }, "nothing is measured again");

        let later = open().unwrap();
        later.autotune(settings(folder.path()));
        assert_close(&computed(&later), &expected);
        let kept = Tuning { known: 5, ..Tuning::default() };
        assert_eq!(later.tuning(), kept, "nor by who finds the file");
    }
}

#[test]
fn what_is_kept_decides_unless_it_is_about_another_device() {
    let folder = tempfile::tempdir().unwrap();
    let open = |planted| {
        let class = Some(DeviceClass::Software);
        harness::adapter_with(Variant { planted, class, ..Variant::default() })
    };
    let Some(device) = open(None) else { return };
    let expected = computed(&device);
    device.autotune(settings(folder.path()));
    computed(&device);
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().unwrap() == "txt").unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let (about, choices) = text.split_once('\n').unwrap();
    let direct = |line: &str| format!("{}: Direct\n", line.split_once(": ").unwrap().0);
    let direct: String = choices.lines().map(direct).collect();
    // A fault in the shader that the device wouldn't take by itself.
    let planted = Some(("s0 += a.x * b;", "s0 += a.y * b;"));
    let found = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let device = open(planted).unwrap();
        device.autotune(Autotune { budget: Duration::ZERO, ..settings(folder.path()) });
        let agrees = computed(&device)[0].data == expected[0].data;
        (agrees, device.tuning().known, device.tuning().left_out)
    };
    assert_eq!(found(&format!("{about}\n{direct}")), (false, 5, 0), "what the file says is used");
    assert_eq!(found(&format!("{about}, but newer\n{direct}")), (true, 0, 5));
    assert_eq!(found("no such text\n\u{0}"), (true, 0, 5));
    let unknown = direct.replace("Direct", "Indirect");
    assert_eq!(found(&format!("{about}\n{unknown}")), (true, 0, 5));
}

#[test]
fn no_time_is_no_measurement() {
    let Some(device) = harness::adapter() else { return };
    device.autotune(Autotune { budget: Duration::ZERO, folder: None });
    let expected = computed(&device);
    assert_eq!(device.tuning(), Tuning { left_out: 5, ..Tuning::default() });
    let plain = harness::adapter().unwrap();
    assert_eq!(bits(&expected), bits(&computed(&plain)));
}

#[test]
fn variables_keep_their_values() {
    let Some(device) = harness::adapter() else { return };
    let graph = Graph::new();
    let (a, b) = (numbers("a", &[70, 36], 1), numbers("b", &[36, 44], 2));
    let state = numbers("state", &[70, 44], 3);
    graph.assign(&state, &graph.variable(&a).matmul(&graph.variable(&b)));
    device.autotune(Autotune { budget: Duration::from_secs(600), folder: None });
    let mut session = Session::new(&device);
    let mut loaded = session.compile(&graph, &[]).unwrap();
    let program = &loaded.compiled().program;
    let external =
        |kernel: &Kernel, operand: usize| program.buffers[kernel.operands[operand].buffer].external;
    let overwrites = |kernel: &Kernel| match &kernel.body {
        Body::Contract { stores, .. } => stores.iter().any(|s| external(kernel, s.operand)),
        _ => false,
    };
    assert!(program.kernels.iter().any(overwrites), "the product is stored into the variable");
    assert_eq!(device.tuning().measured.len(), 1);
    let before = session.read_array(&state).unwrap();
    loaded.run(1).unwrap();
    let after = session.read_array(&state).unwrap();

    let mut host = Session::new(&Device::cpu(Some(1)));
    assert_eq!(before.data, host.read_array(&state).unwrap().data, "measuring has no effect");
    host.compile(&graph, &[]).unwrap().run(1).unwrap();
    assert_close(&[after], &[host.read_array(&state).unwrap()]);
}
