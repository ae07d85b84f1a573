//! Programs: buffers and kernels in order, as plain data that can be printed, compared, counted,
//! checked and replayed.

use crate::{
    Body, Contraction, DType, DeviceError, Kernel, Limits, Operand, Store, Term, TermId, View,
    WindowRole, can_share, numel,
};
use std::fmt::Write;
use std::ops::Range;

/// A buffer that a program uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// Name for people.
    pub name: String,
    /// Size.
    pub bytes: usize,
    /// Whether it outlives the program and is given to it when loaded; else it is scratch memory
    /// that the program owns and whose contents mean nothing between runs.
    pub external: bool,
}

/// What a device runs: kernels one after the other, but for those that share a dispatch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The buffers that kernels refer to by number.
    pub buffers: Vec<BufferSpec>,
    /// The kernels, in order.
    pub kernels: Vec<Kernel>,
    /// The numbers of kernels, in order, that share the dispatch of the one before them: see [`can_share`](crate::can_share).
    pub joined: Vec<usize>,
    /// Whether many runs are to be one dispatch, where they can be: see [`Program::whole`].
    pub one_dispatch: bool,
}

/// What one run of a program costs, counted exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Dispatches: one for each kernel, but for those that take several or share one. What runs whole ([`Program::whole`]) takes fewer.
    pub dispatches: usize,
    /// Bytes that kernels load, each operand counted once per kernel, and what is gathered once
    /// per point.
    pub bytes_read: u64,
    /// Bytes that kernels store.
    pub bytes_written: u64,
    /// Multiplications and additions in contractions.
    pub flops: u64,
    /// Bytes of scratch memory.
    pub scratch_bytes: usize,
}

impl Kernel {
    /// Whether it stores to memory that another kernel touches.
    fn overwrites(&self, other: &Kernel) -> bool {
        let range = |operand: &Operand| {
            operand.offset..operand.offset + operand.len * operand.dtype.bytes()
        };
        let meet = |a: &Operand, b: &Operand| {
            let (own, others) = (range(a), range(b));
            a.buffer == b.buffer && own.start < others.end && others.start < own.end
        };
        let stored = (0..self.operands.len()).filter(|&number| self.access(number).1);
        let touched = || {
            let used = |number: &usize| other.access(*number) != (false, false);
            (0..other.operands.len()).filter(used).map(|number| &other.operands[number])
        };
        stored.into_iter().any(|number| touched().any(|one| meet(&self.operands[number], one)))
    }

    /// What it costs by itself under limits that decide how often it is dispatched; it has no scratch memory of its own.
    pub fn counts(&self, limits: &Limits) -> Counts {
        let [bytes_read, bytes_written] = self.traffic();
        let dispatches = self.dispatches(limits);
        Counts { dispatches, bytes_read, bytes_written, flops: self.body.flops(), scratch_bytes: 0 }
    }

    /// Bytes that it loads and that it stores, as [`Counts`] has them.
    pub fn traffic(&self) -> [u64; 2] {
        let read = |(number, operand): (usize, &Operand)| {
            if !self.access(number).0 {
                return 0;
            }
            // A gather reads no more elements than it has points.
            let gathers =
                |t: &Term| matches!(t, Term::Gather { operand, .. } if *operand == number);
            let indexed = self.expr.terms.iter().any(gathers);
            let points = numel(&self.body.domain());
            let len = if indexed { operand.len.min(points) } else { operand.len };
            (len * operand.dtype.bytes()) as u64
        };
        let stores = self.body.stores();
        let written =
            |(store, len): &(Store, usize)| len * self.operands[store.operand].dtype.bytes();
        let bytes_read = self.operands.iter().enumerate().map(read).sum();
        [bytes_read, stores.iter().map(written).sum::<usize>() as u64]
    }
}

