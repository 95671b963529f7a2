//! Log lines: on standard error as `RUST_LOG` says, and all from level debug on in
//! a file below the current folder. Standard output is the protocol's alone.

use std::fs::{self, File};
use std::io::{self, Write};

use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

use crate::PROGRAM;

/// Where the files are.
const FOLDER: &str = "logs";
/// A file of more bytes is begun anew.
const MAX_FILE: u64 = 4 << 20;

/// Begins to log what `verb` does. Without a file when there can be none.
pub fn init(verb: &str) {
    let mut stderr = Builder::new();
    stderr.filter_level(LevelFilter::Info);
    if let Ok(filters) = std::env::var("RUST_LOG") {
        stderr.parse_filters(&filters);
    }
    stderr.format(|line, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(line, "{PROGRAM}: {level}: {}", record.args())
    });
    let (file, complaint) = match open(verb) {
        Ok(file) => (Some(file), None),
        Err(error) => (None, Some(error)),
    };
    let both = Both {
        stderr: stderr.build(),
        file: file.map(to_file),
    };
    let level = both.file.as_ref().map_or(LevelFilter::Off, Logger::filter);
    log::set_max_level(level.max(both.stderr.filter()));
    // Fails when there is a logger already, which then is as good.
    let _ = log::set_boxed_logger(Box::new(both));
    if let Some(error) = complaint {
        log::debug!("there is no log file in {FOLDER}: {error}");
    }
}

fn open(verb: &str) -> io::Result<File> {
    fs::create_dir_all(FOLDER)?;
    let path = format!("{FOLDER}/{PROGRAM}_{verb}.log");
    let full = fs::metadata(&path).is_ok_and(|data| data.len() > MAX_FILE);
    if full {
        fs::remove_file(&path)?;
    }
    File::options().append(true).create(true).open(path)
}

fn to_file(file: File) -> Logger {
    Builder::new()
        .filter_level(LevelFilter::Debug)
        .write_style(WriteStyle::Never)
        .target(Target::Pipe(Box::new(file)))
        .format(|line, record| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seconds = since.unwrap_or_default().as_secs_f64();
            writeln!(
                line,
                "[{seconds:.3} {} {}] {}",
                record.level(),
                record.target(),
                record.args()
            )
        })
        .build()
}

struct Both {
    stderr: Logger,
    file: Option<Logger>,
}

impl Log for Both {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.stderr.enabled(metadata)
            || self
                .file
                .as_ref()
                .is_some_and(|file| file.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        // Each looks at its own filter.
        self.stderr.log(record);
        if let Some(file) = &self.file {
            file.log(record);
        }
    }

    fn flush(&self) {
        self.stderr.flush();
        if let Some(file) = &self.file {
            file.flush();
        }
    }
}
