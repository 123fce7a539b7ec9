#!/bin/sh
# build.sh FOLDER: builds the helpers beside this script into FOLDER (deny-syscalls, memory-scan, touch.node).
set -eu
folder=$1
cd "$(dirname "$0")"

cc=${CC:-cc}
headers=$(node -p 'require("node:path").resolve(process.execPath, "../../include/node")')
flags='-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror'

mkdir -p "$folder"
$cc $flags deny-syscalls.c -o "$folder/deny-syscalls"
$cc $flags memory-scan.c -o "$folder/memory-scan"
$cc $flags -shared -fPIC -I"$headers" touch.c -o "$folder/touch.node"
