//! What a package ships beside the program: manual pages and completions, made from the command line's own definition, and a
//! unit for systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::{Shell, generate, generate_to};

use crate::app::cli::Cli;
use crate::app::output;

/// The unit.
pub const UNIT: &str = include_str!("fourseven.service");

const NAME: &str = "fourseven";

const COMPLETIONS_AFTER: &str = "\
Examples:
  source <(fourseven completions bash)                                       for this shell
  fourseven completions bash > ~/.local/share/bash-completion/completions/fourseven
  fourseven completions zsh > \"${fpath[1]}/_fourseven\"
  fourseven completions fish > ~/.config/fish/completions/fourseven.fish";

/// What `fourseven completions` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_AFTER)]
pub struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    /// Runs it.
    ///
    /// # Errors
    /// When stdout does not take the result.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), NAME, &mut script);
        output::print(String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What `fourseven package-files` takes.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// Where they go, as they lie below `/` when they are installed.
    folder: PathBuf,
}

impl Files {
    /// Runs it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.write().with_context(|| format!("cannot write to {}", self.folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self) -> std::io::Result<()> {
        let folder = |path: &str| {
            let folder = self.folder.join(path);
            fs::create_dir_all(&folder).map(|()| folder)
        };
        let command = Cli::command;
        clap_mangen::generate_to(command(), folder("usr/share/man/man1")?)?;
        for (shell, path) in [
            (Shell::Bash, "usr/share/bash-completion/completions"),
            (Shell::Zsh, "usr/share/zsh/vendor-completions"),
            (Shell::Fish, "usr/share/fish/vendor_completions.d"),
        ] {
            let written = generate_to(shell, &mut command(), NAME, folder(path)?)?;
            // What bash looks for is the name of the command.
            if shell == Shell::Bash {
                fs::rename(&written, written.with_file_name(NAME))?;
            }
        }
        write(&folder("usr/lib/systemd/system")?, "fourseven.service", UNIT)?;
        let documents = folder("usr/share/doc/fourseven")?;
        write(&documents, "README.md", include_str!("../../../README.md"))?;
        write(&documents, "copyright", include_str!("copyright"))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    fs::write(folder.join(name), text)
}
