//! The update as part of the recorded step: gradients, penalty, clipping, schedule, optimizer,
//! averages, assignment.
//!
//! The order is PyTorch's where it has one: gradients of the loss, with the penalty's; their mean
//! over the steps that are accumulated; clipping by value, then by norm; the sign for maximising,
//! weight decay and the optimizer's step; the moving average of what came out.

mod clip;
mod group;
mod scaler;
mod shard;

pub use clip::{clip_grads_with_norm, get_total_norm};
pub use group::Group;
pub use scaler::GradScaler;

use crate::setting::{not_negative, positive, require, share, steps};
use crate::{Decay, Optimizer, Parameters, Schedule, Setting, Slot, Update};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, GraphError, Session, Tensor, Variable};
use shard::Shard;

/// An optimizer with its memory for one set of parameters.
pub struct Updater {
    optimizer: Box<dyn Optimizer>,
    schedule: Box<dyn Schedule>,
    groups: Vec<Group>,
    l1_penalty: f64,
    clip_value: Option<f64>,
    /// The norm and its type.
    clip_norm: Option<(f64, f64)>,
    accumulate: usize,
    ema_decay: Option<f64>,
    scaler: Option<GradScaler>,
    shards: Vec<Shard>,
}

/// Something that an [`Updater`] remembers.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Its name, the same in every run.
    pub name: String,
    /// The shard of the parameters that it belongs to, if it belongs to one.
    pub shard: Option<usize>,
    /// Where it lies.
    pub variable: Variable,
}

/// Which update a step belongs to.
struct Clock {
    /// Updates before this step, a float scalar.
    updates: Tensor,
    /// Whether this step is the first that is accumulated; none if each is.
    first: Option<Tensor>,
    /// Whether this step updates; none if all do.
    due: Option<Tensor>,
}

impl Clock {
    fn new(graph: &Graph, accumulate: usize, scaler: Option<&GradScaler>) -> Clock {
        let number = graph.step();
        // Steps that were left out updated nothing.
        let less = |updates: Tensor| match scaler {
            Some(scaler) => updates - graph.variable(scaler.skipped()).to(DType::F32),
            None => updates,
        };
        if accumulate == 1 {
            return Clock { updates: less(number.to(DType::F32)), first: None, due: None };
        }
        let place = number.remainder(&number.full_like(accumulate as f64));
        // A whole number, but for the division's rounding.
        let updates = ((&number - &place).to(DType::F32) / accumulate as f64).round();
        let at = |step: usize| place.equal(&place.full_like(step as f64));
        let (first, due) = (Some(at(0)), Some(at(accumulate - 1)));
        Clock { updates: less(updates), first, due }
    }

    /// The new value in steps that update, else the old one.
    fn chosen(&self, new: &Tensor, old: &Tensor) -> Tensor {
        match &self.due {
            Some(due) => due.select(new, old),
            None => new.clone(),
        }
    }
}

impl Updater {
    /// An optimizer at a constant rate without clipping, for all parameters alike.
    pub fn new(parameters: &Parameters, optimizer: impl Optimizer + 'static) -> Updater {
        let shard = |shard: &Variable| Shard::new(parameters, shard, &optimizer);
        Updater {
            shards: parameters.shards().iter().map(shard).collect(),
            optimizer: Box::new(optimizer),
            schedule: Box::new(crate::Constant),
            groups: vec![],
            l1_penalty: 0.0,
            clip_value: None,
            clip_norm: None,
            accumulate: 1,
            ema_decay: None,
            scaler: None,
        }
    }

    /// Multiplies the rate by a schedule.
    pub fn schedule(&mut self, schedule: impl Schedule + 'static) {
        self.schedule = Box::new(schedule);
    }

    /// Lets some parameters learn in a way of their own.
    pub fn group(&mut self, group: Group) {
        for shard in &mut self.shards {
            shard
                .slots
                .iter_mut()
                .filter(|slot| group.has(&slot.name))
                .for_each(|s| group.apply(s));
            shard.settle(&*self.optimizer);
        }
        self.groups.push(group);
    }

