//! Loading and replaying programs: pipelines and bind groups are made once; a run encodes the same
//! list of dispatches again, many steps to a submission. Of programs that run whole, a dispatch is many steps.

use super::{Rendered, Shared, lock, render, render_shared, render_whole, tune};
use crate::device::{Memory, Run};
use crate::{Buffer, DeviceClass, DeviceError, DeviceInfo, Limits, Program, Variant, Whole};
use rayon::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A compiled kernel.
pub(super) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A shader with its pipeline, and the kernel that it is of.
pub(super) type Compiled = (usize, Rendered, Arc<Pipeline>);

/// One entry of the replayed list.
pub(super) struct Dispatch {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
    /// The kernel it belongs to.
    pub(super) kernel: usize,
    /// How long it takes by prediction: one is what a dispatch may take.
    pub(super) span: f64,
}

impl Dispatch {
    /// Dispatches; what is set already from the dispatch before isn't set again.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>, before: Option<&Dispatch>) {
        if before.is_none_or(|before| !Arc::ptr_eq(&before.pipeline, &self.pipeline)) {
            pass.set_pipeline(&self.pipeline.pipeline);
        }
        if before.is_none_or(|before| before.bind_group != self.bind_group) {
            pass.set_bind_group(0, &self.bind_group, &[]);
        }
        let [x, y, z] = self.groups;
        pass.dispatch_workgroups(x, y, z);
    }
}

pub(super) struct GpuRun {
    shared: Arc<Shared>,
    /// Those of a step; of a program that runs whole, one for each power of two of steps.
    dispatches: Vec<Dispatch>,
    /// How it runs whole, if it does, and its kernels for when each is measured.
    whole: Option<(Whole, Kernels)>,
    /// Dispatches of one submission.
    quota: usize,
    /// Kernels of a step, which may take several dispatches each.
    kernels: usize,
    /// Submissions that may not be done yet, each with its number of dispatches.
    flying: VecDeque<(wgpu::SubmissionIndex, usize)>,
}

/// The kernels of a program that runs whole, which aren't compiled one by one unless they are measured.
struct Kernels {
    program: Program,
    buffers: Vec<Buffer>,
    info: DeviceInfo,
}

impl Kernels {
    fn dispatches(&self, shared: &Shared) -> Result<Vec<Dispatch>, DeviceError> {
        let (limits, variant) = shared.variant.alone(&shared.limits);
        let program = Program { joined: vec![], ..self.program.clone() };
        let compiled = apart(shared, &program, &limits, |_| &variant)?;
        dispatches(shared, &self.info, compiled, &self.buffers)
    }
}

/// Submissions that wait on the device before the host does. Enough to keep it busy.
const FLYING: usize = 3;
/// Most dispatches of a submission: a few milliseconds of encoding.
const DISPATCHES: usize = 2048;
/// How long a submission should keep the device busy: well below what drivers take for a hang, and short enough to stop
/// between two.
const BUSY: Duration = Duration::from_millis(100);

pub(super) fn load(
    shared: &Arc<Shared>,
    info: &DeviceInfo,
    program: &Program,
    buffers: &[Buffer],
) -> Result<GpuRun, DeviceError> {
    let (limits, variant) = (&shared.limits, &shared.variant);
    let whole = program.whole(limits);
    let compiled = match whole {
        None => {
            let chosen = tune::choose(shared, info, program, buffers)?;
            apart(shared, program, limits, |number| chosen.get(&number).unwrap_or(variant))?
        }
        Some(whole) => {
            let label = "a whole program".to_string();
            let rendered = render_whole(program, whole, limits, variant)
                .map_err(|reason| DeviceError::Shader { label: label.clone(), reason })?;
            let pipeline = pipeline(shared, &label, &rendered)?;
            vec![(0, rendered, pipeline)]
        }
    };
    let mut dispatches = dispatches(shared, info, compiled, buffers)?;
    if whole.is_some() {
        dispatches.iter_mut().enumerate().for_each(|(digit, d)| d.span *= f64::from(1 << digit));
    }
    save_cache(shared);
    shared.check()?;
    // A step may take a second on a software adapter; others get a full submission until they are known.
    let quota = match info.class {
        DeviceClass::Software => dispatches.len().clamp(1, DISPATCHES),
        _ => DISPATCHES,
    };
    let (kernels, flying) = (program.kernels.len(), VecDeque::new());
    let whole = whole.map(|whole| {
        let (program, buffers) = (program.clone(), buffers.to_vec());
        (whole, Kernels { program, buffers, info: info.clone() })
    });
    Ok(GpuRun { shared: shared.clone(), dispatches, whole, quota, kernels, flying })
}

