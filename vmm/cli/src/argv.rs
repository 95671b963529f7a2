//! Which program runs, by Docker's rules, from the image's configuration and
//! the command line. It does not look into the image.

use std::ffi::OsString;

use anyhow::{Result, ensure};
use gvmi::ContainerConfig;

/// Program and arguments. A command replaces the image's CMD and follows its
/// ENTRYPOINT; `--entrypoint` replaces both, and empty takes the image's away.
pub fn argv(
    image: &ContainerConfig,
    entrypoint: Option<OsString>,
    command: Vec<OsString>,
) -> Result<Vec<OsString>> {
    let (mut argv, default): (Vec<OsString>, &[String]) = match entrypoint {
        Some(word) if word.is_empty() => (Vec::new(), &[]),
        Some(word) => (vec![word], &[]),
        None => (
            image.entrypoint.iter().map(OsString::from).collect(),
            &image.cmd,
        ),
    };
    if command.is_empty() {
        argv.extend(default.iter().map(OsString::from));
    } else {
        argv.extend(command);
    }
    ensure!(
        !argv.is_empty(),
        "no command: the image has neither ENTRYPOINT nor CMD; give one after --, as in: \
         shem run IMAGE -- sh"
    );
    ensure!(
        argv.first().is_some_and(|program| !program.is_empty()),
        "the name of the command is empty"
    );
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ContainerConfig {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        ContainerConfig {
            entrypoint: owned(entrypoint),
            cmd: owned(cmd),
            ..ContainerConfig::default()
        }
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn image_alone_says_what_runs() {
        let argv = argv(&image(&["/entry"], &["a", "b"]), None, vec![]).unwrap();
        assert_eq!(argv, words(&["/entry", "a", "b"]));
    }

    #[test]
    fn command_replaces_cmd_and_keeps_the_entrypoint() {
        let argv = argv(&image(&["/entry"], &["a"]), None, words(&["b"])).unwrap();
        assert_eq!(argv, words(&["/entry", "b"]));
    }

    #[test]
    fn entrypoint_option_replaces_entrypoint_and_cmd() {
        let image = image(&["/entry"], &["a"]);
        let alone = argv(&image, Some("sh".into()), vec![]).unwrap();
        assert_eq!(alone, words(&["sh"]));
        let with = argv(&image, Some("sh".into()), words(&["-c", "x"])).unwrap();
        assert_eq!(with, words(&["sh", "-c", "x"]));
    }

    #[test]
    fn empty_entrypoint_option_takes_the_image_s_away() {
        let image = image(&["/entry"], &["a"]);
        assert_eq!(
            argv(&image, Some("".into()), words(&["b"])).unwrap(),
            words(&["b"])
        );
        assert!(argv(&image, Some("".into()), vec![]).is_err());
    }

    #[test]
    fn nothing_to_run_is_refused_with_what_to_do() {
        let error = argv(&image(&[], &[]), None, vec![]).unwrap_err();
        assert!(error.to_string().contains("shem run IMAGE -- sh"));
        assert!(argv(&image(&[], &[]), None, words(&[""])).is_err());
    }
}
