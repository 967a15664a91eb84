#!/usr/bin/env bash
# Stop the test cluster and remove its files. Built programs and images stay in the cache.
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh

if is_up; then
  init=$(cat "$node/init.pid")
  kill -KILL "$init"  # the kernel then ends every process, mount and network device of the node
  for _ in $(seq 100); do
    [ -e "/proc/$init" ] || break
    sleep 0.1
  done
  [ ! -e "/proc/$init" ] || { say "the node's first process, $init, did not end within 10 s"; exit 1; }
fi
for _ in $(seq 50); do  # the last processes of pods have ended when their control groups are empty
  find /sys/fs/cgroup -depth -type d -path '*/k8s.io*' -exec rmdir {} + 2>/dev/null || true
  [ -n "$(find /sys/fs/cgroup -type d -name k8s.io -print -quit)" ] || break
  sleep 0.1
done
for _ in $(seq 100); do  # the veth pair disappears with the node's network namespace
  ip link show tunegate > /dev/null 2>&1 || break
  sleep 0.1
done
if ip link show tunegate > /dev/null 2>&1; then ip link delete tunegate; fi
rm -rf --one-file-system "$node"
say "the test cluster is stopped"
