//! Losses of classes and probabilities.

use super::{Reduction, same_shape};
use shadegrad_device::DType;
use shadegrad_graph::Tensor;
use shadegrad_graph::case;
use shadegrad_graph::catalog::{Case, index, probable, wide};

/// How classes count in a cross-entropy.
#[derive(Clone, Debug, Default)]
pub struct CrossEntropyOptions {
    /// What each class counts, `[classes]`; one, if there is none.
    pub weight: Option<Tensor>,
    /// A target that doesn't count.
    pub ignore_index: Option<u32>,
    /// The share of every target that is spread over all classes, in `0..=1`.
    pub label_smoothing: f64,
}

/// `-log softmax(logits)[target]` for each row of `[batch, classes]`.
///
/// A target that is no class gives NaN, so that it can't pass unseen.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, target: &Tensor) -> Tensor {
    cross_entropy_with(logits, target, &CrossEntropyOptions::default(), Reduction::None)
}

/// The cross-entropy of logits `[batch, classes, ..]` (or `[classes]`) with class indices `[batch, ..]`, `U32`, or
/// with probabilities in the shape of the logits. The mean is weighted by the classes' weights.
#[track_caller]
pub fn cross_entropy_with(
    logits: &Tensor,
    target: &Tensor,
    options: &CrossEntropyOptions,
    reduction: Reduction,
) -> Tensor {
    let axis = logits.shape().len().min(2).saturating_sub(1);
    if logits.shape().is_empty() {
        return logits.graph().refuse("cross_entropy", &[logits, target], "takes classes");
    }
    let logs = logits.log_softmax(axis);
    if target.dtype() == DType::U32 {
        return of_classes("cross_entropy", &logs, target, options, reduction);
    }
    let classes = logits.shape()[axis];
    if options.ignore_index.is_some() {
        let reason = "probabilities have no class to ignore";
        return logits.graph().refuse("cross_entropy", &[logits, target], reason);
    }
    let fits = target.shape() == logits.shape() && target.dtype().loaded() == DType::F32;
    if !fits || !weights_fit(options, classes) {
        let reason = format!(
            "takes u32 classes, or probabilities in the shape of the logits, and weights [{classes}]"
        );
        return logits.graph().refuse("cross_entropy", &[logits, target], &reason);
    }
    if !(0.0..=1.0).contains(&options.label_smoothing) {
        return smoothing(logits, target, options);
    }
    let spread = options.label_smoothing / classes as f64;
    let smoothed = target * (1.0 - options.label_smoothing) + spread;
    let each = -(weighted(&logs, options, axis) * smoothed).sum(&[axis]);
    reduction.of(&each)
}

/// The same of logarithms of probabilities, as [`Tensor::log_softmax`] gives them, with class indices.
#[track_caller]
pub fn nll_loss(
    log_probs: &Tensor,
    target: &Tensor,
    options: &CrossEntropyOptions,
    reduction: Reduction,
) -> Tensor {
    of_classes("nll_loss", log_probs, target, options, reduction)
}

fn weights_fit(options: &CrossEntropyOptions, classes: usize) -> bool {
    options.weight.as_ref().is_none_or(|weight| weight.shape() == [classes])
}

#[track_caller]
fn smoothing(logits: &Tensor, target: &Tensor, options: &CrossEntropyOptions) -> Tensor {
    let reason = format!("label_smoothing is in 0..=1, not {}", options.label_smoothing);
    logits.graph().refuse("cross_entropy", &[logits, target], &reason)
}

/// The losses of targets that are classes; NaN for others, so that they can't pass unseen.
#[track_caller]
fn of_a_class(each: &Tensor, target: &Tensor, classes: usize) -> Tensor {
    target.less(&target.full_like(classes as f64)).select(each, &each.full_like(f64::NAN))
}

