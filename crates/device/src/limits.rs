//! What a device can do, as plain data, and named profiles of devices that aren't here.

use crate::algorithm::CooperativeTile;
use crate::{MatmulPrecision, Matrices};

/// What kind of hardware runs the kernels; kernels and splits are chosen by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceClass {
    /// A graphics card with its own memory.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// The host's cores, through the CPU backend.
    Cpu,
    /// A graphics interface implemented on the host's cores (lavapipe, SwiftShader, WARP).
    Software,
}

impl DeviceClass {
    /// Operations that one dispatch may take: half a second of the slowest devices of the class, a quarter of what Windows
    /// waits before it resets the driver. Nothing watches the host's own cores.
    pub const fn dispatch_operations(self) -> u64 {
        match self {
            DeviceClass::Discrete => 500_000_000_000,
            DeviceClass::Integrated => 50_000_000_000,
            DeviceClass::Cpu | DeviceClass::Software => u64::MAX,
        }
    }

    /// Bytes that one dispatch may move: half a second, too, at a tenth of a byte for each operation.
    pub const fn dispatch_bytes(self) -> u64 {
        match self {
            DeviceClass::Cpu | DeviceClass::Software => u64::MAX,
            watched => watched.dispatch_operations() / 10,
        }
    }

    /// Workgroups that the slowest devices of the class need to be busy: one alone is so many times slower than all.
    pub(crate) const fn busy_groups(self) -> usize {
        match self {
            DeviceClass::Discrete => 64,
            DeviceClass::Integrated => 8,
            DeviceClass::Cpu | DeviceClass::Software => 1,
        }
    }

    /// Whether it is a GPU and not the host's own cores.
    pub const fn is_gpu(self) -> bool {
        matches!(self, DeviceClass::Discrete | DeviceClass::Integrated)
    }

    /// Workgroups that keep the largest devices of the class busy.
    pub const fn full_groups(self) -> usize {
        match self {
            DeviceClass::Discrete => 128,
            DeviceClass::Integrated => 16,
            DeviceClass::Cpu | DeviceClass::Software => 1,
        }
    }
}

/// Sizes that a program must respect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The kind of hardware.
    pub class: DeviceClass,
    /// Bytes of one buffer that a kernel can see.
    pub binding_bytes: usize,
    /// Bytes of one buffer.
    pub buffer_bytes: usize,
    /// Buffers that one kernel can see.
    pub bindings: usize,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: usize,
    /// Invocations in a workgroup.
    pub invocations: usize,
    /// Workgroups along one axis of a dispatch.
    pub groups: usize,
    /// Invocations of a subgroup, which work in step and can see each other's values; zero where there are none or not
    /// always as many.
    pub subgroup: usize,
    /// Invocations that every subgroup has at least, though others may have more; zero where there are none.
    pub least_subgroup: usize,
    /// Whether kernels can store halves one by one, so that values can be kept in half precision.
    pub f16: bool,
    /// The cooperative matrices that it multiplies, if it has them and they are in use.
    pub matrices: Option<Matrices>,
    /// How precisely products are computed: less than the highest with cooperative matrices only.
    pub precision: MatmulPrecision,
    /// Operations that one dispatch may take by prediction; kernels of more are split. `u64::MAX` where nothing
    /// watches how long a dispatch takes.
    pub dispatch_operations: u64,
    /// Bytes that one dispatch may move by prediction, likewise.
    pub dispatch_bytes: u64,
}

impl Limits {
    /// What every WebGPU implementation guarantees.
    pub const WEBGPU: Limits = Limits {
        class: DeviceClass::Integrated,
        binding_bytes: 128 << 20,
        buffer_bytes: 256 << 20,
        bindings: 8,
        workgroup_bytes: 16 << 10,
        invocations: 256,
        groups: 65_535,
        subgroup: 0,
        least_subgroup: 0,
        f16: false,
        matrices: None,
        precision: MatmulPrecision::Highest,
        dispatch_operations: DeviceClass::Integrated.dispatch_operations(),
        dispatch_bytes: DeviceClass::Integrated.dispatch_bytes(),
    };

