#!/usr/bin/env bash
# Create a claim on a folder of this machine, and print the folder: volume.sh NAMESPACE CLAIM
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
eval "$(./env.sh)"
namespace=$1 claim=$2
name=$namespace-$claim
folder=$node/volumes/$namespace/$claim
if ! kubectl get persistentvolumeclaim "$claim" --namespace "$namespace" > /dev/null 2>&1; then
  # Remove the remains of an earlier namespace of this name, so that a new claim is empty.
  kubectl delete persistentvolume "$name" --ignore-not-found >&2
  rm -rf "$folder"
fi
install -d --owner 65532 --group 65532 "$folder"  # hostPath volumes do not support fsGroup
kubectl apply -f - >&2 <<EOF
apiVersion: v1
kind: PersistentVolume
metadata: {name: $name}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {namespace: $namespace, name: $claim}
  hostPath: {path: /run/tunegate/volumes/$namespace/$claim, type: Directory}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $claim, namespace: $namespace}
spec:
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 100Gi}}
  storageClassName: ""
  volumeName: $name
EOF
echo "$folder"
