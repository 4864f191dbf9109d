{{/*
A ServiceAccount that may do nothing in the cluster; its annotations may open the bucket
(dict "root" $ "component" NAME "annotations" TEXT).
*/}}
{{- define "tendon.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "tendon.metadata" (list .root .component) | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{/* One pod at a time may be evicted: (dict "root" $ "component" NAME). */}}
{{- define "tendon.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "tendon.metadata" (list .root .component) | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "tendon.selector" (list .root .component) | nindent 6 }}
{{- end -}}

{{/* A Deployment around `tendon.pod`; besides its arguments: "replicas", "surge" and "unavailable" of a roll-out. */}}
{{- define "tendon.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "tendon.metadata" (list .root .component) | nindent 2 }}
spec:
  replicas: {{ int .replicas }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ .surge }}
      maxUnavailable: {{ .unavailable }}
  selector:
    matchLabels:
      {{- include "tendon.selector" (list .root .component) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "tendon.labels" (list .root .component) | nindent 8 }}
      {{- with .root.Values.secretsRevision }}
      annotations:
        tendon/secrets-revision: {{ . | quote }}
      {{- end }}
    spec:
      {{- include "tendon.pod" . | nindent 6 }}
{{- end -}}

{{/* Annotations by which a cloud lets a ServiceAccount into the bucket. */}}
{{- define "tendon.bucketAccess" -}}
{{- with .Values.objects.serviceAccountAnnotations }}
{{- toYaml . }}
{{- end }}
{{- end -}}
