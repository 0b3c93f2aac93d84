#!/bin/sh
# Pins one group of requirements, hashes included: compile.sh UV GROUP. `make lock` calls it.
# The result names no package index, so it works with whichever one a machine is set up for.
set -eu
uv=$1
group=$2
case "$group" in
# `make serve` installs every extra. setuptools builds the project itself, without a network.
run) set -- ../pyproject.toml setuptools.in --extra all ;;
# The tools share the environment of the server: its pins hold for them too.
dev) set -- --group ../pyproject.toml:dev --constraint run.txt ;;
*) set -- --group "../pyproject.toml:$group" ;;
esac
exec "$uv" pip compile "$@" --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command "make lock" --upgrade --quiet --output-file "$group.txt"
