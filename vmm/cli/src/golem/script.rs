//! Scripts of commands as requestors write them: a JSON array of objects with one
//! key each. golem-runtime, sections 2.4 and 3.1. Reading one has no effects.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::location::Location;

/// What a script may have, for those who wrote something else.
const COMMANDS: &str = "deploy, start, run, transfer and terminate";

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Prepare the work folder.
    Deploy {
        /// `--volume-override` of the runtime.
        volumes: Option<String>,
        /// `--hostname` of the runtime.
        hostname: Option<String>,
    },
    /// Boot the VM.
    Start {
        /// Words behind the runtime's verb.
        args: Vec<String>,
    },
    /// Run a program in it.
    Run {
        /// Its path.
        entry_point: String,
        /// Its arguments, without its name.
        args: Vec<String>,
    },
    /// Copy a file.
    Transfer {
        /// From where.
        from: Location,
        /// To where.
        to: Location,
    },
    /// Shut the VM down. A new `deploy` may follow.
    Terminate,
}

impl Command {
    /// What a script calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Deploy { .. } => "deploy",
            Command::Start { .. } => "start",
            Command::Run { .. } => "run",
            Command::Transfer { .. } => "transfer",
            Command::Terminate => "terminate",
        }
    }
}

/// Shown in one line of a log.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let words = match self {
            Command::Start { args } => args.iter().map(|arg| word(arg)).collect(),
            Command::Run { entry_point, args } => [entry_point]
                .into_iter()
                .chain(args)
                .map(|arg| word(arg))
                .collect(),
            Command::Transfer { from, to } => vec![from.to_string(), "to".into(), to.to_string()],
            Command::Deploy { .. } | Command::Terminate => Vec::new(),
        };
        words.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

/// As one would type it.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        // Control characters belong in no log.
        false => format!(
            "'{}'",
            text.escape_debug().to_string().replace("\\\"", "\"")
        ),
    }
}

/// Where an exe-unit is between two commands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Initialized,
    Deployed,
    Ready,
}

/// Reads a script, and refuses what exe-unit would refuse.
///
/// # Errors
/// They name the command by its number, from 1, and the field.
pub fn parse(text: &[u8]) -> Result<Vec<Command>> {
    let script: Value = serde_json::from_slice(text).context("the script is not JSON")?;
    let Value::Array(script) = script else {
        bail!("the script is no JSON array of commands, as in [{{\"deploy\":{{}}}}]");
    };
    ensure!(!script.is_empty(), "the script has no commands");
    let mut stage = Stage::Initialized;
    let mut commands = Vec::new();
    for (index, value) in script.into_iter().enumerate() {
        let number = index + 1;
        let (name, fields) = open(value).with_context(|| format!("command {number}"))?;
        let about = format!("command {number} ({name})");
        let fields = Fields { about, map: fields };
        stage = next(stage, &name).with_context(|| fields.about.clone())?;
        let about = fields.about.clone();
        commands.push(command(&name, fields).context(about)?);
    }
    Ok(commands)
}

/// The name of a command, and its fields.
fn open(value: Value) -> Result<(String, Map<String, Value>)> {
    const FORM: &str = "not an object with one key, as {\"start\":{\"args\":[]}}";
    let Value::Object(outer) = value else {
        bail!(FORM);
    };
    let mut outer = outer.into_iter();
    let (Some((name, fields)), None) = (outer.next(), outer.next()) else {
        bail!(FORM);
    };
    match fields {
        Value::Object(fields) => Ok((name, fields)),
        _ => bail!("{name}: an object with its fields is needed, which may be {{}}"),
    }
}

/// Where `name` leads from `stage`, by exe-unit's rules.
fn next(stage: Stage, name: &str) -> Result<Stage> {
    match (name, stage) {
        ("terminate", _) => Ok(Stage::Initialized),
        ("deploy", Stage::Initialized) => Ok(Stage::Deployed),
        ("start", Stage::Deployed) => Ok(Stage::Ready),
        ("run" | "transfer", Stage::Ready) => Ok(Stage::Ready),
        ("deploy", _) => bail!("the image is deployed already: terminate comes before"),
        ("start", Stage::Ready) => bail!("the VM runs already"),
        ("start", Stage::Initialized) => bail!("deploy comes before"),
        ("run" | "transfer", _) => bail!("deploy and start come before"),
        ("sign", _) => bail!("only a provider's exe-unit can sign: leave it out"),
        _ => bail!("unknown command: use {COMMANDS}"),
    }
}

