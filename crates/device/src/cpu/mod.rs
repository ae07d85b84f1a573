//! The CPU backend: kernels on the host's threads.
//!
//! Every piece of work writes its own range, and how sums are cut depends on shapes only, so results don't depend on the number of
//! threads. Contractions are tiles in
//! registers (see `tile`); what surrounds them is evaluated in blocks (see `block`).

mod across;
mod attention;
mod block;
mod contract;
mod conv;
mod crew;
mod memory;
mod merge;
mod pair;
mod recurrent;
mod rows;
mod scan;
mod scatter;
mod scratch;
mod stores;
mod tile;
mod vectors;
mod window;

pub(crate) use memory::Memory;

pub use vectors::Vectors;

use crew::Crew;

use crate::device::{self, Arriving, Backend, Run};
use crate::{
    Body, Buffer, Contraction, Counters, DeviceClass, DeviceError, DeviceInfo, Kernel, Limits,
    Program,
};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Points of a pointwise or window kernel that one task evaluates.
const TASK_POINTS: usize = 1 << 14;

/// The outputs of a line whose window element at `offset` lies inside the input, and the input
/// element of the first of them.
fn inside(
    offset: usize,
    stride: usize,
    padding: usize,
    input: usize,
    output: usize,
) -> (Range<usize>, usize) {
    let first = padding.saturating_sub(offset).div_ceil(stride);
    let end = (input + padding).saturating_sub(offset).div_ceil(stride).min(output);
    (first.min(end)..end, (first * stride + offset).saturating_sub(padding))
}

/// A kernel prepared for the host.
trait Task: Send + Sync {
    /// Runs the kernel with the crew that this thread leads.
    ///
    /// # Safety
    /// Nothing else touches the kernel's operands meanwhile.
    unsafe fn run(&self);
}

pub(crate) fn info(threads: Option<usize>) -> DeviceInfo {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(available);
    DeviceInfo {
        name: "cpu".to_string(),
        description: format!("the host's processor, {threads} threads"),
        class: DeviceClass::Cpu,
        matrices: None,
    }
}

pub(crate) struct Cpu {
    info: DeviceInfo,
    pool: Arc<rayon::ThreadPool>,
    crew: Arc<Crew>,
    /// Held while kernels run or memory is copied: programs of one device share buffers.
    turn: Arc<Mutex<Counters>>,
}

impl Cpu {
    pub(crate) fn new(threads: Option<usize>, vectors: Vectors) -> Cpu {
        let mut info = info(threads);
        info.description += vectors.about();
        let builder = || {
            rayon::ThreadPoolBuilder::new()
                .thread_name(|i| format!("shadegrad {i}"))
                .start_handler(move |_| vectors.enter())
        };
        let pool = builder().num_threads(threads.unwrap_or(0)).build().or_else(|_| {
            // That thread runs no handler.
            vectors.enter();
            builder().num_threads(1).use_current_thread().build()
        });
        // A process that can't have one thread has no way to report anything either.
        #[expect(clippy::expect_used, reason = "the calling thread itself always exists")]
        let pool = Arc::new(pool.expect("a pool of the calling thread alone"));
        Cpu { info, pool, crew: Arc::default(), turn: Arc::default() }
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, memory: &device::Memory, name: &str) -> Result<Arc<Memory>, DeviceError> {
        match memory {
            device::Memory::Host(memory) => Ok(memory.clone()),
            _ => Err(DeviceError::Foreign { name: name.into(), device: self.info.to_string() }),
        }
    }
}

