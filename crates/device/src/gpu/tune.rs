//! The autotuner: which of a few shaders computes a contraction fastest on this device, found out by running them.
//!
//! A program's contractions are measured while it is loaded, those of most work first, where they will run: in its scratch memory, which holds
//! nothing yet, and with other memory in place of what outlives a step and would be overwritten. What was found for a shape is kept in a file and not measured
//! again, so later runs compute with the same shaders and have the same bits.

use super::load::{Compiled, Dispatch, Pipeline, dispatches, pipeline};
use super::{Rendered, Shared, Variant, lock, render};
use crate::device::Memory;
use crate::{
    Algorithm, Autotune, Body, Buffer, DeviceClass, DeviceError, DeviceInfo, Kernel, Limits,
    Program, Tile, Tuned, Tuning,
};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shaders that are measured for one shape, at most.
const CANDIDATES: usize = 4;
/// Times that each is measured, in turn with the others; the least counts.
const ROUNDS: usize = 3;
/// How long each of these takes at least, if the dispatch may be repeated so often: much longer than handing it to a driver.
const MEASURED: Duration = Duration::from_millis(3);
/// Repetitions, at most.
const REPEATED: u32 = 1000;
/// How much of the time without measuring another shader may take to be chosen: less than what is noise.
const FASTER: f64 = 0.95;

/// One way to compute a contraction.
struct Candidate {
    name: String,
    variant: Variant,
    rendered: Rendered,
}

/// The ways to compute contractions on a class of devices, each next to those that differ least: algorithm, tile, and
/// whether sources are loaded in vectors.
fn ways(limits: &Limits) -> Vec<(Algorithm, Option<Tile>, Option<bool>)> {
    let direct = (Algorithm::Direct, None, None);
    match limits.class {
        DeviceClass::Software => {
            let vectors = [false, true].map(|vectors| (Algorithm::Subgroups, None, Some(vectors)));
            [direct].into_iter().chain(vectors).collect()
        }
        _ => {
            let tiles = Tile::ALL.iter().filter(|tile| tile.fits(limits));
            let tiles = tiles.map(|&tile| (Algorithm::Tiled, Some(tile), None));
            tiles.chain([direct]).collect()
        }
    }
}

/// The ways that are measured for a kernel, the one that is taken without measuring first; none where there is no choice.
fn candidates(
    kernel: &Kernel,
    limits: &Limits,
    variant: &Variant,
) -> Result<Vec<Candidate>, String> {
    let Body::Contract { contraction, .. } = &kernel.body else { return Ok(vec![]) };
    let forced = variant.algorithm.is_some() || variant.tile.is_some() || variant.vectors.is_some();
    // They round otherwise than all else, which is for who asks for them to choose.
    let cooperative = Algorithm::of(contraction, limits, None) == Algorithm::Cooperative;
    if forced || cooperative {
        return Ok(vec![]);
    }
    let usual = render(kernel, limits, variant)?;
    let mut all: Vec<Candidate> = Vec::new();
    for (algorithm, tile, vectors) in ways(limits) {
        if Algorithm::of(contraction, limits, Some(algorithm)) != algorithm {
            continue;
        }
        let name = match (algorithm, tile, vectors) {
            (_, Some(tile), _) => format!("{algorithm:?}, {tile}"),
            (_, _, Some(true)) => format!("{algorithm:?}, in vectors"),
            _ => format!("{algorithm:?}"),
        };
        let variant = Variant { algorithm: Some(algorithm), tile, vectors, ..variant.clone() };
        let rendered = render(kernel, limits, &variant)?;
        if all.iter().all(|other| other.rendered.source != rendered.source) {
            all.push(Candidate { name, variant, rendered });
        }
    }
    let Some(first) = all.iter().position(|way| way.rendered.source == usual.source) else {
        return Ok(vec![]);
    };
    let mut places: Vec<usize> = (0..all.len()).collect();
    places.sort_by_key(|place| place.abs_diff(first));
    places.truncate(CANDIDATES);
    let mut all: Vec<Option<Candidate>> = all.into_iter().map(Some).collect();
    Ok(places.into_iter().filter_map(|place| all[place].take()).collect())
}

