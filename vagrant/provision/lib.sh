# What the scripts here share. Each may be run again to the same effect.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scope=ha
zone=pg.test

# The columns of a machine, or of all machines of a role: name address role.
machine() { sed 's/#.*//' "$here/machines" | awk -v name="$1" '$1 == name { print $2, $3 }'; }
addresses() { sed 's/#.*//' "$here/machines" | awk -v role="$1" '$3 == role { print $2 }'; }
last_machine() { sed 's/#.*//' "$here/machines" | awk 'NF { name = $1 } END { print name }'; }

say() { echo "==> $*"; }

# Installs what is missing, and asks the mirror only then.
packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if (( ${#missing[@]} > 0 )); then
        say "installing ${missing[*]}"
        apt-get update --quiet=2
        apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}"
    fi
}

# Writes standard input to a file; true where that has changed something.
put() {
    local file=$1 new
    new=$(mktemp)
    cat > "$new"
    if cmp --silent "$new" "$file"; then
        rm "$new"
        return 1
    fi
    install -D --mode "${2:-0644}" "$new" "$file"
    rm "$new"
}

# Runs a command until it succeeds, for as many seconds.
until_true() {
    local seconds=$1 end
    shift
    end=$((SECONDS + seconds))
    until "$@"; do
        if (( SECONDS >= end )); then
            echo "still not so after $seconds s: $*" >&2
            return 1
        fi
        sleep 0.2
    done
}
