//! Random layers against a tree of maps to which each entry is applied the
//! naive way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A node of the model; hard links share one file.
#[derive(Clone)]
enum Thing {
    Folder(u32),
    File(Rc<RefCell<String>>),
    Symlink(Rc<RefCell<String>>),
}

#[derive(Clone, Debug)]
enum Op {
    File(String),
    Folder(String, u32),
    Symlink(String, String),
    HardLink(String, String),
    WhiteOut(String),
    Opaque(String),
}

/// Why a path leads nowhere.
enum Astray {
    IntoAFile,
    InCircles,
}

/// The tree by full paths, with the paths that the present layer touched.
#[derive(Default)]
struct Model {
    things: BTreeMap<String, Thing>,
    touched: BTreeSet<String>,
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Model {
    /// Where `path` leads, its last name with it.
    fn resolve(&self, path: &str, links: u32) -> Result<String, Astray> {
        if links > 40 {
            return Err(Astray::InCircles);
        }
        let mut at = String::new();
        let mut names = path.split('/');
        while let Some(name) = names.next() {
            match name {
                "" | "." => continue,
                ".." => {
                    at = split(&at).0.to_owned();
                    continue;
                }
                _ => {}
            }
            let next = join(&at, name);
            match self.things.get(&next) {
                Some(Thing::Symlink(target)) => {
                    let target = target.borrow().clone();
                    let rest: Vec<_> = names.collect();
                    let from = if target.starts_with('/') { "" } else { &at };
                    let path = format!("{from}/{target}/{}", rest.join("/"));
                    return self.resolve(&path, links + 1);
                }
                Some(Thing::File(_)) => return Err(Astray::IntoAFile),
                Some(Thing::Folder(_)) | None => at = next,
            }
        }
        Ok(at)
    }

    /// As `resolve`; nothing is in a file, and a circle is refused.
    fn existing(&self, path: &str) -> Option<Option<String>> {
        match self.resolve(path, 0) {
            Ok(path) => Some(Some(path)),
            Err(Astray::IntoAFile) => Some(None),
            Err(Astray::InCircles) => None,
        }
    }

    fn remove(&mut self, path: &str) {
        self.things
            .retain(|at, _| at != path && !is_below(at, path));
    }

    fn remove_untouched_below(&mut self, path: &str) {
        let touched = &self.touched;
        self.things
            .retain(|at, _| !is_below(at, path) || touched.contains(at));
    }

    fn touch(&mut self, path: &str) {
        let mut path = path;
        while !path.is_empty() {
            self.touched.insert(path.to_owned());
            path = split(path).0;
        }
    }

    fn make_folders(&mut self, path: &str) {
        let mut at = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = join(&at, name);
            self.things
                .entry(at.clone())
                .or_insert(Thing::Folder(0o755));
        }
        self.touch(path);
    }

    /// `None` when the layer is refused.
    fn apply(&mut self, op: &Op) -> Option<()> {
        let path = match op {
            Op::WhiteOut(path) => {
                let (folder, name) = split(path);
                if let Some(folder) = self.existing(folder)? {
                    let path = join(&folder, name);
                    if self.touched.contains(&path) {
                        self.remove_untouched_below(&path);
                    } else {
                        self.remove(&path);
                    }
                }
                return Some(());
            }
            Op::Opaque(path) => {
                if let Some(folder) = self.existing(path)? {
                    self.remove_untouched_below(&folder);
                }
                return Some(());
            }
            Op::File(path) | Op::Folder(path, _) | Op::Symlink(path, _) => path,
            Op::HardLink(path, _) => path,
        };
        let (folder, name) = split(path);
        let folder = self.resolve(folder, 0).ok()?;
        self.make_folders(&folder);
        let at = join(&folder, name);
        let thing = match op {
            Op::Folder(_, mode) => {
                let thing = Thing::Folder(*mode);
                if matches!(self.things.get(&at), Some(Thing::Folder(_))) {
                    self.things.insert(at.clone(), thing);
                    self.touch(&at);
                    return Some(());
                }
                thing
            }
            // Its content is unlike any other's.
            Op::File(path) => Thing::File(Rc::new(RefCell::new(path.clone()))),
            Op::Symlink(_, target) => Thing::Symlink(Rc::new(RefCell::new(target.clone()))),
            Op::HardLink(_, target) => {
                self.remove(&at);
                let (folder, name) = split(target);
                let target = join(&self.resolve(folder, 0).ok()?, name);
                match self.things.get(&target)? {
                    Thing::Folder(_) => return None,
                    thing => thing.clone(),
                }
            }
            Op::WhiteOut(_) | Op::Opaque(_) => unreachable!("done above"),
        };
        self.remove(&at);
        self.things.insert(at.clone(), thing);
        self.touch(&at);
        Some(())
    }

