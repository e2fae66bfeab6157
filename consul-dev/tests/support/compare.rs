//! Whether two answers mean the same: session ids are mapped to symbols, indexes to their order.

use std::collections::BTreeMap;

use serde_json::Value;

use super::client::Res;

/// What is known to correspond on the two sides (first the real Consul, then ours).
#[derive(Default)]
pub struct Mapping {
    indexes: BTreeMap<u64, u64>,
    pub sessions: Vec<(String, String)>,
}

pub type Outcome<T = ()> = Result<T, String>;

impl Mapping {
    /// Compares status, index and body.
    pub fn answers(&mut self, real: &Res, own: &Res) -> Outcome {
        let context = |what: String| format!("{what}\n  real: {real:?}\n  own:  {own:?}");
        if real.status != own.status {
            return Err(context("status".to_owned()));
        }
        for name in
            ["x-consul-knownleader", "x-consul-lastcontact", "x-consul-effective-consistency"]
        {
            // A failed read of the real one still has half of the headers of a good one.
            if real.status < 500 && real.headers.get(name) != own.headers.get(name) {
                return Err(context(format!("header {name}")));
            }
        }
        let index = |r: &Res| r.index().filter(|_| r.status < 500);
        match (index(real), index(own)) {
            (Some(r), Some(o)) => self.index(r, o).map_err(context)?,
            (None, None) => {}
            _ => return Err(context("X-Consul-Index".to_owned())),
        }
        match (real.json(), own.json()) {
            (Some(r), Some(o)) => self.json(&r, &o).map_err(context),
            _ if self.text(&real.body, true) == self.text(&own.body, false) => Ok(()),
            _ => Err(context("body".to_owned())),
        }
    }

    /// Two indexes correspond: the map must stay one to one and in order.
    pub fn index(&mut self, real: u64, own: u64) -> Outcome {
        let below = self.indexes.range(..real).next_back().is_none_or(|(_, o)| *o < own);
        let above = self.indexes.range(real + 1..).next().is_none_or(|(_, o)| *o > own);
        let same = self.indexes.get(&real).is_none_or(|o| *o == own);
        if !(below && above && same) {
            let known = self.indexes.iter().rev().take(8).collect::<Vec<_>>();
            return Err(format!("index order: real {real}, own {own}, known {known:?}"));
        }
        self.indexes.insert(real, own);
        Ok(())
    }

    pub fn json(&mut self, real: &Value, own: &Value) -> Outcome {
        match (real, own) {
            (Value::Object(r), Value::Object(o)) => {
                if r.len() != o.len() {
                    return Err(format!("fields of {real} and {own}"));
                }
                for (name, value) in r {
                    let other = o.get(name).ok_or_else(|| format!("no {name} in {own}"))?;
                    if matches!(name.as_str(), "CreateIndex" | "ModifyIndex") {
                        let number = |v: &Value| v.as_u64().unwrap_or(u64::MAX);
                        self.index(number(value), number(other))?;
                    } else {
                        self.json(value, other).map_err(|e| format!("{name}: {e}"))?;
                    }
                }
                Ok(())
            }
            (Value::Array(r), Value::Array(o)) if r.len() == o.len() => {
                let sorted = |list: &[Value], is_real| {
                    let mut list = list.to_vec();
                    // Sessions are listed by id, which the sides chose at random.
                    list.sort_by_key(|v| v["ID"].as_str().map(|id| self.text(id, is_real)));
                    list
                };
                let (r, o) = (sorted(r, true), sorted(o, false));
                r.iter().zip(&o).try_for_each(|(r, o)| self.json(r, o))
            }
            (Value::String(r), Value::String(o)) if self.text(r, true) == self.text(o, false) => {
                Ok(())
            }
            _ if real == own => Ok(()),
            _ => Err(format!("{real} is not {own}")),
        }
    }

    /// A text with session ids and differing numbers taken out.
    fn text(&self, text: &str, is_real: bool) -> String {
        let mut text = text.to_owned();
        for (at, (real, own)) in self.sessions.iter().enumerate() {
            let id = if is_real { real } else { own };
            text = text.replace(id, &format!("${at}$"));
            text = text.replace(&id.to_ascii_uppercase(), &format!("${at}^$"));
        }
        match text.find("current modify index") {
            Some(at) => text[..at].to_owned(),
            None => text,
        }
    }
}

impl Mapping {
    /// Our index for one of the real Consul, if it was seen.
    pub fn own_index(&self, real: u64) -> Option<u64> {
        self.indexes.get(&real).copied()
    }
}
