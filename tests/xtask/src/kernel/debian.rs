//! Debian's packages as a source of files: fetched and unpacked by apt and
//! dpkg, which check signatures and sums, never installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages;
use crate::process::{self, command};

/// A package in the version that apt would install.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    name: String,
    version: String,
    depends: String,
}

impl Package {
    /// Asks apt. Fetches apt's lists when they do not have the package.
    pub fn candidate(name: &str) -> Result<Self> {
        let ask = || {
            let show = ["show", "--no-all-versions", name];
            process::output(command("apt-cache").env("LC_ALL", "C").args(show))
        };
        let record = ask().or_else(|_| {
            packages::apt_update()?;
            ask()
        })?;
        Self::parse(name, &record).with_context(|| format!("apt knows no package {name}"))
    }

    fn parse(name: &str, record: &str) -> Option<Self> {
        let field = |key: &str| {
            let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned());
            record.lines().find_map(value)
        };
        Some(Self {
            name: name.to_owned(),
            version: field("Version")?,
            depends: field("Depends").unwrap_or_default(),
        })
    }

    /// The first package that this one depends on and whose name starts so.
    pub fn dependency(&self, prefix: &str) -> Option<&str> {
        let names = self
            .depends
            .split(',')
            .map(str::trim)
            .map(|one| one.split([' ', '(']).next().unwrap_or(one));
        names.into_iter().find(|name| name.starts_with(prefix))
    }

    /// The package and its version, for people.
    pub fn origin(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The version of what is packaged: without epoch and Debian's revision.
    pub fn upstream_version(&self) -> &str {
        let version = self
            .version
            .split_once(':')
            .map_or(&*self.version, |(_, rest)| rest);
        version
            .rsplit_once('-')
            .map_or(version, |(upstream, _)| upstream)
    }

    /// Fetches the package and unpacks its files into `folder`/files, which is
    /// returned.
    pub fn unpack(&self, folder: &Path) -> Result<PathBuf> {
        let download = || {
            let mut apt = command("apt-get");
            // As root apt would become a user who may not write into the cache.
            apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]);
            apt.arg(format!("{}={}", self.name, self.version))
                .current_dir(folder);
            process::quiet(&mut apt)
        };
        // A list from before a security update names a file that is gone.
        download().with_context(|| {
            format!(
                "fetch {}; when it is gone, `apt-get update` finds its successor",
                self.origin()
            )
        })?;
        let archive = archive_in(folder)?;
        let files = folder.join("files");
        process::quiet(command("dpkg-deb").arg("-x").arg(&archive).arg(&files))?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
        Ok(files)
    }
}

fn archive_in(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt left no package in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_gives_version_and_kernel_dependency() {
        let record = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
                      Pre-Depends: x (>= 1)\n\
                      Depends: kmod, linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        let package = Package::parse("linux-image-cloud-amd64", record).unwrap();
        assert_eq!(
            package.dependency("linux-image-"),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(package.origin(), "linux-image-cloud-amd64 6.1.192-2");
        assert_eq!(package.upstream_version(), "6.1.192");
    }

    #[test]
    fn upstream_version_has_neither_epoch_nor_revision() {
        let package =
            |version: &str| Package::parse("x", &format!("Version: {version}\n")).unwrap();
        assert_eq!(package("6.12.117-1~deb12u1").upstream_version(), "6.12.117");
        assert_eq!(package("1:2.0-rc1-3").upstream_version(), "2.0-rc1");
        assert_eq!(package("7").upstream_version(), "7");
    }

    #[test]
    fn record_without_version_is_no_package() {
        assert_eq!(Package::parse("x", "N: Unable to locate package x\n"), None);
    }
}
