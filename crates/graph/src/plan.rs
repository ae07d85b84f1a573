//! Plan memory: every stored value gets a place in a few scratch buffers, and values that are never
//! alive together share one.
//!
//! Kernels bind whole buffers, so a kernel may read and write parts of the same one and any offset
//! will do; scratch buffers are split only where one would exceed what the device can bind.

use crate::lower::{Lowered, Memory};
use crate::ops::Op;
use crate::schedule::Schedule;
use crate::{GraphError, Value};
use shadegrad_device::Limits;
use std::collections::{BTreeMap, BTreeSet};

/// Alignment of values in scratch memory, in bytes: four floats, so that vector loads stay possible.
const ALIGNMENT: usize = 16;

/// More slots than this are placed in one order only: trying takes time that grows with the square.
const MANY: usize = 500;

/// Slots that are tried before and behind each other.
const LARGE: usize = 8;

/// The dispatches from which and until which something is alive.
pub(crate) type Life = (usize, usize);

/// One range of scratch memory and when it is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What lives there.
    pub name: String,
    /// Size in bytes.
    pub bytes: usize,
    /// From each dispatch that writes it to the last that reads what that has written, in order. In between the memory
    /// may serve others.
    pub lives: Vec<(usize, usize)>,
    /// Which scratch buffer.
    pub buffer: usize,
    /// Where in the buffer, in bytes.
    pub offset: usize,
    /// What it consists of, if that is written one after the other: offset, bytes, and the dispatch that first writes
    /// there. Until then the memory may serve others.
    pub parts: Vec<(usize, usize, usize)>,
    /// Whether it holds floats in half precision, which have buffers of their own.
    pub halved: bool,
}

impl Slot {
    /// The dispatch that first writes it.
    fn first(&self) -> usize {
        self.lives.first().map_or(0, |life| life.0)
    }

