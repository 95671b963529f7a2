//! `ya-runtime-shem test` and `offer-template`: one VM tells for both whether this
//! machine can run VMs, and what cannot work is told in one line.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e_tests::{LIMIT, Outcome, build_image, demo_image, guest_programs, runtime};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A provider's account: folders of its own, nothing tested yet.
struct Provider(TempDir);

impl Provider {
    fn new() -> Self {
        Provider(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `ya-runtime-shem WORDS…`.
    fn runtime(&self, words: &[&str]) -> Command {
        self.call(Command::new(runtime()), words)
    }

    /// The same where no VM can be booted.
    fn runtime_without_kvm(&self, words: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        let script = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
        unshare.args(["--mount", "sh", "-c", script]).arg(runtime());
        self.call(unshare, words)
    }

    fn call(&self, mut command: Command, words: &[&str]) -> Command {
        command
            .args(words)
            .current_dir(self.0.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            // Not what goes well: failures are one line beside that.
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null());
        command
    }

    /// Names of what the self-test left in the cache.
    fn cached(&self) -> Vec<String> {
        let folder = self.path("cache/ya-runtime-shem");
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn outcome(mut command: Command) -> Outcome {
    Outcome::of(command.output().expect("the runtime starts"))
}

/// `--test-timeout` for an emulated machine.
fn limit() -> String {
    LIMIT.as_secs().to_string()
}

#[test]
fn one_vm_serves_all_tests_and_offers_until_something_changes() {
    let provider = Provider::new();
    let test = ["--test-timeout", &limit(), "test"];
    let offer = ["--test-timeout", &limit(), "offer-template"];
    let without_vm = |words: &[&str]| outcome(provider.runtime_without_kvm(words));
    // Else what follows would prove nothing.
    let refused = without_vm(&test);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("/dev/kvm"), "{refused:?}");

    outcome(provider.runtime(&test)).assert_ok("{}\n");
    assert_eq!(provider.cached(), ["self-test.json", "self-test.lock"]);
    without_vm(&test).assert_ok("{}\n");
    let offered = without_vm(&offer);
    assert_eq!(offered.status, Some(0), "{offered:?}");
    assert_offer(&offered.stdout);

    // A machine of another size has not been tested.
    let larger = without_vm(&["--test-mem-gib", "1", "test"]);
    assert_eq!(larger.status, Some(1), "{larger:?}");
}

/// One line with what the market compares.
fn assert_offer(line: &str) {
    assert_eq!(line.lines().count(), 1, "{line}");
    let offer: Value = serde_json::from_str(line).unwrap();
    let keys: Vec<_> = offer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["constraints", "properties"]);
    assert_eq!(offer["constraints"], "");
    let properties = &offer["properties"];
    let names: Vec<_> = properties.as_object().unwrap().keys().collect();
    let expected = [
        "golem.inf.cpu.brand",
        "golem.inf.cpu.capabilities",
        "golem.inf.cpu.model",
        "golem.inf.cpu.vendor",
        "golem.runtime.capabilities",
    ];
    assert_eq!(names, expected);
    let can = json!(["inet", "vpn", "manifest-support", "start-entrypoint"]);
    assert_eq!(properties["golem.runtime.capabilities"], can);
    let about = fs::read_to_string("/proc/cpuinfo").unwrap();
    for (property, field) in [
        ("golem.inf.cpu.vendor", "vendor_id"),
        ("golem.inf.cpu.brand", "model name"),
    ] {
        let of_kernel = about.lines().find(|line| line.starts_with(field)).unwrap();
        let of_kernel = of_kernel.split(": ").nth(1).unwrap().trim();
        assert_eq!(properties[property], of_kernel, "{property}");
    }
    let model = properties["golem.inf.cpu.model"].as_str().unwrap();
    assert!(model.starts_with("Stepping "), "{model}");
    let capabilities = properties["golem.inf.cpu.capabilities"].as_array().unwrap();
    for capability in ["fpu", "sse2", "cmpxchg16b"] {
        assert!(capabilities.contains(&json!(capability)), "{line}");
    }
}

#[test]
fn what_cannot_work_is_told_in_one_line_and_leaves_nothing() {
    let provider = Provider::new();
    let text = provider.path("text.gvmi");
    fs::write(&text, "no image at all").unwrap();
    let nowhere = provider.path("nowhere");
    let without_volume = image_without_volume(&provider);
    let demo = demo_image();
    for (variable, value, words) in [
        ("SHEM_SELF_TEST_IMAGE", &text, ["prepare", "text.gvmi"]),
        ("SHEM_SELF_TEST_IMAGE", &nowhere, ["image", "nowhere"]),
        (
            "SHEM_SELF_TEST_IMAGE",
            &demo,
            ["run /ya-self-test", "No such file"],
        ),
        (
            "SHEM_SELF_TEST_IMAGE",
            &without_volume,
            ["ya-self-test: ", "/mnt/out"],
        ),
        ("SHEM_STORE", &nowhere, ["kernel pack", "nowhere/kernels"]),
        ("SHEM_GUEST_INIT", &nowhere, ["guest's init", "nowhere"]),
    ] {
        let mut call = provider.runtime(&["--test-timeout", &limit(), "test"]);
        call.env(variable, value);
        assert_refused(&outcome(call), &words);
    }
    let hasty = provider.runtime(&["--test-timeout", "0", "offer-template"]);
    assert_refused(&outcome(hasty), &["within 0 s", "--test-timeout"]);
    assert_eq!(provider.cached(), ["self-test.lock"]);
}

/// As the self-test's, without a place for its result.
fn image_without_volume(provider: &Provider) -> PathBuf {
    let tree = provider.path("image");
    fs::create_dir(&tree).unwrap();
    let name = "ya-self-test";
    fs::copy(guest_programs().join(name), tree.join(name)).unwrap();
    build_image(&tree, &[])
}

/// A failure with nothing for exe-unit to take for a result, and one line for people.
#[track_caller]
fn assert_refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{outcome:?}");
    for word in words {
        assert!(
            outcome.stderr.contains(word),
            "{word:?} is not in {outcome:?}"
        );
    }
}
