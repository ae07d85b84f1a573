//! The training loop.

use crate::augment::{Mixed, mixup};
use crate::evaluator::Measure;
use crate::fit::Past;
use crate::scores::with_sums;
use crate::state::Position;
use crate::stream::{Loader, shuffled};
use crate::{
    Control, Course, Dataset, Evaluation, Evaluator, History, Order, Samples, Scores, Statistics,
    Streamed, TrainError,
};
use shadegrad_device::{DType, Device, Pending};
use shadegrad_graph::{
    Array, Compiled, Graph, Init, Loaded, Options, Report, Session, Source, Tensor, Type, Variable,
};
use shadegrad_models::{
    GradScaler, Group, Loss, Metric, Module, Optimizer, Parameters, Schedule, Updater,
};
use std::time::{Duration, Instant};

/// Steps whose losses the device keeps until the host looks.
const RING: usize = 256;
/// Programs that predict, each for a type of input.
const PREDICTORS: usize = 8;
/// How often the host looks at losses.
const LOOK: Duration = Duration::from_millis(250);

/// Trains a model: with a loss and an optimizer on a device.
pub struct Trainer<M> {
    model: M,
    loss: Box<dyn Loss>,
    metrics: Vec<Box<dyn Metric>>,
    pub(crate) updater: Updater,
    pub(crate) parameters: Parameters,
    pub(crate) session: Session,
    /// Counts steps, on the device.
    pub(crate) step: Variable,
    /// Selects random numbers, on the device.
    pub(crate) seed: Variable,
    /// The last steps' losses and sums of the metrics that are followed, `[values, RING]`, on the device.
    ring: Variable,
    /// Counts the steps on each part of the data, on the device.
    pub(crate) turns: Vec<Variable>,
    /// Passes over the data of earlier courses, on the device.
    before: Variable,
    /// The part of the data, from one, in whose step the loss wasn't finite, on the device.
    halted: Variable,
    /// The same and those of the last course, as the host counts them.
    pub(crate) epochs: usize,
    pub(crate) steps_done: usize,
    pub(crate) seed_value: u64,
    /// Mean and deviation of the inputs trained on.
    pub(crate) statistics: Option<Statistics>,
    /// Where a checkpoint was written and what had happened until then, until training goes on from there.
    pub(crate) resumed: Option<(Position, Past)>,
    /// What happened in the last fit.
    pub(crate) history: History,
    /// How inputs are mixed.
    mixup: Option<f64>,
    /// Whether mixed precision was asked for.
    mixed: bool,
    /// How steps are compiled.
    options: Options,
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
        let metrics = loss.metrics();
        Ok(Trainer {
            updater: Updater::new(&parameters, optimizer),
            model,
            loss: Box::new(loss),
            parameters,
            session: Session::new(device),
            step: Variable::word("step", 0),
            seed: Variable::word("seed", seed_word(seed)),
            ring: ring(&metrics),
            metrics,
            turns: vec![Variable::word("turn", 0)],
            before: Variable::word("before", 0),
            halted: Variable::word("halted", 0),
            epochs: 0,
            steps_done: 0,
            seed_value: seed,
            statistics: None,
            resumed: None,
            history: History::default(),
            mixup: None,
            mixed: false,
            options: Options::default(),
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

    /// Computes one more metric besides those of the loss, or another of the same name instead.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.retain(|other| other.name() != metric.name());
        self.metrics.push(Box::new(metric));
        self.ring = ring(&self.metrics);
        self
    }

    /// Mixes inputs and losses in pairs in training, see [`mixup`]; the metrics of training compare what is said of mixed inputs with the
    /// targets of their first samples.
    pub fn mixup(mut self, alpha: f64) -> Self {
        self.mixup = Some(alpha);
        self
    }

    /// Keeps activations and their gradients in memory in half precision while training, as [`Graph::autocast`] says, with
    /// weights, sums and arithmetic in f32 and the loss scaled by a [`GradScaler`] (Micikevicius et al., arXiv 1710.03740). Evaluation
    /// and prediction are in f32. Activations above 65 504 make the loss infinite, which ends training, where PyTorch's scaler would
    /// pass over the step; so do gradients that overflow with the lowest scale. On a device that can't store halves all stays in f32, and [`Trainer::precision`] says so.
    pub fn mixed_precision(self) -> Self {
        self.mixed_precision_with(GradScaler::new())
    }

    /// [`Trainer::mixed_precision`] with a scaler of other settings.
    pub fn mixed_precision_with(mut self, scaler: GradScaler) -> Self {
        if self.session.device().limits().f16 {
            self.updater.scaler(scaler);
        }
        self.mixed = true;
        self
    }

    /// Whether activations wait in half precision.
    pub fn is_mixed(&self) -> bool {
        self.updater.grad_scaler().is_some()
    }

    /// The precision that training steps have, for people; why it isn't mixed if that was asked for.
    pub fn precision(&self) -> String {
        match (self.mixed, self.is_mixed()) {
            (_, true) => "mixed: activations are stored in f16, weights in f32".to_string(),
            (false, _) => "f32".to_string(),
            (true, false) => {
                let device = self.session.device().info();
                format!("f32, not mixed as asked: {device} can't store 16-bit floats")
            }
        }
    }

    /// What the loss is multiplied by now, and how many updates were left out, in mixed precision.
    ///
    /// # Errors
    /// [`TrainError::Graph`] if the device can't be read.
    pub fn loss_scale(&mut self) -> Result<Option<(f64, usize)>, TrainError> {
        let Some(scaler) = self.updater.grad_scaler().cloned() else { return Ok(None) };
        let scale = self.session.read_array(scaler.scale())?.data[0];
        let skipped = self.session.read_array(scaler.skipped())?.data[0];
        Ok(Some((scale, skipped as usize)))
    }

    /// Runs many training steps as one dispatch on adapters, by one workgroup, where the step is small enough and needs no
    /// workgroup memory; nothing changes for others, nor on the CPU. For models of a few hundred weights, whose steps take less
    /// time than starting their dispatches. The results are the same; the shader takes several times as long to compile.
    pub fn one_dispatch(mut self) -> Self {
        self.options.one_dispatch = true;
        self
    }

    /// Gives each kernel of a step a dispatch of its own, on GPUs, too, where small ones that don't depend on each other share one.
    /// The results are the same.
    pub fn dispatches_apart(mut self) -> Self {
        self.options.share = false;
        self
    }

    /// Compiles training steps so that this many bytes of scratch memory suffice, if they can for a third more work:
    /// activations are computed again instead of stored. [`Trainer::report`] says what is reached.
    pub fn recompute(mut self, bytes: usize) -> Self {
        self.options.recompute = Some(bytes);
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
        let window = self.window(data, batch);
        self.record_turn(data, window.as_ref(), batch, 0).0
    }

    /// Where streamed samples are looked at, and how many steps it holds.
    fn window(&self, data: &dyn Samples, batch: usize) -> Option<(Streamed, usize)> {
        let limit = self.session.device().limits().binding_bytes;
        data.streamed().map(|streamed| streamed.for_steps(batch, limit))
    }

    #[track_caller]
    fn record_turn(
        &self,
        data: &dyn Samples,
        window: Option<&(Streamed, usize)>,
        batch: usize,
        number: usize,
    ) -> (Graph, Tensor) {
        let turn = &self.turns[number];
        let graph = Graph::training(&self.seed, &self.step);
        let (step, turns) = (graph.step(), graph.variable(turn));
        let (seed, before) = (graph.variable(&self.seed), graph.variable(&self.before));
        let (x, y) = match window {
            // The loader has put them there in that order.
            Some((window, slots)) => {
                let slot = turns.remainder(&turns.full_like(*slots as f64));
                window.take(&graph, &(slot * batch as f64 + graph.iota(batch)))
            }
            None => {
                let order = Order::Shuffled { seed: &seed, before: &before };
                let index = order.index(&(&turns * batch as f64), data.len(), batch);
                data.take(&graph, &index)
            }
        };
        let (output, loss) = match self.mixup {
            Some(alpha) => {
                let Mixed { inputs, share, partner } = mixup(&x, alpha);
                let output = self.output(&graph, &inputs);
                let of = |target: &Tensor| self.loss.each(&output, target).mean_all();
                let loss = of(&y) * &share + of(&y.index_select(0, &partner)) * (-&share + 1.0);
                (output, loss)
            }
            None => {
                let output = self.output(&graph, &x);
                let loss = self.loss.each(&output, &y).mean_all();
                (output, loss)
            }
        };
        let weight = graph.full(&y.shape(), DType::F32, 1.0);
        let sums = self.followed().flat_map(|metric| metric.sums(&output, &y, &weight));
        let values: Vec<Tensor> = std::iter::once(loss.clone()).chain(sums).collect();
        let shown = match self.updater.record(&graph, &self.parameters, &loss) {
            // As with a loss that isn't finite, training ends with this step.
            Some(exhausted) => exhausted.select(&loss.full_like(f64::NAN), &loss),
            None => loss.clone(),
        };
        graph.assign(&self.step, &(&step + 1.0));
        graph.assign(turn, &(&turns + 1.0));

        let ring = graph.variable(&self.ring);
        let here = ring.along(1).equal(&step.remainder(&step.full_like(RING as f64)));
        let row = ring.along(0);
        self.guard(&graph, &shown, number);
        let new = values.iter().enumerate().skip(1).fold(shown, |rest, (number, value)| {
            row.equal(&row.full_like(number as f64)).select(value, &rest)
        });
        // From a loss that isn't finite on, steps have its number: they don't hide it.
        let kept = row.equal(&row.zeros_like()).and(&ring.is_nan().or(&ring.is_inf()));
        graph.assign(&self.ring, &here.and(&kept.not()).select(&new, &ring));
        (graph, loss)
    }

    /// What the model gives in training, in the precision of training.
    #[track_caller]
    fn output(&self, graph: &Graph, x: &Tensor) -> Tensor {
        match self.is_mixed() {
            true => graph.autocast(|| self.model.forward(x)),
            false => self.model.forward(x),
        }
    }

    /// Keeps everything as it was before the first step whose loss isn't finite, from that step on: what is
    /// assigned so far takes effect only in steps before it. Nothing is lost, and the step can be looked at. Running
    /// statistics are the exception: they may have seen the step's inputs.
    #[track_caller]
    fn guard(&self, graph: &Graph, loss: &Tensor, part: usize) {
        let halted = graph.variable(&self.halted);
        let on = halted.equal(&halted.full_like(0.0));
        let bad = |x: &Tensor| x.is_nan().or(&x.is_inf());
        let fine = on.and(&bad(loss).not());
        let statistics: Vec<u64> =
            self.parameters.buffers().map(|(_, buffer)| buffer.variable().id()).collect();
        for (variable, value) in graph.assigned() {
            let old = graph.variable(&variable);
            // Statistics are there before the loss is: of what isn't finite they aren't finite either.
            let go = match statistics.contains(&variable.id()) {
                true => bad(&value).not().and(&on),
                false => fine.clone(),
            };
            graph.assign(&variable, &go.select(&value, &old));
        }
        let number = halted.full_like(part as f64 + 1.0);
        graph.assign(&self.halted, &fine.select(&halted, &on.select(&number, &halted)));
    }

    /// The training step for samples and a batch size, compiled and loaded.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn compile(&mut self, data: &dyn Samples, batch: usize) -> Result<Loaded, TrainError> {
        if data.streamed().is_some() {
            return Err(TrainError::Setting {
                what: "the data of a step that is run by hand",
                value: "streamed".to_string(),
                expected: "on the device; `start` streams".to_string(),
            });
        }
        let graph = self.record(data, batch);
        Ok(self.session.compile_with(&graph, &[], &self.options)?)
    }

