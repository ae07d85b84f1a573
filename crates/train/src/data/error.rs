//! What can go wrong between a file (or a mirror) and a data set. Every error names the file and
//! says what was expected and what was found, so that it can be acted on without a debugger.

use std::{io, path::PathBuf};

use super::{
    ImageFault,
    table::TableFault,
    text::{Report, TextFault},
};

/// Why a data set could not be read, checked or downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// None of a file's usual names exists in the folder.
    #[error("{}: none of {} is there", dir.display(), names.join(", "))]
    Missing {
        /// The folder that was searched.
        dir: PathBuf,
        /// The file names that would have been accepted.
        names: Vec<String>,
    },
    /// The operating system, or a damaged gzip stream, stopped the reading or writing.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not begin as an IDX file does.
    #[error(
        "{}: not an IDX file: expected it to begin with the bytes 00 00 08, found {found:02x?}",
        path.display()
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// An IDX file whose elements are not unsigned bytes.
    #[error(
        "{}: expected unsigned bytes (IDX element type 0x08), found element type {found:#04x}",
        path.display()
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The element type in its header.
        found: u8,
    },
    /// The file ends before its header says it does.
    #[error("{}: truncated: expected {expected} bytes (unpacked), found {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How many unpacked bytes the header calls for, the header included.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The file goes on after its header says it ends.
    #[error("{}: expected {expected} bytes (unpacked), found more", path.display())]
    Trailing {
        /// The file.
        path: PathBuf,
        /// How many unpacked bytes the header calls for, the header included.
        expected: u64,
    },
    /// The file or folder describes a tensor that no memory of this machine could hold.
    #[error("{}: the shape {shape:?} has more elements than there is memory for", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// The shape in its header, or that of all images.
        shape: Vec<usize>,
    },
    /// A sound file of another shape than the data set has.
    #[error("{}: expected shape {expected}, found {found:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The shape the data set calls for, such as `[count, 28, 28]`.
        expected: &'static str,
        /// The shape in the file's header.
        found: Vec<usize>,
    },
    /// As many labels as images were expected.
    #[error(
        "{}: {image_count} images, but {} has {label_count} labels",
        images.display(),
        labels.display()
    )]
    Count {
        /// The file of images.
        images: PathBuf,
        /// How many images it holds.
        image_count: usize,
        /// The file of labels.
        labels: PathBuf,
        /// How many labels it holds.
        label_count: usize,
    },
    /// A file or folder of images can't be used.
    #[error("{}: {reason}", path.display())]
    Image {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: ImageFault,
    },
    /// A row of a table can't be used.
    #[error("{}, line {line}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// In which line the row begins, counted from one.
        line: u64,
        /// What is wrong with it.
        reason: TableFault,
    },
    /// A table can't be used.
    #[error("{}: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: TableFault,
    },
    /// Columns kept as text have a row that is not one.
    #[error("kept columns, row {row}: expected {expected}, found {found}")]
    Kept {
        /// Which row, counted from one.
        row: usize,
        /// What stands there, its beginning if it is long.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// The features handed to [`Table::new`](super::table::Table::new) are not as many as it has rows and columns.
    #[error("{rows} rows of {columns} columns do not take {found} numbers")]
    Features {
        /// How many rows there should be, one per target.
        rows: usize,
        /// How many columns there should be, one per name.
        columns: usize,
        /// How many numbers there are.
        found: usize,
    },
    /// Data sets that can't follow each other.
    #[error("data sets of different {what}: {first} and {second}")]
    Unlike {
        /// What should be the same.
        what: &'static str,
        /// What it is in the first.
        first: String,
        /// What it is in the second.
        second: String,
    },
    /// A number that no sample of a data set has.
    #[error("there is no sample {number}: there are {count}, counted from 0")]
    Sample {
        /// The number.
        number: usize,
        /// How many samples there are.
        count: usize,
    },
    /// A setting that makes no sense.
    #[error("{what} is {value}: it must be {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it can be.
        expected: String,
    },
    /// The pixels handed to [`Images::new`](super::Images::new) are not the ones its shape calls for.
    #[error("{images} images of [{}, {}, {}] do not take {found} bytes", shape[0], shape[1], shape[2])]
    Pixels {
        /// How many images there should be, one per label.
        images: usize,
        /// Channels, height and width of one image.
        shape: [usize; 3],
        /// How many bytes of pixels there are.
        found: usize,
    },
    /// A character that a vocabulary of characters doesn't have.
    #[error("character {place} is {character:?}, which the vocabulary doesn't have")]
    Character {
        /// The character.
        character: char,
        /// How many are before it.
        place: usize,
    },
    /// A label names a class that does not exist.
    #[error(
        "{origin}: label {label} at index {index} is not below the number of classes, {classes}"
    )]
    Label {
        /// The file, or whatever else the labels come from.
        origin: String,
        /// Where the first such label stands.
        index: usize,
        /// The label.
        label: u8,
        /// How many classes there are.
        classes: usize,
    },
    /// A line of a file of texts or of word vectors can't be used.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, counted from one.
        line: usize,
        /// What is wrong with it.
        reason: TextFault,
    },
    /// A file that holds one text can't be used.
    #[error("{}: {reason}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: TextFault,
    },
    /// A vocabulary kept as text has a line that is no word of its own.
    #[error("vocabulary, line {line}: {reason}")]
    Vocabulary {
        /// Which line, counted from one.
        line: usize,
        /// What is wrong with it.
        reason: TextFault,
    },
    /// A file or a class in which there is nothing to read, or nothing that could be used.
    #[error("{}: nothing in it could be used ({report})", path.display())]
    Nothing {
        /// The file, or the folder of the class.
        path: PathBuf,
        /// What was skipped.
        report: Report,
    },
    /// A folder that should hold one folder for each class, and holds none.
    #[error("{}: no folders of classes (such as neg and pos) in it", path.display())]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// Classes that labels can't be told apart by.
    #[error("classes {names:?}: {reason}")]
    Classes {
        /// Their names.
        names: Vec<String>,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// As many labels as texts were expected.
    #[error("{texts} texts, but {labels} labels")]
    Texts {
        /// How many texts there are.
        texts: usize,
        /// How many labels there are.
        labels: usize,
    },
    /// The contents are not the ones that were published.
    #[error("{origin}: expected (unpacked) contents of SHA-256 {expected}, found {found}")]
    Checksum {
        /// The file or the address.
        origin: String,
        /// The published digest, in hexadecimal.
        expected: String,
        /// The digest of what is there, in hexadecimal.
        found: String,
    },
    /// One address did not deliver.
    #[error("{url}: {source}")]
    Fetch {
        /// The address.
        url: String,
        /// What went wrong there.
        source: io::Error,
    },
    /// No mirror delivered the file.
    #[error("{file} could not be downloaded: {}", join(attempts))]
    Download {
        /// The name of the file.
        file: String,
        /// What went wrong at each mirror, in the order they were tried.
        attempts: Vec<DataError>,
    },
    /// No variable of the environment says where caches belong.
    #[error("no cache folder: set SHADEGRAD_CACHE, or give the folder of the data")]
    NoCacheDir,
}

impl DataError {
    /// A setting that makes no sense.
    pub(crate) fn setting(what: &'static str, value: impl ToString, expected: &str) -> Self {
        Self::Setting { what, value: value.to_string(), expected: expected.to_owned() }
    }

    /// For `map_err`: the same I/O error with the path it happened at.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn join(errors: &[DataError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
