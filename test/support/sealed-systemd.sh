#!/bin/sh
# sealed-systemd.sh FOLDER: boots the machine's systemd as process 1 of a world of its own, until stdin ends.
#
#   FOLDER/units   the only units there are; default.target is started
#   FOLDER/shared  is /shared in there: for what has to come in or go out
#
# It must not touch the machine: its root is an overlay in memory, which ends with it; /tmp, /run, /dev and /proc are its
# own, /sys and /proc/sys cannot be written; no unit or generator of the machine is read; its cgroup is one of ours.
# Only the network is the machine's, without the right to change it. Needs root. Says `sealed` once it is process 1's turn.
set -eu

case ${2-} in
  '')
    exec unshare --mount --propagation private sh "$0" "$1" outside
    ;;

  outside)
    # A mount namespace of our own. The cgroup is made in here, and the machine's are out of sight from the next step on.
    world=$1/world
    mkdir -p "$world"
    mount -t tmpfs -o mode=755 tmpfs "$world"
    mkdir "$world/upper" "$world/work" "$world/root" "$world/cgroup"
    mount -t overlay -o "lowerdir=/,upperdir=$world/upper,workdir=$world/work" overlay "$world/root"
    mount -t cgroup2 cgroup2 "$world/cgroup"
    cgroup=$world/cgroup/sealed-systemd-$$
    mkdir "$cgroup"
    # Killing process 1 ends all of its world.
    (
      echo 0 > "$cgroup/cgroup.procs"
      exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child --propagation private sh "$0" "$1" inside
    ) </dev/null &
    inside=$!
    cat >/dev/null # until nobody needs it any more
    kill -KILL "$inside"
    wait "$inside" 2>/dev/null || :
    # The kernel takes a moment to end all of them, and a cgroup has to be empty to go.
    tries=100
    until find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || [ "$tries" = 0 ]; do
      tries=$((tries - 1))
      sleep 0.05
    done
    ;;

  inside)
    root=$1/world/root
    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
    for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
      IFS=: read -r name major minor <<END
$device
END
      mknod -m 666 "$root/dev/$name" c "$major" "$minor"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -s "/proc/self/${link#*:}" "$root/dev/${link%%:*}"; done
    for folder in dev/shm run tmp var/tmp; do
      mkdir -p "$root/$folder"
      mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"
    done
    chmod 755 "$root/run"
    # Nobody but us says what is started.
    for folder in usr/lib/systemd/system-generators etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
    mkdir -p "$root/run/units" "$root/shared"
    cp "$1"/units/* "$root/run/units"
    mkdir -p "$root/run/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\n' > "$root/run/systemd/journald.conf.d/sealed.conf"
    mount -o bind "$1/shared" "$root/shared"

    cd "$root"
    mkdir before
    pivot_root . before
    umount --lazy /before
    # Among the namespaces in here mounts have to spread: this is how credentials reach a service.
    mount --make-rshared /
    echo sealed
    exec env -i container=sealed PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/run/units \
      setpriv --bounding-set -net_admin,-sys_module,-sys_time,-sys_rawio,-sys_boot,-syslog,-audit_control,-audit_read,-audit_write,-mac_admin,-mac_override,-wake_alarm \
      /usr/lib/systemd/systemd --system --unit=default.target --log-target=console --show-status=no
    ;;
esac