    fn list(&self) -> Vec<String> {
        let mut first: BTreeMap<*const RefCell<String>, (&str, u32)> = BTreeMap::new();
        for (path, thing) in &self.things {
            if let Thing::File(shared) | Thing::Symlink(shared) = thing {
                first.entry(Rc::as_ptr(shared)).or_insert((path, 0)).1 += 1;
            }
        }
        let same = |shared| match first[&Rc::as_ptr(shared)] {
            (_, 1) => String::new(),
            (name, _) => format!(" = {name}"),
        };
        let mut lines: Vec<_> = self
            .things
            .iter()
            .map(|(path, thing)| match thing {
                Thing::Folder(mode) => format!("{path}/ {mode:o}"),
                Thing::File(data) => format!("{path} {}{}", data.borrow(), same(data)),
                Thing::Symlink(to) => format!("{path} -> {}{}", to.borrow(), same(to)),
            })
            .collect();
        lines.sort();
        lines
    }
}

fn write(ops: &[Op]) -> Tar {
    ops.iter().fold(Tar::new(), |tar, op| match op {
        Op::File(path) => tar.file(path, path),
        Op::Folder(path, mode) => tar.folder(path, *mode),
        Op::Symlink(path, target) => tar.symlink(path, target),
        Op::HardLink(path, target) => tar.hard_link(path, target),
        Op::WhiteOut(path) => {
            let (folder, name) = split(path);
            tar.white_out(&join(folder, &format!(".wh.{name}")))
        }
        Op::Opaque(path) => tar.white_out(&join(path, ".wh..wh..opq")),
    })
}

/// Few names, so that much meets.
fn path() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec!["/", "..", "../a", "/b/../c", "a/../../b", "."]);
    prop_oneof![3 => path(), 1 => odd.prop_map(str::to_owned)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => path().prop_map(Op::File),
        3 => (path(), prop::sample::select(vec![0o700, 0o711]))
            .prop_map(|(path, mode)| Op::Folder(path, mode)),
        1 => (path(), target()).prop_map(|(path, target)| Op::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(path, target)| Op::HardLink(path, target)),
        2 => path().prop_map(Op::WhiteOut),
        1 => path().prop_map(Op::Opaque),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Entries that the model refuses are left out, and then tried alone, so
    /// that much is left of most layers and both refuse the same.
    #[test]
    fn layers_make_what_the_model_makes(layers in vec(vec(op(), 0..10), 1..4)) {
        let mut model = Model::default();
        let mut written: Vec<Layer> = Vec::new();
        for ops in layers {
            model.touched.clear();
            let mut kept: Vec<Op> = Vec::new();
            for op in ops {
                let before = (model.things.clone(), model.touched.clone());
                if model.apply(&op).is_some() {
                    kept.push(op);
                    continue;
                }
                (model.things, model.touched) = before;
                let refused: Vec<_> = kept.iter().cloned().chain([op]).collect();
                let mut layers = written.clone();
                layers.push(layer(write(&refused)));
                prop_assert!(merged_within(&layers, &Limits::default()).is_err(), "{refused:?}");
            }
            written.push(layer(write(&kept)));
        }
        let out = merged_within(&written, &Limits::default());
        let out = out.map_err(|error| TestCaseError::fail(text(&error)))?;
        prop_assert_eq!(list(&out), model.list());
    }
}
