"""What operator and trainer exchange: request, plan, reports, results and exit codes.

Files that a trainer process sees below ``$TUNEGATE_ROOT`` (``/tunegate`` in a pod)::

    request/request.json          Request, from an immutable ConfigMap
    plan/plan.json                Plan, from an immutable ConfigMap (created by the data role)
    review/review.json            ReviewRecord, from an immutable ConfigMap, if the job has data.quality
    inputs/<configmap>/<key>      ConfigMaps that the spec or its gates reference
    secrets/<secret>/<key>        Secrets with credentials for URIs, only for the role that needs them
    volumes/<claim>/…             PersistentVolumeClaims that URIs reference
    workspace/                    the storage volume, see :class:`tunegate_api.contract.workspace.Workspace`
    termination.json              Termination, written last
    report/token                  the pod's token for reports, if the pod sends reports
"""
