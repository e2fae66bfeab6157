#!/usr/bin/env bash
# Knot Resolver in front of an authority whose answers last one second: it keeps each for five (cache.min_ttl),
# and says so in the answer. cache.min_ttl(0) makes it keep to a second.
# Guess before: a resolver never prolongs an answer unless it is told to.
# Seen with knot-resolver 5.6.0-1+deb12u1 (Debian 12). Needs root, for a mount namespace.
. "$(dirname "$0")/lib.sh"
debian knot-resolver 5.6.0-1+deb12u1
for one in libknot13=3.2.6-1 libdnssec9=3.2.6-1 libzscanner4=3.2.6-1 liblmdb0=0.9.24-1 \
  libluajit-5.1-2=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1 libxdp1=1.3.1-1 libbpf1=1:1.1.2-0+deb12u1; do debian "${one%%=*}" "${one#*=}"; done
lib="$work/root/usr/lib/x86_64-linux-gnu"
trap 'kill $(jobs -p) 2>/dev/null; leave' EXIT
ports 3
python3 "$(dirname "$0")/authority.py" 127.0.0.1 "${port[0]}" "$work/asked" pg.test &
until_true 10 dig "@127.0.0.1" -p "${port[0]}" pg.test +time=1 +tries=1
for n in 1 2; do
  mkdir "$work/run$n"
  cat >"$work/run$n/conf" <<C
modules.unload('ta_update')
trust_anchors.remove('.')
net.listen('127.0.0.1', ${port[n]}, { kind = 'dns' })
cache.open(10 * MB, 'lmdb://$work/run$n/cache')
$([ "$n" = 1 ] || echo 'cache.min_ttl(0)')
policy.add(policy.suffix(policy.STUB({'127.0.0.1@${port[0]}'}), {todname('pg.test')}))
C
  # Its modules are looked for where the package is installed.
  unshare -m sh -c "mkdir -p /usr/lib/x86_64-linux-gnu && mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work &&
    mount -t overlay overlay -o lowerdir=$lib:/usr/lib/x86_64-linux-gnu,upperdir=/mnt/up,workdir=/mnt/work /usr/lib/x86_64-linux-gnu &&
    exec '$work/root/usr/sbin/kresd' -n -c '$work/run$n/conf' '$work/run$n'" >"$work/log$n" 2>&1 &
done
look() { dig "@127.0.0.1" -p "$1" primary.pg.test +noall +answer +time=2 +tries=1 | awk '{ print $2, $5 }'; }
found() { look "$1" | grep -q 10.0.0; }
for n in 1 2; do until_true 30 found "${port[n]}"; done
sleep 6
same "by default, seconds to live" "5 10.0.0.1" "$(look "${port[1]}")"
same "with min_ttl(0)" "1 10.0.0.1" "$(look "${port[2]}")"
echo 10.0.0.2 >"$work/asked.address"
sleep 2
same "two seconds later the address is another one; by default" 10.0.0.1 "$(look "${port[1]}" | cut -d' ' -f2)"
same "with min_ttl(0)" 10.0.0.2 "$(look "${port[2]}" | cut -d' ' -f2)"
