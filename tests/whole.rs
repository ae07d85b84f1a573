//! Small programs as one dispatch for many steps: the same bits as with a dispatch for each kernel, in so many dispatches, and
//! only where it is asked for and can be.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::bench;
use shadegrad::device::{Algorithm, Device, DeviceClass, Limits, Program, Variant, random};
use shadegrad::graph::{Loaded, Options};
use shadegrad::prelude::*;
use shadegrad::train::data::table::{Classes, Table};
use shadegrad::train::{History, Padded, Resident, Samples, Tabular};

/// The adapter with kernels in the forms that whole programs have them.
fn direct() -> Option<Device> {
    let limits = Limits { subgroup: 0, ..harness::adapter()?.limits().clone() };
    harness::adapter_with(Variant {
        limits: Some(limits),
        algorithm: Some(Algorithm::Direct),
        grouped: Some(false),
        ..Variant::default()
    })
}

/// The points of a table: two numbers each, of a class that says whether their signs are the same.
fn points(count: u32) -> Table<Classes> {
    let number = |i| random(6, i) as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let labels = (0..count).map(|i| u8::from(number(2 * i) * number(2 * i + 1) < 0.0));
    let targets =
        Classes { labels: labels.collect(), names: ["same", "other"].map(String::from).to_vec() };
    Table::new((0..2 * count).map(number).collect(), ["x", "y"].map(String::from).to_vec(), targets)
        .unwrap()
}

fn perceptron() -> Sequential {
    Sequential::new()
        .add(Linear::new(2, 16))
        .add(Relu)
        .add(Dropout::new(0.2))
        .add(Linear::new(16, 2))
}

fn adam<M: Module>(device: &Device, model: M) -> Trainer<M> {
    Trainer::new(device, model, CrossEntropy, Adam::new(1e-2)).unwrap()
}

/// Reads a variable.
type Read = Box<dyn FnMut(&Variable) -> Vec<u8>>;

/// A trainer's step, with guard words in its scratch memory.
struct Small {
    read: Read,
    step: Loaded,
}

impl Small {
    fn new<M: Module + 'static>(
        mut trainer: Trainer<M>,
        data: &dyn Samples,
        one_dispatch: bool,
    ) -> Small {
        let graph = trainer.record(data, 8);
        let options = Options { guard: 64, one_dispatch, ..Options::default() };
        let step = trainer.session().compile_with(&graph, &[], &options).unwrap();
        let read = move |variable: &_| trainer.session().read(variable).unwrap();
        Small { read: Box::new(read), step }
    }

    /// All variables, as bits.
    fn bits(&mut self) -> Vec<Vec<u8>> {
        let variables = self.step.compiled().variables.clone();
        variables.iter().map(&mut self.read).collect()
    }
}

/// Steps of several models, many of them in a dispatch or not.
fn small(name: &str, device: &Device, one_dispatch: bool) -> Small {
    let tokens = |count: u32| (0..count).map(|i| random(3, i) % 12).collect::<Vec<u32>>();
    let labels: Vec<u8> = (0..32).map(|i| (random(4, i) % 3) as u8).collect();
    let sgd = |model| Trainer::new(device, model, CrossEntropy, Sgd::new(0.1)).unwrap();
    match name {
        "perceptron" => {
            Small::new(adam(device, perceptron()), &Tabular::new(&points(100)), one_dispatch)
        }
        "norms" => {
            let model = Sequential::new()
                .add(Linear::new(2, 20))
                .add(LayerNorm::new(&[20]))
                .add(Relu)
                .add(Linear::new(20, 2));
            Small::new(sgd(model).clip_grad_norm(0.5), &Tabular::new(&points(100)), one_dispatch)
        }
        "convolution" => {
            let model = Sequential::new()
                .add(Conv2d::new(1, 4, 3).padding(1))
                .add(MaxPool2d::new(2))
                .add(AvgPool2d::new(3))
                .add(Flatten)
                .add(Linear::new(4, 3));
            let pixels = (0..32 * 36).map(|i| random(1, i) as u8).collect();
            let [channels, height, width, classes] = [1, 6, 6, 3];
            let data = Images { pixels, labels, channels, height, width, classes };
            Small::new(sgd(model), &Resident::new(&data), one_dispatch)
        }
        // Forty-eight indices: by themselves they are searched by workgroups.
        "embedding" => {
            let model =
                Sequential::new().add(Embedding::new(12, 4)).add(Flatten).add(Linear::new(24, 3));
            Small::new(sgd(model), &Padded::new(&tokens(32 * 6), 6, &labels), one_dispatch)
        }
        "halves" => {
            let model = Sequential::new().add(Linear::new(2, 9)).add(Relu).add(Linear::new(9, 2));
            let trainer = sgd(model).mixed_precision();
            assert_eq!(trainer.is_mixed(), device.limits().f16);
            Small::new(trainer, &Tabular::new(&points(100)), one_dispatch)
        }
        _ => {
            let model = bench::LastState::new(12, 4, 4, 3);
            Small::new(adam(device, model), &Padded::new(&tokens(32 * 6), 6, &labels), one_dispatch)
        }
    }
}

