//! The client against agents that are foreign, broken or hostile.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use guest_client::{Agent, AgentPort, ClientError, Event, ExecError, ProtocolError};
use guest_protocol::{
    Answer, BootTimes, Exec, ExecFailure, ExecFailureKind, Exit, ExitStatus, Failure, FrameKind,
    FrameReader, FromAgent, Hello, MAX_REPLY, MAX_REQUEST, Open, ProcessMessage, Request,
    RequestBody, VERSION, decode, frame_header, write_data, write_message,
};

fn hello() -> Hello {
    Hello {
        agent_version: "0".into(),
        boot_times: BootTimes::default(),
    }
}

fn nobody() -> guest_client::Connect {
    Box::new(|_| Err(std::io::ErrorKind::ConnectionRefused.into()))
}

fn exec() -> Exec {
    Exec {
        argv: vec!["true".into()],
        stdin: true,
        ..Exec::default()
    }
}

/// Runs `agent` at the other end of a stream.
fn fake<T: Send + 'static>(
    agent: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> (UnixStream, JoinHandle<T>) {
    let (host, guest) = UnixStream::pair().unwrap();
    (host, thread::spawn(move || agent(guest)))
}

/// What the client makes of a greeting of these bytes.
fn greeted_with(bytes: Vec<u8>) -> ClientError {
    let (host, agent) = fake(move |mut stream| {
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    });
    let error = Agent::handshake(host, nobody()).unwrap_err();
    agent.join().unwrap();
    error
}

/// A frame with this body.
fn message_frame(body: &[u8]) -> Vec<u8> {
    [&frame_header(FrameKind::Message, body.len()), body].concat()
}

/// An agent that greets well and answers each process connection with `script`.
fn agent_with(script: impl Fn(UnixStream) + Clone + Send + Sync + 'static) -> Agent {
    let (host, mut guest) = UnixStream::pair().unwrap();
    hello().write_to(&mut guest).unwrap();
    let connect = move |_| {
        let (host, guest) = UnixStream::pair()?;
        let script = script.clone();
        thread::spawn(move || {
            FrameReader::new(&guest, MAX_REQUEST)
                .read_frame()
                .unwrap()
                .unwrap();
            script(guest);
        });
        Ok(host)
    };
    Agent::handshake(host, Box::new(connect)).unwrap()
}

fn started(stream: &mut UnixStream) {
    write_message(stream, &ProcessMessage::Started { pid: 7 }).unwrap();
}

#[test]
fn other_version_is_a_clear_error_on_both_sides() {
    let (host, agent) = fake(|mut stream| {
        let body = [
            b"shem".as_slice(),
            &(VERSION + 1).to_le_bytes(),
            b"something new",
        ]
        .concat();
        stream.write_all(&message_frame(&body)).unwrap();
        let mut reader = FrameReader::new(stream, MAX_REQUEST);
        Answer::decode(reader.read_frame().unwrap().unwrap().body).unwrap()
    });
    let error = Agent::handshake(host, nobody()).unwrap_err();
    let theirs = VERSION + 1;
    assert!(
        matches!(error, ClientError::VersionMismatch { ours: VERSION, theirs: t } if t == theirs)
    );
    let reason = format!("protocol version mismatch: ours is {VERSION}, theirs is {theirs}");
    assert_eq!(agent.join().unwrap(), Answer::Refuse { reason });
}

#[test]
fn greeting_that_is_none_is_a_breach_of_the_protocol() {
    let too_long = frame_header(FrameKind::Message, MAX_REPLY + 1).to_vec();
    let data = [frame_header(FrameKind::Stdout, 1).as_slice(), b"x"].concat();
    for bytes in [
        message_frame(b"GET / HTTP/1.1"),
        too_long,
        data,
        b"SSH-2.0".to_vec(),
    ] {
        let error = greeted_with(bytes);
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    }
}

#[test]
fn agent_that_goes_away_is_lost() {
    assert!(matches!(greeted_with(vec![]), ClientError::Lost));
    assert!(matches!(greeted_with(vec![9, 0]), ClientError::Lost));
}

