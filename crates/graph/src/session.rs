//! Sessions: one device, the contents of variables, and the programs that share them.

use crate::variable::Holder;
use crate::{Array, Compiled, Graph, GraphError, Options, Report, Tensor, Variable, compile};
use shadegrad_device::{Buffer, Device, Executable, Pending, Timing};
use std::collections::HashMap;

/// Owns the contents of variables on a device. Programs for training, evaluation and whatever else
/// bind the same memory.
pub struct Session {
    device: Device,
    /// The memory of each variable, for as long as anyone holds the variable.
    buffers: HashMap<u64, (Holder, Buffer)>,
}

/// A program on a device, bound to a session's variables.
pub struct Loaded {
    executable: Executable,
    compiled: Compiled,
    device: Device,
}

/// What guard ranges are filled with: no number that a kernel computes.
const GUARD: u8 = 0xA5;

impl Session {
    /// An empty session.
    pub fn new(device: &Device) -> Session {
        Session { device: device.clone(), buffers: HashMap::new() }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether a variable has memory here.
    pub fn holds(&self, variable: &Variable) -> bool {
        self.buffers.contains_key(&variable.id())
    }

    /// How many variables have memory here.
    pub fn variables(&self) -> usize {
        self.buffers.len()
    }

    /// The memory of a variable, created and initialised when first asked for.
    fn buffer(&mut self, variable: &Variable) -> Result<Buffer, GraphError> {
        if let Some((_, buffer)) = self.buffers.get(&variable.id()) {
            return Ok(buffer.clone());
        }
        let ty = variable.ty();
        let buffer = self.device.create(variable.name(), ty.bytes())?;
        let bytes = variable.init().bytes(ty.dtype, ty.numel());
        if bytes.len() != ty.bytes() {
            return Err(GraphError::Mismatch {
                what: format!("the initial contents of variable `{}`", variable.name()),
                expected: format!("{} bytes for {ty}", ty.bytes()),
                found: format!("{} bytes", bytes.len()),
            });
        }
        if !bytes.is_empty() {
            self.device.write(&buffer, 0, &bytes)?;
        }
        self.buffers.insert(variable.id(), (variable.holder(), buffer.clone()));
        Ok(buffer)
    }

    /// Compiles a recording for the device and loads it.
    ///
    /// # Errors
    /// The first mistake that was recorded, or what the compiler or the device refuses.
    pub fn compile(&mut self, graph: &Graph, outputs: &[&Tensor]) -> Result<Loaded, GraphError> {
        self.compile_with(graph, outputs, &Options::default())
    }

    /// [`Session::compile`] with optimisations chosen.
    ///
    /// # Errors
    /// As [`Session::compile`].
    pub fn compile_with(
        &mut self,
        graph: &Graph,
        outputs: &[&Tensor],
        options: &Options,
    ) -> Result<Loaded, GraphError> {
        let compiled = compile(&graph.nodes(outputs)?, self.device.limits(), options)?;
        self.load(compiled)
    }

    /// Loads a compiled program.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn load(&mut self, compiled: Compiled) -> Result<Loaded, GraphError> {
        dump_if_asked(&compiled);
        // What nobody can name any more, such as a data set of an earlier program, makes room.
        self.buffers.retain(|_, (holder, _)| holder.is_held());
        let variables =
            compiled.variables.iter().map(|v| self.buffer(v)).collect::<Result<Vec<_>, _>>()?;
        let executable = self.device.load(&compiled.program, &variables)?;
        for &(buffer, offset, bytes) in &compiled.gaps {
            self.device.write(executable.buffer(buffer), offset, &vec![GUARD; bytes])?;
        }
        Ok(Loaded { executable, compiled, device: self.device.clone() })
    }

    /// The contents of a variable, in memory layout.
    ///
    /// # Errors
    /// What the device reports.
    pub fn read(&mut self, variable: &Variable) -> Result<Vec<u8>, GraphError> {
        let buffer = self.buffer(variable)?;
        Ok(self.device.read(&buffer, 0, variable.ty().bytes())?)
    }

    /// The contents of a variable as numbers.
    ///
    /// # Errors
    /// What the device reports.
    pub fn read_array(&mut self, variable: &Variable) -> Result<Array, GraphError> {
        Ok(Array::from_bytes(variable.ty(), &self.read(variable)?))
    }

    /// Queues a read of a variable behind all work so far; see [`Device::read_later`].
    ///
    /// # Errors
    /// What the device reports.
    pub fn read_later(&mut self, variable: &Variable) -> Result<Pending, GraphError> {
        let buffer = self.buffer(variable)?;
        Ok(self.device.read_later(&buffer, 0, variable.ty().bytes())?)
    }

