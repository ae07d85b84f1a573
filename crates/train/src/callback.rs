//! Callbacks: who is told of steps and epochs, such as loggers, and may end training.

use crate::{Epoch, History};
use std::error::Error;

/// What is to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Training goes on.
    Continue,
    /// Training ends soon, after a checkpoint if any are written.
    Stop,
}

/// What a callback answers; an error ends training.
pub type Answer = Result<Control, Box<dyn Error + Send + Sync>>;

/// Someone who is told of steps and epochs.
pub trait Callback {
    /// The host has looked at more steps: those of the history from number `from` on. The device is steps ahead, so
    /// nothing waits for this.
    fn steps(&mut self, from: usize, history: &History) -> Answer {
        let _ = (from, history);
        Ok(Control::Continue)
    }

    /// An epoch is over: the last of the history's.
    fn epoch(&mut self, epoch: &Epoch, history: &History) -> Answer {
        let _ = (epoch, history);
        Ok(Control::Continue)
    }
}

/// Any function that is told of epochs.
impl<F: FnMut(&Epoch, &History) -> Answer> Callback for F {
    fn epoch(&mut self, epoch: &Epoch, history: &History) -> Answer {
        self(epoch, history)
    }
}
