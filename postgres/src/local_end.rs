//! Where the WAL of a stopped cluster ends.

use std::time::Duration;

use hart_ha::lsn::Lsn;

use crate::binaries;
use crate::command::{Limits, Tool};
use crate::control::{ClusterState, ControlData};
use crate::error::Result;
use crate::history::LocalEnd;
use crate::postgres::Postgres;

impl Postgres {
    /// The last WAL record of a stopped cluster: from the control file after a proper stop, else
    /// from `pg_waldump`, which reads the WAL since the last checkpoint. `None` when it cannot be
    /// told; then assume divergence.
    ///
    /// # Errors
    /// `pg_controldata` or `pg_waldump` is missing or took too long.
    pub async fn local_end(&self, within: Duration) -> Result<Option<LocalEnd>> {
        let control = self.control_data(within).await?;
        match control.state {
            ClusterState::Shutdown => Ok(Some(LocalEnd {
                timeline: control.timeline,
                at: control.checkpoint,
                is_start: true,
            })),
            ClusterState::ShutdownInRecovery => {
                // It also replays what it had received when it starts again.
                let received = self.dumped_end(&control, within).await?;
                let replayed = replayed(&control);
                Ok(received.filter(|end| end.at >= replayed.at).or(Some(replayed)))
            }
            _ => self.dumped_end(&control, within).await,
        }
    }

    async fn dumped_end(
        &self,
        control: &ControlData,
        within: Duration,
    ) -> Result<Option<LocalEnd>> {
        let timeline = control.last_timeline();
        // Where two timelines lie behind the checkpoint, the last one counts, from its beginning.
        let start = if timeline == control.timeline {
            Some(control.redo)
        } else {
            let history = self.history(timeline, within).await?;
            history.and_then(|history| history.switches.last().map(|switch| switch.at))
        };
        let Some(start) = start else { return Ok(None) };
        let files_end = self.files_end(timeline, start, control.wal_segment_size, within).await?;
        let Some(files_end) = files_end else { return Ok(None) };
        let settings = self.settings();
        let program = binaries::program(&settings, "pg_waldump")?;
        let output = Tool::new("pg_waldump", program, &settings)
            .in_english()
            .option("--path", &settings.data_dir.join("pg_wal"))
            .arg(format!("--timeline={timeline}"))
            .arg(format!("--start={start}"))
            .arg(format!("--end={files_end}"))
            .arg("--quiet")
            .run(Limits::total(within), |_| {})
            .await?;
        if output.status.success() {
            // It has read all that the files have.
            return Ok(Some(LocalEnd { timeline, at: files_end, is_start: false }));
        }
        let at = last_record(&output.tail);
        let end = |at| LocalEnd { timeline, at, is_start: true };
        Ok(at.filter(|at| *at >= start).map(end))
    }
}

/// A standby replays nothing beyond its minimum recovery position without moving it first.
fn replayed(control: &ControlData) -> LocalEnd {
    LocalEnd {
        timeline: control.last_timeline(),
        at: control.min_recovery_end.max(control.redo),
        is_start: false,
    }
}

/// `pg_waldump` reads on until it cannot, and names the last record that it could read:
/// `error in WAL record at 0/3000110: invalid record length at 0/3000148: …`.
fn last_record(tail: &str) -> Option<Lsn> {
    let rest = tail.rsplit_once("error in WAL record at ")?.1;
    rest.split_once(": ")?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_is_named_in_the_error() {
        let tail = "pg_waldump: error: error in WAL record at 0/3000110: invalid record length at \
                    0/3000148: wanted 24, got 0";
        assert_eq!(last_record(tail), Some(Lsn(0x3000110)));
        assert_eq!(last_record("pg_waldump: error: could not find file \"0001\""), None);
    }
}