#[test]
fn late_answer_to_an_earlier_request_is_skipped() {
    let (host, agent) = fake(|mut stream| {
        hello().write_to(&mut stream).unwrap();
        let mut reader = FrameReader::new(&stream, MAX_REQUEST);
        reader.read_frame().unwrap().unwrap();
        let request = decode::<Request>(reader.read_frame().unwrap().unwrap().body).unwrap();
        assert_eq!(request.body, RequestBody::Sync);
        for (id, result) in [
            (request.id.wrapping_sub(1), Ok(())),
            (
                request.id,
                Err(Failure {
                    errno: 5,
                    message: "disk".into(),
                }),
            ),
        ] {
            write_message(&mut &stream, &FromAgent::Response { id, result }).unwrap();
        }
    });
    let client = Agent::handshake(host, nobody()).unwrap();
    match client.sync() {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.errno, 5),
        other => panic!("{other:?}"),
    }
    agent.join().unwrap();
    client.wait_lost().unwrap();
}

#[test]
fn process_of_an_agent_that_goes_away_is_lost_and_not_ended() {
    let agent = agent_with(|mut stream| started(&mut stream));
    let mut process = agent.exec(exec()).unwrap();
    assert_eq!(process.pid(), 7);
    assert!(matches!(process.next_event(), Err(ClientError::Lost)));
}

#[test]
fn exit_stays_the_last_event() {
    let exit = Exit {
        status: ExitStatus::Code(0),
        oom_killed: true,
    };
    let agent = agent_with(move |mut stream| {
        started(&mut stream);
        write_data(&mut stream, FrameKind::Stderr, b"x").unwrap();
        write_message(&mut stream, &ProcessMessage::Exit(exit)).unwrap();
        write_data(&mut stream, FrameKind::Stdout, b"after the end").unwrap();
    });
    let mut process = agent.exec(exec()).unwrap();
    assert_eq!(process.next_event().unwrap(), Event::Stderr(b"x".into()));
    assert_eq!(process.next_event().unwrap(), Event::Exit(exit));
    assert_eq!(process.next_event().unwrap(), Event::Exit(exit));
}

#[test]
fn what_an_agent_must_not_send_is_a_breach_of_the_protocol() {
    type Script = fn(&mut UnixStream);
    let scripts: [Script; 4] = [
        |stream| write_data(stream, FrameKind::Stdin, b"x").unwrap(),
        |stream| write_message(stream, &ProcessMessage::Started { pid: 8 }).unwrap(),
        |stream| {
            stream
                .write_all(&frame_header(FrameKind::Stdout, 1 << 30))
                .unwrap()
        },
        |stream| stream.write_all(&message_frame(&[0xff])).unwrap(),
    ];
    for script in scripts {
        let agent = agent_with(move |mut stream| {
            started(&mut stream);
            script(&mut stream);
        });
        let error = agent.exec(exec()).unwrap().next_event().unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    }
}

#[test]
fn exit_without_a_start_is_a_breach_of_the_protocol() {
    let agent = agent_with(|mut stream| {
        let status = ExitStatus::Code(0);
        let exit = ProcessMessage::Exit(Exit {
            status,
            oom_killed: false,
        });
        write_message(&mut stream, &exit).unwrap();
    });
    assert!(matches!(
        agent.exec(exec()),
        Err(ExecError::Client(ClientError::Protocol(
            ProtocolError::Unexpected(_)
        )))
    ));
}

#[test]
fn failure_to_start_has_the_status_that_shells_give() {
    for (kind, code) in [
        (ExecFailureKind::NotFound, 127),
        (ExecFailureKind::NotExecutable, 126),
        (ExecFailureKind::NoSuchUser, 125),
    ] {
        let agent = agent_with(move |mut stream| {
            let failure = ExecFailure {
                kind,
                errno: 2,
                message: "because".into(),
            };
            write_message(&mut stream, &ProcessMessage::Failed(failure)).unwrap();
        });
        let error = agent.exec(exec()).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string()),
            (code, "because".into())
        );
    }
}

#[test]
fn refusal_of_an_agent_that_hung_up_at_once_is_still_heard() {
    let connect = |_| {
        let (host, mut guest) = UnixStream::pair()?;
        let failure = ExecFailure {
            kind: ExecFailureKind::Other,
            errno: 11,
            message: "busy".into(),
        };
        write_message(&mut guest, &ProcessMessage::Failed(failure)).unwrap();
        Ok(host)
    };
    let (host, mut guest) = UnixStream::pair().unwrap();
    hello().write_to(&mut guest).unwrap();
    let agent = Agent::handshake(host, Box::new(connect)).unwrap();
    assert!(matches!(agent.exec(exec()), Err(ExecError::Failed(_))));
}