/// Chooses how the contractions of a program are computed, if the device is to find that out by measuring: the variants of kernels, by their
/// numbers.
pub(super) fn choose(
    shared: &Arc<Shared>,
    info: &DeviceInfo,
    program: &Program,
    buffers: &[Buffer],
) -> Result<HashMap<usize, Variant>, DeviceError> {
    let mut chosen = HashMap::new();
    if lock(&shared.tuner).is_none() {
        return Ok(chosen);
    }
    let mut numbers: Vec<usize> = (0..program.kernels.len()).collect();
    numbers.sort_by_key(|&number| std::cmp::Reverse(program.kernels[number].body.flops()));
    for number in numbers {
        let kernel = &program.kernels[number];
        let Some(shape) = render::shape(kernel) else { continue };
        let mut candidates = candidates(kernel, &shared.limits, &shared.variant)
            .map_err(|reason| DeviceError::Shader { label: kernel.label.clone(), reason })?;
        let names: Vec<String> = candidates.iter().map(|way| way.name.clone()).collect();
        if names.len() < 2 {
            continue;
        }
        // Not locked while shaders compile: their threads may load programs, too.
        let known = lock(&shared.tuner).as_mut().and_then(|tuner| tuner.known(&shape, &names));
        let place = match known {
            Some(place) => place,
            None => {
                let began = Instant::now();
                let dispatches = compiled(shared, info, kernel, &candidates, program, buffers);
                let mut tuner = lock(&shared.tuner);
                let Some(tuner) = tuner.as_mut() else { continue };
                let times = match dispatches {
                    Some(dispatches) => measured(shared, &dispatches, names.len())?,
                    None => vec![],
                };
                tuner.record(&shape, &names, &times, began.elapsed())
            }
        };
        chosen.insert(number, candidates.swap_remove(place).variant);
    }
    if let Some(tuner) = lock(&shared.tuner).as_ref() {
        tuner.save();
    }
    Ok(chosen)
}

/// A dispatch of each candidate that compiles; `None` where memory is missing.
fn compiled(
    shared: &Arc<Shared>,
    info: &DeviceInfo,
    kernel: &Kernel,
    candidates: &[Candidate],
    program: &Program,
    buffers: &[Buffer],
) -> Option<Vec<Dispatch>> {
    let mut buffers = buffers.to_vec();
    for (number, _) in candidates[0].rendered.bindings.iter().filter(|(_, written)| *written) {
        // What is in scratch memory is computed anew in every step.
        if program.buffers[*number].external {
            let bytes = buffers[*number].bytes().next_multiple_of(16);
            let usage = wgpu::BufferUsages::STORAGE;
            let memory = shared.create("instead of a variable", bytes, usage).ok()?;
            buffers[*number] = buffers[*number].in_memory(Memory::Gpu(memory));
        }
    }
    let pipelines: Vec<Option<Arc<Pipeline>>> = candidates
        .par_iter()
        .map(|way| pipeline(shared, &kernel.label, &way.rendered).ok())
        .collect();
    let compiled = candidates.iter().zip(pipelines).enumerate();
    let compiled = compiled
        .filter_map(|(place, (way, pipeline))| Some((place, way.rendered.clone(), pipeline?)));
    let compiled: Vec<Compiled> = compiled.collect();
    let mut dispatches = dispatches(shared, info, compiled, &buffers).ok()?;
    // Parts of a kernel take as long as each other.
    dispatches.dedup_by_key(|dispatch| dispatch.kernel);
    Some(dispatches)
}

/// How long a dispatch of each candidate takes, in seconds; infinitely long if there is none.
fn measured(
    shared: &Shared,
    dispatches: &[Dispatch],
    candidates: usize,
) -> Result<Vec<f64>, DeviceError> {
    let mut times = vec![f64::INFINITY; candidates];
    let mut repeated = None;
    for _ in 0..ROUNDS {
        for dispatch in dispatches {
            let repeated = match repeated {
                Some(repeated) => repeated,
                None => {
                    // The first is slower than any other, so it is run twice.
                    timed(shared, dispatch, 1)?;
                    let once = timed(shared, dispatch, 1)?;
                    let wanted = (MEASURED.as_secs_f64() / once.as_secs_f64().max(1e-6)).ceil();
                    let may = (1.0 / dispatch.span).max(1.0);
                    *repeated.insert((wanted.min(may) as u32).clamp(1, REPEATED))
                }
            };
            let took = timed(shared, dispatch, repeated)?.as_secs_f64() / f64::from(repeated);
            times[dispatch.kernel] = times[dispatch.kernel].min(took);
        }
    }
    Ok(times)
}

/// How long a dispatch takes, so many times one after the other.
fn timed(shared: &Shared, dispatch: &Dispatch, repeated: u32) -> Result<Duration, DeviceError> {
    let mut encoder = shared.encoder();
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    let mut before = None;
    for _ in 0..repeated {
        dispatch.record(&mut pass, before);
        before = Some(dispatch);
    }
    drop(pass);
    shared.wait(None)?;
    let began = Instant::now();
    let submission = shared.submit(encoder);
    shared.count(|c| c.dispatches += u64::from(repeated));
    shared.wait(Some(submission))?;
    Ok(began.elapsed())
}

/// What is known of a device's fastest shaders.
pub(super) struct Tuner {
    /// The file that keeps it.
    path: Option<PathBuf>,
    /// What the file is about, its first line: choices of other devices, drivers and versions are none for this one.
    about: String,
    /// The names of what computes each shape.
    choices: BTreeMap<String, String>,
    /// How long it may go on measuring.
    left: Duration,
    /// What it has done.
    pub(super) tuning: Tuning,
}