impl Program {
    /// The ranges of kernels that share a dispatch, in order; most are of one kernel.
    pub fn groups(&self) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for number in 0..self.kernels.len() {
            match groups.last_mut().filter(|_| self.joined.binary_search(&number).is_ok()) {
                Some(group) => group.end = number + 1,
                None => groups.push(number..number + 1),
            }
        }
        groups
    }

    /// The kernels of each dispatch that several share, and their numbers.
    pub fn shared(&self) -> impl Iterator<Item = (Range<usize>, Vec<&Kernel>)> {
        let groups = self.groups().into_iter().filter(|group| group.len() > 1);
        groups.map(|group| (group.clone(), self.kernels[group].iter().collect()))
    }

    /// Counts dispatches, bytes and operations of one run on a device of some limits.
    pub fn counts(&self, limits: &Limits) -> Counts {
        let scratch = self.buffers.iter().filter(|b| !b.external).map(|b| b.bytes).sum();
        let none = Counts { scratch_bytes: scratch, ..Counts::default() };
        let all = self.kernels.iter().map(|kernel| kernel.counts(limits));
        let all = all.fold(none, |all, one| Counts {
            dispatches: all.dispatches + one.dispatches,
            bytes_read: all.bytes_read + one.bytes_read,
            bytes_written: all.bytes_written + one.bytes_written,
            flops: all.flops + one.flops,
            ..all
        });
        Counts { dispatches: all.dispatches.saturating_sub(self.joined.len()), ..all }
    }

    /// Checks that every access lies inside its operand and every operand inside its buffer, that
    /// no kernel reads what it overwrites elsewhere, that scratch memory is written before it is
    /// read, that kernels which share a dispatch can do so, and that the device's limits are kept.
    ///
    /// # Errors
    /// [`DeviceError::Program`] for a contradiction, [`DeviceError::Limit`] for a limit.
    pub fn verify(&self, limits: &Limits, device: &str) -> Result<(), DeviceError> {
        let limit = |what: String, requested: usize, unit, limit: usize| {
            if requested <= limit {
                return Ok(());
            }
            Err(DeviceError::Limit { what, requested, unit, limit, device: device.to_string() })
        };
        for buffer in &self.buffers {
            limit(
                format!("buffer `{}`", buffer.name),
                buffer.bytes,
                "bytes",
                limits.largest_buffer(),
            )?;
        }
        let mut written: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.buffers.len()];
        for (number, kernel) in self.kernels.iter().enumerate() {
            let fail = |reason: String| DeviceError::Program {
                number,
                label: kernel.label.clone(),
                reason,
            };
            let bound = kernel.buffers().len();
            limit(format!("kernel `{}`", kernel.label), bound, "buffers", limits.bindings)?;
            self.verify_kernel(kernel, &written, limits).map_err(fail)?;
            for (store, len) in kernel.body.stores() {
                let operand = &kernel.operands[store.operand];
                written[operand.buffer]
                    .push((operand.offset, operand.offset + len * operand.dtype.bytes()));
            }
        }
        self.verify_joined(limits).map_err(|(number, reason)| DeviceError::Program {
            number,
            label: self.kernels.get(number).map_or(String::new(), |kernel| kernel.label.clone()),
            reason,
        })
    }

    /// Checks that kernels which share a dispatch exist, don't depend on each other, and have what is needed for that; else
    /// the number of one and the reason.
    fn verify_joined(&self, limits: &Limits) -> Result<(), (usize, String)> {
        let mut last = 0;
        for &number in &self.joined {
            if number <= last || number >= self.kernels.len() {
                let reason =
                    format!("{number} of {} kernels joins the one before", self.kernels.len());
                return Err((number, reason));
            }
            last = number;
        }
        for (group, kernels) in self.shared() {
            if !can_share(&kernels, limits) {
                let reason =
                    format!("it can't share a dispatch with the {} after it", group.len() - 1);
                return Err((group.start, reason));
            }
            for (number, kernel) in group.zip(&kernels) {
                let others = kernels.iter().filter(|other| !std::ptr::eq(**other, *kernel));
                if let Some(other) = others.into_iter().find(|other| kernel.overwrites(other)) {
                    let reason = format!(
                        "it shares a dispatch with `{}` and overwrites what that touches",
                        other.label
                    );
                    return Err((number, reason));
                }
            }
        }
        Ok(())
    }

    fn verify_kernel(
        &self,
        kernel: &Kernel,
        written: &[Vec<(usize, usize)>],
        limits: &Limits,
    ) -> Result<(), String> {
        verify_domains(kernel)?;
        let needed = kernel.expr.needed(&kernel.roots());
        for (number, operand) in kernel.operands.iter().enumerate() {
            let buffer = self
                .buffers
                .get(operand.buffer)
                .ok_or_else(|| format!("operand {number} names no buffer"))?;
            let bytes = operand.len.checked_mul(operand.dtype.bytes());
            let end =
                bytes.and_then(|bytes| bytes.checked_add(operand.offset)).unwrap_or(usize::MAX);
            if end > buffer.bytes || operand.offset % 4 != 0 {
                return Err(format!(
                    "operand {number} ends at byte {end} of the {} of `{}`",
                    buffer.bytes, buffer.name
                ));
            }
            let (read, _) = kernel.access(number);
            let start = operand.offset;
            if read && !buffer.external && !covers(&written[operand.buffer], start, end) {
                return Err(format!(
                    "operand {number} reads `{}` at {start}..{end} before it is written",
                    buffer.name
                ));
            }
        }
        for (term, _) in kernel.expr.terms.iter().zip(&needed).filter(|(_, n)| **n) {
            let (operand, view, reach) = match term {
                Term::Load { operand, view } => (*operand, view, 0),
                Term::Gather { operand, view, stride, len, .. } => {
                    (*operand, view, stride * len.saturating_sub(1))
                }
                _ => continue,
            };
            if let Some((low, high)) = view.extent()
                && (low < 0 || high as usize + reach >= kernel.operands[operand].len)
            {
                return Err(format!(
                    "elements {low}..={} of the {} of operand {operand}",
                    high as usize + reach,
                    kernel.operands[operand].len
                ));
            }
        }
        for (store, len) in kernel.body.stores() {
            let target = kernel.operands.get(store.operand).ok_or("a store names no operand")?;
            // Halves are stored one by one where the whole buffer is bound as halves.
            let storable = match target.dtype {
                DType::F16 => {
                    let mut beside = kernel.operands.iter().filter(|o| o.buffer == target.buffer);
                    limits.f16 && beside.all(|other| other.dtype == DType::F16)
                }
                dtype => dtype.bytes() == 4,
            };
            if len > target.len
                || target.dtype.loaded() != kernel.expr.types[store.term]
                || !storable
            {
                return Err(format!(
                    "a store of {len} {} into {} {}",
                    kernel.expr.types[store.term], target.len, target.dtype
                ));
            }
            let range = target.offset..target.offset + len * target.dtype.bytes();
            let twice = kernel.body.stores().iter().any(|(other, count)| {
                let other_target = &kernel.operands[other.operand];
                *other != store
                    && other_target.buffer == target.buffer
                    && other_target.offset < range.end
                    && range.start < other_target.offset + count * other_target.dtype.bytes()
            });
            if twice {
                return Err(format!("two stores into operand {}", store.operand));
            }
            for (number, other) in kernel.operands.iter().enumerate() {
                let end = other.offset + other.len * other.dtype.bytes();
                let overlaps =
                    other.buffer == target.buffer && other.offset < range.end && range.start < end;
                if overlaps
                    && kernel.access(number).0
                    && !self.in_place(kernel, number, store.operand)
                {
                    return Err(format!(
                        "operand {number} is read and overwritten by operand {}",
                        store.operand
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether every load of `read` is of the very point that `write` stores.
    fn in_place(&self, kernel: &Kernel, read: usize, write: usize) -> bool {
        let (a, b) = (&kernel.operands[read], &kernel.operands[write]);
        if let Body::Rows { .. } = kernel.body {
            return self.in_place_by_row(kernel, read, write);
        }
        let points = numel(&kernel.body.domain());
        matches!(kernel.body, Body::Map { .. })
            && a.offset == b.offset
            && (a.dtype.bytes(), b.dtype.bytes()) == (4, 4)
            && a.len == points
            && b.len == points
            && kernel.expr.terms.iter().all(|term| match term {
                Term::Load { operand, view } => *operand != read || view.is_contiguous(),
                Term::Gather { operand, .. } => *operand != read,
                _ => true,
            })
    }

    /// Whether `read` is loaded only for what is stored of the same row, and `write` is stored for each row. Stores of rows
    /// may come before elements are computed, but all loads for them come first.
    fn in_place_by_row(&self, kernel: &Kernel, read: usize, write: usize) -> bool {
        let Body::Rows { rows, cols, reductions, row_stores, stores, .. } = &kernel.body else {
            return false;
        };
        let (a, b) = (&kernel.operands[read], &kernel.operands[write]);
        let elements = reductions.iter().map(|r| r.term).chain(stores.iter().map(|s| s.term));
        let elements = kernel.expr.needed(&elements.collect::<Vec<_>>());
        let own_row = |view: &View| {
            let mut by_row = View::contiguous(rows);
            by_row.shape.extend(cols);
            by_row.strides.extend(cols.iter().map(|_| 0));
            by_row.valid.extend(cols.iter().map(|&n| (0, n)));
            let same =
                |axis: usize| view.shape[axis] == 1 || view.strides[axis] == by_row.strides[axis];
            view.offset == 0 && view.valid == by_row.valid && (0..view.shape.len()).all(same)
        };
        row_stores.iter().any(|store| store.operand == write)
            && !stores.iter().any(|store| store.operand == write)
            && (a.dtype.bytes(), b.dtype.bytes()) == (4, 4)
            && (a.offset, a.len, b.len) == (b.offset, numel(rows), numel(rows))
            && kernel.expr.terms.iter().enumerate().all(|(id, term)| match term {
                Term::Load { operand, view } if *operand == read => !elements[id] && own_row(view),
                Term::Gather { operand, .. } => *operand != read,
                _ => true,
            })
    }

    /// The program as text; equal programs give equal text.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (number, buffer) in self.buffers.iter().enumerate() {
            let kind = if buffer.external { "external" } else { "scratch" };
            let _ =
                writeln!(text, "buffer {number}: {} {} bytes, {kind}", buffer.name, buffer.bytes);
        }
        for (number, kernel) in self.kernels.iter().enumerate() {
            let joined = match self.joined.binary_search(&number) {
                Ok(_) => "together with the one before, ",
                Err(_) => "",
            };
            let _ = write!(text, "{number}: {joined}{}", kernel.dump(&self.buffers));
        }
        text
    }
}

/// Whether the union of `ranges` contains `start..end`.
fn covers(ranges: &[(usize, usize)], start: usize, end: usize) -> bool {
    let mut inside: Vec<(usize, usize)> =
        ranges.iter().copied().filter(|r| r.0 < end && start < r.1).collect();
    inside.sort_unstable();
    let mut reached = start;
    for (low, high) in inside {
        if low > reached {
            return false;
        }
        reached = reached.max(high);
    }
    reached >= end
}

/// Checks that every term is evaluated over the domain that its view is of: shaders compute
/// addresses from coordinates without a check.
fn verify_domains(kernel: &Kernel) -> Result<(), String> {
    verify_geometry(kernel)?;
    let terms = |stores: &[Store]| stores.iter().map(|store| store.term).collect();
    let mut places: Vec<(Vec<TermId>, Vec<usize>)> = match &kernel.body {
        Body::Contract { row_stores, stores, .. } => vec![
            (terms(row_stores), kernel.body.row_domain()),
            (terms(stores), kernel.body.domain()),
        ],
        body => {
            let stores: Vec<Store> = body.stores().iter().map(|(store, _)| *store).collect();
            vec![(terms(&stores), body.domain())]
        }
    };
    places.extend(kernel.body.sources().into_iter().map(|(term, shape)| (vec![term], shape)));
    for (roots, shape) in places {
        let needed = kernel.expr.needed(&roots);
        for (id, term) in kernel.expr.terms.iter().enumerate().filter(|(id, _)| needed[*id]) {
            if let Some(view) = term.view() {
                let whole = view.valid.len() == shape.len()
                    && view.strides.len() == shape.len()
                    && view.valid.iter().zip(&shape).all(|(&(_, end), &n)| end <= n);
                if view.shape != shape || !whole {
                    return Err(format!(
                        "term {id} is a view of {:?} used over {shape:?}",
                        view.shape
                    ));
                }
            }
            if let Term::Gather { index, .. } = term
                && kernel.expr.types[*index] != DType::U32
            {
                return Err(format!("term {id} gathers by {}", kernel.expr.types[*index]));
            }
        }
    }
    Ok(())
}

/// Whether a view over a domain reaches every element from zero on once: it is contiguous but for the order of axes.
fn fills(view: &View, domain: &[usize]) -> bool {
    let mut axes: Vec<(isize, usize)> =
        view.strides.iter().copied().zip(domain.iter().copied()).filter(|a| a.1 > 1).collect();
    axes.sort_unstable();
    let mut next = 1;
    let dense = axes.iter().all(|&(stride, extent)| {
        let fits = stride == next;
        next *= extent as isize;
        fits
    });
    view.shape == domain && !view.is_masked() && view.offset == 0 && (dense || numel(domain) == 0)
}

/// Checks what shaders divide by, that there is an axis to walk along, and that sources have the types that cores
/// work on.
fn verify_geometry(kernel: &Kernel) -> Result<(), String> {
    match &kernel.body {
        Body::Contract { contraction: Contraction::Conv(conv, _), .. }
            if conv.groups == 0 || conv.stride.contains(&0) || conv.dilation.contains(&0) =>
        {
            return Err(format!("{conv:?} divides by zero"));
        }
        Body::Rows { layout, .. } if !fills(layout, &kernel.body.domain()) => {
            return Err(format!("elements stored at {layout:?}"));
        }
        Body::Contract { contraction, row_stores, .. }
            if !row_stores.is_empty() && contraction.row_source().is_none() =>
        {
            return Err(format!("sums of the rows of {contraction:?}"));
        }
        Body::Window { window, .. } if window.stride.contains(&0) => {
            return Err("a window that doesn't step".into());
        }
        Body::Window { role: WindowRole::MaxGradient, index: None, .. } => {
            return Err("the gradient of a maximum without its place".into());
        }
        Body::Scatter { shape, axis, .. } if *axis >= shape.len() => {
            return Err(format!("a scatter along axis {axis} of {shape:?}"));
        }
        Body::Scan { recurrence, coefficients, .. }
            if recurrence.axis >= recurrence.shape.len()
                || recurrence.mixes() && recurrence.axis + 1 >= recurrence.shape.len()
                || recurrence.offsets.len() != coefficients.len() =>
        {
            return Err(format!("{recurrence:?} with {} coefficients", coefficients.len()));
        }
        Body::Merge { merge, .. } if merge.width == 0 => {
            return Err("a merge of empty runs".into());
        }
        Body::Recurrent { sequence, role, sources, .. }
            if sources.len() != sequence.sources(*role).len() =>
        {
            return Err(format!("{role:?} {sequence:?} of {} sources", sources.len()));
        }
        Body::Recurrent { stepwise: true, stores, .. }
            if !stores.iter().any(|s| kernel.expr.terms[s.term] == Term::Accumulator(0)) =>
        {
            return Err("a step that doesn't store what the next one reads".into());
        }
        _ => {}
    }
    let count = kernel.expr.terms.len();
    if let Some(root) = kernel.roots().into_iter().find(|&root| root >= count) {
        return Err(format!("term {root} of {count}"));
    }
    let is = |term: TermId, dtype| kernel.expr.types[term] == dtype;
    let fits = match &kernel.body {
        Body::Scan { source, coefficients, .. } => {
            coefficients.iter().chain([source]).all(|&term| is(term, DType::F32))
        }
        Body::Scatter { index, .. } => is(*index, DType::U32),
        Body::Recurrent { sequence, sources, .. } => {
            let (floats, mask) = sources.split_at(sources.len() - usize::from(sequence.masked));
            floats.iter().all(|&term| is(term, DType::F32))
                && mask.iter().all(|&term| is(term, DType::Bool))
        }
        Body::Merge { place, .. } => is(*place, DType::U32),
        Body::Window { index: Some(index), .. } => is(*index, DType::U32),
        _ => true,
    };
    if !fits {
        return Err("a source of another type than the core works on".into());
    }
    Ok(())
}
