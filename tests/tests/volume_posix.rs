//! What POSIX says of files holds on a volume, and no byte is lost: the suite
//! and the exerciser of `tests/posix` in a guest, in each mode of a folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use e2e_tests::{Folder, Outcome, Shem, Unprivileged, demo_image, guest_programs, long};

/// For the files of a case at a time, and of the exerciser.
const ROOM: u64 = 512 << 20;
/// Operations of the exerciser on one file and, by several processes, in a tree.
const OPERATIONS: usize = 1500;
const LONG_OPERATIONS: usize = 10_000;
const PROCESSES: &str = "3";
/// Longest time for one of the programs in an emulated machine.
const TIMEOUT: &str = "40m";

/// Cases that do not pass on a volume, and why not.
struct Known {
    /// Whose files it concerns; all when empty.
    ownership: &'static str,
    /// With which cache; any when empty.
    cache: &'static str,
    /// Whether they pass now and then.
    sometimes: bool,
    reason: &'static str,
    cases: &'static [&'static str],
}

const ALWAYS: Known = Known {
    ownership: "",
    cache: "",
    sometimes: false,
    reason: "",
    cases: &[],
};

const KNOWN: &[Known] = &[
    Known {
        reason: "Linux sends no INTERRUPT over virtio: a wait ends with the lock or the device",
        cases: &["locks: a wait for flock ends by a signal"],
        ..ALWAYS
    },
    Known {
        reason: "FUSE takes a set-group-id from files only that the group executes",
        cases: &["write: and a set-group-id without execution"],
        ..ALWAYS
    },
    Known {
        reason: "as-is it takes CAP_SYS_ADMIN, which no thread keeps; mapped, FUSE lists the \
                 names for all users alike",
        cases: &["xattr: trusted attributes are root's"],
        ..ALWAYS
    },
    Known {
        ownership: "mapped",
        reason: "a whiteout is a device node, which only root makes on the host",
        cases: &["rename: RENAME_WHITEOUT"],
        ..ALWAYS
    },
    Known {
        ownership: "mapped",
        cache: "coherent",
        sometimes: true,
        reason: "a symbolic link has no user extended attribute to record its owner in: it \
                 holds until the guest has forgotten the link",
        cases: &[
            "chown: a link is followed, or changed itself",
            "mkdir: a set-group-id folder passes group and bit on",
            "symlink: a link belongs to who made it",
        ],
    },
    Known {
        cache: "exclusive",
        reason: "what the guest has not written back would be a hole, so it sees none",
        cases: &[
            "holes: data and holes are found",
            "holes: a file that is all hole has no data",
        ],
        ..ALWAYS
    },
    Known {
        cache: "exclusive",
        reason: "the guest keeps the number of blocks that it was told when it made the file",
        cases: &[
            "allocate: a hole reads as zeros and gives room back",
            "status: blocks and sizes fit what was written",
        ],
        ..ALWAYS
    },
    Known {
        cache: "exclusive",
        reason: "what the guest has in its cache is not read from the host",
        cases: &["times: a read moves the time of access on"],
        ..ALWAYS
    },
    Known {
        cache: "exclusive",
        sometimes: true,
        reason: "the guest stamps what it writes by its own clock and the host what it is \
                 asked for by its own, and these differ by parts of a second",
        cases: &[
            "allocate: times of the file move on",
            "chmod: the time of the change is kept",
            "chown: the time of the change is kept",
            "copy: times of the target move on",
            "link: times of the file and of the folder move on",
            "mapping: a change by a mapping moves times on",
            "open: O_TRUNC empties",
            "times: the time of the change itself moves on",
            "truncate: times of the file move on",
            "unlink: times of the folder and of other names move on",
            "write: times of the file move on",
            "xattr: the time of the change is kept",
        ],
        ..ALWAYS
    },
];

fn known_in(ownership: &str, cache: &str) -> Vec<&'static Known> {
    let applies = |known: &&Known| {
        (known.ownership.is_empty() || known.ownership == ownership)
            && (known.cache.is_empty() || known.cache == cache)
    };
    KNOWN.iter().filter(applies).collect()
}

