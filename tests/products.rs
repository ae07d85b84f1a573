//! Products of matrices on adapters. In subgroups, loaded in vectors or one by one, and in one, two or four blocks of rows, they have
//! the same bits; through workgroup memory, every tile computes what the reference does.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use harness::{bits, numbers};
use shadegrad::device::{Algorithm, Body, Device, DeviceClass, Limits, Tile, Variant, render};
use shadegrad::graph::{Array, ConvOptions, Options};
use shadegrad::prelude::*;

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
    let a = if computed { harness::in_memory(&a.exp()) } else { a };
    let bias = graph.variable(&numbers("bias", &[n], 3));
    vec![(a.matmul(&b) + bias).relu(), a.sum(&[2])]
}

/// An adapter that computes in one way, and how its shaders are made.
struct Way {
    device: Device,
    variant: Variant,
}

impl Way {
    fn new(algorithm: Algorithm, vectors: Option<bool>) -> Option<Way> {
        let variant = Variant { algorithm: Some(algorithm), vectors, ..Variant::default() };
        Some(Way { device: harness::adapter_with(variant.clone())?, variant })
    }

    /// Of what is recorded, with sums in so many parts: the results, and the shaders that compute them.
    fn run(
        &self,
        splits: Option<usize>,
        record: &dyn Fn(&Graph) -> Vec<Tensor>,
    ) -> (Vec<Array>, Vec<String>) {
        let device = &self.device;
        let graph = Graph::new();
        let outputs = record(&graph);
        let outputs: Vec<&Tensor> = outputs.iter().collect();
        let options = Options { splits, ..Options::default() };
        let (loaded, found) = harness::run_guarded(device, &graph, &outputs, options, 1);
        let kernels = &loaded.compiled().program.kernels;
        let source = |kernel| render(kernel, device.limits(), &self.variant).unwrap().source;
        (found, kernels.iter().map(source).collect())
    }
}

#[test]
fn vectors_have_the_bits_of_single_elements() {
    let way = |vectors| Way::new(Algorithm::Subgroups, Some(vectors));
    let (Some(fours), Some(ones)) = (way(true), way(false)) else { return };
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
            let product = |graph: &Graph| record(graph, sizes, form);
            let ((a, sources), (b, _)) = (fours.run(None, &product), ones.run(None, &product));
            let loads = |source: &&String| source.contains("left4(") && source.contains("right4(");
            let vectors = sources.iter().filter(loads).count();
            assert!(bits(&a) == bits(&b), "{sizes:?}, {form:?}");
            // What doesn't come in fours isn't loaded in vectors.
            assert!(vectors == 0 || sizes[1..] != [7, 5, 9], "{sizes:?}, {form:?}");
            in_vectors += vectors;
        }
    }
    assert!(
        in_vectors > 12 || fours.device.limits().subgroup == 0,
        "{in_vectors} products in vectors"
    );
}

/// A convolution and the gradients of its filter and bias.
fn convolution(
    graph: &Graph,
    input: [usize; 4],
    channels: usize,
    stride: [usize; 2],
) -> Vec<Tensor> {
    let x = graph.variable(&numbers("x", &input, 4));
    let w = graph.variable(&numbers("w", &[channels, input[1], 3, 3], 5));
    let bias = graph.variable(&numbers("bias", &[channels], 6));
    let options = ConvOptions { stride, ..ConvOptions::default() };
    let y = x.conv2d(&w, Some(&bias), &options);
    let slope = harness::in_memory(&graph.variable(&numbers("slope", &y.shape(), 7)));
    let mut outputs = graph.gradients(&(&y * &slope).sum_all(), &[&x, &w, &bias]);
    outputs.push(y);
    outputs
}

