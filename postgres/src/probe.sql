SELECT json_build_object(
  'in_recovery', r,
  'backend', pg_backend_pid(),
  'timeline', CASE WHEN r
      THEN greatest(c.timeline_id,
                    (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
                    (SELECT received_tli FROM pg_stat_wal_receiver))
      ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
  'checkpoint_timeline', c.timeline_id,
  'system_identifier', s.system_identifier::text,
  'server_version', current_setting('server_version_num')::int,
  'postmaster_start', to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC',
                              'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'write_lsn', CASE WHEN NOT r THEN pg_current_wal_lsn() - '0/0'::pg_lsn END,
  'flush_lsn', CASE WHEN NOT r THEN pg_current_wal_flush_lsn() - '0/0'::pg_lsn END,
  'receive_lsn', CASE WHEN r THEN pg_last_wal_receive_lsn() - '0/0'::pg_lsn END,
  'replay_lsn', CASE WHEN r THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END,
  'replay_paused', CASE WHEN r THEN pg_is_wal_replay_paused() ELSE false END,
  'last_replayed_at', to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC',
                              'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'startup', CASE WHEN r THEN (SELECT json_build_object('pid', a.pid, 'command', CASE a.wait_event
          WHEN 'RestoreCommand' THEN 'restore_command' WHEN 'RecoveryEndCommand' THEN 'recovery_end_command' END,
          'delayed', coalesce(a.wait_event = 'RecoveryApplyDelay', false))
      FROM pg_stat_get_activity(NULL) a WHERE a.backend_type = 'startup') END,
  'held_up', CASE WHEN r THEN (SELECT json_build_object('kind', a.wait_event_type, 'event', a.wait_event, 'sessions', (
      SELECT coalesce(json_agg(json_build_object('pid', b.pid, 'began', b.backend_start::text, 'role', b.usesysid::regrole::text,
          'database', d.datname, 'application', b.application_name, 'address', host(b.client_addr), 'state', b.state,
          'seconds', extract(epoch FROM clock_timestamp() - b.xact_start)::bigint, 'rank', b.rank)), '[]')
      FROM (SELECT o.*, dense_rank() OVER (ORDER BY age(o.backend_xmin) DESC NULLS LAST) - 1 AS rank
          FROM pg_stat_get_activity(NULL) o
          WHERE o.pid <> pg_backend_pid() AND o.leader_pid IS NULL AND o.backend_type <> 'walsender'
          AND CASE WHEN a.wait_event = 'ReplicationSlotsyncShutdown' THEN o.backend_type = 'slotsync worker'
              WHEN o.xact_start IS NULL THEN false ELSE CASE a.wait_event_type
              WHEN 'Lock' THEN EXISTS (SELECT FROM pg_locks w JOIN pg_locks h ON h.pid = o.pid AND h.granted
                  AND (h.locktype, h.database, h.relation, h.page, h.tuple, h.virtualxid, h.transactionid, h.classid,
                      h.objid, h.objsubid) IS NOT DISTINCT FROM (w.locktype, w.database, w.relation, w.page, w.tuple,
                      w.virtualxid, w.transactionid, w.classid, w.objid, w.objsubid)
                  WHERE w.pid = a.pid AND NOT w.granted)
              ELSE o.backend_xmin IS NOT NULL OR a.wait_event = 'RecoveryConflictTablespace' END END) b
      LEFT JOIN pg_database d ON d.oid = b.datid))
      FROM pg_stat_get_activity(NULL) a WHERE a.backend_type = 'startup' AND (a.wait_event_type = 'Lock'
      OR a.wait_event IN ('RecoveryConflictSnapshot', 'RecoveryConflictTablespace', 'BufferPin', 'BufferCleanup',
          'ReplicationSlotsyncShutdown'))) END,
  'receiver', (SELECT json_build_object(
      'status', w.status, 'sender_host', w.sender_host, 'sender_port', w.sender_port,
      'slot', w.slot_name, 'timeline', w.received_tli,
      'addresses', substring(w.conninfo from '(?:^| )hostaddr=([^ ]*)'))
      FROM pg_stat_wal_receiver w),
  'standbys', (SELECT coalesce(json_agg(json_build_object(
      'pid', p.pid, 'usename', p.usename, 'application_name', p.application_name, 'client_addr', host(p.client_addr),
      'slot', (SELECT s.slot_name FROM pg_replication_slots s
          WHERE s.active_pid = p.pid AND s.slot_type = 'physical' AND NOT s.temporary),
      'state', p.state, 'sync_state', p.sync_state, 'sync_priority', p.sync_priority,
      'sent_lsn', p.sent_lsn - '0/0'::pg_lsn, 'write_lsn', p.write_lsn - '0/0'::pg_lsn,
      'flush_lsn', p.flush_lsn - '0/0'::pg_lsn, 'replay_lsn', p.replay_lsn - '0/0'::pg_lsn,
      'reply_age_ms', greatest(0, extract(epoch FROM clock_timestamp() - p.reply_time) * 1000)::bigint
      ) ORDER BY p.application_name, p.pid), '[]') FROM pg_stat_replication p),
  'slots_keep', (SELECT coalesce(json_object_agg(s.slot_name, greatest(0, CASE WHEN r THEN pg_last_wal_replay_lsn()
      ELSE pg_current_wal_lsn() END - s.restart_lsn)::bigint), '{}')
      FROM pg_replication_slots s WHERE s.restart_lsn IS NOT NULL),
  'slots', CASE WHEN NOT r THEN (SELECT json_object_agg(slot_name, coalesce(confirmed_flush_lsn, restart_lsn) - '0/0'::pg_lsn)
      FROM pg_replication_slots WHERE NOT temporary AND restart_lsn IS NOT NULL) END,
  'synchronous_standby_names', current_setting('synchronous_standby_names'),
  'loaded', extract(epoch FROM pg_conf_load_time())::text,
  'pending_restart', CASE WHEN extract(epoch FROM pg_conf_load_time())::text <> $LOADED$
      THEN (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart)
      END,
  'pending_changes', CASE WHEN extract(epoch FROM pg_conf_load_time())::text <> $LOADED$
      THEN (SELECT json_object_agg(s.name, json_build_object('old_value', current_setting(s.name),
          'new_value', coalesce(CASE WHEN v !~ '^[1-9][0-9]*$' OR s.unit IS NULL THEN v
              WHEN s.unit ~ '^[0-9]*[kMG]B$' THEN replace(pg_size_pretty(v::numeric
                  * pg_size_bytes(regexp_replace(s.unit, '^([kMG])', '1\1'))), ' ', '')
              ELSE v || s.unit END, '')))
          FROM pg_settings s LEFT JOIN (SELECT DISTINCT ON (lower(name)) lower(name) AS name, setting
              FROM pg_file_settings ORDER BY lower(name), seqno DESC) f ON f.name = lower(s.name)
          CROSS JOIN LATERAL (SELECT coalesce(f.setting, s.boot_val)) c(v)
          WHERE s.pending_restart) END,
  'overridden', CASE WHEN extract(epoch FROM pg_conf_load_time())::text <> $LOADED$
      THEN (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings
            WHERE name IN ($OURS$) AND context <> 'postmaster' AND substring(sourcefile FROM '[^/]*$') NOT IN ($FILES$))
      END,
  'lax_commits', CASE WHEN extract(epoch FROM pg_conf_load_time())::text <> $LOADED$
      THEN (SELECT coalesce(json_agg(setting || ' in ' || sourcefile), '[]') FROM pg_file_settings
            WHERE name = 'synchronous_commit' AND applied
            AND lower(setting) NOT IN ('on', 'remote_apply', 'true', 'yes', '1'))
      END,
  'synchronous_commit', CASE WHEN extract(epoch FROM pg_conf_load_time())::text <> $LOADED$
      THEN coalesce((SELECT lower(setting) FROM pg_file_settings
          WHERE name = 'synchronous_commit' AND applied ORDER BY seqno DESC LIMIT 1), 'on') END,
  'lax_databases', (SELECT coalesce(json_agg(split_part(c, '=', 2) || ' for ' ||
          CASE WHEN s.setdatabase = 0 THEN 'all databases' ELSE 'database ' || d.datname END), '[]')
      FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c
      LEFT JOIN pg_database d ON d.oid = s.setdatabase
      WHERE s.setrole = 0 AND c LIKE 'synchronous_commit=%'
      AND lower(split_part(c, '=', 2)) NOT IN ('on', 'remote_apply', 'true', 'yes', '1'))
)::text
FROM pg_is_in_recovery() r, pg_control_checkpoint() c, pg_control_system() s