/// Compiles kernels, in their variants, those that share a dispatch together; those that have nothing to do are left out.
fn apart<'v>(
    shared: &Shared,
    program: &Program,
    limits: &Limits,
    variant: impl Fn(usize) -> &'v Variant + Sync,
) -> Result<Vec<Compiled>, DeviceError> {
    let compile = |number: usize, rendered: Result<Rendered, String>| {
        let label = &program.kernels[number].label;
        let shader = |reason| DeviceError::Shader { label: label.clone(), reason };
        let rendered = rendered.map_err(shader)?;
        let pipeline = pipeline(shared, label, &rendered)?;
        Ok((number, rendered, pipeline))
    };
    let compiled = program.groups().into_par_iter().map(|group| {
        let first = group.start;
        let kernels = &program.kernels[group.clone()];
        if kernels.len() > 1
            && let Some(rendered) = render_shared(kernels, limits, variant(first)).transpose()
        {
            return Ok(vec![compile(first, rendered)?]);
        }
        group.map(|n| compile(n, render(&program.kernels[n], limits, variant(n)))).collect()
    });
    let compiled = compiled.collect::<Result<Vec<Vec<Compiled>>, DeviceError>>()?;
    let works = |(_, rendered, _): &Compiled| !rendered.groups.contains(&0);
    Ok(compiled.into_iter().flatten().filter(works).collect())
}

/// The dispatches of shaders in order: of each one for each of its numbers.
pub(super) fn dispatches(
    shared: &Shared,
    info: &DeviceInfo,
    compiled: Vec<Compiled>,
    buffers: &[Buffer],
) -> Result<Vec<Dispatch>, DeviceError> {
    let numbers = numbers(shared, &compiled)?;
    // Pipelines that bind the same buffers alike share a bind group: layouts of equal entries are equal.
    type Bound = (Vec<(usize, bool)>, Option<usize>);
    let mut bind_groups: HashMap<Bound, wgpu::BindGroup> = HashMap::new();
    let mut dispatches = Vec::new();
    for (kernel, rendered, pipeline) in compiled {
        let bound: Vec<usize> = rendered.bindings.iter().map(|(number, _)| *number).collect();
        let places: Vec<Option<usize>> = match &rendered.numbers {
            None => vec![None],
            Some(numbers) => (0..numbers.len()).map(Some).collect(),
        };
        for place in places {
            let key = (rendered.bindings.clone(), place);
            let bind_group = match bind_groups.get(&key) {
                Some(bind_group) => bind_group.clone(),
                None => {
                    let mut entries = bindings(&bound, buffers, info)?;
                    entries.extend(numbers.as_ref().zip(place).map(|(numbers, place)| {
                        wgpu::BindGroupEntry {
                            binding: bound.len() as u32,
                            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                                buffer: numbers,
                                offset: (place * NUMBER_STRIDE) as u64,
                                size: wgpu::BufferSize::new(NUMBER_BYTES as u64),
                            }),
                        }
                    }));
                    shared.count(|c| c.bind_groups += 1);
                    let bind_group = shared.device.create_bind_group(&wgpu::BindGroupDescriptor {
                        label: None,
                        layout: &pipeline.layout,
                        entries: &entries,
                    });
                    bind_groups.insert(key, bind_group.clone());
                    bind_group
                }
            };
            let pipeline = pipeline.clone();
            let Rendered { groups, span, .. } = rendered;
            dispatches.push(Dispatch { pipeline, bind_group, groups, kernel, span });
        }
    }
    Ok(dispatches)
}

