{{- /*
A DaemonSet of the stand-in's program. Given: root, name, account, arguments; deploy, the operand's name in the label by
which the operator chooses nodes (without: all nodes); before, what is validated first; hostNetwork; port; volumes, from
name to path on the host, read-only but for device-plugins.
*/ -}}
{{- define "standin.daemonset" -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {app: {{ .name }}}
spec:
  selector:
    matchLabels: {app: {{ .name }}}
  updateStrategy:
    rollingUpdate: {maxUnavailable: 100%}
  template:
    metadata:
      labels: {app: {{ .name }}}
    spec:
      serviceAccountName: {{ .account }}
      priorityClassName: system-node-critical
      terminationGracePeriodSeconds: 2
      {{- if .hostNetwork }}
      hostNetwork: true
      {{- end }}
      {{- if .deploy }}
      nodeSelector: {nvidia.com/gpu.deploy.{{ .deploy }}: "true"}
      {{- end }}
      tolerations:
        - {{ if .deploy }}{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}{{ else }}{operator: Exists}{{ end }}
      {{- with .before }}
      initContainers:
        {{- range . }}
        - name: {{ . }}-validation
          {{- include "standin.container" (merge (dict "arguments" (list "validate" .)) $) | nindent 10 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .name }}
          {{- include "standin.container" . | nindent 10 }}
          {{- with .port }}
          ports:
            - {name: metrics, containerPort: {{ . }}}
          readinessProbe:
            httpGet: {path: /health, port: {{ . }}}
            periodSeconds: 2
          {{- end }}
      volumes:
        {{- range $name, $path := .volumes }}
        - {name: {{ $name }}, hostPath: {path: {{ $path }}}}
        {{- end }}
{{- end }}

{{- define "standin.container" -}}
image: {{ .root.Values.image }}
imagePullPolicy: IfNotPresent
args: {{ .arguments | toJson }}
env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
resources:
  requests: {cpu: 5m, memory: 16Mi}
volumeMounts:
  {{- range $name, $path := .volumes }}
  - {name: {{ $name }}, mountPath: {{ eq $name "sys" | ternary "/host-sys" $path }}, readOnly: {{ ne $name "device-plugins" }}}
  {{- end }}
{{- end }}
