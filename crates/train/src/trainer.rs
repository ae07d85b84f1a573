//! The training loop.

use crate::fit::end_of;
use crate::{Epoch, Evaluation, Fit, History, Images, Order, Resident, TrainError, Weights};
use indicatif::{ProgressBar, ProgressStyle};
use shadegrad_device::{DType, Device, Pending};
use shadegrad_graph::{Graph, Init, Loaded, Options, Report, Session, Variable};
use shadegrad_models::{Loss, Module, Optimizer, Parameters, Schedule, Updater, correct};
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps whose losses the device keeps until the host looks.
const RING: usize = 256;
/// Samples of an evaluation step.
const EVALUATION_BATCH: usize = 500;
/// How often the host looks at losses.
const LOOK: Duration = Duration::from_millis(250);

/// Trains a classifier of images: a model, a loss and an optimizer on a device.
pub struct Trainer<M> {
    model: M,
    loss: Box<dyn Loss>,
    updater: Updater,
    parameters: Parameters,
    session: Session,
    /// Counts steps, on the device.
    step: Variable,
    /// Selects random numbers, on the device.
    seed: Variable,
    /// Losses and accuracies of the last steps, `[2, RING]`, on the device.
    ring: Variable,
    /// Samples that evaluation has visited, on the device.
    cursor: Variable,
    steps_done: usize,
    /// Mean and deviation of the pixels trained on.
    normalise: Option<(f64, f64)>,
}

impl<M: Module> Trainer<M> {
    /// A trainer with seed 0, a constant rate and no clipping.
    ///
    /// # Errors
    /// [`TrainError::Parameters`].
    pub fn new(
        device: &Device,
        model: M,
        loss: impl Loss + 'static,
        optimizer: impl Optimizer + 'static,
    ) -> Result<Trainer<M>, TrainError> {
        Trainer::with_seed(device, model, loss, optimizer, 0)
    }

    /// A trainer whose initial weights, shuffles and dropout depend on a seed.
    ///
    /// # Errors
    /// [`TrainError::Parameters`].
    pub fn with_seed(
        device: &Device,
        model: M,
        loss: impl Loss + 'static,
        optimizer: impl Optimizer + 'static,
        seed: u64,
    ) -> Result<Trainer<M>, TrainError> {
        let parameters = Parameters::sharded(&model, seed, device.limits().binding_bytes)?;
        Ok(Trainer {
            updater: Updater::new(&parameters, optimizer),
            model,
            loss: Box::new(loss),
            parameters,
            session: Session::new(device),
            step: Variable::word("step", 0),
            seed: Variable::word("seed", seed as u32 ^ (seed >> 32) as u32),
            ring: Variable::new("ring", &[2, RING], DType::F32, Init::Full(0.0)),
            cursor: Variable::word("cursor", 0),
            steps_done: 0,
            normalise: None,
        })
    }

