package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource     = "nvidia.com/gpu"
	pluginSocket = "nvidia-gpu.sock"
	pollInterval = time.Second
	dialTimeout  = 10 * time.Second
)

// What a container with GPUs gets of the host, read-only: the driver's library and nvidia-smi, and below driverRoot the
// Python that runs it, so that nothing of the image's own is hidden. NVML reads the state that is mounted with it.
const driverRoot = "/run/nvidia/driver"

var driverMounts = []*plugin.Mount{
	{HostPath: "/usr", ContainerPath: driverRoot + "/usr", ReadOnly: true},
	{HostPath: "/var/lib/lab-gpu", ContainerPath: "/var/lib/lab-gpu", ReadOnly: true},
	{HostPath: "/usr/lib/lab-gpu/nvidia-smi-in-container", ContainerPath: "/usr/bin/nvidia-smi", ReadOnly: true},
	{HostPath: "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
		ContainerPath: "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", ReadOnly: true},
}

// DevicePlugin hands out the GPUs of one host.
type DevicePlugin struct {
	plugin.UnimplementedDevicePluginServer
	statePath string
	seen      map[string]*plugin.Device
}

// Devices as they are now. A GPU that was there once and is not any more stays in the list, unhealthy: pods that hold
// it still do.
func (p *DevicePlugin) Devices() []*plugin.Device {
	healthy := map[string]bool{}
	if state, err := ReadState(p.statePath); err == nil {
		for _, gpu := range state.GPUs() {
			uuid := gpu.Text("uuid")
			healthy[uuid] = !gpu.Lost()
			if _, known := p.seen[uuid]; !known {
				p.seen[uuid] = &plugin.Device{ID: uuid, Topology: numaTopology(gpu)}
			}
		}
	}
	devices := make([]*plugin.Device, 0, len(p.seen))
	for _, uuid := range slices.Sorted(maps.Keys(p.seen)) {
		health := plugin.Unhealthy
		if healthy[uuid] {
			health = plugin.Healthy
		}
		devices = append(devices, &plugin.Device{ID: uuid, Health: health, Topology: p.seen[uuid].Topology})
	}
	return devices
}

func numaTopology(gpu GPU) *plugin.TopologyInfo {
	node, err := strconv.ParseInt(gpu.Text("numa_node"), 10, 64)
	if err != nil {
		return nil
	}
	return &plugin.TopologyInfo{Nodes: []*plugin.NUMANode{{ID: node}}}
}

func (p *DevicePlugin) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return &plugin.DevicePluginOptions{}, nil
}

// ListAndWatch sends the devices, and again whenever one changes.
func (p *DevicePlugin) ListAndWatch(_ *plugin.Empty, stream plugin.DevicePlugin_ListAndWatchServer) error {
	sent, ticker := "", time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		devices := p.Devices()
		if text := fmt.Sprint(devices); text != sent {
			if err := stream.Send(&plugin.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
			sent = text
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p *DevicePlugin) Allocate(_ context.Context, request *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	response := &plugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &plugin.ContainerAllocateResponse{
			Envs:   map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
			Mounts: driverMounts,
		})
	}
	return response, nil
}

func runDevicePlugin(ctx context.Context, arguments []string) error {
	where := place{}
	set := where.options("device-plugin")
	folder := set.String("sockets", plugin.DevicePluginPath, "where the kubelet's socket is")
	state := set.String("state", stateFile, "the mock NVML's state")
	_ = set.Parse(arguments)
	for ctx.Err() == nil {
		server := &DevicePlugin{statePath: *state, seen: map[string]*plugin.Device{}}
		if err := serveDevices(ctx, *folder, server); err != nil {
			fmt.Fprintln(os.Stderr, "device-plugin:", err)
			select {
			case <-ctx.Done():
			case <-time.After(pollInterval):
			}
		}
	}
	return nil
}

// Serves and registers; returns when the kubelet was restarted, which is when its socket is another file.
func serveDevices(ctx context.Context, folder string, devices *DevicePlugin) error {
	socket, kubelet := filepath.Join(folder, pluginSocket), filepath.Join(folder, "kubelet.sock")
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	plugin.RegisterDevicePluginServer(server, devices)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	before, err := os.Stat(kubelet)
	if err != nil {
		return err
	}
	if err := register(ctx, kubelet); err != nil {
		return err
	}
	fmt.Printf("registered %s with the kubelet: %d GPUs\n", resource, len(devices.Devices()))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
		// a new socket may well have the old one's inode
		if now, err := os.Stat(kubelet); err != nil || !os.SameFile(before, now) || now.ModTime() != before.ModTime() {
			return nil
		}
	}
	return nil
}

func register(ctx context.Context, kubelet string) error {
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	_, err = plugin.NewRegistrationClient(connection).Register(ctx, &plugin.RegisterRequest{
		Version: plugin.Version, Endpoint: pluginSocket, ResourceName: resource, Options: &plugin.DevicePluginOptions{},
	})
	return err
}
