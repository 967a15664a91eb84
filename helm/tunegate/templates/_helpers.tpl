{{/* The name of everything that is installed: the release's, with the chart's in it. */}}
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

{{/* The reference of the image that a value is about: (list . "image"). */}}
{{- define "tunegate.image" -}}
{{- $chart := (index . 0).Chart -}}
{{- $value := index . 1 -}}
{{- $image := index (index . 0).Values $value -}}
{{- $missing := printf "%s.repository: name the repository that the image was pushed to, see docs/install.md" $value -}}
{{- $repository := required $missing $image.repository -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default $chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Who gets the rights: the operator, in its own namespace. */}}
{{- define "tunegate.subjects" -}}
- kind: ServiceAccount
  name: {{ include "tunegate.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
