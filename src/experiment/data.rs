//! Data from what a file says of it.

use super::config::{Augment, Data, Held};
use crate::prelude::*;
use crate::train::augment::{
    ColorJitter, Cutout, RandomAffine, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip,
};
use crate::train::data::Colour;
use crate::train::data::table::{Columns, Delimited, Preparation, Rows};
use crate::train::{Statistics, Transforms};
use anyhow::{Context, Result, bail};
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

/// What samples are: all that is needed to read others.
pub struct Described {
    /// `[channels, h, w]` or `[features]`.
    pub input: Vec<usize>,
    /// The names of the classes; none of a regression.
    pub classes: Vec<String>,
    /// How a table is read.
    pub columns: Option<Columns>,
}

impl Described {
    /// How many numbers the model gives.
    pub fn outputs(&self) -> usize {
        self.classes.len().max(1)
    }
}

/// Reads what a file names.
///
/// # Errors
/// What is wrong with the data, with files and lines.
pub fn prepare(data: &Data, seed: u64) -> Result<Prepared> {
    match data {
        Data::Images { train, validate, size, grey, augment } => {
            let [height, width] = size.sides();
            let colour = if *grey { Colour::Grey } else { Colour::Rgb };
            let reader = ImageFolder::new(height, width, colour);
            let (all, classes) = reader.read(train)?;
            let (train, validate) = match validate {
                Held::Part(part) => Split::stratified(&all.labels, *part, seed)?.of(&all)?,
                Held::Other(folder) => {
                    let (held, others) = reader.read(folder)?;
                    if others != classes {
                        let (a, b) = (train.display(), folder.display());
                        bail!("{b} has the classes {others:?}, and {a} has {classes:?}");
                    }
                    (all, held)
                }
            };
            Ok(images(train, validate, classes, augment))
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
            let samples = Described {
                input: vec![columns.names().len()],
                classes: columns.classes().to_vec(),
                columns: Some(columns),
            };
            Ok(Prepared { train, validate, samples })
        }
    }
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
    let samples = Described { input: train.shape().to_vec(), classes, columns: None };
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

/// Images as the model takes them: `[count, channels, h, w]`, from bytes.
pub(super) fn normalised(pixels: &[u8], statistics: Statistics) -> Vec<f64> {
    pixels.iter().map(|&p| (f64::from(p) - statistics.mean) / statistics.deviation).collect()
}

/// The reader of images of a shape.
///
/// # Errors
/// For a shape that images don't have.
pub(super) fn reader(input: &[usize]) -> Result<ImageFolder> {
    let &[channels, height, width] = input else { bail!("{input:?} is no shape of images") };
    let colour = if channels == 1 { Colour::Grey } else { Colour::Rgb };
    Ok(ImageFolder::new(height, width, colour))
}

/// Whether a path is there, with an error that says what was looked for.
///
/// # Errors
/// If there is nothing.
pub(super) fn exists(path: &Path) -> Result<()> {
    std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(())
}
