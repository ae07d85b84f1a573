//! Host memory that several threads write at once, each in its own place. The only unsafe code of
//! the CPU backend besides the register tiles of contractions (`tile`) and the work of a crew (`crew`).

use bytemuck::{Pod, Zeroable};
use half::f16;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;

/// Words of an operand, of which some may be written by other threads while others are read.
#[derive(Clone, Copy)]
pub(super) struct Words<'a>(&'a [UnsafeCell<u32>]);

impl Words<'_> {
    /// One word.
    ///
    /// # Safety
    /// Nothing writes to that word meanwhile.
    #[inline(always)]
    pub(super) unsafe fn at(self, index: usize) -> u32 {
        // SAFETY: the index is checked, and the caller excludes writers of this word.
        unsafe { *self.0[index].get() }
    }

    /// Words from `index` on, copied.
    ///
    /// # Safety
    /// Nothing writes to those words meanwhile.
    #[inline(always)]
    pub(super) unsafe fn copy(self, index: usize, out: &mut [u32]) {
        let cells = &self.0[index..index + out.len()];
        // SAFETY: `UnsafeCell<u32>` has the layout of `u32`; the caller excludes writers of these
        // words, and `out` is borrowed mutably, so it is other memory.
        unsafe { std::ptr::copy_nonoverlapping(cells.as_ptr().cast(), out.as_mut_ptr(), out.len()) }
    }
}

/// A line of cache. A vector of its size that doesn't begin with one is read from two.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
pub(super) struct Line([u32; Line::WORDS]);

impl Line {
    pub(super) const WORDS: usize = 16;
}

/// Words that stay in a second-level cache beside others.
pub(super) const CACHED: usize = 1 << 18;

/// Asks for the line of cache at an address, which may be anywhere, while other things are computed.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
pub(super) fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, and does nothing of an address that isn't mapped.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

/// Words shared between the threads that run one kernel.
pub(crate) struct Memory {
    lines: Box<[UnsafeCell<Line>]>,
}

// SAFETY: all access goes through the unsafe methods here, whose contract forbids races.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Option<Memory> {
        let (mut lines, count) = (Vec::new(), bytes.div_ceil(size_of::<Line>()));
        lines.try_reserve_exact(count).ok()?;
        lines.resize_with(count, || UnsafeCell::new(Line::zeroed()));
        Some(Memory { lines: lines.into() })
    }

    /// All of them, to the end of the last line.
    fn all(&self) -> &[UnsafeCell<u32>] {
        let words = self.lines.len() * Line::WORDS;
        // SAFETY: a line is sixteen words without anything between them, and both may be written through a shared reference.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), words) }
    }

    /// Words that can be read one by one.
    pub(super) fn words(&self, range: Range<usize>) -> Words<'_> {
        Words(&self.all()[range])
    }

    /// Asks for the lines of cache of words that are read or written soon, as far as there are such words.
    #[inline(always)]
    pub(super) fn prefetch(&self, range: Range<usize>) {
        let end = range.end.min(self.lines.len() * Line::WORDS);
        for line in
            self.lines.get(range.start / Line::WORDS..end.div_ceil(Line::WORDS)).unwrap_or_default()
        {
            prefetch(line.get().cast());
        }
    }

    /// Words to read.
    ///
    /// # Safety
    /// Nothing writes to the range while the slice lives.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &[u32] {
        let cells = &self.all()[range];
        // SAFETY: `UnsafeCell<u32>` has the layout of `u32`; the caller excludes writers.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// Halves to read, two of which are a word.
    ///
    /// # Safety
    /// Nothing writes to the range while the slice lives.
    pub(super) unsafe fn read_halves(&self, range: Range<usize>) -> &[f16] {
        let cells = &self.all()[range.start / 2..range.end.div_ceil(2)];
        // SAFETY: the range lies in these words, whose alignment is enough for halves, and any two bytes are a half;
        // the caller excludes writers.
        unsafe {
            let first = cells.as_ptr().cast::<f16>().add(range.start % 2);
            std::slice::from_raw_parts(first, range.len())
        }
    }

    /// Halves to write. Threads may have both halves of a word.
    ///
    /// # Safety
    /// Nothing else reads or writes the range while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint ranges of one buffer")]
    pub(super) unsafe fn write_halves(&self, range: Range<usize>) -> &mut [f16] {
        let cells = &self.all()[range.start / 2..range.end.div_ceil(2)];
        // SAFETY: as in `read_halves`; the caller excludes everyone else.
        unsafe {
            let first = UnsafeCell::raw_get(cells.as_ptr()).cast::<f16>().add(range.start % 2);
            std::slice::from_raw_parts_mut(first, range.len())
        }
    }

    /// Words of which a thread uses some, while others may use those between them.
    ///
    /// # Safety
    /// Nothing else reads or writes the words that are used while the cells live.
    pub(super) unsafe fn cells(&self, range: Range<usize>) -> &[Cell<u32>] {
        let cells = &self.all()[range];
        // SAFETY: both have the layout of `u32` and may be written through a shared reference; the caller excludes everyone else
        // from the words that it uses.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// Words to write.
    ///
    /// # Safety
    /// Nothing else reads or writes the range while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint ranges of one buffer")]
    pub(super) unsafe fn write(&self, range: Range<usize>) -> &mut [u32] {
        let cells = &self.all()[range];
        // SAFETY: `UnsafeCell<u32>` has the layout of `u32`; the caller excludes everyone else.
        unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_with_a_line_of_cache_and_is_zero() {
        for bytes in [4, 64, 1000] {
            let memory = Memory::new(bytes).expect("so little memory");
            // SAFETY: nobody else has it.
            let words = unsafe { memory.read(0..bytes / 4) };
            assert_eq!(words.as_ptr() as usize % size_of::<Line>(), 0, "{bytes} bytes");
            assert!(words.iter().all(|&word| word == 0), "{bytes} bytes");
        }
    }

    #[test]
    fn words_that_there_are_not_may_be_asked_for() {
        let memory = Memory::new(1000).expect("so little memory");
        for range in [0..0, 0..250, 200..300, 256..300, 1000..2000, usize::MAX - 1..usize::MAX] {
            memory.prefetch(range);
        }
    }
}
