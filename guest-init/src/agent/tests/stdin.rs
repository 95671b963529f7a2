//! What processes read, and signals that find them stuck.

use super::*;

#[test]
fn stdin_goes_through_and_back_with_more_than_all_buffers_hold() {
    let guest = Guest::boot();
    let mut process = guest.start(Exec {
        stdin: true,
        ..exec(&["cat"])
    });
    let stdin = process.stdin();
    let data: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = data.clone();
    let writer = thread::spawn(move || {
        stdin.write_all(&sent)?;
        stdin.close()
    });
    let mut received = Vec::new();
    let exit = loop {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => received.extend(bytes),
            Event::Exit(exit) => break exit,
            Event::Stderr(bytes) => panic!("{}", String::from_utf8_lossy(&bytes)),
        }
    };
    writer.join().unwrap().unwrap();
    assert_eq!(exit, code(0));
    assert!(
        received == data,
        "{} of {} bytes",
        received.len(),
        data.len()
    );
}

#[test]
fn stdin_is_empty_unless_asked_for() {
    assert_eq!(Guest::boot().shell("cat; echo end").stdout, b"end\n");
}

#[test]
fn stdin_that_nobody_takes_does_not_keep_the_exit_back() {
    let guest = Guest::boot();
    let mut process = guest.start(Exec {
        stdin: true,
        ..shell("exec <&-; echo ready; read x")
    });
    let stdin = process.stdin();
    wait_for(&mut process, "ready");
    let writer = thread::spawn(move || stdin.write_all(&vec![0; 1 << 20]));
    // The shell cannot read from what it closed.
    assert!(matches!(
        process.next_event(),
        Ok(Event::Stderr(_) | Event::Exit(_))
    ));
    drop(process);
    // Whether all of it was dropped in time or not, the writer is not stuck.
    assert!(matches!(
        writer.join().unwrap(),
        Ok(()) | Err(ClientError::Lost)
    ));
}

#[test]
fn signal_passes_stdin_that_is_stuck() {
    let guest = Guest::boot();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut process = guest.start(Exec {
        stdin: true,
        ..shell(script)
    });
    wait_for(&mut process, "ready");
    let stuck = process.stdin();
    let writer = thread::spawn(move || stuck.write_all(&vec![0; 8 << 20]));
    process.stdin().signal(libc::SIGTERM).unwrap();
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(7)));
    drop(process);
    // It depends on whether the agent saw the stream or the process end first.
    assert!(matches!(
        writer.join().unwrap(),
        Ok(()) | Err(ClientError::Lost)
    ));
}

#[test]
fn endless_stdin_does_not_keep_the_exit_back() {
    let guest = Guest::boot();
    let mut process = guest.start(Exec {
        stdin: true,
        ..shell("exec <&-; exit 6")
    });
    let stdin = process.stdin();
    let writer = thread::spawn(move || while stdin.write_all(&[0; 100_000]).is_ok() {});
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(6)));
    drop(process);
    writer.join().unwrap();
}

#[test]
fn signal_after_the_end_says_that_there_is_no_process() {
    let guest = Guest::boot();
    let mut process = guest.start(exec(&["true"]));
    let stdin = process.stdin();
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(0)));
    match stdin.signal(libc::SIGTERM) {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.errno, libc::ESRCH),
        other => panic!("{other:?}"),
    }
}
