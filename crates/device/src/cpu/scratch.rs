//! Memory that kernels use while they run and leave to the next ones, so that no step asks for much.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    /// What nobody uses now.
    static FREE: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// Words with any contents, which go back to a thread's free ones in the end.
pub(super) struct Scratch {
    memory: Vec<u32>,
    words: usize,
}

impl Scratch {
    pub(super) fn new(words: usize) -> Scratch {
        // The smallest that is large enough, so that large ones are there for who needs them.
        let memory = FREE.with_borrow_mut(|free| {
            let fits = (0..free.len()).filter(|&at| free[at].len() >= words);
            let found = fits.min_by_key(|&at| free[at].len());
            let instead = || (0..free.len()).max_by_key(|&at| free[at].len());
            found.or_else(instead).map(|at| free.swap_remove(at)).unwrap_or_default()
        });
        // Not grown: nobody reads what is in it.
        let memory = if memory.len() < words { vec![0; words] } else { memory };
        Scratch { memory, words }
    }
}

impl Deref for Scratch {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.memory[..self.words]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.memory[..self.words]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
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
