//! What a trainer is at a step: weights on disk, and checkpoints with all that training goes on from.

use crate::checkpoint::{self, STATE};
use crate::fit::{Best, Past};
use crate::tensors::{Stored, TensorFile};
use crate::trainer::seed_word;
use crate::{
    Course, Epoch, History, Scores, Statistics, TrainError, Trainer, Weights, WeightsError,
};
use bytemuck::{AnyBitPattern, NoUninit};
use safetensors::tensor::Dtype;
use shadegrad_graph::Variable;
use shadegrad_models::{Memory, Module};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

/// Of files that this can't read.
const VERSION: u64 = 1;

/// A place in a course.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) batch: usize,
    pub(crate) sizes: Vec<usize>,
    /// Epochs of earlier courses.
    pub(crate) before: usize,
    /// Epochs of this course that have begun.
    pub(crate) epoch: usize,
    /// Steps until the end of the epoch.
    pub(crate) left: usize,
    /// Steps on each part of the data.
    pub(crate) turns: Vec<u32>,
}

impl Position {
    /// Refuses to go on with another batch or other data.
    pub(crate) fn fits(&self, batch: usize, sizes: &[usize]) -> Result<(), TrainError> {
        if batch != self.batch {
            let expected = format!("{}, as it was when the checkpoint was written", self.batch);
            return Err(TrainError::setting("the batch size", batch, &expected));
        }
        if sizes != self.sizes {
            return Err(TrainError::Setting {
                what: "the number of samples of each part of the data",
                value: format!("{sizes:?}"),
                expected: format!("{:?}, as when the checkpoint was written", self.sizes),
            });
        }
        Ok(())
    }
}

/// What [`Trainer::load_matching`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Names that were taken.
    pub loaded: Vec<String>,
    /// Names of the model that the file doesn't have.
    pub missing: Vec<String>,
    /// Names of the file that the model doesn't have.
    pub extra: Vec<String>,
    /// Names of both with their shapes, in the file and in the model.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl std::fmt::Display for Matched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tensors loaded", self.loaded.len())?;
        let lists = [("missing in the file", &self.missing), ("not in the model", &self.extra)];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "; {what}: {}", names.join(", "))?;
        }
        for (name, found, wanted) in &self.misshapen {
            write!(f, "; {name} is {found:?} in the file, {wanted:?} in the model")?;
        }
        Ok(())
    }
}

/// What [`Trainer::resume`] found.
#[derive(Debug)]
pub struct Resumed {
    /// The checkpoint.
    pub path: PathBuf,
    /// Steps that are done.
    pub step: usize,
    /// Newer checkpoints that could not be read, and why.
    pub damaged: Vec<TrainError>,
}

