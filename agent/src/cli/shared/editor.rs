//! Settings in the hands of a person's editor.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

use super::{change, yaml};
use crate::cli::ask;
use crate::cli::fail::Fail;

/// What is tried where the environment names none.
const USUAL: [&str; 2] = ["editor", "vi"];

/// Gives the settings to `$EDITOR` (or `$VISUAL`, `editor`, `vi`) and reads what was made of them.
///
/// # Errors
/// There is no terminal, no editor, the editor failed, or its text is no settings: the text is kept then,
/// and the error says where.
pub fn edit(scope: &str, before: &Map<String, Value>) -> Result<Map<String, Value>, Fail> {
    if !ask::is_interactive() {
        return Err(Fail::usage("no change is given, and there is no terminal for an editor")
            .hint("give --set, --pg, --apply or --replace"));
    }
    let text = yaml::block(&Value::Object(before.clone()));
    let file = write(scope, &text)?;
    run(&file)?;
    let edited = std::fs::read_to_string(&file).map_err(|error| {
        Fail::failed(format!("{}: what was edited cannot be read: {error}", file.display()))
    })?;
    let settings = change::map(&file.display().to_string(), &edited).map_err(|fail| {
        fail.hint(format!("the text is kept: correct it, and use --replace {}", file.display()))
    })?;
    // Nobody needs it any more.
    let _ = std::fs::remove_file(&file);
    Ok(settings)
}

/// Settings may have secrets in them: nobody else may read the file, and it is nobody else's already.
fn write(scope: &str, text: &str) -> Result<PathBuf, Fail> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = scope.chars().map(plain).take(40).collect();
    let file = std::env::temp_dir().join(format!("{name}-config-{:016x}.yaml", fastrand::u64(..)));
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let written = opened.and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map_err(|error| Fail::failed(format!("{}: {error}", file.display())))?;
    Ok(file)
}

fn run(file: &Path) -> Result<(), Fail> {
    let named = ["EDITOR", "VISUAL"].into_iter().find_map(|name| std::env::var(name).ok());
    let named = named.filter(|command| !command.trim().is_empty());
    let commands: Vec<&str> = named.as_deref().map_or_else(|| USUAL.to_vec(), |one| vec![one]);
    for command in &commands {
        // As a shell would: an editor may be given with options.
        let status =
            Command::new("sh").args(["-c", &format!("{command} \"$1\""), "sh"]).arg(file).status();
        match status.map(|status| status.code()) {
            Ok(Some(0)) => return Ok(()),
            // The shell has not found it.
            Ok(Some(127)) => {}
            Ok(code) => {
                let how = code.map_or("was killed".to_owned(), |code| format!("ended with {code}"));
                return Err(Fail::failed(format!("{command} {how}; nothing was changed")));
            }
            Err(error) => return Err(Fail::from_error("starting the editor", &error)),
        }
    }
    Err(Fail::failed(format!("no editor was found: {}", commands.join(", ")))
        .hint("name one in EDITOR, or give --set, --pg, --apply or --replace"))
}
