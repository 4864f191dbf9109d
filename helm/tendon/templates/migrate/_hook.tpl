{{/* Done before anything else is installed or replaced, so all of it is a hook; kept until the next time: (list weight). */}}
{{- define "tendon.migrate.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ first . | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}
