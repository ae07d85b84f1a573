//! Random compositions: a pool of float tensors from which every step takes some and to which it adds its
//! result. What is drawn depends on a key and a counter alone, so one number names one graph.

use crate::steps::STEPS;
use shadegrad::device::random;
use shadegrad::graph::{GraphError, broadcast};
use shadegrad::prelude::*;

/// How large a graph is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// The fewest and the most steps.
    pub(crate) steps: (usize, usize),
    /// Most elements of any result of a step.
    pub(crate) elements: usize,
}

/// Most variables of a graph.
const INPUTS: usize = 6;

/// Numbers that follow from a key.
pub(crate) struct Dice {
    key: u32,
    counter: u32,
}

impl Dice {
    pub(crate) fn new(key: u32) -> Dice {
        Dice { key: random(0x6EA9, key), counter: 0 }
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.counter += 1;
        random(self.key, self.counter)
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u64::from(self.word()) * count as u64) >> 32) as usize
    }

    /// True in this many of a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub(crate) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }
}

/// A graph while it is drawn.
pub(crate) struct Composer {
    pub(crate) graph: Graph,
    pub(crate) dice: Dice,
    size: Size,
    /// Float tensors that steps may use.
    pool: Vec<Tensor>,
    /// Variables by which the graph is differentiated, each with the whole of it.
    inputs: Vec<(Variable, Tensor)>,
    /// What each step did, for people.
    words: Vec<String>,
}

/// A drawn graph.
pub(crate) struct Composition {
    pub(crate) graph: Graph,
    /// Results, the weighted sum of them (or of its gradients) that is differentiated, and its gradients.
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) loss: Tensor,
    pub(crate) gradients: Vec<(Variable, Tensor)>,
    /// What variables become at the end of the step.
    pub(crate) assigned: Vec<(Variable, Tensor)>,
    pub(crate) words: Vec<String>,
}

/// Draws the graph of a number, with the gradients of its results.
pub(crate) fn compose(number: u32, size: Size) -> Composition {
    let drawn = draw(number, size, false);
    match drawn.graph.error() {
        // Every path of a variable leads through something flat: it gets a path of its own.
        Some(GraphError::Unused { .. }) => draw(number, size, true),
        _ => drawn,
    }
}

fn draw(number: u32, size: Size, direct: bool) -> Composition {
    let (seed, step) = (Variable::word("seed", number), Variable::word("step", 3));
    let mut composer = Composer {
        graph: Graph::training(&seed, &step),
        dice: Dice::new(number),
        size,
        pool: vec![],
        inputs: vec![],
        words: vec![],
    };
    let shape = composer.shape();
    let first = composer.variable(&shape);
    composer.pool.push(first);
    let count = size.steps.0 + composer.dice.below(size.steps.1 - size.steps.0 + 1);
    for _ in 0..count {
        composer.step();
    }
    composer.finish(direct)
}

impl Composer {
    /// Adds one result to the pool: of a step that takes what there is.
    fn step(&mut self) {
        for _ in 0..50 {
            let (name, step) = self.dice.pick(STEPS);
            let Some(y) = step(self).filter(|y| y.ty().numel() <= self.size.elements) else {
                continue;
            };
            let rank = y.shape().len();
            if rank <= 6 {
                self.words.push(format!("%{} {} = {name}", y.value().0, y.ty()));
                self.pool.push(y);
                return;
            }
        }
    }

    /// One to three results, and the gradients of a weighted sum of them.
    fn finish(mut self, direct: bool) -> Composition {
        let mut outputs = vec![self.pool[self.pool.len() - 1].clone()];
        for _ in 0..self.dice.below(3) {
            let more = self.dice.pick(&self.pool);
            if outputs.iter().all(|y| y.value() != more.value()) {
                outputs.push(more);
            }
        }
        // The sum of an empty tensor is zero, and depends on nothing.
        let full: Vec<(Variable, Tensor)> =
            self.inputs.iter().filter(|(_, x)| x.ty().numel() > 0).cloned().collect();
        let own: Vec<Tensor> = full.iter().filter(|_| direct).map(|(_, x)| x.clone()).collect();
        let mut loss = self.weighted(&[outputs.clone(), own.clone()].concat());
        let wanted: Vec<(Variable, Tensor)> =
            full.into_iter().filter(|(_, x)| self.graph.depends(&loss, x)).collect();
        let parameters: Vec<&Tensor> = wanted.iter().map(|(_, x)| x).collect();
        let mut flows = self.graph.gradients(&loss, &parameters);
        if self.dice.chance(15) && self.graph.error().is_none() {
            // Of second order: what is differentiated is a sum of gradients.
            loss = self.weighted(&[flows, own].concat());
            flows = self.graph.gradients(&loss, &parameters);
        }
        let gradients = wanted.iter().zip(flows).map(|((v, _), flow)| (v.clone(), flow)).collect();
        let mut drawn = Composition {
            graph: self.graph.clone(),
            outputs,
            loss,
            gradients,
            assigned: vec![],
            words: vec![],
        };
        if self.dice.chance(40) {
            self.assign(&mut drawn);
        }
        drawn.words = self.words;
        drawn
    }