/// Dispatches of so many steps.
fn dispatched(device: &Device, step: &mut Loaded, steps: usize) -> u64 {
    let before = device.counters().dispatches;
    step.run(steps).unwrap();
    device.counters().dispatches - before
}

/// Numbers of steps, and how many dispatches of powers of two up to 256 they take.
const STEPS: [(usize, u64); 5] = [(1, 1), (2, 1), (7, 3), (300, 4), (1000, 3 + 4)];

#[test]
fn whole_programs_have_the_bits_of_single_kernels_in_a_few_dispatches() {
    let (Some(device), Some(apart)) = (direct(), direct()) else { return };
    for name in ["perceptron", "norms", "convolution", "embedding", "halves"] {
        let pipelines = device.counters().pipelines;
        let mut one = small(name, &device, true);
        assert_eq!(
            device.counters().pipelines - pipelines,
            1,
            "{name}: kernels are compiled alone"
        );
        // On a device of its own, which has compiled none of the kernels.
        let mut many = small(name, &apart, false);
        let kernels = many.step.report().counts.dispatches as u64;
        let variables = many.step.compiled().variables.clone();
        let same = |one: &mut Small, many: &mut Small, steps: usize| {
            // Compilers of GPUs round products and sums together where they like, in each shader.
            if device.info().class != DeviceClass::Software {
                return;
            }
            for ((a, b), variable) in one.bits().iter().zip(many.bits()).zip(&variables) {
                assert!(*a == b, "{name}: `{}` after {steps} more steps", variable.name());
            }
        };
        for (steps, expected) in STEPS {
            assert_eq!(
                dispatched(&device, &mut one.step, steps),
                expected,
                "{name}, {steps} steps"
            );
            assert_eq!(dispatched(&apart, &mut many.step, steps), kernels * steps as u64, "{name}");
            same(&mut one, &mut many, steps);
        }
        // Measured kernel by kernel it is a step as any other, and only then they are compiled.
        let pipelines = device.counters().pipelines;
        let times = one.step.profile().unwrap();
        many.step.run(1).unwrap();
        same(&mut one, &mut many, 1);
        assert_eq!(times.len() as u64, kernels, "{name}");
        assert!(times.iter().any(|time| time.milliseconds > 0.0), "{name}: {times:?}");
        assert!(device.counters().pipelines - pipelines > kernels / 2, "{name}: most differ");
        one.step.check_guards().unwrap();
        assert!(!one.step.compiled().gaps.is_empty());
    }
}

#[test]
fn families_that_no_small_model_has_give_the_same_bits() {
    let Some(device) = direct() else { return };
    let results = |one_dispatch: bool| {
        let graph = Graph::new();
        let init = Init::Uniform { low: -1.0, high: 1.0, seed: 5 };
        let x = graph.variable(&Variable::new("x", &[2, 5, 4], DType::F32, init));
        let outputs = [
            x.cumsum(1),
            x.sort(1, false).0,
            x.scaled_dot_product_attention(&x, &x, &AttentionOptions::default()),
        ];
        let outputs: Vec<&Tensor> = outputs.iter().collect();
        let options = Options { one_dispatch, ..Options::default() };
        let mut program = Session::new(&device).compile_with(&graph, &outputs, &options).unwrap();
        program.run(3).unwrap();
        let kernels = program.compiled().program.kernels.iter();
        let families: Vec<&str> = kernels.map(|kernel| kernel.body.family()).collect();
        for family in ["scan", "merge", "attention"] {
            assert!(families.contains(&family), "no {family} in {families:?}");
        }
        [0, 1, 2].map(|output| program.read(output).unwrap())
    };
    let before = device.counters().dispatches;
    let got = results(true);
    assert_eq!(device.counters().dispatches - before, 2, "three steps");
    assert!(got == results(false));
}

