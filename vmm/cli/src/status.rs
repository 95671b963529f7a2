//! Exit statuses of the command, Docker's where it has one. Those of a command
//! that did not start (126 and 127) are the library's to tell.

/// All went well; from `run`, the command in the guest exited with 0.
pub const SUCCESS: u8 = 0;
/// `doctor` or `plugin check` found something that is not as it should be, or a command
/// of `golem exec-script` failed.
pub const UNHEALTHY: u8 = 1;
/// The limit of `--timeout` passed, as timeout(1) has it.
pub const TIMED_OUT: u8 = 124;
/// shem itself failed, or the VM did; what it was told makes no sense.
pub const FAILED: u8 = 125;
/// The status for an end by `signal`, as shells have it.
pub fn signalled(signal: i32) -> u8 {
    const FIRST: u8 = 128;
    u8::try_from(signal).map_or(FAILED, |signal| FIRST.saturating_add(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_told_as_shells_do() {
        assert_eq!(signalled(2), 130);
        assert_eq!(signalled(9), 137);
        assert_eq!(signalled(15), 143);
    }
}
