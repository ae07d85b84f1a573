//! Kernels alone: products, convolutions, reductions, norms, the update of an optimizer, a copy.

use crate::models::{Adam, Optimizer, Update};
use crate::prelude::*;
use shadegrad_device::random;
use shadegrad_graph::{ConvOptions, GraphError, Loaded, Padding};

/// Something to run by itself. Its sizes are divided by a number, where a device is slow.
pub struct Alone {
    /// Name on the command line.
    pub name: &'static str,
    record: fn(&Recording, usize) -> (String, Vec<Tensor>),
}

/// The kernels that can be measured.
pub const KERNELS: &[Alone] = &[
    Alone { name: "matmul", record: |r, shrink| r.matmul(&[], [1024 / shrink; 3]) },
    Alone { name: "matmul-256", record: |r, shrink| r.matmul(&[], [256 / shrink; 3]) },
    Alone { name: "matmul-512", record: |r, shrink| r.matmul(&[], [512 / shrink; 3]) },
    Alone { name: "matmul-2048", record: |r, shrink| r.matmul(&[], [2048 / shrink; 3]) },
    Alone { name: "matmul-4096", record: |r, shrink| r.matmul(&[], [4096 / shrink; 3]) },
    Alone { name: "matmul-8192", record: |r, shrink| r.matmul(&[], [8192 / shrink; 3]) },
    Alone { name: "matmul-skinny", record: |r, shrink| r.matmul(&[], [64, 10, 3136 / shrink]) },
    Alone {
        name: "matmul-vectors",
        record: |r, shrink| r.matmul(&[], [4096 / shrink, 8, 4096 / shrink]),
    },
    Alone { name: "matmul-vector", record: vector },
    Alone { name: "matmul-batched", record: |r, shrink| r.matmul(&[64 / shrink], [64, 64, 32]) },
    Alone { name: "matmul-transposed", record: transposed },
    Alone { name: "conv", record: |r, shrink| r.conv(MIDDLE, shrink, |[y, ..]| y) },
    Alone {
        name: "conv-input-gradient",
        record: |r, shrink| r.conv(MIDDLE, shrink, |[_, dx, _]| dx),
    },
    Alone {
        name: "conv-weight-gradient",
        record: |r, shrink| r.conv(MIDDLE, shrink, |[_, _, dw]| dw),
    },
    Alone { name: "conv-first", record: |r, shrink| r.conv(FIRST, shrink, |[y, ..]| y) },
    Alone { name: "conv-strided", record: |r, shrink| r.conv(STRIDED, shrink, |[y, ..]| y) },
    Alone {
        name: "conv-strided-input-gradient",
        record: |r, shrink| r.conv(STRIDED, shrink, |[_, dx, _]| dx),
    },
    Alone { name: "conv-1x1", record: |r, shrink| r.conv(ONE, shrink, |[y, ..]| y) },
    Alone { name: "conv-depthwise", record: |r, shrink| r.conv(DEPTHWISE, shrink, |[y, ..]| y) },
    Alone { name: "sum-rows", record: |r, shrink| r.sum(4096 / shrink, 1) },
    Alone { name: "sum-columns", record: |r, shrink| r.sum(4096 / shrink, 0) },
    Alone { name: "sum-all", record: sum_all },
    Alone { name: "softmax", record: softmax },
    Alone { name: "layer-norm", record: |r, shrink| r.layer_norm(16_384 / shrink, false) },
    Alone { name: "layer-norm-gradient", record: |r, shrink| r.layer_norm(16_384 / shrink, true) },
    Alone { name: "embedding-gradient", record: embedding_gradient },
    Alone { name: "adam", record: adam },
    Alone { name: "copy", record: |r, shrink| r.copy((16 << 20) / shrink) },
];

/// Images of 32 by filters: channels in and out, side of the images and of a filter, stride and groups.
#[derive(Clone, Copy)]
struct Images {
    channels: [usize; 2],
    side: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

const MIDDLE: Images = Images { channels: [128; 2], side: 16, kernel: 3, stride: 1, groups: 1 };
const FIRST: Images = Images { channels: [3, 64], side: 32, ..MIDDLE };
const STRIDED: Images = Images { side: 32, stride: 2, ..MIDDLE };
const ONE: Images = Images { side: 32, kernel: 1, ..MIDDLE };
const DEPTHWISE: Images = Images { side: 32, groups: 128, ..MIDDLE };

/// The program of a kernel and its sizes, which are divided by `shrink`, a power of two up to 32; `None` for a name that is
/// not in [`KERNELS`].
///
/// # Errors
/// What compiling reports.
pub fn kernel(
    name: &str,
    device: &Device,
    shrink: usize,
) -> Result<Option<(Loaded, String)>, GraphError> {
    let Some(kernel) = KERNELS.iter().find(|kernel| kernel.name == name) else {
        return Ok(None);
    };
    compile(device, |recording| (kernel.record)(recording, shrink)).map(Some)
}

/// A product of square matrices.
pub(super) fn square(device: &Device, side: usize) -> Result<Loaded, GraphError> {
    Ok(compile(device, |recording| recording.matmul(&[], [side; 3]))?.0)
}

/// A copy of a number of floats.
pub(super) fn copy(device: &Device, len: usize) -> Result<Loaded, GraphError> {
    Ok(compile(device, |recording| recording.copy(len))?.0)
}

fn compile(
    device: &Device,
    record: impl FnOnce(&Recording) -> (String, Vec<Tensor>),
) -> Result<(Loaded, String), GraphError> {
    let recording = Recording { graph: Graph::new() };
    let (about, outputs) = record(&recording);
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    Ok((Session::new(device).compile(&recording.graph, &outputs)?, about))
}

struct Recording {
    graph: Graph,
}

impl Recording {
    /// A variable with numbers between minus one and one.
    fn floats(&self, name: &str, shape: &[usize]) -> Tensor {
        let init = Init::Uniform { low: -1.0, high: 1.0, seed: name.len() as u64 };
        self.graph.variable(&Variable::new(name, shape, DType::F32, init))
    }

