//! Texts in a table: a column of texts, and a column of classes beside it.

use super::{
    ColumnId, Columns, DataError, Preparation, Rows, TableFault, check_classes, columns::Target,
};
use crate::data::text::Texts;

/// Which column of a table has texts and which has their classes, and what classes there are.
#[derive(Clone, Debug, PartialEq)]
pub struct TextColumns {
    text: String,
    /// Nothing but the target.
    classes: Columns,
}

impl TextColumns {
    /// Finds the classes in the rows to train on, in the order of their names, or by size where all are numbers.
    ///
    /// # Errors
    /// [`DataError::Table`] when there are no rows, no such columns, or more classes than labels can tell apart;
    /// [`DataError::Row`] with the line of a missing class; [`DataError::Setting`] when both are one column.
    pub fn fit(
        rows: &Rows,
        text: impl Into<ColumnId>,
        target: impl Into<ColumnId>,
    ) -> Result<Self, DataError> {
        let text = rows.names()[rows.find(&text.into())?].clone();
        let classes = Preparation::classify(target).fit_target(rows)?;
        Self::of(text, classes)
    }

    /// The same columns of classes that are known, as those of an earlier fit.
    ///
    /// # Errors
    /// [`DataError::Classes`], and [`DataError::Setting`] when both are one column.
    pub fn new(text: &str, target: &str, classes: Vec<String>) -> Result<Self, DataError> {
        check_classes(&classes)?;
        let target = Target::Class { column: target.to_owned(), names: classes };
        Self::of(text.to_owned(), Columns::of_target(target))
    }

    fn of(text: String, classes: Columns) -> Result<Self, DataError> {
        match &classes.target {
            Target::Class { column, .. } | Target::Value { column } if *column == text => {
                let expected = "another than that of the classes";
                Err(DataError::setting("the column of texts", format!("{text:?}"), expected))
            }
            _ => Ok(Self { text, classes }),
        }
    }

    /// The names of the classes, in the order of their labels.
    pub fn classes(&self) -> &[String] {
        self.classes.classes()
    }

    /// The texts of some rows with their classes.
    ///
    /// # Errors
    /// [`DataError::Table`] when a column is missing, [`DataError::Row`] with the line of a row without text, and of a class that is
    /// missing or was not there when they were found.
    pub fn labelled(&self, rows: &Rows) -> Result<Texts, DataError> {
        let texts = self.unlabelled(rows)?.into_iter().map(str::to_owned).collect();
        let classes = self.classes.classification(rows)?.targets;
        Texts::new(texts, classes.labels, classes.names)
    }

    /// The texts alone, to predict their classes, which need not be among the columns.
    ///
    /// # Errors
    /// As [`labelled`](Self::labelled), but for the classes.
    pub fn unlabelled<'r>(&self, rows: &'r Rows) -> Result<Vec<&'r str>, DataError> {
        let number = rows.find(&ColumnId::Name(self.text.clone()))?;
        let text = |(line, field): (u64, &'r str)| match field.trim().is_empty() {
            false => Ok(field),
            true => {
                let (column, found) = (self.text.clone(), field.to_owned());
                Err(rows.faulty_at(line, TableFault::Missing { column, found }))
            }
        };
        rows.fields(number).map(text).collect()
    }
}

#[cfg(test)]
mod tests;
