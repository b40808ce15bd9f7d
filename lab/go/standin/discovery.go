package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	discoveryInterval = 5 * time.Second
	pciLabel          = "feature.node.kubernetes.io/pci-10de.present"
	nvidiaVendor      = "0x10de"
)

// Labels as GPU feature discovery derives them from NVML. A host without a driver has none.
func Labels(state *State) map[string]string {
	found := map[string]string{}
	gpus := state.GPUs()
	if len(gpus) == 0 {
		return found
	}
	first := gpus[0]
	driver := strings.SplitN(state.values["driver_version"], ".", 3)
	for index, part := range []string{"major", "minor", "revision"} {
		if index < len(driver) {
			found["nvidia.com/cuda.driver-version."+part] = driver[index]
		}
	}
	found["nvidia.com/cuda.driver-version.full"] = state.values["driver_version"]
	var cuda int
	if _, err := fmt.Sscan(state.values["cuda_version"], &cuda); err == nil {
		major, minor := cuda/1000, cuda%1000/10
		found["nvidia.com/cuda.runtime-version.major"] = fmt.Sprint(major)
		found["nvidia.com/cuda.runtime-version.minor"] = fmt.Sprint(minor)
		found["nvidia.com/cuda.runtime-version.full"] = fmt.Sprintf("%d.%d", major, minor)
	}
	found["nvidia.com/gpu.count"] = fmt.Sprint(len(gpus))
	found["nvidia.com/gpu.product"] = strings.ReplaceAll(first.Text("name"), " ", "-")
	found["nvidia.com/gpu.memory"] = first.Text("memory_mib")
	found["nvidia.com/gpu.family"] = "ampere"
	found["nvidia.com/gpu.compute.major"] = "8"
	found["nvidia.com/gpu.compute.minor"] = "0"
	found["nvidia.com/gpu.replicas"] = "1"
	found["nvidia.com/gpu.sharing-strategy"] = "none"
	found["nvidia.com/mig.capable"] = "true"
	found["nvidia.com/mig.strategy"] = "single"
	return found
}

// Names of all labels that feature discovery owns: those that do not hold any more are removed.
func ownedLabel(name string) bool {
	for _, prefix := range []string{"nvidia.com/cuda.", "nvidia.com/gpu.compute.", "nvidia.com/mig."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch strings.TrimPrefix(name, "nvidia.com/gpu.") {
	case "count", "product", "memory", "family", "replicas", "sharing-strategy":
		return true
	}
	return false
}

// Differences turns labels as they are into a patch; nil is a label to remove.
func differences(present, wanted map[string]string, owned func(string) bool) map[string]any {
	changes := map[string]any{}
	for name, value := range wanted {
		if present[name] != value {
			changes[name] = value
		}
	}
	for name := range present {
		if _, kept := wanted[name]; owned(name) && !kept {
			changes[name] = nil
		}
	}
	return changes
}

func patchLabels(ctx context.Context, client kubernetes.Interface, node string, wanted map[string]string,
	owned func(string) bool) error {
	present, err := client.CoreV1().Nodes().Get(ctx, node, meta.GetOptions{})
	if err != nil {
		return err
	}
	changes := differences(present.Labels, wanted, owned)
	if len(changes) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": changes}})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, meta.PatchOptions{})
	return err
}

// Calls again and again; what goes wrong is told, and tried again the next time.
func every(ctx context.Context, interval time.Duration, name string, act func() error) error {
	for {
		if err := act(); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

func (p *place) client() (kubernetes.Interface, error) {
	if p.node == "" {
		return nil, errors.New("expected -node or NODE_NAME")
	}
	config, err := p.config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func runFeatureDiscovery(ctx context.Context, arguments []string) error {
	where := place{}
	set := where.options("feature-discovery")
	path := set.String("state", stateFile, "the mock NVML's state")
	_ = set.Parse(arguments)
	client, err := where.client()
	if err != nil {
		return err
	}
	return every(ctx, discoveryInterval, "feature-discovery", func() error {
		wanted := map[string]string{}
		if state, err := ReadState(*path); err == nil {
			wanted = Labels(state)
		}
		return patchLabels(ctx, client, where.node, wanted, ownedLabel)
	})
}

// Stands in for node feature discovery: says of a node that it has NVIDIA's devices on its PCI bus.
func runPciDiscovery(ctx context.Context, arguments []string) error {
	where := place{}
	set := where.options("pci-discovery")
	devices := set.String("devices", "/host-sys/bus/pci/devices", "the host's PCI devices in sysfs")
	_ = set.Parse(arguments)
	client, err := where.client()
	if err != nil {
		return err
	}
	return every(ctx, discoveryInterval, "pci-discovery", func() error {
		wanted := map[string]string{}
		if hasNvidia(*devices) {
			wanted[pciLabel] = "true"
		}
		return patchLabels(ctx, client, where.node, wanted, func(name string) bool { return name == pciLabel })
	})
}

func hasNvidia(devices string) bool {
	vendors, _ := filepath.Glob(filepath.Join(devices, "*", "vendor"))
	for _, path := range vendors {
		if vendor, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(vendor)) == nvidiaVendor {
			return true
		}
	}
	return false
}
