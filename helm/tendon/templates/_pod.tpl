{{/*
The whole pod of a long-running component or of the migration:
(dict "root" $ "component" NAME "it" its values "image" IMAGE "args" LIST "secrets" LIST "ports" name -> number
 "probe" port of /healthz and /readyz, none for a Job  "objects" whether it reads or writes objects
 "drains" whether callers need time to turn to another pod).
*/}}
{{- define "tendon.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $shared := and .objects (not $values.objects.url) -}}
{{- $pipelines := and .objects $values.pipelines.existingClaim -}}
serviceAccountName: {{ include "tendon.name" (list .root .component) }}
automountServiceAccountToken: false
# Service links would set TENDON_ADMIN_PORT and its like to addresses of Services.
enableServiceLinks: false
{{- with $values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .it.terminationGracePeriodSeconds }}
terminationGracePeriodSeconds: {{ int . }}
{{- end }}
{{- with .it.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- include "tendon.scheduling" . }}
containers:
  - name: {{ .component }}
    image: {{ include "tendon.image" (list .root .image) }}
    imagePullPolicy: {{ $values.images.pullPolicy }}
    args: {{ toJson .args }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    env:
      {{- include "tendon.settings" . | trim | nindent 6 }}
    {{- with .ports }}
    ports:
      {{- range $name, $number := . }}
      - name: {{ $name }}
        containerPort: {{ $number }}
      {{- end }}
    {{- end }}
    {{- with .probe }}
    startupProbe:
      httpGet: {path: /healthz, port: {{ . }}}
      periodSeconds: 2
      timeoutSeconds: 5
      failureThreshold: 90
    livenessProbe:
      httpGet: {path: /healthz, port: {{ . }}}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: {path: /readyz, port: {{ . }}}
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    {{- if .drains }}
    # The Service forgets this pod before it stops listening.
    lifecycle:
      preStop:
        exec:
          command: [python, -c, import time; time.sleep(5)]
    {{- end }}
    resources:
      {{- toYaml .it.resources | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: secrets, mountPath: /run/secrets/tendon, readOnly: true}
      {{- if $shared }}
      - {name: objects, mountPath: /var/lib/tendon}
      - {name: scratch, mountPath: /var/lib/tendon/work}
      {{- else }}
      - {name: scratch, mountPath: /var/lib/tendon}
      {{- end }}
      {{- if $pipelines }}
      - {name: pipelines, mountPath: /opt/tendon-pipelines, readOnly: true}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
  - name: secrets
    projected:
      defaultMode: 0440
      sources:
        {{- include "tendon.secrets" . | trim | nindent 8 }}
  - name: scratch
    emptyDir: {sizeLimit: {{ default "100Mi" .it.scratchSize }}}
  {{- if $shared }}
  - name: objects
    persistentVolumeClaim:
      claimName: {{ include "tendon.claim" $root }}
  {{- end }}
  {{- if $pipelines }}
  - name: pipelines
    persistentVolumeClaim:
      claimName: {{ $pipelines }}
      readOnly: true
  {{- end }}
{{- end -}}

{{/* Where pods may run; a spread counts the pods of its own component. */}}
{{- define "tendon.scheduling" -}}
{{- with .it.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .it.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .it.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $selector := include "tendon.selector" (list .root .component) -}}
{{- with .it.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ .topologyKey }}
    maxSkew: {{ int .maxSkew }}
    whenUnsatisfiable: {{ .whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/*
Settings of a role. They stand in the pod itself, so that a changed setting replaces the pod; none is secret. The
network is trusted, since policies close it and the Ingress ends TLS: kubelets ask before there is an account.
*/}}
{{- define "tendon.settings" -}}
{{- $values := .root.Values -}}
{{- $given := dict
      "DATA_DIR" "/var/lib/tendon"
      "SECRETS_DIR" "/run/secrets/tendon"
      "INSTALLATION" $values.site.installation
      "ENVIRONMENT" $values.site.environment
      "AE_TITLE" $values.site.aeTitle
      "CALLED_AE_TITLES" (join "," $values.site.calledAeTitles)
      "UNKNOWN_SOP_CLASSES" $values.site.unknownSopClasses
      "TIME_ZONE" $values.site.timeZone
      "QUIET_SECONDS" $values.site.quietSeconds
      "LEASE_SECONDS" $values.site.leaseSeconds
      "HTTPS_ONLY" $values.site.httpsOnly
      "RULE_APPROVAL" $values.site.ruleApproval -}}
{{- range $name := list "url" "endpoint" "region" }}
{{- with get $values.objects $name }}{{ $given = set $given (printf "OBJECTS_%s" (upper $name)) . }}{{ end }}
{{- end -}}
{{- if and .objects $values.pipelines.existingClaim }}{{ $given = set $given "PIPELINES_DIR" "/opt/tendon-pipelines" }}{{ end -}}
{{- with .ports }}
{{- with .dicom }}{{ $given = merge $given (dict "DICOM_HOST" "0.0.0.0" "DICOM_PORT" .) }}{{ end -}}
{{- $given = merge $given (dict "ADMIN_HOST" "0.0.0.0" "TRUSTED_NETWORK" "true") -}}
{{- with .http }}{{ $given = merge $given (dict "ADMIN_PORT" . "TRUSTED_PROXIES" (join "," $values.admin.trustedProxies)) }}{{ end -}}
{{- with .health }}{{ $given = set $given "HEALTH_PORT" . }}{{ end -}}
{{- end -}}
{{- range $name, $value := $given }}
- {name: TENDON_{{ $name }}, value: {{ toString $value | quote }}}
{{- end }}
{{- end -}}

{{/* The Secrets of a component, by kind; their keys are named like the settings they hold. */}}
{{- define "tendon.secrets" -}}
{{- $database := .root.Values.database -}}
{{- $names := dict
      "TENDON_DATABASE_URL" $database.secretName
      "TENDON_BROKER_URL" .root.Values.broker.secretName -}}
{{- if not .probe }}{{ $names = set $names "TENDON_DATABASE_URL" (default $database.secretName $database.migrationSecretName) }}{{ end -}}
{{- range .secrets }}
- secret:
    name: {{ get $names . }}
    items: [{key: {{ . }}, path: {{ . }}}]
{{- end }}
{{- if and .objects .root.Values.objects.secretName }}
- secret:
    name: {{ .root.Values.objects.secretName }}
{{- end }}
{{- if and (eq .component "rounds") .root.Values.notices.secretName }}
- secret:
    name: {{ .root.Values.notices.secretName }}
{{- end }}
{{- if and (eq .component "admin") .root.Values.signIn.secretName }}
- secret:
    name: {{ .root.Values.signIn.secretName }}
{{- end }}
{{- end -}}