impl Tuner {
    /// With what earlier runs have kept of a device.
    pub(super) fn new(settings: Autotune, device: &str) -> Tuner {
        let about = format!("shadegrad {}, {device}", env!("CARGO_PKG_VERSION"));
        // A file for each device; what it is about is in it, too.
        let letters = device.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        let name = format!("tuned-{}.txt", letters.collect::<String>());
        let path = settings.folder.map(|folder| folder.join(name));
        let (left, tuning) = (settings.budget, Tuning::default());
        let mut tuner = Tuner { path, about, choices: BTreeMap::new(), left, tuning };
        tuner.choices = tuner.kept();
        tuner
    }

    /// What the file keeps: nothing if it is missing, damaged or about something else.
    fn kept(&self) -> BTreeMap<String, String> {
        let read = self.path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let text = read.unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(&self.about) {
            return BTreeMap::new();
        }
        let pairs = lines.filter_map(|line| line.split_once(": "));
        pairs.map(|(shape, name)| (shape.to_string(), name.to_string())).collect()
    }

    /// What computes a shape without measuring it now: what was found before, or the first if time is up.
    fn known(&mut self, shape: &str, names: &[String]) -> Option<usize> {
        let chosen = self.choices.get(shape);
        let place = chosen.and_then(|chosen| names.iter().position(|name| name == chosen));
        if place.is_some() {
            self.tuning.known += 1;
            return place;
        }
        self.tuning.left_out += usize::from(self.left.is_zero());
        self.left.is_zero().then_some(0)
    }

    /// The fastest of what was measured, which is kept for later.
    fn record(&mut self, shape: &str, names: &[String], times: &[f64], took: Duration) -> usize {
        self.left = self.left.saturating_sub(took);
        let Some(&usual) = times.first().filter(|usual| usual.is_finite()) else {
            self.tuning.left_out += 1;
            return 0;
        };
        let fastest = (0..times.len()).min_by(|&a, &b| times[a].total_cmp(&times[b])).unwrap_or(0);
        let place = if times[fastest] < usual * FASTER { fastest } else { 0 };
        let chosen = names[place].clone();
        self.choices.insert(shape.to_string(), chosen.clone());
        let gain = usual / times[place];
        self.tuning.measured.push(Tuned { shape: shape.to_string(), chosen, gain, took });
        place
    }

    /// Writes what was found beside what others have written meanwhile.
    fn save(&self) {
        let Some(path) = &self.path else { return };
        let kept = self.kept();
        let mut all = kept.clone();
        all.extend(self.choices.clone());
        if all == kept {
            return;
        }
        let lines = all.iter().map(|(shape, name)| format!("{shape}: {name}\n"));
        let text = format!("{}\n{}", self.about, lines.collect::<String>());
        crate::cache::keep(path, text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["usual", "other", "third"];

    fn tuner(seconds: f64) -> Tuner {
        let budget = Duration::from_secs_f64(seconds);
        Tuner::new(Autotune { budget, folder: None }, "a device")
    }

    fn names() -> Vec<String> {
        NAMES.map(str::to_string).to_vec()
    }

    #[test]
    fn only_what_is_clearly_faster_is_chosen() {
        let mut tuner = tuner(60.0);
        let took = Duration::from_secs(1);
        assert_eq!(tuner.record("near", &names(), &[1.0, 0.96, 2.0], took), 0);
        assert_eq!(tuner.record("far", &names(), &[1.0, 0.9, 0.5], took), 2);
        assert_eq!(tuner.record("broken", &names(), &[1.0, f64::INFINITY, 1.0], took), 0);
        let gains: Vec<f64> = tuner.tuning.measured.iter().map(|tuned| tuned.gain).collect();
        assert_eq!(gains, [1.0, 2.0, 1.0]);
        assert_eq!(["near", "far"].map(|shape| tuner.known(shape, &names())), [Some(0), Some(2)]);
        assert_eq!(tuner.known("new", &names()), None);
    }

    #[test]
    fn time_that_is_up_ends_measuring_and_what_failed_is_not_kept() {
        let mut tuner = tuner(1.5);
        let took = Duration::from_secs(1);
        tuner.record("first", &names(), &[1.0, 0.5, 0.7], took);
        assert_eq!(tuner.known("second", &names()), None);
        assert_eq!(tuner.record("second", &names(), &[], took), 0, "no memory");
        assert_eq!(tuner.known("second", &names()), Some(0), "time is up");
        assert_eq!(tuner.known("first", &names()), Some(1));
        assert_eq!((tuner.tuning.known, tuner.tuning.left_out), (1, 2));
        assert_eq!(tuner.choices.len(), 1);
    }
}
