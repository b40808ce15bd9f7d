package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Cluster is what network policies are about.
type Cluster struct {
	Pods       []*core.Pod
	Namespaces []*core.Namespace
	Policies   []*networking.NetworkPolicy
}

// Ranges of addresses: of all pods, and of the pods of this node.
type Ranges struct {
	Pods, Own string
}

const policyTable = "lab-policy"

// Ruleset is the text for `nft -f` that makes this node enforce the cluster's policies, in place of what was there.
//
// New connections of a pod pass its egress chain on the node of the pod, and the ingress chain of the pod that they are
// for on that one's node. What a Service is called by has become a pod's address by then. The host's own connections to
// its pods do not pass the forward hook, so that the kubelet's probes are let in, as the API asks for. Packets of a pod
// whose address is not known yet are dropped, not refused: TCP tries again a second later, and nothing slips through
// before the pod's policies are in force.
func Ruleset(node string, ranges Ranges, cluster Cluster) (string, error) {
	compiler := newCompiler(node, cluster)
	chains := &strings.Builder{}
	jumps := map[networking.PolicyType][]string{}
	for _, pod := range compiler.pods {
		if pod.Spec.NodeName != node {
			continue
		}
		for _, direction := range []networking.PolicyType{networking.PolicyTypeEgress, networking.PolicyTypeIngress} {
			lines, isolated, err := compiler.rules(pod, direction)
			if err != nil {
				return "", err
			}
			if !isolated {
				continue
			}
			name := strings.ToLower(string(direction)) + "-" + pod.Status.PodIP
			jumps[direction] = append(jumps[direction], fmt.Sprintf("%s : jump %s", pod.Status.PodIP, name))
			fmt.Fprintf(chains, "\t# %s/%s\n\tchain %s {\n", pod.Namespace, pod.Name, name)
			for _, line := range lines {
				fmt.Fprintf(chains, "\t\t%s\n", line)
			}
			chains.WriteString("\t\tgoto refuse\n\t}\n")
		}
	}
	return table(ranges, compiler.addresses(), jumps, chains.String()), nil
}

func table(ranges Ranges, known []string, jumps map[networking.PolicyType][]string, chains string) string {
	text := &strings.Builder{}
	write := func(format string, arguments ...any) { fmt.Fprintf(text, format+"\n", arguments...) }
	write("add table ip %s\ndelete table ip %s\ntable ip %s {", policyTable, policyTable, policyTable)
	write("\tset pods {\n\t\ttype ipv4_addr")
	if len(known) > 0 {
		write("\t\telements = { %s }", strings.Join(known, ", "))
	}
	write("\t}\n\tchain refuse {\n\t\tmeta l4proto tcp reject with tcp reset\n\t\treject\n\t}")
	text.WriteString(chains)
	write("\tchain forward {\n\t\ttype filter hook forward priority filter - 1; policy accept;")
	write("\t\tct state established,related accept")
	write("\t\tip saddr %s ip saddr != @pods drop", ranges.Pods)
	write("\t\tip daddr %s ip daddr != @pods drop", ranges.Pods)
	for _, each := range []struct {
		direction networking.PolicyType
		field     string
	}{{networking.PolicyTypeEgress, "saddr"}, {networking.PolicyTypeIngress, "daddr"}} {
		if entries := jumps[each.direction]; len(entries) > 0 {
			write("\t\tip %s vmap { %s }", each.field, strings.Join(entries, ", "))
		}
	}
	write("\t}")
	// as pod networks do: outside the pods' range a connection is the node's
	write("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;")
	write("\t\tip saddr %s ip daddr != %s masquerade\n\t}\n}", ranges.Own, ranges.Pods)
	return text.String()
}

type compiler struct {
	pods       []*core.Pod
	namespaces map[string]labels.Set
	policies   []*networking.NetworkPolicy
}

func newCompiler(node string, cluster Cluster) *compiler {
	c := &compiler{namespaces: map[string]labels.Set{}, policies: slices.Clone(cluster.Policies)}
	byAddress := map[string]*core.Pod{}
	for _, pod := range cluster.Pods {
		address, err := netip.ParseAddr(pod.Status.PodIP)
		over := pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed
		if pod.Spec.HostNetwork || over || err != nil || !address.Is4() {
			continue
		}
		// an address is given out again while the API still shows who had it: the younger pod has it now
		if other := byAddress[pod.Status.PodIP]; other == nil ||
			other.CreationTimestamp.Time.Before(pod.CreationTimestamp.Time) {
			byAddress[pod.Status.PodIP] = pod
		}
	}
	c.pods = slices.SortedFunc(maps.Values(byAddress), func(a, b *core.Pod) int {
		return netip.MustParseAddr(a.Status.PodIP).Compare(netip.MustParseAddr(b.Status.PodIP))
	})
	for _, namespace := range cluster.Namespaces {
		c.namespaces[namespace.Name] = namespace.Labels
	}
	slices.SortFunc(c.policies, func(a, b *networking.NetworkPolicy) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return c
}

func (c *compiler) addresses() []string {
	addresses := make([]string, 0, len(c.pods))
	for _, pod := range c.pods {
		addresses = append(addresses, pod.Status.PodIP)
	}
	return addresses
}

// What is let through for a pod in one direction, and whether any policy isolates it there.
func (c *compiler) rules(pod *core.Pod, direction networking.PolicyType) (lines []string, isolated bool, err error) {
	for _, policy := range c.policies {
		selector, err := meta.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			return nil, false, fmt.Errorf("policy %s/%s: %w", policy.Namespace, policy.Name, err)
		}
		if policy.Namespace != pod.Namespace || !selector.Matches(labels.Set(pod.Labels)) ||
			!slices.Contains(policyTypes(policy), direction) {
			continue
		}
		isolated = true
		more, err := c.allowed(policy, pod, direction)
		if err != nil {
			return nil, false, fmt.Errorf("policy %s/%s: %w", policy.Namespace, policy.Name, err)
		}
		for _, line := range more {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines, isolated, nil
}

// The API server fills in policyTypes; an object that went past its defaults means the same.
func policyTypes(policy *networking.NetworkPolicy) []networking.PolicyType {
	if len(policy.Spec.PolicyTypes) > 0 {
		return policy.Spec.PolicyTypes
	}
	types := []networking.PolicyType{networking.PolicyTypeIngress}
	if len(policy.Spec.Egress) > 0 {
		types = append(types, networking.PolicyTypeEgress)
	}
	return types
}

func (c *compiler) allowed(policy *networking.NetworkPolicy, pod *core.Pod,
	direction networking.PolicyType) (lines []string, err error) {
	if direction == networking.PolicyTypeIngress {
		for _, rule := range policy.Spec.Ingress {
			more, err := c.rule(policy.Namespace, rule.From, rule.Ports, "saddr", []*core.Pod{pod})
			if err != nil {
				return nil, err
			}
			lines = append(lines, more...)
		}
		return lines, nil
	}
	for _, rule := range policy.Spec.Egress {
		more, err := c.rule(policy.Namespace, rule.To, rule.Ports, "daddr", nil)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	return lines, nil
}
