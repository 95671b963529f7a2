//! A 16550 serial port whose output goes to a writer: the guest's console.
//!
//! Output only: nothing is ever received, so the guest's terminal input has to
//! come by another way. The registers are vm-superio's; this crate makes them
//! a device of the machine.
//!
//! Driver `serial`. It has no options. Its attachment is the sink, a
//! `Box<dyn Write + Send>` (boxed once more as `Box<dyn Any + Send>`).
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use device_model::{BusDevice, DeviceEnv, DeviceFactory, DeviceSpec, IrqLine, NewDevice};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};

#[cfg(test)]
mod tests;

/// What the sink must be: see [`Factory`].
pub type Sink = Box<dyn Write + Send>;

/// Makes serial ports: driver `serial`.
///
/// The attachment is a [`Sink`]. It gets every byte as its own `write`, on the
/// vCPU thread that sent the byte and that waits for the answer, and is never
/// flushed: when to pass bytes on is the sink's decision. It must not block;
/// bytes that it refuses are lost.
pub struct Factory;

impl DeviceFactory for Factory {
    fn driver(&self) -> &'static str {
        "serial"
    }

    fn create(&self, spec: DeviceSpec, env: &DeviceEnv) -> anyhow::Result<NewDevice> {
        refuse_options(&spec.options)?;
        let sink = spec
            .attachment
            .context("no attachment: it takes a Box<dyn Write + Send> for its output")?
            .downcast::<Sink>()
            .map_err(|_| anyhow::anyhow!("the attachment is not a Box<dyn Write + Send>"))?;
        let line = Line(Arc::clone(&env.line));
        let port = Serial::new(line, Unflushed(*sink));
        Ok(NewDevice::Serial(Box::new(SerialPort(port))))
    }
}

fn refuse_options(options: &serde_json::Value) -> anyhow::Result<()> {
    match options {
        serde_json::Value::Null => Ok(()),
        serde_json::Value::Object(map) => match map.keys().next() {
            Some(key) => bail!("unknown option {key:?}: this driver has none"),
            None => Ok(()),
        },
        _ => bail!("the options are not a JSON object"),
    }
}

/// The reserved interrupt line as vm-superio raises it.
struct Line(Arc<dyn IrqLine>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.pulse();
        Ok(())
    }
}

/// The sink without `flush`, which the register model calls after each byte.
struct Unflushed(Sink);

impl Write for Unflushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct SerialPort(Serial<Line, NoEvents, Unflushed>);

/// The registers are a byte wide. Other widths and places beyond the eight
/// registers answer as an empty bus does: all ones, and writes are lost.
impl BusDevice for SerialPort {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match (u8::try_from(offset), &mut *data) {
            (Ok(register @ 0..=7), [byte]) => *byte = self.0.read(register),
            _ => data.fill(0xff),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(register @ 0..=7), [byte]) = (u8::try_from(offset), data) {
            // A byte that the sink refuses is lost, as on a real port with no
            // one listening; the guest must not wait for the host's terminal.
            let _ = self.0.write(register, *byte);
        }
    }
}