    /// The CPU backend: memory is the limit.
    pub const CPU: Limits = Limits {
        class: DeviceClass::Cpu,
        binding_bytes: usize::MAX >> 2,
        buffer_bytes: usize::MAX >> 2,
        bindings: usize::MAX,
        workgroup_bytes: 0,
        invocations: 1,
        groups: usize::MAX,
        subgroup: 0,
        least_subgroup: 0,
        f16: true,
        matrices: None,
        precision: MatmulPrecision::Highest,
        dispatch_operations: DeviceClass::Cpu.dispatch_operations(),
        dispatch_bytes: DeviceClass::Cpu.dispatch_bytes(),
    };

    /// The profiles that the null device can pretend to be, by name.
    pub fn profiles() -> Vec<(&'static str, Limits)> {
        vec![
            ("webgpu", Limits::WEBGPU),
            ("cpu", Limits::CPU),
            (
                "lavapipe",
                Limits {
                    class: DeviceClass::Software,
                    workgroup_bytes: 32 << 10,
                    invocations: 1024,
                    buffer_bytes: i32::MAX as usize,
                    bindings: 32,
                    subgroup: 8,
                    least_subgroup: 8,
                    f16: true,
                    dispatch_operations: DeviceClass::Software.dispatch_operations(),
                    dispatch_bytes: DeviceClass::Software.dispatch_bytes(),
                    ..Limits::WEBGPU
                },
            ),
            (
                "h200",
                Limits {
                    class: DeviceClass::Discrete,
                    binding_bytes: i32::MAX as usize,
                    buffer_bytes: 64 << 30,
                    workgroup_bytes: 48 << 10,
                    invocations: 1024,
                    bindings: 32,
                    subgroup: 32,
                    least_subgroup: 32,
                    f16: true,
                    matrices: Some(Matrices { side: 16, lanes: 32 }),
                    dispatch_operations: DeviceClass::Discrete.dispatch_operations(),
                    dispatch_bytes: DeviceClass::Discrete.dispatch_bytes(),
                    ..Limits::WEBGPU
                },
            ),
        ]
    }

    /// The profile of a name.
    pub fn profile(name: &str) -> Option<Limits> {
        Limits::profiles().into_iter().find(|(n, _)| *n == name).map(|(_, limits)| limits)
    }

    /// These limits with products as precise as asked for, or more so where there are no cooperative matrices or less
    /// workgroup memory than they take.
    pub fn with_precision(self, asked: MatmulPrecision) -> Limits {
        let limits = Limits { precision: asked, ..self };
        match CooperativeTile::SMALL.fits(&limits) {
            true => limits,
            false => Limits { precision: MatmulPrecision::Highest, ..limits },
        }
    }

    /// The largest buffer, which is bound whole, in bytes.
    pub fn largest_buffer(&self) -> usize {
        self.buffer_bytes.min(self.binding_bytes)
    }

    /// These limits, each lowered to the other's where that is smaller. The class and the precision of products stay.
    pub fn at_most(&self, other: &Limits) -> Limits {
        Limits {
            class: self.class,
            binding_bytes: self.binding_bytes.min(other.binding_bytes),
            buffer_bytes: self.buffer_bytes.min(other.buffer_bytes),
            bindings: self.bindings.min(other.bindings),
            workgroup_bytes: self.workgroup_bytes.min(other.workgroup_bytes),
            invocations: self.invocations.min(other.invocations),
            groups: self.groups.min(other.groups),
            subgroup: self.subgroup.min(other.subgroup),
            least_subgroup: self.least_subgroup.min(other.least_subgroup),
            f16: self.f16 && other.f16,
            matrices: self.matrices.filter(|matrices| other.matrices == Some(*matrices)),
            precision: self.precision,
            dispatch_operations: self.dispatch_operations.min(other.dispatch_operations),
            dispatch_bytes: self.dispatch_bytes.min(other.dispatch_bytes),
        }
    }
}
