//! A course of training: the compiled steps of a data set's parts, and whose turn it is.

use crate::TrainError;
use crate::state::Position;
use crate::stream::Loader;
use shadegrad_device::random;
use shadegrad_graph::{Loaded, Session, Tensor};
use std::collections::VecDeque;

/// Training on one data set with one batch size, compiled.
pub struct Course {
    programs: Vec<Loaded>,
    /// The loss in the recording of each.
    losses: Vec<Tensor>,
    /// What brings the samples of each part to the device, if they don't lie there.
    loaders: Vec<Option<Loader>>,
    sizes: Vec<usize>,
    batch: usize,
    seed: u64,
    /// Epochs of earlier courses.
    before: usize,
    /// Epochs of this course that have begun.
    epoch: usize,
    /// Whose turn it is in the rest of the epoch.
    turns: VecDeque<usize>,
    /// How many steps are queued before the host looks at losses.
    pub(crate) pace: usize,
}

/// The step at which `epochs` passes over the samples are complete.
pub(crate) fn end_of(epochs: usize, samples: usize, batch: usize) -> usize {
    let steps = (epochs as u128 * samples as u128).div_ceil(batch.max(1) as u128);
    usize::try_from(steps).unwrap_or(usize::MAX)
}

impl Course {
    pub(crate) fn new(
        (programs, losses, loaders): (Vec<Loaded>, Vec<Tensor>, Vec<Option<Loader>>),
        sizes: Vec<usize>,
        batch: usize,
        seed: u64,
        before: usize,
    ) -> Course {
        let turns = VecDeque::new();
        Course { programs, losses, loaders, sizes, batch, seed, before, epoch: 0, turns, pace: 1 }
    }

    /// Epochs that have begun, those of earlier courses among them.
    pub(crate) fn epochs(&self) -> usize {
        self.before + self.epoch
    }

    /// Samples of a step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The compiled step of each part.
    pub fn programs(&self) -> &[Loaded] {
        &self.programs
    }

    /// Whether an epoch is over and the next hasn't begun.
    pub(crate) fn is_between(&self) -> bool {
        self.turns.is_empty()
    }

    /// The recorded loss of a part, with the samples of a step on the device.
    pub(crate) fn loss(
        &mut self,
        session: &mut Session,
        part: usize,
        step: u32,
    ) -> Result<Option<Tensor>, TrainError> {
        if let Some(Some(loader)) = self.loaders.get_mut(part) {
            loader.reload(session, step)?;
        }
        Ok(self.losses.get(part).cloned())
    }

    /// Steps until every sample has been visited once more; never none.
    pub fn left_in_epoch(&mut self) -> usize {
        while self.turns.is_empty() {
            self.go_to(self.epoch + 1, usize::MAX);
        }
        self.turns.len()
    }

    /// Goes to the place in an epoch where so many steps are left, at most all.
    pub(crate) fn go_to(&mut self, epoch: usize, left: usize) {
        self.epoch = epoch;
        if epoch == 0 {
            return;
        }
        let end = |epochs, size| end_of(epochs, size, self.batch);
        let mut turns: Vec<usize> = Vec::new();
        for (part, &size) in self.sizes.iter().enumerate() {
            let own = end(epoch, size) - end(epoch - 1, size);
            turns.extend(std::iter::repeat_n(part, own));
        }
        let seed = random(self.seed as u32, (self.seed >> 32) as u32);
        let key = random(seed, self.epochs() as u32);
        for last in (1..turns.len()).rev() {
            turns.swap(last, random(key, last as u32) as usize % (last + 1));
        }
        let gone = turns.len().saturating_sub(left);
        self.turns = turns.split_off(gone).into();
    }

    /// Where it is; `turns` are the steps that have been done on each part.
    pub(crate) fn position(&self, turns: Vec<u32>) -> Position {
        Position {
            batch: self.batch,
            sizes: self.sizes.clone(),
            before: self.before,
            epoch: self.epoch,
            left: self.turns.len(),
            turns,
        }
    }

    /// Queues steps.
    pub(crate) fn run(&mut self, session: &mut Session, steps: usize) -> Result<(), TrainError> {
        let mut left = steps;
        while left > 0 {
            let most = self.left_in_epoch().min(left);
            let Some(&part) = self.turns.front() else { break };
            let mut own = self.turns.iter().take(most).take_while(|&&next| next == part).count();
            if let Some(loader) = &mut self.loaders[part] {
                own = loader.load(session, own)?;
            }
            self.programs[part].run(own)?;
            self.turns.drain(..own);
            left -= own;
        }
        Ok(())
    }
}
