# Where the test cluster keeps things. Sourced by the scripts beside it.
# shellcheck shell=bash disable=SC2034
cache=${TUNEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tunegate}
node=$cache/node             # the running node: keys, sockets, logs, volumes; gone with down.sh
images=$cache/containerd     # images that pods run from; stays
scratch=$cache/images.new    # what images are made in; gone with images.sh
node_address=10.245.0.1      # where the API server and the kubelet answer
host_address=10.245.0.2      # this machine, as the node sees it
pods=10.244.0.0/24
services=10.96.0.0/16

say() { printf '%s\n' "$*" >&2; }

is_up() { [ -e "$node/init.pid" ] && grep -qsz node.sh "/proc/$(cat "$node/init.pid")/cmdline"; }

# Run a command inside the node, where its processes, mounts and network are.
inside() { nsenter --target "$(cat "$node/init.pid")" --mount --net --pid -- "$@"; }
