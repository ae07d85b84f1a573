//! What can go wrong on a device, with the facts: what was asked for and what is possible.

/// A failure of a device or of a program given to it.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device of that name.
    #[error("unknown device `{name}`: this machine has {available}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        available: String,
    },
    /// The adapter refused to open.
    #[error("can't open {device}: {reason}")]
    Open {
        /// The adapter.
        device: String,
        /// What it said.
        reason: String,
    },
    /// A program asks for more than the device has.
    #[error("{what} needs {requested} {unit}, but {device} has at most {limit}")]
    Limit {
        /// The kernel or buffer.
        what: String,
        /// How much it needs.
        requested: usize,
        /// Of what.
        unit: &'static str,
        /// How much there is.
        limit: usize,
        /// The device.
        device: String,
    },
    /// A program that contradicts itself: a defect of whoever built it.
    #[error("invalid program, kernel {number} ({label}): {reason}")]
    Program {
        /// The kernel's place in the program.
        number: usize,
        /// The kernel's label.
        label: String,
        /// What is wrong.
        reason: String,
    },
    /// The shader compiler refused a kernel.
    #[error("the shader of kernel `{label}` is refused: {reason}")]
    Shader {
        /// The kernel's label.
        label: String,
        /// What the compiler said.
        reason: String,
    },
    /// No memory for a buffer.
    #[error("{device} has no memory for the {bytes} bytes of `{name}`: {reason}")]
    OutOfMemory {
        /// The device.
        device: String,
        /// The buffer.
        name: String,
        /// How many bytes.
        bytes: usize,
        /// What the driver or the system says.
        reason: String,
    },
    /// A read or write outside a buffer.
    #[error("buffer `{name}` has {size} bytes; {len} from {offset} were asked for")]
    Range {
        /// The buffer.
        name: String,
        /// Its size in bytes.
        size: usize,
        /// First byte asked for.
        offset: usize,
        /// Bytes asked for.
        len: usize,
    },
    /// A read or write that doesn't lie on whole words.
    #[error(
        "{len} bytes from {offset} of buffer `{name}`: offsets are multiples of 4, and so are lengths but at the buffer's end"
    )]
    Alignment {
        /// The buffer.
        name: String,
        /// First byte asked for.
        offset: usize,
        /// Bytes asked for.
        len: usize,
    },
    /// A program that was given other buffers than it names.
    #[error("a program with {expected} external buffers was given {found}")]
    Externals {
        /// How many it names.
        expected: usize,
        /// What it was given.
        found: String,
    },
    /// Something that this device can't do.
    #[error("{device} can't {what}")]
    Unsupported {
        /// The device.
        device: String,
        /// What was asked for.
        what: String,
    },
    /// A buffer of another device.
    #[error("buffer `{name}` was not made by {device}")]
    Foreign {
        /// The buffer.
        name: String,
        /// The device that was given it.
        device: String,
    },
    /// The device stopped answering.
    #[error("{device} was lost: {reason}")]
    Lost {
        /// The device.
        device: String,
        /// What is known.
        reason: String,
    },
}
