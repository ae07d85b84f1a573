//! Metrics of scores of classes.

use super::{Metric, mean_of};
use crate::cross_entropy;
use shadegrad_device::DType;
use shadegrad_graph::Tensor;

/// The share of targets whose class has the highest score, the first of equals.
#[derive(Clone, Copy, Debug)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn name(&self) -> String {
        "accuracy".to_string()
    }

    #[track_caller]
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
        mean_of(&output.argmax(1).equal(target).to(DType::F32), weight)
    }
}

/// The share of targets whose class is among the `k` of the highest scores; of equal scores the first count.
#[derive(Clone, Copy, Debug)]
pub struct TopK(pub usize);

impl Metric for TopK {
    fn name(&self) -> String {
        format!("top_{}_accuracy", self.0)
    }

    #[track_caller]
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
        let class = output.along(1);
        let target = target.unsqueeze(1);
        let own = class.equal(&target).select(output, &output.zeros_like()).sum(&[1]).unsqueeze(1);
        let before = class.less(&target).select(
            &output.greater_equal(&own).to(DType::F32),
            &output.greater(&own).to(DType::F32),
        );
        let rank = before.sum(&[1]);
        // A score that is no number is among none.
        let among = rank.less(&rank.full_like(self.0 as f64)).and(&own.squeeze(1).is_nan().not());
        mean_of(&among.to(DType::F32), weight)
    }
}

/// `exp` of the mean cross-entropy: of how many equally likely classes the model hesitates between.
#[derive(Clone, Copy, Debug)]
pub struct Perplexity;

impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".to_string()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    #[track_caller]
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
        mean_of(&cross_entropy(output, target), weight)
    }

    fn value(&self, sums: &[f64]) -> f64 {
        (sums[0] / sums[1]).exp()
    }
}

/// How a score of each class becomes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Average {
    /// The mean over classes that are among the targets or predictions.
    #[default]
    Macro,
    /// Of all classes' counts together.
    Micro,
    /// The mean over classes, each as often as it is among the targets.
    Weighted,
    /// Of one class alone, such as 1 of a yes and a no.
    Class(usize),
}

macro_rules! counted {
    ($(#[$about:meta])* $metric:ident, $name:literal, $of:expr) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug)]
        pub struct $metric {
            classes: usize,
            average: Average,
        }

        impl $metric {
            /// Of so many classes, as the mean over them.
            pub fn new(classes: usize) -> $metric {
                $metric { classes, average: Average::default() }
            }

            /// How the classes' scores become one.
            pub fn average(mut self, average: Average) -> $metric {
                self.average = average;
                self
            }
        }

        impl Metric for $metric {
            fn name(&self) -> String {
                $name.to_string()
            }

            fn sizes(&self) -> Vec<usize> {
                vec![self.classes; 3]
            }

            #[track_caller]
            fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
                counts($name, self.classes, self.average, output, target, weight)
            }

            fn value(&self, sums: &[f64]) -> f64 {
                average(self.average, self.classes, sums, $of)
            }
        }
    };
}

counted!(
    /// Of what is said to be of a class, the share that is; zero for a class that nothing is said to be of.
    Precision, "precision", |[hit, said, _]| ratio(hit, said)
);

counted!(
    /// Of what is of a class, the share that is said to be.
    Recall, "recall", |[hit, _, is]| ratio(hit, is)
);

counted!(
    /// The harmonic mean of precision and recall.
    F1Score, "f1_score", |[hit, said, is]| ratio(2.0 * hit, said + is)
);

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// For each class how many targets are rightly said to be of it, are said to be of it, and are of it.
#[track_caller]
fn counts(
    metric: &str,
    classes: usize,
    average: Average,
    output: &Tensor,
    target: &Tensor,
    weight: &Tensor,
) -> Vec<Tensor> {
    let known = matches!(average, Average::Class(class) if class >= classes);
    if output.shape().get(1) != Some(&classes) || known {
        let reason = format!("is of {classes} classes, {average:?}");
        let refused = output.graph().refuse(metric, &[output, target], &reason);
        return vec![refused.expand(&[classes]); 3];
    }
    let count = target.ty().numel();
    let one_hot = |class: &Tensor| class.reshape(&[count]).one_hot(classes).to(DType::F32);
    let (said, is) = (one_hot(&output.argmax(1)), one_hot(target));
    let weight = weight.reshape(&[count, 1]);
    [&said * &is, said, is].iter().map(|each| (each * &weight).sum(&[0])).collect()
}

fn average(average: Average, classes: usize, sums: &[f64], of: fn([f64; 3]) -> f64) -> f64 {
    let counts = |class: usize| [0, 1, 2].map(|sum| sums[sum * classes + class]);
    let total = |sum: usize| sums[sum * classes..][..classes].iter().sum::<f64>();
    match average {
        Average::Class(class) if class < classes => of(counts(class)),
        Average::Class(_) => f64::NAN,
        Average::Micro => of([0, 1, 2].map(total)),
        Average::Weighted => {
            (0..classes).map(|class| of(counts(class)) * counts(class)[2]).sum::<f64>() / total(2)
        }
        Average::Macro => {
            let seen = |class: &usize| counts(*class)[1] + counts(*class)[2] > 0.0;
            let seen: Vec<usize> = (0..classes).filter(seen).collect();
            seen.iter().map(|&class| of(counts(class))).sum::<f64>() / seen.len() as f64
        }
    }
}

/// The area under the receiver operating characteristic of two classes: how often a sample of class 1 has the
/// higher probability of the two, if one of each class is drawn. Probabilities are counted in bins; those of one bin are
/// ties, which count half.
#[derive(Clone, Copy, Debug)]
pub struct Auroc {
    bins: usize,
}

impl Auroc {
    /// In 1000 bins: at most 0.001 from the exact area where probabilities are spread evenly.
    pub fn new() -> Auroc {
        Auroc { bins: 1000 }
    }

    /// In so many bins.
    pub fn bins(mut self, bins: usize) -> Auroc {
        self.bins = bins.max(1);
        self
    }
}

impl Default for Auroc {
    fn default() -> Auroc {
        Auroc::new()
    }
}

impl Metric for Auroc {
    fn name(&self) -> String {
        "auroc".to_string()
    }

    fn sizes(&self) -> Vec<usize> {
        vec![self.bins; 2]
    }

    #[track_caller]
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
        let count = target.ty().numel();
        if output.shape() != [count, 2] {
            let refused =
                output.graph().refuse("auroc", &[output, target], "takes scores [batch, 2]");
            return vec![refused.expand(&[self.bins]); 2];
        }
        let probability = (output.narrow(1, 1, 1) - output.narrow(1, 0, 1)).sigmoid();
        let last = probability.full_like(self.bins as f64 - 1.0);
        let bin = (probability * self.bins as f64)
            .floor()
            .minimum(&last)
            .to(DType::U32)
            .reshape(&[count]);
        let empty = output.graph().full(&[self.bins], DType::F32, 0.0);
        let of = |class: f64| {
            let own = target.equal(&target.full_like(class)).to(DType::F32) * weight;
            empty.scatter_add(0, &bin, &own)
        };
        vec![of(0.0), of(1.0)]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        let (no, yes) = sums.split_at(self.bins);
        let (mut below, mut won) = (0.0, 0.0);
        for (no, yes) in no.iter().zip(yes) {
            won += yes * (below + no / 2.0);
            below += no;
        }
        won / (below * yes.iter().sum::<f64>())
    }
}
