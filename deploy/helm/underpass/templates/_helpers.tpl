{{/* The selector of a DaemonSet's pods, by its name. */}}
{{- define "underpass.labels" -}}
app.kubernetes.io/name: {{ . }}
{{- end }}

{{/* What every pod has. */}}
{{- define "underpass.pod" -}}
enableServiceLinks: false
hostNetwork: true
dnsPolicy: Default
terminationGracePeriodSeconds: 5
nodeSelector:
  {{- toYaml .Values.nodeSelector | nindent 2 }}
tolerations:
  {{- toYaml .Values.tolerations | nindent 2 }}
volumes:
  - name: bpffs
    hostPath:
      path: /sys/fs/bpf
      type: Directory
  - name: sysctls
    hostPath:
      path: /proc/sys/net
      type: Directory
{{- end }}

{{/* What every container has; deploy/kubernetes/base/daemonset.yaml says why. */}}
{{- define "underpass.container" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  runAsUser: 0
  runAsGroup: 0
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add:
      - BPF
      - NET_ADMIN
      - PERFMON
  {{- with .Values.seccompProfile }}
  seccompProfile:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: bpffs
    mountPath: /host/bpf
  - name: sysctls
    mountPath: /host/proc/sys/net
{{- end }}

{{/* Where the node's BPF file system and sysctls are mounted. */}}
{{- define "underpass.env" -}}
- name: UNDERPASS_BPFFS
  value: /host/bpf/underpass
- name: UNDERPASS_PROC_SYS
  value: /host/proc/sys
{{- end }}

{{/* The same for what reads the Nodes: which of them is its own, and where to ask. */}}
{{- define "underpass.nodesEnv" -}}
- name: UNDERPASS_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{ include "underpass.env" . }}
{{- if .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* How to ask the agent, by a path. */}}
{{- define "underpass.httpGet" -}}
httpGet:
  host: {{ .host | quote }}
  port: {{ .port }}
  path: {{ .path }}
{{- end }}

{{/* A container that takes everything out of its node. */}}
{{- define "underpass.detach" -}}
{{ include "underpass.container" . }}
args:
  {{- toYaml .args | nindent 2 }}
env:
  {{- include "underpass.env" . | nindent 2 }}
resources:
  requests:
    cpu: 20m
    memory: 32Mi
{{- end }}

{{/* A container that looks at its node, for the uplink that the agent would take. */}}
{{- define "underpass.check" -}}
{{ include "underpass.container" . }}
args:
  {{- toYaml .args | nindent 2 }}
  {{- with .Values.iface }}
  - --iface={{ . }}
  {{- end }}
env:
  {{- include "underpass.nodesEnv" . | nindent 2 }}
resources:
  requests:
    cpu: 20m
    memory: 32Mi
{{- end }}
