#!/bin/sh
# Builds src/native into dist/native/<arch>.node, where arch is Node's (x64, arm64, ...).
#
#   build-native.sh               for this machine, in a checkout
#   build-native.sh --if-needed   for this machine, unless the build that came in the package loads here (npm install)
#   build-native.sh ARCH...       for glibc on each ARCH, with its cross compiler (npm pack)
#
# One compiler call with the headers beside the running node: no node-gyp, no Python, no make, no download.
# Node-API keeps its ABI, so one build loads on every Node from 20 on. Where there is nothing to build with, it says so
# and succeeds: an installation must not fail for it, the daemon itself will refuse to start without the addon.
set -eu
umask 022 # whoever packs or installs, any user may load it
cd "$(dirname "$0")/.."

node=$(node -p 'process.execPath')
arch=$("$node" -p 'process.arch')
headers=${node%/*}/../include/node

# missing WHAT HINT: says that an addon is not built, and why.
missing() {
  printf 'build-native: %s; the addon is not built\nhint: %s\n' "$1" "$2" >&2
}

# build ARCH COMPILER HINT
build() {
  target=dist/native/$1.node
  cc=$2
  if ! command -v "${cc%% *}" >/dev/null; then
    missing "no C compiler for $1 ($cc)" "$3"
    return
  fi
  if [ ! -e "$headers/node_api.h" ]; then
    missing "no $headers/node_api.h" "install Node's headers (Debian: libnode-dev, Alpine: nodejs-dev), or a Node from nodejs.org"
    return
  fi
  if ! printf '#include <stdlib.h>\n#include <linux/inet_diag.h>\n' | $cc -E - >/dev/null 2>&1; then
    missing "no headers of the C library or of Linux for $1" "$3"
    return
  fi

  mkdir -p "${target%/*}"
  unfinished=$target.$$
  trap 'rm -f "$unfinished"' EXIT
  # shellcheck disable=SC2086 # CC and CFLAGS are words
  $cc -shared -fPIC -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra \
    -fvisibility=hidden -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
    -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--build-id=none -s -ffile-prefix-map="$PWD=." \
    ${CFLAGS:-} -I"$headers" src/native/*.c -o "$unfinished"
  mv -f "$unfinished" "$target"
}

build_here() {
  build "$arch" "${CC:-cc}" 'install one (Debian: gcc libc6-dev, Alpine: gcc musl-dev linux-headers, Fedora: gcc), then build again'
}

loads_here() {
  "$node" -e 'process.dlopen({ exports: {} }, process.argv[1])' "$PWD/dist/native/$arch.node" 2>/dev/null
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
        x64) compiler=x86_64-linux-gnu-gcc packages='gcc-x86-64-linux-gnu libc6-dev-amd64-cross' ;;
        arm64) compiler=aarch64-linux-gnu-gcc packages='gcc-aarch64-linux-gnu libc6-dev-arm64-cross' ;;
        *) echo "build-native: unknown architecture $wanted" >&2 && exit 2 ;;
      esac
      build "$wanted" "$compiler" "without it $wanted machines compile at install; to have it built, install the compiler (Debian: $packages)"
    done
    ;;
esac