#[test]
fn the_null_device_counts_as_devices_do() {
    let device = Device::null(Limits::profile("h200").unwrap());
    let mut whole = small("perceptron", &device, true);
    // Nobody asked for it; and a recurrent network needs workgroup memory.
    let apart = [small("perceptron", &device, false), small("recurrent", &device, true)];
    for (steps, expected) in STEPS {
        assert_eq!(dispatched(&device, &mut whole.step, steps), expected, "{steps} steps");
    }
    for mut apart in apart {
        let kernels = apart.step.report().counts.dispatches as u64;
        assert_eq!(dispatched(&device, &mut apart.step, 300), kernels * 300);
    }
}

fn program(name: &str, limits: &Limits) -> Program {
    small(name, &Device::null(limits.clone()), true).step.compiled().program.clone()
}

#[test]
fn what_cannot_be_one_dispatch_stays_as_it_was() {
    let limits = Limits::profile("h200").unwrap();
    let perceptron = program("perceptron", &limits);
    assert!(perceptron.whole(&limits).is_some());
    assert!(Program { one_dispatch: false, ..perceptron.clone() }.whole(&limits).is_none());
    assert!(program("recurrent", &limits).whole(&limits).is_none(), "needs workgroup memory");
    let few = Limits { bindings: 8, ..limits.clone() };
    assert!(program("perceptron", &few).whole(&few).is_none(), "binds more than eight buffers");
    let narrow = Limits { invocations: 32, ..limits.clone() };
    assert!(perceptron.whole(&narrow).is_none());
    let cpu = Limits::profile("cpu").unwrap();
    assert!(program("perceptron", &cpu).whole(&cpu).is_none());
}

/// Operations of a step, as they are predicted.
fn operations(program: &Program) -> f64 {
    let limits = Limits { dispatch_operations: 1, dispatch_bytes: u64::MAX, ..Limits::WEBGPU };
    program.kernels.iter().map(|kernel| kernel.span(&limits)).sum()
}

#[test]
fn a_dispatch_takes_no_more_steps_than_a_driver_waits_for() {
    // On GPUs a workgroup alone takes less of them.
    let software = |device: &Device| device.info().class == DeviceClass::Software;
    let Some(apart) = direct().filter(software) else { return };
    let mut expected = small("norms", &apart, false);
    let program = Program { one_dispatch: true, ..expected.step.compiled().program.clone() };
    let step = operations(&program) as u64;
    // Five steps and a half: four, the power of two below.
    let limits = Limits { dispatch_operations: step * 11 / 2, ..apart.limits().clone() };
    let variant = Variant { limits: Some(limits.clone()), ..Variant::default() };
    let short = harness::adapter_with(variant).unwrap();
    let mut got = small("norms", &short, true);
    let before = short.counters().submits;
    assert_eq!(dispatched(&short, &mut got.step, 15), 3 + 2, "4, 4, 4, 2, 1");
    assert!(short.counters().submits - before >= 4, "submissions are cut as dispatches are");
    expected.step.run(15).unwrap();
    assert!(got.bits() == expected.bits());
    // On GPUs one workgroup is slower than many: not even one step.
    let gpu = Limits { class: DeviceClass::Integrated, ..limits };
    assert!(program.whole(&gpu).is_none());
    let none = Limits { dispatch_operations: step - 1, ..apart.limits().clone() };
    assert!(program.whole(&none).is_none());
}

#[test]
fn training_that_resumes_has_the_bits_of_straight_training() {
    let Some(device) = harness::adapter() else { return };
    let data = points(100);
    let new = || {
        let rule = Sgd::new(0.1).momentum(0.9);
        Trainer::new(&device, perceptron(), CrossEntropy, rule).unwrap().one_dispatch()
    };
    let begin = || {
        let mut trainer = new();
        let course = trainer.start(&data, 32).unwrap();
        (trainer, course)
    };
    let advance = |trainer: &mut Trainer<Sequential>, course: &mut _, steps| {
        let mut history = History::default();
        trainer.advance(course, steps, &mut history).unwrap();
        history
    };
    let before = device.counters().dispatches;
    let (mut straight, mut course) = begin();
    let all = advance(&mut straight, &mut course, 500);
    let dispatches = device.counters().dispatches - before;
    assert!(dispatches < 500, "{dispatches} dispatches of 500 steps");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (mut first, mut course) = begin();
    let history = advance(&mut first, &mut course, 123);
    first.save_checkpoint(&path, &course, &history).unwrap();
    let mut second = new();
    second.resume(&path).unwrap();
    let mut course = second.start(&data, 32).unwrap();
    let rest = advance(&mut second, &mut course, 377);
    assert_eq!(all.losses[123..], rest.losses);
    for shard in straight.parameters().shards().to_vec() {
        let bits = straight.session().read(&shard).unwrap();
        let same = second.parameters().shards().to_vec().remove(0);
        assert!(bits == second.session().read(&same).unwrap());
    }
}
