#!/usr/bin/env bash
# Builds SQLite's own test tools from the sources that fetch.sh got: build.sh DIR leaves testfixture,
# mptester, speedtest1 and kvtest in DIR/build. Each runs on plain files, or, when
# PAGESTORE_SUITE_EXTENSION names the extension, on pagestore (glue.c).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(cd "$1" && pwd)
build=$dir/build
INIT=-DSQLITE_EXTRA_INIT=pagestore_suite_init
[ -e "$dir/source/configure" ] || { echo "build.sh: run ./dev.sh setup first" >&2; exit 1; }

# Several test processes may come at once.
exec 9>"$dir/lock"
flock 9
inputs=$(cat "$here"/{build.sh,glue.c,tcl.c} "$dir/source/manifest.uuid" | sha256sum)
[ "$(cat "$build/inputs" 2>/dev/null)" != "$inputs" ] || exit 0
rm -rf "$build"
mkdir -p "$build"
cd "$build"

step() { "$@" >>log 2>&1 || { tail -n 30 log >&2; echo "build.sh: failed: $*" >&2; exit 1; }; }

step "$dir/source/configure" --disable-readline --enable-all CFLAGS=-O1
step make sqlite3.c opcodes.h
cat >suite.mk <<'MAKE'
TESTFIXTURE_FLAGS += -UTCLSH_INIT_PROC -DTCLSH_INIT_PROC=pagestore_suite_tcl
MAKE
tcl=$(grep -o -m 1 -- '-I[^ ]*/tcl[0-9.]*' Makefile)
step cc -O1 -I. "$tcl" -c "$here/glue.c" "$here/tcl.c"
libs=$(sed -n 's/^LIBS *= *//p' Makefile)
testfixture() {
    step make -f Makefile -f suite.mk OPTS="$INIT" LIBS="$build/glue.o $build/tcl.o $libs" testfixture
}
tools() {
    local source=$dir/source
    # As applications have it: Debian's options that change what reaches a VFS.
    step cc -O2 -DSQLITE_ENABLE_RTREE -DSQLITE_ENABLE_FTS5 $INIT -I. -c sqlite3.c -o tools.o
    step cc -O2 -DSQLITE_ENABLE_RTREE -I. -o speedtest1 "$source/test/speedtest1.c" tools.o glue.o -lm -ldl -lpthread
    step cc -O2 -I. -o kvtest "$source/test/kvtest.c" tools.o glue.o -lm -ldl -lpthread
    step cc -O2 -I. -o mptester "$source/mptest/mptest.c" tools.o glue.o -lm -ldl -lpthread
}
testfixture &
tools
wait $!
echo "$inputs" >inputs
