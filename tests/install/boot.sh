# Becomes PID 1 of a machine: runs in fresh pid, mount, uts, ipc, net and cgroup namespaces.
# $LOWER is the file tree, $STATE the folder of this machine, $NAME its name.
set -e
mount --make-rprivate /
root=$STATE/root
mkdir -p "$root" "$STATE/upper" "$STATE/work"
if ! mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$STATE/upper,workdir=$STATE/work" "$root"; then
    [ -e "$root/usr" ] || cp -a "$LOWER/." "$root"
    mount --bind "$root" "$root"
fi
cd "$root"

# What belongs to the real machine's kernel is read-only; the network's settings are our own.
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
for file in proc/sysrq-trigger proc/kcore proc/kmsg; do
    [ ! -e "$file" ] || mount --bind dev/null "$file"
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755,nosuid devices dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755,nosuid,nodev run run
mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp

mkdir -p .old
pivot_root . .old
umount -l .old
rmdir .old
mount --make-rshared / # as systemd expects it
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container="$NAME" LANG=C.UTF-8 \
    /lib/systemd/systemd --log-target=journal-or-kmsg --show-status=0
