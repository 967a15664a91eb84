{{/* The name of all installed objects: the release name, which includes the chart name or is followed by it. */}}
{{- define "tunegate.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "tunegate.selector" -}}
app.kubernetes.io/name: tunegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tunegate.labels" -}}
{{ include "tunegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The image reference for the values below a key: (list . "image"). */}}
{{- define "tunegate.image" -}}
{{- $chart := (index . 0).Chart -}}
{{- $value := index . 1 -}}
{{- $image := index (index . 0).Values $value -}}
{{- $missing := printf "%s.repository: set the repository that the image was pushed to, see docs/install.md" $value -}}
{{- $repository := required $missing $image.repository -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default $chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The subject of all bindings: the operator's ServiceAccount. */}}
{{- define "tunegate.subjects" -}}
- kind: ServiceAccount
  name: {{ include "tunegate.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
