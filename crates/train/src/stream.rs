//! Streaming: data that doesn't fit on the device comes in chunks of a few steps, fetched ahead by threads of their own.
//!
//! The order is the one that a data set on the device would be visited in, so the losses are the same, to the bit. A chunk is written
//! behind the steps that read the one before, and those are queued already: the device waits only if fetching is slower than training.

use crate::resident::Row;
use crate::{
    DataError, Dataset, ImageFiles, Images, Order, Part, Samples, Statistics, TrainError,
    Transforms,
};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Init, Session, Tensor, Type, Variable};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Steps of a chunk, at most.
const SLOTS: usize = 16;

/// Bytes of a chunk's inputs, at most, where one step doesn't have more.
const CHUNK: usize = 32 << 20;

/// Samples that are fetched by their numbers, by several threads at once.
pub trait Source: Send + Sync + 'static {
    /// How many.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What an input is, such as `[channels, height, width]` bytes.
    fn input(&self) -> Type;

    /// What a target is: a class, `U8` or `U32`, or numbers.
    fn target(&self) -> Type;

    /// Writes the inputs and targets of some samples, one after the other, in memory layout.
    ///
    /// # Errors
    /// What is wrong with the data; training ends with it.
    fn fetch(&self, index: &[u32], inputs: &mut [u8], targets: &mut [u8]) -> Result<(), DataError>;
}

impl Source for Images {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn input(&self) -> Type {
        Type::new(&self.shape(), DType::U8)
    }

    fn target(&self) -> Type {
        Type::new(&[], DType::U8)
    }

    fn fetch(&self, index: &[u32], inputs: &mut [u8], targets: &mut [u8]) -> Result<(), DataError> {
        let rows = inputs.chunks_exact_mut(self.image_len().max(1));
        for ((&number, row), target) in index.iter().zip(rows).zip(targets) {
            row.copy_from_slice(self.image(number as usize));
            *target = self.labels[number as usize];
        }
        Ok(())
    }
}

impl Source for ImageFiles {
    fn len(&self) -> usize {
        self.labels().len()
    }

    fn input(&self) -> Type {
        Type::new(&self.shape(), DType::U8)
    }

    fn target(&self) -> Type {
        Type::new(&[], DType::U8)
    }

    fn fetch(&self, index: &[u32], inputs: &mut [u8], targets: &mut [u8]) -> Result<(), DataError> {
        let rows = inputs.chunks_exact_mut(self.shape().iter().product());
        for ((&number, row), target) in index.iter().zip(rows).zip(targets) {
            self.put(number as usize, row)?;
            *target = self.labels()[number as usize];
        }
        Ok(())
    }
}

/// A data set that is streamed to the device.
pub struct Streaming<S> {
    source: Arc<S>,
    statistics: Option<Statistics>,
    transforms: Transforms,
    threads: usize,
}

impl<S: Source> Streaming<S> {
    /// Samples as they are, fetched by half of the machine's threads.
    pub fn new(source: S) -> Streaming<S> {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        Streaming {
            source: Arc::new(source),
            statistics: None,
            transforms: Transforms::new(),
            threads: (all / 2).max(1),
        }
    }

    /// Normalises inputs by this mean and deviation, in units of what is fetched.
    pub fn normalised(mut self, statistics: Statistics) -> Streaming<S> {
        self.statistics = Some(statistics);
        self
    }

    /// Changes images of bytes at random while training.
    pub fn augmented(mut self, transforms: Transforms) -> Streaming<S> {
        self.transforms = transforms;
        self
    }

    /// How many threads fetch.
    pub fn threads(mut self, threads: usize) -> Streaming<S> {
        self.threads = threads.max(1);
        self
    }
}

impl<S: Source> Dataset for Streaming<S> {
    fn sizes(&self, _: usize) -> Vec<usize> {
        vec![self.source.len()]
    }

    fn parts(&self, _: usize, statistics: Option<Statistics>) -> Vec<Part> {
        let samples = Streamed {
            source: self.source.clone(),
            row: Row {
                ty: self.source.input(),
                statistics: statistics.or(self.statistics),
                transforms: self.transforms.clone(),
            },
            threads: self.threads,
            window: None,
        };
        let numbers = (0..self.source.len()).collect();
        vec![Part { samples: Box::new(samples), numbers }]
    }

    fn statistics(&self) -> Option<Statistics> {
        self.statistics
    }
}

/// Samples that are somewhere else, and a window on the device that some of them are in at a time.
#[derive(Clone)]
pub struct Streamed {
    source: Arc<dyn Source>,
    row: Row,
    threads: usize,
    window: Option<Window>,
}

/// Memory on the device for some samples.
#[derive(Clone)]
struct Window {
    inputs: Variable,
    targets: Variable,
}

impl Streamed {
    /// The same with a window for so many samples.
    fn with_window(&self, rows: usize) -> Streamed {
        let variable = |name, ty: Type| {
            let count = ty.numel();
            let shape: &[usize] = if ty.shape.is_empty() { &[rows] } else { &[rows, count] };
            Variable::new(name, shape, ty.dtype, Init::Full(0.0))
        };
        let inputs = variable("inputs", self.source.input());
        let targets = variable("targets", self.source.target());
        Streamed { window: Some(Window { inputs, targets }), ..self.clone() }
    }

    /// The same with a window for a few steps, and how many these are.
    pub(crate) fn for_steps(&self, batch: usize, limit: usize) -> (Streamed, usize) {
        let step = batch * self.source.input().bytes().max(self.source.target().bytes()).max(1);
        let slots = (limit.min(CHUNK) / step.max(1)).clamp(1, SLOTS);
        (self.with_window(slots * batch), slots)
    }
}