    /// Puts a data set on the device and compiles the step for each of its parts.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a batch or data set that makes no sense, [`TrainError::Graph`]
    /// for what can't be compiled.
    #[track_caller]
    pub fn start(&mut self, data: &dyn Dataset, batch: usize) -> Result<Course, TrainError> {
        Ok(self.begin(data, batch)?.0)
    }

    /// [`Trainer::start`], and what had happened when the checkpoint was written from which it goes on.
    #[track_caller]
    pub(crate) fn begin(
        &mut self,
        data: &dyn Dataset,
        batch: usize,
    ) -> Result<(Course, Past), TrainError> {
        check(data, batch)?;
        if let Some((position, _)) = &self.resumed {
            position.fits(batch, &data.sizes(batch))?;
        }
        let (position, past) = self.resumed.take().unzip();
        // What isn't normalised in training isn't in evaluation.
        self.statistics = Some(data.statistics().unwrap_or(Statistics::NONE));
        // A course begins with a pass of its own, in orders that no earlier one had.
        let (before, done) = match &position {
            Some(position) => (position.before, position.turns.clone()),
            None => (self.epochs, vec![]),
        };
        let seed = seed_word(self.seed_value);
        let (mut programs, mut losses, mut loaders) = (Vec::new(), Vec::new(), Vec::new());
        for (number, part) in data.parts(batch, None).iter().enumerate() {
            if number == self.turns.len() {
                self.turns.push(Variable::word("turn", 0));
            }
            let turns = done.get(number).copied().unwrap_or(0);
            self.session.write(&self.turns[number], &turns.to_le_bytes())?;
            let window = self.window(&*part.samples, batch);
            let (graph, loss) = self.record_turn(&*part.samples, window.as_ref(), batch, number);
            loaders.push(window.and_then(|(window, slots)| {
                let samples = shuffled(seed, before as u32, part.samples.len(), batch);
                Loader::new(&window, slots, turns, samples)
            }));
            programs.push(self.session.compile_with(&graph, &[], &self.options)?);
            losses.push(loss);
        }
        self.session.write(&self.before, &(before as u32).to_le_bytes())?;
        self.session.write(&self.halted, &0u32.to_le_bytes())?;
        self.session.write(&self.ring, &vec![0; self.ring.ty().bytes()])?;
        let sizes = data.sizes(batch);
        let programs = (programs, losses, loaders);
        let mut course = Course::new(programs, sizes, batch, self.seed_value, before);
        if let Some(position) = position {
            course.go_to(position.epoch, position.left);
        }
        Ok((course, past.unwrap_or_default()))
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
        self.run(course, steps, history, &mut |_, _| Ok(Control::Continue))?;
        Ok(())
    }

