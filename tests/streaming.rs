//! Streamed data: the same bits as data on the device, whatever fetches it and wherever it is taken up.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{Device, Limits, Variant};
use shadegrad::graph::Type;
use shadegrad::prelude::*;
use shadegrad::train::data::{Colour, drawn};
use shadegrad::train::{
    Checkpoints, Control, DataError, Dataset, Ended, Epoch, History, ImageFiles, Images, Source,
    Statistics, Streaming, TrainError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn model() -> Sequential {
    Sequential::new()
        .add(Conv2d::new(1, 3, 3))
        .add(Relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dropout::new(0.2))
        .add(Linear::new(3 * 13 * 13, 10))
}

fn trainer(device: &Device) -> Trainer<Sequential> {
    Trainer::with_seed(device, model(), CrossEntropy, Adam::new(2e-3), 3).unwrap()
}

fn streamed(images: &Images) -> Streaming<Images> {
    Streaming::new(images.clone()).normalised(images.statistics().unwrap())
}

fn timeless(mut history: History) -> History {
    history.epochs.iter_mut().for_each(|epoch| epoch.samples_per_second = 0.0);
    history
}

#[test]
fn what_is_streamed_has_the_bits_of_what_is_resident() {
    // 97 samples in batches of 9: steps hold the end of one pass and the start of the next, chunks too.
    let (data, held) = (drawn::digits(97, 1), drawn::digits(131, 2));
    for (device, _) in harness::devices() {
        fn fit(held: &dyn Dataset) -> Fit<'_> {
            Fit::epochs(3).batch(9).validate(held).quiet()
        }
        let mut resident = trainer(&device);
        let expected = timeless(resident.fit(&data, fit(&held)).unwrap());
        let found = resident.evaluate(&held).unwrap();
        for threads in [1, 3] {
            let mut other = trainer(&device);
            let (data, held) = (streamed(&data).threads(threads), streamed(&held).threads(threads));
            let history = other.fit(&data, fit(&held)).unwrap();
            assert_eq!(timeless(history), expected, "{threads} threads on {}", device.info());
            assert_eq!(other.weights().unwrap(), resident.weights().unwrap());
            assert_eq!(other.evaluate(&held).unwrap(), found);
        }
    }
}

/// Digits as files of two sizes and formats in a folder for each class.
fn folder(count: usize, seed: u64) -> tempfile::TempDir {
    let (root, digits) = (tempfile::tempdir().unwrap(), drawn::digits(count, seed));
    for number in 0..digits.len() {
        let class = root.path().join(digits.labels[number].to_string());
        std::fs::create_dir_all(&class).unwrap();
        let pixels = digits.image(number).to_vec();
        let image = image::DynamicImage::from(image::GrayImage::from_raw(28, 28, pixels).unwrap());
        match number % 3 {
            0 => image.crop_imm(2, 0, 25, 27).save(class.join(format!("{number}.jpg"))),
            _ => image.save(class.join(format!("{number}.png"))),
        }
        .unwrap();
    }
    root
}

#[test]
fn a_folder_of_files_has_the_bits_of_one_in_memory() {
    let (data, held) = (folder(97, 1), folder(131, 2));
    let reader = ImageFolder::new(28, 28, Colour::Grey);
    let (resident, classes) = reader.read(data.path()).unwrap();
    let (files, same) = reader.files(data.path()).unwrap();
    assert_eq!((&classes, files.labels()), (&same, resident.labels.as_slice()));
    assert_eq!(files.statistics().unwrap(), Dataset::statistics(&resident).unwrap());
    assert_eq!(files.image(13).unwrap(), resident.image(13));
    assert!(files.image(97).unwrap_err().to_string().contains("no sample 97"));
    let split = Split::stratified(files.labels(), 0.2, 5).unwrap();
    let (resident, files) = (split.of(&resident).unwrap().0, split.of(&files).unwrap().0);
    let statistics = files.statistics().unwrap();
    let (held, held_files) =
        (reader.read(held.path()).unwrap().0, reader.files(held.path()).unwrap().0);
    fn fit(held: &dyn Dataset) -> Fit<'_> {
        Fit::epochs(3).batch(9).validate(held).quiet()
    }
    for (device, _) in harness::devices() {
        let mut first = trainer(&device);
        let expected = timeless(first.fit(&resident, fit(&held)).unwrap());
        for threads in [1, 2] {
            let stream = |files: &ImageFiles| Streaming::new(files.clone()).threads(threads);
            let mut other = trainer(&device);
            let data = stream(&files).normalised(statistics);
            let held = stream(&held_files);
            let history = other.fit(&data, fit(&held)).unwrap();
            assert_eq!(timeless(history), expected, "{threads} threads on {}", device.info());
            assert_eq!(other.weights().unwrap(), first.weights().unwrap());
        }
    }
}

