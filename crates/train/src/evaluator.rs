//! Evaluation: what a model does on a data set, as a program for each of its parts.

use crate::scores::with_sums;
use crate::stream::{Loader, sequential};
use crate::trainer::added;
use crate::{Dataset, Order, Samples, Scores, Statistics, Streamed, TrainError};
use shadegrad_device::{DType, Pending};
use shadegrad_graph::{Graph, Init, Loaded, Session, Tensor, Variable};
use shadegrad_models::{ConfusionMatrix, Loss, Metric, Module};
use std::collections::{BTreeMap, VecDeque};

/// Most samples of an evaluation step.
const BATCH: usize = 128;

/// Batches that are queued before the host looks at the first.
const AHEAD: usize = 8;

/// What a model does on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Loss and metrics.
    pub scores: Scores,
    /// The predicted class of every target, in the order of the data set; none where the loss isn't one of classes.
    pub predictions: Vec<u32>,
    /// What each metric added up over all data, by its name.
    pub sums: BTreeMap<String, Vec<f64>>,
}

impl Evaluation {
    /// How often each class was said to be which, `[target, predicted]` in row-major order, if [`ConfusionMatrix`] is
    /// among the trainer's metrics.
    pub fn confusion_matrix(&self) -> Option<Vec<u64>> {
        let counts = self.sums.get(ConfusionMatrix::NAME)?;
        Some(counts.iter().map(|&count| count as u64).collect())
    }
}

/// A data set on the device, and the programs that evaluate a model on it.
pub struct Evaluator {
    parts: Vec<Evaluated>,
    samples: usize,
}

struct Evaluated {
    program: Loaded,
    /// Samples that have been visited, on the device.
    cursor: Variable,
    /// Where streamed samples are looked at.
    window: Option<Streamed>,
    /// Of the last batch: the summed losses, how many they are, and the metrics' sums.
    sums: Variable,
    /// The predicted classes of the last batch.
    predicted: Option<Variable>,
    batch: usize,
    numbers: Vec<usize>,
}

/// What evaluating needs of a trainer.
pub(crate) struct Measure<'a> {
    pub(crate) model: &'a dyn Module,
    pub(crate) loss: &'a dyn Loss,
    pub(crate) metrics: &'a [Box<dyn Metric>],
}

impl Evaluator {
    #[track_caller]
    pub(crate) fn new(
        session: &mut Session,
        measure: &Measure<'_>,
        data: &dyn Dataset,
        statistics: Option<Statistics>,
    ) -> Result<Evaluator, TrainError> {
        if data.is_empty() {
            return Err(TrainError::setting("the number of samples", 0, "at least 1"));
        }
        let mut parts = Vec::new();
        let mut seen = vec![false; data.len()];
        for part in data.parts(1, statistics) {
            if part.samples.is_empty() {
                continue;
            }
            for &number in &part.numbers {
                match seen.get_mut(number) {
                    Some(seen) if !*seen => *seen = true,
                    _ => {
                        let expected = format!("each below {} once", data.len());
                        return Err(TrainError::setting("a sample of a part", number, &expected));
                    }
                }
            }
            let (given, count) = (part.numbers.len(), part.samples.len());
            if given != count {
                let expected = format!("{count}, as many as it has samples");
                return Err(TrainError::setting("the numbers of a part", given, &expected));
            }
            let batch = BATCH.min(count);
            let graph = Graph::new();
            let cursor = Variable::word("cursor", 0);
            let position = graph.variable(&cursor);
            // A window holds the samples of one step, in order.
            let window = part.samples.streamed().map(|s| s.for_steps(batch, 0).0);
            let (x, y) = match &window {
                Some(window) => window.take(&graph, &graph.iota(batch)),
                None => {
                    let index = Order::Sequential.index(&position, count, batch);
                    part.samples.take(&graph, &index)
                }
            };
            let output = measure.model.forward(&x);
            let losses = measure.loss.each(&output, &y);
            // The last batch repeats the last sample; it counts once.
            let place = &position + graph.iota(batch);
            let counts = place.less(&place.full_like(count as f64)).to(DType::F32);
            let weight = |like: &Tensor| {
                let each = like.ty().numel() / batch;
                counts.unsqueeze(1).expand(&[batch, each]).reshape(&like.shape())
            };
            let weighted = &losses * weight(&losses);
            let mut all = vec![weighted.sum_all(), weight(&losses).sum_all()];
            for metric in measure.metrics {
                all.extend(metric.sums(&output, &y, &weight(&y)));
            }
            let all: Vec<Tensor> = all.iter().map(|t| t.reshape(&[t.ty().numel()])).collect();
            let all = graph.pack(&all.iter().collect::<Vec<_>>());
            let sums = Variable::new("sums", &all.shape(), DType::F32, Init::Full(0.0));
            graph.assign(&sums, &all);
            let predicted = measure.loss.classes(&output).map(|classes| {
                let shape = classes.shape();
                let predicted = Variable::new("predicted", &shape, DType::U32, Init::Full(0.0));
                graph.assign(&predicted, &classes);
                predicted
            });
            graph.assign(&cursor, &(&position + batch as f64));
            let program = session.compile(&graph, &[])?;
            let numbers = part.numbers;
            parts.push(Evaluated { program, cursor, window, sums, predicted, batch, numbers });
        }
        Ok(Evaluator { parts, samples: data.len() })
    }

