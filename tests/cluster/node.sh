#!/usr/bin/env bash
# The node's first process, which up.sh starts in new namespaces. It mounts the folders that the node writes to,
# and restarts any program of the node that ends, as a service manager would.
set -euo pipefail
source "$(dirname "$0")/paths.sh"
bin=$(cat "$node/bin")

mount --make-rshared /
mount -t proc proc /proc
mkdir -p "$images" "$node"/{kubelet,logs,pods,run}
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/{run/tunegate,lib/containerd,lib/kubelet,log/pods}
mount --bind "$node" /mnt/run/tunegate
mount --bind "$images" /mnt/lib/containerd
mount --bind "$node/kubelet" /mnt/lib/kubelet
mount --bind "$node/pods" /mnt/log/pods
mount --rbind /mnt/run /run
mount --rbind /mnt/lib /var/lib
mount --rbind /mnt/log /var/log
cd /run/tunegate
ip link set lo up
sysctl -q net.ipv4.ip_forward=1

keep() {
  local program=$1 path
  path=$(PATH=$bin:$PATH command -v "$program")
  shift
  while true; do
    "$path" "$@" >> "logs/$program.log" 2>&1 &
    echo $! > "run/$program.pid"
    wait $! || true
    sleep 1
  done
}

keep etcd --data-dir=/var/lib/etcd --unsafe-no-fsync \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
  --listen-peer-urls=http://127.0.0.1:2380 &
keep kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address=$node_address \
  --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/service-accounts.key \
  --service-account-signing-key-file=pki/service-accounts.key --service-cluster-ip-range=$services \
  --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key \
  --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC \
  --enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement &
keep kube-controller-manager --kubeconfig=controller-manager.kubeconfig --root-ca-file=pki/ca.crt \
  --service-account-private-key-file=pki/service-accounts.key --use-service-account-credentials \
  --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key \
  --leader-elect=false --allocate-node-cidrs=false &
keep kube-scheduler --kubeconfig=scheduler.kubeconfig --leader-elect=false &
keep containerd --config=config/containerd.toml &
keep kubelet --kubeconfig=kubelet.kubeconfig --config=config/kubelet.yaml --root-dir=/var/lib/kubelet \
  --hostname-override=node1 --node-ip=$node_address &
keep kube-proxy --config=config/proxy.yaml &
wait  # runs for ever, and reaps orphaned processes, as process 1 must
