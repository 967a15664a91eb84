#!/usr/bin/env bash
# Fail if a stopped test cluster left something on this machine, and print what it is.
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
left=$(
  ip -oneline link show tunegate 2> /dev/null || true
  find /sys/fs/cgroup -type d -name k8s.io
  awk -v below="$cache/" 'index($5, below) == 1 { print "a mount:", $5 }' /proc/self/mountinfo
  pgrep --full --list-full "$cache/" || true
  find "$node" "$scratch" -maxdepth 0 2> /dev/null || true
)
[ -z "$left" ] || { say "the stopped test cluster left these links, mounts, processes or folders behind:"; say "$left"; exit 1; }
