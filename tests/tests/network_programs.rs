//! Real programs on a network. Only in the long run, as their image takes a minute to
//! make. All traffic stays in network namespaces that the tests make.

use std::io::Write;
use std::process::{Command, Stdio};

use e2e_tests::{Shem, debian_image, in_own_network, way_out, web_server};

/// Bytes of one piece of the page, and pieces of it: a GiB.
const PIECE: usize = 1 << 20;
const PIECES: usize = 1 << 10;

/// Longest time in an emulated machine.
const TIMEOUT: &str = "20m";

/// The digest that `md5sum` has of `piece`, so many `times`.
fn digest(piece: &[u8], times: usize) -> String {
    let mut md5sum = Command::new("md5sum");
    let mut child = md5sum
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..times {
        stdin.write_all(piece).unwrap();
    }
    drop(stdin);
    let said = child.wait_with_output().unwrap().stdout;
    String::from_utf8(said).unwrap()
}

#[test]
fn curl_gets_a_gib_from_the_hosts_loopback_through_passt() {
    in_own_network(|| {
        let _cable = way_out();
        let piece: Vec<u8> = (0..PIECE as u32)
            .map(|at| (at.wrapping_mul(at) >> 9) as u8)
            .collect();
        let expected = digest(&piece, PIECES);
        let port = web_server(piece, PIECES);
        let script = format!("curl --silent --show-error http://10.0.2.2:{port}/ | md5sum");
        let mut shem = Shem::new(&["run", "--kernel", "tuned", "-m", "1g"]);
        shem.command()
            .args(["--timeout", TIMEOUT, "--net", "passt,host_loopback=true"])
            .arg(debian_image())
            .args(["--", "bash", "-ec", &script]);
        let outcome = shem.outcome();
        assert_eq!(outcome.stdout, expected, "{outcome:?}");
    });
}
