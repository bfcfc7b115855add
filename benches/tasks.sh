#!/usr/bin/env bash
# `beacon worker` beside `celery worker` on one Redis. See benches/README.md for what the rows mean and how to read them.

set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: benches/tasks.sh [--quick] [--rounds N] [--tasks N] [--only NAME] [--binary FILE] [--install]

  --quick         one round with fewer tasks
  --rounds N      how often each row is measured, in turns (default 3)
  --tasks N       how many tasks lie on the queue for `celery worker` (default 4000); Beacon gets five times as many
  --only NAME     celery or beacon: measure that one alone
  --binary FILE   measure this binary in place of a release build
  --install       only install what is needed, into target/bench
TEXT
}

rounds=3 tasks=4000 only="" binary="" install=""
while (($#)); do
    case $1 in
    --quick) rounds=1 tasks=1500 ;;
    --rounds) rounds=${2:?--rounds needs a number} && shift ;;
    --tasks) tasks=${2:?--tasks needs a number} && shift ;;
    --only) only=${2:?--only needs a name} && shift ;;
    --binary) binary=$(realpath -- "${2:?--binary needs a file}") && shift ;;
    --install) install=1 ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 64 ;;
    esac
    shift
done
[[ $only =~ ^(celery|beacon|)$ ]] || { usage >&2 && exit 64; }

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$repository"
cache=${BEACON_BENCH_CACHE:-$repository/target/bench}
applications=$repository/tests/celery/python

for tool in redis-server python3; do
    command -v "$tool" >/dev/null || { echo "tasks.sh: $tool is missing: packaging/prerequisites bench" >&2 && exit 69; }
done
mkdir -p "$cache"
if ! cmp -s "$applications/requirements.txt" "$cache/celery/made-of.txt"; then
    python3 -m venv --clear "$cache/celery"
    "$cache/celery/bin/pip" install --quiet --disable-pip-version-check -r "$applications/requirements.txt"
    cp "$applications/requirements.txt" "$cache/celery/made-of.txt"
fi
[[ -z $install ]] || exit 0

if [[ -z $binary && $only != celery ]]; then
    cargo build --release --bin beacon
    binary=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    binary=$(find "$binary" -path '*release/beacon' -type f | head -n 1)
fi

# Names that begin with BEACON_ are settings of the binary.
unset BEACON_BENCH_CACHE
PYTHONPATH=$repository/benches/tasks:$applications PYTHONDONTWRITEBYTECODE=1 exec "$cache/celery/bin/python" benches/tasks/measure.py \
    --rounds "$rounds" --tasks "$tasks" --only "$only" --binary "${binary:-none}"
