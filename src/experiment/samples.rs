//! What samples are: all that is needed to read others when a model is evaluated or asked.

use super::config::{Config, Data, Model};
use super::data::{exists, read_rows, table};
use super::model::{model, text_model};
use crate::prelude::*;
use crate::train::data::Colour;
use crate::train::data::table::{Columns, TextColumns};
use crate::train::data::text::{Bucket, Sequences, Vocabulary};
use crate::train::{Statistics, Streaming, Weights};
use anyhow::{Context, Result, bail};
use shadegrad_graph::Array;
use std::path::Path;

/// What samples are.
pub struct Described {
    /// The names of the classes; none of a regression.
    pub classes: Vec<String>,
    /// What a sample is, and how it is read.
    pub form: Form,
}

/// What a sample is, and how it is read.
pub enum Form {
    /// An image.
    Images {
        /// `[channels, height, width]`.
        shape: [usize; 3],
        /// Whether files are read only when they are needed.
        stream: bool,
    },
    /// A row of a table.
    Table(Columns),
    /// A text.
    Texts {
        /// Where texts are in a table.
        columns: TextColumns,
        /// The words that are known.
        vocabulary: Vocabulary,
        /// Words that are read of a text.
        max_len: usize,
    },
}

/// Inputs of one shape, and the numbers of the samples that they are of.
pub(super) type Inputs = (Vec<usize>, Array);

/// Samples that are asked about together, at most.
const TOGETHER: usize = 128;

/// Notes of a file of weights.
const CLASSES: &str = "classes";
const COLUMNS: &str = "columns";
const INPUT: &str = "input";
const VOCABULARY: &str = "vocabulary";

impl Described {
    /// How many numbers the model gives.
    pub fn outputs(&self) -> usize {
        self.classes.len().max(1)
    }

    /// The model that a file asks for.
    ///
    /// # Errors
    /// As [`model`].
    pub fn network(&self, asked: &Model) -> Result<Sequential> {
        match &self.form {
            Form::Images { shape, .. } => model(asked, shape, self.outputs()),
            Form::Table(columns) => model(asked, &[columns.names().len()], self.outputs()),
            Form::Texts { vocabulary, .. } => text_model(asked, vocabulary.len(), self.outputs()),
        }
    }

    /// Keeps everything with the weights.
    pub(super) fn note(&self, weights: &mut Weights) {
        let mut note = |name: &str, value: String| weights.notes.insert(name.to_string(), value);
        note(CLASSES, serde_json::json!(self.classes).to_string());
        match &self.form {
            Form::Images { shape, .. } => {
                note(INPUT, shape.map(|side| side.to_string()).join(","));
            }
            Form::Table(columns) => {
                note(COLUMNS, columns.to_text());
            }
            Form::Texts { vocabulary, .. } => {
                note(VOCABULARY, vocabulary.to_text());
            }
        }
    }

    /// What was kept with the weights of an experiment.
    ///
    /// # Errors
    /// With the file's name, for a note that is missing or damaged.
    pub(super) fn noted(config: &Config, weights: &Weights, file: &Path) -> Result<Described> {
        let note = |name| super::note(weights, name, file);
        let damaged = || format!("{}: a damaged note", file.display());
        let classes: Vec<String> = serde_json::from_str(note(CLASSES)?).with_context(damaged)?;
        let form = match &config.data {
            Data::Table { .. } => {
                Form::Table(Columns::from_text(note(COLUMNS)?).with_context(damaged)?)
            }
            Data::Text { text, target, max_len, .. } => Form::Texts {
                columns: TextColumns::new(text, target, classes.clone()).with_context(damaged)?,
                vocabulary: Vocabulary::from_text(note(VOCABULARY)?).with_context(damaged)?,
                max_len: *max_len,
            },
            Data::Images { .. } | Data::Mnist { .. } | Data::Cifar10 { .. } => {
                let sides = note(INPUT)?.split(',').map(str::parse).collect::<Result<Vec<_>, _>>();
                let sides = <[usize; 3]>::try_from(sides.with_context(damaged)?).ok();
                let shape = sides.with_context(damaged)?;
                let stream = matches!(config.data, Data::Images { stream: true, .. });
                Form::Images { shape, stream }
            }
        };
        Ok(Described { classes, form })
    }

    /// Samples to evaluate on, from a folder of images or a table with the target's column.
    ///
    /// # Errors
    /// What is wrong with the data.
    pub(super) fn read(&self, path: &Path) -> Result<Box<dyn Dataset>> {
        exists(path)?;
        Ok(match &self.form {
            Form::Images { shape, stream: false } => {
                Box::new(self.of_these_classes(path, reader(*shape).read(path)?)?)
            }
            Form::Images { shape, stream: true } => {
                let files = self.of_these_classes(path, reader(*shape).files(path)?)?;
                Box::new(Streaming::new(files))
            }
            Form::Table(columns) => table(columns, &read_rows(path)?)?,
            Form::Texts { columns, vocabulary, max_len } => {
                let texts = columns.labelled(&read_rows(path)?)?;
                Box::new(Sequences::encode(&texts, vocabulary, Some(*max_len)))
            }
        })
    }

    fn of_these_classes<D>(&self, path: &Path, (data, classes): (D, Vec<String>)) -> Result<D> {
        if classes != self.classes {
            let path = path.display();
            bail!("{path} has the classes {classes:?}, and the model knows {:?}", self.classes);
        }
        Ok(data)
    }

    /// What the model takes for the samples of a file: an image, or the rows of a table.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn inputs(
        &self,
        path: &Path,
        statistics: Option<Statistics>,
    ) -> Result<Vec<Inputs>> {
        exists(path)?;
        match &self.form {
            Form::Images { shape, .. } => {
                let Some(Statistics { mean, deviation }) = statistics else {
                    bail!("the model's file doesn't say how images are normalised")
                };
                let pixels = reader(*shape).image(path)?.into_iter();
                let pixels = pixels.map(|pixel| (f64::from(pixel) - mean) / deviation).collect();
                let shape = [&[1], &shape[..]].concat();
                Ok(vec![(vec![0], Array::new(&shape, DType::F32, pixels))])
            }
            Form::Table(columns) => {
                let rows = read_rows(path)?;
                let features = columns.features(&rows)?.into_iter().map(f64::from).collect();
                let shape = [rows.len(), columns.names().len()];
                let numbers = (0..rows.len()).collect();
                Ok(vec![(numbers, Array::new(&shape, DType::F32, features))])
            }
            Form::Texts { columns, vocabulary, max_len } => {
                let rows = read_rows(path)?;
                let texts = columns.unlabelled(&rows)?;
                let tokens = Sequences::unlabelled(texts, vocabulary, Some(*max_len));
                let buckets = tokens.buckets(None, 1);
                let part = |(bucket, numbers): (&Bucket, &[usize])| {
                    let part = Bucket { len: bucket.len, samples: numbers.to_vec() };
                    let padded = part.padded(&tokens).into_iter().map(f64::from).collect();
                    let shape = [part.samples.len(), part.len];
                    (part.samples, Array::new(&shape, DType::U32, padded))
                };
                let parts = buckets.iter().flat_map(|bucket| {
                    bucket.samples.chunks(TOGETHER).map(move |numbers| (bucket, numbers))
                });
                Ok(parts.map(part).collect())
            }
        }
    }
}

/// The reader of images of a shape.
fn reader([channels, height, width]: [usize; 3]) -> ImageFolder {
    let colour = if channels == 1 { Colour::Grey } else { Colour::Rgb };
    ImageFolder::new(height, width, colour)
}
