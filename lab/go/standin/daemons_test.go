package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const healthy = `count = 2
driver_version = 535.183.06
cuda_version = 12020
# a comment = no key
gpu0.uuid = GPU-a
gpu0.name = NVIDIA A100-PCIE-40GB
gpu0.memory_mib = 40960
gpu0.temperature_c = 31
gpu0.numa_node = 0
gpu0.processes =
gpu1.uuid = GPU-b
gpu1.temperature_c = 33
gpu1.numa_node = 1
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func health(devices []*plugin.Device) string {
	var words []string
	for _, device := range devices {
		words = append(words, device.ID+" "+device.Health)
	}
	return strings.Join(words, ", ")
}

func TestDevicesFollowTheState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.ini")
	devices := &DevicePlugin{statePath: path, seen: map[string]*plugin.Device{}}
	for _, each := range []struct{ name, text, want string }{
		{"no driver yet", "", ""},
		{"healthy", healthy, "GPU-a Healthy, GPU-b Healthy"},
		{"one fell off the bus", healthy + "count = 1\n", "GPU-a Healthy, GPU-b Unhealthy"},
		{"one is lost", healthy + "gpu0.error.nvmlDeviceGetHandleByIndex_v2 = 15\n", "GPU-a Unhealthy, GPU-b Healthy"},
		{"NVML does not start", healthy + "error.nvmlInitWithFlags = 9\n", "GPU-a Unhealthy, GPU-b Unhealthy"},
		{"the same UUID twice", healthy + "gpu1.uuid = GPU-a\n", "GPU-a Healthy, GPU-b Unhealthy"},
		{"no driver any more", "", "GPU-a Unhealthy, GPU-b Unhealthy"},
	} {
		if each.text == "" {
			_ = os.Remove(path)
		} else {
			write(t, path, each.text)
		}
		if got := health(devices.Devices()); got != each.want {
			t.Errorf("%s: %q, expected %q", each.name, got, each.want)
		}
	}
	if node := devices.Devices()[1].Topology.Nodes[0].ID; node != 1 {
		t.Errorf("NUMA node %d, expected 1", node)
	}
}

func TestAllocationNamesTheDevices(t *testing.T) {
	devices := &DevicePlugin{}
	response, err := devices.Allocate(context.Background(), &plugin.AllocateRequest{
		ContainerRequests: []*plugin.ContainerAllocateRequest{{DevicesIds: []string{"GPU-b", "GPU-a"}}}})
	if err != nil || len(response.ContainerResponses) != 1 {
		t.Fatal(response, err)
	}
	container := response.ContainerResponses[0]
	if got := container.Envs["NVIDIA_VISIBLE_DEVICES"]; got != "GPU-b,GPU-a" {
		t.Errorf("visible devices %q", got)
	}
	for _, mount := range container.Mounts {
		if !mount.ReadOnly {
			t.Errorf("%s could be written to", mount.HostPath)
		}
	}
}

func TestLabels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.ini")
	write(t, path, healthy)
	state, err := ReadState(path)
	if err != nil {
		t.Fatal(err)
	}
	found := Labels(state)
	for name, want := range map[string]string{
		"nvidia.com/gpu.count": "2", "nvidia.com/gpu.product": "NVIDIA-A100-PCIE-40GB",
		"nvidia.com/gpu.memory": "40960", "nvidia.com/cuda.driver-version.full": "535.183.06",
		"nvidia.com/cuda.driver-version.revision": "06", "nvidia.com/cuda.runtime-version.full": "12.2",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, expected %q", name, found[name], want)
		}
	}
	for name := range found {
		if !ownedLabel(name) {
			t.Errorf("%s would stay when it does not hold any more", name)
		}
	}
	changes := differences(map[string]string{"nvidia.com/gpu.count": "4", "nvidia.com/gpu.family": "x", "zone": "y"},
		map[string]string{"nvidia.com/gpu.count": "3"}, ownedLabel)
	if !maps.Equal(changes, map[string]any{"nvidia.com/gpu.count": "3", "nvidia.com/gpu.family": nil}) {
		t.Errorf("changes %v", changes)
	}
}

func daemonSet(name string, desired, ready int32) apps.DaemonSet {
	return apps.DaemonSet{ObjectMeta: meta.ObjectMeta{Name: name, Generation: 2}, Status: apps.DaemonSetStatus{
		ObservedGeneration: 2, DesiredNumberScheduled: desired, UpdatedNumberScheduled: desired, NumberReady: ready}}
}

func TestPolicyIsReadyWhenItsDaemonsAre(t *testing.T) {
	var sets []apps.DaemonSet
	for _, name := range daemons {
		sets = append(sets, daemonSet(name, 8, 8))
	}
	if unready := Unready(sets); len(unready) != 0 {
		t.Errorf("all are ready, but %v", unready)
	}
	if status := policyStatus("gpu-operator", nil, time.Unix(0, 0)); status["state"] != "ready" {
		t.Errorf("status %v", status)
	}
	sets[1].Status.NumberReady = 7
	sets[3].Status.ObservedGeneration = 1
	unready := strings.Join(Unready(sets[:4]), " ")
	if unready != "nvidia-container-toolkit-daemonset nvidia-device-plugin-daemonset nvidia-operator-validator" {
		t.Errorf("unready %q", unready)
	}
	if status := policyStatus("gpu-operator", Unready(sets), time.Unix(0, 0)); status["state"] != "notReady" {
		t.Errorf("status %v", status)
	}
}

func TestMetrics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.ini")
	write(t, path, healthy)
	state, _ := ReadState(path)
	text := Metrics(state, "gpu-node-03")
	want := `DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b",pci_bus_id="",device="nvidia1",modelName="",` +
		`Hostname="gpu-node-03",DCGM_FI_DRIVER_VERSION="535.183.06"} 33`
	if !strings.Contains(text, want+"\n") {
		t.Errorf("no line %s in\n%s", want, text)
	}
}

func node(name, podCIDR, address string) *core.Node {
	return &core.Node{ObjectMeta: meta.ObjectMeta{Name: name}, Spec: core.NodeSpec{PodCIDR: podCIDR},
		Status: core.NodeStatus{Addresses: []core.NodeAddress{{Type: core.NodeInternalIP, Address: address}}}}
}

func TestRoutes(t *testing.T) {
	wanted := Routes("a", []*core.Node{node("a", "10.244.0.0/24", "10.100.0.1"), node("c", "", "10.100.0.3"),
		node("d", "10.244.3.0/24", "10.100.0.4"), node("b", "10.244.1.0/24", "10.100.0.2")})
	present := "10.244.1.0/24 via 10.100.0.9 dev ens3f0np0\n10.244.9.0/24 via 10.100.0.8 dev ens3f0np0\n"
	want := "route del 10.244.9.0/24 proto 98\nroute replace 10.244.1.0/24 via 10.100.0.2 proto 98\n" +
		"route replace 10.244.3.0/24 via 10.100.0.4 proto 98\n"
	if got := RouteCommands(present, wanted); got != want {
		t.Errorf("commands:\n%s", got)
	}
}
