//! The wgpu backend: kernels as compute shaders on Vulkan, Metal and DX12.
//!
//! Every kernel binds whole buffers, each once (`read_write` if it stores to any part of it), and
//! has offsets, shapes and strides baked into its shader. Shaders are made as trusted modules
//! without driver-side checks: `Program::verify` has proved every address, and the shaders guard
//! the edges of their grids.

mod load;
mod render;
mod term;
pub(crate) mod trial;
mod tune;

pub use render::{Rendered, Variant, render, render_shared, render_whole};

use crate::device::{Arriving, Backend, Memory, Run};
use crate::{
    Autotune, Buffer, Counters, DeviceClass, DeviceError, DeviceInfo, Limits, MatmulPrecision,
    Matrices, Program, Tuning,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const BACKENDS: wgpu::Backends =
    wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// The process's way to its adapters, which is never dropped: with the last instance the drivers are unloaded, and threads that
/// have used one still call it when they end.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: BACKENDS,
            // The default turns on validation of indirect dispatches, which cost three for one.
            flags: wgpu::InstanceFlags::empty(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        })
    })
}

fn adapters() -> Vec<(DeviceInfo, wgpu::Adapter)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    pollster::block_on(instance().enumerate_adapters(BACKENDS))
        .into_iter()
        .map(|adapter| {
            let info = adapter.get_info();
            let backend = info.backend.to_string();
            let number = counts.entry(backend.clone()).or_default();
            let class = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceClass::Discrete,
                wgpu::DeviceType::Cpu => DeviceClass::Software,
                _ => DeviceClass::Integrated,
            };
            let name = format!("{backend}:{number}");
            *number += 1;
            let driver = format!("{} {}", info.driver, info.driver_info);
            let kind = match class {
                DeviceClass::Software => ", software adapter",
                _ => "",
            };
            let description = format!("{} ({}{kind})", info.name, driver.trim());
            let matrices = matrices(&adapter).ok();
            (DeviceInfo { name, description, class, matrices }, adapter)
        })
        .collect()
}

/// Invocations that a subgroup has at least and at most, zero where there are none.
fn subgroups(adapter: &wgpu::Adapter) -> [usize; 2] {
    let info = adapter.get_info();
    match adapter.features().contains(wgpu::Features::SUBGROUP) {
        true => [info.subgroup_min_size, info.subgroup_max_size].map(|size| size as usize),
        false => [0; 2],
    }
}

/// Invocations of a subgroup, zero where there are none or not always as many.
fn subgroup(adapter: &wgpu::Adapter) -> usize {
    let [least, most] = subgroups(adapter);
    if least == most { least } else { 0 }
}

/// The cooperative matrices of an adapter, or why it has none that can be used.
fn matrices(adapter: &wgpu::Adapter) -> Result<Matrices, &'static str> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let has = adapter.features();
    if !has.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return Err("it has no cooperative matrices");
    }
    if !has.contains(wgpu::Features::SHADER_F16) {
        return Err("its shaders have no halves");
    }
    let known = adapter.cooperative_matrix_properties();
    let usable = |side: &u32| {
        known.iter().any(|p| {
            [p.m_size, p.n_size, p.k_size] == [*side; 3] && (p.ab_type, p.cr_type) == (F16, F32)
        })
    };
    let side = [16, 8].into_iter().find(usable);
    let side = side.ok_or("it has no cooperative matrices of halves that are summed in floats")?;
    let lanes = match adapter.get_info().backend {
        // Of every GPU that has them, though subgroups may be reported to vary.
        wgpu::Backend::Metal => 32,
        _ => subgroup(adapter),
    };
    match lanes {
        0 => Err("its subgroups vary in size, so which invocations share a matrix isn't known"),
        _ => Ok(Matrices { side: side as usize, lanes }),
    }
}

pub(crate) fn list() -> Vec<DeviceInfo> {
    adapters().into_iter().map(|(info, _)| info).collect()
}

/// Opens the adapter that a name means; `None` if there is none of that name.
pub(crate) fn open(name: &str, variant: Variant) -> Result<Option<Gpu>, DeviceError> {
    let mut adapters = adapters();
    adapters.sort_by_key(|(info, _)| info.class);
    let wanted = name.to_lowercase();
    let found = adapters.into_iter().find(|(info, _)| match wanted.as_str() {
        "gpu" => info.class != DeviceClass::Software,
        "software" => info.class == DeviceClass::Software,
        "" => false,
        _ => info.name == wanted || info.description.to_lowercase().contains(&wanted),
    });
    found.map(|(info, adapter)| Gpu::new(info, &adapter, variant)).transpose()
}

/// An open adapter.
pub(crate) struct Gpu {
    info: DeviceInfo,
    limits: Limits,
    shared: Arc<Shared>,
    /// Why there are no cooperative matrices.
    refused: Option<&'static str>,
}

