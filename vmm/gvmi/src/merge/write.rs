//! The second pass: reads every layer again and writes what is left of it, all
//! folders first, then each file where its data comes by, and its hard links
//! behind it.

use std::io::{self, Write};

use super::LayerError;
use super::apply::unpack;
use super::source::{self, Check, Entries};
use super::tree::{Body, LayerNumber, NodeId, Place, Tree};
use crate::builder::BuildError;
use crate::layer::Layer;
use crate::limits::Budget;
use crate::owners::Owners;
use crate::progress::{Meter, Pass};
use crate::tar::{CleanPath, Entry, Kind, TarError, Writer};

/// A name of a file, in the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    place: Place,
    node: NodeId,
}

/// Writes `tree`, which was made of `layers`, as one archive to `sink`,
/// without the root folder.
pub(super) fn write(
    layers: &[Layer],
    tree: &Tree,
    owners: Option<&Owners>,
    sink: &mut dyn Write,
    meter: &mut Meter<'_>,
) -> Result<(), BuildError> {
    let mut writer = Writer::new(sink, owners);
    let mut steps = Vec::new();
    for node in tree.nodes() {
        match tree.body(node) {
            Body::Folder(id) => {
                let folder = tree.folder(id);
                let attributes = folder.attributes();
                let xattrs = folder.xattrs.map(|xattrs| unpack(tree.xattrs(xattrs)));
                let xattrs = xattrs.unwrap_or_default();
                writer
                    .entry(&tree.path(node), &Kind::Folder, &attributes, &xattrs)
                    .map_err(TarError::Write)?;
            }
            Body::File(file) => steps.push(Step {
                place: tree.place(file),
                node,
            }),
            Body::Nothing => {}
        }
    }
    steps.sort_unstable();

    let budget = Budget::new(tree.limits());
    meter.start(Pass::Pack);
    let mut rest = &steps[..];
    for (number, layer) in layers.iter().enumerate() {
        let number = number as LayerNumber + 1;
        let end = rest.partition_point(|step| step.place.layer == number);
        let (of_layer, later) = rest.split_at(end);
        rest = later;
        if !of_layer.is_empty() || layer.diff_id.is_some() {
            write_layer(layer, of_layer, tree, &mut writer, &budget, meter)
                .map_err(|error| error.of(layer))?;
        }
        meter.finish_part(layer.blob.len());
    }
    writer.finish().map_err(TarError::Write)?;
    Ok(())
}

fn write_layer(
    layer: &Layer,
    mut steps: &[Step],
    tree: &Tree,
    writer: &mut Writer<'_>,
    budget: &Budget,
    meter: &mut Meter<'_>,
) -> Result<(), LayerError> {
    let mut reader = source::open(layer, Check::Unpacked, budget)?;
    let mut number = 0;
    while let Some(entry) = reader.next()? {
        let names = steps.partition_point(|step| step.place.entry == number);
        let (here, later) = steps.split_at(names);
        if let Some((first, links)) = here.split_first() {
            steps = later;
            write_file(&entry, &tree.path(first.node), &mut reader, writer, meter)?;
            write_links(&entry, first, links, tree, writer).map_err(TarError::Write)?;
        }
        meter.part(source::bytes_read(&reader));
        // Nobody needs the rest where no digest has to be checked.
        if steps.is_empty() && layer.diff_id.is_none() {
            return Ok(());
        }
        number += 1;
    }
    if !steps.is_empty() {
        return Err(LayerError::Changed);
    }
    source::finish(reader, layer).map(drop)
}

fn write_file(
    entry: &Entry,
    path: &[u8],
    reader: &mut Entries,
    writer: &mut Writer<'_>,
    meter: &mut Meter<'_>,
) -> Result<(), LayerError> {
    // It was neither when it was indexed.
    if matches!(entry.kind, Kind::Folder | Kind::HardLink(_)) {
        return Err(LayerError::Changed);
    }
    writer
        .entry(path, &entry.kind, &entry.attributes, &entry.xattrs)
        .map_err(TarError::Write)?;
    while let Some(piece) = reader.piece()? {
        writer.piece(&piece).map_err(TarError::Write)?;
        meter.part(source::bytes_read(reader));
    }
    Ok(())
}

fn write_links(
    entry: &Entry,
    first: &Step,
    links: &[Step],
    tree: &Tree,
    writer: &mut Writer<'_>,
) -> io::Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let kind = Kind::HardLink(CleanPath::of_checked(tree.path(first.node)));
    for link in links {
        writer.entry(&tree.path(link.node), &kind, &entry.attributes, &[])?;
    }
    Ok(())
}
