//! Kernel configurations: whether what came out of kconfig is what was asked.
//!
//! kconfig drops what it cannot grant without a word: a misspelt name, an
//! option whose dependency is off, a "no" that something else overrides.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Options by name. "No" is as good as absent.
type Options<'a> = BTreeMap<&'a str, &'a str>;

/// Checks every line of `fragment` against `configured`, and lists those that
/// came out otherwise.
pub fn check(fragment: &str, configured: &str) -> Result<()> {
    let wanted = parse(fragment).context("our configuration")?;
    let found = parse(configured).context("kconfig's result")?;
    let wrong: Vec<String> = wanted
        .into_iter()
        .filter_map(|(name, wish)| {
            let value = found.get(name).copied().unwrap_or("n");
            (value != wish).then(|| format!("\n  {name}: asked for {wish}, got {value}"))
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "options came out otherwise than asked for:{}",
        wrong.concat()
    );
}

fn parse(text: &str) -> Result<Options<'_>> {
    let mut options = Options::new();
    for line in text.lines().map(str::trim) {
        let unset = line
            .strip_prefix("# ")
            .and_then(|rest| rest.strip_suffix(" is not set"));
        let (name, value) = match unset {
            Some(name) => (name, "n"),
            None if line.is_empty() || line.starts_with('#') => continue,
            None => line
                .split_once('=')
                .with_context(|| format!("not an option: {line}"))?,
        };
        if options.insert(name, value).is_some() {
            bail!("{name} is there twice");
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: &str = "# Linux/x86 6.12.117 Kernel Configuration\n\n\
        CONFIG_SMP=y\nCONFIG_NR_CPUS=64\n# CONFIG_VT is not set\nCONFIG_LSM=\"landlock\"\n";

    #[test]
    fn granted_wishes_pass() {
        let wishes = "# a comment\nCONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_VT=n\n\
            # CONFIG_NEVER_HEARD_OF is not set\nCONFIG_LSM=\"landlock\"";
        check(wishes, CONFIGURED).unwrap();
    }

    #[test]
    fn every_refused_wish_is_named() {
        let wishes = "CONFIG_SMP=n\nCONFIG_NR_CPUS=32\nCONFIG_VT=y\nCONFIG_SQUASFS=y\n";
        let text = check(wishes, CONFIGURED).unwrap_err().to_string();
        for line in [
            "CONFIG_SMP: asked for n, got y",
            "CONFIG_NR_CPUS: asked for 32, got 64",
            "CONFIG_VT: asked for y, got n",
            "CONFIG_SQUASFS: asked for y, got n",
        ] {
            assert!(text.contains(line), "{line} is missing in: {text}");
        }
    }

    #[test]
    fn contradictions_and_noise_are_errors() {
        assert!(check("CONFIG_SMP=y\nCONFIG_SMP=n", CONFIGURED).is_err());
        assert!(check("CONFIG_SMP", CONFIGURED).is_err());
    }

    #[test]
    fn our_fragment_is_readable_and_every_line_of_it_has_its_group() {
        let fragment = super::super::tuned::FRAGMENT;
        parse(fragment).unwrap();
        let groups = fragment
            .split("\n\n")
            .filter(|group| group.contains("CONFIG_"));
        for group in groups {
            assert!(
                group.trim_start().starts_with('#'),
                "no comment opens: {group}"
            );
        }
    }
}