    /// Overwrites a variable with bytes in memory layout.
    ///
    /// # Errors
    /// [`GraphError::Mismatch`] for another number of bytes, or what the device reports.
    pub fn write(&mut self, variable: &Variable, bytes: &[u8]) -> Result<(), GraphError> {
        if bytes.len() != variable.ty().bytes() {
            return Err(GraphError::Mismatch {
                what: format!("data for variable `{}`", variable.name()),
                expected: format!("{} bytes for {}", variable.ty().bytes(), variable.ty()),
                found: format!("{} bytes", bytes.len()),
            });
        }
        let buffer = self.buffer(variable)?;
        Ok(self.device.write(&buffer, 0, bytes)?)
    }
}

/// Writes every stage to the folder that `SHADEGRAD_DUMP` names, a folder for each program.
fn dump_if_asked(compiled: &Compiled) {
    let Some(folder) = std::env::var_os("SHADEGRAD_DUMP").map(std::path::PathBuf::from) else {
        return;
    };
    let free = (0..).map(|n| folder.join(format!("program-{n}"))).find(|path| !path.exists());
    let Some(folder) = free else { return };
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        compiled.dump.iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
    });
    if let Err(error) = written {
        eprintln!("can't write the dump to {}: {error}", folder.display());
    }
}

impl Loaded {
    /// Runs steps; returns when they are queued.
    ///
    /// # Errors
    /// What the device reports.
    pub fn run(&mut self, steps: usize) -> Result<(), GraphError> {
        Ok(self.executable.run(steps)?)
    }

    /// Runs one step as [`Executable::run_bare`] does.
    ///
    /// # Errors
    /// What the device reports.
    #[doc(hidden)]
    pub fn run_bare(&mut self) -> Result<bool, GraphError> {
        Ok(self.executable.run_bare()?)
    }

    /// Waits for all work and reads an output, in memory layout.
    ///
    /// # Errors
    /// What the device reports; [`GraphError::Mismatch`] if there is no such output.
    pub fn read(&self, output: usize) -> Result<Vec<u8>, GraphError> {
        let Some(place) = self.compiled.outputs.get(output) else {
            return Err(GraphError::Mismatch {
                what: "the number of an output".to_string(),
                expected: format!("less than {}", self.compiled.outputs.len()),
                found: output.to_string(),
            });
        };
        let buffer = self.executable.buffer(place.buffer);
        // Whole words: an odd number of halves ends in the middle of one.
        let mut bytes =
            self.device.read(buffer, place.offset, place.ty.bytes().next_multiple_of(4))?;
        bytes.truncate(place.ty.bytes());
        Ok(bytes)
    }

    /// Waits for all work and reads an output as numbers.
    ///
    /// # Errors
    /// As [`Loaded::read`].
    pub fn read_array(&self, output: usize) -> Result<Array, GraphError> {
        let bytes = self.read(output)?;
        Ok(Array::from_bytes(&self.compiled.outputs[output].ty, &bytes))
    }

    /// Runs one step and measures each kernel.
    ///
    /// # Errors
    /// What the device reports.
    pub fn profile(&mut self) -> Result<Vec<Timing>, GraphError> {
        Ok(self.executable.profile()?)
    }

    /// What a step costs.
    pub fn report(&self) -> &Report {
        &self.compiled.report
    }

    /// The compiled program.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Checks that nothing was written between the values in scratch memory.
    ///
    /// # Errors
    /// [`GraphError::Compiler`] with the first byte that was.
    pub fn check_guards(&self) -> Result<(), GraphError> {
        for &(buffer, offset, bytes) in &self.compiled.gaps {
            let found = self.device.read(self.executable.buffer(buffer), offset, bytes)?;
            if let Some(at) = found.iter().position(|&byte| byte != GUARD) {
                let reason = format!("byte {} of buffer {buffer} was overwritten", offset + at);
                return Err(GraphError::Compiler { stage: "run", reason });
            }
        }
        Ok(())
    }
}

impl Tensor {
    /// The value, computed at once on a device, with variables as they start.
    ///
    /// # Errors
    /// As [`Session::compile`] and [`Loaded::read`].
    pub fn eval(&self, device: &Device) -> Result<Array, GraphError> {
        let mut session = Session::new(device);
        let mut loaded = session.compile(self.graph(), &[self])?;
        loaded.run(1)?;
        loaded.read_array(0)
    }
}
