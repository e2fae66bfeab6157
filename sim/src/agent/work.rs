//! What the jobs do.

use hart_ha::kv::SynchronousMode;
use hart_ha::observation::{JobDone, Upstream};
use hart_ha::waits::Waits;

use crate::agent::jobs::Worked;
use crate::mutation::Mutation;
use crate::node::POSTGRES;
use crate::pg::wal::FIRST_LSN;
use crate::pg::{Content, Stage};
use crate::world::World;

impl World {
    pub(crate) fn initdb(&mut self, n: usize) -> Worked {
        let pos = self.wal.initdb();
        let system_id = 7_000_000_000 + self.number();
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.system_id, disk.pos) = (Content::Cluster, system_id, pos);
        (disk.was_primary, disk.clean, disk.fresh_backup, disk.signal) = (true, true, false, false);
        (disk.control, disk.replacing) = (pos.branch, false);
        (disk.checkpoint, disk.sync_file) = (FIRST_LSN - 120, Waits::nobody());
        Ok(JobDone::Made(system_id.to_string()))
    }

    /// The upstream's number, where it can be reached and answers.
    pub(crate) fn reach(&self, n: usize, from: &Upstream) -> Result<usize, String> {
        let u = self.names.iter().position(|name| *name == from.name).ok_or("no such node")?;
        let there = &self.nodes[u];
        let open = self.net.open(n, u) && self.net.open(u, n);
        let alive = there.powered && there.server.answers() && !there.is_frozen(POSTGRES, self.t);
        (open && alive && u != n).then_some(u).ok_or_else(|| format!("{} is away", from.name))
    }

    /// Does nothing come back from there, not even a refusal?
    pub(crate) fn is_silent(&self, n: usize, from: &Upstream) -> bool {
        let Some(u) = self.names.iter().position(|name| *name == from.name) else { return false };
        let there = &self.nodes[u];
        let open = self.net.open(n, u) && self.net.open(u, n);
        !open || !there.powered || there.is_frozen(POSTGRES, self.t)
    }

    pub(crate) fn clone_from(&mut self, n: usize, from: &Upstream) -> Worked {
        if self.nodes[n].server.stage != Stage::Down {
            return Err("the server runs".to_owned());
        }
        let u = self.reach(n, from)?;
        if self.nodes[n].disk.content == Content::Cluster && self.nodes[u].server.recovery {
            return Err(format!("{} is not primary", from.name));
        }
        let source = self.nodes[u].disk.clone();
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.system_id, disk.pos) = (Content::Cluster, source.system_id, source.pos);
        (disk.was_primary, disk.clean, disk.fresh_backup, disk.signal) = (false, false, true, true);
        (disk.checkpoint, disk.sync_file) = (source.checkpoint, Waits::nobody());
        (disk.control, disk.replacing) = (source.pos.branch, false);
        // Somebody's backup, taken at the same time and kept.
        self.backup.get_or_insert(source);
        Ok(JobDone::Done)
    }

    /// From the cluster's first backup, without the WAL since.
    pub(crate) fn restore(&mut self, n: usize) -> Worked {
        if self.nodes[n].server.stage != Stage::Down {
            return Err("the server runs".to_owned());
        }
        let source = self.backup.clone().ok_or("there is no backup")?;
        let keys = self.keys();
        let expected = keys.initialize.as_ref().map(|id| id.value.clone()).unwrap_or_default();
        if expected != source.system_id.to_string() {
            return Err("it is another cluster's backup".to_owned());
        }
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.system_id, disk.pos) = (Content::Cluster, source.system_id, source.pos);
        (disk.was_primary, disk.clean, disk.fresh_backup, disk.signal) = (false, false, true, true);
        (disk.checkpoint, disk.sync_file) = (source.checkpoint, Waits::nobody());
        (disk.control, disk.replacing) = (source.pos.branch, false);
        Ok(JobDone::Done)
    }

    pub(crate) fn rewind(&mut self, n: usize, from: &Upstream) -> Worked {
        if self.nodes[n].server.stage != Stage::Down {
            return Err("the server runs".to_owned());
        }
        let u = self.reach(n, from)?;
        let (mine, theirs) = (self.nodes[n].disk.pos, self.nodes[u].disk.pos);
        if self.nodes[u].server.recovery {
            return Err("the source is a standby".to_owned());
        }
        let same = self.wal.timeline(mine.branch) == self.wal.timeline(theirs.branch);
        if same || !self.wal.needs_rewind(mine, theirs) {
            // pg_rewind: "no rewind required".
            self.nodes[n].disk.content = Content::Cluster;
            if self.mutated(Mutation::LaggingTimelineBelieved) {
                return Ok(JobDone::Hopeless("nothing to do".to_owned()));
            }
            return Ok(JobDone::Diverged(false));
        }
        if self.wal.common(mine, theirs).is_none() {
            self.nodes[n].disk.content = Content::Cluster;
            return Ok(JobDone::Hopeless("no common ancestor".to_owned()));
        }
        let checkpoint = self.nodes[u].disk.checkpoint;
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.pos, disk.checkpoint) = (Content::Cluster, theirs, checkpoint);
        disk.control = theirs.branch;
        (disk.was_primary, disk.clean, disk.fresh_backup, disk.signal) = (false, false, true, true);
        Ok(JobDone::Done)
    }

    /// As `hart_postgres::needs_rewind` decides: by timeline IDs and positions.
    pub(crate) fn check_history(&mut self, n: usize, from: &Upstream) -> Worked {
        let u = self.reach(n, from)?;
        if self.nodes[u].server.recovery {
            return Err(format!("{} is not primary yet", from.name));
        }
        let (mine, theirs) = (self.nodes[n].disk.pos, self.nodes[u].disk.pos);
        if self.mutated(Mutation::LaggingTimelineBelieved) {
            let lags = self.lags(n) && self.wal.outside(self.nodes[n].disk.control, mine, theirs);
            return Ok(JobDone::Diverged(lags || self.wal.needs_rewind(mine, theirs)));
        }
        if self.nodes[n].server.answers() {
            self.restartpoint(n);
        }
        let diverged = self.wal.needs_rewind(mine, theirs);
        let same = self.wal.timeline(mine.branch) == self.wal.timeline(theirs.branch);
        let twin = if diverged { same } else { !self.wal.has(theirs, mine) };
        if twin {
            return Ok(JobDone::Twin("the bytes differ".to_owned()));
        }
        Ok(JobDone::Diverged(diverged))
    }

    /// Is a standby's control file behind?
    fn lags(&self, n: usize) -> bool {
        let disk = &self.nodes[n].disk;
        !disk.was_primary && disk.control != disk.pos.branch
    }

    pub(crate) fn start_standby(&mut self, n: usize, from: Option<&Upstream>) -> Worked {
        let applied = self.nodes[n].agent.as_ref().and_then(|agent| agent.applied.as_ref());
        let sync = applied.is_some_and(|config| config.synchronous_mode != SynchronousMode::Off);
        self.nodes[n].disk.sync_file = self.resting_names(sync);
        let target = from.and_then(|u| self.names.iter().position(|name| *name == u.name));
        self.start_server(n, Some(target), None)
    }

    /// A checkpoint beside the loop.
    pub fn checkpoint(&mut self, n: usize) {
        let server = &self.nodes[n].server;
        if server.answers() && !server.recovery {
            self.append_checkpoint(n);
        }
    }
}