    /// Multiplies the learning rate by a schedule.
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.updater.schedule(schedule);
        self
    }

    /// Scales gradients down to this norm over all parameters.
    pub fn clip_grad_norm(mut self, max_norm: f64) -> Self {
        self.updater.clip_grad_norm(max_norm);
        self
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The session with all variables.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn check(data: &Images, batch: usize) -> Result<(), TrainError> {
        let setting = |what, value: usize, expected: &str| TrainError::Setting {
            what,
            value: value.to_string(),
            expected: expected.to_string(),
        };
        if data.is_empty() {
            return Err(setting("the number of samples", 0, "at least 1"));
        }
        if batch == 0 || batch > data.len() {
            return Err(setting("the batch size", batch, &format!("1 to {} samples", data.len())));
        }
        Ok(())
    }

    /// The training step for a data set and a batch size, as a recording.
    #[track_caller]
    pub fn record(&self, data: &Resident, batch: usize) -> Graph {
        let graph = Graph::training(&self.seed, &self.step);
        let step = graph.step();
        let position = &step * batch as f64;
        let order = Order::Shuffled { seed: &graph.variable(&self.seed) };
        let (x, y) = data.batch(&graph, &position, &order, batch);
        let output = self.model.forward(&x);
        let loss = self.loss.each(&output, &y).mean_all();
        let accuracy = correct(&output, &y) * (1.0 / batch as f64);
        self.updater.record(&graph, &self.parameters, &loss);

        let ring = graph.variable(&self.ring);
        let here = ring.along(1).equal(&step.remainder(&step.full_like(RING as f64)));
        let first = ring.along(0).equal(&step.full_like(0.0));
        graph.assign(&self.ring, &here.select(&first.select(&loss, &accuracy), &ring));
        graph.assign(&self.step, &(&step + 1.0));
        graph
    }

    /// The training step for a data set and a batch size, compiled and loaded.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn compile(&mut self, data: &Resident, batch: usize) -> Result<Loaded, TrainError> {
        let graph = self.record(data, batch);
        Ok(self.session.compile(&graph, &[])?)
    }

    /// Trains.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a batch or data set that makes no sense, [`TrainError::Graph`]
    /// for what can't be compiled or run, [`TrainError::Diverged`] for a loss that isn't a number.
    pub fn fit(&mut self, data: &Images, fit: Fit<'_>) -> Result<History, TrainError> {
        Self::check(data, fit.batch)?;
        let resident = Resident::new(data);
        self.normalise = Some(resident.normalise());
        let mut step = self.compile(&resident, fit.batch)?;
        let mut validation = match fit.validate {
            Some(data) => Some((self.evaluator(data)?, data)),
            None => None,
        };
        let total = fit.total_steps(data.len());
        let mut history = History::default();
        let mut pace = 1;
        for epoch in 1..=fit.epochs {
            let start = history.losses.len();
            let end = end_of(epoch, data.len(), fit.batch).min(total);
            if start >= end {
                break;
            }
            let bar = progress(fit.progress, end - start, epoch, fit.epochs);
            let clock = Instant::now();
            self.run(&mut step, end - start, &mut pace, &mut history, &bar, fit.batch)?;
            let seconds = clock.elapsed().as_secs_f64();
            bar.finish_and_clear();
            let validation = match &mut validation {
                Some((program, data)) => Some(self.evaluate_with(program, data)?),
                None => None,
            };
            let mean = |values: &[f32]| {
                values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64
            };
            let epoch = Epoch {
                number: epoch,
                loss: mean(&history.losses[start..]),
                accuracy: mean(&history.accuracies[start..]),
                samples_per_second: ((end - start) * fit.batch) as f64 / seconds,
                validation,
            };
            if fit.progress {
                println!("{epoch}");
            }
            history.epochs.push(epoch);
        }
        Ok(history)
    }

    /// Queues steps and looks at losses one batch of steps late, so that the device never waits.
    fn run(
        &mut self,
        program: &mut Loaded,
        steps: usize,
        pace: &mut usize,
        history: &mut History,
        bar: &ProgressBar,
        batch: usize,
    ) -> Result<(), TrainError> {
        let mut late: Option<(Pending, usize)> = None;
        let mut left = steps;
        while left > 0 || late.is_some() {
            let clock = Instant::now();
            let now = left.min(*pace);
            let next = if now > 0 {
                program.run(now)?;
                Some((self.session.read_later(&self.ring)?, now))
            } else {
                None
            };
            left -= now;
            if let Some((pending, count)) = late.take() {
                self.look(pending, count, history)?;
                bar.inc(count as u64);
                if let (Some(loss), Some(accuracy)) =
                    (history.losses.last(), history.accuracies.last())
                {
                    let rate = bar.per_sec() * batch as f64;
                    bar.set_message(format!(
                        "loss {loss:.4}, accuracy {:5.1} %, {rate:.0} samples/s",
                        accuracy * 100.0
                    ));
                }
            }
            late = next;
            // As many steps as take a quarter of a second, and no more than the ring holds twice.
            let took = clock.elapsed();
            if took < LOOK / 2 {
                *pace = (*pace * 2).min(RING / 2);
            } else if took > LOOK * 2 {
                *pace = (*pace / 2).max(1);
            }
        }
        Ok(())
    }

    /// Takes the last `count` steps out of the ring.
    fn look(
        &mut self,
        pending: Pending,
        count: usize,
        history: &mut History,
    ) -> Result<(), TrainError> {
        let bytes = pending.wait().map_err(shadegrad_graph::GraphError::from)?;
        let ring: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        for step in self.steps_done..self.steps_done + count {
            let loss = ring[step % RING];
            if !loss.is_finite() {
                return Err(TrainError::Diverged { step, loss });
            }
            history.losses.push(loss);
            history.accuracies.push(ring[RING + step % RING]);
        }
        self.steps_done += count;
        Ok(())
    }

    /// What the training step costs, without running it.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub fn report(&self, data: &Images, batch: usize) -> Result<Report, TrainError> {
        Self::check(data, batch)?;
        // Compiled and not loaded: nothing is allocated or uploaded for a report.
        let nodes = self.record(&Resident::new(data), batch).nodes(&[])?;
        let limits = self.session.device().limits();
        Ok(shadegrad_graph::compile(&nodes, limits, &Options::default())?.report)
    }

    /// Evaluates the model as it is.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn evaluate(&mut self, data: &Images) -> Result<Evaluation, TrainError> {
        let mut program = self.evaluator(data)?;
        self.evaluate_with(&mut program, data)
    }

    fn evaluator(&mut self, data: &Images) -> Result<Loaded, TrainError> {
        let batch = EVALUATION_BATCH.min(data.len());
        Self::check(data, batch)?;
        let resident = match self.normalise {
            Some(normalise) => Resident::build(data, normalise),
            None => Resident::new(data),
        };
        let graph = Graph::new();
        let cursor = graph.variable(&self.cursor);
        let (x, y) = resident.batch(&graph, &cursor, &Order::Sequential, batch);
        let output = self.model.forward(&x);
        let losses = self.loss.each(&output, &y);
        graph.assign(&self.cursor, &(&cursor + batch as f64));
        Ok(self.session.compile(&graph, &[&output.argmax(1), &losses])?)
    }

    fn evaluate_with(
        &mut self,
        program: &mut Loaded,
        data: &Images,
    ) -> Result<Evaluation, TrainError> {
        self.session.write(&self.cursor, &0u32.to_le_bytes())?;
        let mut predictions: Vec<u32> = Vec::with_capacity(data.len());
        let mut sum = 0.0;
        while predictions.len() < data.len() {
            program.run(1)?;
            let classes: Vec<u32> = bytemuck::pod_collect_to_vec(&program.read(0)?);
            let losses: Vec<f32> = bytemuck::pod_collect_to_vec(&program.read(1)?);
            // The last batch repeats the last sample; it counts once.
            let count = classes.len().min(data.len() - predictions.len());
            predictions.extend(&classes[..count]);
            sum += losses[..count].iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        let right =
            predictions.iter().zip(&data.labels).filter(|(p, l)| **p == u32::from(**l)).count();
        let count = data.len() as f64;
        Ok(Evaluation { loss: sum / count, accuracy: right as f64 / count, predictions })
    }

    /// The weights as they are, with the normalisation they were trained with.
    ///
    /// # Errors
    /// [`TrainError::Graph`] if the device can't be read.
    pub fn weights(&mut self) -> Result<Weights, TrainError> {
        let mut flat: Vec<f32> = Vec::with_capacity(self.parameters.count());
        for shard in self.parameters.shards() {
            flat.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&self.session.read(shard)?));
        }
        let mut weights = Weights::default();
        let mut start = 0;
        for (name, shape) in self.parameters.names() {
            let count: usize = shape.iter().product();
            let data = flat[start..start + count].to_vec();
            weights.tensors.insert(name.to_string(), (shape.to_vec(), data));
            start += count;
        }
        for (name, buffer) in self.parameters.buffers() {
            let variable = buffer.variable();
            let data = bytemuck::pod_collect_to_vec::<u8, f32>(&self.session.read(variable)?);
            weights.tensors.insert(name.to_string(), (variable.ty().shape.clone(), data));
        }
        if let Some((mean, deviation)) = self.normalise {
            weights.notes.insert("pixel_mean".into(), mean.to_string());
            weights.notes.insert("pixel_deviation".into(), deviation.to_string());
        }
        Ok(weights)
    }

    /// Writes the weights to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`TrainError::Weights`].
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        Ok(self.weights()?.save(path.as_ref())?)
    }

    /// Reads weights from a safetensors file into the model.
    ///
    /// # Errors
    /// [`TrainError::Weights`] for a file that is damaged or of another model; the weights stay.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let weights = Weights::load(path.as_ref())?;
        let buffers = self.parameters.buffers().map(|(name, b)| (name, &*b.variable().ty().shape));
        let flat = weights.flat(self.parameters.names().chain(buffers), path.as_ref())?;
        let mut rest = flat.as_slice();
        let buffers = self.parameters.buffers().map(|(_, buffer)| buffer.variable());
        for shard in self.parameters.shards().iter().chain(buffers) {
            let (own, after) = rest.split_at(shard.ty().numel());
            self.session.write(shard, bytemuck::cast_slice(own))?;
            rest = after;
        }
        let note = |name: &str| weights.notes.get(name)?.parse().ok();
        if let (Some(mean), Some(deviation)) = (note("pixel_mean"), note("pixel_deviation")) {
            self.normalise = Some((mean, deviation));
        }
        Ok(())
    }
}

fn progress(shown: bool, steps: usize, epoch: usize, epochs: usize) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64);
    let template = "{prefix} {bar:30} {pos}/{len} {msg}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(format!("epoch {epoch}/{epochs}"));
    bar
}