impl<M: Module> Trainer<M> {
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
        if let Some(Statistics { mean, deviation }) =
            self.statistics.filter(|statistics| *statistics != Statistics::NONE)
        {
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

    /// Takes from a file what the model has under the same names and in the same shapes, as for a model with another
    /// last layer, and leaves the rest of the model as it is. How inputs are normalised is not taken: that is said by the data that is trained on.
    ///
    /// # Errors
    /// [`TrainError::Weights`] for a file that is damaged, or that has nothing of the model.
    pub fn load_matching(&mut self, path: impl AsRef<Path>) -> Result<Matched, TrainError> {
        let path = path.as_ref();
        let file = Weights::load(path)?;
        let mut weights = self.weights()?;
        let mut matched = Matched::default();
        for (name, (shape, own)) in &mut weights.tensors {
            match file.tensors.get(name) {
                Some((found, data)) if found == shape => {
                    own.clone_from(data);
                    matched.loaded.push(name.clone());
                }
                Some((found, _)) => {
                    matched.misshapen.push((name.clone(), found.clone(), shape.clone()));
                }
                None => matched.missing.push(name.clone()),
            }
        }
        let extra = file.tensors.keys().filter(|name| !weights.tensors.contains_key(*name));
        matched.extra = extra.cloned().collect();
        if matched.loaded.is_empty() {
            let (path, report) = (path.to_path_buf(), format!("\n  {matched}"));
            return Err(WeightsError::Mismatch { path, report }.into());
        }
        self.restore(&weights, path)?;
        Ok(matched)
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

impl<M: Module> Trainer<M> {
    /// Writes a checkpoint of a course and its history, whole or not at all. [`Fit::checkpoints`](crate::Fit::checkpoints) does so
    /// by itself.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the file can't be written, [`TrainError::Graph`] if the device can't be read.
    pub fn save_checkpoint(
        &mut self,
        path: impl AsRef<Path>,
        course: &Course,
        history: &History,
    ) -> Result<(), TrainError> {
        let past = Past { history: history.clone(), best: None };
        self.save_past(path.as_ref(), course, &past)
    }

    pub(crate) fn save_past(
        &mut self,
        path: &Path,
        course: &Course,
        past: &Past,
    ) -> Result<(), TrainError> {
        let weights = self.weights()?;
        let wrong = |(_, (_, data)): &(&String, &(Vec<usize>, Vec<f32>))| {
            data.iter().any(|value| !value.is_finite())
        };
        if let Some((name, _)) = weights.tensors.iter().find(wrong) {
            // It would take the place of one from which training can go on.
            let cause = format!("parameter `{name}` isn't finite after the step before");
            let (step, loss) = (self.steps_done, f32::NAN);
            return Err(TrainError::Diverged { step, loss, cause });
        }
        let mut file = TensorFile { notes: weights.notes.clone(), ..TensorFile::default() };
        weights.put(&mut file, "");
        let mut read: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (name, shape, variable, range) in self.optimizer_state() {
            let whole = match read.entry(variable.id()) {
                Entry::Occupied(whole) => whole.into_mut(),
                Entry::Vacant(place) => place.insert(self.session.read(&variable)?),
            };
            let bytes = whole[range].to_vec();
            file.tensors.insert(name, Stored { dtype: Dtype::F32, shape, bytes });
        }
        let word = |bytes: Vec<u8>| bytes.try_into().map_or(0, u32::from_le_bytes);
        let mut words =
            |variable: &Variable| Ok::<_, TrainError>(word(self.session.read(variable)?));
        let step = words(&self.step)?;
        let turns = self.turns.iter().map(&mut words).collect::<Result<Vec<u32>, _>>()?;
        let place = course.position(turns);
        let Past { history, best } = past;
        let mut keep = |name: &str, stored| file.tensors.insert(format!("{STATE}{name}"), stored);
        let mut numbers = |name: &str, values: &[u64]| {
            keep(name, Stored::new(Dtype::U64, vec![values.len()], values));
        };
        let wide = |values: &[usize]| values.iter().map(|&v| v as u64).collect::<Vec<u64>>();
        numbers("version", &[VERSION]);
        numbers("step", &[u64::from(step)]);
        numbers("seed", &[self.seed_value]);
        numbers("done", &wide(&[self.steps_done, self.epochs]));
        numbers("place", &wide(&[place.batch, place.before, place.epoch, place.left]));
        numbers("sizes", &wide(&place.sizes));
        numbers("turns", &place.turns.iter().map(|&t| u64::from(t)).collect::<Vec<_>>());
        numbers("epoch_start", &wide(&[history.epoch_start]));
        numbers("best_epoch", &wide(&history.best.map_or(vec![], |best| vec![best])));
        let mut floats = |name: &str, shape: Vec<usize>, values: &[f64]| {
            keep(name, Stored::new(Dtype::F64, shape, values));
        };
        floats("sums", vec![history.sums.len()], &history.sums);
        let (followed, all) = (self.followed().count(), self.metric_names().len());
        let row = |epoch: &Epoch| {
            let none = Scores { loss: f64::NAN, metrics: vec![(String::new(), f64::NAN); all] };
            let seen = f64::from(u8::from(epoch.validation.is_some()));
            let validation = epoch.validation.as_ref().unwrap_or(&none);
            let head = [epoch.number as f64, epoch.samples_per_second, seen];
            [head.to_vec(), flat(&epoch.train), flat(validation)].concat()
        };
        let rows: Vec<f64> = history.epochs.iter().flat_map(row).collect();
        floats("epochs", vec![history.epochs.len(), 5 + followed + all], &rows);
        let rows = history.validations.iter();
        let rows: Vec<f64> =
            rows.flat_map(|(at, s)| [vec![*at as f64], flat(s)].concat()).collect();
        floats("validations", vec![history.validations.len(), 2 + all], &rows);
        let found = best.as_ref().map(|b| vec![b.score, b.epoch as f64, b.waited as f64]);
        floats("best", vec![if found.is_some() { 3 } else { 0 }], &found.unwrap_or_default());
        let mut singles = |name: &str, values: &[f32]| {
            keep(name, Stored::new(Dtype::F32, vec![values.len()], values));
        };
        singles("losses", &history.losses);
        for (name, values) in &history.metrics {
            singles(&format!("metric/{name}"), values);
        }
        if let Some(weights) = best.as_ref().and_then(|best| best.weights.as_ref()) {
            weights.put(&mut file, &format!("{STATE}best/"));
        }
        file.notes.insert("metrics".into(), self.metric_names().join(","));
        Ok(file.save(path)?)
    }

    /// Takes up training where a checkpoint was written: weights, the optimizer's state, seed, counters, and, for the next [`Trainer::fit`] or
    /// [`Trainer::start`], the place in the data and what has happened so far. What follows has the same bits as if training had never ended,
    /// on the same device with the same settings. Of a folder the newest whole checkpoint is taken.
    ///
    /// # Errors
    /// [`TrainError::Weights`] for a file that is damaged or of another model; the trainer stays as it is.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<Resumed, TrainError> {
        let path = path.as_ref();
        if !path.is_dir() {
            let step = self.resume_from(path)?;
            return Ok(Resumed { path: path.to_path_buf(), step, damaged: vec![] });
        }
        let mut damaged = Vec::new();
        for path in checkpoint::list(path)? {
            match self.resume_from(&path) {
                Ok(step) => return Ok(Resumed { path, step, damaged }),
                Err(error @ TrainError::Weights(WeightsError::Format { .. })) => {
                    damaged.push(error)
                }
                Err(error) => return Err(error),
            }
        }
        let none =
            std::io::Error::new(std::io::ErrorKind::NotFound, "no whole checkpoint is there");
        Err(damaged.into_iter().next().unwrap_or_else(|| checkpoint::io(path, none)))
    }

    fn resume_from(&mut self, path: &Path) -> Result<usize, TrainError> {
        let file = TensorFile::load(path)?;
        let reader = Reader { file: &file, path };
        if !file.tensors.contains_key(&format!("{STATE}version")) {
            return Err(reader.unfit("it has weights only: `load` reads them").into());
        }
        if reader.numbers("version")? != [VERSION] {
            return Err(reader.unfit("another version of this program wrote it").into());
        }
        let names = self.metric_names().join(",");
        if file.notes.get("metrics") != Some(&names) {
            let found = file.notes.get("metrics").map_or("", String::as_str);
            let reason = format!("its metrics are `{found}`, not `{names}`");
            return Err(reader.unfit(&reason).into());
        }
        self.knows_all(&reader)?;
        // All is read before anything is changed.
        let [batch, before, epoch, left] = reader.array("place")?;
        let word = |v: u64| u32::try_from(v).map_err(|_| reader.wrong("a counter is too large"));
        let turns =
            reader.numbers("turns")?.into_iter().map(word).collect::<Result<Vec<u32>, _>>()?;
        let sizes = reader.numbers("sizes")?.iter().map(|&v| v as usize).collect();
        let position = Position { batch, sizes, before, epoch, left, turns };
        let ([steps_done, epochs], [step]) = (reader.array("done")?, reader.array("step")?);
        // Every epoch has a step.
        let possible = step == steps_done && epoch <= steps_done + 1 && left <= isize::MAX as usize;
        let step = word(step as u64)?;
        if !possible {
            return Err(reader.wrong("its counters contradict each other").into());
        }
        let [seed] = reader.numbers("seed")?[..] else {
            return Err(reader.wrong("it has no seed").into());
        };
        let past = self.past_of(&reader)?;
        let mut state = Vec::new();
        for (name, shape, variable, range) in self.optimizer_state() {
            state.push((variable, range, reader.state(&name, &shape)?));
        }
        self.restore(&Weights::take(&file, "", path)?, path)?;
        let mut whole: Vec<(Variable, Vec<u8>)> = Vec::new();
        for (variable, range, bytes) in state {
            if whole.last().is_none_or(|(last, _)| last.id() != variable.id()) {
                whole.push((variable.clone(), vec![0; variable.ty().bytes()]));
            }
            if let Some((_, all)) = whole.last_mut() {
                all[range].copy_from_slice(bytes);
            }
        }
        for (variable, bytes) in whole {
            self.session.write(&variable, &bytes)?;
        }
        self.session.write(&self.step, &step.to_le_bytes())?;
        self.session.write(&self.seed, &seed_word(seed).to_le_bytes())?;
        (self.seed_value, self.steps_done, self.epochs) = (seed, steps_done, epochs);
        self.resumed = Some((position, past));
        Ok(steps_done)
    }

    fn past_of(&self, reader: &Reader<'_>) -> Result<Past, TrainError> {
        let followed: Vec<String> = self.followed().map(|metric| metric.name()).collect();
        let all = self.metric_names();
        let scores = |names: &[String], values: &[f64]| Scores {
            loss: values[0],
            metrics: names.iter().cloned().zip(values[1..].iter().copied()).collect(),
        };
        let mut history = History { losses: reader.singles("losses")?, ..History::default() };
        for name in &followed {
            let values = reader.singles(&format!("metric/{name}"));
            // Before the first step there are none.
            let values = if history.losses.is_empty() { vec![] } else { values? };
            history.metrics.insert(name.clone(), values);
        }
        history.metrics.retain(|_, values| !values.is_empty());
        let split = 4 + followed.len();
        for row in reader.floats("epochs")?.chunks_exact(5 + followed.len() + all.len()) {
            let validation = (row[2] > 0.0).then(|| scores(&all, &row[split..]));
            let train = scores(&followed, &row[3..split]);
            let (number, samples_per_second) = (row[0] as usize, row[1]);
            history.epochs.push(Epoch { number, train, samples_per_second, validation });
        }
        for row in reader.floats("validations")?.chunks_exact(2 + all.len()) {
            history.validations.push((row[0] as usize, scores(&all, &row[1..])));
        }
        history.sums = reader.floats("sums")?;
        [history.epoch_start] = reader.array("epoch_start")?;
        let steps = history.losses.len();
        let whole = history.metrics.values().all(|values| values.len() == steps);
        if history.epoch_start > steps || !whole {
            return Err(reader.wrong("its history contradicts itself").into());
        }
        history.best = reader.numbers("best_epoch")?.first().map(|&best| best as usize);
        let best = match reader.floats("best")?[..] {
            [score, epoch, waited] => {
                let weights = Weights::take(reader.file, &format!("{STATE}best/"), reader.path)?;
                let weights = (!weights.tensors.is_empty()).then_some(weights);
                Some(Best { score, epoch: epoch as usize, waited: waited as usize, weights })
            }
            _ => None,
        };
        Ok(Past { history, best })
    }

    /// Refuses a checkpoint with state that this trainer has no place for.
    fn knows_all(&self, reader: &Reader<'_>) -> Result<(), TrainError> {
        let own: Vec<String> = self.optimizer_state().into_iter().map(|(name, ..)| name).collect();
        let kinds = ["optimizer", "gradient", "ema", "schedule", "scaler"]
            .map(|kind| format!("{STATE}{kind}"));
        let foreign = |name: &&String| {
            kinds.iter().any(|kind| name.starts_with(kind)) && !own.contains(*name)
        };
        match reader.file.tensors.keys().find(foreign) {
            Some(name) => {
                let reason =
                    format!("it has `{name}`, which is no state of this trainer's optimizer");
                Err(reader.unfit(&reason).into())
            }
            None => Ok(()),
        }
    }

    /// What the optimizer remembers: name in files, shape, the variable that it is in, and where. What there is one of for each parameter is
    /// named and cut as the parameters are, so that it doesn't matter how these are laid out in shards.
    fn optimizer_state(&self) -> Vec<(String, Vec<usize>, Variable, std::ops::Range<usize>)> {
        let mut state = Vec::new();
        for Memory { name, shard, variable } in self.updater.state() {
            let bytes = variable.ty().dtype.bytes();
            let whole = shard.map(|number| (number, &self.parameters.shards()[number]));
            match whole.filter(|(_, shard)| shard.ty().shape == variable.ty().shape) {
                Some((number, shard)) => {
                    let kind = name.replacen(&format!(".{number}"), "", 1);
                    for (parameter, start, shape) in self.parameters.places(shard) {
                        let end = start + shape.iter().product::<usize>();
                        let name = format!("{STATE}{kind}/{parameter}");
                        let range = start * bytes..end * bytes;
                        state.push((name, shape.to_vec(), variable.clone(), range));
                    }
                }
                None => {
                    let shape = variable.ty().shape.clone();
                    let range = 0..variable.ty().bytes();
                    state.push((format!("{STATE}{name}"), shape, variable, range));
                }
            }
        }
        state
    }
}

/// Loss and metrics, one after the other.
fn flat(scores: &Scores) -> Vec<f64> {
    std::iter::once(scores.loss).chain(scores.metrics.iter().map(|(_, value)| *value)).collect()
}

/// Reads what a checkpoint holds besides weights.
struct Reader<'a> {
    file: &'a TensorFile,
    path: &'a Path,
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: &str) -> WeightsError {
        WeightsError::Format { path: self.path.to_path_buf(), reason: reason.to_string() }
    }

