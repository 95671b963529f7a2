//! Log lines on standard error, for the crates of this workspace and below.

use std::io::Write;

use log::LevelFilter;

/// Warnings and errors; more with each `-v`.
pub fn init(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|line, record| {
            let level = record.level().as_str().to_ascii_lowercase();
            writeln!(
                line,
                "shem: {level}: {}: {}",
                record.target(),
                record.args()
            )
        })
        .init();
}