/// What loaded programs share with the device that loaded them.
struct Shared {
    name: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    variant: Variant,
    limits: Limits,
    /// Pipelines by source: equal kernels of any program compile once.
    pipelines: Mutex<HashMap<String, Arc<load::Pipeline>>>,
    cache: Option<(wgpu::PipelineCache, PathBuf)>,
    /// What is known of which shaders are fastest, once that is asked for.
    tuner: Mutex<Option<tune::Tuner>>,
    counters: Mutex<Counters>,
    /// Buffers for reading back that are free.
    staging: Mutex<Vec<wgpu::Buffer>>,
    /// The first failure that wgpu reported outside of an error scope.
    failure: Arc<Mutex<Option<String>>>,
    timestamps: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    fn new(
        info: DeviceInfo,
        adapter: &wgpu::Adapter,
        variant: Variant,
    ) -> Result<Gpu, DeviceError> {
        let (has, allowed) = (adapter.features(), adapter.limits());
        let mut wanted = wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE
            | wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16;
        let (matrices, refused) = match (variant.precision, variant.emulated) {
            (MatmulPrecision::Highest, _) => (None, None),
            // Shaders have halves in workgroup memory.
            (_, Some(emulated)) if has.contains(wgpu::Features::SHADER_F16) => {
                (Some(emulated), None)
            }
            _ => match matrices(adapter) {
                Ok(matrices) => (Some(matrices), None),
                Err(reason) => (None, Some(reason)),
            },
        };
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrices.is_some() && variant.emulated.is_none() {
            wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: what is experimental is used by the shaders for cooperative matrices only. They load and store inside of
            // their workgroup memory, by whole subgroups of the size that the adapter has, in a configuration that it
            // reports. That drivers and wgpu may be wrong about them even so is accepted by who asks for less than the highest
            // precision, and found out by a trial before anything else is computed.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("shadegrad"),
            required_features: has & wanted,
            required_limits: allowed.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            experimental_features,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| {
                DeviceError::Open { device: info.to_string(), reason: error.to_string() }
            })?;
        let failure: Arc<Mutex<Option<String>>> = Arc::default();
        let report = {
            let failure = failure.clone();
            move |reason: String| _ = lock(&failure).get_or_insert(reason)
        };
        let lost = report.clone();
        device.on_uncaptured_error(Arc::new(move |error| report(error.to_string())));
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost(message);
            }
        });
        let real = Limits {
            class: variant.class.unwrap_or(info.class),
            binding_bytes: allowed.max_storage_buffer_binding_size as usize,
            buffer_bytes: usize::try_from(allowed.max_buffer_size).unwrap_or(usize::MAX),
            bindings: allowed.max_storage_buffers_per_shader_stage as usize,
            workgroup_bytes: allowed.max_compute_workgroup_storage_size as usize,
            invocations: allowed.max_compute_invocations_per_workgroup as usize,
            groups: allowed.max_compute_workgroups_per_dimension as usize,
            subgroup: subgroup(adapter),
            least_subgroup: subgroups(adapter)[0],
            f16: has.contains(wgpu::Features::SHADER_F16),
            matrices: None,
            precision: MatmulPrecision::Highest,
            dispatch_operations: info.class.dispatch_operations(),
            dispatch_bytes: info.class.dispatch_bytes(),
        };
        let limits = variant.limits.as_ref().map_or(real.clone(), |forced| real.at_most(forced));
        let least_subgroup = variant.exchanged.unwrap_or(limits.least_subgroup);
        let limits = Limits { matrices, least_subgroup, ..limits };
        let limits = limits.with_precision(variant.precision);
        let small = matrices.is_some() && limits.precision != variant.precision;
        let refused = refused.or(small.then_some(
            "it has less workgroup memory or smaller workgroups than cooperative matrices take",
        ));
        let cache = (has.contains(wgpu::Features::PIPELINE_CACHE))
            .then(|| load::open_cache(&device, &adapter.get_info()))
            .flatten();
        let shared = Shared {
            name: info.to_string(),
            device,
            queue,
            variant,
            limits: limits.clone(),
            pipelines: Mutex::default(),
            cache,
            tuner: Mutex::default(),
            counters: Mutex::default(),
            staging: Mutex::default(),
            failure,
            timestamps: has.contains(wgpu::Features::TIMESTAMP_QUERY),
        };
        Ok(Gpu { info, limits, shared: Arc::new(shared), refused })
    }

    /// Why products are more precise than asked for.
    pub(crate) fn refused(&self) -> Option<Arc<str>> {
        self.refused.map(Arc::from)
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut lock(&self.counters));
    }

    fn lost(&self, reason: impl ToString) -> DeviceError {
        DeviceError::Lost { device: self.name.clone(), reason: reason.to_string() }
    }

    /// The first failure that was reported since the last call.
    fn check(&self) -> Result<(), DeviceError> {
        match lock(&self.failure).take() {
            Some(reason) => Err(self.lost(reason)),
            None => Ok(()),
        }
    }

    /// Waits for a submission, or for all.
    fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), DeviceError> {
        self.device
            .poll(wgpu::PollType::Wait { submission_index: submission, timeout: None })
            .map_err(|error| self.lost(error))?;
        self.check()
    }

    fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.count(|c| c.submits += 1);
        self.queue.submit([encoder.finish()])
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    fn create(
        &self,
        name: &str,
        bytes: usize,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, DeviceError> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let inner = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            size: bytes as u64,
            usage,
            mapped_at_creation: false,
        });
        let refused = pollster::block_on(inner.pop()).or(pollster::block_on(scope.pop()));
        if let Some(error) = refused {
            return Err(DeviceError::OutOfMemory {
                device: self.name.clone(),
                name: name.into(),
                bytes,
                reason: error.to_string(),
            });
        }
        self.count(|c| c.buffers += 1);
        Ok(buffer)
    }

    /// Queues a copy of `bytes` from `offset` to the host. Staging buffers are used again.
    fn read(
        self: &Arc<Self>,
        buffer: &wgpu::Buffer,
        offset: usize,
        bytes: usize,
    ) -> Result<Later, DeviceError> {
        let free = {
            let mut staging = lock(&self.staging);
            let fits = staging.iter().position(|b: &wgpu::Buffer| b.size() == bytes as u64);
            fits.map(|at| staging.swap_remove(at))
        };
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = match free {
            Some(buffer) => buffer,
            None => self.create("read back", bytes, usage)?,
        };
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, offset as u64, &staging, 0, bytes as u64);
        let submission = self.submit(encoder);
        self.count(|c| c.reads += 1);
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| _ = sender.send(result));
        Ok(Later { shared: self.clone(), staging, submission, receiver })
    }
}

