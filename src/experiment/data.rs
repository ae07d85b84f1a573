//! Data from what a file says of it.

use super::config::{Augment, Data, Held};
use super::samples::{Described, Form};
use crate::prelude::*;
use crate::train::augment::{
    ColorJitter, Cutout, RandomAffine, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip,
};
use crate::train::data::Colour;
use crate::train::data::table::{Columns, Delimited, Preparation, Rows, TextColumns};
use crate::train::data::text::{Sequences, Texts, Vocabulary};
use crate::train::{DataError, ImageFiles, Streaming, Transforms};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Data to train and to validate on, and what is to be known of it afterwards.
pub struct Prepared {
    /// What is trained on.
    pub train: Box<dyn Dataset>,
    /// What is validated on.
    pub validate: Box<dyn Dataset>,
    /// What samples are.
    pub samples: Described,
}

/// Reads what a file names.
///
/// # Errors
/// What is wrong with the data, with files and lines.
pub fn prepare(data: &Data, seed: u64) -> Result<Prepared> {
    match data {
        Data::Images { train, validate, size, grey, stream, augment } => {
            let [height, width] = size.sides();
            let colour = if *grey { Colour::Grey } else { Colour::Rgb };
            let reader = ImageFolder::new(height, width, colour);
            if *stream {
                let read = |folder: &Path| reader.files(folder);
                let (train, held, classes) =
                    apart(read, ImageFiles::labels, train, validate, seed)?;
                let form = Form::Images { shape: train.shape(), stream: true };
                let statistics = train.statistics()?;
                let train = Streaming::new(train).normalised(statistics);
                let train = Box::new(train.augmented(transforms(augment)));
                let validate = Box::new(Streaming::new(held));
                return Ok(Prepared { train, validate, samples: Described { classes, form } });
            }
            let read = |folder: &Path| reader.read(folder);
            let (train, held, classes) = apart(read, |all| &all.labels, train, validate, seed)?;
            Ok(images(train, held, classes, augment))
        }
        Data::Mnist { train, augment } => {
            let (train, test, source) = Mnist::find(train.as_deref())?;
            println!("{source}");
            let classes = (0..10).map(|digit| digit.to_string()).collect();
            Ok(images(train, test, classes, augment))
        }
        Data::Cifar10 { train, augment } => {
            let (all, test) = (Cifar10::train(train)?, Cifar10::test(train)?);
            Ok(images(all, test, Cifar10::classes(train)?, augment))
        }
        Data::Table { train, validate, target, regression, categorical, omit, missing } => {
            let rows = read_rows(train)?;
            let (rows, held) = match validate {
                Held::Part(part) => Split::fraction(rows.len(), *part, seed)?.of(&rows)?,
                Held::Other(file) => (rows, read_rows(file)?),
            };
            let target = target.as_str();
            let mut wanted = match regression {
                true => Preparation::regress(target),
                false => Preparation::classify(target),
            };
            wanted = categorical.iter().fold(wanted, |w, name| w.categorical(name.as_str()));
            wanted = omit.iter().fold(wanted, |w, name| w.omit(name.as_str()));
            if !missing.is_empty() {
                wanted = missing.iter().fold(wanted, Preparation::missing_mark).fill_missing();
            }
            let columns = wanted.fit(&rows)?;
            let (train, validate) = (table(&columns, &rows)?, table(&columns, &held)?);
            let classes = columns.classes().to_vec();
            let samples = Described { classes, form: Form::Table(columns) };
            Ok(Prepared { train, validate, samples })
        }
        Data::Text { train, validate, text, target, max_len, min_count } => {
            let rows = read_rows(train)?;
            let (rows, held) = match validate {
                Held::Part(part) => {
                    let classes = rows.column(target.as_str())?;
                    Split::stratified(&classes, *part, seed)?.of(&rows)?
                }
                Held::Other(file) => (rows, read_rows(file)?),
            };
            let columns = TextColumns::fit(&rows, text.as_str(), target.as_str())?;
            let (train, held) = (columns.labelled(&rows)?, columns.labelled(&held)?);
            texts(train, held, columns, *max_len, *min_count)
        }
    }
}

