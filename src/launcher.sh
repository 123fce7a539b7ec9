#!/bin/sh
# The door into the daemon: the same process, with nothing of the caller's environment but an allowlist.
#
# It has to happen before node starts. By the time a script runs, NODE_OPTIONS has loaded its --require, NODE_DEBUG
# prints headers, LD_PRELOAD is inside, and /proc/PID/environ shows OPENAI_API_KEY for as long as the process lives.
# Every step is an exec or a builtin, so pid and stdin stay those of the command that was started.
set -u

fail() {
  printf 'responses-api-proxy: %s\nhint: %s\n' "$1" "$2" >&2
  exit "$3"
}

[ -r "/proc/$$/status" ] || fail 'runs on Linux only' 'it relies on memfd_secret, prctl and sock_diag' 1

# Not the caller's readlink: it would have the key on its stdin.
self=$(PATH=/usr/bin:/bin readlink -f -- "$0" </dev/null) || fail "cannot find its own files from $0" 'start it by its full path' 1
root=${self%/*/*}

# The first node on PATH that is a plain program. Empty and relative entries are passed over:
# they would let the current folder choose the program that is about to hold the key.
node=
rest=${PATH-}:
while [ -n "$rest" ]; do
  folder=${rest%%:*}
  rest=${rest#*:}
  case $folder in
    *=*) continue ;; # `env` would take the program's path for an assignment
    /*) ;;
    *) continue ;;
  esac
  if [ -f "$folder/node" ] && [ -x "$folder/node" ]; then
    node=$folder/node
    break
  fi
done
[ -n "$node" ] || fail 'found no node on PATH' 'install Node.js 20.19 or later' 1
[ -f "$root/dist/main.js" ] || fail 'is not built' "run: npm ci, in $root" 1

# Node resets every signal to its default at start, so what nohup or a background job had ignored must be handed on.
ignored=0
while read -r name value; do
  case $name in SigIgn:) ignored=$value ;; esac
done < "/proc/$$/status"

# A SIGUSR1 that comes before our listener opens node's debugger port. It cannot be bound to an address that no machine
# has (192.0.2.0/24 is for documentation, RFC 5737).
#
# Most objects made here are gone at once: to collect them with a thread for each core costs more CPU than it saves time.
# Flags that size the heap would save memory, and make node throw away the code cache of its own modules: 24 ms at start.
set -- "RESPONSES_API_PROXY_IGNORED_SIGNALS=$ignored" "$node" --no-warnings --inspect-port=192.0.2.1:9229 --single-threaded-gc \
  "$root/dist/main.js" "$@"

# Names alone, not `env -i NAME=value`: arguments are open to every user, and HTTPS_PROXY may hold a password.
names=$(PATH=/usr/bin:/bin awk 'BEGIN { for (name in ENVIRON) print name }' </dev/null)
[ -n "$names" ] || fail 'cannot list its environment' 'install awk' 1 # its status tells as much of a closed stderr
set -f
IFS='
'
for name in $names; do
  case $name in
    HTTPS_PROXY | https_proxy | NO_PROXY | no_proxy) ;;
    LISTEN_FDS | LISTEN_PID) ;; # socket activation, sd_listen_fds(3)
    *) set -- -u "$name" "$@" ;;
  esac
done

exec /usr/bin/env "$@"
