#!/usr/bin/env bash
# Build programs of the test cluster, once for each version: build.sh kube-apiserver etcd …, or build.sh node for
# all that a node needs.
# Prints their folder, which is outside the checkout. Its name is a digest of the sources.
set -euo pipefail
cd "$(dirname "$0")"

[ "$*" != node ] || set -- etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns pause helm
command -v go >/dev/null || { echo "the test cluster is built with Go: install Go 1.26 or newer" >&2; exit 1; }
# kube-state-metrics is no part of the cluster: a new version must not build the cluster again.
sources=.
[ "$*" != kube-state-metrics ] || sources=tools
built_from=$({ go version; cat $sources/*/go.mod $sources/*/go.sum; cat $sources/*/*.go 2> /dev/null || true; } | sha256sum | cut -c1-16)
bin=${TUNEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tunegate}/cluster-$built_from
mkdir -p "$bin"
touch "$bin" # marks the folder as in use, so that it is not removed below
is_built() { for program in "$@"; do [ -x "$bin/$program" ] || return 1; done; }
if is_built "$@"; then
  echo "$bin"
  exit
fi
# One builder runs at a time. Others wait, and then find the built programs.
exec 9>"$bin/.lock"
flock 9

is_built "$@" || ./space.sh 12 "building $*" # includes Go's build cache
find "$(dirname "$bin")" -maxdepth 1 -name 'cluster-*' -mtime +30 ! -path "$bin" -exec rm -rf {} +

version=$(sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\).*#\1#p' kubernetes/go.mod)
minor=${version#v*.}
stamp=k8s.io/component-base/version
kubernetes_flags="-X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
kubernetes_flags+=" -X k8s.io/client-go/pkg/version.gitVersion=$version"

renice --priority 10 $$ > /dev/null # building uses all cores for minutes, while tests may run
export GOGC=400 # with this and without debug information, the compiler needs a fifth less time, and more memory
for program in "$@"; do
  [ -x "$bin/$program" ] && continue
  echo "building $program (only once)" >&2
  flags="-s -w"
  case $program in
    etcd) module=etcd package=go.etcd.io/etcd/server/v3 ;;
    coredns) module=coredns package=. ;;
    helm) module=helm package=helm.sh/helm/v4/cmd/helm ;;
    pause) module=pause package=. ;;
    kube-state-metrics) module=tools/kube-state-metrics package=k8s.io/kube-state-metrics/v2 ;;
    *) module=kubernetes package=k8s.io/kubernetes/cmd/$program flags+=" $kubernetes_flags" ;;
  esac
  (cd "$module" && CGO_ENABLED=0 go build -trimpath -gcflags all=-dwarf=false -ldflags "$flags" -o "$bin/$program.new" "$package")
  mv "$bin/$program.new" "$bin/$program"
done
echo "$bin"
