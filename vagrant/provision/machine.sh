#!/bin/bash
# A machine from nothing to its part of the sandbox: machine.sh NAME
. "$(dirname "$0")/lib.sh"

name=$1
read -r address role <<<"$(machine "$name")"
if [[ -z ${role:-} ]]; then
    echo "machines has no $name" >&2
    exit 64
fi

bash "$here/consul.sh" "$name" "$address" "$role"
bash "$here/$role.sh" "$name" "$address"
if [[ $name == "$(last_machine)" ]]; then
    bash "$here/ready.sh" "$name" "$address"
fi
