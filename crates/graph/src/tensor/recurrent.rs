//! Recurrent layers over whole sequences: one product for what the input gives to all gates of all steps, and
//! one kernel for the recurrence.

use super::Tensor;
use crate::case;
use crate::catalog::{Case, truth, wide};
use crate::ops::Recurrent;
use shadegrad_device::{Cell, DType, Sequence};

/// The weights of one layer in one direction, in PyTorch's shapes.
#[derive(Clone, Debug)]
pub struct RecurrentWeights {
    /// `[gates hidden, in]`
    pub input: Tensor,
    /// `[gates hidden, hidden]`
    pub recurrent: Tensor,
    /// `[gates hidden]` each, of the two above.
    pub biases: Option<[Tensor; 2]>,
}

/// What else a recurrent layer is given.
#[derive(Clone, Debug, Default)]
pub struct RecurrentOptions {
    /// The states before the first step, `[batch, hidden]`: `h`, and of an LSTM `c`; zeros if there are none.
    pub states: Option<Vec<Tensor>>,
    /// `[time, batch]`, true for steps that count. Others leave the states as they are and give zeros.
    pub mask: Option<Tensor>,
    /// From the last step to the first.
    pub reverse: bool,
}

/// What a recurrent layer gives.
#[derive(Clone, Debug)]
pub struct RecurrentOutput {
    /// The state `h` after each step, `[time, batch, hidden]`.
    pub output: Tensor,
    /// The states after the last step, `[batch, hidden]`: `h`, and of an LSTM `c`.
    pub states: Vec<Tensor>,
}

impl Tensor {
    /// A recurrent layer over a sequence `[time, batch, in]`, in one direction; gates are in PyTorch's order, and of a
    /// GRU the reset gate is applied behind the recurrent product, as there.
    #[track_caller]
    pub fn recurrent(
        &self,
        cell: Cell,
        weights: &RecurrentWeights,
        options: &RecurrentOptions,
    ) -> RecurrentOutput {
        match self.recurrence_of(cell, weights, options) {
            Ok(output) => output,
            Err(reason) => {
                let of = [&weights.input, &weights.recurrent];
                let same = self.refuse_with("recurrent", &of, reason);
                RecurrentOutput { output: same.clone(), states: vec![same; cell.states()] }
            }
        }
    }

    #[track_caller]
    fn recurrence_of(
        &self,
        cell: Cell,
        weights: &RecurrentWeights,
        options: &RecurrentOptions,
    ) -> Result<RecurrentOutput, String> {
        let graph = self.graph();
        let RecurrentWeights { input, recurrent, biases } = weights;
        let (&[time, batch, width], &[rows, hidden]) =
            (self.shape().as_slice(), recurrent.shape().as_slice())
        else {
            return Err(
                "takes a sequence [time, batch, in] and a weight [gates hidden, hidden]".into()
            );
        };
        let gates = cell.gates();
        let fits = rows == gates * hidden
            && hidden > 0
            && input.shape() == [rows, width]
            && biases.iter().flatten().all(|bias| bias.shape() == [rows]);
        if !fits {
            return Err(format!(
                "{gates} gates of {hidden} units take weights [{0}, {width}], [{0}, {hidden}] and biases [{0}]",
                gates * hidden
            ));
        }
        let states = match &options.states {
            None => vec![graph.zeros(&[batch, hidden]); cell.states()],
            Some(states) => states.clone(),
        };
        let whole = states.len() == cell.states()
            && states.iter().all(|state| state.shape() == [batch, hidden])
            && options
                .mask
                .as_ref()
                .is_none_or(|mask| mask.shape() == [time, batch] && mask.dtype() == DType::Bool);
        if !whole {
            return Err(format!(
                "takes {} states [{batch}, {hidden}] and a mask of truth values [{time}, {batch}]",
                cell.states()
            ));
        }
        let mut given = self.linear(input, biases.as_ref().map(|[bias, _]| bias));
        // Of a GRU's new gate the recurrent bias belongs inside, behind the reset gate.
        let outside = if cell == Cell::Gru { 2 * hidden } else { rows };
        if let Some([_, bias]) = biases {
            given = given + bias.narrow(0, 0, outside).pad(0, 0, rows - outside);
        }
        let given = given.reshape(&[time, batch, gates, hidden]);
        let weight = recurrent.reshape(&[gates, hidden, hidden]);
        let mut inputs = vec![given, weight];
        inputs.extend(states.iter().cloned());
        if cell == Cell::Gru {
            inputs.push(match biases {
                Some([_, bias]) => bias.narrow(0, outside, hidden),
                None => graph.zeros(&[hidden]),
            });
        }
        inputs.extend(options.mask.clone());
        let (reverse, masked) = (options.reverse, options.mask.is_some());
        let sequence = Sequence { cell, time, batch, hidden, reverse, masked };
        let kept = self.record(Recurrent(sequence), &inputs.iter().collect::<Vec<_>>());
        let channel = |number: usize| kept.narrow(2, number, 1).squeeze(2);
        let last = if reverse { 0 } else { time.saturating_sub(1) };
        let states = match time {
            0 => states,
            _ => (0..cell.states()).map(|s| channel(s).narrow(0, last, 1).squeeze(0)).collect(),
        };
        let output = match &options.mask {
            None => channel(0),
            Some(mask) => channel(0).masked_fill(&mask.not().unsqueeze(2), 0.0),
        };
        Ok(RecurrentOutput { output, states })
    }
}

pub(crate) fn cases() -> Vec<Case> {
    fn layer(cell: Cell, x: &[Tensor], mask: Option<&Tensor>, reverse: bool) -> Vec<Tensor> {
        let biases = Some([x[3].clone(), x[4].clone()]);
        let weights = RecurrentWeights { input: x[1].clone(), recurrent: &x[2] * 0.3, biases };
        let options = RecurrentOptions { mask: mask.cloned(), reverse, ..Default::default() };
        let result = x[0].recurrent(cell, &weights, &options);
        [vec![result.output], result.states].concat()
    }
    let of = |gates: usize| {
        let (time, batch, width, hidden) = (5, 3, 4, 6);
        let rows = gates * hidden;
        vec![
            wide(&[time, batch, width]),
            wide(&[rows, width]),
            wide(&[rows, hidden]),
            wide(&[rows]),
            wide(&[rows]),
            truth(&[time, batch]),
        ]
    };
    let case = |gates, case: Case| Case { inputs: of(gates), ..case };
    vec![
        case(1, case!("recurrent", [], |_, x| layer(Cell::RnnTanh, x, None, false))),
        case(1, case!("recurrent", [], |_, x| layer(Cell::RnnRelu, x, Some(&x[5]), true))),
        case(4, case!("recurrent", [], |_, x| layer(Cell::Lstm, x, None, true))),
        case(4, case!("recurrent", [], |_, x| layer(Cell::Lstm, x, Some(&x[5]), false))),
        case(3, case!("recurrent", [], |_, x| layer(Cell::Gru, x, None, false))),
        case(3, case!("recurrent", [], |_, x| layer(Cell::Gru, x, Some(&x[5]), true))),
    ]
}