    /// Queues steps and looks at losses one batch of steps late, so that the device never waits. `watch` is told of
    /// the first step that is new in the history, and may end it.
    pub(crate) fn run(
        &mut self,
        course: &mut Course,
        steps: usize,
        history: &mut History,
        watch: &mut Watch<'_>,
    ) -> Result<Control, TrainError> {
        let mut told = history.losses.len();
        let mut watched = |from: usize, history: &History| {
            told = history.losses.len();
            watch(from, history)
        };
        let done = self.queue(course, steps, history, &mut watched);
        if let Err(error) = &done {
            // The error is what is told, whatever else can't be read any more.
            let _ = self.look_late(course, history);
            if told < history.losses.len() && !matches!(error, TrainError::Callback(_)) {
                let _ = watch(told, history);
            }
        }
        done
    }

    /// Takes the steps that were on their way when an error ended training, and that nobody has looked at; the device knows
    /// how many. Of these none is bad: from a loss that isn't finite on it counts no more.
    fn look_late(&mut self, course: &mut Course, history: &mut History) -> Result<(), TrainError> {
        let steps = self.session.read_array(&self.step)?.data[0] as usize;
        let late = steps.saturating_sub(self.steps_done);
        if (1..=RING).contains(&late) {
            let pending = self.session.read_later(&self.ring)?;
            self.look(pending, late, course, history)?;
        }
        self.steps_done = steps;
        Ok(())
    }

