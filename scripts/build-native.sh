#!/bin/sh
# Builds src/native into dist/native: the addon, <arch>.node, where arch is Node's (x64, arm64, ...), and the starter,
# starter-<machine>, where machine is what `uname -m` says (x86_64, aarch64, ...).
#
#   build-native.sh               for this machine, in a checkout
#   build-native.sh --if-needed   for this machine, unless the build that came in the package loads here (npm install)
#   build-native.sh ARCH...       for glibc on each ARCH, with its cross compiler (npm pack)
#
# One compiler call with the headers beside the running node: no node-gyp, no Python, no make, no download.
# Node-API keeps its ABI, so one build loads on every Node from 20 on. Where there is nothing to build with, it says so
# and succeeds: an installation must not fail for it, the daemon itself will refuse to start without what is missing.
set -eu
umask 022 # every user may run what is built, whatever umask it is built under
cd "$(dirname "$0")/.."

node=$(node -p 'process.execPath')
arch=$("$node" -p 'process.arch')
machine=$(uname -m)
headers=${node%/*}/../include/node

# missing WHAT HINT: says why nothing is built.
missing() {
  printf 'build-native: %s; the addon is not built\nhint: %s\n' "$1" "$2" >&2
}

# compile TARGET ARGUMENT...
compile() {
  target=$1
  shift
  mkdir -p "${target%/*}"
  unfinished=$target.$$
  trap 'rm -f "$unfinished"' EXIT
  # shellcheck disable=SC2086 # CC and CFLAGS are words
  $cc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
    -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--build-id=none -s -ffile-prefix-map="$PWD=." \
    ${CFLAGS:-} "$@" -o "$unfinished"
  mv -f "$unfinished" "$target"
}

# The sources that the starter shares with the addon. The addon has all but starter*.c.
shared="src/native/filter.c src/native/hardening.c"

# build ARCH MACHINE COMPILER HINT
build() {
  cc=$3
  if ! command -v "${cc%% *}" >/dev/null; then
    missing "no C compiler for $1 ($cc)" "$4"
    return
  fi
  if [ ! -e "$headers/node_api.h" ]; then
    missing "no $headers/node_api.h" "install Node's headers (Debian: libnode-dev, Alpine: nodejs-dev), or a Node from nodejs.org"
    return
  fi
  if ! printf '#include <stdlib.h>\n#include <linux/inet_diag.h>\n' | $cc -E - >/dev/null 2>&1; then
    missing "no headers of the C library or of Linux for $1" "$4"
    return
  fi

  # shellcheck disable=SC2046 # no file of ours has a space in its name
  compile "dist/native/$1.node" -shared -fPIC -fvisibility=hidden -I"$headers" $(find src/native -name '*.c' ! -name 'starter*')
  # A static program starts faster and runs with any C library. Where libc.a is missing (Fedora), link dynamically.
  static=-static
  printf 'int main(void) { return 0; }\n' | $cc -x c -static -o /dev/null - 2>/dev/null || static=
  # shellcheck disable=SC2086 # a list of files, and one flag or none
  compile "dist/native/starter-$2" $static src/native/starter*.c $shared
}

build_here() {
  build "$arch" "$machine" "${CC:-cc}" 'install one (Debian: gcc libc6-dev, Alpine: gcc musl-dev linux-headers, Fedora: gcc), then build again'
}

# Without arguments the starter prints its usage and exits with 2.
loads_here() {
  "$node" -e 'process.dlopen({ exports: {} }, process.argv[1])' "$PWD/dist/native/$arch.node" 2>/dev/null || return
  "dist/native/starter-$machine" 2>/dev/null || [ $? = 2 ]
}

case ${1-} in
  '')
    build_here
    ;;
  --if-needed)
    # In a checkout npm runs this too, and `prepare` afterwards, which builds from what the sources are now.
    if [ ! -e src/main.ts ] && ! loads_here; then
      (build_here) || missing 'the compiler failed' 'see its messages above'
    fi
    ;;
  *)
    for wanted; do
      case $wanted in
        x64) machine=x86_64 compiler=x86_64-linux-gnu-gcc packages='gcc-x86-64-linux-gnu libc6-dev-amd64-cross' ;;
        arm64) machine=aarch64 compiler=aarch64-linux-gnu-gcc packages='gcc-aarch64-linux-gnu libc6-dev-arm64-cross' ;;
        *) echo "build-native: unknown architecture $wanted" >&2 && exit 2 ;;
      esac
      build "$wanted" "$machine" "$compiler" "without it $wanted machines compile at install; to have it built, install the compiler (Debian: $packages)"
    done
    ;;
esac
