#!/bin/sh
# sealed-podman.sh FOLDER COMMAND...: podman with all of its state below FOLDER, in a mount namespace of its own.
#
# crun does not work with the two cgroup hierarchies side by side that some machines have, so it sees the newer one alone.
# Needs root.
set -eu

case $1 in
  --inside)
    shift
    folder=$1
    shift
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -o bind "$folder" /mnt # podman wants a short path
    exec podman --root /mnt/storage --runroot /mnt/run --tmpdir /mnt/tmp --storage-driver vfs --cgroup-manager cgroupfs --events-backend none "$@"
    ;;
  *)
    exec unshare --mount --propagation private sh "$0" --inside "$@"
    ;;
esac
