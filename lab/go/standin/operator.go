package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

const (
	operatorInterval = 2 * time.Second
	policyName       = "cluster-policy"
	presentLabel     = "nvidia.com/gpu.present"
	deployPrefix     = "nvidia.com/gpu.deploy."
)

var (
	policyResource = schema.GroupVersionResource{Group: "nvidia.com", Version: "v1", Resource: "clusterpolicies"}
	// what the operator deploys to a node with GPUs whose driver is installed already
	operands = []string{"container-toolkit", "dcgm-exporter", "device-plugin", "gpu-feature-discovery", "operator-validator"}
	daemons  = []string{"gpu-feature-discovery", "nvidia-container-toolkit-daemonset", "nvidia-dcgm-exporter",
		"nvidia-device-plugin-daemonset", "nvidia-operator-validator"}
)

// Unready names the daemon sets that are missing, or not up to date and ready on every node they are meant for.
func Unready(sets []apps.DaemonSet) []string {
	var unready []string
	for _, name := range daemons {
		index := slices.IndexFunc(sets, func(set apps.DaemonSet) bool { return set.Name == name })
		if index < 0 {
			unready = append(unready, name)
			continue
		}
		status := sets[index].Status
		if status.ObservedGeneration != sets[index].Generation || status.NumberReady != status.DesiredNumberScheduled ||
			status.UpdatedNumberScheduled != status.DesiredNumberScheduled {
			unready = append(unready, name)
		}
	}
	return unready
}

func policyStatus(namespace string, unready []string, now time.Time) map[string]any {
	state, condition, reason, message := "ready", meta.ConditionTrue, "Reconciled", "ClusterPolicy is ready"
	if len(unready) > 0 {
		state, condition, reason = "notReady", meta.ConditionFalse, "OperandNotReady"
		message = "not ready: " + strings.Join(unready, ", ")
	}
	return map[string]any{"state": state, "namespace": namespace, "conditions": []map[string]any{{
		"type": "Ready", "status": string(condition), "reason": reason, "message": message,
		"lastTransitionTime": now.UTC().Format(time.RFC3339)}}}
}

type operator struct {
	client    kubernetes.Interface
	policies  dynamic.Interface
	namespace string
	told      string
}

// Labels say which operands a node gets; a node that lost its GPUs loses them.
func (o *operator) labelNodes(ctx context.Context) error {
	nodes, err := o.client.CoreV1().Nodes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	owned := func(name string) bool { return name == presentLabel || strings.HasPrefix(name, deployPrefix) }
	for _, node := range nodes.Items {
		wanted := map[string]string{}
		if node.Labels[pciLabel] == "true" {
			wanted[presentLabel] = "true"
			for _, operand := range operands {
				wanted[deployPrefix+operand] = "true"
			}
		}
		if len(differences(node.Labels, wanted, owned)) > 0 {
			if err := patchLabels(ctx, o.client, node.Name, wanted, owned); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *operator) tellState(ctx context.Context) error {
	sets, err := o.client.AppsV1().DaemonSets(o.namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	unready := Unready(sets.Items)
	policy, err := o.policies.Resource(policyResource).Get(ctx, policyName, meta.GetOptions{})
	if err != nil {
		return err
	}
	// told once: the same again would only be a new time of transition
	told := fmt.Sprint(policy.GetUID(), unready)
	if told == o.told {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": policyStatus(o.namespace, unready, time.Now())})
	if err != nil {
		return err
	}
	if _, err = o.policies.Resource(policyResource).Patch(ctx, policyName, types.MergePatchType, patch,
		meta.PatchOptions{}, "status"); err == nil {
		o.told = told
	}
	return err
}

func runOperator(ctx context.Context, arguments []string) error {
	where, set := place{}, flag.NewFlagSet("operator", flag.ExitOnError)
	set.StringVar(&where.kubeconfig, "kubeconfig", "", "outside a cluster: how to reach it")
	namespace := set.String("namespace", "gpu-operator", "where the operands are")
	_ = set.Parse(arguments)
	config, err := where.config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	policies, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	o := &operator{client: client, policies: policies, namespace: *namespace}
	return every(ctx, operatorInterval, "operator", func() error {
		return errors.Join(o.labelNodes(ctx), o.tellState(ctx))
	})
}