    pub(crate) fn run(
        &mut self,
        session: &mut Session,
        metrics: &[Box<dyn Metric>],
    ) -> Result<Evaluation, TrainError> {
        let mut found = Found { metrics, sums: vec![], predictions: vec![vec![]; self.samples] };
        for part in &mut self.parts {
            session.write(&part.cursor, &0u32.to_le_bytes())?;
            let samples = || sequential(part.numbers.len(), part.batch);
            let mut loader =
                part.window.as_ref().and_then(|window| Loader::new(window, 1, 0, samples()));
            let mut queue = VecDeque::new();
            for numbers in part.numbers.chunks(part.batch) {
                if let Some(loader) = &mut loader {
                    loader.load(session, 1)?;
                }
                part.program.run(1)?;
                let sums = session.read_later(&part.sums)?;
                let classes = part.predicted.as_ref().map(|v| session.read_later(v)).transpose()?;
                queue.push_back((numbers, sums, classes));
                if queue.len() > AHEAD
                    && let Some(oldest) = queue.pop_front()
                {
                    found.take(oldest, part.batch)?;
                }
            }
            queue.into_iter().try_for_each(|batch| found.take(batch, part.batch))?;
        }
        let loss = found.sums[0] / found.sums[1];
        let (metrics, all) = (|| metrics.iter().map(|metric| &**metric), &found.sums[2..]);
        let scores = Scores::of(loss, metrics(), all);
        let sums = with_sums(metrics(), all);
        let sums = sums.map(|(metric, own)| (metric.name(), own.to_vec())).collect();
        Ok(Evaluation { scores, predictions: found.predictions.concat(), sums })
    }
}

/// What has been found so far.
struct Found<'m> {
    metrics: &'m [Box<dyn Metric>],
    sums: Vec<f64>,
    predictions: Vec<Vec<u32>>,
}

impl Found<'_> {
    fn take(
        &mut self,
        (numbers, sums, classes): (&[usize], Pending, Option<Pending>),
        batch: usize,
    ) -> Result<(), TrainError> {
        let wait = |pending: Pending| pending.wait().map_err(shadegrad_graph::GraphError::from);
        let sums: Vec<f32> = bytemuck::pod_collect_to_vec(&wait(sums)?);
        let mut sums: Vec<f64> = sums.into_iter().map(f64::from).collect();
        let metrics = sums.split_off(2);
        sums.extend(added(self.metrics.iter().map(|metric| &**metric), &metrics));
        self.sums.resize(sums.len(), 0.0);
        self.sums.iter_mut().zip(&sums).for_each(|(all, own)| *all += own);
        let Some(classes) = classes else { return Ok(()) };
        let classes: Vec<u32> = bytemuck::pod_collect_to_vec(&wait(classes)?);
        let each = classes.len() / batch;
        for (&number, own) in numbers.iter().zip(classes.chunks(each.max(1))) {
            self.predictions[number] = own.to_vec();
        }
        Ok(())
    }
}