impl Backend for Cpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn limits(&self) -> &Limits {
        &Limits::CPU
    }

    fn create(&self, name: &str, bytes: usize) -> Result<device::Memory, DeviceError> {
        self.turn().buffers += 1;
        let memory = Memory::new(bytes).ok_or_else(|| DeviceError::OutOfMemory {
            device: self.info.to_string(),
            name: name.to_string(),
            bytes,
            reason: "the system refuses".to_string(),
        })?;
        Ok(device::Memory::Host(Arc::new(memory)))
    }

    fn write(
        &self,
        memory: &device::Memory,
        offset: usize,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let memory = self.host(memory, "written")?;
        let mut turn = self.turn();
        turn.writes += 1;
        let words = offset / 4..(offset + data.len()).div_ceil(4);
        // SAFETY: kernels and copies of this device hold `turn`, so nothing else runs now.
        let words = unsafe { memory.write(words) };
        bytemuck::cast_slice_mut::<u32, u8>(words)[..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn read(
        &self,
        memory: &device::Memory,
        offset: usize,
        bytes: usize,
    ) -> Result<Arriving, DeviceError> {
        let memory = self.host(memory, "read")?;
        let mut turn = self.turn();
        turn.reads += 1;
        // SAFETY: kernels and copies of this device hold `turn`, so nothing writes now.
        let words = unsafe { memory.read(offset / 4..(offset + bytes) / 4) };
        Ok(Arriving::Here(bytemuck::cast_slice(words).to_vec()))
    }

    fn load(&self, program: &Program, buffers: &[Buffer]) -> Result<Box<dyn Run>, DeviceError> {
        let memories = buffers
            .iter()
            .map(|buffer| match &buffer.memory {
                device::Memory::Host(memory) => Ok(memory.clone()),
                _ => Err(buffer.foreign(&self.info)),
            })
            .collect::<Result<Vec<_>, _>>()?;
        for (number, kernel) in program.kernels.iter().enumerate() {
            if matches!(kernel.body, Body::Contract { splits: 2.., .. }) {
                let (label, reason) = (kernel.label.clone(), "this backend splits no sums".into());
                return Err(DeviceError::Program { number, label, reason });
            }
        }
        // By a thread of the device, since what is laid out depends on its vectors.
        let prepare = |kernel: &Kernel| prepare(kernel, &memories);
        let tasks = self.pool.install(|| program.kernels.iter().map(prepare).collect());
        let (pool, crew) = (self.pool.clone(), self.crew.clone());
        Ok(Box::new(CpuRun { tasks, pool, crew, turn: self.turn.clone() }))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        *self.turn()
    }
}

fn prepare(kernel: &Kernel, memories: &[Arc<Memory>]) -> Box<dyn Task> {
    let slices = block::slices(kernel, memories);
    match &kernel.body {
        Body::Map { .. } => Box::new(stores::Map::new(kernel, &slices)),
        Body::Rows { .. } => across::prepare(kernel, &slices),
        Body::Contract { contraction: Contraction::MatMul { .. }, .. } => {
            Box::new(contract::MatMul::new(kernel, &slices))
        }
        Body::Contract { .. } => Box::new(conv::ConvTask::new(kernel, &slices)),
        Body::Window { .. } => Box::new(window::WindowTask::new(kernel, &slices)),
        Body::Scatter { .. } => Box::new(scatter::Scatter::new(kernel, &slices)),
        Body::Scan { .. } => Box::new(scan::Scan::new(kernel, &slices)),
        Body::Merge { .. } => Box::new(merge::MergeTask::new(kernel, &slices)),
        Body::Recurrent { .. } => Box::new(recurrent::Recurrent::new(kernel, &slices)),
        Body::Attention { .. } => Box::new(attention::AttentionTask::new(kernel, &slices)),
    }
}

struct CpuRun {
    tasks: Vec<Box<dyn Task>>,
    pool: Arc<rayon::ThreadPool>,
    crew: Arc<Crew>,
    turn: Arc<Mutex<Counters>>,
}

impl Run for CpuRun {
    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.submits += 1;
        turn.dispatches += (times * self.tasks.len()) as u64;
        self.crew.lead(&self.pool, || {
            for _ in 0..times {
                for task in &self.tasks {
                    // SAFETY: kernels run one after the other, and `turn` keeps copies out.
                    unsafe { task.run() };
                }
            }
        });
        Ok(())
    }

    fn profile(&mut self) -> Result<Vec<f64>, DeviceError> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.submits += 1;
        turn.dispatches += self.tasks.len() as u64;
        Ok(self.crew.lead(&self.pool, || {
            let time = |task: &dyn Task| {
                let start = Instant::now();
                // SAFETY: kernels run one after the other, and `turn` keeps copies out.
                unsafe { task.run() };
                start.elapsed().as_secs_f64() * 1e3
            };
            self.tasks.iter().map(|task| time(task.as_ref())).collect()
        }))
    }
}
