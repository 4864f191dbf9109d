{{/* The name of a component's objects, a DNS label: (list root component). */}}
{{- define "tendon.name" -}}
{{- $release := (first .).Release.Name -}}
{{- $base := contains "tendon" $release | ternary $release (printf "%s-tendon" $release) -}}
{{- printf "%s-%s" ($base | trunc 50 | trimSuffix "-") (last .) -}}
{{- end -}}

{{/* What selects the pods of a component: (list root component). */}}
{{- define "tendon.selector" -}}
app.kubernetes.io/name: tendon
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{/* The labels of every object: (list root component). */}}
{{- define "tendon.labels" -}}
{{- $root := first . -}}
{{ include "tendon.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name and labels of an object of a component: (list root component). */}}
{{- define "tendon.metadata" -}}
name: {{ include "tendon.name" . }}
namespace: {{ (first .).Release.Namespace }}
labels:
  {{- include "tendon.labels" . | nindent 2 }}
{{- end -}}

{{/* A full image reference; a digest is stronger than a tag: (list root image). */}}
{{- define "tendon.image" -}}
{{- $image := last . -}}
{{- $tagged := printf "%s:%s" $image.repository (default (first .).Chart.AppVersion $image.tag) -}}
{{- empty $image.digest | ternary $tagged (printf "%s@%s" $image.repository $image.digest) -}}
{{- end -}}

{{/* The claim of the shared volume. */}}
{{- define "tendon.claim" -}}
{{- default (include "tendon.name" (list . "objects")) .Values.objects.volume.existingClaim -}}
{{- end -}}
