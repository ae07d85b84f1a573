//! Event files that TensorBoard shows.
//!
//! The messages are `Event` and `Summary` of TensorFlow's `event.proto` and `summary.proto`; of their fields only those
//! used here are written.

use std::{
    fs::{self, OpenOptions},
    io::{Cursor, ErrorKind},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use super::{LogError, append::Appended, event::Message, histogram::Histogram};

/// Writes an event file, which TensorBoard shows while it grows.
///
/// ```no_run
/// use shadegrad_train::log::TensorBoard;
///
/// # fn main() -> Result<(), shadegrad_train::log::LogError> {
/// let mut board = TensorBoard::create("runs/first")?;
/// for (step, loss) in [2.3, 1.1, 0.7].into_iter().enumerate() {
///     board.scalar("loss", step, loss)?;
/// }
/// board.flush()?;         // and then: tensorboard --logdir runs
/// # Ok(())
/// # }
/// ```
///
/// Tags are the names under which values are shown; those with a common beginning up to a `/` are shown together. Each
/// record is handed to the system at once, so a program that is killed loses none; [`flush`](Self::flush) waits for the
/// disk.
#[derive(Debug)]
pub struct TensorBoard {
    file: Appended,
}

impl TensorBoard {
    /// Begins a file `events.out.tfevents.<seconds>.<host>` in a folder, which is made if need be; where that name is
    /// taken, a number follows it. A folder for each run is what TensorBoard expects.
    ///
    /// # Errors
    /// [`LogError::Io`] when the folder or the file can't be made.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self, LogError> {
        let folder = folder.as_ref();
        let io = |path: &Path, source| LogError::Io { path: path.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
        let host = gethostname::gethostname().to_string_lossy().replace(['/', '\\', ':'], "_");
        let name = format!("events.out.tfevents.{}.{host}", seconds() as u64);
        let (mut path, mut taken) = (folder.join(&name), 0_u64);
        let file = loop {
            match Appended::open(&path, OpenOptions::new().create_new(true)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    taken += 1;
                    path = folder.join(format!("{name}.{taken}"));
                }
                result => break result.map_err(|source| io(&path, source))?,
            }
        };
        let mut board = Self { file };
        board.put(event().bytes(3, "brain.Event:2"))?;
        Ok(board)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// A number at a step. NaN and infinity are shown as such.
    ///
    /// # Errors
    /// [`LogError::Io`] when it can't be written.
    pub fn scalar(&mut self, tag: &str, step: usize, value: f32) -> Result<(), LogError> {
        self.value(step, named(tag).float(2, value))
    }

    /// How values are distributed at a step.
    ///
    /// # Errors
    /// [`LogError::NoValues`], [`LogError::NotFinite`], [`LogError::Io`].
    pub fn histogram(&mut self, tag: &str, step: usize, values: &[f32]) -> Result<(), LogError> {
        let tag_owned = || tag.to_owned();
        if values.is_empty() {
            return Err(LogError::NoValues { tag: tag_owned() });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(LogError::NotFinite { tag: tag_owned(), index, value: values[index] });
        }
        self.value(step, named(tag).message(5, Histogram::of(values).message()))
    }

    /// An image at a step. `pixels` are bytes, `[channels, height, width]`, with 1 (grey) or 3 (red, green, blue)
    /// channels.
    ///
    /// # Errors
    /// [`LogError::Image`] when the pixels are not those of the shape, or it has no pixels; [`LogError::Encode`],
    /// [`LogError::Io`].
    pub fn image(
        &mut self,
        tag: &str,
        step: usize,
        shape: [usize; 3],
        pixels: &[u8],
    ) -> Result<(), LogError> {
        let [channels, height, width] = shape;
        let wrong = || LogError::Image { tag: tag.to_owned(), shape, found: pixels.len() };
        let plane = height.checked_mul(width).filter(|plane| *plane > 0).ok_or_else(wrong)?;
        let (Ok(rows), Ok(columns)) = (u32::try_from(height), u32::try_from(width)) else {
            return Err(wrong());
        };
        let colour = match channels {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            _ => return Err(wrong()),
        };
        if plane.checked_mul(channels) != Some(pixels.len()) {
            return Err(wrong());
        }
        let places = (0..plane).flat_map(|at| (0..channels).map(move |c| c * plane + at));
        let interleaved: Vec<u8> = places.map(|place| pixels[place]).collect();
        let mut png = Cursor::new(Vec::new());
        let encoded = PngEncoder::new(&mut png).write_image(&interleaved, columns, rows, colour);
        encoded.map_err(|source| LogError::Encode { tag: tag.to_owned(), source })?;
        let image = (1..)
            .zip([height, width, channels])
            .fold(Message::default(), |m, (field, n)| m.uint(field, n as u64));
        self.value(step, named(tag).message(4, image.bytes(4, png.into_inner())))
    }

    /// A text at a step, shown as Markdown.
    ///
    /// # Errors
    /// [`LogError::Io`] when it can't be written.
    pub fn text(&mut self, tag: &str, step: usize, text: &str) -> Result<(), LogError> {
        // A tensor of one string (`DT_STRING` is 7) that the plugin for texts shows (`DATA_CLASS_TENSOR` is 2).
        let one = Message::default().message(2, Message::default().uint(1, 1));
        let tensor = Message::default().uint(1, 7).message(2, one).bytes(8, text);
        let plugin = Message::default().bytes(1, "text");
        let shown = Message::default().message(1, plugin).uint(4, 2);
        self.value(step, named(tag).message(8, tensor).message(9, shown))
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.file.sync()
    }

    /// A summary of one value.
    fn value(&mut self, step: usize, value: Message) -> Result<(), LogError> {
        let summary = Message::default().message(1, value);
        self.put(event().uint(2, step as u64).message(5, summary))
    }

    fn put(&mut self, event: Message) -> Result<(), LogError> {
        self.file.put(&event.record())
    }
}

/// An event of this moment.
fn event() -> Message {
    Message::default().double(1, seconds())
}

/// A value of this name.
fn named(tag: &str) -> Message {
    Message::default().bytes(1, tag)
}

/// Since 1970.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