    /// During how many dispatches it is alive.
    fn age(&self) -> usize {
        self.lives.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The ranges that the slot takes at an offset, each with the dispatches from which and until which it does.
    fn ranges(&self, offset: usize) -> Vec<Taken> {
        let taken = |start: usize, bytes: usize, (first, last): Life| Taken {
            start: offset + start,
            end: offset + start + bytes,
            first,
            last,
        };
        if self.parts.is_empty() {
            return self.lives.iter().map(|&life| taken(0, self.bytes, life)).collect();
        }
        let last = self.lives.last().map_or(0, |life| life.1);
        self.parts.iter().map(|&(start, bytes, first)| taken(start, bytes, (first, last))).collect()
    }
}

/// A range of bytes and the dispatches during which it is taken.
#[derive(Clone, Copy)]
struct Taken {
    start: usize,
    end: usize,
    first: usize,
    last: usize,
}

impl Taken {
    fn meets(&self, other: &Taken) -> bool {
        let together = self.first <= other.last && other.first <= self.last;
        together && self.start < other.end && other.start < self.end
    }
}

/// Where everything is.
pub(crate) struct Plan {
    pub(crate) slots: Vec<Slot>,
    /// Slot and offset in bytes of each value and partial sum.
    pub(crate) at: BTreeMap<Memory, (usize, usize)>,
    /// Bytes of each scratch buffer.
    pub(crate) buffers: Vec<usize>,
    /// The largest sum of live values at any dispatch: no plan can do with less.
    pub(crate) lower_bound: usize,
}

/// Finds the lifetimes and packs the slots, each at the lowest place that is free during its life. `guard` bytes are left free after each.
pub(crate) fn plan(
    schedule: &Schedule,
    kernels: &[Lowered],
    limits: &Limits,
    guard: usize,
) -> Plan {
    let mut lives = lifetimes(schedule, kernels);
    let end = kernels.last().map_or(0, |last| last.dispatch);
    let nodes = &schedule.fused.nodes;
    for output in &nodes.outputs {
        let lives = lives.get_mut(&Memory::Value(*output));
        if let Some(last) = lives.and_then(|(_, lives)| lives.last_mut()) {
            last.1 = end;
        }
    }
    // What becomes alive at each dispatch, less what was alive the last time at the one before.
    let mut change = vec![(0, 0); end + 2];
    for (_, (bytes, lives)) in lives.iter().filter(|(m, _)| !is_pack(schedule, m)) {
        for (first, last) in lives {
            change[*first].0 += bytes;
            change[last + 1].1 += bytes;
        }
    }
    let mut alive = 0;
    let lower_bound = change.iter().map(|(more, less)| {
        alive = alive + more - less;
        alive
    });
    let lower_bound = lower_bound.max().unwrap_or(0);
    let mut slots = Vec::new();
    let mut at = BTreeMap::new();
    // Packs first: their inputs live inside them.
    for (number, node) in nodes.nodes.iter().enumerate() {
        let pack = Memory::Value(Value(number as u32));
        if !matches!(node.op, Op::Pack(_)) {
            continue;
        }
        let parts: Vec<Memory> = node.inputs.iter().map(|&v| Memory::Value(v)).collect();
        let all = |memory: &Memory| lives.get(memory).map(|(_, lives)| lives.clone());
        let first = parts.iter().filter_map(all).flatten().map(|life| life.0).min();
        let last = parts.iter().chain([&pack]).filter_map(all).flatten().map(|life| life.1).max();
        let mut offset = 0;
        let mut written = Vec::new();
        for (part, &input) in parts.iter().zip(&node.inputs) {
            at.insert(*part, (slots.len(), offset));
            let bytes = schedule.fused.node(input).ty.bytes();
            let first = lives.remove(part).and_then(|(_, lives)| Some(lives.first()?.0));
            let first = first.unwrap_or(0);
            written.push((offset, bytes, first));
            offset += bytes;
        }
        at.insert(pack, (slots.len(), 0));
        lives.remove(&pack);
        slots.push(Slot {
            name: format!("pack {number}"),
            bytes: offset,
            lives: vec![(first.unwrap_or(0), last.unwrap_or(end))],
            buffer: 0,
            offset: 0,
            parts: written,
            halved: false,
        });
    }
    for (memory, (bytes, lives)) in lives {
        at.insert(memory, (slots.len(), 0));
        let halved = matches!(memory, Memory::Value(value) if schedule.halved.contains(&value));
        let name = match memory {
            Memory::Value(value) if halved => format!("value {}, halves", value.0),
            Memory::Value(value) => format!("value {}", value.0),
            Memory::Partial(number) => format!("partial sums {number}"),
            Memory::Variable(..) => continue,
        };
        slots.push(Slot { name, bytes, lives, buffer: 0, offset: 0, parts: vec![], halved });
    }
    let buffers = arrange(&mut slots, limits.largest_buffer(), guard);
    Plan { slots, at, buffers, lower_bound }
}

fn is_pack(schedule: &Schedule, memory: &Memory) -> bool {
    matches!(memory, Memory::Value(v) if matches!(schedule.fused.node(*v).op, Op::Pack(_)))
}

/// Size and lives of everything in scratch memory.
fn lifetimes(schedule: &Schedule, kernels: &[Lowered]) -> BTreeMap<Memory, (usize, Vec<Life>)> {
    let mut lives: BTreeMap<Memory, (usize, Vec<Life>)> = BTreeMap::new();
    let mut touch = |memory: Memory, bytes: usize, at: usize, written: bool| {
        let (_, lives) = lives.entry(memory).or_insert((bytes, vec![]));
        match lives.last_mut() {
            Some(life) if !written => life.1 = at,
            _ => lives.push((at, at)),
        }
    };
    for lowered in kernels {
        let at = lowered.dispatch;
        let stores = lowered.kernel.body.stores();
        let stored: BTreeSet<usize> = stores.iter().map(|(store, _)| store.operand).collect();
        for (number, (operand, memory)) in
            lowered.kernel.operands.iter().zip(&lowered.operands).enumerate()
        {
            // Whole words, also of an odd number of halves.
            let bytes = (operand.len * operand.dtype.bytes()).next_multiple_of(4);
            let written = stored.contains(&number);
            match memory {
                Memory::Variable(..) => continue,
                Memory::Value(value) if schedule.home.contains_key(value) => continue,
                _ => touch(*memory, bytes, at, written),
            }
            if is_pack(schedule, memory)
                && let Memory::Value(pack) = memory
            {
                // Reading the pack reads its parts.
                for &input in &schedule.fused.node(*pack).inputs {
                    touch(Memory::Value(input), schedule.fused.node(input).ty.bytes(), at, false);
                }
            }
        }
    }
    lives
}

/// Places the slots in several orders, and keeps the plan that takes least.
fn arrange(slots: &mut [Slot], limit: usize, guard: usize) -> Vec<usize> {
    // What each order looks at first; larger comes earlier.
    let orders: [&dyn Fn(&Slot) -> usize; 4] =
        [&|slot| slot.bytes, &|slot| slot.bytes * slot.age(), &Slot::age, &|slot| {
            usize::MAX - slot.first()
        }];
    let by = |key: &dyn Fn(&Slot) -> usize| {
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&i| {
            let slot = &slots[i];
            std::cmp::Reverse((key(slot), slot.bytes, usize::MAX - slot.first(), usize::MAX - i))
        });
        order
    };
    let mut tried: Vec<Vec<usize>> = orders.iter().map(|key| by(key)).collect();
    // Of the largest, each one before and behind the others.
    let large = LARGE.min(slots.len());
    for number in 0..large {
        let mut order = tried[0].clone();
        order[..=number].rotate_right(1);
        tried.push(order);
        let mut order = tried[0].clone();
        order[number..large].rotate_left(1);
        tried.push(order);
    }
    tried.truncate(if slots.len() > MANY { 1 } else { tried.len() });
    let mut best: Option<(usize, Vec<usize>, Vec<Slot>)> = None;
    for order in tried {
        let mut placed = slots.to_vec();
        let buffers = assign(&mut placed, &order, limit, guard);
        let total = buffers.iter().sum();
        if best.as_ref().is_none_or(|(least, ..)| total < *least) {
            best = Some((total, buffers, placed));
        }
    }
    let Some((_, buffers, placed)) = best else { return vec![] };
    slots.clone_from_slice(&placed);
    buffers
}

