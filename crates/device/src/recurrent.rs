//! Recurrent cells over sequences: shapes, and what their kernels keep.
//!
//! One kernel goes through all steps; on adapters by one dispatch where a workgroup's memory holds the states of a
//! sequence and it isn't too long, else by a dispatch for each step. What the input gives to the gates is computed before it, for all steps
//! at once, and so are the gradients of weights after it; the kernel multiplies the state by the recurrent
//! weight, step by step.

/// A recurrent cell. Gates are in PyTorch's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// `h' = tanh(x + W h)` (Elman, Cognitive Science 14, 1990).
    RnnTanh,
    /// `h' = max(x + W h, 0)`.
    RnnRelu,
    /// Gates input, forget, cell, output: `c' = f c + i g`, `h' = o tanh(c')` (Hochreiter and Schmidhuber, Neural
    /// Computation 9, 1997; Gers et al., Neural Computation 12, 2000).
    Lstm,
    /// Gates reset, update, new: `n = tanh(x + r (W h + b))`, `h' = (1 - z) n + z h` (Cho et al., arXiv
    /// 1406.1078).
    Gru,
}

impl Cell {
    /// Gates, for each of which the recurrent weight has as many rows as units.
    pub fn gates(self) -> usize {
        match self {
            Cell::RnnTanh | Cell::RnnRelu => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// Numbers that are kept of each unit and step: the states first, then what the gradient needs.
    pub fn kept(self) -> usize {
        match self {
            Cell::RnnTanh | Cell::RnnRelu => 1,
            // h, c, i, f, g, o.
            Cell::Lstm => 6,
            // h, r, z, n, and what the recurrent weight and its bias give to n.
            Cell::Gru => 5,
        }
    }

    /// States that go from step to step: `h`, and of an LSTM `c`.
    pub fn states(self) -> usize {
        if self == Cell::Lstm { 2 } else { 1 }
    }

    /// Slopes that the gradient gives for each unit and step: by what the input gives to each gate, of a GRU by
    /// what the recurrent weight gives to the new gate, and by the states before the step.
    pub fn slopes(self) -> usize {
        self.gates() + usize::from(self == Cell::Gru) + self.states()
    }
}

/// A cell over sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// The cell.
    pub cell: Cell,
    /// Steps.
    pub time: usize,
    /// Sequences that don't see each other.
    pub batch: usize,
    /// Units.
    pub hidden: usize,
    /// From the last step to the first.
    pub reverse: bool,
    /// Whether some steps leave the state as it is.
    pub masked: bool,
}

/// Which of a sequence's two kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SequenceRole {
    /// What is kept, `[time, batch, kept, hidden]`, from what the input gives to the gates
    /// `[time, batch, gates, hidden]`, the recurrent weight `[gates, hidden, hidden]`, the states before
    /// `[batch, hidden]` each, of a GRU the new gate's recurrent bias `[hidden]`, and perhaps a mask
    /// `[time, batch]`, true for steps that count.
    Forward,
    /// The slopes, `[time, batch, slopes, hidden]`, from the loss's slopes by what was kept, what was kept, the
    /// recurrent weight, the states before, and perhaps the mask.
    Gradient,
}

impl Sequence {
    /// The shapes of what a role reads, in order.
    pub fn sources(&self, role: SequenceRole) -> Vec<Vec<usize>> {
        let Sequence { cell, time, batch, hidden, masked, .. } = *self;
        let over = |channels| vec![time, batch, channels, hidden];
        let weight = vec![cell.gates(), hidden, hidden];
        let mut shapes = match role {
            SequenceRole::Forward => vec![over(cell.gates()), weight],
            SequenceRole::Gradient => vec![over(cell.kept()), over(cell.kept()), weight],
        };
        shapes.extend(vec![vec![batch, hidden]; cell.states()]);
        if role == SequenceRole::Forward && cell == Cell::Gru {
            shapes.push(vec![hidden]);
        }
        if masked {
            shapes.push(vec![time, batch]);
        }
        shapes
    }

    /// The shape of what a role computes.
    pub fn result(&self, role: SequenceRole) -> Vec<usize> {
        let channels = match role {
            SequenceRole::Forward => self.cell.kept(),
            SequenceRole::Gradient => self.cell.slopes(),
        };
        vec![self.time, self.batch, channels, self.hidden]
    }

    /// The steps in the order in which the states go through them.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + use<> {
        let (time, reverse) = (self.time, self.reverse);
        (0..time).map(move |step| if reverse { time - 1 - step } else { step })
    }

    /// Multiplications and additions by the recurrent weight.
    pub fn flops(&self) -> u64 {
        2 * (self.time * self.batch * self.cell.gates() * self.hidden * self.hidden) as u64
    }

    /// Dispatches of a role where no workgroup goes through all steps: one for each step, and backwards one for
    /// what the states before the first step get.
    pub fn dispatches(&self, role: SequenceRole) -> usize {
        match role {
            SequenceRole::Forward => self.time,
            SequenceRole::Gradient => self.time + 1,
        }
    }

    /// Bytes of workgroup memory that a shader needs to go through all steps in one dispatch.
    ///
    /// Forward they hold states and what those give to the gates, backwards the slopes by either.
    pub fn workgroup_bytes(&self) -> usize {
        (self.cell.gates() + self.cell.states()) * self.hidden * 4
    }
}
