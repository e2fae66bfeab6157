//! The ACL token, and the file that it may come from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use tokio::time::Instant;

use crate::config::Token;
use crate::error::{Error, Result};

/// How often a token file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The token to send now. A slow disk never delays a call: the file is looked at in the background.
pub(crate) struct TokenSource {
    file: Option<PathBuf>,
    current: RwLock<Current>,
    looked: Mutex<Instant>,
    looking: AtomicBool,
}

#[derive(Clone, Default, PartialEq)]
struct Current {
    header: Option<HeaderValue>,
    stamp: Option<(SystemTime, u64)>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("file", &self.file).finish_non_exhaustive()
    }
}

impl TokenSource {
    pub(crate) fn new(token: &Token) -> Result<Arc<Self>> {
        let (file, current) = match token {
            Token::None => (None, Current::default()),
            Token::Value(value) => {
                (None, Current { header: header(value, "the token")?, stamp: None })
            }
            Token::File(path) => (Some(path.clone()), read(path)?),
        };
        Ok(Arc::new(Self {
            file,
            current: RwLock::new(current),
            looked: Mutex::new(Instant::now()),
            looking: AtomicBool::new(false),
        }))
    }

    /// The header value to send; starts a look at the file when one is due.
    pub(crate) fn header(self: &Arc<Self>) -> Option<HeaderValue> {
        if self.file.is_some() && self.is_due() && !self.looking.swap(true, Ordering::AcqRel) {
            let source = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                if source.file.as_deref().and_then(stamp) != source.now().stamp {
                    source.read_again();
                }
                source.looking.store(false, Ordering::Release);
            });
        }
        self.now().header
    }

    /// Reads the file after a denial; true when it holds another token than `denied`.
    pub(crate) async fn refresh(self: &Arc<Self>, denied: Option<&HeaderValue>) -> bool {
        if self.file.is_none() {
            return false;
        }
        let source = Arc::clone(self);
        // An error means that the runtime is shutting down or the read panicked: no new token.
        let read = tokio::task::spawn_blocking(move || source.read_again()).await;
        read.is_ok() && self.now().header.as_ref() != denied
    }

    /// `text` without the token, should a server ever repeat it.
    pub(crate) fn scrub(&self, text: &str) -> String {
        match self.now().header.as_ref().and_then(|header| header.to_str().ok()) {
            Some(token) if !token.is_empty() => text.replace(token, "<token>"),
            _ => text.to_owned(),
        }
    }

    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.elapsed() >= LOOK_EVERY;
        if due {
            *looked = Instant::now();
        }
        due
    }

    fn now(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the old token when the file cannot be read or makes no sense.
    fn read_again(&self) {
        let Some(path) = &self.file else { return };
        match read(path) {
            Ok(new) => *self.current.write().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::warn!(%error, "keeping the old Consul token"),
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<Current> {
    let shown = path.display();
    // The stamp comes first: a change in between is then seen by the next look.
    let stamp = stamp(path);
    let text = std::fs::read_to_string(path).map_err(|source| {
        Error::config_from(format!("the token file {shown} cannot be read"), source)
    })?;
    let token = text.lines().next().unwrap_or_default();
    let header = header(token, &format!("the token in {shown}"))?;
    if header.is_none() {
        return Err(Error::config(format!("the token file {shown} has an empty first line")));
    }
    Ok(Current { header, stamp })
}

fn header(token: &str, what: &str) -> Result<Option<HeaderValue>> {
    let token = token.trim();
    if token.is_empty() {
        return Ok(None);
    }
    let mut value = HeaderValue::from_str(token).map_err(|_| {
        Error::config(format!("{what} has characters that no HTTP header can hold"))
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_errors_show_the_token() {
        let token = Token::Value("s3cr3t".into());
        let source = TokenSource::new(&token).unwrap();
        assert!(!format!("{token:?} {source:?}").contains("s3cr3t"));
        assert_eq!(source.scrub("no s3cr3t here"), "no <token> here");
        let error = TokenSource::new(&Token::Value("s3cr3t\u{1}x".into())).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_missing_or_empty_file_is_refused() {
        let path = std::env::temp_dir().join(format!("hart-consul-token-{}", std::process::id()));
        assert!(matches!(TokenSource::new(&Token::File(path.clone())), Err(Error::Config { .. })));
        std::fs::write(&path, "\n").unwrap();
        let refused = TokenSource::new(&Token::File(path.clone()));
        std::fs::remove_file(&path).unwrap();
        assert!(refused.unwrap_err().to_string().contains("empty first line"));
    }

    #[tokio::test]
    async fn a_changed_file_is_noticed_without_a_denial() {
        let path = std::env::temp_dir().join(format!("hart-consul-look-{}", std::process::id()));
        std::fs::write(&path, "first\n").unwrap();
        let source = TokenSource::new(&Token::File(path.clone())).unwrap();
        std::fs::write(&path, "the second\n").unwrap();
        let first = source.header().unwrap();
        let past = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        *source.looked.lock().unwrap() = past;
        let deadline = Instant::now() + Duration::from_secs(60);
        while source.header().unwrap() != "the second" && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let second = source.header().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(first, "first", "not looked at before it is due");
        assert_eq!(second, "the second");
        source.read_again();
        assert_eq!(source.header().unwrap(), "the second", "a file that vanished changes nothing");
    }
}