    /// The sum of all elements, each times a random weight.
    fn weighted(&mut self, tensors: &[Tensor]) -> Tensor {
        let mut sum = self.graph.zeros(&[]);
        for y in tensors {
            let weight = self.data(&y.shape(), 0.5, 1.5);
            sum = sum + (y * weight).sum_all();
        }
        sum
    }

    /// Gives some variables new contents: steps of descent, each other's contents, their own in another order,
    /// or whatever has as many elements.
    fn assign(&mut self, drawn: &mut Composition) {
        for (variable, x) in self.inputs.clone() {
            let ty = x.ty();
            if ty != *variable.ty() || self.dice.chance(40) {
                continue;
            }
            let flow = drawn.gradients.iter().find(|(v, _)| v.id() == variable.id());
            let pool: Vec<Tensor> =
                self.inputs.iter().map(|(_, x)| x.clone()).chain(self.pool.clone()).collect();
            let fitting: Vec<Tensor> =
                pool.into_iter().filter(|t| t.ty().numel() == ty.numel()).collect();
            let value = match (self.dice.below(4), flow) {
                (0, Some((_, flow))) => &x - flow * 0.1,
                (1, _) => {
                    let axis = self.axis(&x, 2);
                    axis.map_or_else(|| x.clone(), |axis| x.flip(axis)) * 0.5 + &x
                }
                _ => self.dice.pick(&fitting).reshape(&ty.shape),
            };
            let value = value.to(ty.dtype);
            self.words.push(format!("{} := %{}", variable.name(), value.value().0));
            self.graph.assign(&variable, &value);
            drawn.assigned.push((variable, value));
        }
    }

    /// A tensor of the pool, the newest half of the time.
    pub(crate) fn any(&mut self) -> Tensor {
        match self.dice.chance(50) {
            true => self.pool[self.pool.len() - 1].clone(),
            false => self.dice.pick(&self.pool),
        }
    }

    /// An extent, mostly a small one; in graphs of many elements often one that blocks and workgroups don't divide.
    pub(crate) fn extent(&mut self) -> usize {
        if self.size.elements > 1000 && self.dice.chance(40) {
            return self.dice.pick(&[64, 129, 257, 1000]);
        }
        match self.dice.below(30) {
            0 => 0,
            1 => 17,
            2 => 33,
            3 => 65,
            _ => self.dice.pick(&[1, 2, 3, 5, 7]),
        }
    }

    /// A shape of rank 0 to 6.
    pub(crate) fn shape(&mut self) -> Vec<usize> {
        let rank = self.dice.pick(&[0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6]);
        let mut shape = Vec::new();
        for _ in 0..rank {
            let extent = self.extent();
            let fits = shape.iter().product::<usize>() * extent <= self.size.elements;
            shape.push(if fits { extent } else { 1 });
        }
        shape
    }

    /// A variable that the graph isn't differentiated by, uniform between two numbers.
    pub(crate) fn data(&mut self, shape: &[usize], low: f64, high: f64) -> Tensor {
        let init = Init::Uniform { low, high, seed: u64::from(self.dice.word()) };
        self.graph.variable(&Variable::new("data", shape, DType::F32, init))
    }

    /// Indices below a bound, some of them computed.
    pub(crate) fn index(&mut self, shape: &[usize], below: usize) -> Tensor {
        let count: usize = shape.iter().product();
        if self.dice.chance(25) {
            let factor = self.dice.pick(&[1.0, 3.0, 7.0]);
            let place = self.graph.iota(count) * factor + self.dice.below(9) as f64;
            return place.remainder(&place.full_like(below as f64)).reshape(shape);
        }
        let words: Vec<u32> = (0..count).map(|_| self.dice.below(below) as u32).collect();
        self.graph.indices(shape, &words)
    }