#[test]
fn dropped_process_hangs_up_for_all_its_handles() {
    let (told, hung_up) = std::sync::mpsc::channel();
    let agent = agent_with(move |mut stream| {
        started(&mut stream);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        told.send(rest).unwrap();
    });
    let process = agent.exec(exec()).unwrap();
    let stdin = process.stdin();
    stdin.write_all(b"hi").unwrap();
    drop(process);
    assert_eq!(
        hung_up.recv().unwrap(),
        [2, 0, 0, 0, FrameKind::Stdin as u8, b'h', b'i']
    );
    assert!(matches!(stdin.write_all(b"more"), Err(ClientError::Lost)));
}

#[test]
fn signal_travels_on_a_connection_of_its_own() {
    let (told, opened) = std::sync::mpsc::channel();
    let (host, mut guest) = UnixStream::pair().unwrap();
    hello().write_to(&mut guest).unwrap();
    let connect = move |_| {
        let (host, mut guest) = UnixStream::pair()?;
        let told = told.clone();
        thread::spawn(move || {
            let mut reader = FrameReader::new(guest.try_clone().unwrap(), MAX_REQUEST);
            let open: Open = decode(reader.read_frame().unwrap().unwrap().body).unwrap();
            match &open {
                Open::Exec(_) => started(&mut guest),
                _ => write_message(&mut guest, &guest_protocol::Done(Ok(()))).unwrap(),
            }
            told.send(open).unwrap();
            // Until the client hangs up.
            let _ = reader.read_frame();
        });
        Ok(host)
    };
    let agent = Agent::handshake(host, Box::new(connect)).unwrap();
    let process = agent.exec(exec()).unwrap();
    assert_eq!(opened.recv().unwrap(), Open::Exec(exec()));
    process.stdin().signal(15).unwrap();
    assert_eq!(opened.recv().unwrap(), Open::Signal { pid: 7, signal: 15 });
}

#[test]
fn socket_of_another_process_leads_to_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let agent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = [0; 13];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"CONNECT 1025\n");
        // In one packet with what the agent says, none of which may be lost.
        let mut answer = b"OK 1073741824\n".to_vec();
        write_message(&mut answer, &guest_protocol::FileMessage::Ready).unwrap();
        stream.write_all(&answer).unwrap();
        let mut reader = FrameReader::new(&stream, MAX_REQUEST);
        let open = decode::<Open>(reader.read_frame().unwrap().unwrap().body).unwrap();
        assert_eq!(open, Open::ArchiveWrite { path: "/x".into() });
        // A guest that refuses the second time.
        drop(listener.accept().unwrap());
    });
    let port = AgentPort::behind_socket(path);
    port.write_archive("/x").unwrap();
    let refused = port.write_archive("/x");
    assert!(
        matches!(refused, Err(ClientError::Connect(_))),
        "{refused:?}"
    );
    agent.join().unwrap();
}

#[test]
fn archive_that_the_agent_breaks_off_does_not_look_complete() {
    let read = || guest_protocol::ArchiveRead {
        path: "/x".into(),
        name: "x".into(),
        follow: false,
    };
    let agent = agent_with(|mut stream| {
        write_data(&mut stream, FrameKind::File, b"half").unwrap();
    });
    let mut archive = agent.port().read_archive(read()).unwrap();
    let mut bytes = Vec::new();
    let error = archive.read_to_end(&mut bytes).unwrap_err();
    assert_eq!(bytes, b"half");
    let error = error
        .into_inner()
        .unwrap()
        .downcast::<ClientError>()
        .unwrap();
    assert!(matches!(*error, ClientError::Lost), "{error:?}");

    let agent = agent_with(|mut stream| {
        write_data(&mut stream, FrameKind::Stdout, b"odd").unwrap();
    });
    let odd = agent.port().read_archive(read());
    assert!(matches!(odd, Err(ClientError::Protocol(_))), "{odd:?}");
}
