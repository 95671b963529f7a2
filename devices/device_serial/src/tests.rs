//! The port through its factory, as the machine uses it.

use std::sync::Mutex;

use device_model::Threads;
use serde_json::json;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::*;

const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const LINE_STATUS: u64 = 5;
const SCRATCH: u64 = 7;

/// Counts flushes to show that there are none.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<(Vec<u8>, usize)>>);

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().1 += 1;
        Ok(())
    }
}

struct Refuses;

impl Write for Refuses {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn env() -> DeviceEnv {
    DeviceEnv {
        vcpus: 1,
        line: Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap()),
        threads: Threads::new(|_| Ok(())),
    }
}

fn spec(options: serde_json::Value, sink: Option<Sink>) -> DeviceSpec {
    DeviceSpec {
        id: "console".into(),
        driver: "serial".into(),
        options,
        attachment: sink.map(|sink| Box::new(sink) as _),
    }
}

fn port(sink: Sink, env: &DeviceEnv) -> Box<dyn BusDevice> {
    match Factory.create(spec(json!({}), Some(sink)), env).unwrap() {
        NewDevice::Serial(port) => port,
        _ => panic!("not a serial port"),
    }
}

fn refusal(spec: DeviceSpec) -> String {
    match Factory.create(spec, &env()) {
        Ok(_) => panic!("accepted"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn bytes_reach_the_sink_unflushed() {
    let recorder = Recorder::default();
    let mut port = port(Box::new(recorder.clone()), &env());
    for byte in b"ok\n" {
        port.write(DATA, &[*byte]);
    }
    assert_eq!(*recorder.0.lock().unwrap(), (b"ok\n".to_vec(), 0));
}

#[test]
fn transmitter_interrupt_raises_the_line() {
    let line = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap());
    let env = DeviceEnv {
        line: line.clone(),
        ..env()
    };
    let mut port = port(Box::new(Recorder::default()), &env);
    assert!(line.read().is_err());
    port.write(INTERRUPT_ENABLE, &[0b10]);
    assert_eq!(line.read().unwrap(), 1);
}

#[test]
fn refused_byte_is_lost_and_the_port_stays_ready() {
    let mut port = port(Box::new(Refuses), &env());
    port.write(DATA, b"x");
    let mut status = [0];
    port.read(LINE_STATUS, &mut status);
    assert_eq!(status, [0x60], "transmitter empty and idle");
}

#[test]
fn wide_and_distant_accesses_touch_nothing() {
    let recorder = Recorder::default();
    let mut port = port(Box::new(recorder.clone()), &env());
    port.write(SCRATCH, &[0x5a]);
    for length in [0, 2, 4, 8] {
        let mut data = [0; 8];
        port.write(DATA, &data[..length]);
        port.read(SCRATCH, &mut data[..length]);
        assert!(data[..length].iter().all(|byte| *byte == 0xff));
    }
    for offset in [8, 0x100 + SCRATCH, u64::MAX] {
        let mut data = [0];
        port.write(offset, &[1]);
        port.read(offset, &mut data);
        assert_eq!(data, [0xff]);
    }
    let mut scratch = [0];
    port.read(SCRATCH, &mut scratch);
    assert_eq!(scratch, [0x5a]);
    assert!(recorder.0.lock().unwrap().0.is_empty());
}

#[test]
fn unknown_option_is_named() {
    let error = refusal(spec(json!({"baud": 9600}), Some(Box::new(io::sink()))));
    assert!(error.contains("\"baud\""), "{error}");
}

#[test]
fn missing_and_wrong_attachments_are_refused() {
    assert!(refusal(spec(json!({}), None)).contains("no attachment"));
    let mut wrong = spec(json!({}), None);
    wrong.attachment = Some(Box::new(17));
    assert!(refusal(wrong).contains("not a Box<dyn Write + Send>"));
}