/// The guest's programs on a folder that every user can read, and a folder as
/// the suite wants one that cannot be written.
fn programs() -> Folder {
    let folder = Folder::of(64 << 20);
    for program in ["posix-suite", "fs-exerciser"] {
        let copy = folder.join(program);
        fs::copy(guest_programs().join(program), &copy).unwrap();
        fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(folder.join("read-only/folder")).unwrap();
    fs::write(folder.join("read-only/file"), "text").unwrap();
    symlink("file", folder.join("read-only/link")).unwrap();
    folder
}

/// Runs the suite and the exerciser on a volume; `run` starts `shem run` with
/// options and a command.
fn prove(ownership: &str, cache: &str, volume: &Folder, run: &dyn Fn(&[&str], &[&str]) -> Shem) {
    let programs = programs();
    let volume = volume.at(&format!("/v:owner={ownership},cache={cache}"));
    let programs = programs.at("/programs:ro");
    let options = ["-v", &volume, "-v", &programs, "--timeout", TIMEOUT];
    let slow: &[&str] = if long() { &["--slow"] } else { &[] };
    let suite = [
        "/programs/posix-suite",
        "/v",
        "--read-only",
        "/programs/read-only",
    ];
    let outcome = run(&options, &[&suite, slow].concat()).outcome();
    check(&outcome, &known_in(ownership, cache));

    let operations = if long() { LONG_OPERATIONS } else { OPERATIONS }.to_string();
    let one = ["/programs/fs-exerciser", "/v", "--operations", &operations];
    for processes in [&[][..], &["--processes", PROCESSES]] {
        let outcome = run(&options, &[&one, processes].concat()).outcome();
        assert_eq!(
            outcome.status,
            Some(0),
            "{}{}",
            outcome.stdout,
            outcome.stderr
        );
    }
}

/// Every case passed but those that are known not to, and these did not.
fn check(outcome: &Outcome, known: &[&Known]) {
    let text = &outcome.stdout;
    let finished = text.lines().any(|line| line.starts_with("all: "));
    assert!(
        finished,
        "the suite did not finish: {text}{}",
        outcome.stderr
    );
    let failed = text
        .lines()
        .filter_map(|line| line.strip_suffix(": FAILED"));
    let mut failed: BTreeSet<&str> = failed.collect();
    for known in known {
        for case in known.cases {
            assert!(
                failed.remove(case) || known.sometimes,
                "{case:?} passed: take it off the list ({})",
                known.reason
            );
        }
    }
    assert!(failed.is_empty(), "{failed:?} failed: {text}");
}

/// Takes root: a guest's users are to be the host's.
fn as_is(cache: &str) {
    let volume = Folder::of(ROOM);
    prove("as-is", cache, &volume, &|options, command| {
        let mut shem = Shem::new(&["run", "--kernel", "tuned"]);
        let words = shem.command().args(options).arg(demo_image());
        words.arg("--").args(command);
        shem
    });
}

fn mapped(cache: &str) {
    let (user, volume) = (Unprivileged::new(), Folder::of(ROOM));
    user.give(&volume);
    prove("mapped", cache, &volume, &|options, command| {
        user.run(options, command)
    });
}

/// The cache of every day and, in the long run, the other one.
fn caches(daily: &'static str, other: &'static str) -> Vec<&'static str> {
    if long() {
        vec![daily, other]
    } else {
        vec![daily]
    }
}

#[test]
fn posix_holds_where_users_are_the_hosts() {
    caches("coherent", "exclusive").into_iter().for_each(as_is);
}

#[test]
fn posix_holds_where_owners_are_recorded() {
    caches("exclusive", "coherent").into_iter().for_each(mapped);
}

#[test]
fn a_limit_of_the_host_on_files_is_an_error_in_the_guest() {
    let volume = Folder::of(ROOM);
    let mounted = volume.at("/v");
    let script = "dd if=/dev/zero of=/v/f bs=1M count=16 2>&1 | grep -o 'File too large'; \
                  wc -c < /v/f; echo alive";
    let mut shem = Shem::run("tuned", &["-v", &mounted], &["sh", "-c", script]);
    shem.limit_files(8 << 20);
    let outcome = shem.outcome();
    assert_eq!(
        outcome.stdout, "File too large\n8388608\nalive\n",
        "{outcome:?}"
    );
}
