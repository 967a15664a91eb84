#!/usr/bin/env bash
# Start a whole Kubernetes node on this machine. Needs Debian 12, root and Go. All its files are in the cache
# folder, and its processes in new namespaces; down.sh removes it.
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh

show() { say "the test cluster is running; to use it in this shell, run: eval \"\$(tests/cluster/env.sh)\""; }

mkdir -p "$cache"
exec 8> "$cache/up.lock"
flock 8 # a second call waits, and then finds a running node
if is_up && [ -e "$node/ready" ]; then
  show
  exit
fi
[ "$(id -u)" = 0 ] || { say "start the test cluster as root, because its kubelet starts containers"; exit 1; }
./packages.sh
./space.sh 3 "the test cluster"
bin=$(./build.sh node)

./down.sh 2>/dev/null  # removes the remains of a failed start or of a machine that was switched off
mkdir -p "$node"
echo "$bin" > "$node/bin"
cp -r config "$node/config"
./pki.sh "$node" $node_address

setsid unshare --mount --net --pid --fork --kill-child "$PWD/node.sh" > "$node/node.log" 2>&1 < /dev/null 8>&- &
outer=$!
until_true() { # SECONDS WHAT COMMAND…
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { say "timed out waiting until $what; see the logs in $node"; exit 1; }
    sleep 0.3
  done
}
until_true 10 "the node's first process starts" pgrep --parent $outer
pgrep --parent $outer > "$node/init.pid"
until_true 10 "the node's first process runs" is_up

# Connect this machine and the node with a veth pair, which disappears with the node.
ip link add tunegate type veth peer name host netns "$(cat "$node/init.pid")"
ip address add $host_address/30 dev tunegate
ip link set tunegate up
inside ip address add $node_address/30 dev host
inside ip link set host up
ip route add $pods via $node_address
ip route add $services via $node_address

eval "$(./env.sh)"
until_true 60 "the API server is ready" kubectl get --raw /readyz
until_true 30 "containerd answers" ctr version
./images.sh pause coredns > /dev/null
kubectl apply --filename coredns.yaml > /dev/null
until_true 60 "the node is ready" kubectl wait --for=condition=Ready node/node1 --timeout=1s
until_true 60 "the cluster's DNS is ready" \
  kubectl --namespace kube-system rollout status deployment/coredns --timeout=1s
touch "$node/ready"
show
