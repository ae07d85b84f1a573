//! What rules that look at whole parameters have in common: each parameter and its part of the state is taken out of the
//! flat tensors, updated, and laid back.

use super::{Slot, State, Update, Updated};
use crate::get_total_norm;
use shadegrad_graph::Tensor;

/// How many elements of `N` kinds of state a parameter has.
type Lengths<const N: usize> = fn(&Slot) -> [usize; N];

/// How many elements all parameters have of each kind of state.
fn totals<const N: usize>(slots: &[Slot], lengths: Lengths<N>) -> [usize; N] {
    std::array::from_fn(|kind| slots.iter().map(|slot| lengths(slot)[kind]).sum())
}

/// State that lies one parameter after the other, zero at first: the kinds that any of them has.
pub(super) fn states_by_parameter<const N: usize>(
    slots: &[Slot],
    names: [&'static str; N],
    lengths: Lengths<N>,
) -> Vec<State> {
    let kinds = names.into_iter().zip(totals(slots, lengths));
    kinds
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| State::list(name, count, 0.0))
        .collect()
}

/// Updates each parameter by itself. The rule is given a slot and its part of each kind of state,
/// and returns what these become and the parameter's new value, all flat. Frozen parameters keep
/// what they have.
pub(super) fn by_parameter<const N: usize>(
    u: &Update<'_>,
    lengths: Lengths<N>,
    mut rule: impl FnMut(&Slot, &[Tensor; N]) -> (Tensor, [Tensor; N]),
) -> Updated {
    let mut kept = u.state.iter();
    // A kind that no parameter has is nowhere kept: of any tensor nothing is taken.
    let used = totals(u.slots, lengths).map(|count| count > 0);
    let old: [&Tensor; N] = used.map(|used| match used {
        true => kept.next().unwrap_or(u.gradient),
        false => u.gradient,
    });
    let mut starts = [0; N];
    let mut new: [Vec<Tensor>; N] = std::array::from_fn(|_| Vec::new());
    let mut parameters = Vec::new();
    for slot in u.slots {
        let counts = lengths(slot);
        let own = std::array::from_fn(|kind| old[kind].narrow(0, starts[kind], counts[kind]));
        let (value, state) = match slot.frozen {
            true => (part(u.parameters, slot), own),
            false => rule(slot, &own),
        };
        parameters.push(value);
        for (kind, state) in state.into_iter().enumerate() {
            new[kind].push(state);
            starts[kind] += counts[kind];
        }
    }
    let state = new.iter().zip(used).filter(|(_, used)| *used).map(|(parts, _)| packed(u, parts));
    Updated { parameters: packed(u, &parameters), state: state.collect() }
}

/// Tensors laid one after the other.
fn packed(u: &Update<'_>, parts: &[Tensor]) -> Tensor {
    u.parameters.graph().pack(&parts.iter().collect::<Vec<_>>())
}

/// A parameter that decoupled weight decay has shrunk.
pub(super) fn shrunk(parameter: &Tensor, rate: &Tensor, weight_decay: f64) -> Tensor {
    match weight_decay {
        0.0 => parameter.clone(),
        decay => parameter * (rate.full_like(1.0) - rate * decay),
    }
}

/// The elements of a flat tensor that belong to a parameter, flat.
pub(super) fn part(flat: &Tensor, slot: &Slot) -> Tensor {
    flat.narrow(0, slot.offset, slot.count())
}

/// The Euclidean norm of a tensor.
pub(super) fn norm(x: &Tensor) -> Tensor {
    get_total_norm(x.graph(), std::slice::from_ref(x), 2.0)
}
