#!/usr/bin/env bash
# PostgreSQL 18 and its processes for input and output (io_method = worker, the default). They are frozen, as by
# a debugger, or one after the other by a file system that hangs. A query that reads a table through them waits in
# AioIoCompletion, and takes neither pg_cancel_backend() nor pg_terminate_backend() nor its
# statement_timeout, while the server accepts connections, finds rows by index, and commits. A fast shutdown
# does not end. One of them that is killed (out of memory) takes the whole server with it, as any backend does.
# Guess before: who only waits for another process can be ended, and a killed worker is started again alone.
# Seen with PostgreSQL 18.6.
. "$(dirname "$0")/lib.sh"
postgres 18.6
primary a "shared_buffers = 16MB" "max_parallel_workers_per_gather = 0" "restart_after_crash = on" "io_workers = 2"
sql a "create table t(i int primary key, p text); insert into t select g, repeat('x', 500) from generate_series(1, 200000) g"
workers() { sql a "select pid from pg_stat_activity where backend_type = 'io worker'"; }
stop a
start a
frozen=$(workers)
trap 'kill -CONT $frozen 2>/dev/null || true; leave' EXIT
kill -STOP $frozen
sql a "set statement_timeout = '2s'; select count(*) from t" >/dev/null 2>&1 &
query=$!
state() { sql a "select pid, wait_event from pg_stat_activity where query like '%count(*) from t'"; }
until_true 20 eval '[[ $(state) == *AioIoCompletion ]]'
reader=$(state | cut -d '|' -f 1)
sleep 4
same "after its statement_timeout it" "$reader|AioIoCompletion" "$(state)"
sql a "select pg_cancel_backend($reader)" >/dev/null
sleep 2
sql a "select pg_terminate_backend($reader)" >/dev/null
sleep 4
same "after pg_cancel_backend and pg_terminate_backend it" "$reader|AioIoCompletion" "$(state)"
same "meanwhile by index" 200000 "$(sql a "set enable_seqscan = off; select i from t where i = 200000")"
same "meanwhile a commit" 1 "$(sql a "insert into t values (0) returning 1")"
as_user "$bin/pg_ctl" -D "$work/a" -m fast -t 10 stop >/dev/null 2>&1 && seen=ended || seen="goes on"
same "fast shutdown after 10 s" "goes on" "$seen"
kill -CONT $frozen
wait $query || true
until_true 30 eval '[ ! -e "$work/a/postmaster.pid" ]'
start a
kill -KILL "$(workers | head -n 1)"
until_true 30 grep -q 'all server processes terminated; reinitializing' "$work/a.log"
until_true 30 is a "select 1" 1
same "one of them killed, recoveries of the whole server" 1 "$(grep -c 'automatic recovery in progress' "$work/a.log")"
