//! The table the writers write to.

use std::collections::BTreeMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::ranges::Ranges;

/// The name of the table.
pub const TABLE: &str = "hart_demo_writes";

/// The table could not be created or read.
#[derive(Debug, thiserror::Error)]
#[error("table {TABLE} could not be {action} on the primary")]
pub struct CheckError {
    /// `created` or `read`.
    pub action: &'static str,
    /// What the server or the connection said.
    #[source]
    pub source: Error,
}

/// Creates the table if it is missing; several writers may try at the same time.
///
/// # Errors
/// Everything but "exists already": no connection, no right, a replica.
pub async fn create_table(client: &Client) -> Result<(), CheckError> {
    match create(client).await {
        Err(error) if !exists_already(&error) => {
            Err(CheckError { action: "created", source: error })
        }
        _ => Ok(()),
    }
}

async fn create(client: &Client) -> Result<(), Error> {
    let sql = format!(
        "create table if not exists {TABLE} \
         (writer int not null, seq bigint not null, primary key (writer, seq))"
    );
    client.batch_execute(&sql).await
}

/// `create table if not exists` is not atomic: two sessions at once give a duplicate key in the
/// catalogue or "relation exists" to the slower one.
fn exists_already(error: &Error) -> bool {
    [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT]
        .iter()
        .any(|code| error.code() == Some(code))
}

/// The rows in the table, by writer. The server sends ranges, not rows.
///
/// # Errors
/// When the table cannot be read.
pub async fn present_rows(client: &Client) -> Result<BTreeMap<i32, Ranges>, CheckError> {
    // Within an unbroken run of numbers, seq minus row number is constant.
    let sql = format!(
        "select writer, min(seq), max(seq) from \
         (select writer, seq, seq - row_number() over (partition by writer order by seq) as run \
          from {TABLE}) as numbered group by writer, run"
    );
    let rows =
        client.query(&sql, &[]).await.map_err(|source| CheckError { action: "read", source });
    let mut present: BTreeMap<i32, Ranges> = BTreeMap::new();
    for row in rows? {
        present.entry(row.get(0)).or_default().insert_range(row.get(1), row.get(2));
    }
    Ok(present)
}
