//! Products of matrices on adapters that are the host's cores: loaded in vectors or one by one, and in one or two blocks of
//! rows, they have the same bits.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Algorithm, Device, Variant, random, render};
use shadegrad::graph::{Array, Options};
use shadegrad::prelude::*;

fn numbers(name: &str, shape: &[usize], seed: u32) -> Variable {
    let count: usize = shape.iter().product();
    let bytes: Vec<u8> = (0..count as u32)
        .flat_map(|i| (random(seed, i) as f32 / 4.294_967_3e9 - 0.5).to_le_bytes())
        .collect();
    Variable::from_bytes(name, shape, DType::F32, bytes)
}

/// Whether the left matrix is stored transposed, whether the right one is, and whether the left one is computed first.
type Form = [bool; 3];

/// A batch of products with a bias and an activation behind it, and the sums of the left one's rows.
fn record(
    graph: &Graph,
    [batch, m, n, k]: [usize; 4],
    [left, right, computed]: Form,
) -> Vec<Tensor> {
    let matrix = |name: &str, rows: usize, cols: usize, turned: bool, seed: u32| {
        let shape = if turned { [batch, cols, rows] } else { [batch, rows, cols] };
        let stored = graph.variable(&numbers(name, &shape, seed));
        if turned { stored.permute(&[0, 2, 1]) } else { stored }
    };
    let (a, b) = (matrix("a", m, k, left, 1), matrix("b", k, n, right, 2));
    let a = if computed { a.exp() } else { a };
    let bias = graph.variable(&numbers("bias", &[n], 3));
    vec![(a.matmul(&b) + bias).relu(), a.sum(&[2])]
}

fn run(device: &Device, sizes: [usize; 4], form: Form) -> (Vec<Array>, usize) {
    let graph = Graph::new();
    let outputs = record(&graph, sizes, form);
    let options = Options { guard: 64, ..Options::default() };
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let mut loaded = Session::new(device).compile_with(&graph, &outputs, &options).unwrap();
    loaded.run(1).unwrap();
    loaded.check_guards().unwrap();
    let found = (0..outputs.len()).map(|output| loaded.read_array(output).unwrap()).collect();
    let variant = Variant { vectors: Some(true), ..Variant::default() };
    let vectors = loaded.compiled().program.kernels.iter().filter(|kernel| {
        let rendered = render(kernel, device.limits(), &variant).unwrap();
        rendered.source.contains("left4(") && rendered.source.contains("right4(")
    });
    (found, vectors.count())
}

fn same(a: &[Array], b: &[Array]) -> bool {
    let bits = |arrays: &[Array]| -> Vec<u64> {
        arrays.iter().flat_map(|array| &array.data).map(|value| value.to_bits()).collect()
    };
    bits(a) == bits(b)
}

fn with_vectors(vectors: Option<bool>) -> Option<Device> {
    let algorithm = Some(Algorithm::Subgroups);
    harness::adapter_with(Variant { vectors, algorithm, ..Variant::default() })
}

#[test]
fn vectors_have_the_bits_of_single_elements() {
    let (Some(fours), Some(ones)) = (with_vectors(Some(true)), with_vectors(Some(false))) else {
        return;
    };
    let mut in_vectors = 0;
    for sizes in [
        [1, 8, 32, 16],
        [1, 64, 36, 4],
        [3, 20, 12, 40],
        [2, 7, 5, 9],
        [1, 12, 8, 18],
        [1, 4, 4, 1],
        [2, 9, 64, 32],
    ] {
        for number in 0..8 {
            let form = [0, 1, 2].map(|bit| number >> bit & 1 == 1);
            let ((a, vectors), (b, _)) = (run(&fours, sizes, form), run(&ones, sizes, form));
            assert!(same(&a, &b), "{sizes:?}, {form:?}");
            // What doesn't come in fours isn't loaded in vectors.
            assert!(vectors == 0 || sizes[1..] != [7, 5, 9], "{sizes:?}, {form:?}");
            in_vectors += vectors;
        }
    }
    assert!(in_vectors > 12 || fours.limits().subgroup == 0, "{in_vectors} products in vectors");
}

#[test]
fn large_products_have_the_bits_of_small_ones() {
    let (Some(chosen), Some(ones)) = (with_vectors(None), with_vectors(Some(false))) else {
        return;
    };
    // 2 m n k is more than 2^30: two blocks of rows, the last of which has one row.
    let sizes = [1, 1025, 1024, 512];
    for form in [[false, false, false], [false, true, false]] {
        assert!(same(&run(&chosen, sizes, form).0, &run(&ones, sizes, form).0), "{form:?}");
    }
    // Transposed, the left one's rows come in fours.
    let sizes = [1, 1028, 1024, 512];
    let form = [true, false, false];
    assert!(same(&run(&chosen, sizes, form).0, &run(&ones, sizes, form).0), "{form:?}");
}
