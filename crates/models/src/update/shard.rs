//! What is known and remembered of one shard of the parameters, and what groups say of its numbers.

use crate::{Optimizer, Parameters, Slot, State};
use shadegrad_device::{DType, numel};
use shadegrad_graph::{Graph, Init, Tensor, Variable};

/// What is known and remembered of one shard of the parameters.
pub(super) struct Shard {
    pub(super) parameters: Variable,
    pub(super) slots: Vec<Slot>,
    /// What the optimizer remembers; nothing if all parameters are frozen.
    pub(super) memory: Vec<Variable>,
    /// The sum of the gradients of the steps since the last update.
    pub(super) accumulated: Variable,
    /// The moving average of the parameters.
    pub(super) average: Variable,
    /// The different settings of groups, and which of them each number of the parameters has.
    kinds: Vec<Kind>,
    kind: Variable,
    /// How many numbers of frozen parameters come before each number.
    frozen_before: Variable,
}

/// How a parameter learns.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Kind {
    pub(super) lr_multiplier: f64,
    pub(super) weight_decay: f64,
    pub(super) frozen: bool,
}

impl Shard {
    pub(super) fn new(
        parameters: &Parameters,
        shard: &Variable,
        optimizer: &dyn Optimizer,
    ) -> Shard {
        let slot = |(name, offset, shape): (&str, usize, &[usize])| Slot {
            name: name.to_string(),
            offset,
            shape: shape.to_vec(),
            lr_multiplier: 1.0,
            weight_decay: optimizer.base().weight_decay,
            // What has no numbers has no gradient either.
            frozen: numel(shape) == 0,
        };
        let shape = &shard.ty().shape;
        let mut new = Shard {
            parameters: shard.clone(),
            slots: parameters.places(shard).map(slot).collect(),
            memory: vec![],
            accumulated: Variable::new("gradient", shape, DType::F32, Init::Full(0.0)),
            average: Variable::new("ema", shape, DType::F32, shard.init().clone()),
            kinds: vec![],
            kind: Variable::word("kind", 0),
            frozen_before: Variable::word("frozen before", 0),
        };
        new.settle(optimizer);
        new
    }

    /// Makes what follows from the slots.
    pub(super) fn settle(&mut self, optimizer: &dyn Optimizer) {
        self.kinds.clear();
        let (mut numbers, mut before, mut frozen_before) = (Vec::new(), 0, Vec::new());
        for slot in self.slots.iter().filter(|slot| slot.count() > 0) {
            let Slot { lr_multiplier, weight_decay, frozen, .. } = *slot;
            let kind = Kind { lr_multiplier, weight_decay, frozen };
            let known = self.kinds.iter().position(|k| *k == kind);
            let number = known.unwrap_or_else(|| {
                self.kinds.push(kind);
                self.kinds.len() - 1
            });
            numbers.push((slot.count(), Init::Full(number as f64)));
            frozen_before.push((slot.count(), Init::Full(before as f64)));
            before += if frozen { slot.count() } else { 0 };
        }
        let dtype = if self.kinds.len() <= 256 { DType::U8 } else { DType::U32 };
        let shape = &self.parameters.ty().shape;
        self.kind = Variable::new("kind", shape, dtype, Init::Concat(numbers));
        let init = Init::Concat(frozen_before);
        self.frozen_before = Variable::new("frozen before", shape, DType::U32, init);
        let variable =
            |State { name, shape, init }: State| Variable::new(name, &shape, DType::F32, init);
        self.memory = match self.is_frozen() {
            true => vec![],
            false => optimizer.state(&self.slots).into_iter().map(variable).collect(),
        };
    }

    /// Whether there is nothing to update.
    pub(super) fn is_frozen(&self) -> bool {
        self.kinds.iter().all(|kind| kind.frozen)
    }

    /// What each number of the parameters has by its kind: a scalar if it is the same for all.
    pub(super) fn spread(&self, graph: &Graph, of: impl Fn(&Kind) -> f64) -> Spread {
        let values: Vec<f64> = self.kinds.iter().map(of).collect();
        let first = values.first().copied().unwrap_or_default();
        if values.iter().all(|value| *value == first) {
            return Spread::Same(first);
        }
        let kind = graph.variable(&self.kind).to(DType::U32);
        let zero = graph.full(&kind.shape(), DType::F32, first);
        let each = values.iter().enumerate().skip(1).fold(zero, |others, (number, value)| {
            let own = kind.equal(&kind.full_like(number as f64));
            own.select(&others.full_like(*value), &others)
        });
        Spread::Each(each)
    }

    /// A gradient in the places of all parameters, of one that has those of trained parameters alone.
    /// That of frozen ones is zero, without a kernel that writes zeros.
    pub(super) fn placed(&self, graph: &Graph, gradient: Tensor) -> Tensor {
        if !self.kinds.iter().any(|kind| kind.frozen) {
            return gradient;
        }
        let before = graph.variable(&self.frozen_before);
        let found = gradient.gather(0, &(before.along(0) - &before));
        self.unfrozen(graph, &found, &found.full_like(0.0))
    }

    /// The new values, but the old ones of what is frozen.
    pub(super) fn unfrozen(&self, graph: &Graph, new: &Tensor, old: &Tensor) -> Tensor {
        match self.spread(graph, |kind| f64::from(u8::from(kind.frozen))) {
            Spread::Same(_) => new.clone(),
            Spread::Each(frozen) => frozen.to(DType::Bool).select(old, new),
        }
    }
}

/// One number, or one for each of the parameters' numbers.
pub(super) enum Spread {
    Same(f64),
    Each(Tensor),
}

impl Spread {
    pub(super) fn times(&self, x: &Tensor) -> Tensor {
        match self {
            Spread::Same(1.0) => x.clone(),
            Spread::Same(factor) => x * *factor,
            Spread::Each(factor) => x * factor,
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Spread::Same(0.0))
    }
}
