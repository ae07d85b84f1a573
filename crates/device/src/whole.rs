//! Whole programs: which of them run as one dispatch for many steps.
//!
//! A dispatch costs the host and the device some microseconds, whatever it computes. A program whose kernels compute less than
//! that is one shader with one workgroup that goes through all kernels, a barrier behind each, and through all steps. Whether it can
//! and whether it pays depends on program and limits only, so that the null device counts the dispatches of adapters. How many
//! steps it takes is told by a uniform, one for each power of two, so any number of steps is a few dispatches and nothing
//! is written while it runs.

use crate::part::idle;
use crate::{Body, DType, DeviceClass, Kernel, Limits, Program, numel};

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
    /// How devices of some limits run it as one dispatch, if they do: it can be one, it is small, and it goes on from what the
    /// step before has left. What doesn't is run once, and its kernels may be compiled already for another program.
    pub fn whole(&self, limits: &Limits) -> Option<Whole> {
        let (most, longest) = limits.class.small();
        let operations: f64 = self.kernels.iter().map(Kernel::operations).sum();
        let small = operations <= most as f64
            && self.kernels.iter().all(|kernel| turns(&kernel.body) <= longest);
        self.as_whole(limits).filter(|_| small && self.goes_on())
    }

    /// How it is one dispatch, if it can be: no kernel needs workgroup memory, one shader can bind all buffers, and one workgroup
    /// takes no longer for a step than a dispatch may take.
    pub fn as_whole(&self, limits: &Limits) -> Option<Whole> {
        let span = self.whole_span(limits);
        let mut bound: Vec<usize> = self.kernels.iter().flat_map(Kernel::buffers).collect();
        bound.sort_unstable();
        bound.dedup();
        let can = limits.class != DeviceClass::Cpu
            && limits.invocations >= SIZE
            && bound.len() <= limits.bindings
            && span <= 1.0
            && self.kernels.iter().any(|kernel| kernel.body.stores().iter().any(|s| s.1 > 0))
            && self.kernels.iter().all(|kernel| is_alone(&kernel.body))
            && self.stores_halves_apart();
        let steps = (1.0 / span).min(MOST as f64) as usize;
        can.then(|| Whole { top: steps.max(1).ilog2() })
    }

    /// How long one workgroup takes for a step by prediction: one is what a dispatch may take.
    pub(crate) fn whole_span(&self, limits: &Limits) -> f64 {
        let all: f64 = self.kernels.iter().map(|kernel| kernel.span(limits)).sum();
        all * idle(limits, 1)
    }

    /// Whether a step reads what the one before has written.
    fn goes_on(&self) -> bool {
        let touched = |number: usize, kind: fn((bool, bool)) -> bool| {
            self.kernels.iter().any(|kernel| {
                let operands = kernel.operands.iter().enumerate();
                operands.filter(|(_, o)| o.buffer == number).any(|(at, _)| kind(kernel.access(at)))
            })
        };
        let external = (0..self.buffers.len()).filter(|&number| self.buffers[number].external);
        external.into_iter().any(|number| touched(number, |a| a.0) && touched(number, |a| a.1))
    }

    /// Whether buffers that halves are stored to hold nothing else: only then any invocation can store any of them.
    fn stores_halves_apart(&self) -> bool {
        let operands = || self.kernels.iter().flat_map(|kernel| &kernel.operands);
        let stored = |kernel: &Kernel| {
            let stores = kernel.body.stores();
            stores.into_iter().map(|(s, _)| kernel.operands[s.operand].clone()).collect::<Vec<_>>()
        };
        let mut halves =
            self.kernels.iter().flat_map(stored).filter(|target| target.dtype == DType::F16);
        halves.all(|half| {
            operands().filter(|o| o.buffer == half.buffer).all(|o| o.dtype == DType::F16)
        })
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
        | Body::Merge { .. }
        | Body::Attention { .. } => true,
        Body::Scan { recurrence, .. } => !recurrence.mixes(),
        Body::Recurrent { .. } => false,
    }
}

/// How many turns the loop of one invocation has.
fn turns(body: &Body) -> usize {
    match body {
        Body::Map { .. } => 1,
        Body::Rows { cols, .. } => numel(cols),
        Body::Contract { contraction, splits, .. } => contraction.matrix()[3].div_ceil(*splits),
        Body::Window { window, .. } => numel(&window.kernel),
        Body::Scatter { shape, axis, .. } => shape[*axis],
        Body::Scan { recurrence, .. } => recurrence.lines()[1],
        Body::Merge { merge, .. } => merge.width.ilog2() as usize + 1,
        Body::Attention { attention, .. } => attention.keys * attention.width,
        Body::Recurrent { sequence, .. } => sequence.time * sequence.hidden,
    }
}

impl DeviceClass {
    /// What is small: operations of a step, as they are predicted, and turns of the loop of any invocation.
    ///
    /// On software adapters none is: a step of a dozen kernels is several times as fast, but their compilers take half a minute for that much
    /// code with barriers, four times as long as for the kernels one by one (docs/performance.md).
    ///
    /// No GPU was measured. By estimate one workgroup does two operations in a nanosecond, as it waits for memory most of the time, so
    /// the work of this many is 50 us, where 20 dispatches take 100 to start and drain; and a turn of a loop waits some 150 ns, so 64 are
    /// 10 us, where with longer loops the kernels that share them out among invocations gain more than a dispatch costs.
    const fn small(self) -> (u64, usize) {
        match self {
            DeviceClass::Discrete | DeviceClass::Integrated => (100_000, 64),
            DeviceClass::Software | DeviceClass::Cpu => (0, 0),
        }
    }
}
