#!/usr/bin/env bash
# Fail unless the cache folder's disk has room: space.sh GIB "what for"
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
mkdir -p "$cache"
free=$(($(df --output=avail --block-size=1M "$cache" | tail -1) / 1024))
[ "$free" -ge "$1" ] || {
  say "$2 needs $1 GiB of disk at $cache, and $free GiB are free: make room, or set TUNEGATE_CACHE"
  exit 1
}
