#!/usr/bin/env bash
# Fail if the cache folder's disk has less than GIB free: space.sh GIB "what needs it"
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
mkdir -p "$cache"
free=$(($(df --output=avail --block-size=1M "$cache" | tail -1) / 1024))
[ "$free" -ge "$1" ] || {
  say "$2 needs $1 GiB of free disk space at $cache, but there are only $free GiB: remove files, or set TUNEGATE_CACHE"
  exit 1
}
