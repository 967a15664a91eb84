#!/usr/bin/env bash
# End a program of the node, which the node restarts: kill.sh kube-apiserver [KILL]
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
inside kill "-${2:-TERM}" "$(cat "$node/run/$1.pid")"
