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
        for unit in nats-server postgresql nginx apache2 haproxy tomcat10 postfix dovecot slapd squid prometheus; do
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

# next_release_ensure COMMAND PACKAGE: for a tool that this release has too old (or not at all), the package of the next release, unpacked below
# build/tools and put first on PATH; nothing of the system changes. Its archive is the one that apt uses here. "$3…" says, by its exit status,
# whether the command that is there will do.
next_release_ensure()
{
    local command=$1 package=$2 tools=$TOP/build/tools archive apt
    shift 2
    PATH=$tools/usr/bin:$PATH
    if "$@" >/dev/null 2>&1; then
        return
    fi
    say "fetching $package of the next Debian release"
    # shellcheck disable=SC2016  # the names between $( ) are apt's
    archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    [ -n "$archive" ] || die "apt knows no archive of Debian 12: run apt-get update, or install a newer $command"
    mkdir -p "$tools/apt/parts" "$tools/apt/lists/partial" "$tools/apt/cache/archives/partial"
    printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$archive" \
        >"$tools/apt/parts/next.sources"
    apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$tools/apt/parts" -o "Dir::State::lists=$tools/apt/lists"
        -o Dir::State::status=/dev/null -o "Dir::Cache=$tools/apt/cache" -o APT::Sandbox::User=root)
    (cd "$tools/apt" && "${apt[@]}" update && "${apt[@]}" download "$package" && dpkg-deb -x "$package"_*.deb "$tools") ||
        die "cannot fetch $package of the next Debian release from $archive: install a newer $command by other means"
    "$@" >/dev/null 2>&1 || die "$package of the next Debian release does not run here: install a newer $command by other means"
}

# A kubectl whose kustomize is 4 or later (Debian 12's kubectl is of 2020).
kubectl_ensure()
{
    next_release_ensure kubectl kubectl sh -c 'kubectl version --client | grep -q "^Kustomize Version: v[4-9]"'
}
