"""Files of the machines' Debian 12 that no package brings: what hardware and udev would have done."""

from __future__ import annotations

# cgroup v1: systemd-nspawn mounts the controllers read-only; dockerd needs to make cgroups below the machine's.
# A machine sets its own network's parameters (sysctl net.*); all others are the host's.
# lxcfs: /proc shows the machine's memory and processors instead of the host's.
HARDWARE_SCRIPT = """\
#!/bin/sh
for controller in /sys/fs/cgroup/*/; do
    case $controller in */systemd/ | */unified/) continue ;; esac
    if mountpoint -q "$controller"; then mount -o remount,rw,bind "$controller"; fi
done
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,rw,bind /proc/sys/net
for file in meminfo cpuinfo stat uptime loadavg diskstats; do
    if [ -e /var/lib/lxcfs/proc/$file ]; then mount --bind /var/lib/lxcfs/proc/$file /proc/$file; fi
done
if [ -e /var/lib/lab-disks ]; then /usr/local/sbin/lab-disks; fi
# systemd leaves the disks of /etc/fstab alone in a container; on the machine that this stands for, it does not.
mount --all --fstab /etc/fstab
# The kernel's list names other machines' swap too.
if [ -e /var/lib/lab-swaps ]; then mount --bind /var/lib/lab-swaps /proc/swaps; fi
# As is swap.
swapon --all
"""
# udev, which would do this, does not run in a container. A line of the list: node, major:minor or "/", name.
DISKS_SCRIPT = """\
#!/bin/sh
set -eu
mkdir -p /dev/disk/by-id
wanted=
while read -r node numbers name; do
    wanted="$wanted $node "
    if [ "$numbers" = / ]; then numbers=$(mountpoint -d /); fi
    if [ "$(stat --format=%Hr:%Lr "/dev/$node" 2>/dev/null || :)" != "$numbers" ]; then
        rm -f "/dev/$node"
        mknod --mode=660 "/dev/$node" b "${numbers%:*}" "${numbers#*:}"
        chgrp disk "/dev/$node"
    fi
    ln -sfn "../../$node" "/dev/disk/by-id/google-$name"
    ln -sfn "../../$node" "/dev/disk/by-id/scsi-0Google_PersistentDisk_$name"
done < /var/lib/lab-disks
for node in /dev/sd*; do
    case $wanted in *" ${node#/dev/} "*) ;; *) rm -f "$node" ;; esac
done
find /dev/disk/by-id -xtype l -delete
"""
SCRIPTS = {"usr/local/sbin/lab-hardware": HARDWARE_SCRIPT, "usr/local/sbin/lab-disks": DISKS_SCRIPT}
BASE_FILES = {
    **SCRIPTS,
    "etc/systemd/system/lab-hardware.service": """\
[Unit]
Description=What the hardware of this machine would do
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-hardware

[Install]
WantedBy=sysinit.target
""",
    # Google's images send the daemons' messages to the serial port, by rsyslog.
    "etc/systemd/journald.conf.d/90-serial-port.conf": """\
[Journal]
ForwardToConsole=yes
MaxLevelConsole=info
""",
    # Flags, not daemon.json: that file is the app's to write, and dockerd refuses a key given in both.
    "etc/systemd/system/docker.service.d/90-lab-mirror.conf": """\
[Service]
EnvironmentFile=-/etc/default/lab-docker
""",
}
