//! What can be wrong with a table or one of its rows, apart from where it is: [`DataError`](crate::DataError) says that.

/// Why a table, or a row of it, can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableFault {
    /// A field that is not UTF-8.
    #[error("field {field} is not UTF-8")]
    NotUtf8 {
        /// Which field of the row, counted from one.
        field: usize,
    },
    /// A quoted field that goes on to the end of the file.
    #[error("a quote in this row is never closed")]
    OpenQuote,
    /// A row that is shorter or longer than the first.
    #[error("expected {expected} fields, as in the first row, found {found}")]
    Fields {
        /// How many fields the first row has.
        expected: usize,
        /// How many this one has.
        found: usize,
    },
    /// A file without rows, or with nothing but a header.
    #[error("no rows")]
    Empty,
    /// Two columns of one name.
    #[error("two columns are called {column:?}")]
    SameName {
        /// The name.
        column: String,
    },
    /// A column that the file doesn't have.
    #[error("no column {wanted}: there are {}", listed(possible))]
    NoColumn {
        /// The name in quotes, or the number.
        wanted: String,
        /// The names of the columns.
        possible: Vec<String>,
    },
    /// A table in which there are no columns but the target and those left out.
    #[error("no column is left to learn from")]
    NoFeatures,
    /// A column in which every value is missing.
    #[error("column {column:?} has no values: leave it out")]
    NoValues {
        /// The name of the column.
        column: String,
    },
    /// A field in which there is no value.
    #[error("column {column:?} has no value ({found:?})")]
    Missing {
        /// The name of the column.
        column: String,
        /// What stands there.
        found: String,
    },
    /// Something else where a number is expected.
    #[error("column {column:?} is {found:?}, expected a finite number")]
    NotANumber {
        /// The name of the column.
        column: String,
        /// What stands there, its beginning if it is long.
        found: String,
    },
    /// A column in which some values are numbers and some are not.
    #[error(
        "column {column:?} is {found:?}, but has numbers elsewhere: say that it is categorical, or that this marks a \
         missing value"
    )]
    Mixed {
        /// The name of the column.
        column: String,
        /// The first value that is no number, its beginning if it is long.
        found: String,
    },
    /// A category that was not there when the columns were fitted.
    #[error("column {column:?} is {found:?}: known are {}", listed(known))]
    UnknownCategory {
        /// The name of the column.
        column: String,
        /// What stands there, its beginning if it is long.
        found: String,
        /// The categories.
        known: Vec<String>,
    },
    /// A column of text with so many categories that it hardly is one of categories.
    #[error(
        "column {column:?} has {found} categories, over {limit}: leave it out, or say that it is categorical"
    )]
    TooManyCategories {
        /// The name of the column.
        column: String,
        /// How many it has.
        found: usize,
        /// How many it may have without being called categorical.
        limit: usize,
    },
    /// A target with more classes than labels can tell apart.
    #[error("target {column:?} has {found} classes, over {limit}: numbers are for a regression")]
    TooManyClasses {
        /// The name of the column.
        column: String,
        /// How many it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Numbers of which mean and deviation, or the standardised value, are not finite in their format.
    #[error("the numbers of column {column:?} are too large to be standardised")]
    TooLarge {
        /// The name of the column.
        column: String,
    },
    /// Columns that were fitted for the other kind of target.
    #[error("the columns were fitted for {fitted}, not for {wanted}")]
    OtherTarget {
        /// What they were fitted for.
        fitted: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// Some names, the first of them if they are many.
fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
