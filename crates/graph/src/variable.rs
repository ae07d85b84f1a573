//! Variables: memory that outlives a program. Parameters, optimizer state, counters, the data set.

use crate::Type;
use shadegrad_device::{DType, random};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What a variable holds when a session first sees it.
#[derive(Clone, Debug)]
pub enum Init {
    /// Every element the same.
    Full(f64),
    /// Uniform in `[low, high)`: elements are counter-based, so they are the same on every device.
    Uniform {
        /// Smallest value.
        low: f64,
        /// Bound, reached only by rounding.
        high: f64,
        /// Selects the stream.
        seed: u64,
    },
    /// Normal, by the Box-Muller transform of uniform numbers.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
        /// Selects the stream.
        seed: u64,
    },
    /// These bytes, in memory layout.
    Bytes(Arc<[u8]>),
    /// Variables laid one after the other.
    Concat(Vec<(usize, Init)>),
}

impl Init {
    /// The bytes of `count` elements.
    pub fn bytes(&self, dtype: DType, count: usize) -> Vec<u8> {
        let element = |value: f64| {
            let mut bytes = Vec::with_capacity(4);
            dtype.encode(value, &mut bytes);
            bytes
        };
        let uniform = |seed: u64, i: usize, lane: u32| {
            let key = random(seed as u32, (seed >> 32) as u32 ^ lane);
            (f64::from(random(key, i as u32)) + 0.5) / 4_294_967_296.0
        };
        match self {
            Init::Full(value) => element(*value).repeat(count),
            Init::Uniform { low, high, seed } => (0..count)
                .flat_map(|i| element(low + (high - low) * uniform(*seed, i, 0)))
                .collect(),
            Init::Normal { mean, std, seed } => (0..count)
                .flat_map(|i| {
                    let radius = (-2.0 * uniform(*seed, i, 1).ln()).sqrt();
                    let angle = std::f64::consts::TAU * uniform(*seed, i, 2);
                    element(mean + std * radius * angle.cos())
                })
                .collect(),
            Init::Bytes(bytes) => bytes.to_vec(),
            Init::Concat(parts) => {
                parts.iter().flat_map(|(count, init)| init.bytes(dtype, *count)).collect()
            }
        }
    }
}

struct Inner {
    id: u64,
    name: String,
    ty: Type,
    init: Init,
}

/// Looks at a variable without keeping it.
pub(crate) struct Holder(Weak<Inner>);

impl Holder {
    /// Whether anyone holds the variable.
    pub(crate) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Memory with a name and a type. Cheap to clone; clones are the same variable.
#[derive(Clone)]
pub struct Variable(Arc<Inner>);

impl Variable {
    /// A variable of its own.
    pub fn new(name: &str, shape: &[usize], dtype: DType, init: Init) -> Variable {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Variable(Arc::new(Inner { id, name: name.to_string(), ty: Type::new(shape, dtype), init }))
    }

    /// A single `U32` word: counters and seeds.
    pub fn word(name: &str, value: u32) -> Variable {
        Variable::new(name, &[], DType::U32, Init::Full(f64::from(value)))
    }

    /// A variable that holds bytes in memory layout.
    pub fn from_bytes(
        name: &str,
        shape: &[usize],
        dtype: DType,
        bytes: impl Into<Arc<[u8]>>,
    ) -> Variable {
        Variable::new(name, shape, dtype, Init::Bytes(bytes.into()))
    }

    /// Distinguishes it from every other variable of the process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Knows whether anyone still holds the variable.
    pub(crate) fn holder(&self) -> Holder {
        Holder(Arc::downgrade(&self.0))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its type.
    pub fn ty(&self) -> &Type {
        &self.0.ty
    }

    /// What it holds at first.
    pub fn init(&self) -> &Init {
        &self.0.init
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.ty())
    }
}
