#!/usr/bin/env bash
# Gets Debian's sources of SQLite, with the test suites that Debian builds it with: fetch.sh DIR
# puts them in DIR/source. apt checks signature and hashes; its settings and lists are left alone.
set -euo pipefail

# One release for everybody, whatever they run: suites differ between versions, and so would what is
# said of them in exclusions.txt.
RELEASE=bookworm
VERSION=3.40.1
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

mkdir -p "$1"
dir=$(cd "$1" && pwd)
[ "$(cat "$dir/source/VERSION" 2>/dev/null)" != "$VERSION" ] || exit 0

# Where Debian is: where this system gets it from, or, on another one, where debootstrap would.
mirror() {
    local targets
    targets=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)')
    sed -n '/^Debian Debian /{s///p;q}' <<<"$targets" | grep . ||
        sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' /usr/sbin/debootstrap
}
mirror=$(mirror)

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt"/{parts,lists/partial,cache/archives/partial,download}
cat >"$apt/parts/debian.sources" <<SOURCES
Types: deb-src
URIs: $mirror
Suites: $RELEASE
Components: main
Signed-By: $KEYRING
SOURCES
# Root's apt would drop its rights, and then could not write here.
own_apt() {
    apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/parts" \
        -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
own_apt update >"$apt/log" 2>&1 || { cat "$apt/log" >&2; exit 1; }
cd "$apt/download"
own_apt source --download-only sqlite3 >"$apt/log" 2>&1 || { cat "$apt/log" >&2; exit 1; }
dpkg-source --extract sqlite3_*.dsc "$apt/source" >"$apt/log" 2>&1 || { cat "$apt/log" >&2; exit 1; }
found=$(cat "$apt/source/VERSION")
if [ "$found" != "$VERSION" ]; then
    echo "fetch.sh: $RELEASE has SQLite $found, but the suites are described for $VERSION" >&2
    exit 1
fi
rm -rf "$dir/source" "$dir/build"
mv "$apt/source" "$dir/source"
