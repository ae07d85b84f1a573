//! The autotuner: which of a few shaders computes a contraction fastest on this device, found out by running them.
//!
//! A program's contractions are measured while it is loaded, those of most work first, where they will run: in its scratch memory,
//! which holds nothing yet, and with other memory in place of what outlives a step and would be overwritten. What was found for
//! a shape is kept in a file and not measured again, so later runs compute it with the same shader.

use super::load::{Compiled, Dispatch, dispatches, pipeline};
use super::{Rendered, Shared, Variant, lock, render};
use crate::device::Memory;
use crate::{
    Algorithm, Autotune, Body, Buffer, Contraction, DeviceClass, DeviceError, DeviceInfo,
    Intrinsic, Kernel, Limits, Program, Term, Tile, Tuned, Tuning,
};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
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
const REPEATED: u32 = 1024;
/// How long all rounds together may take; what takes longer is measured once.
const LONG: Duration = Duration::from_millis(500);
/// How much of the time without measuring another shader may take to be chosen: what is closer may be noise.
const FASTER: f64 = 0.95;

/// One way to compute a contraction.
#[derive(Clone, Copy, PartialEq)]
struct Way {
    algorithm: Algorithm,
    tile: Option<Tile>,
    vectors: Option<bool>,
}

impl Way {
    /// The ways there are on a class of devices, each next to those that differ least.
    fn all(limits: &Limits) -> Vec<Way> {
        let direct = Way { algorithm: Algorithm::Direct, tile: None, vectors: None };
        match limits.class {
            DeviceClass::Software => {
                let algorithm = Algorithm::Subgroups;
                let vectors =
                    [false, true].map(|v| Way { algorithm, tile: None, vectors: Some(v) });
                [direct].into_iter().chain(vectors).collect()
            }
            _ => {
                let algorithm = Algorithm::Tiled;
                let tiles = Tile::ALL.into_iter().filter(|tile| tile.fits(limits));
                let tiles = tiles.map(|tile| Way { algorithm, tile: Some(tile), vectors: None });
                tiles.chain([direct]).collect()
            }
        }
    }

    fn name(&self) -> String {
        let Way { algorithm, tile, vectors } = self;
        match (tile, vectors) {
            (Some(tile), _) => format!("{algorithm:?}, {tile}"),
            (_, Some(true)) => format!("{algorithm:?}, in vectors"),
            _ => format!("{algorithm:?}"),
        }
    }

    fn variant(&self, variant: &Variant) -> Variant {
        let Way { algorithm, tile, vectors } = *self;
        Variant { algorithm: Some(algorithm), tile, vectors, ..variant.clone() }
    }
}

/// A kernel's contraction, if there is a choice of how it is computed.
fn open<'k>(kernel: &'k Kernel, limits: &Limits, variant: &Variant) -> Option<&'k Contraction> {
    let Body::Contract { contraction, .. } = &kernel.body else { return None };
    let forced = variant.algorithm.is_some() || variant.tile.is_some() || variant.vectors.is_some();
    // They round otherwise than all else, which is for who asks for them to choose.
    let cooperative = Algorithm::of(contraction, limits, None) == Algorithm::Cooperative;
    // What users write may not end on numbers that it isn't made for, such as those of empty memory.
    let custom = kernel
        .expr
        .terms
        .iter()
        .any(|term| matches!(term, Term::Apply { op: Intrinsic::Custom(_), .. }));
    (!forced && !cooperative && !custom).then_some(contraction)
}

/// A way as a shader.
struct Candidate {
    way: Way,
    rendered: Rendered,
}

/// The ways that are measured for a kernel, the one that is taken without measuring first.
fn candidates(
    kernel: &Kernel,
    contraction: &Contraction,
    limits: &Limits,
    variant: &Variant,
) -> Result<Vec<Candidate>, String> {
    let usual = render(kernel, limits, variant)?;
    if usual.groups.contains(&0) {
        return Ok(vec![]);
    }
    let mut all: Vec<Candidate> = Vec::new();
    for way in Way::all(limits) {
        if Algorithm::of(contraction, limits, Some(way.algorithm)) != way.algorithm {
            continue;
        }
        let Ok(rendered) = render(kernel, limits, &way.variant(variant)) else { continue };
        if all.iter().all(|other| other.rendered.source != rendered.source) {
            all.push(Candidate { way, rendered });
        }
    }
    let first = all.iter().position(|way| way.rendered.source == usual.source);
    let Some(first) = first else { return Ok(vec![]) };
    let mut all: Vec<(usize, Candidate)> = all.into_iter().enumerate().collect();
    all.sort_by_key(|(place, _)| place.abs_diff(first));
    Ok(all.into_iter().map(|(_, way)| way).take(CANDIDATES).collect())
}