/// Gives every slot a buffer and an offset, one after the other in an order, each at the lowest place that is free during
/// its life; the size of each buffer.
fn assign(slots: &mut [Slot], order: &[usize], limit: usize, guard: usize) -> Vec<usize> {
    // What is taken in each buffer so far, the guard behind it included, and whether it is one of halves.
    let mut buffers: Vec<(usize, Vec<Taken>, bool)> = Vec::new();
    for &number in order {
        let need = slots[number].bytes + guard;
        for buffer in 0.. {
            if buffer == buffers.len() {
                buffers.push((0, vec![], slots[number].halved));
            }
            let (size, taken, halved) = &mut buffers[buffer];
            if *halved != slots[number].halved {
                continue;
            }
            let mut offset = 0;
            // Behind whatever is in the way, until nothing is.
            while let Some(next) = blocked(&slots[number], offset, taken, guard) {
                offset = next.next_multiple_of(ALIGNMENT);
            }
            // A slot larger than the limit gets a buffer of its own, which the device refuses by name.
            if offset + need <= limit || offset == 0 {
                (slots[number].buffer, slots[number].offset) = (buffer, offset);
                *size = (*size).max(offset + need);
                taken.extend(slots[number].ranges(offset));
                break;
            }
        }
    }
    buffers.into_iter().map(|(size, ..)| size).collect()
}

/// The next offset at which a slot may fit, if something is in its way at this one.
fn blocked(slot: &Slot, offset: usize, taken: &[Taken], guard: usize) -> Option<usize> {
    let ranges = slot.ranges(offset);
    let guarded = |range: &Taken| Taken { end: range.end + guard, ..*range };
    let meets = taken.iter().filter_map(|other| {
        let own = ranges.iter().find(|own| guarded(own).meets(&guarded(other)))?;
        Some(offset + (other.end + guard - own.start).max(1))
    });
    meets.min()
}

impl Plan {
    /// Checks that no two slots that are alive together overlap, and that none leaves its buffer.
    ///
    /// # Errors
    /// [`GraphError::Compiler`].
    pub(crate) fn verify(&self) -> Result<(), GraphError> {
        let wrong = |reason| GraphError::Compiler { stage: "plan", reason };
        for (number, a) in self.slots.iter().enumerate() {
            if a.offset + a.bytes > self.buffers[a.buffer] {
                return Err(wrong(format!("{} leaves its buffer", a.name)));
            }
            for b in self.slots[number + 1..].iter().filter(|b| b.buffer == a.buffer) {
                let (a_ranges, b_ranges) = (a.ranges(a.offset), b.ranges(b.offset));
                if a_ranges.iter().any(|a| b_ranges.iter().any(|b| a.meets(b))) {
                    return Err(wrong(format!("{} and {} overlap", a.name, b.name)));
                }
            }
        }
        Ok(())
    }

    /// Ranges of scratch memory, in bytes, that no slot covers: `(buffer, offset, bytes)`.
    pub(crate) fn gaps(&self) -> Vec<(usize, usize, usize)> {
        let mut gaps = Vec::new();
        for (buffer, &bytes) in self.buffers.iter().enumerate() {
            let ranges: BTreeSet<(usize, usize)> = self
                .slots
                .iter()
                .filter(|s| s.buffer == buffer)
                .map(|s| (s.offset, s.offset + s.bytes))
                .collect();
            let mut reached = 0;
            for (start, end) in ranges {
                if start > reached {
                    gaps.push((buffer, reached, start - reached));
                }
                reached = reached.max(end);
            }
            if bytes > reached {
                gaps.push((buffer, reached, bytes - reached));
            }
        }
        gaps
    }
}
