#!/bin/sh
# The page /: plain text, one "key: value" per line.
. /lib/guest.sh
printf 'Content-Type: text/plain\r\n\r\n'
read -r _ memory _ </proc/meminfo
read -r uptime _ </proc/uptime
echo "hostname: $(hostname)"
echo "kernel: $(uname -r)"
echo "cpus: $(nproc)"
echo "memory_kib: $memory"
echo "uptime: $uptime"
for path in /sys/class/net/*; do
	name=${path##*/}
	[ "$name" = lo ] && continue
	# shellcheck disable=SC2046 # "2: eth0 inet 10.0.0.2/24 …" as words
	set -- $(ip -o -4 addr show dev "$name")
	echo "nic $name: $(of "$path/address") ${4:--}"
done
for path in /run/disk/*; do
	[ -e "$path" ] && echo "disk ${path##*/}: $(of "$path")"
done
