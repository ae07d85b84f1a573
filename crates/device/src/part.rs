//! Parts: into how many dispatches a kernel is cut, so that none takes longer than drivers wait.
//!
//! A driver that waits for a dispatch in vain resets the device, and everything in its memory is lost. How long a kernel takes
//! is predicted from what it does and slow rates for the class of device, which [`Limits`] holds as work that one dispatch may
//! do. A kernel of more is dispatched several times, each time for a range of its workgroups; no result depends on which
//! dispatch computes it. The prediction depends on kernel and limits only, so that the null device counts what adapters do.

use crate::{Body, DeviceClass, Kernel, Limits, Sequence, Term, numel};

/// Results of a workgroup, at least: a kernel with fewer workgroups than parts has parts in which nothing is left to do.
const RESULTS: usize = 64;

impl Kernel {
    /// How long it takes by prediction, all of its dispatches together; one is what a single dispatch may take.
    pub fn span(&self, limits: &Limits) -> f64 {
        let [read, written] = self.traffic();
        let idle = match &self.body {
            Body::Recurrent { sequence, stepwise: false, .. } => idle(limits, sequence.batch),
            _ => 1.0,
        };
        self.operations() * idle / limits.dispatch_operations as f64
            + (read + written) as f64 / limits.dispatch_bytes as f64
    }

    /// How many dispatches share the workgroups of one pass over its results.
    pub fn parts(&self, limits: &Limits) -> usize {
        let span = self.span(limits) / self.body.steps().unwrap_or(1).max(1) as f64;
        (span.ceil() as usize).min(self.workgroups()).max(1)
    }

    /// How many dispatches it takes: one for each part of each step.
    pub fn dispatches(&self, limits: &Limits) -> usize {
        self.body.steps().unwrap_or(1) * self.parts(limits)
    }

    /// Operations, where a kernel has several shaders by the one that does most: those of the core, and of the expression
    /// around it one for each term and point.
    fn operations(&self) -> f64 {
        let product = |factors: &[usize]| factors.iter().map(|&n| n as f64).product::<f64>();
        let results = product(&self.body.domain());
        let core = match &self.body {
            Body::Map { .. } => 0.0,
            Body::Rows { reductions, .. } => results * reductions.len() as f64,
            Body::Contract { .. } | Body::Attention { .. } | Body::Recurrent { .. } => {
                self.body.flops() as f64
            }
            Body::Window { window, .. } => results * product(&window.kernel),
            Body::Scatter { shape, axis, .. } => results * shape[*axis] as f64,
            Body::Scan { recurrence, .. } => results * (1 + recurrence.offsets.len()) as f64,
            Body::Merge { merge, .. } => results * f64::from(merge.width.max(1).ilog2() + 1),
        };
        let sources = self.body.sources().into_iter().map(|(_, shape)| product(&shape));
        let points = sources.fold(results, f64::max);
        let needed = self.expr.needed(&self.roots());
        let terms = self.expr.terms.iter().zip(&needed);
        let applied = terms.filter(|(term, needed)| **needed && matches!(term, Term::Apply { .. }));
        core + points * applied.count() as f64
    }

    /// Workgroups of one pass over the results, at most.
    fn workgroups(&self) -> usize {
        match &self.body {
            Body::Contract { contraction, splits, .. } => contraction.tiles([RESULTS; 2], *splits),
            Body::Rows { rows, .. } => numel(rows).div_ceil(RESULTS),
            Body::Scan { recurrence, .. } => {
                let [outer, _, inner] = recurrence.lines();
                if recurrence.mixes() { outer } else { (outer * inner).div_ceil(RESULTS) }
            }
            Body::Attention { attention, .. } => {
                (numel(&attention.batch) * attention.queries).div_ceil(RESULTS)
            }
            Body::Recurrent { sequence, stepwise, .. } => match stepwise {
                true => (sequence.batch * sequence.hidden).div_ceil(RESULTS),
                false => sequence.batch,
            },
            body => numel(&body.domain()).div_ceil(RESULTS),
        }
    }
}

impl Sequence {
    /// Whether each step has to be a dispatch of its own: where a workgroup's memory doesn't hold the states, or
    /// where a workgroup that went through all steps would take longer than a dispatch may. On the CPU a task goes through them.
    pub fn stepwise(&self, limits: &Limits) -> bool {
        if limits.class == DeviceClass::Cpu {
            return false;
        }
        let alone = self.flops() as f64 / self.batch.max(1) as f64 * idle(limits, 1);
        self.workgroup_bytes() > limits.workgroup_bytes || alone > limits.dispatch_operations as f64
    }
}

/// How many times slower a device is with a number of workgroups than with as many as it takes to be busy.
pub(crate) fn idle(limits: &Limits, groups: usize) -> f64 {
    (limits.class.busy_groups() as f64 / groups.max(1) as f64).max(1.0)
}
