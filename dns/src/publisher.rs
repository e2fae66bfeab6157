//! Where cluster state becomes the zone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hart_ha::time::Time;

use crate::cluster::Cluster;
use crate::label::label;
use crate::name::Key;
use crate::settings::Settings;
use crate::table::Table;
use crate::zone::{ByLabel, Served, Until, Zone};

/// Publishes clusters; the zone is swapped atomically. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    zone: Arc<ArcSwap<Zone>>,
    state: Arc<Mutex<State>>,
    settings: Arc<Settings>,
}

#[derive(Debug)]
struct State {
    clusters: BTreeMap<String, Arc<Served>>,
    ready: bool,
    serial: u32,
    complaints: Vec<String>,
}

impl Publisher {
    /// An empty zone, which answers `SERVFAIL` until [`Self::ready`]. `serial` is SOA's first
    /// serial number; it grows with every change.
    #[must_use]
    pub fn new(settings: Settings, serial: u32) -> Self {
        let settings = Arc::new(settings);
        let state =
            State { clusters: BTreeMap::new(), ready: false, serial, complaints: Vec::new() };
        Self {
            zone: Arc::new(ArcSwap::from_pointee(Zone::new(settings.clone()))),
            state: Arc::new(Mutex::new(state)),
            settings,
        }
    }

    /// How the zone is served.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn shared(&self) -> Arc<ArcSwap<Zone>> {
        self.zone.clone()
    }

    pub(crate) fn zone(&self) -> &ArcSwap<Zone> {
        &self.zone
    }

    /// From now on, what is not there does not exist.
    pub fn ready(&self) {
        self.change(|state| !std::mem::replace(&mut state.ready, true));
    }

    /// Publishes a cluster. From `until` on its primary is not named any more (point on
    /// [`hart_clock::now`]'s clock); `None`: until the next call.
    pub fn put(&self, cluster: Cluster, until: Option<Time>) {
        self.change(|state| {
            let old = state.clusters.get(&cluster.scope);
            if let Some(old) = old.filter(|old| old.cluster == cluster) {
                old.until.set(until);
                return false;
            }
            let served = Arc::new(self.serve(cluster, until));
            state.clusters.insert(served.cluster.scope.clone(), served);
            true
        });
    }

    /// Moves the moment from which a published cluster's primary is not named any more.
    pub fn lease(&self, scope: &str, until: Option<Time>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = state.clusters.get(scope) {
            served.until.set(until);
        }
    }

    /// A cluster that is gone.
    pub fn remove(&self, scope: &str) {
        self.change(|state| state.clusters.remove(scope).is_some());
    }

    /// What of the published state could not be served, one text each, for people.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let own = state.clusters.values().flat_map(|served| &served.problems);
        own.chain(&state.complaints).cloned().collect()
    }

    fn serve(&self, cluster: Cluster, until: Option<Time>) -> Served {
        let until = Until::new(until);
        let zone = &self.settings.zone;
        let named = label(&cluster.scope).and_then(|label| {
            let mut wire = Vec::new();
            crate::name::push(&mut wire, label.as_bytes());
            let origin = zone.below(&wire).map_err(|error| error.to_string())?;
            Ok((label, origin))
        });
        match named {
            Ok((label, origin)) => {
                let (table, problems) = Table::build(&cluster, &origin, &self.settings);
                let label = Some(Key::from_slice(label.as_bytes()));
                Served { cluster, label, table, until, problems }
            }
            Err(problem) => {
                let problems = vec![format!("cluster {:?} has no name: {problem}", cluster.scope)];
                Served { cluster, label: None, table: Table::default(), until, problems }
            }
        }
    }

    /// Swaps the zone where `change` says that something changed.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut state) {
            return;
        }
        // Serial numbers are compared modulo 2^32 (RFC 1982).
        state.serial = state.serial.wrapping_add(1);
        let old = self.zone.load();
        let (clusters, complaints) = by_label(&state.clusters, old.owns_ns());
        state.complaints = complaints;
        self.zone.store(Arc::new(old.with(clusters, state.ready, state.serial)));
    }
}

/// Who is called exactly like a label has the first right to it, then the first by name.
fn by_label(clusters: &BTreeMap<String, Arc<Served>>, ns_is_ours: bool) -> (ByLabel, Vec<String>) {
    let mut labels = ByLabel::default();
    let mut complaints = Vec::new();
    let exact =
        |served: &Arc<Served>| served.label.as_deref() == Some(served.cluster.scope.as_bytes());
    let first = clusters.values().filter(|served| exact(served));
    for served in first.chain(clusters.values().filter(|served| !exact(served))) {
        let Some(label) = &served.label else { continue };
        let scope = &served.cluster.scope;
        let shown = String::from_utf8_lossy(label);
        if ns_is_ours && **label == *b"ns" {
            complaints.push(format!(
                "cluster {scope:?} is not served: ns stands for the name server; name others with \
                 dns.nameservers"
            ));
        } else if let Some(other) = labels.get(label) {
            complaints.push(format!(
                "cluster {scope:?} is not served: cluster {:?} has the same label, {shown}",
                other.cluster.scope
            ));
        } else {
            labels.insert(label.clone(), served.clone());
        }
    }
    (labels, complaints)
}