fn command(name: &str, mut fields: Fields) -> Result<Command> {
    let command = match name {
        "deploy" => {
            if let Some(net) = fields.map.remove("net")
                && net != json!([])
            {
                bail!("net: there are no networks of Golem's without a provider: leave it out");
            }
            Command::Deploy {
                volumes: volumes(fields.map.remove("volumes")).context("volumes")?,
                hostname: fields.text("hostname")?,
            }
        }
        "start" => Command::Start {
            args: fields.texts("args")?,
        },
        "run" => Command::Run {
            entry_point: fields.needed("entry_point")?,
            args: fields.texts("args")?,
        },
        "transfer" => {
            let mut end = |field: &str| -> Result<Location> {
                let text = fields.needed(field)?;
                Location::parse(&text).with_context(|| format!("{field}: {text:?}"))
            };
            let (from, to) = (end("from")?, end("to")?);
            from.check_transfer(&to)?;
            for field in ["format", "depth", "fileset"] {
                let given = fields.map.remove(field).unwrap_or(Value::Null);
                ensure!(
                    given.is_null(),
                    "{field}: archives are not transferred here, only single files"
                );
            }
            Command::Transfer { from, to }
        }
        _ => Command::Terminate,
    };
    // Of exe-unit's reports, which nobody asks for here.
    fields.map.remove("capture");
    fields.map.remove("progress");
    for field in fields.map.keys() {
        log::warn!("{}: {field} counts for nothing", fields.about);
    }
    Ok(command)
}

/// The runtime's JSON of what a requestor ordered; a list is one of host volumes.
fn volumes(ordered: Option<Value>) -> Result<Option<String>> {
    let map = match ordered {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(Value::Array(paths)) => {
            let host = |path: Value| match path {
                Value::String(path) => Ok((path, json!({ "host": {} }))),
                other => bail!("a list of paths is needed, and {other} is none"),
            };
            paths.into_iter().map(host).collect::<Result<_>>()?
        }
        Some(other) => bail!("a list of paths or an object of them is needed, not {other}"),
    };
    Ok(Some(Value::Object(map).to_string()))
}

/// What is left of a command's fields.
struct Fields {
    about: String,
    map: Map<String, Value>,
}

impl Fields {
    fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.map.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => bail!("{field}: a text is needed, not {other}"),
        }
    }

    fn needed(&mut self, field: &str) -> Result<String> {
        let text = self.text(field)?;
        text.with_context(|| format!("{field} is missing"))
    }

    fn texts(&mut self, field: &str) -> Result<Vec<String>> {
        let list = match self.map.remove(field) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => bail!("{field}: a list of texts is needed, not {other}"),
        };
        list.into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => bail!("{field}: a list of texts is needed, and {other} is none"),
            })
            .collect()
    }
}