/// Bytes from one dispatch's number to the next: what every adapter lets a binding begin at.
const NUMBER_STRIDE: usize = 256;
/// Bytes of the binding with a dispatch's number.
const NUMBER_BYTES: usize = 16;

/// The numbers of dispatches, if there are any; what has fewer uses the first of them.
fn numbers(shared: &Shared, compiled: &[Compiled]) -> Result<Option<wgpu::Buffer>, DeviceError> {
    let all = compiled.iter().filter_map(|(_, rendered, _)| rendered.numbers.as_ref());
    let Some(all) = all.max_by_key(|all| all.len()) else {
        return Ok(None);
    };
    let mut bytes = vec![0u8; all.len().max(1) * NUMBER_STRIDE];
    for (number, line) in all.iter().zip(bytes.chunks_mut(NUMBER_STRIDE)) {
        line[..4].copy_from_slice(&number.to_le_bytes());
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = shared.create("numbers", bytes.len(), usage)?;
    shared.queue.write_buffer(&buffer, 0, &bytes);
    Ok(Some(buffer))
}

/// Dispatches of the next submissions, after one of so many took so long: as many as keep the device busy for a while, but
/// neither more than twice nor less than half as many as before.
fn adapted(quota: usize, dispatches: usize, took: Duration) -> usize {
    let wanted = dispatches as f64 * BUSY.as_secs_f64() / took.as_secs_f64().max(1e-6);
    (wanted as usize).clamp(quota / 2, quota * 2).clamp(1, DISPATCHES)
}

/// How many of the next dispatches go into a submission: drivers wait for all of it as they do for one dispatch, so it is
/// predicted to take no longer than one may.
fn fitting(spans: impl Iterator<Item = f64>, quota: usize) -> usize {
    let mut total = 0.0;
    let fits = |&(number, span): &(usize, f64)| {
        total += span;
        number == 0 || number < quota && total <= 1.0
    };
    spans.enumerate().take_while(fits).count()
}

fn bindings<'b>(
    numbers: &[usize],
    buffers: &'b [Buffer],
    info: &DeviceInfo,
) -> Result<Vec<wgpu::BindGroupEntry<'b>>, DeviceError> {
    let entry = |(binding, number): (usize, &usize)| match &buffers[*number].memory {
        Memory::Gpu(buffer) => Ok(wgpu::BindGroupEntry {
            binding: binding as u32,
            resource: buffer.as_entire_binding(),
        }),
        _ => Err(buffers[*number].foreign(info)),
    };
    numbers.iter().enumerate().map(entry).collect()
}

pub(super) fn pipeline(
    shared: &Shared,
    label: &str,
    rendered: &Rendered,
) -> Result<Arc<Pipeline>, DeviceError> {
    if let Some(pipeline) = lock(&shared.pipelines).get(&rendered.source) {
        return Ok(pipeline.clone());
    }
    let refuse = |reason: String| DeviceError::Shader { label: label.to_string(), reason };
    let module = naga::front::wgsl::parse_str(&rendered.source)
        .map_err(|error| refuse(error.emit_to_string(&rendered.source)))?;
    reflect(&module, rendered).map_err(refuse)?;
    let scope = shared.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let entry = |(binding, (_, written)): (usize, &(usize, bool))| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: !written },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let mut entries: Vec<_> = rendered.bindings.iter().enumerate().map(entry).collect();
    if rendered.numbers.is_some() {
        entries.push(wgpu::BindGroupLayoutEntry {
            binding: entries.len() as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        });
    }
    let layout = shared.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(label),
        entries: &entries,
    });
    let pipeline_layout = shared.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(label),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let checks = match shared.variant.checks {
        true => wgpu::ShaderRuntimeChecks::checked(),
        false => wgpu::ShaderRuntimeChecks::unchecked(),
    };
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module)),
    };
    // SAFETY: `Program::verify` bounds every load and store of the kernel, the shaders guard the
    // edges of their grids, their loops end, and integer division is guarded. Whole programs are the same
    // kernels, with a barrier between what one stores and another touches; those that share a dispatch store to
    // nothing that another of them touches, which is verified, too.
    let module = unsafe { shared.device.create_shader_module_trusted(descriptor, checks) };
    let pipeline = shared.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            // Every element that is read was written before.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: shared.cache.as_ref().map(|(cache, _)| cache),
    });
    if let Some(error) = pollster::block_on(scope.pop()) {
        return Err(refuse(error.to_string()));
    }
    let pipeline = Arc::new(Pipeline { pipeline, layout });
    let mut pipelines = lock(&shared.pipelines);
    if let Some(first) = pipelines.get(&rendered.source) {
        return Ok(first.clone());
    }
    shared.count(|c| c.pipelines += 1);
    pipelines.insert(rendered.source.clone(), pipeline.clone());
    Ok(pipeline)
}

