//! Processes at a terminal.

use super::*;

#[test]
fn terminal_has_its_size_and_type_and_takes_another_size() {
    let script = "tty >/dev/null && stty size; echo $TERM; trap 'stty size; exit 5' WINCH; \
                  echo ready; while :; do sleep 0.02; done";
    let guest = Guest::boot();
    let mut process = guest.start(tty(script));
    wait_for(&mut process, "24 80\r\nxterm\r\nready\r\n");
    process
        .stdin()
        .resize(WindowSize {
            rows: 50,
            cols: 132,
        })
        .unwrap();
    wait_for(&mut process, "50 132\r\n");
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(5)));
}

#[test]
fn interrupt_character_reaches_the_foreground_of_a_terminal() {
    let guest = Guest::boot();
    let mut process = guest.start(tty(
        "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done",
    ));
    wait_for(&mut process, "ready");
    process.stdin().write_all(b"\x03").unwrap();
    wait_for(&mut process, "caught\r\n");
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(9)));
}

#[test]
fn closed_stdin_is_end_of_file_at_a_terminal() {
    let guest = Guest::boot();
    let process = guest.start(tty("stty -echo; echo ready; cat; echo end"));
    process.stdin().write_all(b"line\n").unwrap();
    let output = process.wait_with_output(LIMIT).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("line\r\nend\r\n"), "{text:?}");
    assert_eq!(output.exit, code(0));
}

#[test]
fn terminal_output_arrives_whole() {
    let guest = Guest::boot();
    let output = guest
        .start(tty("seq 1 20000"))
        .wait_with_output(LIMIT)
        .unwrap();
    let numbers: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    assert!(
        output.stdout == numbers.as_bytes(),
        "{} bytes",
        output.stdout.len()
    );
}

#[test]
fn process_without_a_terminal_cannot_be_resized() {
    let guest = Guest::boot();
    let process = guest.start(Exec {
        stdin: true,
        ..exec(&["cat"])
    });
    match process.stdin().resize(WindowSize { rows: 1, cols: 1 }) {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.errno, libc::ENOTTY),
        other => panic!("{other:?}"),
    }
}
