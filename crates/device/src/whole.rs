//! Whole programs: which of them run as one dispatch for many steps.
//!
//! A dispatch costs the host and the device some microseconds, whatever it computes. A program whose kernels compute less than
//! that can be one shader with one workgroup that goes through all kernels, a barrier behind each, and through all steps. Compilers
//! take longer for it, so it has to be asked for. Whether it can be depends on program and limits only, so that the null
//! device counts the dispatches of adapters. How many steps it takes is told by a uniform, one for each power of two, so any
//! number of steps is a few dispatches and nothing is written while it runs.

use crate::part::idle;
use crate::share::one_shader_binds;
use crate::{AttentionRole, Body, DeviceClass, Limits, Program};

/// Invocations that every family has in a workgroup when nothing is shared: a program has as many for each of its kernels.
pub(crate) const SIZE: usize = 64;

/// Most steps of a dispatch. More would save nothing, and this many are over soon enough to stop between two dispatches.
const MOST: usize = 256;

/// A program as one dispatch for many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Dispatches take from one step to two to this power.
    pub top: u32,
}

impl Whole {
    /// How many dispatches take so many steps: as many of the longest as fit, and one for each binary digit of the rest.
    pub fn dispatches(&self, steps: usize) -> usize {
        let longest = 1 << self.top;
        steps / longest + (steps % longest).count_ones() as usize
    }
}

impl Program {
    /// How devices of some limits run it as one dispatch, if they do: that was asked for, no kernel needs workgroup memory, one
    /// shader can bind all buffers, and one workgroup takes no longer for a step than a dispatch may take.
    pub fn whole(&self, limits: &Limits) -> Option<Whole> {
        let span = self.whole_span(limits);
        let can = self.one_dispatch
            && limits.class != DeviceClass::Cpu
            && limits.invocations >= SIZE
            && span <= 1.0
            && self.kernels.iter().any(|kernel| kernel.body.stores().iter().any(|s| s.1 > 0))
            && self.kernels.iter().all(|kernel| is_alone(&kernel.body))
            && one_shader_binds(&self.kernels.iter().collect::<Vec<_>>(), limits);
        let steps = (1.0 / span).min(MOST as f64) as usize;
        can.then(|| Whole { top: steps.max(1).ilog2() })
    }

    /// How long one workgroup takes for a step by prediction: one is what a dispatch may take.
    pub(crate) fn whole_span(&self, limits: &Limits) -> f64 {
        let all: f64 = self.kernels.iter().map(|kernel| kernel.span(limits)).sum();
        all * idle(limits, 1)
    }
}

/// Whether the invocations of a family can do without each other.
fn is_alone(body: &Body) -> bool {
    match body {
        Body::Map { .. }
        | Body::Rows { .. }
        | Body::Contract { .. }
        | Body::Window { .. }
        | Body::Scatter { .. }
        | Body::Merge { .. } => true,
        Body::Attention { role, .. } => *role == AttentionRole::Forward,
        Body::Scan { recurrence, .. } => !recurrence.mixes(),
        Body::Recurrent { .. } => false,
    }
}
