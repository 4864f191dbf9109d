{{/* Who a rule speaks of: a list of {cidr} or {namespace, labels}. */}}
{{- define "tendon.peers" -}}
{{- range . }}
{{- if .cidr }}
- ipBlock:
    cidr: {{ .cidr }}
{{- else }}
- {{ with .namespace }}namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
  {{ end }}
  {{- with .labels }}podSelector:
    matchLabels:
      {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* One rule of egress: (dict "peers" LIST "ports" LIST). */}}
{{- define "tendon.egress" -}}
- to:
    {{- include "tendon.peers" .peers | trim | nindent 4 }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end -}}

{{/*
The NetworkPolicy of a component: names are looked up, and then only what is listed may be reached
(dict "root" $ "component" NAME "reaches" LIST of database, broker, objects, destinations "ingress" rules as text
 "annotations" TEXT).
*/}}
{{- define "tendon.networkPolicy" -}}
{{- $values := .root.Values -}}
{{- $reaches := .reaches -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "tendon.metadata" (list .root .component) | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "tendon.selector" (list .root .component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with .ingress }}
  ingress:
    {{- . | nindent 4 }}
  {{- end }}
  egress:
    - to:
        {{- include "tendon.peers" $values.networkPolicy.dns | trim | nindent 8 }}
      ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
    {{- range $name := list "database" "broker" }}
    {{- if has $name $reaches }}
    {{- $to := get $values $name }}
    {{- include "tendon.egress" (dict "peers" $to.peers "ports" (list $to.port)) | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- if and (has "objects" $reaches) $values.objects.url }}
    {{- include "tendon.egress" (dict "peers" $values.objects.peers "ports" (list $values.objects.port)) | nindent 4 }}
    {{- end }}
    {{- if has "destinations" $reaches }}
    {{- range $values.destinations }}
    {{- include "tendon.egress" (dict "peers" (list (dict "cidr" .cidr)) "ports" .ports) | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end -}}
