#!/bin/sh
# One-shot steps of compose.yaml, run as root in the bootstrap image: each is safe to run again. Every service gets a volume with
# its own credentials only. "certificates" is for cron: docker compose run --rm --no-deps pki certificates
set -eu
umask 077

# give OWNER TARGET FILE…
give()
{
    owner=$1 target=$2
    shift 2
    for file; do
        # A service that runs reads either the old file or the new one.
        new=$target/.${file##*/}.new
        cp "$file" "$new"
        chown "$owner:$owner" "$new"
        mv "$new" "$target/${file##*/}"
    done
    chown "$owner:$owner" "$target"
    chmod 0500 "$target"
}

give_all()
{
    cd /pki/clm
    for name in registry bootstrap tasks gateway; do
        give 10001 "/out/$name" "$name"/* roots.pem
    done
    give 10001 /out/gateway intermediates.pem
    give 10001 /out/ca ca/*
    give 10003 /out/nats bus/server.crt bus/server.key bus/ca.crt bus/users.conf
    give 10001 /out/admin roots.pem
    chmod 0700 /out/admin
}

case $1 in
passwords)
    for name in admin registry bootstrap tasks; do
        [ -s "/secrets/$name" ] || {
            head -c 32 /dev/urandom | base64 | tr -d '\n+/=' > "/secrets/$name.new"
            mv "/secrets/$name.new" "/secrets/$name"
        }
    done
    mkdir -p /out/postgresql
    cp /secrets/admin /out/postgresql/password
    chown -R 999:999 /out/postgresql
    ;;
pki)
    for name in registry bootstrap tasks; do
        cp "/secrets/$name" "/out/db-$name/password"
        chown -R 10001:10001 "/out/db-$name"
    done
    install -d -m 0700 -o 10001 -g 10001 /etc/clm/database
    cp /secrets/bootstrap /etc/clm/database/password
    sed "s|^gateway_address.*|gateway_address = $CLM_GATEWAY_NAME:8443|" /etc/clm/bootstrap.conf > /out/conf/bootstrap.conf
    chmod 0644 /out/conf/bootstrap.conf
    chmod 0755 /out/conf
    clm-bootstrap init --config /etc/clm/bootstrap.conf --dir /pki/clm --trust-domain "$CLM_TRUST_DOMAIN" \
        --gateway-name "$CLM_GATEWAY_NAME" --gateway-name localhost --bus-name clm-nats
    give_all
    chown 10003:10003 /out/nats-data
    ;;
certificates)
    clm-bootstrap renew-certificates --dir /pki/clm
    give_all
    ;;
bus)
    n=0
    until clm-bootstrap init-bus --url tls://clm-nats:4222 --ca /pki/clm/bus/ca.crt --password-file /pki/clm/bus/admin.pass; do
        n=$((n + 1))
        [ $n -lt 30 ] || exit 1
        sleep 1
    done
    ;;
*)
    echo "init.sh: unknown step $1" >&2
    exit 2
    ;;
esac