#[test]
fn large_contractions_have_the_bits_of_small_ones() {
    let subgroups = |vectors| Way::new(Algorithm::Subgroups, vectors);
    let (Some(chosen), Some(ones), Some(direct)) =
        (subgroups(None), subgroups(Some(false)), Way::new(Algorithm::Direct, None))
    else {
        return;
    };
    let follows = |about: &str, blocks: usize, splits, record: &dyn Fn(&Graph) -> Vec<Tensor>| {
        let expected = bits(&direct.run(splits, record).0);
        for way in [&chosen, &ones] {
            let (found, sources) = way.run(splits, record);
            assert!(bits(&found) == expected, "{about}");
            let sums = |source: &String| source.matches(" = vec4<f32>();").count();
            let rows = sources.iter().map(sums).max();
            let subgroups = way.device.limits().subgroup > 0;
            assert!(rows == Some(8 * blocks) || !subgroups, "{rows:?} rows: {about}");
        }
    };
    // The last subgroup's last block of rows is cut; transposed, the left one's rows come in fours.
    for (blocks, splits, sizes, form) in [
        (2, None, [1, 265, 256, 512], [false, false, false]),
        (2, None, [2, 62, 264, 1040], [false, true, true]),
        (2, Some(3), [1, 268, 256, 512], [true, false, false]),
        (4, None, [1, 1049, 1024, 512], [false, false, false]),
        (4, Some(3), [1, 1050, 1024, 512], [false, true, false]),
        (4, None, [2, 540, 1024, 512], [true, false, false]),
    ] {
        let about = format!("{sizes:?}, {form:?}, {splits:?}");
        follows(&about, blocks, splits, &|graph| record(graph, sizes, form));
    }
    for (blocks, input, channels) in [(2, [2, 32, 34, 34], 60), (4, [9, 64, 34, 34], 125)] {
        let about = format!("{input:?}, {channels} channels");
        follows(&about, blocks, None, &|graph| convolution(graph, input, channels, [1, 1]));
    }
}

