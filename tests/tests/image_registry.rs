//! Images in a registry, Debian's own on the loopback interface: built from what another
//! tool put there, and put there and got back as they are.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use e2e_tests::{Layout, PASSWORD, RegistryServer, Shem, USER, demo_image, with_each_kernel};
use tempfile::TempDir;

const TAG: &str = "latest";
const BUSYBOX: &str = "/bin/busybox";

with_each_kernel!(a_command_runs_as_an_image_of_a_registry_says);

/// `shem image WORDS…`, with a home and a cache of its own.
fn image(home: &TempDir, words: &[&str]) -> Shem {
    let mut shem = Shem::new(&["image"]);
    shem.command()
        .args(words)
        .env("HOME", home.path())
        .env("XDG_CACHE_HOME", home.path().join("cache"))
        .env_remove("DOCKER_CONFIG");
    shem
}

/// An image of a busybox with a user, put into the registry by skopeo.
fn put_busybox(registry: &RegistryServer, name: &str) {
    let layout = Layout::new(TAG);
    layout.layer(TAG, |root| {
        for folder in ["bin", "etc", "srv"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        symlink("busybox", root.join("bin/sh")).unwrap();
        fs::write(root.join("etc/passwd"), "app:x:1234:1234::/srv:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "app:x:1234:\n").unwrap();
        fs::write(root.join("srv/removed"), "").unwrap();
        chown(root.join("srv"), Some(1234), Some(1234)).unwrap();
    });
    layout.layer(TAG, |root| {
        fs::remove_file(root.join("srv/removed")).unwrap();
        let script = "echo \"$0: $* by $(busybox id -un) in $(pwd) with $GREETING\"\nbusybox ls\n";
        fs::write(root.join("srv/hello"), format!("#!/bin/sh\n{script}")).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.join("srv/hello"), executable).unwrap();
    });
    let words = [
        &["--config.user", "app", "--config.workingdir", "/srv"],
        &["--config.env", "GREETING=ahoy", "--config.env", "PATH=/bin"][..],
        &[
            "--config.entrypoint",
            "/srv/hello",
            "--config.cmd",
            "by default",
        ],
    ];
    layout.configure(TAG, &words.concat());
    let to = format!("docker://{}", registry.name(name));
    layout.copy(TAG, &["--dest-tls-verify=false"], &to);
}

fn a_command_runs_as_an_image_of_a_registry_says(kernel: &str) {
    let registry = RegistryServer::start();
    let home = TempDir::new().unwrap();
    put_busybox(&registry, "demo/app:1");
    let file = home.path().join("app.gvmi");
    let source = format!("docker://{}", registry.name("demo/app:1"));
    let mut build = image(&home, &["build", &source, "-o"]);
    build.command().arg(&file);
    let built = build.outcome();
    assert_eq!(built.status, Some(0), "{built:?}");

    let ran = Shem::run_image(kernel, &[], &file, &["a", "b"]).outcome();
    ran.assert_ok("/srv/hello: a b by app in /srv with ahoy\nhello\n");
    let mut shem = Shem::new(&["run", "--kernel", kernel]);
    shem.command().arg(&file);
    let said = "/srv/hello: by default by app in /srv with ahoy\nhello\n";
    shem.outcome().assert_ok(said);
}

#[test]
fn an_image_comes_back_as_it_was_put_there() {
    let registry = RegistryServer::start();
    let home = TempDir::new().unwrap();
    let name = registry.name("golem/demo:2");
    let mut push = image(&home, &["push", "--quiet"]);
    push.command().arg(demo_image()).arg(&name);
    push.outcome().assert_ok("");
    let file = home.path().join("back.gvmi");
    let mut pull = image(&home, &["pull", "--quiet", &name, "-o"]);
    pull.command().arg(&file);
    pull.outcome().assert_ok("");
    assert!(fs::read(demo_image()).unwrap() == fs::read(&file).unwrap());

    // It is not an image of Docker's, and says what it is.
    let mut build = image(&home, &["build", &format!("docker://{name}"), "-o"]);
    build.command().arg(&file);
    build.outcome().assert_refused(125, &["shem image pull"]);
}

#[test]
fn a_registry_that_asks_who_we_are_is_told_after_a_login() {
    let registry = RegistryServer::start_closed();
    let home = TempDir::new().unwrap();
    let name = registry.name("golem/demo:2");
    let push = || {
        let mut push = image(&home, &["push", "--quiet"]);
        push.command().arg(demo_image()).arg(&name);
        push.outcome()
    };
    push().assert_refused(125, &[&name, "shem image login"]);

    let words = ["login", "-u", USER, "--password-stdin", registry.host()];
    let refused = image(&home, &words).outcome_with_input(b"something else\n");
    refused.assert_refused(125, &[registry.host(), "password"]);
    let login = image(&home, &words).outcome_with_input(format!("{PASSWORD}\n").as_bytes());
    assert_eq!(login.status, Some(0), "{login:?}");
    let config = home.path().join(".docker/config.json");
    let mode = fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    push().assert_ok("");

    let logout = image(&home, &["logout", registry.host()]).outcome();
    assert_eq!(logout.status, Some(0), "{logout:?}");
    push().assert_refused(125, &[&name, "shem image login"]);
}

#[test]
fn what_a_registry_does_not_have_and_one_that_is_not_there_are_named() {
    let registry = RegistryServer::start();
    let home = TempDir::new().unwrap();
    let file = home.path().join("none.gvmi");
    let build = |name: &str| {
        let mut build = image(&home, &["build", &format!("docker://{name}"), "-o"]);
        build.command().arg(&file);
        build.outcome()
    };
    let missing = registry.name("no/such:thing");
    build(&missing).assert_refused(125, &[&missing]);
    let (host, gone) = (registry.host().to_owned(), registry.name("demo/app:1"));
    drop(registry);
    build(&gone).assert_refused(125, &[&host, "refused"]);
    assert!(!file.exists());
}

#[test]
fn layers_are_fetched_once_and_pruned() {
    let registry = RegistryServer::start();
    let home = TempDir::new().unwrap();
    put_busybox(&registry, "demo/app:1");
    let source = format!("docker://{}", registry.name("demo/app:1"));
    let build = |file: &Path| {
        let mut build = image(&home, &["build", "--json", &source, "-o"]);
        build.command().arg(file);
        let built = build.outcome();
        assert_eq!(built.status, Some(0), "{built:?}");
        built.stdout
    };
    let fetches = |told: &str| told.contains("\"stage\":\"fetch\"");
    let (first, second) = (home.path().join("1.gvmi"), home.path().join("2.gvmi"));
    assert!(fetches(&build(&first)));
    assert!(!fetches(&build(&second)));
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap());

    let pruned = image(&home, &["prune"]).outcome();
    assert_eq!(pruned.status, Some(0), "{pruned:?}");
    assert!(fetches(&build(&second)));
}
