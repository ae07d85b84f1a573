//! What can be wrong with one line of a file of texts or word vectors, apart from where it is:
//! [`DataError`](super::DataError) says that.

/// Why a line (or a file that holds one text) can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextFault {
    /// Bytes that are not UTF-8.
    #[error("not UTF-8 at byte {byte}")]
    NotUtf8 {
        /// Where the first of them stands, counted from one within the line (or the file).
        byte: usize,
    },
    /// An empty line, an empty file, or a label with only space before it.
    #[error("no text")]
    Empty,
    /// A line without the tab that parts text and label.
    #[error("no tab between text and label")]
    NoTab,
    /// A label that is not the name of a class.
    #[error("unknown label {found:?}: known are {}", quoted(known))]
    UnknownLabel {
        /// What stands behind the last tab, its beginning if it is long.
        found: String,
        /// The names of the classes.
        known: Vec<String>,
    },
    /// A row of word vectors that is shorter or longer than the others.
    #[error("expected a word and {expected} numbers, found {found}")]
    Width {
        /// How many numbers a row should hold.
        expected: usize,
        /// How many it holds.
        found: usize,
    },
    /// Something else where a row of word vectors should have a number.
    #[error("number {column} of the row is {found:?}, which is not a finite number")]
    Number {
        /// Which of the row's numbers, counted from one.
        column: usize,
        /// What stands there, its beginning if it is long.
        found: String,
    },
    /// A word that is no word: nothing, or with space in it.
    #[error("{found:?} is not a word")]
    NotAWord {
        /// What stands there, its beginning if it is long.
        found: String,
    },
    /// A word that an earlier line holds already, or one of the two that have no line.
    #[error("the word {word:?} is already number {id}")]
    Duplicate {
        /// The word.
        word: String,
        /// The number it has.
        id: u32,
    },
}

impl TextFault {
    /// The kind of fault, to follow a count: "2 without a tab".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not UTF-8",
            Self::Empty => "without text",
            Self::NoTab => "without a tab",
            Self::UnknownLabel { .. } => "of unknown label",
            Self::Width { .. } => "of wrong width",
            Self::Number { .. } => "with something else than a number",
            Self::NotAWord { .. } => "without a word",
            Self::Duplicate { .. } => "of a word already there",
        }
    }
}

/// What is quoted in an error: the beginning, if it is long.
pub(in crate::data) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