/// Logarithms times the weights of their classes.
#[track_caller]
fn weighted(logs: &Tensor, options: &CrossEntropyOptions, axis: usize) -> Tensor {
    match &options.weight {
        None => logs.clone(),
        Some(weight) => {
            let mut aligned = vec![1; logs.shape().len()];
            aligned[axis] = weight.ty().numel();
            logs * weight.reshape(&aligned)
        }
    }
}

#[track_caller]
fn of_classes(
    operation: &str,
    logs: &Tensor,
    target: &Tensor,
    options: &CrossEntropyOptions,
    reduction: Reduction,
) -> Tensor {
    let (graph, shape) = (logs.graph(), logs.shape());
    let axis = shape.len().min(2).saturating_sub(1);
    let classes = shape.get(axis).copied().unwrap_or(0);
    let mut rest = shape.clone();
    if !rest.is_empty() {
        rest.remove(axis);
    }
    let fits = !shape.is_empty() && target.shape() == rest && target.dtype() == DType::U32;
    if !fits || !weights_fit(options, classes) {
        let reason = format!(
            "takes [batch, classes, ..], u32 class indices [batch, ..] and weights [{classes}]"
        );
        let given = [logs, target].into_iter().chain(&options.weight);
        return graph.refuse(operation, &given.collect::<Vec<_>>(), &reason);
    }
    if !(0.0..=1.0).contains(&options.label_smoothing) {
        return smoothing(logs, target, options);
    }
    let hit = logs.along(axis).equal(&target.unsqueeze(axis));
    let zero = logs.zeros_like();
    let weights = weighted(&logs.ones_like(), options, axis);
    let weight = options.weight.as_ref().map(|_| hit.select(&weights, &zero).sum(&[axis]));
    let picked = -hit.select(logs, &zero).sum(&[axis]);
    let mut each = weight.as_ref().map_or_else(|| picked.clone(), |weight| &picked * weight);
    if options.label_smoothing > 0.0 {
        let spread = options.label_smoothing / classes as f64;
        let all = -weighted(logs, options, axis).sum(&[axis]);
        each = each * (1.0 - options.label_smoothing) + all * spread;
    }
    each = of_a_class(&each, target, classes);
    let mut counts = weight;
    if let Some(ignored) = options.ignore_index {
        let ignored = target.equal(&target.full_like(f64::from(ignored)));
        each = each.masked_fill(&ignored, 0.0);
        let weight = counts.unwrap_or_else(|| each.ones_like());
        counts = Some(weight.masked_fill(&ignored, 0.0));
    }
    match (reduction, counts) {
        (Reduction::Mean, Some(counts)) => each.sum_all() / counts.sum_all(),
        _ => reduction.of(&each),
    }
}

/// `-(y log p + (1 - y) log(1 - p))` of probabilities, in which a logarithm of zero counts as -100; NaN outside of
/// `0..=1`.
#[track_caller]
pub fn binary_cross_entropy(p: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    if !same_shape("binary_cross_entropy", &[p, target]) {
        return p.clone();
    }
    let log = |x: &Tensor| {
        let none = x.equal(&x.zeros_like());
        none.select(&x.full_like(-100.0), &none.select(&x.ones_like(), x).log())
    };
    let rest = -target + 1.0;
    reduction.of(&-(target * log(p) + rest * log(&(-p + 1.0))))
}

/// Binary cross-entropy of logits, without losing small probabilities; `pos_weight` is what a positive target counts,
/// broadcast.
#[track_caller]
pub fn binary_cross_entropy_with_logits(
    x: &Tensor,
    target: &Tensor,
    pos_weight: Option<&Tensor>,
    reduction: Reduction,
) -> Tensor {
    if !same_shape("binary_cross_entropy_with_logits", &[x, target]) {
        return x.clone();
    }
    let mut tail = (-x).softplus();
    if let Some(weight) = pos_weight {
        let (own, given) = (x.shape(), weight.shape());
        let fits = |(n, w): (&usize, &usize)| w == n || *w == 1;
        if given.len() > own.len() || !own.iter().rev().zip(given.iter().rev()).all(fits) {
            let reason = "takes a pos_weight that broadcasts to the shape of the logits";
            let operation = "binary_cross_entropy_with_logits";
            return x.graph().refuse(operation, &[x, target, weight], reason);
        }
        tail = tail * ((weight - weight.ones_like()) * target + 1.0);
    }
    reduction.of(&((-target + 1.0) * x + tail))
}

