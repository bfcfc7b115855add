# shellcheck shell=bash
# The part of `make deploy` that runs on the host, as root. packaging/deploy/run sends it to `bash -s` over ssh, so that
# nothing has to be installed there first; what a verb reads (a package, an .env file) follows it in the same stream.
# It needs what Debian's base has: bash, coreutils, findutils, sed, tar, dpkg, apt, util-linux, systemd.
#
# The one thing that must not stop half-way is the installation. It runs as a job of its own, which survives the
# connection, and which goes back to the previous package by itself unless it is told that the new one is healthy: a cut
# connection or a closed laptop ends with the version that was known to be good.
#
# Exit codes: 0, 1 it failed, 64 usage, 69 something is unavailable, 75 locked, 78 the configuration is refused.

# main calls the verbs by their names, which shellcheck cannot see.
# shellcheck disable=SC2317

set -euo pipefail
umask 077
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /

place=/var/cache/beacon-deploy
keep=5

main() {
    # "address port port", as sshd says it: sudo takes the variable away, so it comes as an argument.
    client=${1%% *}
    local verb=$2
    shift 2
    case $verb in
    survey | hold | receive | choose | candidate | begin | follow | decide | serving | audit) "$verb" "$@" ;;
    env-install | env-diff | doctor | status | logs | backup) "verb_${verb//-/_}" "$@" ;;
    *) fail 64 "there is no verb $verb on the host's side" ;;
    esac
}

fail() {
    local code=$1
    shift
    printf '%s\n' "$*" >&2
    exit "$code"
}

fact() {
    printf '%s=%s\n' "$1" "$2"
}

enter() {
    install -d -m 0700 -o root -g root "$place"
}

# --- What the host is -------------------------------------------------------------------------------------------------

# survey RELEASE|-: facts for the preflight. Reads only.
survey() {
    local key value os='' release='' free installed base
    while IFS='=' read -r key value; do
        value=${value#[\"\']} value=${value%[\"\']}
        case $key in
        ID) os=$value ;;
        VERSION_ID) release=$value ;;
        esac
    done </etc/os-release
    fact os "$os"
    fact release "$release"
    fact architecture "$(dpkg --print-architecture)"
    fact clock "$(date +%s)"
    fact systemd "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
    if [ -d /run/systemd/system ]; then fact booted yes; else fact booted no; fi
    for value in /usr /var/cache; do
        { read -r _ && read -r _ _ _ free _; } < <(df -Pk "$value")
        fact "free${value//\//_}" "$((free / 1024))"
    done
    fact port_80 "$(holder_of 80 beacon-http.socket)"
    fact port_443 "$(holder_of 443 beacon-https.socket)"
    fact addresses "$(hostname -I 2>/dev/null || true)"
    installed=$(installed_version)
    fact installed "${installed:--}"
    fact package_state "$(package_state)"
    # The release that the installed package belongs to, without the commit that packaging/deb adds between releases.
    base=${installed%%[~+]git*}
    if [ "$1" != - ] && [ -n "$base" ] && dpkg --compare-versions "$1" lt "${base%-*}"; then
        fact older yes
    else
        fact older no
    fi
    if [ -e "$place/lock" ] && ! flock -n "$place/lock" true; then
        fact locked "$(tr '\n' ' ' <"$place/owner" 2>/dev/null || true)"
    fi
}

