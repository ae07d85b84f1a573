//! Texts from a file of tab-separated values: text, tab, label, without a header, as the Stanford
//! Sentiment Treebank is passed around.

use std::path::Path;

use super::{DataError, Reading, Report, TextFault, Texts, check_classes, fault::excerpt, lines};

impl Texts {
    /// The texts of a file with one on each line, followed by a tab and the name of its class.
    ///
    /// The label is what follows the last tab, exactly; it must be one of the
    /// [names](Reading::classes) given. Lines may end with `\n` or `\r\n`.
    ///
    /// # Errors
    ///
    /// * [`DataError::Classes`] when the names can't be told apart,
    /// * [`DataError::Io`] when the file can't be read,
    /// * [`DataError::Line`] at the first line that is not UTF-8, holds no text, no tab or an
    ///   unknown label, unless those are [skipped](Reading::skip_bad) and counted,
    /// * [`DataError::Nothing`] when no line is left.
    pub fn tsv(path: impl AsRef<Path>, reading: &Reading) -> Result<(Self, Report), DataError> {
        let path = path.as_ref();
        check_classes(&reading.classes)?;
        let (mut texts, mut labels) = (Vec::new(), Vec::new());
        let report = lines::each(path, reading, |line| {
            let (text, label) = parse(line, &reading.classes)?;
            texts.push(text.to_owned());
            labels.push(label);
            Ok(())
        })?;
        if texts.is_empty() {
            return Err(DataError::Nothing { path: path.to_owned(), report });
        }
        Ok((Self::new(texts, labels, reading.classes.clone())?, report))
    }
}

/// The text and the class of a line.
fn parse<'a>(line: &'a str, classes: &[String]) -> Result<(&'a str, u8), TextFault> {
    if line.trim().is_empty() {
        return Err(TextFault::Empty);
    }
    let (text, label) = line.rsplit_once('\t').ok_or(TextFault::NoTab)?;
    if text.trim().is_empty() {
        return Err(TextFault::Empty);
    }
    let class = classes.iter().position(|name| name == label);
    match class.and_then(|class| u8::try_from(class).ok()) {
        Some(class) => Ok((text, class)),
        None => {
            let (found, known) = (excerpt(label), classes.to_vec());
            Err(TextFault::UnknownLabel { found, known })
        }
    }
}

#[cfg(test)]
mod tests;
