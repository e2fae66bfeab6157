//! Random operations over a small space of keys and sessions, the same for both sides.

use fastrand::Rng;

/// Keys of a sequence, below its own prefix.
const KEYS: &[&str] = &["a", "a/b", "a/b/d", "a/c", "b", "ab", "x é<&>\"+%"];
const PREFIXES: &[&str] = &["", "a", "a/", "a/b", "a/b/", "b", "z"];
const VALUES: &[&str] = &["", "x", "y", "{\"long\": \"value with ünicode\"}"];

/// A session, as the two sides name it differently.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// The one created at this place of the sequence (modulo their number), perhaps gone.
    Made(usize),
    /// The same, in upper case.
    Upper(usize),
    Unknown,
    Malformed,
    Nobody,
}

/// An index, as the two sides number it differently.
#[derive(Debug, Clone, PartialEq)]
pub enum At {
    Zero,
    Modified(&'static str),
    Created(&'static str),
    Never,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TxnStep {
    pub verb: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub flags: u64,
    pub who: Who,
    pub at: At,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Get(&'static str, &'static str),
    List(&'static str, &'static str),
    Put { key: &'static str, value: &'static str, flags: Option<u64> },
    Cas { key: &'static str, value: &'static str, at: At },
    Acquire { key: &'static str, value: &'static str, who: Who },
    Release { key: &'static str, value: &'static str, who: Who },
    Delete(&'static str),
    DeleteCas(&'static str, At),
    DeleteTree(&'static str),
    Txn(Vec<TxnStep>),
    CreateSession { delete: bool, delay: &'static str },
    DestroySession(Who),
    SessionInfo(Who),
    RenewSession(Who),
    ListSessions,
    NodeSessions,
}

/// What a blocking query waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wait {
    Key(&'static str),
    Prefix(&'static str),
    Sessions,
}

/// An operation, perhaps with a blocking query across it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub op: Op,
    pub wait: Option<Wait>,
}

pub fn sequence(seed: u64, length: usize) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let step = |_| {
        let (op, wait) = (op(&mut rng), wait(&mut rng));
        Step { wait: wait.filter(|_| !loses_wakes(&op)), op }
    };
    (0..length).map(step).collect()
}

/// The real Consul does not wake readers of what a transaction deletes with `delete-tree` after it
/// wrote there (hashicorp/go-immutable-radix, pull request 107); they run into their timeout.
fn loses_wakes(op: &Op) -> bool {
    let Op::Txn(steps) = op else { return false };
    steps.iter().skip(1).any(|step| step.verb == "delete-tree")
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn wait(rng: &mut Rng) -> Option<Wait> {
    Some(match rng.u8(..16) {
        0 => Wait::Key(pick(rng, KEYS)),
        1 => Wait::Prefix(pick(rng, PREFIXES)),
        2 => Wait::Sessions,
        _ => return None,
    })
}

fn who(rng: &mut Rng) -> Who {
    match rng.u8(..20) {
        0 => Who::Unknown,
        1 => Who::Malformed,
        2 => Who::Nobody,
        3 => Who::Upper(rng.usize(..4)),
        _ => Who::Made(rng.usize(..4)),
    }
}

fn at(rng: &mut Rng, key: &'static str) -> At {
    match rng.u8(..8) {
        0 | 1 => At::Zero,
        2 => At::Created(key),
        3 => At::Never,
        4 => At::Modified(pick(rng, KEYS)),
        _ => At::Modified(key),
    }
}

fn op(rng: &mut Rng) -> Op {
    let (key, value, prefix) = (pick(rng, KEYS), pick(rng, VALUES), pick(rng, PREFIXES));
    match rng.u8(..40) {
        0 => Op::Get(key, pick(rng, &["", "raw", "stale", "consistent"])),
        1 => Op::List(prefix, "recurse"),
        2 => Op::List(prefix, pick(rng, &["keys", "keys&separator=/", "keys&separator=b/"])),
        3..=7 => Op::Put { key, value, flags: rng.bool().then(|| rng.u64(..3)) },
        8..=10 => Op::Cas { key, value, at: at(rng, key) },
        11..=15 => Op::Acquire { key, value, who: who(rng) },
        16..=18 => Op::Release { key, value, who: who(rng) },
        19..=20 => Op::Delete(key),
        21 => Op::DeleteCas(key, at(rng, key)),
        22 => Op::DeleteTree(prefix),
        23..=31 => Op::Txn((0..rng.usize(1..6)).map(|_| txn_step(rng)).collect()),
        32..=34 => Op::CreateSession { delete: rng.bool(), delay: pick(rng, &["0s", "0s", "15s"]) },
        35 => Op::DestroySession(who(rng)),
        36 => Op::SessionInfo(who(rng)),
        37 => Op::RenewSession(who(rng)),
        38 => Op::ListSessions,
        _ => Op::NodeSessions,
    }
}

fn txn_step(rng: &mut Rng) -> TxnStep {
    const VERBS: &[&str] = &[
        "set",
        "set",
        "set",
        "cas",
        "cas",
        "lock",
        "lock",
        "unlock",
        "unlock",
        "get",
        "get-tree",
        "check-index",
        "check-index",
        "check-session",
        "check-session",
        "check-not-exists",
        "delete",
        "delete-cas",
        "delete-tree",
        "nonsense",
    ];
    // Mostly verbs that can succeed, or few transactions would.
    let verb = if rng.u8(..3) == 0 { "set" } else { pick(rng, VERBS) };
    let key = if verb.ends_with("tree") { pick(rng, PREFIXES) } else { pick(rng, KEYS) };
    let (value, flags) = (pick(rng, VALUES), rng.u64(..3));
    TxnStep { verb, key, value, flags, who: who(rng), at: at(rng, key) }
}
