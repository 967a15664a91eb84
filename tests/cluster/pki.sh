#!/usr/bin/env bash
# Create keys, certificates and kubeconfigs of the test cluster in the folder DIR: pki.sh DIR ADDRESS
set -euo pipefail
cd "$1"
address=$2
mkdir pki
openssl req -x509 -newkey rsa:2048 -nodes -keyout pki/ca.key -out pki/ca.crt -days 30 -subj /CN=tunegate-test \
  2>/dev/null
openssl genrsa -out pki/service-accounts.key 2048 2>/dev/null

# certificate NAME SUBJECT [ALTERNATIVE NAMES]
certificate() {
  openssl req -newkey rsa:2048 -nodes -keyout "pki/$1.key" -out "pki/$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "pki/$1.csr" -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 30 \
    -extfile <(echo "${3:+subjectAltName=$3}") -out "pki/$1.crt" 2>/dev/null
  rm "pki/$1.csr"
  cat > "$1.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$address:6443", certificate-authority: pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: pki/$1.crt, client-key: pki/$1.key}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
EOF
}
certificate admin /O=system:masters/CN=admin
certificate controller-manager /CN=system:kube-controller-manager
certificate scheduler /CN=system:kube-scheduler
certificate kubelet /O=system:nodes/CN=system:node:node1
certificate proxy /CN=system:kube-proxy
certificate apiserver /CN=kube-apiserver \
  "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$address"
chmod 600 pki/*.key