/// Reads the script in the file at `path`, or standard input for `-`.
pub fn read(path: &Path) -> Result<Vec<Command>> {
    let text = match path.as_os_str() == "-" {
        true => {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut text).map(|_| text)
        }
        false => std::fs::read(path),
    };
    let text = text.with_context(|| format!("read the script {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn script_of_a_requestor_is_read() {
        let text = r#"[
            {"deploy": {"net": [], "volumes": {"/d": {"storage": {"size": "1gi"}}}, "hostname": "box"}},
            {"start": {"args": ["start-entrypoint"]}},
            {"run": {"entry_point": "/bin/sh", "args": ["-c", "echo 'a b'"],
                     "capture": {"stdout": {"atEnd": {"format": "str"}}}}},
            {"transfer": {"from": "container:/d/x", "to": "file:///tmp/a%23b", "format": null}},
            {"terminate": {}},
            {"deploy": {"volumes": ["/a", "/b"]}}
        ]"#;
        let commands = parse(text.as_bytes()).unwrap();
        let shown: Vec<String> = commands.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "deploy",
                "start start-entrypoint",
                "run /bin/sh -c 'echo \\'a b\\''",
                "transfer container:/d/x to /tmp/a#b",
                "terminate",
                "deploy"
            ]
        );
        assert_eq!(
            commands[0],
            Command::Deploy {
                volumes: Some(r#"{"/d":{"storage":{"size":"1gi"}}}"#.into()),
                hostname: Some("box".into()),
            }
        );
        assert_eq!(
            commands[5],
            Command::Deploy {
                volumes: Some(r#"{"/a":{"host":{}},"/b":{"host":{}}}"#.into()),
                hostname: None,
            }
        );
    }

    #[test]
    fn what_makes_no_sense_is_named_by_command_and_field() {
        let ready = r#"{"deploy":{}},{"start":{}}"#;
        for (text, expected) in [
            ("[", "the script is not JSON"),
            ("{}", "no JSON array"),
            ("[]", "has no commands"),
            ("[5]", "command 1: not an object with one key"),
            (r#"[{"deploy":{},"start":{}}]"#, "command 1: not an object"),
            (
                r#"[{"deploy":[]}]"#,
                "command 1: deploy: an object with its fields",
            ),
            (
                r#"[{"destroy":{}}]"#,
                "command 1 (destroy): unknown command: use deploy,",
            ),
            (r#"[{"sign":{}}]"#, "command 1 (sign): only a provider's"),
            (
                r#"[{"deploy":{"net":[{"id":"x"}]}}]"#,
                "command 1 (deploy): net: there are no",
            ),
            (
                r#"[{"deploy":{"volumes":5}}]"#,
                "command 1 (deploy): volumes: a list of paths or",
            ),
            (
                r#"[{"deploy":{"volumes":[5]}}]"#,
                "volumes: a list of paths is needed, and 5",
            ),
            (
                r#"[{"deploy":{"hostname":5}}]"#,
                "(deploy): hostname: a text is needed, not 5",
            ),
            (
                &format!(r#"[{ready},{{"run":{{}}}}]"#),
                "command 3 (run): entry_point is missing",
            ),
            (
                &format!(r#"[{ready},{{"run":{{"entry_point":"x","args":"y"}}}}]"#),
                "command 3 (run): args: a list of texts is needed, not \"y\"",
            ),
            (
                &format!(r#"[{ready},{{"run":{{"entry_point":"x","args":[1]}}}}]"#),
                "command 3 (run): args: a list of texts is needed, and 1 is none",
            ),
            (
                &format!(r#"[{ready},{{"transfer":{{"from":"a"}}}}]"#),
                "command 3 (transfer): to is missing",
            ),
            (
                &format!(r#"[{ready},{{"transfer":{{"from":"gftp://1/2","to":"container:/a"}}}}]"#),
                "command 3 (transfer): from: \"gftp://1/2\": gftp",
            ),
            (
                &format!(
                    r#"[{ready},{{"transfer":{{"from":"a","to":"container:/a","format":"tar"}}}}]"#
                ),
                "command 3 (transfer): format: archives",
            ),
        ] {
            let error = refusal(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn commands_come_in_the_order_of_exe_unit() {
        for (names, expected) in [
            (&["start"][..], "command 1 (start): deploy comes before"),
            (
                &["deploy", "run"],
                "command 2 (run): deploy and start come before",
            ),
            (
                &["deploy", "deploy"],
                "command 2 (deploy): the image is deployed already",
            ),
            (
                &["deploy", "start", "start"],
                "command 3 (start): the VM runs already",
            ),
            (
                &["deploy", "start", "terminate", "start"],
                "command 4 (start): deploy comes",
            ),
        ] {
            let script: Vec<_> = names.iter().map(|name| json!({ *name: {} })).collect();
            let error = refusal(&Value::Array(script).to_string());
            assert!(error.contains(expected), "{names:?}: {error}");
        }
    }
}
