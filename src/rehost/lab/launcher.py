"""The scripts that run around a machine, in `sh` on the host."""

# Runs in a mount namespace of its own, so that the disk's mount and loop device go when it dies, however it dies.
# systemd-nspawn ends with 133 when the machine reboots.
LAUNCHER = """\
set -eu
disk=$1 root=$2 files=$3 groups=$4
shift 4

# Debian's image grows its file system to its disk at each boot. Here before it is mounted: on a mounted one it takes
# CAP_SYS_RESOURCE, which root may lack.
grow() {
    size=$(stat --format=%s "$disk")
    held=$(dumpe2fs -h "$disk" 2>/dev/null |
        awk '/^Block count:/ { n = $3 } /^Block size:/ { s = $3 } END { printf "%.0f", n * s }')
    if [ "$held" -eq 0 ] || [ "$held" -ge "$size" ]; then return; fi
    if resize2fs "$disk" >/dev/null 2>&1; then return; fi
    # It wants the file system checked first. Status 1: put right.
    said=$(e2fsck -fp "$disk" 2>&1) || [ $? = 1 ] || { echo "$said"; exit 1; }
    said=$(resize2fs "$disk" 2>&1) || { echo "$said"; exit 1; }
}

# A mount of the former boot may live a moment longer than its namespace's last process.
gone() {
    rest=1000
    while [ "$(cat "/sys/block/${device##*/}/loop/backing_file" 2>/dev/null)" = "$disk" ]; do
        rest=$((rest - 1))
        [ "$rest" -gt 0 ] || { echo "$device does not let go of $disk"; exit 1; }
        sleep 0.02
    done
}

# Swap outlives its machine. The kernel names a file as its dead namespace did, "/swap", as it does other machines':
# swapoff(8) refuses what is not swap.
swaps_off() {
    while read -r file kind _; do
        file=$root$(printf %b "$file")
        if [ "$kind" = file ] && [ -f "$file" ]; then swapoff "$file" 2>/dev/null || :; fi
    done < /proc/swaps
    while read -r _ numbers _; do
        if [ "$numbers" != / ]; then
            swapoff "/dev/$(basename "$(readlink "/sys/dev/block/$numbers")")" 2>/dev/null || :
        fi
    done < "$files/../disks"
}

while :; do
    grow
    device=$(losetup --find --show "$disk")
    mount "$device" "$root"
    losetup --detach "$device"  # from now on it goes with its last mount
    cp -R "$files/." "$root/"
    status=0
    (for group in $groups; do echo 0 > "$group"; done; exec "$@") || status=$?
    swaps_off
    umount "$root"
    [ "$status" = 133 ] || exit "$status"
    gone
done
"""

# What happens before the system starts; faults of the boot are ordered by lines in the file.
POWER_ON = """\
if [ -s "$0" ]; then
    act=$(head -n 1 "$0")
    sed -i 1d "$0"
    eval "$act"
fi
exec "$@"
"""
