package main

import (
	"fmt"
	"net"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
)

// What marks the agent's routes; numbers that /etc/iproute2/rt_protos has no name for.
const routeProtocol = "98"

// Routes to the pods of all other nodes, as `ip route` takes them.
func Routes(own string, nodes []*core.Node) []string {
	var routes []string
	for _, node := range nodes {
		address := internalAddress(node)
		if node.Name != own && node.Spec.PodCIDR != "" && address != "" {
			routes = append(routes, fmt.Sprintf("%s via %s", node.Spec.PodCIDR, address))
		}
	}
	slices.Sort(routes)
	return routes
}

// RouteCommands are the lines for `ip -batch` that lead from what `ip route show` printed to what is wanted.
func RouteCommands(present string, wanted []string) string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(present), "\n") {
		words := strings.Fields(line)
		if len(words) > 0 && !slices.ContainsFunc(wanted, func(route string) bool {
			return strings.HasPrefix(route, words[0]+" ")
		}) {
			lines = append(lines, fmt.Sprintf("route del %s proto %s", words[0], routeProtocol))
		}
	}
	for _, route := range wanted {
		lines = append(lines, fmt.Sprintf("route replace %s proto %s", route, routeProtocol))
	}
	return strings.Join(lines, "\n") + "\n"
}

func internalAddress(node *core.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == core.NodeInternalIP && net.ParseIP(address.Address).To4() != nil {
			return address.Address
		}
	}
	return ""
}

// MTU of the port that has an address.
func mtuOf(address string) (int, error) {
	ports, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, port := range ports {
		addresses, err := port.Addrs()
		if err != nil {
			return 0, err
		}
		for _, each := range addresses {
			if network, ok := each.(*net.IPNet); ok && network.IP.String() == address {
				return port.MTU, nil
			}
		}
	}
	return 0, fmt.Errorf("no port has the address %q", address)
}

// Conflist is the CNI configuration of a node. Its plugin is ptp, not bridge: then also what pods of one node send each
// other passes the forward hook, where the policies are.
func Conflist(own string, mtu int) string {
	return fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": "lab",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "mtu": %d,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "%s"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, mtu, own)
}