# holder_of PORT SOCKET-UNIT: "free", "beacon", or the names of the programs that listen there. From /proc, because `ss`
# is not on every host.
holder_of() {
    local hex at state inode file name names=''
    printf -v hex '%04X' "$1"
    while read -r _ at _ state _ _ _ _ _ inode _; do
        [[ $state = 0A && $at = *:$hex ]] || continue
        while IFS= read -r file; do
            file=${file#/proc/}
            name=$(cat "/proc/${file%%/*}/comm" 2>/dev/null || true)
            if [ "$name" = systemd ] && systemctl is-active --quiet "$2"; then name=beacon; fi
            [[ -z $name || " $names " = *" $name "* ]] || names+="${names:+ }$name"
        done < <(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\\[$inode\\]" 2>/dev/null || true)
        [ -n "$names" ] || names=unknown
    done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true)
    printf '%s\n' "${names:-free}"
}

installed_version() {
    # dpkg-query fails for a package that it has never heard of.
    { dpkg-query -W -f='${db:Status-Status} ${Version}\n' beacon 2>/dev/null || true; } |
        sed -n '/^not-installed /d;/^config-files /d;s/^[^ ]* //p'
}

package_state() {
    dpkg-query -W -f='${db:Status-Status}' beacon 2>/dev/null || printf 'not-installed'
}

# --- The lock ---------------------------------------------------------------------------------------------------------

# hold WHO VERB WHY: holds the lock as long as lines come in. The kernel gives the lock back when this process ends,
# whatever ends it, and it ends by itself when the other side has been silent for a minute.
hold() {
    enter
    exec 9>>"$place/lock"
    if ! flock -w 3 9; then
        printf 'Another deployment to this host is under way:\n' >&2
        sed 's/^/  /' "$place/owner" >&2 2>/dev/null || true
        printf 'Wait for its end. The lock is given back by itself within a minute if its connection has died.\n' >&2
        exit 75
    fi
    exec 8>>"$place/work"
    if ! flock -n 8; then
        fail 75 "An installation that an earlier deployment began, and did not see the end of, still runs on this host. Wait for it; it writes to $place/job/log."
    fi
    exec 8>&-
    printf 'who:   %s\nfrom:  %s\nverb:  %s\nwhy:   %s\nsince: %s\n' "$1" "$client" "$2" "$3" "$(date -u +%FT%TZ)" >"$place/owner"
    echo locked
    while IFS= read -r -t 60 _; do :; done
    rm -f "$place/owner"
}

# --- Packages ---------------------------------------------------------------------------------------------------------

# receive SHA256 BYTES: takes a package from standard input, verifies it, keeps it, and says what it is.
receive() {
    local sum=$1 bytes=$2 file package version architecture name
    enter
    # Left by a connection that broke.
    find "$place" -maxdepth 1 -name '.receiving.*' -mmin +60 -delete
    incoming=$(mktemp "$place/.receiving.XXXXXX")
    trap 'rm -f "$incoming"' EXIT
    head -c "$bytes" >"$incoming"
    file=$incoming
    [ "$(stat -c %s "$file")" = "$bytes" ] ||
        fail 69 "The package has not come whole: $(stat -c %s "$file") bytes of $bytes. Nothing was changed."
    [ "$(sha256sum <"$file")" = "$sum  -" ] ||
        fail 1 "The package that came has another SHA-256 than the one that was sent. Nothing was changed."
    { read -r package && read -r version && read -r architecture; } < <(
        dpkg-deb -f "$file" Package && dpkg-deb -f "$file" Version && dpkg-deb -f "$file" Architecture
    ) || fail 1 "What came is not a Debian package. Nothing was changed."
    [ "$package" = beacon ] || fail 1 "The package is $package, not beacon. Nothing was changed."
    [ "$architecture" = "$(dpkg --print-architecture)" ] ||
        fail 1 "The package is for $architecture, and this host is $(dpkg --print-architecture). Nothing was changed."
    [[ $version =~ ^[A-Za-z0-9.+~:-]+$ ]] || fail 1 "The package has a version that cannot be. Nothing was changed."
    # Two builds may have the same version; their sums part them.
    name=beacon_${version//:/%3a}_$architecture.${sum:0:12}.deb
    mv -f "$file" "$place/$name"
    describe "$name"
}

# choose VERSION|-: the kept package to go back to, the one before the installed one if none is named.
choose() {
    local wanted=$1 installed line name found=''
    enter
    installed=$(kept_of_installed)
    if [ "$wanted" = - ]; then
        while IFS= read -r line; do
            if [ "$line" != "$installed" ] && [ -e "$place/$line" ]; then
                found=$line
                break
            fi
        done < <(from_installed "$installed")
        [ -n "$found" ] || fail 69 "No earlier package is kept on this host. $(kept_list)"
    else
        while IFS= read -r name; do
            [ -n "$found" ] || [ "$(version_of "$name")" != "$wanted" ] || found=$name
        done < <(kept)
        [ -n "$found" ] || fail 69 "The package of version $wanted is not kept on this host. $(kept_list)"
    fi
    describe "$found"
}

# from_installed FILE: the history from the entry before FILE's last one backwards, the newest first.
from_installed() {
    local installed=$1 lines=() index last
    [ ! -e "$place/history" ] || mapfile -t lines <"$place/history"
    last=${#lines[@]}
    for ((index = ${#lines[@]} - 1; index >= 0; index--)); do
        if [ "${lines[index]}" = "$installed" ]; then
            last=$index
            break
        fi
    done
    for ((index = last - 1; index >= 0; index--)); do printf '%s\n' "${lines[index]}"; done
}

# kept: the names of the kept packages, the newest first.
kept() {
    find "$place" -maxdepth 1 -name 'beacon_*.deb' -printf '%T@ %f\n' | sort -rn | cut -d' ' -f2-
}

kept_list() {
    local name list=''
    while IFS= read -r name; do list+="${list:+, }$(version_of "$name")"; done < <(kept)
    printf 'Kept are: %s.' "${list:-none}"
}

version_of() {
    local name=${1#beacon_}
    name=${name%%_*}
    printf '%s\n' "${name//%3a/:}"
}

# kept_of_installed: the kept package that is the installed one, to the byte, or nothing.
kept_of_installed() {
    local version name sums
    version=$(installed_version)
    [ -n "$version" ] || return 0
    sums=$(dpkg-query --control-show beacon md5sums 2>/dev/null || true)
    while IFS= read -r name; do
        [ "$(version_of "$name")" = "$version" ] || continue
        if [ "$sums" = "$(dpkg-deb --ctrl-tarfile "$place/$name" | tar -xO ./md5sums 2>/dev/null || true)" ]; then
            printf '%s\n' "$name"
            return 0
        fi
    done < <(kept)
}

# describe FILE: what the package is, beside the installed one; and the one to go back to should it not do, which is the
# installed one, or if that is broken, the last one that was found healthy.
describe() {
    local version installed current previous
    version=$(version_of "$1")
    installed=$(installed_version)
    current=$(kept_of_installed)
    previous=$current
    if [ "$(package_state)" != installed ]; then
        previous=$(tail -n 1 "$place/history" 2>/dev/null || true)
        [ -e "$place/$previous" ] || previous=
    fi
    fact file "$1"
    fact version "$version"
    fact sha256 "$(sha256sum "$place/$1" | cut -d' ' -f1)"
    fact installed "${installed:--}"
    fact previous "${previous:--}"
    if [ "$current" = "$1" ] && [ "$(package_state)" = installed ]; then fact same yes; else fact same no; fi
    if [ -n "$installed" ] && dpkg --compare-versions "$version" lt "$installed"; then fact older yes; else fact older no; fi
}

# candidate FILE: lets the program in the package check this host's configuration, before anything is installed.
candidate() {
    local code=0 program options=()
    folder=$(mktemp -d "$place/.candidate.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    dpkg-deb --fsys-tarfile "$place/$1" | tar -x -C "$folder" --no-same-owner ./usr/bin/beacon ||
        fail 1 "The package has no /usr/bin/beacon. Nothing was changed."
    # As the package's postinst does it when the time has come.
    [ ! -e /etc/beacon/beacon.toml ] || options+=(--config /etc/beacon/beacon.toml)
    [ ! -e /etc/beacon/beacon.env ] || options+=(--env-file /etc/beacon/beacon.env)
    program=$(clean 30 "$folder/usr/bin/beacon" version) ||
        fail 1 "The new program does not run on this host. Nothing was changed. Is $place on a file system that is mounted with noexec?"
    program=${program%%$'\n'*}
    clean 120 "$folder/usr/bin/beacon" check "${options[@]}" >&2 || code=$?
    [ "$code" -eq 0 ] ||
        fail 78 "The new version refuses the configuration of this host (exit code $code); what it says stands above. Nothing was changed, and the running version goes on."
    program=${program#beacon }
    fact program "${program%% *}"
}

# clean SECONDS COMMAND...: without the variables of the login, of which BEACON_... would be read as configuration.
clean() {
    local limit=$1
    shift
    timeout -k 5 "$limit" env -i PATH="$PATH" STATE_DIRECTORY=/var/lib/beacon "$@" </dev/null
}

# --- The installation -------------------------------------------------------------------------------------------------

# begin FILE PREVIOUS|- MODE WAIT FACTS: starts the job. MODE is deploy or rollback, which wait WAIT seconds for a
# decision, or configure, which does not. FACTS is the beginning of the audit line.
begin() {
    local file=$1 previous=$2
    [ -e "$place/$file" ] || fail 69 "The package $file is not on this host any more."
    [ "$previous" = - ] || [ -e "$place/$previous" ] || fail 69 "The package $previous is not on this host any more."
    exec 8>>"$place/work"
    flock -n 8 || fail 75 "Another installation runs on this host. Nothing was changed."
    rm -rf "$place/job"
    mkdir "$place/job"
    printf '0' >"$place/job/seen"
    turn installing "from $(installed_version) to $(version_of "$file")"
    { declare -f; declare -p place keep client PATH; printf 'job "$@"\n'; } >"$place/job/run"
    # Descriptor 8, the lock on the work, goes to the job; our input and output do not, or ssh would wait for them.
    setsid bash "$place/job/run" "$@" </dev/null >"$place/job/log" 2>&1 &
    exec 8>&-
}

job() {
    local file=$1 previous=$2 mode=$3 wait=$4 facts=$5 decision reason='' end
    set -uo pipefail
    export LC_ALL=C
    trap '' HUP INT PIPE
    # Ours is not for what maintainer scripts make.
    umask 022
    if ! put "$file"; then
        # As a whole before the way back adds its own lines.
        journal_tail
        go_back "$previous" "$facts" "the installation failed"
        return
    fi
    if [ "$mode" != configure ]; then
        turn installed "$(version_of "$file") waits to be found healthy"
        end=$((SECONDS + wait))
        while [ -z "$reason" ]; do
            # The lock first: a decision that came before the other side left is then seen.
            if flock -n "$place/lock" true; then reason="the deploying side is gone and has not said that the new version is healthy"; fi
            decision=$(cat "$place/job/decision" 2>/dev/null)
            case $decision in
            confirm) break ;;
            refuse*) reason=${decision#refuse } ;;
            esac
            if [ "$SECONDS" -ge "$end" ]; then reason="nobody has said within $wait s that the new version is healthy"; fi
            [ -n "$reason" ] || sleep 0.5
        done
        if [ "$decision" != confirm ]; then
            journal_tail
            go_back "$previous" "$facts" "$reason"
            return
        fi
    fi
    record "$file" "$mode"
    report "$facts" ok ''
    turn confirmed "$(version_of "$file") is installed"
}

# put FILE: installs it. The operator's configuration stays; suggested packages (PostgreSQL, Redis) are the operator's
# to choose; other services are not restarted for our sake.
put() {
    if [ "$(package_state) $(installed_version)" = "half-configured $(version_of "$1")" ]; then
        # apt-get has no words for this but "Internal Error".
        timeout -k 30 900 env DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold -i "$place/$1" 8>&- || return 1
    else
        apt_install "$place/$1" || return 1
    fi
    [ "$(package_state)" = installed ] && [ "$(installed_version)" = "$(version_of "$1")" ]
}

apt_install() {
    timeout -k 30 900 env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get install -q -y --no-install-recommends --reinstall --allow-downgrades \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        "$1" 8>&-
}

# go_back PREVIOUS|- FACTS REASON
go_back() {
    local previous=$1 facts=$2 reason=$3
    if [ "$previous" = - ]; then
        printf 'There is no previous package to go back to: %s.\n' "$reason"
        report "$facts" failed "$reason"
        turn stuck "$reason; no previous package is kept"
        return
    fi
    turn returning "to $(version_of "$previous"): $reason"
    printf 'Going back to %s: %s.\n' "$(version_of "$previous")" "$reason"
    if put "$previous"; then
        report "$facts" returned "$reason"
        turn returned "$reason; back at $(version_of "$previous")"
    else
        report "$facts" stuck "$reason; the previous package could not be installed"
        turn stuck "$reason; the previous package could not be installed either"
    fi
}

journal_tail() {
    printf -- '--- the journal of beacon@*, its last 40 lines ---\n'
    journalctl -u 'beacon@*' -n 40 --no-pager -o short-iso 2>&1 || true
    printf -- '---\n'
}

# record FILE MODE: the history of what was found healthy, oldest first. Going back cuts off what was gone back from, so
# that the next rollback goes further back instead of forth again.
record() {
    local file=$1 lines=() index previous name count=0
    [ ! -e "$place/history" ] || mapfile -t lines <"$place/history"
    if [ "$2" = rollback ]; then
        for ((index = ${#lines[@]} - 1; index >= 0; index--)); do
            if [ "${lines[index]}" = "$file" ]; then
                lines=("${lines[@]:0:index}")
                break
            fi
        done
    fi
    if [ "${#lines[@]}" -eq 0 ] || [ "${lines[-1]}" != "$file" ]; then lines+=("$file"); fi
    printf '%s\n' "${lines[@]}" | tail -n 20 >"$place/history.new"
    mv -f "$place/history.new" "$place/history"
    touch "$place/$file"
    previous=
    [ "${#lines[@]}" -lt 2 ] || previous=${lines[-2]}
    while IFS= read -r name; do
        count=$((count + 1))
        [ "$count" -le "$keep" ] || [ "$name" = "$file" ] || [ "$name" = "$previous" ] || rm -f "$place/$name"
    done < <(kept)
}

# turn STATE NOTE: what the job has come to. In one step, because others read it.
turn() {
    printf '%s\n%s\n%s\n' "$1" "$2" "$(date -u +%FT%TZ)" >"$place/job/state.new"
    mv -f "$place/job/state.new" "$place/job/state"
}

# follow STATE...: prints the job's log until it has come to one of the states, and says which on the last line.
follow() {
    local state size seen wanted=" $* " dead=''
    while :; do
        # The state before the log, so that all that led to the state is printed.
        state=$(head -n 1 "$place/job/state")
        size=$(stat -c %s "$place/job/log")
        seen=$(cat "$place/job/seen")
        # In this order: the log grows meanwhile, and what is cut off by its reader ends us, with pipefail.
        head -c "$size" "$place/job/log" | tail -c "+$((seen + 1))" >&2
        printf '%s' "$size" >"$place/job/seen"
        if [[ $wanted = *" $state "* ]]; then break; fi
        if [ -n "$dead" ]; then
            state=dead
            break
        fi
        # Nobody holds the work: one more look, since it may have come to its end in between.
        if flock -n "$place/work" true; then dead=yes; else sleep 0.3; fi
    done
    fact state "$state"
    fact note "$(sed -n 2p "$place/job/state")"
}

# decide confirm, decide refuse REASON
decide() {
    printf '%s\n' "$*" >"$place/job/decision.new"
    mv -f "$place/job/decision.new" "$place/job/decision"
}

# serving VERSION: whether a slot serves that version, with the program that is installed now. Two builds may have one
# version, so the running file counts, too: the kernel marks one that was replaced as deleted.
serving() {
    local version=$1 end=$((SECONDS + 20)) said='' slot pid why pattern
    pattern='"version"[[:space:]]*:[[:space:]]*"'${version//./\\.}'"'
    while :; do
        why="beacon status says: ${said:-nothing}"
        said=$(timeout 10 beacon status --json 2>&1 </dev/null | tr '\n' ' ') || true
        while IFS= read -r slot; do
            [[ $slot =~ $pattern ]] || continue
            [[ $slot =~ \"state\"[[:space:]]*:[[:space:]]*\"serving\" ]] || continue
            [[ $slot =~ \"pid\"[[:space:]]*:[[:space:]]*([0-9]+) ]] || continue
            pid=${BASH_REMATCH[1]}
            if [[ $(readlink "/proc/$pid/exe" 2>/dev/null) = *' (deleted)' ]]; then
                why="process $pid runs a program of that version that is not the installed one any more"
                continue
            fi
            return 0
        done < <(printf '%s\n' "$said" | sed 's/"slot"[[:space:]]*:/\n&/g')
        if [ "$SECONDS" -ge "$end" ]; then break; fi
        sleep 1
    done
    fail 1 "Version $version does not serve on this host: $why"
}

# --- The record -------------------------------------------------------------------------------------------------------

# audit FACTS RESULT REASON
audit() {
    report "$@"
}

report() {
    logger -t beacon-deploy -p user.notice -- "$1 from=$client result=$2${3:+ reason=\"$3\"}" || true
}

# --- The small verbs --------------------------------------------------------------------------------------------------

# Installs the .env file on standard input. A service keeps the file that it started with, so a change needs a hand-over.
verb_env_install() {
    local code=0
    needs_beacon
    # A memory file system, and gone with this process.
    file=$(mktemp /run/beacon-env.XXXXXX)
    trap 'rm -f "$file"' EXIT
    cat >"$file"
    timeout 60 beacon env diff - <"$file" >/dev/null 2>&1 || code=$?
    if [ "$code" -ne 0 ]; then
        timeout 120 beacon env install - <"$file" ||
            fail 78 "The .env file is refused; what is wrong with it stands above. The one on the host stays as it was."
    else
        echo "The .env file on the host is the same."
        if systemctl is-active --quiet beacon@a.service || systemctl is-active --quiet beacon@b.service; then return 0; fi
    fi
    if ! timeout 180 beacon handover --timeout 90s </dev/null; then
        if [ "$code" -eq 0 ]; then fail 1 "Beacon does not start; why stands above."; fi
        timeout 60 beacon env rollback </dev/null ||
            fail 1 "Beacon does not start with the new .env file, and the earlier one could not be put back: look at  beacon env list"
        fail 1 "Beacon does not start with the new .env file. The earlier one is back in its place, and what served before goes on."
    fi
}

verb_env_diff() {
    needs_beacon
    timeout 60 beacon env diff -
}

verb_doctor() {
    needs_beacon
    timeout 120 beacon doctor </dev/null
}

# status plain|json
verb_status() {
    local code=0
    needs_beacon
    if [ "$1" = json ]; then exec timeout 30 beacon status --json </dev/null; fi
    timeout 30 beacon status </dev/null || code=$?
    if [ -e "$place/job/state" ]; then
        { read -r state && read -r note && read -r when; } <"$place/job/state"
        printf 'last deployment: %s (%s), %s\n' "$state" "$note" "$when"
    fi
    exit "$code"
}

# logs LINES FOLLOW
verb_logs() {
    if [ "$2" = 1 ]; then
        exec journalctl -u 'beacon@*' --no-pager -n "$1" -f </dev/null
    fi
    exec journalctl -u 'beacon@*' --no-pager -n "$1" </dev/null
}

verb_backup() {
    needs_beacon
    exec beacon backup - </dev/null
}

needs_beacon() {
    command -v beacon >/dev/null || fail 69 "Beacon is not installed on this host. Run  make configure  first."
}

# The rest of the stream is a verb's input: exit before bash takes it for commands.
main "$@"; exit $?
