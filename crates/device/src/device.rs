//! Devices, buffers and loaded programs: the surface that the graph crate sees.

use crate::{
    Autotune, DeviceClass, DeviceError, Limits, MatmulPrecision, Matrices, Program, Tuning,
    Vectors, cpu, null,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A device that exists on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name that [`Device::open`] takes: `cpu`, `null:PROFILE`, or `vulkan:0` and the like.
    pub name: String,
    /// What the driver calls it.
    pub description: String,
    /// The kind of hardware.
    pub class: DeviceClass,
    /// The cooperative matrices that it can multiply, if it has any: what [`MatmulPrecision`] is for.
    pub matrices: Option<Matrices>,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.description)
    }
}

/// What a backend does. Buffers and executables are its own; this crate's wrappers check ranges.
pub(crate) trait Backend: Send + Sync {
    fn info(&self) -> &DeviceInfo;
    fn limits(&self) -> &Limits;
    fn create(&self, name: &str, bytes: usize) -> Result<Memory, DeviceError>;
    fn write(&self, memory: &Memory, offset: usize, data: &[u8]) -> Result<(), DeviceError>;
    /// Queues a read behind all work so far: `bytes` from `offset`, whole words.
    fn read(&self, memory: &Memory, offset: usize, bytes: usize) -> Result<Arriving, DeviceError>;
    fn load(&self, program: &Program, buffers: &[Buffer]) -> Result<Box<dyn Run>, DeviceError>;
    fn synchronize(&self) -> Result<(), DeviceError>;
    fn counters(&self) -> Counters;
    fn autotune(&self, _: Autotune) {}
    fn tuning(&self) -> Tuning {
        Tuning::default()
    }
}

/// A program that a backend has prepared.
pub(crate) trait Run: Send {
    /// Runs all kernels in order, `times` times.
    fn run(&mut self, times: usize) -> Result<(), DeviceError>;
    /// Runs once by the fewest calls of a graphics interface that do so; `false` where there is no such interface.
    fn run_bare(&mut self) -> Result<bool, DeviceError> {
        Ok(false)
    }
    /// Runs once and says how long each kernel took, in milliseconds; of those that share a dispatch the first took all of it.
    fn profile(&mut self) -> Result<Vec<f64>, DeviceError>;
}

/// Bytes that are here, or on their way from a device.
pub(crate) enum Arriving {
    Here(Vec<u8>),
    #[cfg(feature = "wgpu")]
    Later(crate::gpu::Later),
}

/// A read that was queued and may not be done yet.
pub struct Pending {
    arriving: Arriving,
    bytes: usize,
}

impl Pending {
    /// Waits for the bytes; other work goes on meanwhile.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub fn wait(self) -> Result<Vec<u8>, DeviceError> {
        #[cfg_attr(
            not(feature = "wgpu"),
            expect(
                clippy::infallible_destructuring_match,
                reason = "without wgpu nothing is late"
            )
        )]
        let mut data = match self.arriving {
            Arriving::Here(data) => data,
            #[cfg(feature = "wgpu")]
            Arriving::Later(later) => later.wait()?,
        };
        data.truncate(self.bytes);
        Ok(data)
    }
}

/// A backend's own buffer.
#[derive(Clone)]
pub(crate) enum Memory {
    Host(Arc<cpu::Memory>),
    Null,
    #[cfg(feature = "wgpu")]
    Gpu(wgpu::Buffer),
}

/// What a backend has done since it was opened. After warm-up, a step adds dispatches and submits
/// and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels dispatched.
    pub dispatches: u64,
    /// Times that work was handed to the driver.
    pub submits: u64,
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Writes from the host.
    pub writes: u64,
    /// Reads to the host.
    pub reads: u64,
}

/// The time of one kernel of a profiled run.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// The kernel's label.
    pub label: String,
    /// Milliseconds.
    pub milliseconds: f64,
}

/// Something that runs programs. Cheap to clone; clones are the same device.
#[derive(Clone)]
pub struct Device {
    backend: Arc<dyn Backend>,
    /// Distinguishes it from every other device that was opened.
    id: u64,
    /// Why products are more precise than asked for.
    refused: Option<Arc<str>>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.info())
    }
}

impl Device {
    pub(crate) fn of(backend: impl Backend + 'static) -> Device {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Device { backend: Arc::new(backend), id, refused: None }
    }

