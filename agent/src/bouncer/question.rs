//! `POST /pgbouncer`: what a leader asks of each agent with poolers, and the answer.
//!
//! Both name who speaks and who is meant, by installation: an address may lead to another member, or
//! to something that is no agent at all.

use std::time::Duration;

use hart_ha::keeper::Identity;
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
    /// Who is asked.
    pub to: Whom,
    /// The identity of the installation that asks.
    pub instance: String,
    /// The cluster.
    pub scope: String,
    /// The reign.
    pub term: u64,
    /// The attempt within it: one that is over is not begun again by a request that comes late.
    pub attempt: u64,
    /// Pause within so many milliseconds. Absent: go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
}

/// A member, and its installation where that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whom {
    /// Its name.
    pub name: String,
    /// The identity of its installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// One installation of a member: whose pause it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The member.
    pub name: String,
    /// The identity of its installation.
    pub instance: String,
}

/// The answer to a question that is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Word {
    /// hart's own part.
    pub hart: Given,
}

/// Whose poolers, and for which attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Given {
    /// By whom.
    pub by: String,
    /// The identity of its installation.
    pub instance: String,
    /// Its cluster.
    pub scope: String,
    /// Of the question.
    pub term: u64,
    /// Of the question.
    pub attempt: u64,
    /// They are paused (or there are none); else they go on.
    pub paused: bool,
}

impl Question {
    /// To be paused, in what time; `None`: to go on.
    #[must_use]
    pub fn within(&self) -> Option<Duration> {
        self.hart.pause_ms.map(Duration::from_millis)
    }

    /// Who asks.
    #[must_use]
    pub fn who(&self) -> Who {
        Who { name: self.name.clone(), instance: self.hart.instance.clone() }
    }
}

impl Word {
    /// That `question` is done, by this member.
    #[must_use]
    pub fn of(me: &Who, question: &Question) -> Self {
        let Who { name: by, instance } = me.clone();
        let Terms { scope, term, attempt, pause_ms, .. } = question.hart.clone();
        let paused = pause_ms.is_some();
        Self { hart: Given { by, instance, scope, term, attempt, paused } }
    }

    /// Is it the answer to this question, by the one that was asked?
    ///
    /// # Errors
    /// What it is instead.
    pub fn must_answer(&self, question: &Question) -> Result<(), String> {
        let Given { by, instance, scope, term, attempt, paused } = &self.hart;
        let asked = &question.hart;
        let to = Identity { name: asked.to.name.clone(), instance: asked.to.instance.clone() };
        let giver = Identity { name: by.clone(), instance: Some(instance.clone()) };
        if !to.is(&giver) || *scope != asked.scope {
            return Err(format!("{giver} of {scope} answers in the place of {to}"));
        }
        let same =
            (*term, *attempt, *paused) == (asked.term, asked.attempt, asked.pause_ms.is_some());
        if same { Ok(()) } else { Err("the answer is to another question".to_owned()) }
    }
}

/// Reads the body of a question to `me`, a member of `scope`.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read_question(me: &Who, scope: &str, body: &Map<String, Value>) -> Result<Question, String> {
    let read = Question::deserialize(&Value::Object(body.clone()));
    let question = read.map_err(|error| {
        format!(
            "expected {{\"name\", \"hart\": {{\"to\", \"instance\", \"scope\", \"term\", \
             \"attempt\", \"pause_ms\"}}}}: {error}"
        )
    })?;
    let asked = &question.hart;
    if asked.scope != scope {
        return Err(format!("this is a member of the cluster {scope}, not of {}", asked.scope));
    }
    let to = Identity { name: asked.to.name.clone(), instance: asked.to.instance.clone() };
    let this = Identity { name: me.name.clone(), instance: Some(me.instance.clone()) };
    if to.is(&this) { Ok(question) } else { Err(format!("this is {this}, and {to} was asked")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Who {
        Who { name: "n2".into(), instance: "i-n2".into() }
    }

    fn question(pause_ms: Option<u64>) -> Question {
        let to = Whom { name: "n2".into(), instance: Some("i-n2".into()) };
        let (instance, scope) = ("i-n1".into(), "demo".into());
        let hart = Terms { to, instance, scope, term: 4, attempt: 7, pause_ms };
        Question { name: "n1".into(), hart }
    }

    fn read(text: &str) -> Result<Question, String> {
        read_question(&me(), "demo", &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_body_comes_back_as_the_question() {
        for (pause_ms, within) in [(Some(5000), Some(Duration::from_secs(5))), (None, None)] {
            let question = question(pause_ms);
            assert_eq!(read(&serde_json::to_string(&question).unwrap()), Ok(question.clone()));
            assert_eq!(question.within(), within);
            assert_eq!(question.who(), Who { name: "n1".into(), instance: "i-n1".into() });
        }
    }

    #[test]
    fn what_is_no_question_is_said() {
        let former = r#"{"name":"n1","hart":{"term":4,"attempt":7}}"#;
        for body in ["{}", r#"{"name":"n1"}"#, former] {
            assert!(read(body).unwrap_err().contains("expected"), "{body}");
        }
    }

    #[test]
    fn a_question_to_another_is_refused() {
        let refused = |change: fn(&mut Terms)| {
            let mut question = question(None);
            change(&mut question.hart);
            read(&serde_json::to_string(&question).unwrap()).unwrap_err()
        };
        let other = refused(|terms| terms.to.name = "n3".into());
        assert_eq!(other, "this is n2 (instance i-n2), and n3 (instance i-n2) was asked");
        assert!(refused(|terms| terms.to.instance = Some("i-old".into())).contains("i-old"));
        assert!(refused(|terms| terms.scope = "beta".into()).contains("not of beta"));
        let mut by_name = question(None);
        by_name.hart.to.instance = None;
        assert!(read(&serde_json::to_string(&by_name).unwrap()).is_ok());
    }

    #[test]
    fn only_the_one_that_was_asked_answers() {
        let question = question(Some(1000));
        let word = |change: fn(&mut Given)| {
            let mut word = Word::of(&me(), &question);
            change(&mut word.hart);
            word.must_answer(&question)
        };
        assert_eq!(word(|_| {}), Ok(()));
        let other = word(|given| given.by = "n3".into()).unwrap_err();
        assert!(other.contains("in the place of n2"), "{other}");
        assert!(word(|given| given.instance = "i-old".into()).is_err());
        assert!(word(|given| given.scope = "beta".into()).is_err());
        assert!(word(|given| given.term = 5).is_err());
        assert!(word(|given| given.attempt = 8).is_err());
        assert!(word(|given| given.paused = false).is_err());
    }
}
