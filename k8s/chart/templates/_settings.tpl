{{/* All variables of the service: ours, what other values decide, and .Values.settings. */}}
{{- define "beamline.settings" -}}
{{- $drain := printf "%d" (int64 .Values.drainSeconds) -}}
{{- $settings := dict
    "BEAMLINE_HOST" "0.0.0.0"
    "BEAMLINE_PORT" "8000"
    "BEAMLINE_CACHE_FOLDER" "/var/cache/beamline"
    "BEAMLINE_LOG_FORMAT" "json"
    "BEAMLINE_MAX_TIMEOUT_SECONDS" $drain
    "BEAMLINE_GRACE_SECONDS" $drain
    "BEAMLINE_PUBLIC_METRICS" "true"
-}}
{{- if .Values.model.source -}}
{{- $_ := set $settings "BEAMLINE_MODEL" .Values.model.source -}}
{{- $_ := set $settings "BEAMLINE_REVISION" .Values.model.revision -}}
{{- end -}}
{{- if .Values.keys.existingSecret -}}
{{- $_ := set $settings "BEAMLINE_KEYS_FILE" "/etc/beamline/keys/keys.json" -}}
{{- end -}}
{{- if .Values.redis.enabled -}}
{{- $redis := printf "redis://%s-redis" (include "beamline.name" .) -}}
{{- $_ := set $settings "BEAMLINE_RATE_LIMIT_REDIS" (printf "%s:6380/0" $redis) -}}
{{- $_ := set $settings "BEAMLINE_CACHE_REDIS" (printf "%s:6379/0" $redis) -}}
{{- end -}}
{{- range $name, $value := .Values.settings -}}
{{/* As JSON has them, since a large number would come out as 1e+09. */}}
{{- $_ := set $settings $name (ternary $value (toJson $value) (kindIs "string" $value)) -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}