    /// The devices of this machine, best first: discrete GPUs, integrated GPUs, the CPU, software
    /// adapters.
    pub fn list() -> Vec<DeviceInfo> {
        let mut devices = vec![cpu::info(None)];
        #[cfg(feature = "wgpu")]
        devices.extend(crate::gpu::list());
        devices.sort_by_key(|info| info.class);
        devices
    }

    /// The device that `SHADEGRAD_DEVICE` names, else the best that opens: a discrete GPU, else an
    /// integrated one, else the CPU. A software adapter is slower than the CPU backend and is used
    /// only when asked for.
    ///
    /// # Errors
    /// If `SHADEGRAD_DEVICE` names a device that isn't there or doesn't open.
    pub fn best() -> Result<Device, DeviceError> {
        Device::open("best")
    }

    /// Opens a device by name: `best`, `cpu`, `gpu` (the best that isn't the CPU), `software`, a
    /// listed name such as `vulkan:0`, a part of a listed description, or `null:PROFILE`.
    ///
    /// # Errors
    /// [`DeviceError::Unknown`] with the names there are, or why it didn't open.
    pub fn open(name: &str) -> Result<Device, DeviceError> {
        Device::open_with_precision(name, MatmulPrecision::Highest)
    }

    /// Opens a device as [`Device::open`] does, with less precise products where it has cooperative matrices that agree with
    /// the host in a trial. Where it hasn't, products have the highest precision, and [`Device::refused`] says why.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_with_precision(
        name: &str,
        precision: MatmulPrecision,
    ) -> Result<Device, DeviceError> {
        if let Some(profile) = name.strip_prefix("null:")
            && let Some(limits) = Limits::profile(profile)
        {
            return Ok(Device::null(limits.with_precision(precision)).asked(precision));
        }
        match name {
            "best" => return Device::best_with(precision),
            "cpu" => return Ok(Device::cpu(None).asked(precision)),
            _ => {}
        }
        #[cfg(feature = "wgpu")]
        {
            let variant = crate::Variant { precision, ..crate::Variant::default() };
            if let Some(device) = Device::adapter(name, variant)? {
                return Ok(device);
            }
        }
        Err(Device::unknown(name))
    }

    fn best_with(precision: MatmulPrecision) -> Result<Device, DeviceError> {
        if let Ok(name) = std::env::var("SHADEGRAD_DEVICE")
            && !matches!(name.as_str(), "" | "best")
        {
            return Device::open_with_precision(&name, precision);
        }
        let open = |info: DeviceInfo| Device::open_with_precision(&info.name, precision).ok();
        let opened = Device::list().into_iter().find_map(open);
        Ok(opened.unwrap_or_else(|| Device::cpu(None).asked(precision)))
    }

    /// This device, for somebody who asked for a precision of products.
    fn asked(mut self, precision: MatmulPrecision) -> Device {
        if self.matmul_precision() != precision && self.refused.is_none() {
            self.refused = Some("it has no cooperative matrices".into());
        }
        self
    }

    fn unknown(name: &str) -> DeviceError {
        let available: Vec<String> = Device::list().iter().map(DeviceInfo::to_string).collect();
        DeviceError::Unknown { name: name.to_string(), available: available.join("; ") }
    }

    /// The adapter that a name means, once its cooperative matrices have stood their trial, where they are asked for.
    #[cfg(feature = "wgpu")]
    fn adapter(name: &str, variant: crate::Variant) -> Result<Option<Device>, DeviceError> {
        let asked = variant.precision;
        let (precision, failed) = match crate::gpu::trial::run(name, &variant)? {
            Ok(()) => (asked, None),
            Err(reason) => (MatmulPrecision::Highest, Some(reason.into())),
        };
        let variant = crate::Variant { precision, ..variant };
        let open = |variant: &crate::Variant| {
            let opened = crate::gpu::open(name, variant.clone())?;
            Ok(opened.map(|gpu| {
                let refused = failed.clone().or_else(|| gpu.refused());
                Device { refused, ..Device::of(gpu) }.asked(asked)
            }))
        };
        let opened = open(&variant)?;
        match &opened {
            Some(device) if !crate::gpu::trial::folds(device, &variant) => {
                let limits = Limits { least_subgroup: 0, ..device.limits().clone() };
                open(&crate::Variant { limits: Some(limits), ..variant })
            }
            _ => Ok(opened),
        }
    }

    /// The host's cores: as many threads as given, else as many as there are.
    pub fn cpu(threads: Option<usize>) -> Device {
        Device::cpu_with(threads, Vectors::Widest)
    }

    /// The host's cores, with kernels that use no wider vectors than given.
    pub fn cpu_with(threads: Option<usize>, vectors: Vectors) -> Device {
        Device::of(cpu::Cpu::new(threads, vectors))
    }

    /// A device without hardware that checks and counts, with the limits of another.
    pub fn null(limits: Limits) -> Device {
        Device::of(null::Null::new(limits))
    }

    /// Opens a wgpu adapter with settings for tests: limits forced down, shader checks, variants.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[cfg(feature = "wgpu")]
    pub fn open_with(name: &str, variant: crate::Variant) -> Result<Device, DeviceError> {
        Device::adapter(name, variant)?.ok_or_else(|| Device::unknown(name))
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        self.backend.info()
    }

    /// What it can do.
    pub fn limits(&self) -> &Limits {
        self.backend.limits()
    }

    /// How precisely it computes matrix products and convolutions.
    pub fn matmul_precision(&self) -> MatmulPrecision {
        self.limits().precision
    }

    /// Why products are more precise, and slower, than they were asked for, if they are.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// What it has done since it was opened.
    pub fn counters(&self) -> Counters {
        self.backend.counters()
    }

    /// From now on the device measures, for each shape of product and convolution in a program that it loads and that has a dispatch
    /// of its own, which of a few shaders is the fastest, unless a folder says so from an earlier time. Without it, the device's class and the shape
    /// decide. Which shader computes a sum decides in what order it is added up, so other choices give other roundings; a choice
    /// that is kept stays as it is. Of no effect on devices that aren't adapters, on products in less than the highest precision and
    /// on programs that run whole.
    pub fn autotune(&self, settings: Autotune) {
        self.backend.autotune(settings);
    }

    /// What was measured since [`Device::autotune`], and at what cost.
    pub fn tuning(&self) -> Tuning {
        self.backend.tuning()
    }

    /// A buffer filled with zeros; sizes are rounded up to whole words.
    ///
    /// # Errors
    /// [`DeviceError::Limit`] or [`DeviceError::OutOfMemory`].
    pub fn create(&self, name: &str, bytes: usize) -> Result<Buffer, DeviceError> {
        let bytes = bytes.next_multiple_of(4).max(4);
        let limit = self.limits().largest_buffer();
        if bytes > limit {
            return Err(DeviceError::Limit {
                what: format!("buffer `{name}`"),
                requested: bytes,
                unit: "bytes",
                limit,
                device: self.info().to_string(),
            });
        }
        let memory = self.backend.create(name, bytes)?;
        Ok(Buffer { name: name.into(), bytes, memory, device: self.id })
    }

    /// Writes bytes at an offset; both must be multiples of four but at the buffer's end.
    ///
    /// # Errors
    /// [`DeviceError::Range`] outside the buffer, [`DeviceError::Lost`].
    pub fn write(&self, buffer: &Buffer, offset: usize, data: &[u8]) -> Result<(), DeviceError> {
        self.check(buffer, offset, data.len())?;
        self.backend.write(&buffer.memory, offset, data)
    }

    /// Waits for all work and reads `len` bytes from an offset.
    ///
    /// # Errors
    /// [`DeviceError::Range`] outside the buffer, [`DeviceError::Lost`].
    pub fn read(&self, buffer: &Buffer, offset: usize, len: usize) -> Result<Vec<u8>, DeviceError> {
        self.read_later(buffer, offset, len)?.wait()
    }

    /// Queues a read of `len` bytes from an offset (a multiple of four) behind all work so far and
    /// returns at once, so that more work can be queued before the bytes are waited for.
    ///
    /// # Errors
    /// [`DeviceError::Range`] outside the buffer, [`DeviceError::Lost`].
    pub fn read_later(
        &self,
        buffer: &Buffer,
        offset: usize,
        len: usize,
    ) -> Result<Pending, DeviceError> {
        self.check(buffer, offset, len)?;
        let arriving = match len {
            0 => Arriving::Here(vec![]),
            _ => self.backend.read(&buffer.memory, offset, len.next_multiple_of(4))?,
        };
        Ok(Pending { arriving, bytes: len })
    }

    /// Checks that a range lies in a buffer of this device, on whole words.
    fn check(&self, buffer: &Buffer, offset: usize, len: usize) -> Result<(), DeviceError> {
        if buffer.device != self.id {
            return Err(buffer.foreign(self.info()));
        }
        buffer.check(offset, len)?;
        if offset.is_multiple_of(4) && (len.is_multiple_of(4) || offset + len + 3 >= buffer.bytes) {
            return Ok(());
        }
        Err(DeviceError::Alignment { name: buffer.name.to_string(), offset, len })
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.backend.synchronize()
    }

    /// Checks a program against the device's limits and prepares it. `external` are the buffers
    /// for the program's external ones, in order.
    ///
    /// # Errors
    /// [`DeviceError::Program`] or [`DeviceError::Limit`] from [`Program::verify`],
    /// [`DeviceError::Shader`] from the shader compiler, or no memory.
    pub fn load(&self, program: &Program, external: &[Buffer]) -> Result<Executable, DeviceError> {
        program.verify(self.limits(), &self.info().to_string())?;
        let expected = program.buffers.iter().filter(|spec| spec.external).count();
        let externals = |found: String| DeviceError::Externals { expected, found };
        if external.len() != expected {
            return Err(externals(external.len().to_string()));
        }
        for (number, buffer) in external.iter().enumerate() {
            if buffer.device != self.id {
                return Err(buffer.foreign(self.info()));
            }
            if external[..number].iter().any(|other| Arc::ptr_eq(&other.name, &buffer.name)) {
                return Err(externals(format!("buffer `{}` twice", buffer.name)));
            }
        }
        let mut given = external.iter();
        let mut buffers = Vec::with_capacity(program.buffers.len());
        for spec in &program.buffers {
            let shared = if spec.external { given.next().cloned() } else { None };
            let buffer = match shared {
                Some(buffer) => buffer,
                None => self.create(&spec.name, spec.bytes)?,
            };
            buffer.check(0, spec.bytes)?;
            buffers.push(buffer);
        }
        let run = self.backend.load(program, &buffers)?;
        let label = |group: Range<usize>| {
            let labels: Vec<&str> =
                program.kernels[group.clone()].iter().map(|kernel| kernel.label.as_str()).collect();
            (group, labels.join(" | "))
        };
        let labels = program.groups().into_iter().map(label).collect();
        Ok(Executable { run, labels, buffers })
    }
}