/// Texts as the numbers of their words, which are those of the texts that are trained on.
fn texts(
    train: Texts,
    held: Texts,
    columns: TextColumns,
    max_len: usize,
    min_count: usize,
) -> Result<Prepared> {
    ensure!(max_len > 0, "max_len is 0: it must be at least 1, the words that are read of a text");
    let vocabulary = Vocabulary::build(train.iter(), min_count, None);
    let known = vocabulary.coverage(held.iter()) * 100.0;
    // Padding and the unknown word aren't words.
    let words = vocabulary.len() - 2;
    ensure!(
        words > 0,
        "no word occurs {min_count} times in the texts to train on: min_count is too large"
    );
    println!("vocabulary: {words} words, {known:.1} % of those to validate on");
    let encode = |texts: &Texts| Box::new(Sequences::encode(texts, &vocabulary, Some(max_len)));
    let (train, validate) = (encode(&train), encode(&held));
    let classes = columns.classes().to_vec();
    let form = Form::Texts { columns, vocabulary, max_len };
    Ok(Prepared { train, validate, samples: Described { classes, form } })
}

/// Samples of a folder to train on, and those that are validated on, a part of them or those of another folder; the
/// names of the classes.
fn apart<D: Subset>(
    read: impl Fn(&Path) -> Result<(D, Vec<String>), DataError>,
    labels: impl Fn(&D) -> &[u8],
    train: &Path,
    validate: &Held,
    seed: u64,
) -> Result<(D, D, Vec<String>)> {
    let (all, classes) = read(train)?;
    let (train, held) = match validate {
        Held::Part(part) => Split::stratified(labels(&all), *part, seed)?.of(&all)?,
        Held::Other(folder) => {
            let (held, others) = read(folder)?;
            if others != classes {
                let (a, b) = (train.display(), folder.display());
                bail!("{b} has the classes {others:?}, and {a} has {classes:?}");
            }
            (all, held)
        }
    };
    Ok((train, held, classes))
}

/// The rows of a file: separated by tabs if its name ends in `tsv`, else by commas.
///
/// # Errors
/// What is wrong with the file, with lines.
pub(super) fn read_rows(path: &Path) -> Result<Rows> {
    let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    let reader = if tabs { Delimited::tabs() } else { Delimited::commas() };
    Ok(reader.read(path)?)
}

/// Rows as a data set.
///
/// # Errors
/// What is wrong with the rows, with lines.
pub(super) fn table(columns: &Columns, rows: &Rows) -> Result<Box<dyn Dataset>> {
    Ok(match columns.classes() {
        [] => Box::new(columns.regression(rows)?),
        _ => Box::new(columns.classification(rows)?),
    })
}

fn images(train: Images, validate: Images, classes: Vec<String>, augment: &Augment) -> Prepared {
    let form = Form::Images { shape: train.shape(), stream: false };
    let samples = Described { classes, form };
    let train = Box::new(train.augmented(transforms(augment)));
    Prepared { train, validate: Box::new(validate), samples }
}

fn transforms(augment: &Augment) -> Transforms {
    let Augment { horizontal_flip, vertical_flip, crop, rotate, scale, .. } = *augment;
    let mut all = Transforms::new();
    if let Some(p) = horizontal_flip {
        all = all.add(RandomHorizontalFlip(p));
    }
    if let Some(p) = vertical_flip {
        all = all.add(RandomVerticalFlip(p));
    }
    if let Some(padding) = crop {
        all = all.add(RandomCrop { padding });
    }
    if rotate.is_some() || scale.is_some() {
        let [low, high] = scale.unwrap_or([1.0; 2]);
        all = all.add(RandomAffine::new(rotate.unwrap_or(0.0)).scale(low, high));
    }
    let colours = [augment.brightness, augment.contrast, augment.saturation, augment.hue];
    if colours.iter().any(Option::is_some) {
        let [brightness, contrast, saturation, hue] = colours.map(Option::unwrap_or_default);
        all = all.add(ColorJitter { brightness, contrast, saturation, hue });
    }
    if let Some(side) = augment.cutout {
        all = all.add(Cutout(side));
    }
    all
}

/// Whether a path is there, with an error that says what was looked for.
///
/// # Errors
/// If there is nothing.
pub(super) fn exists(path: &Path) -> Result<()> {
    std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(())
}
