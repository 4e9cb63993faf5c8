# shellcheck shell=sh
# What scripts/check, scripts/test and scripts/demo have in common. Sourced by them.

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.venv/bin
unset PYTHONDONTWRITEBYTECODE # compiling the tests takes longer than collecting them

# What a Debian 12 needs: programs that qorch runs, programs that build the guests, and what the
# tests and the demo look at the host with.
packages="
python3 python3-venv
qemu-system-x86 qemu-utils dnsmasq-base
iproute2 nftables iptables iputils-ping isc-dhcp-client openssh-client util-linux procps
gcc binutils libc6-dev busybox-static
mmdebstrap debian-archive-keyring e2fsprogs dosfstools mtools grub-common
libarchive-tools
swtpm passt ovmf qemu-system-common lvm2 thin-provisioning-tools
"

say() {
	printf '%s\n' "== $*" >&2
}

die() {
	printf '%s\n' "error: $1" >&2
	[ $# -lt 2 ] || printf '%s\n' "hint: $2" >&2
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "$1 needs root: taps, bridges and network namespaces" "sudo $0"
}

# ensure_packages: install what is missing; without a word, and at once, when nothing is.
ensure_packages() {
	command -v dpkg-query >/dev/null || return 0 # not Debian: the programs are the user's business
	missing=
	for package in $packages; do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
		[ "$state" = installed ] || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || die "these packages are missing:$missing" "as root: apt-get install$missing"
	say "apt-get install$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update >&2
	# shellcheck disable=SC2086 # a list of packages
	apt-get -q -y --no-install-recommends install $missing >&2
}

# ensure_venv: .venv with this tree and its dev dependencies in it, anew when they change.
ensure_venv() {
	stamp=$root/.venv/stamp
	wanted="$root $(sha256sum <"$root/pyproject.toml")" # a venv cannot be moved
	[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
	mkdir -p "$root/.venv"
	(
		flock 9
		[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || exit 0 # someone else made it meanwhile
		say "installing qorch and its dev dependencies into .venv"
		[ -x "$bin/pip" ] || "${PYTHON:-python3}" -m venv "$root/.venv"
		"$bin/python" -m pip install --quiet --disable-pip-version-check -e "$root[dev]" >&2
		printf '%s\n' "$wanted" >"$stamp"
	) 9>"$root/.venv/lock"
}

# compile_all: bytecode for all; the test VM sees these files read-only, and compiles slowly.
compile_all() {
	"$bin/python" -m compileall -q "$root/qorch" "$root/qorch_net" "$root/qorch_storage" "$root/tests/lib"
}

# check_style: format, lint, types. Runs all three, then fails if one did.
check_style() {
	status=0
	say "ruff format --check"
	"$bin/ruff" format --check --quiet "$root" || status=1
	say "ruff check"
	"$bin/ruff" check --quiet "$root" || status=1
	say "mypy"
	(cd "$root" && "$bin/mypy") || status=1
	return $status
}