/// Runs what is recorded with one tile, and compares it with the reference: sums of so many terms, none of them above two.
fn follows_the_reference(
    tile: Tile,
    splits: Option<usize>,
    terms: usize,
    record: &dyn Fn(&Graph) -> Vec<Tensor>,
) {
    let algorithm = Some(Algorithm::Tiled);
    let variant = Variant { algorithm, tile: Some(tile), ..Variant::default() };
    let Some(device) = harness::adapter_with(variant.clone()) else { return };
    let graph = Graph::new();
    let outputs = record(&graph);
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    let options = Options { splits, ..Options::default() };
    let (loaded, found) = harness::run_guarded(&device, &graph, &outputs, options, 1);
    let (mut tiled, mut with_rows) = (0, 0);
    for kernel in &loaded.compiled().program.kernels {
        if let Body::Contract { row_stores, .. } = &kernel.body {
            let source = render(kernel, device.limits(), &variant).unwrap().source;
            let pitch =
                format!("array<vec4<f32>, {}>", tile.steps * (tile.rows / 4 + tile.cols / 4 + 2));
            let size = format!("@workgroup_size({})", tile.invocations());
            let same = source.contains(&pitch) && source.contains(&size);
            assert!(same, "{} has another tile than {tile:?}", kernel.label);
            tiled += 1;
            with_rows += usize::from(!row_stores.is_empty());
        }
    }
    assert!(tiled > 0, "no contraction");
    assert!(with_rows > 0 || terms == 0, "no sums of rows");
    let allowed = f64::from(f32::EPSILON) * 2.0 * (terms * terms) as f64;
    let expected = graph.reference(&outputs).unwrap();
    for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
        for (at, (found, expected)) in found.data.iter().zip(&expected.data).enumerate() {
            let error = (found - expected).abs();
            assert!(
                error <= allowed,
                "{tile:?}, output {number}, element {at}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn every_tile_computes_what_the_reference_does() {
    for (number, tile) in Tile::ALL.into_iter().enumerate() {
        // Tiles that are full, tiles at the edge, and less than a tile; the sum ends in the middle of a tile of its own.
        let sizes = [1, tile.rows + 5, tile.cols + 3, 2 * tile.steps + 5];
        let form = [number & 1 == 1, number & 2 == 2, true];
        let splits = (number % 3 == 1).then_some(3);
        follows_the_reference(tile, splits, sizes[3], &|graph| record(graph, sizes, form));
    }
    // Sums of nothing, and more parts of a sum than it has terms for.
    let tile = Tile::ALL[6];
    for (k, splits) in [(0, None), (64, Some(9))] {
        let sizes = [1, 32, 36, k];
        let form = [false, false, k > 0];
        follows_the_reference(tile, splits, k, &|graph| record(graph, sizes, form));
    }
    // One that nothing sticks out of.
    let tile = Tile::ALL[4];
    let sizes = [2, 2 * tile.rows, tile.cols, 3 * tile.steps];
    follows_the_reference(tile, None, sizes[3], &|graph| {
        record(graph, sizes, [false, false, true])
    });
}

#[test]
fn convolutions_in_tiles_compute_what_the_reference_does() {
    for (tile, splits) in [(Tile::ALL[5], Some(3)), (Tile::ALL[6], None)] {
        follows_the_reference(tile, splits, 2 * 11 * 6, &|graph| {
            convolution(graph, [2, 5, 11, 6], 7, [2, 1])
        });
    }
}

#[test]
fn the_tile_is_the_largest_of_which_there_are_enough() {
    let limits = Limits::profile("h200").unwrap();
    let chosen = |sizes: [usize; 3], limits: &Limits, splits: usize| {
        let [m, n, k] = sizes;
        let contraction = shadegrad::device::Contraction::MatMul { batch: vec![], m, n, k };
        let tile = Tile::of(&contraction, splits, limits, None);
        [tile.rows, tile.cols, tile.slices]
    };
    for (sizes, splits, expected) in [
        ([4096, 4096, 4096], 1, [128, 128, 1]),
        ([1024, 1024, 1024], 1, [64, 128, 2]),
        ([256, 2048, 2304], 1, [64, 64, 2]),
        ([64, 320, 12_544], 26, [64, 64, 2]),
        ([512, 512, 512], 1, [32, 32, 2]),
        // Half of larger ones would be empty.
        ([64, 32_768, 576], 1, [64, 128, 2]),
        ([32, 32_768, 288], 1, [32, 32, 2]),
        ([4096, 8, 4096], 1, [16, 32, 8]),
        ([128, 512, 784], 1, [16, 32, 8]),
        ([64, 10, 128], 1, [16, 32, 8]),
    ] {
        assert_eq!(chosen(sizes, &limits, splits), expected, "{sizes:?}");
    }
    // Where memory is short, and on smaller GPUs.
    let short = Limits { workgroup_bytes: 16 << 10, ..limits };
    assert_eq!(chosen([4096, 4096, 4096], &short, 1), [64, 128, 2]);
    assert_eq!(chosen([4096, 4096, 4096], &Limits::WEBGPU, 1), [64, 64, 1]);
    let software = Limits { class: DeviceClass::Software, ..Limits::WEBGPU };
    assert_eq!(chosen([4096, 4096, 4096], &software, 1), [32, 32, 2]);
}

#[test]
fn results_straight_from_memory_are_in_tiles_of_their_shape() {
    let Some(way) = Way::new(Algorithm::Direct, None) else { return };
    // Few rows, few columns, and both; the workgroups that squares would take, and those that there are.
    for (sizes, squares, expected) in [
        ([2, 1, 600, 7], 38, 6),
        ([1, 3, 300, 5], 10, 2),
        ([1, 16, 270, 9], 9, 5),
        ([1, 17, 140, 9], 5, 5),
        ([1, 500, 10, 12], 16, 6),
        ([3, 260, 2, 4], 27, 6),
        ([1, 65, 70, 6], 9, 9),
    ] {
        let (found, sources) = way.run(None, &|graph| record(graph, sizes, [false, true, true]));
        let graph = Graph::new();
        let outputs = record(&graph, sizes, [false, true, true]);
        let reference = graph.reference(&outputs.iter().collect::<Vec<_>>()).unwrap();
        harness::assert_close(&found, &reference);
        let [batch, m, n, _] = sizes;
        assert_eq!(batch * m.div_ceil(32) * n.div_ceil(32), squares, "{sizes:?}");
        let workgroups = format!("if (t >= {expected}u) {{ return; }}");
        assert!(sources.iter().any(|source| source.contains(&workgroups)), "{sizes:?}");
    }
}