/// A copy to the host under way.
pub(crate) struct Later {
    shared: Arc<Shared>,
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    receiver: std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Later {
    pub(crate) fn wait(self) -> Result<Vec<u8>, DeviceError> {
        self.shared.wait(Some(self.submission))?;
        let mapped = self.receiver.recv().map_err(|error| self.shared.lost(error))?;
        mapped.map_err(|error| self.shared.lost(error))?;
        let view = self.staging.get_mapped_range(..).map_err(|error| self.shared.lost(error))?;
        let data = view.to_vec();
        drop(view);
        self.staging.unmap();
        lock(&self.shared.staging).push(self.staging);
        Ok(data)
    }
}

impl Backend for Gpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn create(&self, name: &str, bytes: usize) -> Result<Memory, DeviceError> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        // Whole vectors: kernels may bind words in fours.
        Ok(Memory::Gpu(self.shared.create(name, bytes.next_multiple_of(16), usage)?))
    }

    fn write(&self, memory: &Memory, offset: usize, data: &[u8]) -> Result<(), DeviceError> {
        let Memory::Gpu(buffer) = memory else {
            return Err(DeviceError::Foreign {
                name: "written".into(),
                device: self.info.to_string(),
            });
        };
        self.shared.count(|c| c.writes += 1);
        let whole = data.len() / 4 * 4;
        self.shared.queue.write_buffer(buffer, offset as u64, &data[..whole]);
        if whole < data.len() {
            let mut word = [0; 4];
            word[..data.len() - whole].copy_from_slice(&data[whole..]);
            self.shared.queue.write_buffer(buffer, (offset + whole) as u64, &word);
        }
        self.shared.check()
    }

    fn read(&self, memory: &Memory, offset: usize, bytes: usize) -> Result<Arriving, DeviceError> {
        match memory {
            Memory::Gpu(buffer) => Ok(Arriving::Later(self.shared.read(buffer, offset, bytes)?)),
            _ => Err(DeviceError::Foreign { name: "read".into(), device: self.info.to_string() }),
        }
    }

    fn load(&self, program: &Program, buffers: &[Buffer]) -> Result<Box<dyn Run>, DeviceError> {
        Ok(Box::new(load::load(&self.shared, &self.info, program, buffers)?))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.shared.wait(None)
    }

    fn counters(&self) -> Counters {
        *lock(&self.shared.counters)
    }

    fn autotune(&self, settings: Autotune) {
        let about = [self.info.description.clone(), format!("{:?}", self.limits.class)];
        *lock(&self.shared.tuner) = Some(tune::Tuner::new(settings, &about.join(", ")));
    }

    fn tuning(&self) -> Tuning {
        let tuner = lock(&self.shared.tuner);
        tuner.as_ref().map(|tuner| tuner.tuning.clone()).unwrap_or_default()
    }
}
