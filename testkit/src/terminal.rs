//! A program at a terminal: what is on the screen can be read, keys pressed, the size changed, and the terminal taken
//! away.

mod grid;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::openpty;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::lab::Host;
use crate::procfs;
use crate::wait::eventually;
use grid::Grid;

/// A program at a terminal; it is killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    /// The other end of its terminal; `None` after [`Terminal::hang_up`].
    master: Option<File>,
    child: Child,
    grid: Grid,
}

impl Terminal {
    /// Starts `command` on the host in a session of its own, whose terminal has this size.
    ///
    /// # Errors
    /// When there is no terminal to be had, or no such program.
    pub fn start(host: &Host, command: &Command, columns: u16, rows: u16) -> Result<Self> {
        let pty = openpty(None, None).context("no terminal is to be had")?;
        // The program must not hold the other end of its own terminal open.
        fcntl_setfd(&pty.master, FdFlags::CLOEXEC)?;
        fcntl_setfl(&pty.master, fcntl_getfl(&pty.master)? | OFlags::NONBLOCK)?;
        resize(&pty.master, columns, rows)?;
        let end = || Ok::<_, std::io::Error>(Stdio::from(pty.slave.try_clone()?));
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.env("TERM", "xterm").stdin(end()?).stdout(end()?).stderr(end()?);
        let child = host.spawn(&mut session)?;
        let grid = Grid::new(usize::from(columns), usize::from(rows));
        Ok(Self { master: Some(File::from(pty.master)), child, grid })
    }

    /// What is on the screen now, without empty ends of lines.
    pub fn screen(&mut self) -> String {
        let mut bytes = [0; 4096];
        while let Some(master) = &mut self.master {
            match master.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.grid.write(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing more for now; or the program has ended.
                Err(_) => break,
            }
        }
        self.grid.text()
    }

    /// Waits until the screen is as wanted; what it is then.
    ///
    /// # Errors
    /// At the deadline, with what was on it last.
    pub async fn until(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        eventually(&format!("on the screen: {what}"), deadline, async || {
            let screen = self.screen();
            ensure!(wanted(&screen), "there is\n{screen}");
            Ok(screen)
        })
        .await
    }

    /// Presses keys.
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        let master = self.master.as_mut().context("the terminal has gone")?;
        Ok(master.write_all(keys.as_bytes())?)
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        // What was written for the former size.
        self.screen();
        self.grid.resize(usize::from(columns), usize::from(rows));
        resize(self.master.as_ref().context("the terminal has gone")?, columns, rows)
    }

    /// Does it wait for whole lines, and show what is typed, as a shell expects it?
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn is_as_usual(&self) -> Result<bool> {
        let modes = tcgetattr(self.master.as_ref().context("the terminal has gone")?)?.local_modes;
        Ok(modes.contains(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// Takes the terminal away, as a connection that breaks off.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        procfs::signal(self.id(), signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended at the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        eventually("the end of the program", deadline, async || {
            let screen = self.screen();
            self.child.try_wait()?.with_context(|| screen)
        })
        .await
    }
}

fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context("the terminal takes no size")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
