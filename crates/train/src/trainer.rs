//! The training loop.

use crate::{
    Course, Dataset, Epoch, Evaluation, Evaluator, Fit, History, Order, Samples, Statistics,
    TrainError, Weights,
};
use indicatif::{ProgressBar, ProgressStyle};
use shadegrad_device::{DType, Device, Pending};
use shadegrad_graph::{Array, Graph, Init, Loaded, Options, Report, Session, Type, Variable};
use shadegrad_models::{Group, Loss, Module, Optimizer, Parameters, Schedule, Updater, correct};
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps whose losses the device keeps until the host looks.
const RING: usize = 256;
/// Programs that predict, each for a type of input.
const PREDICTORS: usize = 8;
/// How often the host looks at losses.
const LOOK: Duration = Duration::from_millis(250);

/// Trains a classifier: a model, a loss and an optimizer on a device.
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
    /// Counts the steps on each part of the data, on the device.
    turns: Vec<Variable>,
    /// Passes over the data of earlier courses, on the device.
    before: Variable,
    /// The same and those of the last course, as the host counts them.
    epochs: usize,
    steps_done: usize,
    seed_value: u64,
    /// Mean and deviation of the inputs trained on.
    statistics: Option<Statistics>,
    /// The input and the program for each type of input that was predicted for, the last one used at the end.
    predictors: Vec<(Type, Variable, Loaded)>,
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
            turns: vec![Variable::word("turn", 0)],
            before: Variable::word("before", 0),
            epochs: 0,
            steps_done: 0,
            seed_value: seed,
            statistics: None,
            predictors: vec![],
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

    /// Scales gradients down to this norm of another type: 1, 2 or infinity.
    pub fn clip_grad_norm_of_type(mut self, max_norm: f64, norm_type: f64) -> Self {
        self.updater.clip_grad_norm_of_type(max_norm, norm_type);
        self
    }

    /// Brings every number of the gradients between `-clip_value` and `clip_value`.
    pub fn clip_grad_value(mut self, clip_value: f64) -> Self {
        self.updater.clip_grad_value(clip_value);
        self
    }

    /// Lets some parameters learn at another rate, with another weight decay, or not at all.
    pub fn group(mut self, group: Group) -> Self {
        self.updater.group(group);
        self
    }

    /// Adds the gradient of `l1_penalty sum(abs(parameters))` to that of the loss.
    pub fn l1_penalty(mut self, l1_penalty: f64) -> Self {
        self.updater.l1_penalty(l1_penalty);
        self
    }

    /// Updates at every `steps`-th step only, with the mean of the gradients of these steps.
    pub fn accumulate(mut self, steps: usize) -> Self {
        self.updater.accumulate(steps);
        self
    }

    /// Keeps an exponential moving average of the parameters: see [`Updater::ema`].
    pub fn ema(mut self, decay: f64) -> Self {
        self.updater.ema(decay);
        self
    }

    /// The optimizer with its memory.
    pub fn updater(&self) -> &Updater {
        &self.updater
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

    /// The training step for samples and a batch size, as a recording.
    #[track_caller]
    pub fn record(&self, data: &dyn Samples, batch: usize) -> Graph {
        self.record_turn(data, batch, &self.turns[0])
    }

    #[track_caller]
    fn record_turn(&self, data: &dyn Samples, batch: usize, turn: &Variable) -> Graph {
        let graph = Graph::training(&self.seed, &self.step);
        let (step, turns) = (graph.step(), graph.variable(turn));
        let (seed, before) = (graph.variable(&self.seed), graph.variable(&self.before));
        let order = Order::Shuffled { seed: &seed, before: &before };
        let index = order.index(&(&turns * batch as f64), data.len(), batch);
        let (x, y) = data.take(&graph, &index);
        let output = self.model.forward(&x);
        let loss = self.loss.each(&output, &y).mean_all();
        let accuracy = correct(&output, &y) * (1.0 / y.ty().numel().max(1) as f64);
        self.updater.record(&graph, &self.parameters, &loss);

        let ring = graph.variable(&self.ring);
        let here = ring.along(1).equal(&step.remainder(&step.full_like(RING as f64)));
        let first = ring.along(0).equal(&step.full_like(0.0));
        graph.assign(&self.ring, &here.select(&first.select(&loss, &accuracy), &ring));
        graph.assign(&self.step, &(&step + 1.0));
        graph.assign(turn, &(&turns + 1.0));
        graph
    }

    /// The training step for samples and a batch size, compiled and loaded.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn compile(&mut self, data: &dyn Samples, batch: usize) -> Result<Loaded, TrainError> {
        let graph = self.record(data, batch);
        Ok(self.session.compile(&graph, &[])?)
    }

    /// Puts a data set on the device and compiles the step for each of its parts.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a batch or data set that makes no sense, [`TrainError::Graph`]
    /// for what can't be compiled.
    #[track_caller]
    pub fn start(&mut self, data: &dyn Dataset, batch: usize) -> Result<Course, TrainError> {
        check(data, batch)?;
        self.statistics = data.statistics();
        let mut programs = Vec::new();
        for (number, part) in data.parts(batch, None).iter().enumerate() {
            if number == self.turns.len() {
                self.turns.push(Variable::word("turn", 0));
            }
            let graph = self.record_turn(&*part.samples, batch, &self.turns[number]);
            programs.push(self.session.compile(&graph, &[])?);
        }
        // A course begins with a pass of its own, in orders that no earlier one had.
        let zero = 0u32.to_le_bytes();
        self.turns.iter().try_for_each(|turn| self.session.write(turn, &zero))?;
        self.session.write(&self.before, &(self.epochs as u32).to_le_bytes())?;
        Ok(Course::new(programs, data.sizes(batch), batch, self.seed_value, self.epochs))
    }

    /// Trains.
    ///
    /// # Errors
    /// As [`Trainer::start`] and [`Trainer::advance`].
    #[track_caller]
    pub fn fit(&mut self, data: &dyn Dataset, fit: Fit<'_>) -> Result<History, TrainError> {
        if fit.keep_best && fit.validate.is_none() {
            return Err(TrainError::Setting {
                what: "keep_best",
                value: "asked for without data to validate on".to_string(),
                expected: "used together with validate".to_string(),
            });
        }
        let mut course = self.start(data, fit.batch)?;
        let mut validation = match fit.validate {
            Some(data) => Some(self.evaluator(data)?),
            None => None,
        };
        let total = fit.total_steps(data);
        let mut history = History::default();
        let mut best: Option<(f64, Weights)> = None;
        for number in 1..=fit.epochs {
            let start = history.losses.len();
            let steps = course.left_in_epoch().min(total - start);
            if steps == 0 {
                break;
            }
            let bar = progress(fit.progress, steps, number, fit.epochs);
            let clock = Instant::now();
            self.run(&mut course, steps, &mut history, &bar)?;
            let seconds = clock.elapsed().as_secs_f64();
            bar.finish_and_clear();
            let validation = match &mut validation {
                Some(evaluator) => Some(self.evaluate_with(evaluator)?),
                None => None,
            };
            let mean = |values: &[f32]| {
                values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64
            };
            let epoch = Epoch {
                number,
                loss: mean(&history.losses[start..]),
                accuracy: mean(&history.accuracies[start..]),
                samples_per_second: (steps * fit.batch) as f64 / seconds,
                validation,
            };
            if fit.progress {
                println!("{epoch}");
            }
            if let (true, Some(found)) = (fit.keep_best, &epoch.validation)
                && best.as_ref().is_none_or(|(accuracy, _)| found.accuracy > *accuracy)
            {
                best = Some((found.accuracy, self.weights()?));
                history.best = Some(number);
            }
            history.epochs.push(epoch);
        }
        if let Some((_, weights)) = best {
            self.restore(&weights, Path::new("the best epoch"))?;
        }
        Ok(history)
    }

    /// Goes on with a course for some steps, whose losses the history takes.
    ///
    /// # Errors
    /// [`TrainError::Graph`] for what can't be run, [`TrainError::Diverged`] for a loss that isn't a number.
    pub fn advance(
        &mut self,
        course: &mut Course,
        steps: usize,
        history: &mut History,
    ) -> Result<(), TrainError> {
        self.run(course, steps, history, &ProgressBar::hidden())
    }

    /// Queues steps and looks at losses one batch of steps late, so that the device never waits.
    fn run(
        &mut self,
        course: &mut Course,
        steps: usize,
        history: &mut History,
        bar: &ProgressBar,
    ) -> Result<(), TrainError> {
        let mut late: Option<(Pending, usize)> = None;
        let mut left = steps;
        while left > 0 || late.is_some() {
            let clock = Instant::now();
            let now = left.min(course.pace);
            let next = if now > 0 {
                course.run(now)?;
                self.epochs = course.epochs();
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
                    let rate = bar.per_sec() * course.batch() as f64;
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
                course.pace = (course.pace * 2).min(RING / 2);
            } else if took > LOOK * 2 {
                course.pace = (course.pace / 2).max(1);
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

    /// What the training step costs, without running it; of the last of a data set's parts, whose samples are
    /// the largest.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    #[track_caller]
    pub fn report(&self, data: &dyn Dataset, batch: usize) -> Result<Report, TrainError> {
        check(data, batch)?;
        let parts = data.parts(batch, None);
        let Some(part) = parts.last() else {
            return Err(TrainError::setting("the number of samples", 0, "at least 1"));
        };
        // Compiled and not loaded: nothing is allocated or uploaded for a report.
        let nodes = self.record(&*part.samples, batch).nodes(&[])?;
        let limits = self.session.device().limits();
        Ok(shadegrad_graph::compile(&nodes, limits, &Options::default())?.report)
    }

    /// Evaluates the model as it is.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a data set without samples, [`TrainError::Graph`].
    #[track_caller]
    pub fn evaluate(&mut self, data: &dyn Dataset) -> Result<Evaluation, TrainError> {
        let mut evaluator = self.evaluator(data)?;
        self.evaluate_with(&mut evaluator)
    }

    /// Puts a data set on the device to evaluate the model on it, now and later.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`].
    #[track_caller]
    pub fn evaluator(&mut self, data: &dyn Dataset) -> Result<Evaluator, TrainError> {
        Evaluator::new(&mut self.session, &self.model, &*self.loss, data, self.statistics)
    }

    /// Evaluates the model as it is on a data set that is on the device already.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn evaluate_with(&mut self, evaluator: &mut Evaluator) -> Result<Evaluation, TrainError> {
        evaluator.run(&mut self.session)
    }

    /// What the model gives for an input, which is taken as it is. The programs for the last few types of input are
    /// kept.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    #[track_caller]
    pub fn predict(&mut self, input: &Array) -> Result<Array, TrainError> {
        let known = self.predictors.iter().position(|(ty, ..)| *ty == input.ty);
        let mut predictor = match known {
            Some(at) => self.predictors.remove(at),
            None => {
                let graph = Graph::new();
                let Type { shape, dtype } = &input.ty;
                let variable = Variable::new("input", shape, *dtype, Init::Full(0.0));
                let output = self.model.forward(&graph.variable(&variable));
                let program = self.session.compile(&graph, &[&output])?;
                (input.ty.clone(), variable, program)
            }
        };
        self.session.write(&predictor.1, &input.to_bytes())?;
        predictor.2.run(1)?;
        let output = predictor.2.read_array(0)?;
        self.predictors.push(predictor);
        if self.predictors.len() > PREDICTORS {
            self.predictors.remove(0);
        }
        Ok(output)
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
        if let Some(Statistics { mean, deviation }) = self.statistics {
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
        self.restore(&weights, path.as_ref())
    }

    /// Takes weights into the model; `origin` is where errors say they are from.
    ///
    /// # Errors
    /// [`TrainError::Weights`] for those of another model; the weights stay.
    pub fn restore(&mut self, weights: &Weights, origin: &Path) -> Result<(), TrainError> {
        let buffers = self.parameters.buffers().map(|(name, b)| (name, &*b.variable().ty().shape));
        let flat = weights.flat(self.parameters.names().chain(buffers), origin)?;
        let mut rest = flat.as_slice();
        let buffers = self.parameters.buffers().map(|(_, buffer)| buffer.variable());
        for shard in self.parameters.shards().iter().chain(buffers) {
            let (own, after) = rest.split_at(shard.ty().numel());
            self.session.write(shard, bytemuck::cast_slice(own))?;
            rest = after;
        }
        let note = |name: &str| weights.notes.get(name)?.parse().ok();
        if let (Some(mean), Some(deviation)) = (note("pixel_mean"), note("pixel_deviation")) {
            self.statistics = Some(Statistics { mean, deviation });
        }
        Ok(())
    }
}

fn check(data: &dyn Dataset, batch: usize) -> Result<(), TrainError> {
    if data.is_empty() {
        return Err(TrainError::setting("the number of samples", 0, "at least 1"));
    }
    let least = data.sizes(batch).into_iter().min().unwrap_or_default();
    if batch == 0 || batch > least {
        let expected = format!("1 to {least}, the samples of the smallest part of the data");
        return Err(TrainError::setting("the batch size", batch, &expected));
    }
    Ok(())
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