impl Samples for Streamed {
    fn len(&self) -> usize {
        self.source.len()
    }

    /// Samples of the window, by their places in it.
    #[track_caller]
    fn take(&self, graph: &Graph, index: &Tensor) -> (Tensor, Tensor) {
        let Some(window) = &self.window else {
            let refused = graph.refuse("take", &[index], "streamed samples have no window yet");
            return (refused.clone(), refused);
        };
        let x = self.row.normalised(&graph.variable(&window.inputs).index_select(0, index));
        let y = graph.variable(&window.targets).index_select(0, index);
        let shape = [index.shape(), self.source.target().shape].concat();
        (x, y.reshape(&shape))
    }

    fn streamed(&self) -> Option<&Streamed> {
        Some(self)
    }
}

/// Fetches chunks ahead and brings them to the device, one after the other.
pub(crate) struct Loader {
    window: Window,
    fetch: Arc<Fetch>,
    /// Steps that have been run.
    done: u32,
    /// What each thread has fetched; they take turns.
    fetched: Vec<Receiver<Result<Chunk, DataError>>>,
    next: usize,
    loaded: bool,
}

struct Chunk {
    inputs: Vec<u8>,
    targets: Vec<u8>,
}

/// What is fetched for a step.
type Numbers = dyn Fn(u32) -> Vec<u32> + Send + Sync;

/// How chunks are fetched.
struct Fetch {
    source: Arc<dyn Source>,
    samples: Box<Numbers>,
    slots: usize,
    /// Bytes of a chunk's inputs and targets.
    sizes: [usize; 2],
}

impl Fetch {
    fn chunk(&self, number: u32) -> Result<Chunk, DataError> {
        let first = number.wrapping_mul(self.slots as u32);
        let steps = 0..self.slots as u32;
        let index: Vec<u32> =
            steps.flat_map(|step| (self.samples)(first.wrapping_add(step))).collect();
        let [mut inputs, mut targets] = self.sizes.map(|bytes| vec![0; bytes]);
        self.source.fetch(&index, &mut inputs, &mut targets)?;
        Ok(Chunk { inputs, targets })
    }
}

impl Loader {
    /// Begins to fetch for the steps from number `done` on. `samples` are the numbers of a step's samples. Samples without a window
    /// load nothing.
    pub(crate) fn new(
        streamed: &Streamed,
        slots: usize,
        done: u32,
        samples: impl Fn(u32) -> Vec<u32> + Send + Sync + 'static,
    ) -> Option<Loader> {
        let window = streamed.window.clone()?;
        let sizes = [window.inputs.ty().bytes(), window.targets.ty().bytes()];
        let (source, samples) = (streamed.source.clone(), Box::new(samples));
        let fetch = Arc::new(Fetch { source, samples, slots, sizes });
        let threads = streamed.threads as u32;
        let fetched = (0..threads).map(|thread| {
            let (send, receive) = sync_channel(1);
            let fetch = fetch.clone();
            std::thread::spawn(move || {
                let mut number = done / fetch.slots as u32 + thread;
                loop {
                    let chunk = fetch.chunk(number);
                    let failed = chunk.is_err();
                    // Whoever waits may have gone.
                    if send.send(chunk).is_err() || failed {
                        return;
                    }
                    number = number.wrapping_add(threads);
                }
            });
            receive
        });
        let fetched = fetched.collect();
        Some(Loader { window, fetch, done, fetched, next: 0, loaded: false })
    }

    /// Brings what the next step needs to the device; how many steps, at most `steps`, can run with it.
    pub(crate) fn load(
        &mut self,
        session: &mut Session,
        steps: usize,
    ) -> Result<usize, TrainError> {
        let place = self.done as usize % self.fetch.slots;
        if place == 0 || !self.loaded {
            let chunk = self.fetched[self.next].recv().map_err(|_| TrainError::Setting {
                what: "the source of streamed samples",
                value: "one that panicked".to_string(),
                expected: "one that returns its errors".to_string(),
            })??;
            self.write(session, &chunk)?;
            self.next = (self.next + 1) % self.fetched.len();
            self.loaded = true;
        }
        let steps = steps.min(self.fetch.slots - place);
        self.done = self.done.wrapping_add(steps as u32);
        Ok(steps)
    }

    /// Brings what a step needed to the device once more.
    pub(crate) fn reload(&mut self, session: &mut Session, step: u32) -> Result<(), TrainError> {
        let chunk = self.fetch.chunk(step / self.fetch.slots as u32)?;
        self.write(session, &chunk)
    }

    fn write(&self, session: &mut Session, chunk: &Chunk) -> Result<(), TrainError> {
        session.write(&self.window.inputs, &chunk.inputs)?;
        Ok(session.write(&self.window.targets, &chunk.targets)?)
    }
}

/// The samples of a step in training, as [`Order::Shuffled`] gives them on the device.
pub(crate) fn shuffled(
    seed: u32,
    before: u32,
    count: usize,
    batch: usize,
) -> impl Fn(u32) -> Vec<u32> + Send + Sync + 'static {
    move |step| {
        let position = step.wrapping_mul(batch as u32);
        (0..batch as u32)
            .map(|i| Order::shuffled(seed, before, position.wrapping_add(i), count))
            .collect()
    }
}

/// The samples of a step in evaluation; past the end the last is repeated.
pub(crate) fn sequential(
    count: usize,
    batch: usize,
) -> impl Fn(u32) -> Vec<u32> + Send + Sync + 'static {
    move |step| {
        let last = count.saturating_sub(1);
        (0..batch).map(|i| (step as usize * batch + i).min(last) as u32).collect()
    }
}
