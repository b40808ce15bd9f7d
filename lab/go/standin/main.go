// Stand-ins of the lab for what its cluster cannot have: a pod network with network policies, and the daemons of the
// GPU Operator. One program, one image, a subcommand each.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// A command parses its own options, then runs until the context ends or something goes wrong.
type command func(ctx context.Context, arguments []string) error

var commands = map[string]command{
	"agent":             runAgent,
	"device-plugin":     runDevicePlugin,
	"feature-discovery": runFeatureDiscovery,
	"pci-discovery":     runPciDiscovery,
	"operator":          runOperator,
	"validate":          runValidate,
	"dcgm-exporter":     runExporter,
	"wait":              runWait,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	name := ""
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	run, known := commands[name]
	if !known {
		names := make([]string, 0, len(commands))
		for each := range commands {
			names = append(names, each)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "standin: expected one of %s, found %q\n", strings.Join(names, ", "), name)
		os.Exit(4)
	}
	if err := run(ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "standin %s: %v\n", name, err)
		os.Exit(1)
	}
}

func runWait(ctx context.Context, _ []string) error {
	<-ctx.Done()
	return nil
}

// What most commands want to know: which API server, and which node they run on.
type place struct {
	kubeconfig, node string
}

func (p *place) options(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ExitOnError)
	set.StringVar(&p.kubeconfig, "kubeconfig", "", "outside a cluster: how to reach it")
	set.StringVar(&p.node, "node", os.Getenv("NODE_NAME"), "name of this node (NODE_NAME)")
	return set
}

func (p *place) config() (*rest.Config, error) {
	if p.kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", p.kubeconfig)
	}
	return rest.InClusterConfig()
}
