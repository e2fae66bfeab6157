//! `POST /pgbouncer`: what a leader asks of each agent with poolers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who asks: the leader.
    pub name: String,
    /// What for.
    pub hart: Terms,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The reign.
    pub term: u64,
    /// The attempt within it: one that is over is not begun again by a request that comes late.
    pub attempt: u64,
    /// Pause within so many milliseconds. Absent: go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
}

impl Question {
    /// To be paused, in what time; `None`: to go on.
    #[must_use]
    pub fn within(&self) -> Option<Duration> {
        self.hart.pause_ms.map(Duration::from_millis)
    }
}

/// Reads the body.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read_question(body: &Map<String, Value>) -> Result<Question, String> {
    Question::deserialize(&Value::Object(body.clone())).map_err(|error| {
        format!("expected {{\"name\", \"hart\": {{\"term\", \"attempt\", \"pause_ms\"}}}}: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Question, String> {
        read_question(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_body_comes_back_as_the_question() {
        let terms = Terms { term: 4, attempt: 7, pause_ms: Some(5000) };
        let question = Question { name: "n1".into(), hart: terms };
        assert_eq!(read(&serde_json::to_string(&question).unwrap()), Ok(question.clone()));
        assert_eq!(question.within(), Some(Duration::from_secs(5)));
        let going_on = read(r#"{"name":"n1","hart":{"term":4,"attempt":7}}"#).unwrap();
        assert_eq!(going_on.within(), None);
    }

    #[test]
    fn what_is_no_question_is_said() {
        for body in ["{}", r#"{"name":"n1"}"#, r#"{"name":"n1","hart":{"term":-1,"attempt":1}}"#] {
            assert!(read(body).unwrap_err().contains("expected"), "{body}");
        }
    }
}
