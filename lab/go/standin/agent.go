package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	settleTime  = 20 * time.Millisecond // events come in bunches
	retryTime   = time.Second
	commandTime = 20 * time.Second
	// routes vanish from the kernel with the port that they lead through, and no event of the cluster tells
	routesTime = 15 * time.Second
	// where Calico's agent answers whether it is ready
	healthAddress = "127.0.0.1:9099"
)

// Agent gives the pods of one node their network: CNI configuration, routes to the other nodes' pods, and policies.
type Agent struct {
	node, podRange, cniFolder string
	mtu                       int
	pods                      corelisters.PodLister
	namespaces                corelisters.NamespaceLister
	nodes                     corelisters.NodeLister
	policies                  networkinglisters.NetworkPolicyLister
	rules, routes             string
	problem                   atomic.Pointer[string] // nothing once the node is up to date
}

func runAgent(ctx context.Context, arguments []string) error {
	where, agent := place{}, &Agent{}
	agent.failed("rules are not written yet")
	set := where.options("agent")
	set.StringVar(&agent.podRange, "pod-range", "", "addresses of all pods")
	set.StringVar(&agent.cniFolder, "cni-folder", "/etc/cni/net.d", "where the CNI configuration goes")
	set.IntVar(&agent.mtu, "mtu", 0, "of the pods; 0 is that of the node's own port")
	_ = set.Parse(arguments)
	agent.node = where.node
	if agent.node == "" || agent.podRange == "" {
		return errors.New("expected -node and -pod-range")
	}
	config, err := where.config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	go agent.answerHealth(ctx)
	return agent.watch(ctx, client)
}

func (a *Agent) failed(why string) {
	a.problem.Store(&why)
}

func (a *Agent) answerHealth(ctx context.Context) {
	handler := http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		if problem := a.problem.Load(); problem != nil {
			http.Error(response, *problem, http.StatusServiceUnavailable)
		}
	})
	// the agent before this one may still be ending, and hold the port
	for ctx.Err() == nil {
		server := &http.Server{Addr: healthAddress, Handler: handler, ReadHeaderTimeout: commandTime}
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "agent:", err)
		}
		stop()
		select {
		case <-ctx.Done():
		case <-time.After(retryTime):
		}
	}
}

// Follows pods, namespaces, nodes and policies, and brings the node up to date whenever one of them changes.
func (a *Agent) watch(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces := factory.Core().V1().Pods(), factory.Core().V1().Namespaces()
	nodes, policies := factory.Core().V1().Nodes(), factory.Networking().V1().NetworkPolicies()
	a.pods, a.namespaces, a.nodes, a.policies = pods.Lister(), namespaces.Lister(), nodes.Lister(), policies.Lister()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(any, any) { notify() }, DeleteFunc: func(any) { notify() }}
	for _, informer := range []cache.SharedIndexInformer{
		pods.Informer(), namespaces.Informer(), nodes.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for kind, done := range factory.WaitForCacheSync(ctx.Done()) {
		if !done {
			return fmt.Errorf("%v were not listed", kind)
		}
	}
	notify()
	return a.keepUpToDate(ctx, changed, notify)
}

func (a *Agent) keepUpToDate(ctx context.Context, changed <-chan struct{}, again func()) error {
	routes := time.NewTicker(routesTime)
	defer routes.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-routes.C:
			a.routes = ""
		}
		time.Sleep(settleTime)
		if err := a.apply(ctx); err != nil {
			a.failed(err.Error())
			fmt.Fprintln(os.Stderr, "agent:", err)
			time.AfterFunc(retryTime, again)
			continue
		}
		a.problem.Store(nil)
	}
}

// Rules first: no pod gets a network before its policies can be in force.
func (a *Agent) apply(ctx context.Context) error {
	own, err := a.nodes.Get(a.node)
	if err != nil {
		return err
	}
	if own.Spec.PodCIDR == "" {
		return fmt.Errorf("node %s has no podCIDR yet", a.node)
	}
	if err := a.applyPolicies(ctx, own.Spec.PodCIDR); err != nil {
		return err
	}
	if err := a.applyRoutes(ctx); err != nil {
		return err
	}
	return a.writeCNI(own)
}

func (a *Agent) applyPolicies(ctx context.Context, own string) error {
	cluster := Cluster{}
	var err error
	if cluster.Pods, err = a.pods.List(labels.Everything()); err != nil {
		return err
	}
	if cluster.Namespaces, err = a.namespaces.List(labels.Everything()); err != nil {
		return err
	}
	if cluster.Policies, err = a.policies.List(labels.Everything()); err != nil {
		return err
	}
	rules, err := Ruleset(a.node, Ranges{Pods: a.podRange, Own: own}, cluster)
	if err != nil || rules == a.rules {
		return err
	}
	if err := pipe(ctx, rules, "nft", "-f", "-"); err != nil {
		return err
	}
	a.rules = rules
	return nil
}

func (a *Agent) applyRoutes(ctx context.Context) error {
	nodes, err := a.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	wanted := Routes(a.node, nodes)
	if strings.Join(wanted, "\n") == a.routes {
		return nil
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	present, err := exec.CommandContext(ctx, "ip", "-4", "route", "show", "proto", routeProtocol).Output()
	if err != nil {
		return fmt.Errorf("ip route show: %w", err)
	}
	if err := pipe(ctx, RouteCommands(string(present), wanted), "ip", "-batch", "-"); err != nil {
		return err
	}
	a.routes = strings.Join(wanted, "\n")
	return nil
}

func (a *Agent) writeCNI(own *core.Node) error {
	mtu := a.mtu
	if mtu == 0 {
		var err error
		if mtu, err = mtuOf(internalAddress(own)); err != nil {
			return err
		}
	}
	path, text := filepath.Join(a.cniFolder, "10-lab.conflist"), Conflist(own.Spec.PodCIDR, mtu)
	if present, err := os.ReadFile(path); err == nil && string(present) == text {
		return nil
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path) // containerd watches the folder: whole or not at all
}

func pipe(ctx context.Context, input string, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Stdin = strings.NewReader(input)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