/// Checks that the shader declares the bindings that the program planned.
fn reflect(module: &naga::Module, rendered: &Rendered) -> Result<(), String> {
    let mut declared: Vec<(u32, bool)> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| match (&variable.binding, variable.space) {
            (Some(binding), naga::AddressSpace::Storage { access }) => {
                Some((binding.binding, access.contains(naga::StorageAccess::STORE)))
            }
            _ => None,
        })
        .collect();
    declared.sort_unstable();
    let planned: Vec<(u32, bool)> = rendered
        .bindings
        .iter()
        .enumerate()
        .map(|(at, (_, written))| (at as u32, *written))
        .collect();
    match declared == planned {
        true => Ok(()),
        false => Err(format!("declares bindings {declared:?}, but {planned:?} are planned")),
    }
}

impl GpuRun {
    /// How many dispatches so many steps take.
    fn count(&self, steps: usize) -> usize {
        match &self.whole {
            Some((whole, _)) => whole.dispatches(steps),
            None => self.dispatches.len() * steps,
        }
    }

    /// The dispatches of so many steps but for the first `done`. Whole programs begin with the longest.
    fn list(&self, steps: usize, done: usize) -> impl Iterator<Item = &Dispatch> + Clone {
        let (round, rounds, rest) = match &self.whole {
            Some((Whole { top }, _)) => {
                let (rest, longest) = self.dispatches.split_at(*top as usize);
                (longest, steps >> top, rest)
            }
            None => (&self.dispatches[..], steps, &[][..]),
        };
        let repeated = round.len() * rounds;
        let first = round.iter().cycle().skip(done % round.len().max(1));
        let digits = rest.iter().enumerate().rev();
        let rest = digits.filter(move |(digit, _)| steps >> digit & 1 == 1).map(|(_, one)| one);
        first.take(repeated.saturating_sub(done)).chain(rest.skip(done.saturating_sub(repeated)))
    }

    /// Encodes a submission of dispatches of so many steps, `done` of which are queued, and says how many it has.
    fn encode(&self, steps: usize, done: usize) -> (wgpu::CommandEncoder, usize) {
        let mut encoder = self.shared.encoder();
        let list = self.list(steps, done);
        let count = fitting(list.clone().map(|dispatch| dispatch.span), self.quota);
        let mut before = None;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in list.take(count) {
            dispatch.record(&mut pass, before);
            before = Some(dispatch);
        }
        drop(pass);
        (encoder, count)
    }
}