    fn queue(
        &mut self,
        course: &mut Course,
        steps: usize,
        history: &mut History,
        watch: &mut Watch<'_>,
    ) -> Result<Control, TrainError> {
        let mut control = Control::Continue;
        let mut late: Option<(Pending, usize)> = None;
        let mut left = steps;
        while left > 0 || late.is_some() {
            let clock = Instant::now();
            let now = left.min(course.pace);
            let next = if now > 0 {
                course.run(&mut self.session, now)?;
                self.epochs = course.epochs();
                Some((self.session.read_later(&self.ring)?, now))
            } else {
                None
            };
            left -= now;
            if let Some((pending, count)) = late.take() {
                let from = history.losses.len();
                self.look(pending, count, course, history)?;
                if watch(from, history)? == Control::Stop {
                    (control, left) = (Control::Stop, 0);
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
        Ok(control)
    }

    /// Takes the last `count` steps out of the ring.
    fn look(
        &mut self,
        pending: Pending,
        count: usize,
        course: &mut Course,
        history: &mut History,
    ) -> Result<(), TrainError> {
        let bytes = pending.wait().map_err(shadegrad_graph::GraphError::from)?;
        let ring: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        for step in self.steps_done..self.steps_done + count {
            let loss = ring[step % RING];
            if !loss.is_finite() {
                let cause = self.cause(course, step);
                let cause =
                    cause.unwrap_or_else(|error| format!("why can't be found out: {error}"));
                return Err(TrainError::Diverged { step, loss, cause });
            }
            history.losses.push(loss);
            let found: Vec<f64> =
                ring.chunks(RING).skip(1).map(|row| f64::from(row[step % RING])).collect();
            let sums = added(self.followed(), &found);
            for (name, value) in Scores::of(0.0, self.followed(), &sums).metrics {
                history.metrics.entry(name).or_default().push(value as f32);
            }
            history.sums.resize(sums.len(), 0.0);
            history.sums.iter_mut().zip(&sums).for_each(|(all, own)| *all += own);
            self.steps_done += 1;
        }
        Ok(())
    }

    /// Where the loss that isn't finite comes from: the step is still there, as nothing was changed since.
    fn cause(&mut self, course: &mut Course, step: usize) -> Result<String, TrainError> {
        let part = self.session.read_array(&self.halted)?.data[0] as usize;
        let Some(part) = part.checked_sub(1).filter(|part| *part < self.turns.len()) else {
            return Ok("the device doesn't say in which part of the data".to_string());
        };
        let turn = self.session.read_array(&self.turns[part])?.data[0] as u32;
        let found = match course.loss(&mut self.session, part, turn)? {
            Some(loss) => self.session.first_not_finite(&loss)?,
            None => None,
        };
        let Some(found) = found else {
            return Ok(match self.is_mixed() {
                true => {
                    "activations or gradients that are finite in f32 exceed half precision, which ends at 65504, also with the lowest scale of the loss".into()
                }
                false => "no operation of the step is to blame".into(),
            });
        };
        let parameter = match &found.source {
            Source::Variable(variable, start) => self.parameters.at(variable, *start),
            Source::Operation(_) => None,
        };
        Ok(match parameter {
            Some(name) => {
                let shape = &found.shape;
                let since = if step == 0 { "the beginning" } else { "the update before the step" };
                format!("parameter `{name}` {shape:?} isn't finite since {since}")
            }
            None if self.is_mixed() => {
                format!("{found}; activations wait in half precision, which ends at 65504")
            }
            None => found.to_string(),
        })
    }

    /// What the training step costs, without running it; of the last of a data set's parts, whose samples are
    /// the largest.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    #[track_caller]
    pub fn report(&self, data: &dyn Dataset, batch: usize) -> Result<Report, TrainError> {
        Ok(self.plan(data, batch)?.report)
    }

    /// The training step, compiled for the device and not loaded, so nothing is allocated or uploaded; of the last of a data set's
    /// parts, whose samples are the largest.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    #[track_caller]
    pub fn plan(&self, data: &dyn Dataset, batch: usize) -> Result<Compiled, TrainError> {
        check(data, batch)?;
        let parts = data.parts(batch, None);
        let Some(part) = parts.last() else {
            return Err(TrainError::setting("the number of samples", 0, "at least 1"));
        };
        let nodes = self.record(&*part.samples, batch).nodes(&[])?;
        let limits = self.session.device().limits();
        Ok(shadegrad_graph::compile(&nodes, limits, &self.options)?)
    }

    /// The metrics that training follows.
    pub(crate) fn followed(&self) -> impl Iterator<Item = &dyn Metric> {
        self.metrics.iter().map(|metric| &**metric).filter(|metric| is_followed(*metric))
    }

    /// The names of all metrics.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        self.metrics.iter().map(|metric| metric.name()).collect()
    }

    /// The score that says which weights are best, and whether more of it is better: the one of a name, else the first
    /// metric, else the loss.
    pub(crate) fn monitored(&self, asked: Option<&str>) -> Result<(String, bool), TrainError> {
        let first = || self.metrics.first().map_or("loss".to_string(), |metric| metric.name());
        let name = asked.map_or_else(first, str::to_string);
        if name == "loss" {
            return Ok((name, false));
        }
        match self.metrics.iter().find(|metric| metric.name() == name) {
            Some(metric) => Ok((name, metric.higher_is_better())),
            None => Err(TrainError::Setting {
                what: "the score to monitor",
                value: format!("`{name}`"),
                expected: format!("`loss`, or one of {:?}", self.metric_names()),
            }),
        }
    }

    /// Steps that have been done in all.
    pub fn steps_done(&self) -> usize {
        self.steps_done
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
        let measure = Measure { model: &self.model, loss: &*self.loss, metrics: &self.metrics };
        Evaluator::new(&mut self.session, &measure, data, self.statistics)
    }

    /// Evaluates the model as it is on a data set that is on the device already.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn evaluate_with(&mut self, evaluator: &mut Evaluator) -> Result<Evaluation, TrainError> {
        evaluator.run(&mut self.session, &self.metrics)
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
}

/// The word that random numbers on the device depend on.
pub(crate) fn seed_word(seed: u64) -> u32 {
    seed as u32 ^ (seed >> 32) as u32
}

/// What is added up over steps, of the sums of one step.
pub(crate) fn added<'m>(metrics: impl Iterator<Item = &'m dyn Metric>, sums: &[f64]) -> Vec<f64> {
    with_sums(metrics, sums).flat_map(|(metric, own)| metric.added(own)).collect()
}

/// Is told of the first new step of a history.
pub(crate) type Watch<'w> = dyn FnMut(usize, &History) -> Result<Control, TrainError> + 'w;

/// Whether a metric is told from a few numbers, so that training follows it.
fn is_followed(metric: &dyn Metric) -> bool {
    metric.sizes().iter().all(|&size| size == 1)
}

/// Where the device leaves what the host looks at.
fn ring(metrics: &[Box<dyn Metric>]) -> Variable {
    let followed = metrics.iter().filter(|metric| is_followed(&***metric));
    let sums: usize = followed.map(|metric| metric.sizes().len()).sum();
    Variable::new("ring", &[1 + sums, RING], DType::F32, Init::Full(0.0))
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
