#!/bin/sh
# Installs one lock file into an environment and says what it does: install.sh PYTHON LOCK. The Makefile calls it.
# uv is used where it works, because it is ten times as fast; pip says one line for each package.
set -eu
python=$1
lock=$2

# A lock file names everything. Left to look for dependencies, pip finds a newer release of `coverage[toml]` than the
# locked `coverage`, and refuses it for want of a hash.
if uv --version >/dev/null 2>&1 && uv pip install --python "$python" --no-deps --require-hashes -r "$lock"; then
    exit 0
fi

# The status of pip, not that of awk, is what counts.
result=$(mktemp)
trap 'rm -f "$result"' EXIT
total=$(grep -c '==' "$lock")
{
    "$python" -m pip install --disable-pip-version-check --progress-bar off --no-deps --require-hashes -r "$lock" &&
        echo ok >"$result"
} | awk -v total="$total" '
    /^(Collecting|Requirement already satisfied)/ { name = $1 == "Collecting" ? $2 : $4; printf "  %d/%d %s\n", ++n, total, name; fflush() }
    /^Installing/ { print "  unpacking ..."; fflush() }'
grep -q ok "$result"
