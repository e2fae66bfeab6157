#!/usr/bin/env bash
# DNS= and Domains=~pg.test in a drop-in for systemd-resolved are no route for that zone alone. All global
# servers are one list, and one of them is asked for everything: where resolved.conf has an ordinary server,
# the one in the drop-in is never asked, and the zone's names do not exist. Where the ordinary servers are a
# link's (DHCP), the zone works, and every other name is asked of the drop-in's server, too. Only the
# servers of a link, with Domains=~pg.test for that link, are a route.
# Guess before: only questions below the zone go to the drop-in's server, and they go nowhere else.
# Seen with systemd-resolved 252.38-1~deb12u1 (Debian 12). Needs root, for network and mount namespaces.
. "$(dirname "$0")/lib.sh"
debian systemd-resolved 252.38-1~deb12u1
cp "$(dirname "$0")/authority.py" "$work/"
cat >"$work/inside" <<'I'
set -eu
work=$1 link=$2
ip link set lo up
ip link add first type veth peer name second
for one in first second; do ip link set "$one" up; done
ip address add 198.51.100.7/24 dev first
ip route add default via 198.51.100.1
ip address add 198.51.100.53/32 dev lo
for place in /run/systemd /etc/systemd /run/dbus; do mkdir -p "$place" && mount -t tmpfs -o mode=755 none "$place"; done
for file in passwd group; do
  grep -v ^systemd-resolve: "/etc/$file" >"$work/$file"
  [ $file = passwd ] && echo "systemd-resolve:x:64991:64991::/:/usr/sbin/nologin" >>"$work/$file" || echo "systemd-resolve:x:64991:" >>"$work/$file"
  mount --bind "$work/$file" "/etc/$file"
done
mkdir -m 755 /run/systemd/resolve /etc/systemd/resolved.conf.d
chown systemd-resolve: /run/systemd/resolve
rm -f "$work/zone" "$work/ordinary"
python3 "$work/authority.py" 127.0.0.1 5353 "$work/zone" pg.test &
python3 "$work/authority.py" 198.51.100.53 53 "$work/ordinary" &
printf '%s\n' '[Resolve]' DNSSEC=no LLMNR=no MulticastDNS=no Cache=no >/etc/systemd/resolved.conf
[ "$link" = link ] || echo DNS=198.51.100.53 >>/etc/systemd/resolved.conf
printf '%s\n' '[Resolve]' DNS=127.0.0.1:5353 'Domains=~pg.test' >/etc/systemd/resolved.conf.d/zone.conf
cat >"$work/bus" <<B
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow eavesdrop="true"/></policy></busconfig>
B
dbus-daemon --config-file="$work/bus" --nofork 2>/dev/null &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
"$work/root/lib/systemd/systemd-resolved" >"$work/log" 2>&1 &
look() { dig @127.0.0.53 "$1" +time=8 +tries=1 +noall +answer +comments | awk '/status:/ { sub(",", "", $6); s = $6 } /IN[ \t]+A[ \t]/ { a = " " $5 } END { print s a }'; }
if [ "$link" = link ]; then
  until "$work/root/usr/bin/resolvectl" dns first 198.51.100.53 2>/dev/null; do sleep 0.2; done
fi
end=$((SECONDS + 30))
until [ "$(look "www$SECONDS.example.com")" = "NOERROR 10.0.0.9" ] || [ $SECONDS -ge $end ]; do sleep 0.3; done
# The first questions to a server fail while it is found out what it can do.
until look primary.pg.test >"$work/answer"; ! grep -q SERVFAIL "$work/answer" || [ $SECONDS -ge $end ]; do sleep 0.3; done
for n in 1 2 3; do look "www.example$n.com" >/dev/null; done
asked() { [ -e "$1" ] && grep -q "$2" "$1" && echo yes || echo no; }
echo "zone asked: $(asked "$work/zone" primary.pg.test), for others: $(asked "$work/zone" www.example)" >"$work/who"
kill $(jobs -p)
wait
I
same_net() { unshare --net --mount --pid --fork --kill-child bash "$work/inside" "$work" "$1" 2>"$work/err" || true; }
same_net global
same "an ordinary server in resolved.conf: the zone's name" NXDOMAIN "$(cat "$work/answer")"
same "the drop-in's server" "zone asked: no, for others: no" "$(cat "$work/who")"
same_net link
same "the ordinary server is a link's: the zone's name" "NOERROR 10.0.0.1" "$(cat "$work/answer")"
same "the drop-in's server" "zone asked: yes, for others: yes" "$(cat "$work/who")"
