//! What processes write, and what their ends say.

use super::*;

#[test]
fn output_streams_and_exit_code_arrive() {
    let output = Guest::boot().shell("echo out; echo err >&2; exit 3");
    assert_eq!(
        output,
        Output {
            exit: code(3),
            stdout: b"out\n".into(),
            stderr: b"err\n".into()
        }
    );
}

#[test]
fn signal_that_ends_a_process_is_told() {
    assert_eq!(
        Guest::boot().shell("kill -TERM $$").exit,
        signalled(libc::SIGTERM)
    );
    assert_eq!(Guest::boot().shell("kill -40 $$").exit, signalled(40));
}

#[test]
fn output_larger_than_all_buffers_arrives_whole_and_in_order() {
    let output = Guest::boot().shell("seq 1 300000; seq 1 300000 >&2");
    let numbers: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(output.exit, code(0));
    assert!(
        output.stdout == numbers.as_bytes(),
        "stdout has {} bytes",
        output.stdout.len()
    );
    assert!(
        output.stderr == numbers.as_bytes(),
        "stderr has {} bytes",
        output.stderr.len()
    );
}

#[test]
fn last_words_are_not_lost() {
    let guest = Guest::boot();
    for round in 0..50 {
        let output = guest.shell("printf '%060000d' 7");
        assert_eq!((round, output.stdout.len()), (round, 60_000));
    }
}

#[test]
fn background_child_neither_delays_the_exit_nor_dies_of_its_output() {
    let guest = Guest::boot();
    let fifo = guest.root.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    // It writes far more than a pipe holds after its parent's exit, and says
    // so on the FIFO only when all writes went well.
    let child = format!(
        "exec 5>{0}; read x <&6; seq 1 200000 && echo well >&5",
        fifo.display()
    );
    let gate = guest.root.path().join("gate");
    mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let script = format!(
        "echo first; ( exec 6<{}; {child} ) & exit 4",
        gate.display()
    );
    let output = guest.shell(&script);
    assert_eq!(
        (output.exit, output.stdout.as_slice()),
        (code(4), b"first\n".as_slice())
    );
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "well\n");
}

#[test]
fn slow_reader_slows_the_process_and_memory_stays_bounded() {
    let guest = Guest::boot();
    let marker = guest.root.path().join("done");
    let script = format!("head -c 8000000 /dev/zero; echo > {}", marker.display());
    let mut process = guest.start(shell(&script));
    assert!(matches!(process.next_event(), Ok(Event::Stdout(_))));
    // Nothing else was read, and 8 MB fit into no buffer on the way.
    assert!(!marker.exists());
    assert_eq!(process.wait_with_output(LIMIT).unwrap().exit, code(0));
    assert!(marker.exists());
}

#[test]
fn hang_up_kills_the_process_and_its_group() {
    let guest = Guest::boot();
    let fifo = guest.root.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let script = format!(
        "exec 5>{}; sleep 1000 & echo ready; sleep 1000",
        fifo.display()
    );
    let mut process = guest.start(shell(&script));
    let opened = thread::spawn(move || wait_for_hang_up_of(&fifo));
    wait_for(&mut process, "ready");
    drop(process);
    opened.join().unwrap();
}

#[test]
fn output_beyond_the_callers_limit_ends_the_wait() {
    let process = Guest::boot().start(exec(&["yes"]));
    let result = process.wait_with_output(100_000);
    assert!(matches!(
        result,
        Err(ClientError::OutputLimit { limit: 100_000 })
    ));
}