    fn matmul(&self, batch: &[usize], [m, n, k]: [usize; 3]) -> (String, Vec<Tensor>) {
        let a = self.floats("a", &[batch, &[m, k]].concat());
        let b = self.floats("bb", &[batch, &[k, n]].concat());
        (format!("{:?} x {:?}", a.shape(), b.shape()), vec![a.matmul(&b)])
    }

    /// What `choose` takes of a convolution: result, gradients by input and by weight.
    fn conv(
        &self,
        images: Images,
        shrink: usize,
        choose: fn([Tensor; 3]) -> Tensor,
    ) -> (String, Vec<Tensor>) {
        let Images { channels: [from, to], side, kernel, stride, groups } = images;
        let x = self.floats("x", &[32 / shrink, from, side, side]);
        let w = self.floats("ww", &[to, from / groups, kernel, kernel]);
        let padding = Padding::Zeros([kernel / 2; 2]);
        let options =
            ConvOptions { stride: [stride; 2], padding, groups, ..ConvOptions::default() };
        let y = x.conv2d(&w, None, &options);
        let up = self.floats("up!", &y.shape());
        let [dx, dw] =
            <[Tensor; 2]>::try_from(self.graph.gradients(&(&y * &up).sum_all(), &[&x, &w]))
                .unwrap_or_else(|_| [x.clone(), w.clone()]);
        let about = format!("{:?} by {:?}, stride {stride}", x.shape(), w.shape());
        (about, vec![choose([y, dx, dw])])
    }

    fn sum(&self, rows: usize, axis: usize) -> (String, Vec<Tensor>) {
        let x = self.floats("x", &[rows, 4096]);
        (format!("{:?} along axis {axis}", x.shape()), vec![x.sum(&[axis])])
    }

    fn layer_norm(&self, rows: usize, backward: bool) -> (String, Vec<Tensor>) {
        let x = self.floats("x", &[rows, 1024]);
        let (w, b) = (self.floats("ww", &[1024]), self.floats("bbb", &[1024]));
        let y = x.layer_norm(&[1024], Some(&w), Some(&b), 1e-5);
        let about = format!("{:?}", x.shape());
        match backward {
            false => (about, vec![y]),
            true => (about, self.graph.gradients(&(&y * &y).sum_all(), &[&x, &w, &b])),
        }
    }

    fn copy(&self, len: usize) -> (String, Vec<Tensor>) {
        // Not a plain copy, which would not be a kernel at all.
        (format!("{len} floats, negated"), vec![-self.floats("x", &[len])])
    }
}

fn transposed(r: &Recording, shrink: usize) -> (String, Vec<Tensor>) {
    let side = [1024 / shrink; 2];
    let (a, b) = (r.floats("a", &side), r.floats("bb", &side));
    let product = a.transpose(0, 1).matmul(&b.transpose(0, 1));
    (format!("{side:?} x {side:?}, both transposed"), vec![product])
}

fn vector(r: &Recording, shrink: usize) -> (String, Vec<Tensor>) {
    let (x, w) = (r.floats("x", &[1, 4096 / shrink]), r.floats("ww", &[4096 / shrink; 2]));
    let about = format!("{:?} by the rows of {:?}", x.shape(), w.shape());
    (about, vec![x.matmul(&w.transpose(0, 1))])
}

fn sum_all(r: &Recording, shrink: usize) -> (String, Vec<Tensor>) {
    let x = r.floats("x", &[(16 << 20) / shrink]);
    (format!("all of {:?}", x.shape()), vec![x.sum_all()])
}

fn softmax(r: &Recording, shrink: usize) -> (String, Vec<Tensor>) {
    let x = r.floats("x", &[16_384 / shrink, 1024]);
    (format!("{:?}", x.shape()), vec![x.softmax(-1)])
}

fn embedding_gradient(r: &Recording, shrink: usize) -> (String, Vec<Tensor>) {
    let table = r.floats("table", &[10_000, 128]);
    let count = 2048 / shrink;
    let words = (0..count as u32).flat_map(|i| (random(5, i) % 10_000).to_ne_bytes());
    let init = Init::Bytes(words.collect());
    let index = r.graph.variable(&Variable::new("index", &[count], DType::U32, init));
    let up = r.floats("up!", &[count, 128]);
    let loss = (table.embedding(&index, None) * up).sum_all();
    (format!("{count} of {:?}", table.shape()), r.graph.gradients(&loss, &[&table]))
}

fn adam(r: &Recording, shrink: usize) -> (String, Vec<Tensor>) {
    let len = (4 << 20) / shrink;
    let variable = |name: &str| Variable::new(name, &[len], DType::F32, Init::Full(0.5));
    let [parameters, first, second] = ["parameters", "exp_avg", "exp_avg_sq"].map(variable);
    let state = [r.graph.variable(&first), r.graph.variable(&second)];
    let gradient = r.floats("gradient", &[len]);
    let updated = Adam::new(1e-3).update(&Update {
        parameters: &r.graph.variable(&parameters),
        gradient: &gradient,
        state: &state,
        rate: &r.graph.full(&[], DType::F32, 1e-3),
        factor: &r.graph.full(&[], DType::F32, 1.0),
        step: &r.graph.full(&[], DType::F32, 1.0),
        slots: &[],
    });
    r.graph.assign(&parameters, &updated.parameters);
    r.graph.assign(&first, &updated.state[0]);
    r.graph.assign(&second, &updated.state[1]);
    (format!("{len} parameters"), vec![])
}
