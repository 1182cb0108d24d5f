{{/* What every object is called: the release's name, with the chart's unless it is in there. */}}
{{- define "beamline.name" -}}
{{- $name := ternary .Release.Name (printf "%s-beamline" .Release.Name) (contains "beamline" .Release.Name) -}}
{{- $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that find the pods that serve, and no other release's. */}}
{{- define "beamline.selector" -}}
app.kubernetes.io/name: beamline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "beamline.redis.selector" -}}
app.kubernetes.io/name: beamline-redis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "beamline.labels" -}}
{{ include "beamline.selector" . }}
{{ include "beamline.origin" . }}
{{- end -}}

{{- define "beamline.redis.labels" -}}
{{ include "beamline.redis.selector" . }}
{{ include "beamline.origin" . }}
{{- end -}}

{{- define "beamline.origin" -}}
app.kubernetes.io/part-of: beamline
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "beamline.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What no container of ours may do. */}}
{{- define "beamline.container-rights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
