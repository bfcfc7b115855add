#!/usr/bin/env bash
# The edge beside NGINX: the same files and certificate, two workers each, on this machine's loopback, in one run.
# See benches/README.md for what the rows mean and how to read them.

set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: benches/edge.sh [--quick] [--rounds N] [--seconds N] [--only beacon|nginx] [--binary FILE] [--bare]

  --quick         one round of two seconds a row
  --rounds N      how often each row is measured, in turns (default 3)
  --seconds N     how long each measurement lasts (default 5)
  --only NAME     measure one of the two
  --binary FILE   measure this binary in place of a release build
  --bare          neither sends security headers; otherwise both send Beacon's
TEXT
}

rounds=3 seconds=5 only="" binary="" bare=""
while (($#)); do
    case $1 in
    --quick) rounds=1 seconds=2 ;;
    --rounds) rounds=${2:?--rounds needs a number} && shift ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift ;;
    --only) only=${2:?--only needs beacon or nginx} && shift ;;
    --binary) binary=$(realpath -- "${2:?--binary needs a file}") && shift ;;
    --bare) bare=1 ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 64 ;;
    esac
    shift
done

case $only in
"") servers=(beacon nginx) ;;
beacon | nginx) servers=("$only") ;;
*) usage >&2 && exit 64 ;;
esac

