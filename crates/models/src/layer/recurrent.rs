//! Recurrent layers: several of them, in one or both directions.

use crate::{Initializer, Module, Named, Parameter, Visitor};
use shadegrad_device::{Cell, DType};
use shadegrad_graph::{RecurrentOptions, RecurrentWeights, Tensor};
use std::marker::PhantomData;

/// A cell as a type, so that each kind of layer has a name.
pub trait RecurrentCell {
    /// The cell.
    const CELL: Cell;
}

macro_rules! cells {
    ($($(#[$doc:meta])* $layers:ident: $kind:ident is $cell:ident;)*) => {$(
        #[doc = concat!("The cell of [`", stringify!($layers), "`].")]
        pub struct $kind;

        impl RecurrentCell for $kind {
            const CELL: Cell = Cell::$cell;
        }

        $(#[$doc])*
        pub type $layers = Recurrent<$kind>;
    )*};
}

cells! {
    /// Elman's recurrent net, with tanh.
    Rnn: RnnCell is RnnTanh;
    /// Elman's recurrent net, with relu.
    RnnRelu: RnnReluCell is RnnRelu;
    /// Long short-term memory.
    Lstm: LstmCell is Lstm;
    /// Gated recurrent units.
    Gru: GruCell is Gru;
}

/// The parameters of one layer in one direction.
struct Direction {
    weight_ih: Parameter,
    weight_hh: Parameter,
    biases: Option<[Parameter; 2]>,
}

/// Layers of recurrent cells, each on the outputs of the one before; the parameters have PyTorch's names and shapes:
/// `weight_ih_l0 [gates hidden, in]`, `weight_hh_l0 [gates hidden, hidden]`, `bias_ih_l0`, `bias_hh_l0`, and so on, those of
/// the second direction with `_reverse`.
pub struct Recurrent<C> {
    cell: PhantomData<C>,
    input: usize,
    hidden: usize,
    layers: usize,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    dropout: f64,
    directions: Vec<Direction>,
}

/// What recurrent layers give.
#[derive(Clone, Debug)]
pub struct RecurrentResult {
    /// What the last layer gives at each step, `[time, batch, directions hidden]`, or batch first.
    pub output: Tensor,
    /// The states after the last step, `[layers directions, batch, hidden]`: `h`, and of an LSTM `c`.
    pub states: Vec<Tensor>,
}

impl<C: RecurrentCell> Recurrent<C> {
    /// One layer in one direction, with biases, initialised as in PyTorch: uniform, `bound = 1 / sqrt(hidden)`.
    pub fn new(input_size: usize, hidden_size: usize) -> Self {
        let layers = Recurrent {
            cell: PhantomData,
            input: input_size,
            hidden: hidden_size,
            layers: 1,
            bidirectional: false,
            bias: true,
            batch_first: false,
            dropout: 0.0,
            directions: vec![],
        };
        layers.built()
    }

    fn built(mut self) -> Self {
        let init = Initializer::default_for(self.hidden);
        let (ways, rows) = (self.ways(), C::CELL.gates() * self.hidden);
        self.directions = (0..self.layers * ways)
            .map(|number| {
                let width = if number < ways { self.input } else { ways * self.hidden };
                let bias = || Parameter::new(&[rows], init);
                Direction {
                    weight_ih: Parameter::new(&[rows, width], init),
                    weight_hh: Parameter::new(&[rows, self.hidden], init),
                    biases: self.bias.then(|| [bias(), bias()]),
                }
            })
            .collect();
        self
    }

    /// One or two directions.
    fn ways(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Several layers; without any, the sequence is the result, and there are no states.
    pub fn num_layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self.built()
    }

    /// In both directions, whose outputs lie side by side.
    pub fn bidirectional(mut self) -> Self {
        self.bidirectional = true;
        self.built()
    }

    /// Without biases.
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self.built()
    }

    /// Sequences are `[batch, time, in]`.
    pub fn batch_first(mut self) -> Self {
        self.batch_first = true;
        self
    }

    /// Dropout of the outputs of every layer but the last.
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Runs a sequence `[time, batch, in]` (or batch first), from states `[layers directions, batch, hidden]` (`h`, and of an
    /// LSTM `c`) or zeros, over lengths `[batch]`, `U32`, if not all steps count: steps past its length neither change
    /// what a sequence gives nor what its gradients are.
    #[track_caller]
    pub fn run(
        &self,
        x: &Tensor,
        states: Option<&[Tensor]>,
        lengths: Option<&Tensor>,
    ) -> RecurrentResult {
        let mask = match (lengths, self.time_and_batch(x)) {
            (Some(lengths), Some([time, batch])) => {
                if lengths.shape() != [batch] || lengths.dtype() != DType::U32 {
                    return self.refuse(x, &format!("take u32 lengths [{batch}]"));
                }
                let lengths = lengths.unsqueeze(0).expand(&[time, batch]);
                let counts = x.graph().iota(time).unsqueeze(1).less(&lengths);
                Some(if self.batch_first { counts.transpose(0, 1) } else { counts })
            }
            _ => None,
        };
        self.run_masked(x, states, mask.as_ref())
    }

    /// [`Recurrent::run`] where a mask says which steps count, truth values of the first two axes of `x`; others leave the
    /// states as they are and give zeros.
    #[track_caller]
    pub fn run_masked(
        &self,
        x: &Tensor,
        states: Option<&[Tensor]>,
        mask: Option<&Tensor>,
    ) -> RecurrentResult {
        let graph = x.graph();
        let Some([_, batch]) = self.time_and_batch(x) else {
            return self.refuse(x, "take sequences [time, batch, in], or batch first");
        };
        let expected = [self.directions.len(), batch, self.hidden];
        let given = states.unwrap_or_default();
        if states.is_some_and(|all| all.len() != C::CELL.states())
            || given.iter().any(|state| state.shape() != expected)
        {
            let reason = format!("take {} states {expected:?}", C::CELL.states());
            return self.refuse(x, &reason);
        }
        if mask.is_some_and(|mask| mask.shape() != x.shape()[..2] || mask.dtype() != DType::Bool) {
            let reason = format!("take a mask of truth values {:?}", &x.shape()[..2]);
            return self.refuse(x, &reason);
        }
        let (mut sequence, mut mask) = (x.clone(), mask.cloned());
        if self.batch_first {
            sequence = sequence.transpose(0, 1);
            mask = mask.map(|mask| mask.transpose(0, 1));
        }
        let mut last: Vec<Vec<Tensor>> = vec![vec![]; C::CELL.states()];
        for (layer, directions) in self.directions.chunks(self.ways()).enumerate() {
            let mut outputs = Vec::new();
            for (way, direction) in directions.iter().enumerate() {
                let number = layer * self.ways() + way;
                let own = |state: &Tensor| state.narrow(0, number, 1).squeeze(0);
                let options = RecurrentOptions {
                    states: states.map(|all| all.iter().map(own).collect()),
                    mask: mask.clone(),
                    reverse: way == 1,
                };
                let weights = RecurrentWeights {
                    input: direction.weight_ih.tensor(graph),
                    recurrent: direction.weight_hh.tensor(graph),
                    biases: direction
                        .biases
                        .as_ref()
                        .map(|b| [&b[0], &b[1]].map(|b| b.tensor(graph))),
                };
                let result = sequence.recurrent(C::CELL, &weights, &options);
                outputs.push(result.output);
                last.iter_mut().zip(result.states).for_each(|(all, state)| all.push(state));
            }
            sequence = match outputs.as_slice() {
                [one] => one.clone(),
                both => graph.concat(&both.iter().collect::<Vec<_>>(), 2),
            };
            if layer + 1 < self.layers {
                sequence = sequence.dropout(self.dropout);
            }
        }
        let output = if self.batch_first { sequence.transpose(0, 1) } else { sequence };
        let stacked = |all: &Vec<Tensor>| graph.stack(&all.iter().collect::<Vec<_>>(), 0);
        RecurrentResult { output, states: last.iter().map(stacked).collect() }
    }
}

impl<C: RecurrentCell> Recurrent<C> {
    #[track_caller]
    fn refuse(&self, x: &Tensor, reason: &str) -> RecurrentResult {
        let same = x.graph().refuse("recurrent layers", &[x], reason);
        RecurrentResult { output: same.clone(), states: vec![same; C::CELL.states()] }
    }

    fn time_and_batch(&self, x: &Tensor) -> Option<[usize; 2]> {
        match *x.shape() {
            [batch, time, _] if self.batch_first => Some([time, batch]),
            [time, batch, _] => Some([time, batch]),
            _ => None,
        }
    }
}

impl<C: RecurrentCell> Named for Recurrent<C> {
    fn visit(&self, visitor: &mut Visitor) {
        for (number, direction) in self.directions.iter().enumerate() {
            let (layer, way) = (number / self.ways(), number % self.ways());
            let suffix = if way == 1 { "_reverse" } else { "" };
            visitor.parameter(&format!("weight_ih_l{layer}{suffix}"), &direction.weight_ih);
            visitor.parameter(&format!("weight_hh_l{layer}{suffix}"), &direction.weight_hh);
            if let Some([input, recurrent]) = &direction.biases {
                visitor.parameter(&format!("bias_ih_l{layer}{suffix}"), input);
                visitor.parameter(&format!("bias_hh_l{layer}{suffix}"), recurrent);
            }
        }
    }
}

/// The outputs of all steps, from states of zeros.
impl<C: RecurrentCell> Module for Recurrent<C> {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.run(x, None, None).output
    }
}
