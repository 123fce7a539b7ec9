#!/bin/sh
# Finds node and executes the starter (native/starter.c), which sets up the sandbox and becomes node.
#
# This has to happen before node starts. By the time a script runs, NODE_OPTIONS has loaded its --require, NODE_DEBUG
# prints headers, LD_PRELOAD is inside, and /proc/PID/environ shows OPENAI_API_KEY for as long as the process lives.
# The pid and stdin stay those of the command that was started.
set -u

fail() {
  printf 'responses-api-proxy: %s\nhint: %s\n' "$1" "$2" >&2
  exit "$3"
}

[ -r "/proc/$$/status" ] || fail 'runs on Linux only' 'it relies on memfd_secret, prctl and sock_diag' 1

# Not the caller's PATH. NixOS and Guix keep programs in /run only.
tools=/usr/bin:/bin:/run/current-system/sw/bin:/run/current-system/profile/bin

# Without our stdin, which holds the key.
self=$(PATH=$tools readlink -f -- "$0" </dev/null) || fail "cannot find its own files from $0" 'start it by its full path' 1
root=${self%/*/*}

# The first node on PATH that is an executable file. Skip empty and relative entries: with them the current folder would
# choose the program that gets the key.
node=
rest=${PATH-}:
while [ -n "$rest" ]; do
  folder=${rest%%:*}
  rest=${rest#*:}
  case $folder in
    /*) ;;
    *) continue ;;
  esac
  if [ -f "$folder/node" ] && [ -x "$folder/node" ]; then
    node=$folder/node
    break
  fi
done
[ -n "$node" ] || fail 'found no node on PATH' 'install Node.js 20.19 or later' 1
program=$(PATH=$tools readlink -f -- "$node" </dev/null)
case ${program##*/} in
  node | nodejs | node[-0-9]*) ;;
  *) (fail "$node is ${program##*/}: if it starts node, the sandbox forbids that" 'put the folder of the real node first on PATH; node -p process.execPath names it' 0) ;; # only the subshell ends
esac
[ -f "$root/dist/main.js" ] || fail 'is not built' "run: npm ci, in $root" 1

# A SIGUSR1 before our listener is set opens node's debugger port. That fails on an address that no machine has
# (192.0.2.0/24 is for documentation, RFC 5737).
#
# Most of our objects are short-lived; collecting them on several threads costs more CPU than it saves time. Flags that
# size the heap would save memory, but node then discards the code cache of its own modules: 24 ms at start.
set -- "$node" --no-warnings --inspect-port=192.0.2.1:9229 --single-threaded-gc "$root/dist/main.js" "$@"

starter=$root/dist/native/starter-$(PATH=$tools uname -m)
# If exec fails, the shell exits and runs the trap; bash does not, unless execfail is set. What is no ELF file must not get
# that far: a shell runs it as a script.
# shellcheck disable=SC2089 # the quotes are for who reads the hint
build="install a C compiler, then: sh '$root/scripts/build-native.sh'"
# shellcheck disable=SC2090
trap 'fail "its native part is missing or does not run here" "$build" 3' EXIT
# shellcheck disable=SC3044 # only bash gets here
[ -z "${BASH_VERSION-}" ] || shopt -s execfail
magic=
{ IFS= read -r magic <"$starter"; } 2>/dev/null
case $magic in
  ?ELF*) exec "$starter" "$@" ;;
esac
exit 3