#[test]
fn a_file_that_breaks_while_training_ends_it_and_is_named() {
    let data = folder(97, 1);
    let (files, _) = ImageFolder::new(28, 28, Colour::Grey).files(data.path()).unwrap();
    let statistics = files.statistics().unwrap();
    // The first file of the first class.
    let path = data.path().join("0");
    let name = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let sound = std::fs::read(&name).unwrap();
    type Break = fn(&std::path::Path, &[u8]) -> std::io::Result<()>;
    let breaks: [Break; 3] = [
        |path, _| std::fs::write(path, b"no image"),
        |path, sound| std::fs::write(path, &sound[..sound.len() / 2]),
        |path, _| std::fs::remove_file(path),
    ];
    for (device, _) in harness::devices() {
        for damage in breaks {
            std::fs::write(&name, &sound).unwrap();
            let mut trainer = trainer(&device);
            let source = Streaming::new(files.clone()).normalised(statistics).threads(2);
            let after = |epoch: &Epoch, _: &History| {
                if epoch.number == 2 {
                    damage(&name, &sound)?;
                }
                Ok(Control::Continue)
            };
            let fit = Fit::epochs(10_000).batch(9).quiet().callback(after);
            let error = trainer.fit(&source, fit).unwrap_err();
            assert!(matches!(error, TrainError::Data(_)), "{error}");
            let name = name.file_name().unwrap().to_string_lossy().to_string();
            assert!(error.to_string().contains(&name), "{error}");
            let history = trainer.history();
            assert_eq!(history.losses.len(), trainer.steps_done());
            assert!(history.epochs.len() >= 2 && history.ended == Ended::Failed(None));
        }
    }
    // Before training it is found as well, where statistics are to be found.
    let error = files.statistics().unwrap_err().to_string();
    assert!(error.contains(&name.display().to_string()), "{error}");
}

#[test]
fn what_a_broken_file_ended_goes_on_when_it_is_whole_again() {
    // 485 samples are 61 steps of 8 an epoch: four chunks, of which the last are fetched after training has begun.
    let data = folder(485, 1);
    let (files, _) = ImageFolder::new(28, 28, Colour::Grey).files(data.path()).unwrap();
    let streamed =
        || Streaming::new(files.clone()).normalised(files.statistics().unwrap()).threads(1);
    let fit = || Fit::epochs(3).batch(8).quiet();
    for (device, _) in harness::devices() {
        let mut straight = trainer(&device);
        let expected = timeless(straight.fit(&streamed(), fit()).unwrap());
        let source = streamed();
        let name =
            std::fs::read_dir(data.path().join("7")).unwrap().next().unwrap().unwrap().path();
        let sound = std::fs::read(&name).unwrap();
        std::fs::write(&name, b"no image").unwrap();
        let checkpoints = tempfile::tempdir().unwrap();
        let written = || Checkpoints::new(checkpoints.path());
        let mut failed = trainer(&device);
        let error = failed.fit(&source, fit().checkpoints(written())).unwrap_err();
        assert!(matches!(error, TrainError::Data(_)), "{error}");
        let done = failed.steps_done();
        assert!((1..61).contains(&done), "{done}: in the middle of the first epoch");
        let Ended::Failed(Some(path)) = &failed.history().ended else { panic!("no checkpoint") };
        assert!(path.ends_with(format!("step-{done:08}.safetensors")), "{}", path.display());
        std::fs::write(&name, &sound).unwrap();
        let mut second = trainer(&device);
        second.resume(checkpoints.path()).unwrap();
        let history = second.fit(&streamed(), fit().checkpoints(written())).unwrap();
        assert_eq!(timeless(history), expected, "{}", device.info());
        assert_eq!(second.weights().unwrap(), straight.weights().unwrap());
    }
}

#[test]
fn a_data_set_of_twice_the_memory_trains_to_the_same_losses() {
    // 200 images of 784 bytes where one buffer holds half of them; weights and scratch memory fit.
    let data = drawn::digits(400, 1);
    let bytes = data.pixels.len() / 2;
    let limits = Limits { binding_bytes: bytes, buffer_bytes: bytes, ..Limits::WEBGPU };
    let small = harness::adapter_with(Variant { limits: Some(limits), ..Variant::default() });
    let (Some(small), Some(whole)) = (small, harness::adapter()) else { return };
    let fit = || Fit::epochs(1).batch(8).quiet();
    let refused = trainer(&small).fit(&data, fit()).unwrap_err().to_string();
    assert!(refused.contains("images") && refused.contains(&bytes.to_string()), "{refused}");
    let mut other = trainer(&small);
    let history = other.fit(&streamed(&data), fit()).unwrap();
    let expected = trainer(&whole).fit(&data, fit()).unwrap();
    // The adapter's own limits give other kernels.
    for (step, (got, expected)) in history.losses.iter().zip(&expected.losses).enumerate() {
        assert!((got - expected).abs() < 1e-4, "step {step}: {got} not {expected}");
    }
    assert_eq!(history.losses.len(), 50);
}

