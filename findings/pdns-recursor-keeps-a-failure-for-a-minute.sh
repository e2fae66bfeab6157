#!/usr/bin/env bash
# PowerDNS Recursor forwards a zone to an authority that falls silent for a few seconds. The failure goes to
# its packet cache for a minute (packetcache-servfail-ttl): who asks the same question gets SERVFAIL although
# the authority answers again, and its own answers last a second. With 0 the next question is answered.
# Guess before: the next question after the authority is back is answered.
# Seen with pdns-recursor 4.8.8-1+deb12u1 (Debian 12).
. "$(dirname "$0")/lib.sh"
debian pdns-recursor 4.8.8-1+deb12u1
debian libboost-context1.74.0 1.74.0+ds1-21
debian libluajit-5.1-2 2.1.0~beta3+git20220320+dfsg-4.1+deb12u1
trap 'kill $(jobs -p) 2>/dev/null; leave' EXIT
ports 3
python3 "$(dirname "$0")/authority.py" 127.0.0.1 "${port[0]}" "$work/asked" pg.test &
until_true 10 dig "@127.0.0.1" -p "${port[0]}" pg.test +time=1 +tries=1
for n in 1 2; do
  mkdir "$work/run$n"
  printf '%s\n' local-address=127.0.0.1 "local-port=${port[n]}" "forward-zones=pg.test=127.0.0.1:${port[0]}" dont-query= \
    dnssec=off hint-file=no "socket-dir=$work/run$n" daemon=no security-poll-suffix= threads=1 \
    "$([ "$n" = 1 ] || echo packetcache-servfail-ttl=0)" >"$work/run$n/recursor.conf"
  LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu" "$work/root/usr/sbin/pdns_recursor" --config-dir="$work/run$n" >"$work/log$n" 2>&1 &
done
look() { dig "@127.0.0.1" -p "$1" primary.pg.test +time=9 +tries=1 | sed -n 's/.*status: \([A-Z]*\).*/\1/p'; }
is_now() { [ "$(look "$1")" = "$2" ]; }
for n in 1 2; do until_true 30 is_now "${port[n]}" NOERROR; done
touch "$work/asked.silent"
sleep 3
for n in 1 2; do same "silent authority, resolver $n" SERVFAIL "$(look "${port[n]}")"; done
rm "$work/asked.silent"
until_true 30 is_now "${port[2]}" NOERROR
echo "with packetcache-servfail-ttl=0: answered"
same "by default, though the authority answers" SERVFAIL "$(look "${port[1]}")"
until_true 90 is_now "${port[1]}" NOERROR
echo "by default: answered in the end"