    /// Adds the gradient of `l1_penalty sum(abs(parameters))` to that of the loss. The loss itself
    /// stays as it is.
    pub fn l1_penalty(&mut self, l1_penalty: f64) {
        self.l1_penalty = l1_penalty;
    }

    /// Brings every number of the gradient between `-clip_value` and `clip_value`, as PyTorch's
    /// `clip_grad_value_`; before clipping by norm.
    pub fn clip_grad_value(&mut self, clip_value: f64) {
        self.clip_value = Some(clip_value);
    }

    /// Scales the gradient down where its norm over all parameters exceeds `max_norm`.
    pub fn clip_grad_norm(&mut self, max_norm: f64) {
        self.clip_grad_norm_of_type(max_norm, 2.0);
    }

    /// The same with another norm, as PyTorch's `clip_grad_norm_`: 1 for the sum of magnitudes, 2
    /// for the root of the sum of squares, infinity for the largest magnitude.
    pub fn clip_grad_norm_of_type(&mut self, max_norm: f64, norm_type: f64) {
        self.clip_norm = Some((max_norm, norm_type));
    }

    /// Updates at every `steps`-th step only, with the mean of the gradients of these steps.
    /// Schedules and optimizers count updates.
    pub fn accumulate(&mut self, steps: usize) {
        self.accumulate = steps;
    }

    /// Keeps an exponential moving average of the parameters, as PyTorch's `AveragedModel` with
    /// `get_ema_multi_avg_fn(decay)`: after the first update they are the average, then it is
    /// `decay average + (1 - decay) parameters`. It is found in [`Updater::averages`].
    pub fn ema(&mut self, decay: f64) {
        self.ema_decay = Some(decay);
    }

    /// Scales the loss, so that gradients don't vanish where they wait in half precision, and leaves out the updates
    /// in which they overflow.
    pub fn scaler(&mut self, scaler: GradScaler) {
        self.scaler = Some(scaler);
    }

    /// The moving averages, laid out as [`Parameters::shards`] with the same names; none without
    /// [`Updater::ema`].
    pub fn averages(&self) -> Vec<&Variable> {
        let shards = self.shards.iter().filter(|_| self.ema_decay.is_some());
        shards.map(|shard| &shard.average).collect()
    }