#[test]
fn a_run_resumes_in_the_middle_of_a_chunk() {
    let data = drawn::digits(97, 1);
    let device = Device::cpu(Some(2));
    let fit = || Fit::epochs(4).batch(9).quiet();
    let mut straight = trainer(&device);
    let expected = straight.fit(&data, fit()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path()).every_steps(5);
    let part = Fit::epochs(4).batch(9).steps(37).quiet().checkpoints(checkpoints.keep_last(9));
    trainer(&device).fit(&streamed(&data), part).unwrap();
    for step in [5, 35] {
        let mut second = trainer(&device);
        second.resume(folder.path().join(format!("step-{step:08}.safetensors"))).unwrap();
        let history = second.fit(&streamed(&data).threads(2), fit()).unwrap();
        assert_eq!(timeless(history), timeless(expected.clone()), "from step {step}");
        assert_eq!(second.weights().unwrap(), straight.weights().unwrap());
    }
}

/// Samples that can't all be fetched.
struct Faulty {
    images: Images,
    /// The sample that can't be, and whether fetching it panics.
    at: u32,
    panics: bool,
    fetched: Arc<AtomicUsize>,
}

impl Source for Faulty {
    fn len(&self) -> usize {
        Source::len(&self.images)
    }

    fn input(&self) -> Type {
        self.images.input()
    }

    fn target(&self) -> Type {
        self.images.target()
    }

    fn fetch(&self, index: &[u32], inputs: &mut [u8], targets: &mut [u8]) -> Result<(), DataError> {
        self.fetched.fetch_add(index.len(), Ordering::Relaxed);
        if index.contains(&self.at) {
            assert!(!self.panics, "sample {} can't be fetched", self.at);
            return Err(DataError::Label {
                origin: "sample".into(),
                index: self.at as usize,
                label: 12,
                classes: 10,
            });
        }
        self.images.fetch(index, inputs, targets)
    }
}

#[test]
fn what_a_source_reports_ends_training() {
    let device = Device::cpu(Some(1));
    let faulty =
        |panics| Faulty { images: drawn::digits(500, 1), at: 77, panics, fetched: Arc::default() };
    let fit = || Fit::epochs(2).batch(5).quiet();
    let statistics = Dataset::statistics(&drawn::digits(500, 1)).unwrap();
    let mut failed = trainer(&device);
    let source = Streaming::new(faulty(false)).normalised(statistics);
    let error = failed.fit(&source, fit()).unwrap_err();
    assert!(matches!(error, TrainError::Data(_)), "{error}");
    assert!(error.to_string().contains("label 12 at index 77"), "{error}");
    // What was trained on until then is known, and no step of it is missing.
    let straight = trainer(&device).fit(&drawn::digits(500, 1), fit()).unwrap();
    let history = failed.history();
    assert_eq!((history.losses.len(), &history.ended), (failed.steps_done(), &Ended::Failed(None)));
    assert!(!history.losses.is_empty(), "the sample is in the first chunk");
    assert_eq!(history.losses, straight.losses[..history.losses.len()]);
    let accuracies = straight.metric("accuracy");
    assert_eq!(history.metric("accuracy"), &accuracies[..history.losses.len()]);
    let error = trainer(&device).fit(&Streaming::new(faulty(true)), fit()).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[test]
fn no_more_is_fetched_ahead_than_two_chunks_of_each_thread() {
    let device = Device::cpu(Some(1));
    let fetched = Arc::new(AtomicUsize::new(0));
    let source = Faulty {
        images: drawn::digits(5000, 1),
        at: u32::MAX,
        panics: false,
        fetched: fetched.clone(),
    };
    let data =
        Streaming::new(source).threads(2).normalised(Statistics { mean: 33.0, deviation: 78.0 });
    let mut trainer = trainer(&device);
    let mut course = trainer.start(&data, 5).unwrap();
    trainer.advance(&mut course, 20, &mut History::default()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    // Two chunks of 16 steps are in use; each thread holds one more that is sent and one that waits to be.
    let most = (2 + 2 * 2) * 16 * 5;
    let count = fetched.load(Ordering::Relaxed);
    assert!((2 * 16 * 5..=most).contains(&count), "{count} samples");
    // With the course its threads end, and let go of the data.
    drop((course, data));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(Arc::strong_count(&fetched), 1);
}
