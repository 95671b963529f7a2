//! The plot: bars in SVG, written by hand. A panel for each row; the longer the
//! bar the slower, in parts of the slowest of the panel.

use std::fmt::Write;

use crate::table::{Row, Table, Unit};

const WIDTH: usize = 960;
/// Panels beside each other.
const ACROSS: usize = 2;
const PANEL: usize = WIDTH / ACROSS;
const BAR: usize = 15;
const TITLE: usize = 30;
const HEAD: usize = 56;
/// Left of the bars for their names, and right for their figures.
const NAMES: usize = 116;
const FIGURES: usize = 84;
const MARGIN: usize = 12;

/// The picture as a file.
pub fn draw(table: &Table, title: &str) -> String {
    let panel_height = TITLE + BAR * table.columns().count() + MARGIN;
    let height = HEAD + panel_height * table.rows().len().div_ceil(ACROSS);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        (MARGIN, 22),
        "font-size=\"16\" font-weight=\"bold\"",
        title,
    );
    text(
        &mut svg,
        (MARGIN, 40),
        "fill=\"#555555\" font-size=\"9\"",
        table.caption(),
    );
    for (number, row) in table.rows().iter().enumerate() {
        let at = (
            number % ACROSS * PANEL,
            HEAD + number / ACROSS * panel_height,
        );
        panel(&mut svg, table, row, at);
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, table: &Table, row: &Row, (x, y): (usize, usize)) {
    text(svg, (x + MARGIN, y + 18), "font-weight=\"bold\"", row.title);
    let spreads = || table.columns().filter_map(|name| table.spread(row, name));
    let slowest = spreads().map(|spread| spread.median).fold(0.0, f64::max);
    let longest = (PANEL - NAMES - FIGURES - MARGIN) as f64;
    for (number, name) in table.columns().enumerate() {
        let Some(spread) = table.spread(row, name) else {
            continue;
        };
        let y = y + TITLE + number * BAR;
        let length = longest * spread.median / slowest;
        text(svg, (x + NAMES - 6, y + 10), "text-anchor=\"end\"", name);
        let (left, height) = (x + NAMES, BAR - 3);
        let color = color(name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"{height}\" fill=\"{color}\"/>"
        );
        let figure = match row.unit {
            Unit::Rate => format!("{:.0} MiB/s", 1.0 / spread.median / f64::from(1 << 20)),
            Unit::Each => format!("{:.0} µs", spread.median * 1e6),
        };
        text(
            svg,
            (left + length as usize + 5, y + 10),
            "fill=\"#333333\"",
            &figure,
        );
    }
}

fn color(candidate: &str) -> &'static str {
    match candidate {
        "9p" => "#c44e52",
        name if name.ends_with("disk") => "#9aa0a6",
        name if name.starts_with("shem") => "#1f77b4",
        _ => "#f2a541",
    }
}

fn text(svg: &mut String, (x, y): (usize, usize), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" {style}>{words}</text>");
}
