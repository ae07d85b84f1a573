//! Host memory that several threads write at once, each in its own place. The only unsafe code of
//! the CPU backend besides the call of `gemm`.

use std::cell::UnsafeCell;
use std::ops::Range;

/// Words shared between the threads that run one kernel.
pub(crate) struct Memory {
    words: Box<[UnsafeCell<u32>]>,
}

// SAFETY: all access goes through the two unsafe methods below, whose contract forbids races.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Option<Memory> {
        let mut words = Vec::new();
        words.try_reserve_exact(bytes / 4).ok()?;
        words.resize_with(bytes / 4, || UnsafeCell::new(0));
        Some(Memory {
            words: words.into(),
        })
    }

    /// Words to read.
    ///
    /// # Safety
    /// Nothing writes to the range while the slice lives.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &[u32] {
        let cells = &self.words[range];
        // SAFETY: `UnsafeCell<u32>` has the layout of `u32`; the caller excludes writers.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// Words to write.
    ///
    /// # Safety
    /// Nothing else reads or writes the range while the slice lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "threads write disjoint ranges of one buffer"
    )]
    pub(super) unsafe fn write(&self, range: Range<usize>) -> &mut [u32] {
        let cells = &self.words[range];
        // SAFETY: `UnsafeCell<u32>` has the layout of `u32`; the caller excludes everyone else.
        unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }
}
