#!/bin/sh
# Builds src/key/native into dist/key/native/<arch>.node, where arch is Node's (x64, arm64, ...).
#
# One compiler call with the headers beside the running node: no node-gyp, no Python, no make, no download.
# Node-API keeps its ABI, so one build loads on every Node from 20 on. Where there is nothing to build with, it says so
# and succeeds: an installation must not fail for it, the daemon itself will refuse to start without the addon.
set -eu
cd "$(dirname "$0")/.."

cc=${CC:-cc}
node=$(node -p 'process.execPath')
arch=$("$node" -p 'process.arch')
headers=${node%/*}/../include/node
target=dist/key/native/$arch.node

skip() {
  echo "build-native: $1; the addon is not built" >&2
  echo "hint: $2, then: npm run prepare" >&2
  exit 0
}

command -v "${cc%% *}" >/dev/null ||
  skip "no C compiler ($cc)" "install one (Debian: gcc libc6-dev, Alpine: gcc musl-dev linux-headers, Fedora: gcc)"
[ -e "$headers/node_api.h" ] ||
  skip "no $headers/node_api.h" "install Node's headers (Debian: libnode-dev), or a Node from nodejs.org"
printf '#include <stdlib.h>\n#include <linux/inet_diag.h>\n' | $cc -E - >/dev/null 2>&1 ||
  skip "no headers of the C library or of Linux" "install them (Debian: libc6-dev, Alpine: musl-dev linux-headers)"

mkdir -p "${target%/*}"
unfinished=$target.$$
trap 'rm -f "$unfinished"' EXIT

# shellcheck disable=SC2086 # CC and CFLAGS are words
$cc -shared -fPIC -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra \
  -fvisibility=hidden -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
  -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--build-id=none -ffile-prefix-map="$PWD=." \
  ${CFLAGS:-} -I"$headers" src/key/native/*.c -o "$unfinished"
mv -f "$unfinished" "$target"
