# The paths and addresses of the test cluster. The other scripts source this file.
# shellcheck shell=bash disable=SC2034
cache=${TUNEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tunegate}
node=$cache/node             # keys, sockets, logs and volumes of the running node; down.sh removes it
images=$cache/containerd     # images of pods; kept
scratch=$cache/images.new    # temporary files of images.sh, which removes them
node_address=10.245.0.1      # the address of the API server and the kubelet
host_address=10.245.0.2      # the address of this machine in the node's network
pods=10.244.0.0/24
services=10.96.0.0/16

say() { printf '%s\n' "$*" >&2; }

is_up() { [ -e "$node/init.pid" ] && grep -qsz node.sh "/proc/$(cat "$node/init.pid")/cmdline"; }

# Run a command in the node's process, mount and network namespaces.
inside() { nsenter --target "$(cat "$node/init.pid")" --mount --net --pid -- "$@"; }