/// Chooses how the contractions of a program are computed, if the device is to find that out by measuring: the variants of
/// kernels, by their numbers.
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
    let (limits, variant) = (&shared.limits, &shared.variant);
    let ways: BTreeMap<String, Way> =
        Way::all(limits).into_iter().map(|way| (way.name(), way)).collect();
    // Those that share a dispatch were chosen to fit each other.
    let single = program.groups().into_iter().filter(|group| group.len() == 1);
    let mut numbers: Vec<usize> = single.flatten().collect();
    numbers.sort_by_key(|&number| Reverse(program.kernels[number].body.flops()));
    for number in numbers {
        let kernel = &program.kernels[number];
        let Some(contraction) = open(kernel, limits, variant) else { continue };
        let Some(shape) = render::shape(kernel) else { continue };
        let known = |tuner: &mut Option<Tuner>| tuner.as_mut().map(|t| t.known(&shape, &ways));
        let mut found = known(&mut lock(&shared.tuner));
        if let Some(Known::Open) = found {
            let began = Instant::now();
            let candidates = candidates(kernel, contraction, limits, variant)
                .map_err(|reason| DeviceError::Shader { label: kernel.label.clone(), reason })?;
            if candidates.len() < 2 {
                continue;
            }
            // Not locked while shaders compile: their threads may load programs, too.
            let dispatches = compiled(shared, info, kernel, &candidates, program, buffers);
            let compiling = began.elapsed();
            let mut tuner = lock(&shared.tuner);
            // Another thread may have found it meanwhile.
            found = known(&mut tuner);
            if let (Some(Known::Open), Some(tuner)) = (&found, tuner.as_mut()) {
                let began = Instant::now();
                let times = match &dispatches {
                    Some(dispatches) => measured(shared, dispatches, candidates.len())?,
                    None => vec![],
                };
                let took = compiling + began.elapsed();
                let names: Vec<String> = candidates.iter().map(|one| one.way.name()).collect();
                let place = tuner.record(&shape, &names, &times, took);
                found = Some(Known::Way(candidates[place].way));
            }
            drop((tuner, dispatches));
            // What isn't chosen isn't needed again.
            let others = candidates
                .iter()
                .filter(|one| !matches!(found, Some(Known::Way(way)) if way == one.way));
            let mut pipelines = lock(&shared.pipelines);
            for source in others.map(|one| &one.rendered.source) {
                if pipelines.get(source).is_some_and(|one| Arc::strong_count(one) == 1) {
                    pipelines.remove(source);
                }
            }
        }
        if let Some(Known::Way(way)) = found {
            chosen.insert(number, way.variant(variant));
        }
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
    let compile = |(place, one): (usize, &Candidate)| {
        let pipeline = pipeline(shared, &kernel.label, &one.rendered).ok()?;
        Some((place, one.rendered.clone(), pipeline))
    };
    let compiled: Vec<Compiled> = candidates.par_iter().enumerate().filter_map(compile).collect();
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
    let began = Instant::now();
    let mut repeated = 1;
    for round in 0..ROUNDS {
        if round > 0 && began.elapsed() > LONG {
            break;
        }
        for dispatch in dispatches {
            if round == 0 {
                // The first time is slower than any other.
                timed(shared, dispatch, 1)?;
                let mut took = timed(shared, dispatch, 1)?;
                let most = REPEATED.min((1.0 / dispatch.span) as u32);
                while dispatch.kernel == dispatches[0].kernel && took < MEASURED && repeated < most
                {
                    repeated = (2 * repeated).min(most);
                    took = timed(shared, dispatch, repeated)?;
                }
            }
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

/// What is known of a shape.
enum Known {
    /// What computes it.
    Way(Way),
    /// Nothing, and there is no time to find it out.
    Late,
    /// Nothing yet.
    Open,
}

/// What is known of a device's fastest shaders.
pub(super) struct Tuner {
    /// The file that keeps it.
    path: Option<PathBuf>,
    /// What the file is about, its first line: choices of other devices, drivers and versions are none for this one.
    about: String,
    /// The names of what computes each shape.
    choices: BTreeMap<String, String>,
    /// What of it was in the file.
    kept: BTreeMap<String, String>,
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
        let letters = about.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        let name = format!("tuned-{}.txt", letters.collect::<String>());
        let path = settings.folder.map(|folder| folder.join(name));
        let (left, tuning) = (settings.budget, Tuning::default());
        let [choices, kept] = [const { BTreeMap::new() }; 2];
        let mut tuner = Tuner { path, about, choices, kept, left, tuning };
        tuner.kept = tuner.read();
        tuner.choices = tuner.kept.clone();
        tuner
    }

    /// What the file keeps: nothing if it is missing, damaged or about something else.
    fn read(&self) -> BTreeMap<String, String> {
        let read = self.path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let text = read.unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(&self.about) {
            return BTreeMap::new();
        }
        let pairs = lines.filter_map(|line| line.split_once(": "));
        pairs.map(|(shape, name)| (shape.to_string(), name.to_string())).collect()
    }

    /// What is known of a shape, among the ways there are.
    fn known(&mut self, shape: &str, ways: &BTreeMap<String, Way>) -> Known {
        let way = self.choices.get(shape).and_then(|name| ways.get(name));
        match way {
            Some(way) => {
                self.tuning.known += 1;
                Known::Way(*way)
            }
            None if self.left.is_zero() => {
                self.tuning.left_out += 1;
                Known::Late
            }
            None => Known::Open,
        }
    }

    /// The place of the fastest of what was measured, which is kept for later.
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
        self.save(shape);
        place
    }

    /// Writes what was found for a shape beside what others have written meanwhile, which stays. Where it can't be written, it is
    /// found again by the next run.
    fn save(&mut self, shape: &str) {
        let Some(path) = &self.path else { return };
        if path.parent().is_none_or(|folder| std::fs::create_dir_all(folder).is_err()) {
            return;
        }
        // One process after the other; without locks, what two write at once one of them writes again.
        let alone = File::create(path.with_extension("lock"));
        let _alone = alone.and_then(|file| file.lock().map(|()| file));
        let mut all = self.read();
        if all.get(shape) == self.kept.get(shape)
            && let Some(name) = self.choices.get(shape)
        {
            all.insert(shape.to_string(), name.clone());
            let lines = all.iter().map(|(shape, name)| format!("{shape}: {name}\n"));
            let text = format!("{}\n{}", self.about, lines.collect::<String>());
            crate::cache::keep(path, text.as_bytes());
        }
        self.kept = all;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should say where")]
    use super::*;

    const NAMES: [&str; 3] = ["usual", "other", "third"];

    fn tuner(seconds: f64) -> Tuner {
        let budget = Duration::from_secs_f64(seconds);
        Tuner::new(Autotune { budget, folder: None }, "a device")
    }

    fn names() -> Vec<String> {
        NAMES.map(str::to_string).to_vec()
    }

    /// The name of what a tuner knows; `None` if it is to be measured, and nothing if time is up.
    fn known(tuner: &mut Tuner, shape: &str) -> Option<String> {
        let way = |tile| Way { algorithm: Algorithm::Tiled, tile: Some(tile), vectors: None };
        let ways = NAMES.iter().zip(Tile::ALL).map(|(name, tile)| (name.to_string(), way(tile)));
        let ways: BTreeMap<String, Way> = ways.collect();
        match tuner.known(shape, &ways) {
            Known::Way(way) => {
                ways.iter().find(|(_, w)| w.tile == way.tile).map(|(n, _)| n.clone())
            }
            Known::Late => Some(String::new()),
            Known::Open => None,
        }
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
        let found = ["near", "far", "new"].map(|shape| known(&mut tuner, shape));
        assert_eq!(found, [Some("usual".into()), Some("third".into()), None]);
    }

    #[test]
    fn time_that_is_up_ends_measuring_and_what_failed_is_not_kept() {
        let mut tuner = tuner(1.5);
        let took = Duration::from_secs(1);
        tuner.record("first", &names(), &[1.0, 0.5, 0.7], took);
        assert_eq!(known(&mut tuner, "second"), None);
        assert_eq!(tuner.record("second", &names(), &[], took), 0, "no memory");
        assert_eq!(known(&mut tuner, "second").as_deref(), Some(""), "time is up");
        assert_eq!(known(&mut tuner, "first").as_deref(), Some("other"));
        assert_eq!((tuner.tuning.known, tuner.tuning.left_out), (1, 2));
        assert_eq!(tuner.choices.len(), 1);
    }

    #[test]
    fn what_others_write_meanwhile_stays() {
        let folder = std::env::temp_dir().join(format!("shadegrad-tuner-{}", std::process::id()));
        let open = || {
            let folder = Some(folder.clone());
            Tuner::new(Autotune { budget: Duration::from_secs(9), folder }, "a device")
        };
        let took = Duration::from_secs(1);
        let (mut first, mut second) = (open(), open());
        first.record("shape", &names(), &[1.0, 0.5, 0.7], took);
        first.record("of one", &names(), &[1.0, 0.5, 0.7], took);
        second.record("shape", &names(), &[1.0, 0.7, 0.5], took);
        second.record("of another", &names(), &[1.0, 0.7, 0.5], took);
        let mut later = open();
        let found = ["shape", "of one", "of another"].map(|shape| known(&mut later, shape));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.map(Option::unwrap), ["other", "other", "third"]);
    }
}