impl Run for GpuRun {
    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        // All steps as one list, cut into submissions wherever they are full.
        let (total, mut queued) = (self.count(times), 0);
        let mut done: Option<Instant> = None;
        while queued < total {
            let (encoder, count) = self.encode(times, queued);
            queued += count;
            self.flying.push_back((self.shared.submit(encoder), count));
            self.shared.count(|c| c.dispatches += count as u64);
            if self.flying.len() > FLYING
                && let Some((oldest, count)) = self.flying.pop_front()
            {
                self.shared.wait(Some(oldest))?;
                // With others behind it, the device was busy with this one since the one before.
                let now = Instant::now();
                if let Some(before) = done.replace(now) {
                    self.quota = adapted(self.quota, count, now - before);
                }
            }
        }
        self.shared.check()
    }

    fn run_bare(&mut self) -> Result<bool, DeviceError> {
        let mut encoder = self.shared.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in self.list(1, 0) {
            dispatch.record(&mut pass, None);
        }
        drop(pass);
        self.shared.queue.submit([encoder.finish()]);
        Ok(true)
    }

    fn profile(&mut self) -> Result<Vec<f64>, DeviceError> {
        if !self.shared.timestamps {
            let device = self.shared.name.clone();
            return Err(DeviceError::Unsupported { device, what: "measure kernels".into() });
        }
        let mut times = vec![0.0; self.kernels];
        let kernels = self.whole.as_ref().map(|(_, kernels)| kernels.dispatches(&self.shared));
        let kernels = kernels.transpose()?;
        let mut left = kernels.as_deref().unwrap_or(&self.dispatches);
        while !left.is_empty() {
            // A query set holds at most 4096 timestamps.
            let fitting = fitting(left.iter().map(|dispatch| dispatch.span), 2048);
            let (part, behind) = left.split_at(fitting);
            left = behind;
            let count = part.len() as u32 * 2;
            let queries = self.shared.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let resolved = self.shared.create("timestamps", count as usize * 8, usage)?;
            let mut encoder = self.shared.encoder();
            for (number, dispatch) in part.iter().enumerate() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(number as u32 * 2),
                        end_of_pass_write_index: Some(number as u32 * 2 + 1),
                    }),
                });
                dispatch.record(&mut pass, None);
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            self.shared.submit(encoder);
            self.shared.count(|c| c.dispatches += part.len() as u64);
            let bytes = self.shared.read(&resolved, 0, count as usize * 8)?.wait()?;
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
            let period = f64::from(self.shared.queue.get_timestamp_period()) * 1e-6;
            for (dispatch, t) in part.iter().zip(ticks.chunks(2)) {
                times[dispatch.kernel] += t[1].saturating_sub(t[0]) as f64 * period;
            }
        }
        Ok(times)
    }
}

/// Opens the adapter's pipeline cache on disk; where there is no place for it, goes without.
pub(super) fn open_cache(
    device: &wgpu::Device,
    info: &wgpu::AdapterInfo,
) -> Option<(wgpu::PipelineCache, PathBuf)> {
    let path = crate::cache_dir()?.join(wgpu::util::pipeline_cache_key(info)?);
    let data = std::fs::read(&path).ok();
    // SAFETY: the file was written by `save_cache`; with `fallback` the driver checks its header
    // and starts an empty cache for one that isn't its own.
    let cache = unsafe {
        device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
            label: Some("shadegrad"),
            data: data.as_deref(),
            fallback: true,
        })
    };
    Some((cache, path))
}

/// Keeps what was compiled for the next start. A cache that can't be written is only slower.
fn save_cache(shared: &Shared) {
    let Some((cache, path)) = &shared.cache else {
        return;
    };
    let Some(data) = cache.get_data() else { return };
    let unchanged = std::fs::metadata(path).is_ok_and(|file| file.len() == data.len() as u64);
    if !unchanged {
        crate::cache::keep(path, &data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_are_full_at_their_quota_or_where_they_would_take_too_long() {
        assert_eq!(fitting([0.0; 20].into_iter(), 10), 10);
        assert_eq!(fitting([0.25; 20].into_iter(), 10), 4);
        assert_eq!(fitting([0.25; 3].into_iter(), 10), 3);
        assert_eq!(fitting([7.0; 3].into_iter(), 10), 1, "each has at least one");
    }

    #[test]
    fn submissions_grow_and_shrink_towards_a_tenth_of_a_second() {
        let ms = Duration::from_millis;
        assert_eq!(adapted(40, 40, ms(100)), 40);
        assert_eq!(adapted(40, 40, ms(150)), 26);
        assert_eq!(adapted(40, 40, ms(1000)), 20, "by half at most");
        assert_eq!(adapted(40, 10, ms(5)), 80, "to the double at most");
        assert_eq!(adapted(1, 1, ms(5000)), 1, "never less than one");
        assert_eq!(adapted(2000, 2000, ms(1)), DISPATCHES);
    }
}