# Nine minutes at most: six measurements of so many seconds and about five seconds of the rest, for each server and
# round, beside the start.
if [[ ! $rounds$seconds =~ ^[0-9]+$ ]] || ((rounds < 1 || seconds < 1 || rounds * (7 * seconds + 5) * ${#servers[@]} > 500)); then
    echo "edge.sh: $rounds rounds of $seconds seconds are none, or take more than ten minutes" >&2
    exit 64
fi

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$repository"
helper=(python3 "$repository/benches/edge.py")

for tool in openssl curl wrk h2load nginx python3 cargo; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || {
        echo "edge.sh: $tool is missing: apt-get install openssl curl wrk nghttp2-client nginx-light python3" >&2
        exit 69
    }
done
nginx=$(PATH=$PATH:/usr/sbin command -v nginx)

scratch=$(mktemp -d)
declare -A pid port
stop() {
    local name
    for name in "${!pid[@]}"; do
        kill -TERM "${pid[$name]}" 2>/dev/null || true
        wait "${pid[$name]}" 2>/dev/null || true
    done
    rm -rf -- "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

# ---- build

handshakes=$(cargo bench --quiet --bench handshakes --no-run --message-format=json |
    "${helper[@]}" executable handshakes)
if [[ -z $binary && $only != nginx ]]; then
    binary=$(cargo build --quiet --release --bin beacon --message-format=json | "${helper[@]}" executable beacon)
fi

# ---- files, certificate, configuration

mkdir -p "$scratch/www" "$scratch/state" "$scratch/nginx"
"${helper[@]}" text 1024 >"$scratch/www/1k.txt"
"${helper[@]}" text 102400 >"$scratch/www/100k.txt"
head -c 104857600 /dev/urandom >"$scratch/www/100m.bin"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
    -addext basicConstraints=critical,CA:FALSE -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
    -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>/dev/null
read -r beacon_port nginx_port operations < <("${helper[@]}" ports 3)
port=([beacon]=$beacon_port [nginx]=$nginx_port)

# The same answer from both, so that the clients read and decrypt the same number of bytes.
nginx_headers="add_header Cache-Control no-cache always; add_header X-Request-ID \$request_id always;"
beacon_headers=""
if [[ $bare ]]; then
    beacon_headers=$(printf '%s = ""\n' content_type_options frame_options referrer_policy cross_origin_opener_policy)
else
    nginx_headers+="
        add_header X-Content-Type-Options nosniff always;
        add_header X-Frame-Options SAMEORIGIN always;
        add_header Referrer-Policy strict-origin-when-cross-origin always;
        add_header Cross-Origin-Opener-Policy same-origin always;"
fi

cat >"$scratch/beacon.toml" <<TOML
[server]
state_dir = "$scratch/state"
workers = 2

[listen]
https = ["127.0.0.1:${port[beacon]}"]
http = []
operations = ["127.0.0.1:$operations"]
max_connections_per_client = 0

[managed]
postgres = "off"
redis = "off"

[tls.certificates.bench]
cert = "$scratch/cert.pem"
key = "$scratch/key.pem"

[log]
level = "warn"

[log.access]
output = "$scratch/beacon-access.log"
format = "combined"

[http.headers]
$beacon_headers

[mounts.bench]
path = "/"

[mounts.bench.site]
root = "$scratch/www"
TOML

cat >"$scratch/nginx.conf" <<NGINX
user $(id -un) $(id -gn);
daemon off;
worker_processes 2;
pid $scratch/nginx/pid;
error_log $scratch/nginx-error.log warn;
events { worker_connections 4096; }
http {
    types { text/plain txt; application/octet-stream bin; }
    log_format combined_bench '\$remote_addr - \$remote_user [\$time_local] "\$request" \$status \$body_bytes_sent "\$http_referer" "\$http_user_agent"';
    access_log $scratch/nginx-access.log combined_bench buffer=64k flush=1s;
    client_body_temp_path $scratch/nginx/body;
    proxy_temp_path $scratch/nginx/proxy;
    fastcgi_temp_path $scratch/nginx/fastcgi;
    uwsgi_temp_path $scratch/nginx/uwsgi;
    scgi_temp_path $scratch/nginx/scgi;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 1s;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    ssl_session_tickets on;
    ssl_certificate $scratch/cert.pem;
    ssl_certificate_key $scratch/key.pem;
    server {
        listen 127.0.0.1:${port[nginx]} ssl http2;
        server_name localhost;
        root $scratch/www;
        $nginx_headers
    }
}
NGINX

command_of() {
    case $1 in
    # A clean environment, so that a .env or BEACON_* of whoever runs this changes nothing.
    beacon) command=(env -i "PATH=$PATH" "HOME=$scratch" "$binary" serve --config "$scratch/beacon.toml") ;;
    nginx) command=("$nginx" -p "$scratch/nginx" -c "$scratch/nginx.conf") ;;
    esac
}

# ---- measure: each function prints one number

url() { echo "https://127.0.0.1:${port[$1]}/$2"; }

fail() {
    echo "edge.sh: $1" >&2
    exit 1
}

h1() {
    local out
    out=$(timeout 60 wrk -t 2 -c 64 -d "${seconds}s" "$(url "$1" "$2")")
    ! grep -qE 'Non-2xx|Socket errors' <<<"$out" || fail "wrk saw errors from $1: $out"
    awk '/Requests\/sec/ { print $2 }' <<<"$out"
}

h2() {
    local out
    out=$(timeout 60 h2load -t 2 -c 16 -m 16 -D "$seconds" --warm-up-time=1 "$(url "$1" "$2")")
    grep -qE '^status codes: [1-9][0-9]* 2xx, 0 3xx, 0 4xx, 0 5xx' <<<"$out" || fail "h2load saw errors from $1: $out"
    grep -q ' 0 errored' <<<"$out" || fail "h2load saw errors from $1: $out"
    grep -q 'Application protocol: h2' <<<"$out" || fail "$1 does not speak h2"
    awk '/^finished in/ { print $4 }' <<<"$out"
}

shake() { timeout 60 "$handshakes" "127.0.0.1:${port[$1]}" "$scratch/cert.pem" "$2" "$seconds"; }

download() {
    timeout 60 curl -sS --fail --cacert "$scratch/cert.pem" "--$2" -o /dev/null -w '%{speed_download}' "$(url "$1" 100m.bin)" |
        awk '{ print $1 / 1048576 }'
}

# The proportional share of memory of a process and its children, in MiB; pages shared by workers count once.
memory() {
    local each files=()
    for each in "${pid[$1]}" $(cat "/proc/${pid[$1]}/task/${pid[$1]}/children"); do
        files+=("/proc/$each/smaps_rollup")
    done
    awk -v want="$2:" '$1 == want { sum += $2 } END { print sum / 1024 }' "${files[@]}"
}

note() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$scratch/results.tsv"; }

measure() { # row, then a function with the server's name in place of @
    local row=$1 name value
    shift
    local order=("${servers[@]}")
    ((round % 2)) || order=("${servers[@]: -1}" "${servers[@]:0:${#servers[@]}-1}")
    for name in "${order[@]}"; do
        value=$("${@/#@/$name}")
        note "$row" "$name" "$value"
        echo "round $round: $row: $name $value" >&2
    done
}

# ---- run

round=1
for ((try = 0; try < 5; try++)); do
    for name in "${servers[@]}"; do
        command_of "$name"
        note "ready after exec, ms (less is better)" "$name" \
            "$(timeout 30 "${helper[@]}" ready "${port[$name]}" "$scratch/$name.log" "${command[@]}")"
    done
done

for name in "${servers[@]}"; do
    command_of "$name"
    "${command[@]}" >>"$scratch/$name.log" 2>&1 &
    pid[$name]=$!
    timeout 30 "${helper[@]}" wait "${port[$name]}" || fail "$name did not start: $(tail -n 5 "$scratch/$name.log")"
    note "memory idle, MiB PSS (less is better)" "$name" "$(memory "$name" Pss)"
    note "memory idle, MiB RSS summed (less is better)" "$name" "$(memory "$name" Rss)"
    coproc HOLD { timeout 60 "${helper[@]}" hold "${port[$name]}" 1000; }
    holder=$HOLD_PID
    exec {hold_out}<&"${HOLD[0]}" {hold_in}>&"${HOLD[1]}"
    read -r held <&"$hold_out" || true
    [[ ${held:-} == held ]] || fail "1,000 connections to $name could not be opened"
    note "memory with 1,000 idle connections, MiB PSS (less is better)" "$name" "$(memory "$name" Pss)"
    note "memory with 1,000 idle connections, MiB RSS summed (less is better)" "$name" "$(memory "$name" Rss)"
    exec {hold_in}>&- {hold_out}<&-
    kill -TERM "$holder" 2>/dev/null || true
    wait "$holder" 2>/dev/null || true
done

for name in "${servers[@]}"; do
    timeout 60 wrk -t 2 -c 64 -d 1s "$(url "$name" 100k.txt)" >/dev/null
done

for ((round = 1; round <= rounds; round++)); do
    measure "HTTP/1.1 keep-alive, 1 KiB, req/s" h1 @ 1k.txt
    measure "HTTP/1.1 keep-alive, 100 KiB, req/s" h1 @ 100k.txt
    measure "HTTP/2, 1 KiB, req/s" h2 @ 1k.txt
    measure "HTTP/2, 100 KiB, req/s" h2 @ 100k.txt
    measure "full handshakes/s (X25519)" shake @ full
    measure "resumed handshakes/s (X25519)" shake @ resumed
    measure "100 MiB download, HTTP/1.1, MiB/s" download @ http1.1
    measure "100 MiB download, HTTP/2, MiB/s" download @ http2
done

for name in "${servers[@]}"; do
    note "memory after the load, MiB PSS (less is better)" "$name" "$(memory "$name" Pss)"
done
if [[ $only != nginx ]]; then
    note "full handshakes/s (X25519MLKEM768)" beacon "$(shake beacon full-pq)"
fi

# ---- report

echo
echo "$(nproc) cores, $rounds rounds of $seconds s, $("$nginx" -v 2>&1 | sed 's/.*: //')," \
    "$([[ -z $binary ]] || "$binary" version 2>/dev/null | head -n 1)"
echo
"${helper[@]}" table <"$scratch/results.tsv"