/// The divergence of Kullback and Leibler of probabilities from logarithms of probabilities: `y (log y - x)`, zero
/// where `y` is. The mean is over all elements.
#[track_caller]
pub fn kl_div(log_p: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    if !same_shape("kl_div", &[log_p, target]) {
        return log_p.clone();
    }
    let none = target.equal(&target.zeros_like());
    let entropy = target * none.select(&target.ones_like(), target).log();
    reduction.of(&(entropy - target * log_p.masked_fill(&none, 0.0)))
}

/// For each row of `[batch, classes]` the mean over classes of how much less than a margin of one the score of the
/// target (`[batch]`, `U32`) is above that of another class. A target that is no class gives NaN.
#[track_caller]
pub fn multi_margin_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    let shape = x.shape();
    let (&[batch, classes], &DType::U32) = (shape.as_slice(), &target.dtype()) else {
        return x.graph().refuse(
            "multi_margin_loss",
            &[x, target],
            "takes scores [batch, classes]",
        );
    };
    if target.shape() != [batch] {
        return x.graph().refuse("multi_margin_loss", &[x, target], "takes a class for each row");
    }
    let hit = x.along(1).equal(&target.unsqueeze(1));
    let own = hit.select(x, &x.zeros_like()).sum(&[1]).unsqueeze(1);
    let short = (x - own + 1.0).relu().masked_fill(&hit, 0.0);
    let each = short.sum(&[1]) * (1.0 / classes as f64);
    reduction.of(&of_a_class(&each, target, classes))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("cross_entropy", [wide(&[65, 5]), index(&[65], 5)], |_, x| cross_entropy(
            &x[0], &x[1]
        )),
        case!(
            "cross_entropy_with",
            [wide(&[3, 5, 4]), index(&[3, 4], 5), probable(&[5]), probable(&[3, 5, 4])],
            |_, x| {
                let options = CrossEntropyOptions {
                    weight: Some(x[2].clone()),
                    ignore_index: Some(2),
                    label_smoothing: 0.1,
                };
                let soft = CrossEntropyOptions { ignore_index: None, ..options.clone() };
                vec![
                    cross_entropy_with(&x[0], &x[1], &options, Reduction::Mean),
                    cross_entropy_with(&x[0], &x[1], &options, Reduction::None),
                    cross_entropy_with(&x[0], &x[3], &soft, Reduction::Sum),
                ]
            }
        ),
        case!("nll_loss", [wide(&[3, 5]), index(&[3], 5)], |_, x| {
            let options = CrossEntropyOptions { ignore_index: Some(0), ..Default::default() };
            nll_loss(&x[0].log_softmax(1), &x[1], &options, Reduction::Mean)
        }),
        case!("binary_cross_entropy", [probable(&[65]), probable(&[65])], |_, x| {
            binary_cross_entropy(&x[0], &x[1], Reduction::Mean)
        }),
        case!(
            "binary_cross_entropy_with_logits",
            [wide(&[13, 5]), probable(&[13, 5]), probable(&[5])],
            |_, x| {
                let x0 = &x[0] * 10.0;
                vec![
                    binary_cross_entropy_with_logits(&x0, &x[1], None, Reduction::Mean),
                    binary_cross_entropy_with_logits(&x0, &x[1], Some(&x[2]), Reduction::Sum),
                ]
            }
        ),
        case!("kl_div", [wide(&[3, 5]), probable(&[3, 5])], |_, x| {
            kl_div(&x[0].log_softmax(1), &x[1], Reduction::Sum)
        }),
        case!("multi_margin_loss", [wide(&[3, 5]), index(&[3], 5)], |_, x| {
            multi_margin_loss(&x[0], &x[1], Reduction::Mean)
        }),
    ]
}