    /// A variable by which the graph is differentiated. Some hold halves, some are part of a larger one, some hold
    /// only a few different numbers, so that there are ties and zeros.
    pub(crate) fn variable(&mut self, shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let coarse = self.dice.chance(15);
        let (dtype, offset) = match self.dice.below(10) {
            0 => (DType::F16, 0),
            1 => (DType::F32, 1 + self.dice.below(5)),
            _ => (DType::F32, 0),
        };
        let mut bytes = Vec::new();
        for _ in 0..count + offset {
            let uniform = f64::from(self.dice.word()) / 4_294_967_296.0;
            let drawn = uniform * 4.0 - 2.0;
            dtype.encode(if coarse { drawn.round() * 0.5 } else { drawn }, &mut bytes);
        }
        let name = format!("x{}", self.inputs.len());
        let whole = if offset > 0 { vec![count + offset] } else { shape.to_vec() };
        let variable = Variable::from_bytes(&name, &whole, dtype, bytes);
        let x = self.graph.variable_part(&variable, offset, shape);
        self.words.push(format!("%{} {} = {name} from {offset}", x.value().0, x.ty()));
        self.inputs.push((variable, x.clone()));
        x
    }

    /// A tensor of a shape: one of the pool in this shape, or a new variable.
    pub(crate) fn of_shape(&mut self, shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let fitting: Vec<Tensor> =
            self.pool.iter().filter(|t| t.ty().numel() == count).cloned().collect();
        if !fitting.is_empty() && (self.inputs.len() >= INPUTS || self.dice.chance(60)) {
            return self.dice.pick(&fitting).reshape(shape);
        }
        if self.inputs.len() < INPUTS {
            return self.variable(shape);
        }
        self.data(shape, -2.0, 2.0)
    }

    /// A tensor that broadcasts with another one, to something that isn't too large.
    pub(crate) fn partner(&mut self, x: &Tensor) -> Tensor {
        let (own, most) = (x.shape(), self.size.elements);
        let fits = |t: &&Tensor| {
            broadcast(&own, &t.shape()).is_ok_and(|s| s.iter().product::<usize>() <= most)
        };
        let fitting: Vec<Tensor> = self.pool.iter().filter(fits).cloned().collect();
        if self.dice.chance(50) {
            return self.dice.pick(&fitting);
        }
        let mut shape = own[self.dice.below(own.len() + 1)..].to_vec();
        for extent in &mut shape {
            *extent = if self.dice.chance(30) { 1 } else { *extent };
        }
        self.of_shape(&shape)
    }

    /// The same elements in a rank, axes joined or cut where that is needed.
    pub(crate) fn in_rank(&mut self, x: &Tensor, rank: usize) -> Tensor {
        let mut shape = x.shape();
        while shape.len() > rank.max(1) {
            let at = self.dice.below(shape.len() - 1);
            let joined = shape[at] * shape[at + 1];
            shape.splice(at..at + 2, [joined]);
        }
        while shape.len() < rank {
            let at = self.dice.below(shape.len() + 1);
            let divisor = [2, 3, 5, 7]
                .into_iter()
                .find(|d| shape.get(at).is_some_and(|n| n > d && n.is_multiple_of(*d)));
            match divisor {
                Some(d) => {
                    shape[at] /= d;
                    shape.insert(at, d);
                }
                None => shape.insert(at, 1),
            }
        }
        x.reshape(&shape)
    }

    /// An axis of at least `least` elements.
    pub(crate) fn axis(&mut self, x: &Tensor, least: usize) -> Option<usize> {
        let shape = x.shape();
        let fitting: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] >= least).collect();
        (!fitting.is_empty()).then(|| self.dice.pick(&fitting))
    }

    /// Some axes in any order, at least one, none of which is empty.
    pub(crate) fn axes(&mut self, x: &Tensor) -> Option<Vec<usize>> {
        let shape = x.shape();
        let order = self.dice.order(shape.len());
        let full: Vec<usize> = order.into_iter().filter(|&axis| shape[axis] > 0).collect();
        let count = 1 + self.dice.below(full.len().max(1));
        (!full.is_empty()).then(|| full[..count].to_vec())
    }

    /// Into `-1..1`.
    pub(crate) fn squashed(&mut self, x: &Tensor) -> Tensor {
        match self.dice.below(3) {
            0 => x.tanh(),
            1 => x.softsign(),
            _ => x.sin(),
        }
    }

    /// Into `0.5..1.5`.
    pub(crate) fn positive(&mut self, x: &Tensor) -> Tensor {
        match self.dice.below(2) {
            0 => self.squashed(x).abs() + 0.5,
            _ => x.sigmoid() + 0.5,
        }
    }
}
