//! Logs of a run, written while it goes on: [`TensorBoard`] event files and [`CsvLog`], a table.
//!
//! Both write whole records, each in one piece and right away. A program that is killed leaves a file that can be read
//! up to its last record, and a record that doesn't fit on the disk leaves the file as it was.

mod append;
mod callbacks;
mod csv_log;
mod error;
mod event;
mod histogram;
mod tensorboard;

pub use csv_log::CsvLog;
pub use error::LogError;
pub use tensorboard::TensorBoard;
