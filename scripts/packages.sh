# shellcheck shell=bash
# Installs what is missing of scripts/packages.txt, and only then touches apt. Sourced by ./dev.

# The packages of the named purposes that dpkg does not hold.
packages_missing()
{
    local wanted have purpose package command
    wanted=$(while read -r purpose package command; do
        case " $* " in
        *" $purpose "*) [ -n "$command" ] && command -v "$command" >/dev/null || printf '%s\n' "$package" ;;
        esac
    done < <(grep '^[a-z]' "$TOP/scripts/packages.txt") | sort -u)
    # dpkg-query fails for a package that it never heard of, which is the very thing to find out.
    # shellcheck disable=SC2086  # one word a package
    have=$({ dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null || true; } | awk '$1 == "installed" { print $2 }' | sort -u)
    comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$have")
}

as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "need root to install packages: run as root or install sudo"
    fi
}

# A package that brings a server must not start it: this machine's services are not ours.
packages_install()
{
    local policy=/usr/sbin/policy-rc.d ours=no rc=0 unit
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    {
        as_root apt-get -q update </dev/null &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" </dev/null
    } || rc=$?
    if [ "$ours" = yes ]; then
        as_root rm -f "$policy"
    fi
    [ "$rc" -eq 0 ] || die "apt-get could not install: $*"
    if [ -d /run/systemd/system ]; then
        for unit in nats-server postgresql nginx apache2 haproxy tomcat10 postfix dovecot; do
            case " $* " in
            *" $unit"*) as_root systemctl disable --quiet "$unit" || die "cannot disable $unit.service, which the package enabled" ;;
            esac
        done
    fi
}

# packages_ensure PURPOSE…
packages_ensure()
{
    local missing
    command -v dpkg-query >/dev/null || die "this is not a Debian system: install what scripts/packages.txt lists by other means, then use cmake --preset release"
    mapfile -t missing < <(packages_missing "$@")
    if [ "${#missing[@]}" -gt 0 ]; then
        say "installing ${#missing[@]} packages: ${missing[*]}"
        packages_install "${missing[@]}"
        mapfile -t missing < <(packages_missing "$@")
        [ "${#missing[@]}" -eq 0 ] || die "still not installed: ${missing[*]}"
    fi
}
