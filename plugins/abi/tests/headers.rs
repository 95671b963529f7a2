//! The headers compile alone and together, and the C compiler lays out every
//! struct as this crate does.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plugin_abi::LAYOUTS;

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

fn headers() -> Vec<String> {
    let mut headers = Vec::new();
    for folder in ["shem", "shem/ext", "shem/ext/draft"] {
        for entry in fs::read_dir(include().join(folder)).expect("a folder of headers") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("a plain name");
            if name.ends_with(".h") {
                headers.push(format!("{folder}/{name}"));
            }
        }
    }
    headers
}

/// Compiles `source`; what the compiler said when it refuses.
fn compile(language: &[&str], source: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("source.c");
    fs::write(&file, source).expect("write the source");
    let output = Command::new("cc")
        .args(language)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-c", "-I"])
        .arg(include())
        .arg(&file)
        .arg("-o")
        .arg(folder.path().join("object"))
        .output()
        .expect("cc runs");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn including(headers: &[String]) -> String {
    headers.iter().fold(String::new(), |mut text, header| {
        writeln!(text, "#include <{header}>").expect("write to a string");
        text
    })
}

#[test]
fn the_texts_are_those_of_the_files_and_of_all_of_them() {
    let mut files = headers();
    files.sort();
    let mut texts: Vec<_> = plugin_abi::HEADERS.to_vec();
    texts.sort();
    let named: Vec<_> = texts.iter().map(|(path, _)| *path).collect();
    assert_eq!(named, files);
    for (path, text) in texts {
        let file = fs::read_to_string(include().join(path)).expect("a header");
        assert_eq!(text, file, "{path}");
    }
}

#[test]
fn each_header_compiles_alone_as_c11() {
    for header in headers() {
        let source = including(std::slice::from_ref(&header));
        assert_eq!(compile(&["-std=c11"], &source), Ok(()), "{header}");
    }
}

#[test]
fn all_headers_compile_together_as_cpp() {
    let language = ["-x", "c++", "-std=c++17"];
    assert_eq!(compile(&language, &including(&headers())), Ok(()));
}

#[test]
fn c_lays_out_every_struct_as_this_crate() {
    let mut source = including(&headers());
    for layout in LAYOUTS.iter().copied().flatten() {
        let (name, size) = (layout.name, layout.size);
        writeln!(source, "SHEM_LAYOUT(sizeof({name}) == {size});").expect("write to a string");
        for field in layout.fields {
            let (field, offset) = (field.name, field.offset);
            writeln!(
                source,
                "SHEM_LAYOUT(offsetof({name}, {field}) == {offset});"
            )
            .expect("write to a string");
        }
    }
    assert_eq!(compile(&["-std=c11"], &source), Ok(()));
}

#[test]
fn a_wrong_offset_is_noticed() {
    let source = "#include <shem/plugin.h>\nSHEM_LAYOUT(offsetof(shem_host_t, host_data) == 4);";
    let said = compile(&["-std=c11"], source).expect_err("the assertion is false");
    assert!(said.contains("host_data"), "{said}");
}

#[test]
fn every_struct_of_the_headers_has_its_mirror() {
    for header in headers() {
        let text = fs::read_to_string(include().join(&header)).expect("a header");
        for line in text.lines() {
            let Some(name) = line
                .strip_prefix("} ")
                .and_then(|rest| rest.strip_suffix(';'))
            else {
                continue;
            };
            let known = LAYOUTS
                .iter()
                .copied()
                .flatten()
                .any(|layout| layout.name == name);
            assert!(known, "{header}: {name} has no mirror");
        }
    }
}

#[test]
fn versions_and_extension_ids_are_the_same_in_both_languages() {
    let mut text = String::new();
    for header in headers() {
        text += &fs::read_to_string(include().join(&header)).expect("a header");
    }
    for id in [
        plugin_abi::EXT_EVENTS,
        plugin_abi::EXT_GUEST_CONFIG,
        plugin_abi::EXT_GUEST_MEMORY,
        plugin_abi::EXT_INTERRUPTS,
        plugin_abi::EXT_LIFECYCLE,
        plugin_abi::EXT_LOG,
        plugin_abi::EXT_NET_BACKEND,
        plugin_abi::EXT_VIRTIO_DEVICE,
        plugin_abi::EXT_PCI_DEVICE,
        plugin_abi::EXT_DMA_MAP,
    ] {
        assert!(text.contains(&format!("\"{id}\"")), "{id}");
    }
    for (name, number) in [
        ("SHEM_ABI_MAJOR", u64::from(plugin_abi::ABI_MAJOR)),
        ("SHEM_ABI_MINOR", u64::from(plugin_abi::ABI_MINOR)),
        ("SHEM_EVENT_LIMIT", plugin_abi::EVENT_LIMIT as u64),
        (
            "SHEM_GUEST_CONFIG_LIMIT",
            plugin_abi::GUEST_CONFIG_LIMIT as u64,
        ),
        (
            "SHEM_NET_QUEUE_PAIRS",
            u64::from(plugin_abi::NET_QUEUE_PAIRS),
        ),
        ("SHEM_NET_HEADER", plugin_abi::NET_HEADER as u64),
        ("SHEM_VIRTIO_QUEUES", plugin_abi::VIRTIO_QUEUES as u64),
        (
            "SHEM_VIRTIO_QUEUE_SIZE",
            u64::from(plugin_abi::VIRTIO_QUEUE_SIZE),
        ),
        (
            "SHEM_NET_RECEIVE_USO",
            u64::from(plugin_abi::NET_RECEIVE_USO),
        ),
        ("SHEM_NET_SEND_USO", u64::from(plugin_abi::NET_SEND_USO)),
    ] {
        let includes = including(&headers());
        let source = format!("{includes}SHEM_LAYOUT({name} == {number});");
        assert_eq!(compile(&["-std=c11"], &source), Ok(()), "{name}");
    }
}
