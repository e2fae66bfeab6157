//! `PUT /v1/txn`.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json as j};

use super::decode::{self, Object};
use super::params::Call;
use super::reply::{Answer, Refusal, json, with_contact};
use super::shared::Shared;
use super::wire;
use crate::model::{MAX_TXN_OPS, TxnOp, Verb};

/// Greatest body (`txn_max_req_len`), and greatest value in it.
const MAX_LEN: usize = 512 * 1024;

pub(super) fn handle(shared: &Shared, call: &Call) -> Answer {
    let too_large = |text| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text);
    if call.body.len() > MAX_LEN {
        return Err(too_large(format!("Request body too large, max size: {MAX_LEN} bytes")));
    }
    let ops =
        parse(&call.body).map_err(|why| Refusal::bad(format!("Failed to parse body: {why}")))?;
    if ops.len() > MAX_TXN_OPS {
        let count = ops.len();
        return Err(too_large(format!(
            "Transaction contains too many operations ({count} > {MAX_TXN_OPS})"
        )));
    }
    let ops: Vec<TxnOp> = ops.into_iter().flatten().collect();
    let reads_only = !ops.iter().any(|op| op.verb.writes());
    if reads_only {
        call.consistency()?;
    }
    let outcome = shared.change(|model, now| model.txn(now, &ops));
    let conflict = outcome.is_err();
    let (results, errors) = match outcome {
        Ok(entries) => {
            let kv = |e| j!({ "KV": wire::entry(e) });
            (entries.iter().map(kv).collect::<Value>(), Value::Null)
        }
        Err(errors) => {
            let error = |e: &crate::model::TxnError| j!({ "OpIndex": e.op_index, "What": e.what });
            (Value::Null, errors.iter().map(error).collect())
        }
    };
    let mut body = j!({ "Results": results, "Errors": errors });
    if reads_only && let Some(body) = body.as_object_mut() {
        body.extend(
            [
                ("Index", j!(0)),
                ("LastContact", j!(0)),
                ("KnownLeader", j!(true)),
                ("ConsistencyLevel", j!("")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
    }
    let mut response = json(&body);
    if conflict {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    Ok(if reads_only { with_contact(response) } else { response })
}

/// Reads the operations; `None` is an empty one, which Consul drops (but counts).
fn parse(body: &[u8]) -> Result<Vec<Option<TxnOp>>, String> {
    let value = decode::parse(body)?;
    if value.is_null() {
        return Ok(Vec::new());
    }
    let list =
        value.as_array().ok_or("json: cannot unmarshal object into Go value of type api.TxnOps")?;
    list.iter().map(op).collect()
}

fn op(value: &Value) -> Result<Option<TxnOp>, String> {
    let object = Object::new(value, "api.TxnOp")?.only(&["KV"])?;
    let Some(kv) = object.get("KV") else { return Ok(None) };
    let kv = Object::new(kv, "api.KVTxnOp")?.named("KVTxnOp.KV");
    let kv = kv.only(&["Verb", "Key", "Value", "Flags", "Index", "Session"])?;
    Ok(Some(TxnOp {
        verb: Verb::parse(&kv.text("Verb")?),
        key: Arc::from(kv.text("Key")?),
        value: Arc::from(kv.bytes("Value")?),
        flags: kv.number("Flags")?,
        index: kv.number("Index")?,
        session: Arc::from(kv.text("Session")?),
    }))
}
