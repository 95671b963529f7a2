//! Images that tests make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Shem;

/// Makes an image of the folder `tree` beside it, with more words for
/// `shem image build`.
pub fn build_image(tree: &Path, words: &[&str]) -> PathBuf {
    let image = tree.with_extension("gvmi");
    let mut shem = Shem::new(&["image", "build"]);
    shem.command().arg(tree).arg("-o").arg(&image).args(words);
    let built = shem.outcome();
    assert_eq!(built.status, Some(0), "{built:?}");
    image
}

/// Makes an image of this machine's own `programs`, to lie on top of the demo's:
/// what busybox lacks.
pub fn image_of_programs(dir: &Path, programs: &[&str]) -> PathBuf {
    let tree = dir.join("programs");
    let mut add = |file: &str| {
        let copy = tree.join(file.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    };
    for program in programs {
        add(program);
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let paths = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        paths.for_each(&mut add);
    }
    build_image(&tree, &[])
}
