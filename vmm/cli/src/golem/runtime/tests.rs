//! What is said with a runtime that the test plays.

use std::io::{PipeReader, PipeWriter, pipe};
use std::thread::JoinHandle;

use runtime_api::response;
use runtime_api::{RuntimeStatus, runtime_status};

use super::*;

/// What processes wrote.
#[derive(Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Sink for Seen {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.extend(bytes);
        Ok(())
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stderr.extend(bytes);
        Ok(())
    }
}

/// The runtime's side.
struct Fake {
    requests: FrameReader<PipeReader, Request>,
    to: SyncSender<Happened>,
}

impl Fake {
    fn expect(&mut self) -> Request {
        self.requests.read().unwrap().unwrap()
    }

    fn say(&self, response: Response) {
        self.to.send(Happened::Said(Box::new(response))).unwrap();
    }

    fn answer(&self, id: u64, command: Answer) {
        let command = Some(command);
        self.say(Response {
            event: false,
            id,
            command,
        });
    }

    fn event(&self, pid: u64, running: bool, return_code: i32, stdout: &str, stderr: &str) {
        let status = ProcessStatus {
            pid,
            running,
            return_code,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let command = Some(Answer::Status(status));
        self.say(Response {
            event: true,
            id: 0,
            command,
        });
    }

    fn started(&self, id: u64, pid: u64) {
        self.answer(id, Answer::Run(response::RunProcess { pid }));
    }
}

/// A session, and a thread that plays the runtime as `script` says.
fn session(script: impl FnOnce(Fake) + Send + 'static) -> (Session<PipeWriter>, JoinHandle<()>) {
    let (requests, ours) = pipe().unwrap();
    let (to, happened) = sync_channel(QUEUE);
    let session = Session::new(ours, happened, &Interrupt::default());
    let requests = FrameReader::new(requests);
    let thread = thread::spawn(move || script(Fake { requests, to }));
    (session, thread)
}

fn program() -> RunProcess {
    RunProcess {
        bin: "/bin/x".into(),
        args: vec!["x".into()],
        ..RunProcess::default()
    }
}

#[test]
fn greeting_waits_for_the_vm_and_passes_on_what_start_says() {
    let (mut session, thread) = session(|mut fake| {
        let hello = fake.expect();
        assert_eq!(hello.id, 2);
        assert_eq!(
            hello.command,
            Some(Asked::Hello(Hello {
                version: "0.1.0".into()
            }))
        );
        fake.event(0, true, 0, "started", "");
        fake.answer(
            2,
            Answer::Hello(response::Hello {
                version: "0.5.2".into(),
            }),
        );
    });
    let mut seen = Seen::default();
    session.hello(&mut seen).unwrap();
    assert_eq!(seen.stdout, b"started");
    thread.join().unwrap();
}

#[test]
fn run_has_all_output_of_its_process_and_ends_with_it() {
    let (mut session, thread) = session(|mut fake| {
        let run = fake.expect();
        assert_eq!(run.command, Some(Asked::Run(program())));
        // Counters come at any time.
        let kind = runtime_status::Counter {
            name: "golem.usage.x".into(),
            value: 1.0,
        };
        let kind = Some(runtime_status::Kind::Counter(kind));
        let command = Some(Answer::RtStatus(RuntimeStatus { kind }));
        fake.say(Response {
            event: true,
            id: 0,
            command,
        });
        // Its first event comes before the answer.
        fake.event(1, true, 0, "", "");
        fake.started(run.id, 1);
        fake.event(1, true, 0, "one ", "err");
        fake.event(7, true, 0, "of another", "");
        fake.event(1, false, 3, "two", "");
        // The next one is another process, of which the answer comes last.
        let run = fake.expect();
        fake.event(1, true, 0, "too late", "");
        fake.event(2, true, 0, "three", "");
        fake.event(2, false, 0, "", "");
        fake.started(run.id, 2);
        let run = fake.expect();
        fake.started(run.id, 3);
        fake.event(3, false, 9, "", "");
    });
    let mut seen = Seen::default();
    assert_eq!(session.run(program(), None, &mut seen).unwrap(), 3);
    assert_eq!(
        (&*seen.stdout, &*seen.stderr),
        (&b"one two"[..], &b"err"[..])
    );
    let mut seen = Seen::default();
    assert_eq!(session.run(program(), None, &mut seen).unwrap(), 0);
    assert_eq!(seen.stdout, b"three");
    assert_eq!(session.run(program(), None, &mut seen).unwrap(), 9);
    thread.join().unwrap();
}

#[test]
fn events_of_a_foreign_process_are_reported_instead_of_waited_for() {
    let (mut session, thread) = session(|mut fake| {
        let run = fake.expect();
        fake.event(5, true, 0, "theft", "");
        fake.started(run.id, 6);
    });
    let trouble = session
        .run(program(), None, &mut Seen::default())
        .unwrap_err();
    assert!(
        matches!(trouble, Trouble::Stolen { bound: 5, named: 6 }),
        "{trouble}"
    );
    thread.join().unwrap();
}

#[test]
fn refusals_are_told_in_the_words_that_requestors_get() {
    let (mut session, thread) = session(|mut fake| {
        let run = fake.expect();
        let message = "Running process failed, exit code: 2".into();
        fake.answer(
            run.id,
            Answer::Error(Error {
                message,
                ..Error::default()
            }),
        );
    });
    let trouble = session
        .run(program(), None, &mut Seen::default())
        .unwrap_err();
    assert_eq!(
        trouble.to_string(),
        "Runtime error: Internal: Running process failed, exit code: 2"
    );
    thread.join().unwrap();
}

#[test]
fn a_wait_ends_by_time_and_with_the_runtime() {
    let brief = Some(Duration::from_millis(1));
    let (mut session, thread) = session(|mut fake| {
        fake.expect();
        fake.expect();
        fake.to.send(Happened::Exited).unwrap();
        // What it had written before still counts.
        fake.started(3, 1);
        fake.event(1, true, 0, "last words", "");
        fake.to.send(Happened::Ended(None)).unwrap();
    });
    let trouble = session
        .run(program(), brief, &mut Seen::default())
        .unwrap_err();
    assert!(matches!(trouble, Trouble::TimedOut(_)), "{trouble}");
    let mut seen = Seen::default();
    let trouble = session.run(program(), None, &mut seen).unwrap_err();
    assert!(matches!(trouble, Trouble::Gone), "{trouble}");
    assert_eq!(seen.stdout, b"last words");
    thread.join().unwrap();
}

#[test]
fn shutting_down_waits_for_the_answer() {
    let (mut session, thread) = session(|mut fake| {
        let shutdown = fake.expect();
        assert_eq!(shutdown.command, Some(Asked::Shutdown(Shutdown {})));
        fake.event(1, false, 9, "", "");
        fake.answer(shutdown.id, Answer::Shutdown(response::Shutdown {}));
    });
    session.shut_down().unwrap();
    thread.join().unwrap();
}
