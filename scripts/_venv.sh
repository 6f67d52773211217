# The virtual environment of the checkout; sourced by the other scripts, from bash with -euo pipefail.
#
#   use_venv [EXTRAS]     make sure that $venv has tpops with these extras ("check,test"), editable
#   as_root COMMAND...    run as root, directly or by sudo without a password; false when neither works
#
# $TPOPS_VENV names another place than .venv; $PYTHON another python3; TPOPS_NO_INSTALL=1 takes the
# environment as it is.  Nothing is installed, and no network needed, while setup.cfg and pyproject.toml
# are those of the last time.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${TPOPS_VENV:-$checkout/.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE...: install from Debian or Ubuntu and start no services.
apt_install() {
    command -v apt-get >/dev/null || { say "no apt-get here; please install: $*"; return 1; }
    as_root true || { say "please install as root: apt-get install $*"; return 1; }
    local guard=/usr/sbin/policy-rc.d made='' status=0
    if [ ! -e "$guard" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
        as_root chmod 755 "$guard"
        made=yes
    fi
    say "installing $*"
    as_root apt-get update -qq >&2 || say "apt-get update failed, going on with the lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 || status=$?
    [ -z "$made" ] || as_root rm -f "$guard"
    return "$status"
}

# find_python: the name of a Python that is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "tpops needs Python 3.11 or newer; none found as ${PYTHON:-python3} (set PYTHON to name another)"
    return 1
}

make_venv() {
    local python version
    python=$(find_python) || return 1
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "Python's venv module is incomplete: package python$version-venv is missing"
        apt_install "python$version-venv" || apt_install python3-venv || return 1
    fi
    say "making the virtual environment $venv"
    "$python" -m venv "$venv"
}

# build_mysqlclient: the library of the extra [mysql] is built from source; without it the tests of MySQL are left out.
build_mysqlclient() {
    local missing=() pair
    if "$venv/bin/python" -c 'import MySQLdb' 2>/dev/null; then
        return
    fi
    for pair in gcc:gcc mariadb_config:libmariadb-dev pkg-config:pkg-config; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    if { [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}"; } && "$venv/bin/python" -m pip install -q --config-settings editable_mode=compat -e "$checkout[mysql]"; then
        return
    fi
    say "mysqlclient cannot be built here; the tests of MySQL are left out"
    [ "${CI:-}" != true ]
}

use_venv() {
    local extras=${1:-} stamp sum
    if [ "${TPOPS_NO_INSTALL:-}" = 1 ]; then
        return
    fi
    stamp=$venv/.tpops-installed
    sum=$(cat "$checkout/setup.cfg" "$checkout/pyproject.toml" | sha256sum | cut -c 1-64)
    # One line "SUM EXTRAS CHECKOUT" for each set of extras; all of them have the base.
    if [ -x "$venv/bin/python" ] && [ -e "$stamp" ]; then
        if grep -qxF "$sum ${extras:-base} $checkout" "$stamp"; then
            return
        fi
        if [ -z "$extras" ] && grep -qE "^$sum .* $checkout\$" "$stamp"; then
            return
        fi
    fi
    "$venv/bin/python" -c 'import pip' 2>/dev/null || make_venv
    say "installing tpops${extras:+[$extras]} into $venv"
    "$venv/bin/python" -m pip install -q --config-settings editable_mode=compat -e "$checkout${extras:+[$extras]}"
    if [[ ,$extras, == *,test,* ]]; then
        build_mysqlclient
    fi
    if [ -e "$stamp" ] && grep -q "^$sum .* $checkout\$" "$stamp"; then
        printf '%s %s %s\n' "$sum" "${extras:-base}" "$checkout" >>"$stamp"
    else
        printf '%s %s %s\n' "$sum" "${extras:-base}" "$checkout" >"$stamp"
    fi
}