    /// Of a whole file that isn't one of this trainer.
    fn unfit(&self, reason: &str) -> WeightsError {
        let report = format!("\n  {reason}");
        WeightsError::Mismatch { path: self.path.to_path_buf(), report }
    }

    fn stored(&self, name: &str, dtype: Dtype) -> Result<&'a Stored, WeightsError> {
        match self.file.tensors.get(name) {
            Some(stored) if stored.dtype == dtype => Ok(stored),
            Some(stored) => {
                Err(self.wrong(&format!("`{name}` is {:?}, not {dtype:?}", stored.dtype)))
            }
            None => Err(self.unfit(&format!("`{name}` is missing"))),
        }
    }

    /// The numbers of a tensor of the checkpoint's own.
    fn list<T: AnyBitPattern + NoUninit>(
        &self,
        name: &str,
        dtype: Dtype,
    ) -> Result<Vec<T>, WeightsError> {
        let stored = self.stored(&format!("{STATE}{name}"), dtype)?;
        Ok(bytemuck::pod_collect_to_vec(&stored.bytes))
    }

    fn numbers(&self, name: &str) -> Result<Vec<u64>, WeightsError> {
        self.list(name, Dtype::U64)
    }

    /// So many numbers.
    fn array<const N: usize>(&self, name: &str) -> Result<[usize; N], WeightsError> {
        let found: Vec<usize> = self.numbers(name)?.iter().map(|&v| v as usize).collect();
        let count = found.len();
        found.try_into().map_err(|_| self.wrong(&format!("`{name}` has {count} numbers, not {N}")))
    }

    fn floats(&self, name: &str) -> Result<Vec<f64>, WeightsError> {
        self.list(name, Dtype::F64)
    }

    fn singles(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        self.list(name, Dtype::F32)
    }

    /// State of the optimizer, in a shape.
    fn state(&self, name: &str, shape: &[usize]) -> Result<&'a [u8], WeightsError> {
        let stored = self.stored(name, Dtype::F32)?;
        match stored.shape == shape {
            true => Ok(&stored.bytes),
            false => Err(self.unfit(&format!("`{name}` is {:?}, not {shape:?}", stored.shape))),
        }
    }
}
