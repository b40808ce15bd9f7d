package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// One rule as lines: its peers by its ports. `named` are the pods whose port names count; nil: the peers' own.
func (c *compiler) rule(namespace string, peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort,
	field string, named []*core.Pod) (lines []string, err error) {
	sources, pods, err := c.peers(namespace, peers, field)
	if err != nil {
		return nil, err
	}
	if len(ports) == 0 {
		ports = []networking.NetworkPolicyPort{{}}
	}
	for _, port := range ports {
		if port.Port != nil && port.Port.Type == intstr.String {
			lines = append(lines, namedPort(port, field, sources, pods, named)...)
			continue
		}
		for _, source := range sources {
			lines = append(lines, strings.Join(strings.Fields(source+" "+numberedPort(port)+" return"), " "))
		}
	}
	return lines, nil
}

// Matches for the peers' addresses, and the pods among them; no peers at all are everyone.
func (c *compiler) peers(namespace string, peers []networking.NetworkPolicyPeer,
	field string) (matches []string, pods []*core.Pod, err error) {
	if len(peers) == 0 {
		return []string{""}, c.pods, nil
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR); err != nil || prefix.Addr().Is4() {
				matches = append(matches, block(peer.IPBlock, field))
			}
			continue
		}
		for _, pod := range c.pods {
			selected, err := c.selects(namespace, peer, pod)
			if err != nil {
				return nil, nil, err
			}
			if selected && !slices.Contains(pods, pod) {
				pods = append(pods, pod)
			}
		}
	}
	if len(pods) > 0 {
		matches = append(matches, addressSet(field, pods))
	}
	return matches, pods, nil
}

func (c *compiler) selects(namespace string, peer networking.NetworkPolicyPeer, pod *core.Pod) (bool, error) {
	if peer.NamespaceSelector == nil {
		if pod.Namespace != namespace {
			return false, nil
		}
	} else {
		selector, err := meta.LabelSelectorAsSelector(peer.NamespaceSelector)
		set, known := c.namespaces[pod.Namespace]
		if err != nil || !known || !selector.Matches(set) {
			return false, err
		}
	}
	if peer.PodSelector == nil {
		return true, nil
	}
	selector, err := meta.LabelSelectorAsSelector(peer.PodSelector)
	return err == nil && selector.Matches(labels.Set(pod.Labels)), err
}

func addressSet(field string, pods []*core.Pod) string {
	addresses := make([]string, 0, len(pods))
	for _, pod := range pods {
		addresses = append(addresses, pod.Status.PodIP)
	}
	return fmt.Sprintf("ip %s { %s }", field, strings.Join(addresses, ", "))
}

func block(block *networking.IPBlock, field string) string {
	match := fmt.Sprintf("ip %s %s", field, block.CIDR)
	for _, except := range block.Except { // not one set: they may overlap, which a set refuses
		match += fmt.Sprintf(" ip %s != %s", field, except)
	}
	return match
}

func protocol(port networking.NetworkPolicyPort) core.Protocol {
	if port.Protocol == nil {
		return core.ProtocolTCP
	}
	return *port.Protocol
}

func numberedPort(port networking.NetworkPolicyPort) string {
	name := strings.ToLower(string(protocol(port)))
	switch {
	case port.Port == nil && port.Protocol == nil:
		return ""
	case port.Port == nil:
		return "meta l4proto " + name
	case port.EndPort != nil:
		return fmt.Sprintf("%s dport %d-%d", name, port.Port.IntValue(), *port.EndPort)
	}
	return fmt.Sprintf("%s dport %d", name, port.Port.IntValue())
}

// A port by name is a number of the pod that is connected to: of the isolated pod itself, or of each peer.
func namedPort(port networking.NetworkPolicyPort, field string, sources []string, peers,
	named []*core.Pod) (lines []string) {
	if named != nil {
		for _, number := range numbersOf(named[0], port) {
			for _, source := range sources {
				lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s return", source, number)))
			}
		}
		return lines
	}
	for _, peer := range peers {
		for _, number := range numbersOf(peer, port) {
			lines = append(lines, fmt.Sprintf("ip %s %s %s return", field, peer.Status.PodIP, number))
		}
	}
	return lines
}

func numbersOf(pod *core.Pod, port networking.NetworkPolicyPort) (matches []string) {
	for _, container := range pod.Spec.Containers {
		for _, each := range container.Ports {
			declared := each.Protocol
			if declared == "" {
				declared = core.ProtocolTCP
			}
			if each.Name == port.Port.StrVal && declared == protocol(port) {
				matches = append(matches, fmt.Sprintf("%s dport %d", strings.ToLower(string(declared)), each.ContainerPort))
			}
		}
	}
	return matches
}
