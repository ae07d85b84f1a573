//! The null device: programs are checked and counted, and nothing runs. Reads return zeros.

use crate::device::{Arriving, Backend, Memory, Run};
use crate::{Buffer, Counters, DeviceError, DeviceInfo, Limits, Program, Whole};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) struct Null {
    info: DeviceInfo,
    limits: Limits,
    counters: Arc<Mutex<Counters>>,
}

impl Null {
    pub(crate) fn new(limits: Limits) -> Null {
        let profile = Limits::profiles()
            .into_iter()
            .find(|(_, profile)| profile.clone().with_precision(limits.precision) == limits)
            .map_or("custom", |(name, _)| name);
        Null {
            info: DeviceInfo {
                name: format!("null:{profile}"),
                description: format!("no hardware, with the limits of {profile}"),
                class: limits.class,
                matrices: limits.matrices,
            },
            limits,
            counters: Arc::default(),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Backend for Null {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn create(&self, _: &str, _: usize) -> Result<Memory, DeviceError> {
        self.count(|c| c.buffers += 1);
        Ok(Memory::Null)
    }
    fn write(&self, _: &Memory, _: usize, _: &[u8]) -> Result<(), DeviceError> {
        self.count(|c| c.writes += 1);
        Ok(())
    }
    fn read(&self, _: &Memory, _: usize, bytes: usize) -> Result<Arriving, DeviceError> {
        self.count(|c| c.reads += 1);
        Ok(Arriving::Here(vec![0; bytes]))
    }
    fn load(&self, program: &Program, _: &[Buffer]) -> Result<Box<dyn Run>, DeviceError> {
        let dispatches = program.counts(&self.limits).dispatches;
        let (whole, kernels) = (program.whole(&self.limits), program.kernels.len());
        Ok(Box::new(NullRun { whole, dispatches, kernels, counters: self.counters.clone() }))
    }
    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct NullRun {
    whole: Option<Whole>,
    /// Of a step, where kernels have dispatches of their own.
    dispatches: usize,
    kernels: usize,
    counters: Arc<Mutex<Counters>>,
}

impl Run for NullRun {
    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.dispatches += match self.whole {
            Some(whole) => whole.dispatches(times),
            None => times * self.dispatches,
        } as u64;
        Ok(())
    }
    fn profile(&mut self) -> Result<Vec<f64>, DeviceError> {
        self.run(1)?;
        Ok(vec![0.0; self.kernels])
    }
}
