# Sourced by the guest's scripts. They avoid starting programs where the shell can do it: under
# TCG each costs several milliseconds.

# say WORDS: one line "GUEST-WORDS t=UPTIME" on the console.
say() {
	read -r uptime _ </proc/uptime
	echo "GUEST-$* t=$uptime" >/dev/console
}

# knob NAME DEFAULT: the value of qorch.NAME=VALUE on the kernel command line.
knob() {
	read -r words </proc/cmdline
	for word in $words; do
		case $word in "qorch.$1="*)
			echo "${word#*=}"
			return
			;;
		esac
	done
	echo "$2"
}

# of FILE: its first line, or nothing where there is no such file.
of() {
	value=
	[ -e "$1" ] && read -r value <"$1"
	echo "$value"
}
