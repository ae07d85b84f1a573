//! Memory that kernels use while they run and leave to the next ones, so that no step asks for much.

use super::memory::Line;
use bytemuck::{Pod, Zeroable};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

thread_local! {
    /// What nobody uses now.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A few things that hold on to something else, of which there are hardly ever more.
pub(super) type Few<T> = SmallVec<[T; 8]>;

/// Numbers with any contents, whose memory goes back to what a thread has free in the end.
pub(super) struct Scratch<T = u32> {
    memory: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Scratch<T> {
    /// Lines that so many numbers take.
    fn lines(len: usize) -> usize {
        (len * size_of::<T>()).div_ceil(size_of::<Line>())
    }

    pub(super) fn new(len: usize) -> Scratch<T> {
        let lines = Scratch::<T>::lines(len);
        if lines == 0 {
            return Scratch { memory: Vec::new(), len, of: PhantomData };
        }
        // The smallest that is large enough, so that large ones are there for who needs them.
        let memory = FREE.with_borrow_mut(|free| {
            let fits = (0..free.len()).filter(|&at| free[at].len() >= lines);
            let found = fits.min_by_key(|&at| free[at].len());
            let instead = || (0..free.len()).max_by_key(|&at| free[at].len());
            found.or_else(instead).map(|at| free.swap_remove(at)).unwrap_or_default()
        });
        // Not grown: nobody reads what is in it.
        let memory = if memory.len() < lines { vec![Line::zeroed(); lines] } else { memory };
        Scratch { memory, len, of: PhantomData }
    }

    /// So many times one number.
    pub(super) fn filled(len: usize, value: T) -> Scratch<T> {
        let mut numbers = Scratch::new(len);
        numbers.fill(value);
        numbers
    }

    /// The numbers that an iterator gives.
    pub(super) fn of(values: impl ExactSizeIterator<Item = T>) -> Scratch<T> {
        let mut numbers = Scratch::new(values.len());
        numbers.iter_mut().zip(values).for_each(|(number, value)| *number = value);
        numbers
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.memory[..Scratch::<T>::lines(self.len)])[..self.len]
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let lines = Scratch::<T>::lines(self.len);
        &mut bytemuck::cast_slice_mut(&mut self.memory[..lines])[..self.len]
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.is_empty() {
            return;
        }
        // Where the thread ends, its memory goes with it.
        let _ = FREE.try_with(|free| free.borrow_mut().push(memory));
    }
}

/// `f` gets so many words with any contents.
pub(super) fn with_tile<R>(words: usize, f: impl FnOnce(&mut [u32]) -> R) -> R {
    f(&mut Scratch::new(words))
}

/// Elements of a source: where they lie, or computed.
pub(super) enum Dense<'a> {
    Lies(&'a [u32]),
    Computed(Scratch),
}

impl Deref for Dense<'_> {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Dense::Lies(words) => words,
            Dense::Computed(words) => words,
        }
    }
}
