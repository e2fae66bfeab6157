//! The file that leads the poolers to the primary: PgBouncer's own includes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use hart_config::{Config, PgBouncer};
use hart_ha::store::Snapshot;

use super::on_disk;
use crate::template::{Catalogue, Header, Model, Target, Template, render};

/// Where it is, and what it is made from.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    template: Option<PathBuf>,
    names: String,
}

/// The file, and what goes into it.
#[derive(Debug)]
pub struct Databases {
    source: Source,
    scope: String,
    namespace: String,
    /// What was written last.
    last: Option<(Model, bool)>,
}

impl Databases {
    /// `None` where the poolers find the primary by themselves.
    #[must_use]
    pub fn new(config: &Config, pgbouncer: &PgBouncer) -> Option<Self> {
        let source = Source {
            path: pgbouncer.databases_file.clone()?,
            template: pgbouncer.databases_template.clone(),
            names: pgbouncer.databases.join(","),
        };
        Some(Self {
            source,
            scope: config.scope.clone(),
            namespace: config.namespace.clone(),
            last: None,
        })
    }

    /// Brings the file to what the cluster is now. While nobody leads it stays as it is, but must
    /// be there: PgBouncer does not start without it. True: it was changed.
    ///
    /// # Errors
    /// The template cannot be used, or the file not be written; then it is as it was.
    pub async fn write(&mut self, snapshot: &Snapshot, led: bool) -> Result<bool, String> {
        if !led && self.last.is_some() {
            return Ok(false);
        }
        let (model, _) = Model::new(&self.scope, &self.namespace, snapshot);
        let now = (model, led);
        if self.last.as_ref() == Some(&now) {
            return Ok(false);
        }
        let source = self.source.clone();
        let wanted = now.0.clone();
        let written = on_disk(move || source.write(&wanted, led)).await;
        let changed = written.map_err(|error| error.to_string())?;
        self.last = Some(now);
        Ok(changed)
    }
}

impl Source {
    fn write(&self, model: &Model, led: bool) -> io::Result<bool> {
        if !led && self.path.exists() {
            return Ok(false);
        }
        let template = self.template()?;
        let own = self.template.is_some();
        let set = BTreeMap::from([("databases".to_owned(), self.names.clone())]);
        let set = if own { BTreeMap::new() } else { set };
        let text = render(&template, model, &set).map_err(io::Error::other)?;
        Ok(Target::new(&self.path).replace(&text)?.is_some())
    }

    fn template(&self) -> io::Result<Template> {
        let Some(path) = &self.template else {
            let mut all = Catalogue::default().all()?.into_iter();
            let found = all.find(|template| template.name == "pgbouncer-databases");
            return found.ok_or_else(|| io::Error::other("no template pgbouncer-databases"));
        };
        let text = fs::read_to_string(path).map_err(|error| {
            let what = format!("pgbouncer.databases_template {}: {error}", path.display());
            io::Error::new(error.kind(), what)
        })?;
        let file = path.display().to_string();
        let header = Header::read(&text);
        Ok(Template { name: file.clone(), file, from: None, text: text.into(), header })
    }
}
