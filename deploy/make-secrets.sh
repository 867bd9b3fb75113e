#!/bin/sh
# Make the secrets of compose.yaml in the folder `secrets` beside this file. What is there already is left as it is, so
# running it again is safe. Another folder may be given as the argument.
#
# Only you can enter the folder. The files in it can be read by everyone who could get there, because the services read
# them as users of their own.
set -eu
folder=${1:-$(cd "$(dirname "$0")" && pwd)/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

random() { # random BYTES: that many random bytes as hexadecimal
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}

secret() { # secret NAME VALUE: keep VALUE under NAME unless there is one
    [ -s "$folder/$1" ] && return
    printf '%s\n' "$2" >"$folder/$1.new"
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
}

secret postgres_password "$(random 24)"
secret database_url "postgresql://slipway:$(cat "$folder/postgres_password")@postgres:5432/slipway"
secret admin_password "$(random 12)"
secret master_key "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
secret s3_access_key "slipway-$(random 4)"
secret s3_secret_key "$(random 24)"

echo "The administrator's name is admin, the password is in $folder/admin_password."
