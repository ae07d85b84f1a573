//! Connectionist temporal classification: the probability of a label sequence, summed over all ways to
//! stretch it over time (Graves et al., ICML 2006).

use super::Reduction;
use shadegrad_device::{DType, Recurrence};
use shadegrad_graph::Tensor;
use shadegrad_graph::case;
use shadegrad_graph::catalog::{Case, index, wide};

/// `-log p(targets)` of logarithms of probabilities `[time, batch, classes]`, label sequences `[batch, labels]`, `U32`, and
/// the lengths of both, `[batch]`, `U32`. The mean is of losses over label lengths, as in PyTorch; a sequence that can't
/// be produced gives infinity.
///
/// All time steps are one recurrence in logarithms, over the labels with blanks between them.
#[track_caller]
pub fn ctc_loss(
    log_probs: &Tensor,
    targets: &Tensor,
    input_lengths: &Tensor,
    target_lengths: &Tensor,
    blank: usize,
    reduction: Reduction,
) -> Tensor {
    let graph = log_probs.graph();
    let given = [log_probs, targets, input_lengths, target_lengths];
    let (shape, labels) = (log_probs.shape(), targets.shape());
    let (&[time, batch, classes], &[rows, most]) = (shape.as_slice(), labels.as_slice()) else {
        let reason = "takes [time, batch, classes] and labels [batch, labels]";
        return graph.refuse("ctc_loss", &given, reason);
    };
    let whole = given[1..].iter().all(|t| t.dtype() == DType::U32)
        && given[2..].iter().all(|t| t.shape() == [batch]);
    if rows != batch || most == 0 || time == 0 || blank >= classes || !whole {
        let reason = format!(
            "takes u32 labels and lengths for each of {batch} sequences, and a blank below {classes}"
        );
        return graph.refuse("ctc_loss", &given, &reason);
    }
    // The labels with a blank before, between and after: [batch, states].
    let states = 2 * most + 1;
    let state = graph.iota(states);
    let odd = state.remainder(&state.full_like(2.0)).to(DType::Bool);
    let place = (&state / state.full_like(2.0)).minimum(&state.full_like((most - 1) as f64));
    let label = targets.index_select(1, &place);
    let label = odd.select(&label, &label.full_like(blank as f64));
    // What each state says at each time: [batch, time, states].
    let over = [batch, time, states];
    let said = log_probs.permute(&[1, 0, 2]).gather(2, &label.unsqueeze(1).expand(&over));
    let never = said.full_like(f64::NEG_INFINITY);
    // From one label to the next without a blank, if they differ.
    let before = label.narrow(1, 0, states - 2).pad(1, 2, 0);
    let skips = odd.and(&label.not_equal(&before)).unsqueeze(1);
    let skipped = skips.select(&said, &never);
    let begins = said.along(1).equal(&said.along(1).zeros_like());
    let begins = begins.and(&said.along(2).less(&said.along(2).full_like(2.0)));
    let start = begins.select(&said, &never);
    let recurrence =
        Recurrence { shape: over.to_vec(), axis: 1, offsets: vec![0, 1, 2], log: true };
    let paths = start.recurrence(recurrence, &[&said, &said, &skipped]);
    // At the end of the input, the last label and the blank after it: [batch, 2].
    let last = (input_lengths - 1.0).reshape(&[batch, 1, 1]).expand(&[batch, 1, states]);
    let ends = paths.gather(1, &last).squeeze(1);
    let final_blank = (target_lengths * 2.0).unsqueeze(1);
    let none = target_lengths.equal(&target_lengths.zeros_like()).unsqueeze(1);
    let final_label = none.select(&final_blank, &(&final_blank - 1.0));
    let ends = ends.gather(1, &graph.concat(&[&final_blank, &final_label], 1));
    // Without labels there is only the blank.
    let second = ends.along(1).equal(&ends.along(1).ones_like());
    let ends = ends.masked_fill(&second.and(&none), f64::NEG_INFINITY);
    let each = -ends.logsumexp(&[1]);
    match reduction {
        Reduction::Mean => {
            let lengths = target_lengths.maximum(&target_lengths.ones_like()).to(DType::F32);
            (each / lengths).mean_all()
        }
        _ => reduction.of(&each),
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![case!("ctc_loss", [wide(&[9, 3, 5]), index(&[3, 3], 4)], |g, x| {
        let labels = &x[1] + 1.0;
        let (inputs, targets) = (g.indices(&[3], &[9, 7, 8]), g.indices(&[3], &[3, 2, 0]));
        let log_probs = x[0].log_softmax(2);
        vec![
            ctc_loss(&log_probs, &labels, &inputs, &targets, 0, Reduction::Mean),
            ctc_loss(&log_probs, &labels, &inputs, &targets, 0, Reduction::None),
        ]
    })]
}