/// Memory of a device. Cheap to clone; clones are the same memory.
#[derive(Clone)]
pub struct Buffer {
    name: Arc<str>,
    bytes: usize,
    pub(crate) memory: Memory,
    /// The device that made it.
    device: u64,
}

impl Buffer {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), DeviceError> {
        if offset.checked_add(len).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(DeviceError::Range { name: self.name.to_string(), size: self.bytes, offset, len })
    }

    /// A buffer of the same size with other memory of the same device.
    #[cfg(feature = "wgpu")]
    pub(crate) fn in_memory(&self, memory: Memory) -> Buffer {
        Buffer { memory, ..self.clone() }
    }

    pub(crate) fn foreign(&self, device: &DeviceInfo) -> DeviceError {
        DeviceError::Foreign { name: self.name.to_string(), device: device.to_string() }
    }
}

/// A loaded program.
pub struct Executable {
    run: Box<dyn Run>,
    /// Of each dispatch the kernels and their labels.
    labels: Vec<(Range<usize>, String)>,
    buffers: Vec<Buffer>,
}

impl Executable {
    /// Runs all kernels in order, `times` times. Returns when the work is queued.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        self.run.run(times)
    }

    /// Runs all kernels once, by a loop over the same pipelines, bind groups and grids that does nothing else, so that what
    /// [`Executable::run`] costs the host can be compared with it. `false`, and nothing runs, on devices that aren't adapters.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    #[doc(hidden)]
    pub fn run_bare(&mut self) -> Result<bool, DeviceError> {
        self.run.run_bare()
    }

    /// Runs once and measures each kernel; those that share a dispatch together.
    ///
    /// # Errors
    /// [`DeviceError::Lost`], or a device without a clock of its own.
    pub fn profile(&mut self) -> Result<Vec<Timing>, DeviceError> {
        let times = self.run.profile()?;
        let timing = |(kernels, label): &(Range<usize>, String)| Timing {
            label: label.clone(),
            milliseconds: times.get(kernels.clone()).unwrap_or_default().iter().sum(),
        };
        Ok(self.labels.iter().map(timing).collect())
    }

    /// The buffer that serves as the program's buffer of that number.
    pub fn buffer(&self, number: usize) -> &Buffer {
        &self.buffers[number]
    }
}
