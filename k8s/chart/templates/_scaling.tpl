{{/* Two pods in half a minute at most; one away in a minute, after five quiet ones. */}}
{{- define "beamline.scaling-behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 15
  policies:
    - type: Pods
      value: 2
      periodSeconds: 30
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}
