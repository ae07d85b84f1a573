//! Evaluation: what a model does on a data set, as a program for each of its parts.

use crate::{Dataset, Order, Statistics, TrainError};
use shadegrad_graph::{Graph, Loaded, Session, Variable};
use shadegrad_models::{Loss, Module};

/// Most samples of an evaluation step.
const BATCH: usize = 128;

/// What a model does on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of targets that were classified rightly.
    pub accuracy: f64,
    /// The predicted class of every target, in the order of the data set.
    pub predictions: Vec<u32>,
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
    batch: usize,
    numbers: Vec<usize>,
}

impl Evaluator {
    #[track_caller]
    pub(crate) fn new(
        session: &mut Session,
        model: &dyn Module,
        loss: &dyn Loss,
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
            let batch = BATCH.min(part.samples.len());
            let graph = Graph::new();
            let cursor = Variable::word("cursor", 0);
            let position = graph.variable(&cursor);
            let index = Order::Sequential.index(&position, part.samples.len(), batch);
            let (x, y) = part.samples.take(&graph, &index);
            let output = model.forward(&x);
            let losses = loss.each(&output, &y);
            graph.assign(&cursor, &(&position + batch as f64));
            let program = session.compile(&graph, &[&output.argmax(1), &losses, &y])?;
            parts.push(Evaluated { program, cursor, batch, numbers: part.numbers });
        }
        Ok(Evaluator { parts, samples: data.len() })
    }

    pub(crate) fn run(&mut self, session: &mut Session) -> Result<Evaluation, TrainError> {
        let mut predictions = vec![vec![]; self.samples];
        let (mut sum, mut right, mut count) = (0.0, 0, 0);
        for part in &mut self.parts {
            session.write(&part.cursor, &0u32.to_le_bytes())?;
            for numbers in part.numbers.chunks(part.batch) {
                part.program.run(1)?;
                let classes: Vec<u32> = bytemuck::pod_collect_to_vec(&part.program.read(0)?);
                let losses: Vec<f32> = bytemuck::pod_collect_to_vec(&part.program.read(1)?);
                let targets = part.program.read_array(2)?;
                // The last batch repeats the last sample; it counts once.
                let each = classes.len() / part.batch;
                let whole = numbers.len() * each;
                sum += losses[..whole].iter().map(|&l| f64::from(l)).sum::<f64>();
                let pairs = classes[..whole].iter().zip(&targets.data);
                right += pairs.filter(|(c, t)| f64::from(**c) == **t).count();
                count += whole;
                for (&number, own) in numbers.iter().zip(classes.chunks(each.max(1))) {
                    predictions[number] = own.to_vec();
                }
            }
        }
        let (loss, accuracy) = (sum / count as f64, right as f64 / count as f64);
        Ok(Evaluation { loss, accuracy, predictions: predictions.concat() })
    }
}
