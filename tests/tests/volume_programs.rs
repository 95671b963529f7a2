//! Real programs on a volume: databases, git, a compiler, a stress test. Only in
//! the long run, as their image takes a minute to make and they take minutes.

use std::os::unix::fs::chown;
use std::path::PathBuf;

use e2e_tests::{Folder, Outcome, Shem, debian_image};

const ROOM: u64 = 2 << 30;
/// Longest time for one program in an emulated machine.
const TIMEOUT: &str = "40m";
/// The image's user who is not root.
const USER: u32 = 1000;

/// What stress-ng does to files. Left out is what is about sockets, devices,
/// or the file system's own calls (`ioctl` of quotas, encryption and the like);
/// and `lockf`, whose parents hold a lock while they kill and await a child that
/// waits for it: Linux cannot kill that one, as it sends no interrupt over virtio.
const STRESSORS: &[&str] = &[
    "access",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "fallocate",
    "fcntl",
    "fiemap",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "getdent",
    "hdd",
    "io",
    "iomix",
    "link",
    "locka",
    "lockofd",
    "mknod",
    "mmap",
    "open",
    "readahead",
    "rename",
    "revio",
    "seek",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "verity",
    "xattr",
];

/// Exit statuses of stress-ng for what the machine cannot do.
const CANNOT: [i32; 2] = [3, 4];

/// Runs `script` in a guest of the image of programs, with a volume at `/v`,
/// once with each cache.
fn on_a_volume(user: &str, script: &str, check: impl Fn(&Outcome)) {
    let image: PathBuf = debian_image();
    for cache in ["coherent", "exclusive"] {
        let volume = Folder::of(ROOM);
        chown(volume.path(), Some(USER), Some(USER)).unwrap();
        let volume = volume.at(&format!("/v:owner=as-is,cache={cache}"));
        let mut shem = Shem::new(&["run", "--kernel", "tuned", "-m", "2g", "--cpus", "2"]);
        shem.command()
            .args(["--timeout", TIMEOUT, "-u", user, "-v", &volume])
            .arg(&image)
            .args(["--", "bash", "-ec", script]);
        let outcome = shem.outcome();
        assert_eq!(
            outcome.status,
            Some(0),
            "{cache}: {}{}",
            outcome.stdout,
            outcome.stderr
        );
        check(&outcome);
    }
}

#[test]
fn sqlite_writes_ahead_from_several_processes() {
    let script = "cd /v
        sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t (who, number);'
        for who in 1 2 3; do
            (for number in $(seq 40); do
                sqlite3 -cmd '.timeout 60000' db \"INSERT INTO t VALUES ($who, $number);\"
            done) &
        done
        wait
        sqlite3 db 'SELECT count(*), sum(number) FROM t; PRAGMA integrity_check;'";
    on_a_volume("root", script, |outcome| {
        assert_eq!(outcome.stdout, "wal\n120|2460\nok\n", "{outcome:?}");
    });
}

#[test]
fn postgresql_keeps_its_balance() {
    let script = "export PATH=/usr/lib/postgresql/15/bin:$PATH PGHOST=/tmp PGUSER=user
        initdb -D /v/pg --locale=C --encoding=UTF8 --data-checksums >/dev/null
        pg_ctl -D /v/pg -w -t 600 -o '-k /tmp' -l /v/log start >/dev/null
        createdb bench
        pgbench -q -i -s 1 bench 2>/dev/null
        pgbench -n -c 4 -t 100 bench >/dev/null
        psql -At bench -c 'SELECT sum(abalance) = (SELECT sum(bbalance) FROM pgbench_branches),
            (SELECT count(*) FROM pgbench_history) FROM pgbench_accounts'
        pg_ctl -D /v/pg -w -m fast stop >/dev/null
        pg_checksums -D /v/pg | grep 'Bad checksums'";
    on_a_volume("user", script, |outcome| {
        assert_eq!(outcome.stdout, "t|400\nBad checksums:  0\n", "{outcome:?}");
    });
}

#[test]
fn git_clones_what_it_committed() {
    let script = "cd /v; export HOME=/v
        git config --global user.email a@b; git config --global user.name a
        git init -q one; cd one
        for n in $(seq 200); do mkdir -p d$((n % 7)); seq $n > d$((n % 7))/f$n; done
        git add .; git commit -qm first
        git mv d1 moved; git commit -qam second; git gc -q
        cd ..; git clone -q --no-hardlinks one two; cd two
        git fsck --full --strict; git status --short
        git log --oneline | wc -l; git ls-files | wc -l";
    on_a_volume("user", script, |outcome| {
        assert_eq!(outcome.stdout, "2\n200\n", "{outcome:?}");
    });
}

#[test]
fn cargo_builds_and_builds_again() {
    let script = "export HOME=/v CARGO_HOME=/v/cargo USER=user; cd /v
        cargo new -q --vcs none hello; cd hello
        cargo build -q --offline; ./target/debug/hello
        touch src/main.rs; cargo build -q --offline --release; ./target/release/hello";
    on_a_volume("user", script, |outcome| {
        assert_eq!(
            outcome.stdout, "Hello, world!\nHello, world!\n",
            "{outcome:?}"
        );
    });
}

#[test]
fn stress_finds_nothing() {
    let script = format!(
        "cd /v; for one in {}; do
            status=0
            stress-ng --$one 2 -t 2 --verify --temp-path /v >log 2>&1 || status=$?
            echo $one $status; [ $status = 0 ] || cat log
        done",
        STRESSORS.join(" ")
    );
    on_a_volume("root", &script, |outcome| {
        let ends = outcome
            .stdout
            .lines()
            .filter_map(|line| line.split_once(' '));
        let ends: Vec<_> = ends.filter(|(name, _)| STRESSORS.contains(name)).collect();
        assert_eq!(ends.len(), STRESSORS.len(), "{}", outcome.stdout);
        let failed = ends.into_iter().filter(|(_, status)| {
            let status = status.parse().unwrap_or(-1);
            status != 0 && !CANNOT.contains(&status)
        });
        assert_eq!(failed.count(), 0, "{}", outcome.stdout);
    });
}

#[test]
fn fio_reads_what_it_wrote() {
    let script = "cd /v
        for engine in psync libaio mmap; do
            fio --name=$engine --ioengine=$engine --rw=randrw --bs=4k-64k --size=16m \
                --verify=crc32c --verify_fatal=1 --do_verify=1 --output=log || cat log
            echo $engine
        done";
    on_a_volume("root", script, |outcome| {
        assert_eq!(outcome.stdout, "psync\nlibaio\nmmap\n", "{outcome:?}");
    });
}
