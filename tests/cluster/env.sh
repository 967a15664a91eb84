#!/usr/bin/env bash
# Print the environment of a shell that uses the test cluster: eval "$(tests/cluster/env.sh)"
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
is_up || { say "the test cluster is not running: start it with make cluster-up"; exit 1; }
cat <<EOF
export KUBECONFIG='$node/admin.kubeconfig'
export PATH='$(cat "$node/bin")':"\$PATH"
export TUNEGATE_TEST_HOST=$host_address
export CONTAINERD_ADDRESS='$node/containerd.sock' CONTAINERD_NAMESPACE=k8s.io
EOF
