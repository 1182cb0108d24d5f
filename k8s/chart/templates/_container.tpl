{{/* What the container that serves and the one that fetches the model have in common. */}}
{{- define "beamline.container" -}}
image: {{ include "beamline.image" . }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "beamline.container-rights" . | nindent 2 }}
{{- end -}}

{{/* What libraries keep goes where it may be written. */}}
{{- define "beamline.environment" -}}
- name: HOME
  value: /tmp
- name: HF_HOME
  value: /var/cache/beamline/huggingface
{{- end -}}

{{- define "beamline.writable" -}}
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /var/cache/beamline
{{- end -}}