    /// Everything that is remembered from step to step, under names that are the same in every run:
    /// `optimizer.0.exp_avg`, `gradient.0` and `ema.0` for the first shard of the parameters, what the
    /// schedule remembers, such as `schedule.1.best`, and `scaler.scale`.
    pub fn state(&self) -> Vec<Memory> {
        let mut state = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let mut keep = |name: String, variable: &Variable| {
                state.push(Memory { name, shard: Some(number), variable: variable.clone() });
            };
            for variable in &shard.memory {
                keep(format!("optimizer.{number}.{}", variable.name()), variable);
            }
            if self.accumulate > 1 {
                keep(format!("gradient.{number}"), &shard.accumulated);
            }
            if self.ema_decay.is_some() {
                keep(format!("ema.{number}"), &shard.average);
            }
        }
        let named = |(number, variable): (usize, Variable)| {
            let name = format!("schedule.{number}.{}", variable.name());
            Memory { name, shard: None, variable }
        };
        state.extend(self.schedule.state().into_iter().enumerate().map(named));
        for variable in self.scaler.iter().flat_map(GradScaler::state) {
            let (name, variable) = (format!("scaler.{}", variable.name()), variable.clone());
            state.push(Memory { name, shard: None, variable });
        }
        state
    }

    /// Tells the schedule what a validation gave: the loss, and the score that says which weights are best.
    ///
    /// # Errors
    /// What the device reports.
    pub fn report(&self, session: &mut Session, loss: f64, score: f64) -> Result<(), GraphError> {
        self.schedule.validated(session, loss, score)
    }

    fn check(&self) -> Result<(), Setting> {
        self.optimizer.base().check()?;
        self.optimizer.check()?;
        self.schedule.check()?;
        let few = u32::try_from(self.accumulate).is_ok();
        require(few, "accumulate", self.accumulate, "below 2^32")?;
        let slots: Vec<&Slot> = self.shards.iter().flat_map(|shard| &shard.slots).collect();
        let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
        self.groups.iter().try_for_each(|group| group.check(&names))?;
        let some = slots.iter().any(|slot| !slot.frozen);
        require(some, "frozen", "said of every parameter", "said of some of them")?;
        not_negative("l1_penalty", self.l1_penalty)?;
        self.clip_value.map_or(Ok(()), |value| positive("clip_value", value))?;
        if let Some((max_norm, norm_type)) = self.clip_norm {
            positive("max_norm", max_norm)?;
            let known = [1.0, 2.0, f64::INFINITY].contains(&norm_type);
            require(known, "norm_type", norm_type, "1, 2 or infinity")?;
        }
        steps("accumulate", self.accumulate)?;
        self.scaler.as_ref().map_or(Ok(()), GradScaler::check)?;
        self.ema_decay.map_or(Ok(()), |decay| share("ema", decay))
    }

    /// Records the gradients of `loss` and the update of all parameters. The step counter of the
    /// graph is not advanced: the recording's owner does that once.
    ///
    /// With a scaler it gives a truth value: whether the gradients aren't finite although the scale is the lowest, so that
    /// it is no use going on.
    ///
    /// Settings that make no sense are kept by the graph as a mistake, like a parameter that the
    /// loss doesn't depend on.
    #[track_caller]
    pub fn record(&self, graph: &Graph, parameters: &Parameters, loss: &Tensor) -> Option<Tensor> {
        if let Err(setting) = self.check() {
            graph.refuse("training step", &[loss], &setting.to_string());
            return None;
        }
        let mut gradients = self.gradients(graph, parameters, loss)?;
        let mut clock = Clock::new(graph, self.accumulate, self.scaler.as_ref());
        if let Some(first) = &clock.first {
            for (shard, gradient) in self.trained().zip(&mut gradients) {
                let part = &*gradient * (1.0 / self.accumulate as f64);
                let before = graph.variable(&shard.accumulated);
                *gradient = first.select(&part, &(before + &part));
                graph.assign(&shard.accumulated, gradient);
            }
        }
        let mut exhausted = None;
        if let Some(scaler) = &self.scaler {
            let settled = scaler.settle(graph, &gradients, clock.due.as_ref());
            clock.due = Some(settled.update);
            exhausted = Some(settled.exhausted);
        }
        if let Some(value) = self.clip_value {
            gradients.iter_mut().for_each(|gradient| *gradient = gradient.clamp(-value, value));
        }
        if let Some((max_norm, norm_type)) = self.clip_norm {
            let norm = get_total_norm(graph, &gradients, norm_type);
            gradients = clip_grads_with_norm(&gradients, max_norm, &norm);
        }
        let factor = self.schedule.factor(&clock.updates);
        self.schedule.observe(loss);
        let mut gradients = gradients.into_iter().peekable();
        for shard in &self.shards {
            let new = match gradients.next_if(|_| !shard.is_frozen()) {
                Some(gradient) => {
                    let new = self.step(graph, shard, &clock, &factor, gradient);
                    graph.assign(&shard.parameters, &new);
                    new
                }
                None => graph.variable(&shard.parameters),
            };
            if let Some(decay) = self.ema_decay {
                let average = graph.variable(&shard.average);
                let first = clock.updates.less(&clock.updates.full_like(1.0));
                let joined = &average + (&new - &average) * (1.0 - decay);
                let joined = first.select(&new, &joined);
                graph.assign(&shard.average, &clock.chosen(&joined, &average));
            }
        }
        exhausted
    }

    /// What scales the loss, if anything does.
    pub fn grad_scaler(&self) -> Option<&GradScaler> {
        self.scaler.as_ref()
    }

    /// The shards that have parameters that are not frozen.
    fn trained(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| !shard.is_frozen())
    }

    /// The gradient of loss and penalty for each shard that isn't frozen. Where a parameter is, it
    /// is zero and isn't computed. None after a mistake.
    #[track_caller]
    fn gradients(
        &self,
        graph: &Graph,
        parameters: &Parameters,
        loss: &Tensor,
    ) -> Option<Vec<Tensor>> {
        let tensors = parameters.tensors(graph);
        let slots = self.shards.iter().flat_map(|shard| &shard.slots);
        let trained: Vec<(&Slot, &Tensor)> =
            slots.zip(tensors.iter().flatten()).filter(|(slot, _)| !slot.frozen).collect();
        // Named here, where the names are known.
        let unused: Vec<String> = trained
            .iter()
            .filter(|(_, tensor)| !graph.depends(loss, tensor))
            .map(|(slot, _)| format!("`{}`", slot.name))
            .collect();
        if !unused.is_empty() {
            let reason = format!("the loss does not depend on {}", unused.join(", "));
            graph.refuse("training step", &[loss], &reason);
            return None;
        }
        let wanted: Vec<&Tensor> = trained.iter().map(|(_, tensor)| *tensor).collect();
        let scale = self.scaler.as_ref().map(|scaler| graph.variable(scaler.scale()));
        let scaled = scale.as_ref().map_or_else(|| loss.clone(), |scale| loss * scale);
        let mut flows = graph.gradients(&scaled, &wanted).into_iter();
        let mut packed = |shard: &Shard| {
            let count = shard.slots.iter().filter(|slot| !slot.frozen).count();
            let flows: Vec<Tensor> = flows.by_ref().take(count).collect();
            let gradient = graph.pack(&flows.iter().collect::<Vec<_>>());
            let gradient = shard.placed(graph, gradient);
            let gradient = match &scale {
                Some(scale) => gradient * (scale.ones_like() / scale),
                None => gradient,
            };
            let penalty =
                shard.spread(graph, |kind| if kind.frozen { 0.0 } else { self.l1_penalty });
            match penalty.is_zero() {
                true => gradient,
                false => gradient + penalty.times(&graph.variable(&shard.parameters).sign()),
            }
        };
        Some(self.trained().map(&mut packed).collect())
    }

    /// The new parameters of a shard; its memory takes what the optimizer remembers.
    #[track_caller]
    fn step(
        &self,
        graph: &Graph,
        shard: &Shard,
        clock: &Clock,
        factor: &Tensor,
        gradient: Tensor,
    ) -> Tensor {
        let base = self.optimizer.base();
        let rate = shard.spread(graph, |kind| kind.lr_multiplier).times(&(factor * base.lr));
        let state: Vec<Tensor> = shard.memory.iter().map(|v| graph.variable(v)).collect();
        let old = graph.variable(&shard.parameters);
        let mut gradient = if base.maximize { -gradient } else { gradient };
        let mut parameters = old.clone();
        let decay = shard.spread(graph, |kind| kind.weight_decay);
        match base.decay {
            Decay::Gradient if !decay.is_zero() => gradient = gradient + decay.times(&old),
            Decay::Decoupled if !decay.is_zero() => {
                let kept = rate.full_like(1.0) - decay.times(&rate);
                parameters = &old * kept;
            }
            _ => {}
        }
        let updated = self.optimizer.update(&Update {
            parameters: &parameters,
            gradient: &gradient,
            state: &state,
            rate: &rate,
            factor,
            step: &(&clock.updates + 1.0),
            slots: &shard.slots,
        });
        for ((variable, new), old) in shard.memory.iter().zip(&updated.state).zip(&state) {
            graph.assign(variable, &clock.chosen(new, old));
        }
        let new = shard.unfrozen(graph, &updated.parameters, &old);
        clock.chosen(&new, &old)
    }
}
